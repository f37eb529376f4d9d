//! Namespace groups: which services share something, and who owns each namespace.

use std::collections::{BTreeMap, BTreeSet};

use super::{Shared, Source, Sources};
use crate::model::{ContainerElsewhere, NamespaceMode, Project, Service, ServiceName};

/// Who owns what, for every service of a project.
pub(super) struct Groups {
    sources: BTreeMap<ServiceName, Sources>,
    leaders: BTreeMap<ServiceName, ServiceName>,
}

impl Groups {
    /// Follows every `service:x` to the service that has the namespace itself, and puts services that share anything into
    /// one group: they need one user namespace, since it is the owner of the others (user_namespaces(7)). The first of
    /// a group by name stands for it.
    ///
    /// `elsewhere` are the containers of other stacks that are known. Whoever has a namespace of one of them is its owner
    /// in this stack.
    pub(super) fn of(project: &Project, elsewhere: &BTreeMap<String, ContainerElsewhere>) -> Self {
        let mut leader: BTreeMap<&ServiceName, &ServiceName> =
            project.services.keys().map(|name| (name, name)).collect();
        for (name, service) in &project.services {
            for (_, mode) in service.sharing() {
                let Some(other) = mode.service() else { continue };
                let (a, b) = (find(&leader, name), find(&leader, other));
                let (first, second) = if a < b { (a, b) } else { (b, a) };
                leader.insert(second, first);
            }
        }
        let leaders: BTreeMap<ServiceName, ServiceName> =
            project.services.keys().map(|name| (name.clone(), find(&leader, name).clone())).collect();
        let of_host: BTreeSet<&ServiceName> = project
            .services
            .iter()
            .filter(|(_, service)| service.userns_mode == NamespaceMode::Host)
            .map(|(name, _)| &leaders[name])
            .collect();
        let owner = |start, kind| owner(project, elsewhere, start, kind);
        let pid_shared: BTreeSet<&ServiceName> =
            project.services.values().filter_map(|service| owner(service.pid.service()?, Shared::Pid)).collect();
        let sources = project.services.iter().map(|(name, service)| {
            let source = |kind| owner(name, kind).map_or(Source::Host, |owner| Source::Of(owner.clone()));
            let leader = &leaders[name];
            let pid = match owner(name, Shared::Pid) {
                None => Source::Host,
                Some(owner) if pid_shared.contains(owner) || project.services[owner].pid.container().is_some() => {
                    Source::Of(owner.clone())
                }
                Some(_) => Source::New,
            };
            let sources = Sources {
                user: if of_host.contains(leader) { Source::Host } else { Source::Of(leader.clone()) },
                net: source(Shared::Net),
                ipc: source(Shared::Ipc),
                uts: source(Shared::Uts),
                pid,
                cgroup: if service.cgroup == NamespaceMode::Host { Source::Host } else { Source::New },
            };
            (name.clone(), sources)
        });
        let sources = sources.collect();
        Self { sources, leaders }
    }

    pub(super) fn sources(&self, service: &ServiceName) -> &Sources {
        &self.sources[service]
    }

    /// Who stands for the group of a service.
    pub(super) fn leader(&self, service: &ServiceName) -> &ServiceName {
        &self.leaders[service]
    }

    /// All services of a group.
    pub(super) fn members<'a>(&'a self, leader: &'a ServiceName) -> impl Iterator<Item = &'a ServiceName> {
        self.leaders.iter().filter(move |(_, of)| *of == leader).map(|(name, _)| name)
    }
}

/// What a service says of one of the namespaces that can be shared.
pub(super) fn mode(service: &Service, kind: Shared) -> &NamespaceMode {
    match kind {
        Shared::Net => &service.network_mode,
        Shared::Ipc => &service.ipc,
        Shared::Uts => &service.uts,
        Shared::Pid => &service.pid,
    }
}

/// The namespace of a container of another stack; none when it is the host's.
pub(super) fn inode(container: &ContainerElsewhere, kind: Shared) -> Option<u64> {
    match kind {
        Shared::Net => container.net,
        Shared::Ipc => container.ipc,
        Shared::Uts => container.uts,
        Shared::Pid => container.pids,
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
    elsewhere: &BTreeMap<String, ContainerElsewhere>,
    start: &'a ServiceName,
    kind: Shared,
) -> Option<&'a ServiceName> {
    let mut name = start;
    loop {
        match mode(&project.services[name], kind) {
            NamespaceMode::Service(next) => name = next,
            NamespaceMode::Host => return None,
            NamespaceMode::Private | NamespaceMode::None => return Some(name),
            NamespaceMode::Container(other) => {
                let of_host = elsewhere.get(other.as_str()).is_some_and(|other| inode(other, kind).is_none());
                return if of_host { None } else { Some(name) };
            }
        }
    }
}
