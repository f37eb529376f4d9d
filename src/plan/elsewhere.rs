//! Namespaces of containers of other stacks: `container:NAME`.

use std::collections::BTreeMap;

use super::{
    Foreign, Shared, Source,
    group::{Groups, inode, mode},
};
use crate::model::{ContainerElsewhere, Ids, Observed, Project, ServiceName};

const KINDS: [Shared; 4] = [Shared::Net, Shared::Ipc, Shared::Uts, Shared::Pid];

/// Why a namespace of a container of another stack cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotShared {
    /// Nobody is called that, or it does not run.
    #[error("service `{service}` shares the {key} of container `{container}`, which does not run")]
    NotRunning {
        /// The service.
        service: ServiceName,
        /// The key that says so.
        key: &'static str,
        /// The name that it has.
        container: String,
    },
    /// An ordinary user's stacks have user namespaces beside each other.
    #[error(
        "service `{service}` shares the {key} of container `{container}` of another stack, which the kernel lets only root do"
    )]
    OrdinaryUser {
        /// The service.
        service: ServiceName,
        /// The key that says so.
        key: &'static str,
        /// The container.
        container: String,
    },
    /// Its file says `ipc: private`.
    #[error("service `{service}` shares the ipc of container `{container}`, whose file says that nobody does")]
    Private {
        /// The service.
        service: ServiceName,
        /// The container.
        container: String,
    },
    /// Containers whose user namespaces differ.
    #[error("service `{service}` shares namespaces of containers `{first}` and `{second}`, which have different users")]
    Users {
        /// The service, or the first of those that share something with each other.
        service: ServiceName,
        /// A container.
        first: String,
        /// Another.
        second: String,
    },
    /// Only one of the two has the host's users.
    #[error(
        "service `{service}` shares a namespace of container `{container}`, and only {} has the users of the host",
        if *container_has { "that" } else { "the service" }
    )]
    HostUsers {
        /// The service.
        service: ServiceName,
        /// The container.
        container: String,
        /// It is the container that has them.
        container_has: bool,
    },
}

impl NotShared {
    /// How to mend it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotRunning { .. } => "bring its stack up first; `nscompose ps` shows the names of its containers",
            Self::OrdinaryUser { .. } => {
                "put both services into one stack, with `include:` if they are in different files, and say `service:NAME`"
            }
            Self::Private { .. } => "say `ipc: shareable` in its file",
            // The user namespace is what a container's rights over all others come from (user_namespaces(7)).
            Self::Users { .. } => {
                "share namespaces of one container only, or of containers that share some with each other"
            }
            Self::HostUsers { container_has: true, .. } => "say `userns_mode: host` at the service too",
            Self::HostUsers { container_has: false, .. } => "say `userns_mode: host` in its file too",
        }
    }
}

/// Looks at all that the groups of the wanted services have from elsewhere.
pub(super) fn check(
    project: &Project,
    observed: &Observed,
    groups: &Groups,
    wanted: &[&ServiceName],
) -> Result<(), NotShared> {
    for leader in wanted.iter().map(|name| groups.leader(name)) {
        let mut first: Option<(&str, &ContainerElsewhere)> = None;
        for service in groups.members(leader) {
            let lowered = &project.services[service];
            for (key, mode) in lowered.sharing() {
                let Some(name) = mode.container() else { continue };
                let container = name.to_string();
                let service = service.clone();
                if observed.host.ids != Ids::Root {
                    return Err(NotShared::OrdinaryUser { service, key, container });
                }
                let Some(other) = observed.host.containers.get(name.as_str()) else {
                    return Err(NotShared::NotRunning { service, key, container });
                };
                if key == "ipc" && other.private_ipc {
                    return Err(NotShared::Private { service, container });
                }
                let has_host = groups.sources(&service).user == Source::Host;
                if other.host_users != has_host {
                    return Err(NotShared::HostUsers { service, container, container_has: other.host_users });
                }
                match first {
                    Some((first, known)) if known.user != other.user => {
                        return Err(NotShared::Users {
                            service: leader.clone(),
                            first: first.to_owned(),
                            second: container,
                        });
                    }
                    _ => first = Some((name.as_str(), other)),
                }
            }
        }
    }
    Ok(())
}

/// The container whose users the group that `leader` stands for has, if it is one of another stack.
pub(super) fn users<'a>(
    project: &'a Project,
    observed: &'a Observed,
    groups: &'a Groups,
    leader: &'a ServiceName,
) -> Option<&'a ContainerElsewhere> {
    named(project, groups, leader).find_map(|name| observed.host.containers.get(name)).filter(|other| !other.host_users)
}

/// Its user namespace.
pub(super) fn user_namespace(
    project: &Project,
    observed: &Observed,
    groups: &Groups,
    leader: &ServiceName,
) -> Option<Foreign> {
    let name = named(project, groups, leader).find(|name| observed.host.containers.contains_key(*name))?;
    let other = users(project, observed, groups, leader)?;
    Some(foreign(name, other, other.user))
}

/// What a service has from elsewhere; what is the host's is not.
pub(super) fn namespaces(project: &Project, observed: &Observed, service: &ServiceName) -> BTreeMap<Shared, Foreign> {
    let lowered = &project.services[service];
    let all = KINDS.into_iter().filter_map(|kind| {
        let name = mode(lowered, kind).container()?.as_str();
        let other = observed.host.containers.get(name)?;
        Some((kind, foreign(name, other, inode(other, kind)?)))
    });
    all.collect()
}

/// Containers of other stacks that a group names.
fn named<'a>(
    project: &'a Project,
    groups: &'a Groups,
    leader: &'a ServiceName,
) -> impl Iterator<Item = &'a str> + use<'a> {
    groups.members(leader).flat_map(|service| {
        let modes = project.services[service].sharing();
        modes.into_iter().filter_map(|(_, mode)| mode.container()).map(|name| name.as_str())
    })
}

fn foreign(name: &str, other: &ContainerElsewhere, inode: u64) -> Foreign {
    let process = (other.pid, other.started);
    Foreign { container: name.to_owned(), project: other.project.clone(), process, inode }
}
