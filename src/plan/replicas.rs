//! Services become containers: each of their replicas is one more service to the planner.

use std::collections::{BTreeMap, BTreeSet};

use super::{Cause, Intent, PlanError};
use crate::model::{Dependency, Observed, Project, Service, ServiceName};

/// The project with each replica of its services; once expanded, it stays the same.
///
/// The first replica is called as the service, the others `web/2` and so on, and are alike. Who depends on a service depends on all of its
/// replicas. Whose namespaces, or volumes, somebody has (`network_mode: service:web`) is the first, as in Docker Compose. A
/// service with no replicas is not there, and nor is who would have a namespace or volumes of it, which `load` has refused for
/// those that are to be run.
#[must_use]
pub fn expand(mut project: Project) -> Project {
    let number = |project: &Project, name: &ServiceName| project.replicas.get(name).copied().unwrap_or(1);
    let none: BTreeSet<ServiceName> =
        project.services.keys().filter(|name| number(&project, name) == 0).cloned().collect();
    let mut gone = none;
    while !gone.is_empty() {
        project.services.retain(|name, _| !gone.contains(name));
        for service in project.services.values_mut() {
            service.depends_on.retain(|needed| !gone.contains(&needed.service));
        }
        let lost = project.services.iter().filter(|(_, service)| owners(service).any(|owner| gone.contains(owner)));
        gone = lost.map(|(name, _)| name.clone()).collect();
    }
    let services = std::mem::take(&mut project.services);
    for (name, mut service) in services {
        let needed = service.depends_on.iter().flat_map(|needed| {
            let first = &needed.service;
            let all = if first.number() == 1 { number(&project, first) } else { 1 };
            let names = std::iter::once(first.clone()).chain((2..=all).map(|n| first.replica(n)));
            names.map(|service| Dependency { service, ..needed.clone() })
        });
        let mut seen = BTreeSet::new();
        service.depends_on = needed.filter(|needed| seen.insert(needed.service.clone())).collect();
        let all = if name.number() == 1 { number(&project, &name) } else { 1 };
        for replica in (2..=all).map(|n| name.replica(n)) {
            project.services.insert(replica, service.clone());
        }
        project.services.insert(name, service);
    }
    project
}

/// Those whose namespaces or volumes a service has.
pub(super) fn owners(service: &Service) -> impl Iterator<Item = &ServiceName> {
    let shared = service.sharing().into_iter().filter_map(|(_, mode)| mode.service());
    shared.chain(service.files.volumes_from.iter().map(|from| &from.service))
}

/// What there is of containers that are more than the file asks for, each with the reason why it goes. Only services that are
/// brought up count. Those that the file does not have at all stay: another file of the stack may have them.
pub(super) fn surplus<'a>(
    project: &Project,
    observed: &'a Observed,
    intent: &Intent,
    wanted: &[&ServiceName],
) -> BTreeMap<&'a ServiceName, Cause> {
    let none = project.replicas.iter().filter(|(name, number)| **number == 0 && intent.asks_for(name));
    let brought_up: BTreeSet<&str> =
        none.map(|(name, _)| name.service()).chain(wanted.iter().map(|name| name.service())).collect();
    let mut before: BTreeMap<&str, u32> = BTreeMap::new();
    for name in observed.containers.keys().filter(|name| name.hook().is_none()) {
        *before.entry(name.service()).or_default() += 1;
    }
    let there = observed.containers.keys().chain(observed.namespaces.keys());
    let there = there.filter(|name| name.hook().is_none());
    let more = there.filter(|name| !project.services.contains_key(*name) && brought_up.contains(name.service()));
    more.map(|name| {
        let before = before.get(name.service()).copied().unwrap_or_default();
        let after = project.replicas.get(&name.replica(1)).copied().unwrap_or(1);
        (name, format!("services.{}.scale {before} → {after}", name.service()).into())
    })
    .collect()
}

/// A running container that would keep a namespace, or volumes, of one that goes: the next one of that service would have others.
/// `whole` is the project before it was expanded, which still has it.
pub(super) fn left_behind(
    whole: &Project,
    observed: &Observed,
    surplus: &BTreeMap<&ServiceName, Cause>,
) -> Option<PlanError> {
    let alive = observed.containers.iter().filter(|(_, container)| container.state.is_up()).map(|(name, _)| name);
    let stay = alive.filter(|name| !surplus.contains_key(name));
    let mut left = stay.filter_map(|name| {
        let mut owners = owners(whole.services.get(&name.replica(1))?);
        let owner = owners.find(|owner| surplus.contains_key(owner))?;
        Some(PlanError::OwnerGoes { service: name.clone(), owner: owner.clone() })
    });
    left.next()
}
