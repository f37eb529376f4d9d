//! Namespace groups: which services share something, and who owns each namespace.

use std::collections::{BTreeMap, BTreeSet};

use super::{Source, Sources};
use crate::model::{NamespaceMode, Project, Service, ServiceName};

/// Who owns what, for every service of a project.
pub(super) struct Groups {
    sources: BTreeMap<ServiceName, Sources>,
}

impl Groups {
    /// Follows every `service:x` to the service that has the namespace itself, and puts services that share anything into
    /// one group: they need one user namespace, since it is the owner of the others (user_namespaces(7)). The first of
    /// a group by name stands for it.
    pub(super) fn of(project: &Project) -> Self {
        let mut leader: BTreeMap<&ServiceName, &ServiceName> =
            project.services.keys().map(|name| (name, name)).collect();
        for (name, service) in &project.services {
            for mode in [&service.network_mode, &service.ipc, &service.pid, &service.uts] {
                let Some(other) = mode.service() else { continue };
                let (a, b) = (find(&leader, name), find(&leader, other));
                let (first, second) = if a < b { (a, b) } else { (b, a) };
                leader.insert(second, first);
            }
        }
        let pid_shared: BTreeSet<&ServiceName> = project
            .services
            .values()
            .filter_map(|service| owner(project, service.pid.service()?, |s| &s.pid))
            .collect();
        let sources = project.services.keys().map(|name| {
            let source = |mode: fn(&Service) -> &NamespaceMode| match owner(project, name, mode) {
                None => Source::Host,
                Some(owner) => Source::Of(owner.clone()),
            };
            let pid = match owner(project, name, |s| &s.pid) {
                None => Source::Host,
                Some(owner) if pid_shared.contains(owner) => Source::Of(owner.clone()),
                Some(_) => Source::New,
            };
            let sources = Sources {
                user: find(&leader, name).clone(),
                net: source(|s| &s.network_mode),
                ipc: source(|s| &s.ipc),
                uts: source(|s| &s.uts),
                pid,
            };
            (name.clone(), sources)
        });
        let sources = sources.collect();
        Self { sources }
    }

    pub(super) fn sources(&self, service: &ServiceName) -> &Sources {
        &self.sources[service]
    }
}

/// Who stands for the group of `name`.
fn find<'a>(leader: &BTreeMap<&'a ServiceName, &'a ServiceName>, name: &'a ServiceName) -> &'a ServiceName {
    let mut name = name;
    while leader[name] != name {
        name = leader[name];
    }
    name
}

/// The service at the end of a chain of `service:x`, or none when the chain ends at the host.
///
/// `load` has refused cycles, so the chain ends.
fn owner<'a>(
    project: &'a Project,
    start: &'a ServiceName,
    mode: fn(&Service) -> &NamespaceMode,
) -> Option<&'a ServiceName> {
    let mut name = start;
    loop {
        match mode(&project.services[name]) {
            NamespaceMode::Service(next) => name = next,
            NamespaceMode::Host => return None,
            NamespaceMode::Private | NamespaceMode::None => return Some(name),
        }
    }
}
