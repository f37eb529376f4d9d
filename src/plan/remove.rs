//! Removing single containers, and with them what nobody else needs.

use std::collections::BTreeSet;

use super::{
    Operation, Plan, StepId,
    down::{Manner, stop_and_remove},
};
use crate::model::{Observed, ServiceName};

/// The plan that removes the containers of these services, and stops those of them that run. Anonymous volumes are kept for the next
/// containers of the services unless `volumes` says otherwise. `grace_ms` is how many milliseconds each may take to stop instead of what
/// its file says.
pub fn remove(observed: &Observed, services: &BTreeSet<ServiceName>, volumes: bool, grace_ms: Option<u64>) -> Plan {
    let mut plan = Plan::default();
    let goes = |name: &&ServiceName| services.contains(*name) || services.contains(&name.replica(name.number()));
    let there: BTreeSet<&ServiceName> = observed.containers.keys().filter(goes).collect();
    let keep_volumes = if volumes { BTreeSet::new() } else { services.clone() };
    let cause = "its removal was asked for";
    let manner = Manner { grace_ms, keep_volumes };
    let removed = stop_and_remove(&mut plan, observed, &there, &manner, |_| cause.into());
    let removed: Vec<StepId> = removed.into_values().collect();
    for service in unneeded(observed, &there) {
        plan.add(Operation::RemoveNamespaces(service.clone()), cause, removed.iter().copied());
    }
    plan
}

/// Those of these services whose namespaces go with their containers: nobody who stays is connected with them, directly or through
/// others. Who shares something is among what depends on each other, and the user namespace of a group is one for all of it.
pub(super) fn unneeded<'a>(observed: &'a Observed, gone: &BTreeSet<&'a ServiceName>) -> Vec<&'a ServiceName> {
    let mut needed: BTreeSet<&ServiceName> = observed.containers.keys().filter(|name| !gone.contains(*name)).collect();
    loop {
        let connected = observed.containers.iter().filter(|(name, container)| {
            let dependencies = &container.dependencies;
            let needs = dependencies.iter().any(|other| needed.contains(other));
            let is_needed = needed.iter().any(|other| {
                observed.containers.get(*other).is_some_and(|container| container.dependencies.contains(*name))
            });
            !needed.contains(*name) && (needs || is_needed)
        });
        let connected: Vec<&ServiceName> = connected.map(|(name, _)| name).collect();
        if connected.is_empty() {
            break;
        }
        needed.extend(connected);
    }
    let all = gone.iter().copied().filter(|name| observed.namespaces.contains_key(*name));
    all.filter(|name| !needed.contains(name)).collect()
}
