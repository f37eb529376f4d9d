//! Bringing a stack up: only what differs is touched, and each step says why.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{
    Bridge, Cable, ContainerSpec, FileSystem, IdMap, Link, NamespaceSet, Operation, Plan, Shared, Source, StepId,
    UserNamespace,
    address::{self, Addresses, NoAddress},
    down::stop_and_remove,
    elsewhere::{self, NotShared},
    group::Groups,
    hosts,
    ids::IdRanges,
    limits::{self, Unmet},
};
use crate::model::{
    ContainerState, Grant, GrantSource, Invoker, Mount, MountSource, NamespaceMode, NetworkName, Observed, Privileges,
    Project, Resource, Rootfs, ServiceName, UserSpec, VolumeMount, VolumeName, limit_text,
};

/// What is asked for beyond the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Intent {
    /// The services to bring up, with all they depend on; empty means all.
    pub services: BTreeSet<ServiceName>,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A service was asked for that the file does not have.
    #[error("there is no service `{0}` in the file")]
    UnknownService(ServiceName),
    /// Every private subnet overlaps a route of the host.
    #[error("no subnet is left for network `{0}`: every private range overlaps a route of this host")]
    NoSubnet(NetworkName),
    /// More services than addresses.
    #[error("the subnet of network `{0}` has no address left")]
    NoAddress(NetworkName),
    /// A service wants more of something than this account may give.
    #[error(
        "service `{service}` wants a hard limit of {} for `{resource}`, and {most} is the most that can be had here",
        limit_text(*.wanted)
    )]
    HardLimit {
        /// The service.
        service: ServiceName,
        /// What is limited.
        resource: Resource,
        /// What its `ulimits:` says; none is no limit.
        wanted: Option<u64>,
        /// The hard limit of whoever brings it up.
        most: u64,
    },
    /// A service wants to be in a group that does not exist for this account.
    #[error(
        "service `{service}` wants to be in group `{group}`, but this account has a single id, and has group 0 only"
    )]
    SingleIdGroup {
        /// The service.
        service: ServiceName,
        /// What its `group_add:` says.
        group: String,
    },
    /// Limits that cannot be set here.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Limits(Vec<Unmet>),
    /// A running service that was not asked for would lose its namespaces.
    #[error("service `{service}` runs in a namespace of `{owner}`, which is made anew, and is not asked for")]
    LeftBehind {
        /// The service that runs.
        service: ServiceName,
        /// Whose namespace it is.
        owner: ServiceName,
    },
    /// Files are to belong to somebody who does not exist in the container.
    #[error("service `{service}` wants `{target}` to belong to {id}, an id that its container does not have")]
    MissingId {
        /// The service.
        service: ServiceName,
        /// The place of the files in the container.
        target: String,
        /// The user or group.
        id: u32,
    },
    /// A service wants to run as somebody who does not exist for this account.
    #[error(
        "service `{service}` wants to run as user `{user}`, but this account has a single id, and root of a container is it"
    )]
    SingleId {
        /// The service.
        service: ServiceName,
        /// What its `user:` says.
        user: String,
    },
    /// A namespace of a container of another stack that cannot be had.
    #[error(transparent)]
    Elsewhere(#[from] NotShared),
    /// A service is to have a profile that nobody would enforce.
    #[error(
        "service `{service}` asks for the AppArmor profile `{profile}`, but the kernel of this host has no AppArmor"
    )]
    NoAppArmor {
        /// The service.
        service: ServiceName,
        /// The profile.
        profile: String,
    },
    /// A service is to have a label that would mean nothing.
    #[error("service `{service}` asks for an SELinux label, but the kernel of this host has no SELinux")]
    NoSelinux {
        /// The service.
        service: ServiceName,
    },
}

impl PlanError {
    /// How to mend it, if it can be said in general.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::LeftBehind { .. } => Some("name both services, or none: then all are brought up"),
            Self::UnknownService(_)
            | Self::NoAddress(_)
            | Self::SingleId { .. }
            | Self::SingleIdGroup { .. }
            | Self::Limits(_) => None,
            Self::MissingId { .. } => Some(
                "leave out `uid` and `gid`, or name an id that it has: with a single id that is 0, or else as many as /etc/subuid and /etc/subgid give the account",
            ),
            Self::HardLimit { resource: Resource::Nofile, .. } => {
                Some("ask for less, or raise `fs.nr_open` or the hard limit of whoever runs nscompose: limits.conf(5)")
            }
            Self::HardLimit { .. } => Some(
                "ask for less, or raise the hard limit of whoever runs nscompose: limits.conf(5), or `ulimit -H` in a shell of root",
            ),
            Self::Elsewhere(error) => Some(error.hint()),
            Self::NoAppArmor { .. } => Some(
                "leave it out, or start the kernel with `lsm=` and `apparmor` in it; `apparmor=unconfined` works everywhere",
            ),
            Self::NoSelinux { .. } => Some("leave it out; `label=disable` works everywhere"),
            Self::NoSubnet(_) => Some("`ip route` shows the routes; a narrower one leaves room"),
        }
    }
}

impl From<NoAddress> for PlanError {
    fn from(error: NoAddress) -> Self {
        match error {
            NoAddress::Subnet(network) => Self::NoSubnet(network),
            NoAddress::Host(network) => Self::NoAddress(network),
        }
    }
}

/// Compares what is wanted with what there is.
///
/// # Errors
/// When the file asks for what cannot be had here; nothing has been touched then.
pub fn up(project: &Project, observed: &Observed, intent: &Intent) -> Result<Plan, PlanError> {
    Up::new(project, observed, intent)?.plan()
}

/// The profile of AppArmor that is none.
const UNCONFINED: &str = "unconfined";

struct Up<'a> {
    project: &'a Project,
    observed: &'a Observed,
    groups: Groups,
    addresses: Addresses,
    ids: BTreeMap<ServiceName, IdMap>,
    /// What is brought up, each after what it depends on.
    wanted: Vec<&'a ServiceName>,
}

impl<'a> Up<'a> {
    fn new(project: &'a Project, observed: &'a Observed, intent: &Intent) -> Result<Self, PlanError> {
        if let Some(unknown) = intent.services.iter().find(|name| !project.services.contains_key(name)) {
            return Err(PlanError::UnknownService(unknown.clone()));
        }
        let groups = Groups::of(project, &observed.host.containers);
        let wanted = in_order(project, &intent.services);
        elsewhere::check(project, observed, &groups, &wanted)?;
        let mut ranges = IdRanges::new(observed.host.ids, &project.name);
        let mut ids = BTreeMap::new();
        for name in project.services.keys().filter(|name| groups.leader(name) == *name) {
            let map = match (&groups.sources(name).user, elsewhere::users(project, observed, &groups, name)) {
                (Source::Host, _) => ranges.host(),
                (_, Some(other)) => IdMap { outside: other.ids.0, count: other.ids.1 },
                (_, None) => ranges.next(name),
            };
            ids.insert(name.clone(), map);
        }
        for name in &wanted {
            let service = &project.services[*name];
            let count = ids[groups.leader(name)].count;
            let invoker =
                as_invoker(observed, service.user.as_ref()).filter(|_| groups.sources(name).user != Source::Host);
            if let Some((target, id)) = missing_id(&service.mounts, count, invoker) {
                return Err(PlanError::MissingId { service: (*name).clone(), target, id });
            }
            if let (1, Some(user)) = (count, &service.user)
                && !matches!(user.user.as_str(), "0" | "root")
                && as_invoker(observed, Some(user)).is_none()
            {
                return Err(PlanError::SingleId { service: (*name).clone(), user: user.to_string() });
            }
            let privileges = &project.services[*name].privileges;
            if let Some(profile) = privileges.apparmor.as_ref().filter(|profile| *profile != UNCONFINED)
                && !observed.host.modules.apparmor
            {
                return Err(PlanError::NoAppArmor { service: (*name).clone(), profile: profile.clone() });
            }
            if !privileges.label.is_empty() && !observed.host.modules.selinux {
                return Err(PlanError::NoSelinux { service: (*name).clone() });
            }
        }
        for name in &wanted {
            let process = &project.services[*name].process;
            let single = ids[groups.leader(name)].count == 1;
            let nobodys = |group: &&String| single && *group != "root" && group.parse::<u32>() != Ok(0);
            if let Some(group) = process.groups.iter().find(nobodys) {
                return Err(PlanError::SingleIdGroup { service: (*name).clone(), group: group.clone() });
            }
            for (resource, limit) in &process.limits {
                let Some(most) = observed.host.hard_limits.get(resource) else { continue };
                if limit.hard.is_none_or(|hard| hard > *most) {
                    let (service, resource, wanted) = ((*name).clone(), *resource, limit.hard);
                    return Err(PlanError::HardLimit { service, resource, wanted, most: *most });
                }
            }
        }
        let unmet = limits::unmet(&observed.host, wanted.iter().map(|name| (*name, &project.services[*name])));
        if !unmet.is_empty() {
            return Err(PlanError::Limits(unmet));
        }
        Ok(Self { addresses: Addresses::choose(project, observed)?, project, observed, groups, ids, wanted })
    }

    fn plan(&self) -> Result<Plan, PlanError> {
        let mut plan = Plan::default();
        let causes = self.causes();
        if causes.is_empty() {
            return Ok(plan);
        }
        self.nobody_is_left_behind(&causes)?;

        let replaced: BTreeSet<&ServiceName> = causes
            .keys()
            .copied()
            .filter(|name| self.observed.containers.contains_key(*name) && !self.only_ended(name))
            .collect();
        let removed = stop_and_remove(&mut plan, self.observed, &replaced, |name| causes[name].to_string());
        let all_removed: Vec<StepId> = removed.values().copied().collect();
        let mut unpinned: BTreeMap<&ServiceName, StepId> = BTreeMap::new();
        for name in causes.keys().copied().filter(|name| self.namespaces_differ(name)) {
            if self.observed.namespaces.contains_key(name) {
                let cause = "what the file asks of them has changed";
                // A namespace that nothing holds is taken down by the kernel in its own time, and until then the near end of
                // a cable keeps its name.
                let networks = self.observed.addresses.get(name).into_iter().flat_map(BTreeMap::keys);
                let detached: Vec<StepId> = networks
                    .map(|network| {
                        let bridge_end = link_name(name, network);
                        let cable = Cable { service: name.clone(), network: network.clone(), bridge_end };
                        plan.add(Operation::Detach(cable), cause, all_removed.iter().copied())
                    })
                    .collect();
                let after = all_removed.iter().copied().chain(detached);
                unpinned.insert(name, plan.add(Operation::RemoveNamespaces(name.clone()), cause, after));
            }
        }

        let networks = self.create_networks(&mut plan, &causes);
        let volumes = self.create_volumes(&mut plan, &causes);
        let hosts = plan.add(
            Operation::WriteHosts(hosts::files(self.project, &self.groups, &self.addresses)),
            "containers look names up there",
            [],
        );

        let limited = causes.keys().find(|name| !self.project.services[**name].limits.asks().is_empty());
        let group = limited
            .filter(|_| self.observed.host.cgroups.ask)
            .map(|name| plan.add(Operation::AskForGroup, format!("{name} has limits"), all_removed.iter().copied()));

        let mut namespaces: BTreeMap<&ServiceName, Vec<StepId>> = BTreeMap::new();
        for name in self.owners_first(&causes) {
            if self.namespaces_differ(name) {
                let ids = self.create_namespaces(&mut plan, name, &namespaces, &networks, &unpinned);
                namespaces.insert(name, ids);
            }
        }
        let mut started: BTreeMap<&ServiceName, StepId> = BTreeMap::new();
        for name in self.wanted.iter().copied().filter(|name| causes.contains_key(name)) {
            let service = &self.project.services[name];
            let sources = self.groups.sources(name);
            let shared = [&sources.net, &sources.ipc, &sources.uts, &sources.pid, &sources.user];
            let shared = shared.into_iter().filter_map(|s| match s {
                Source::Of(owner) => Some(owner),
                Source::New | Source::Host => None,
            });
            let mut after: Vec<StepId> = vec![hosts];
            after.extend(group);
            after.extend(shared.filter_map(|owner| namespaces.get(owner)).flatten());
            after.extend(service.dependencies().filter_map(|dependency| started.get(dependency)));
            after.extend(removed.get(name));
            after.extend(named_volumes(&self.mounts(name)).filter_map(|volume| volumes.get(volume)));
            let spec = self.container(name);
            started.insert(name, plan.add(Operation::Start(Box::new(spec)), causes[name].clone(), after));
        }
        Ok(plan)
    }

    /// What has to be started, each with its reason.
    fn causes(&self) -> BTreeMap<&'a ServiceName, String> {
        let mut causes: BTreeMap<&ServiceName, String> = BTreeMap::new();
        for name in &self.wanted {
            let cause = match self.observed.containers.get(*name) {
                None => "it is not there yet".to_owned(),
                Some(container) if container.config != self.config(name) => {
                    match &self.project.services[*name].rootfs {
                        Rootfs::Layers(image) if container.image.as_ref().is_some_and(|id| *id != image.id) => {
                            "its image has changed".to_owned()
                        }
                        _ => "its configuration has changed".to_owned(),
                    }
                }
                Some(_) if self.namespaces_differ(name) => "its namespaces have changed".to_owned(),
                Some(container) => match container.state {
                    ContainerState::Exited(code) => format!("it has exited with code {code}"),
                    _ => continue,
                },
            };
            causes.insert(name, cause);
        }
        // Whoever shares a namespace that is made anew has to be started again in the new one.
        for name in &self.wanted {
            let sources = self.groups.sources(name);
            for source in [&sources.user, &sources.net, &sources.ipc, &sources.uts, &sources.pid] {
                let Source::Of(owner) = source else { continue };
                if owner != *name && self.namespaces_differ(owner) && self.observed.namespaces.contains_key(owner) {
                    causes
                        .entry(name)
                        .or_insert_with(|| format!("it shares a namespace of {owner}, which is made anew"));
                }
            }
        }
        // Anonymous volumes go with the container that they are of. Those come first, since whoever has their volumes depends
        // on them.
        for name in &self.wanted {
            let mounts = self.mounts(name);
            let owners = mounts.iter().filter_map(|mount| match &mount.source {
                MountSource::Volume(VolumeMount { of: Some((owner, _)), .. }) => Some(owner),
                _ => None,
            });
            let is_new = |owner: &&ServiceName| {
                self.observed.containers.contains_key(*owner) && causes.contains_key(*owner) && !self.only_ended(owner)
            };
            if let Some(owner) = owners.into_iter().find(is_new).cloned() {
                causes.entry(name).or_insert_with(|| format!("it has volumes of {owner}, which is made anew"));
            }
        }
        causes
    }

    /// Namespaces that are made anew take every container in them along, so all of these have to be brought up again.
    fn nobody_is_left_behind(&self, causes: &BTreeMap<&'a ServiceName, String>) -> Result<(), PlanError> {
        let alive = self.observed.containers.iter().filter(|(_, container)| container.state.is_alive());
        for name in alive.map(|(name, _)| name).filter(|name| self.project.services.contains_key(*name)) {
            if self.wanted.contains(&name) {
                continue;
            }
            let sources = self.groups.sources(name);
            for source in [&sources.user, &sources.net, &sources.ipc, &sources.uts, &sources.pid] {
                let Source::Of(owner) = source else { continue };
                if causes.contains_key(owner)
                    && self.namespaces_differ(owner)
                    && self.observed.namespaces.contains_key(owner)
                {
                    return Err(PlanError::LeftBehind { service: name.clone(), owner: owner.clone() });
                }
            }
        }
        Ok(())
    }

    /// Whether the container only has to be started again.
    fn only_ended(&self, name: &ServiceName) -> bool {
        let container = &self.observed.containers[name];
        !container.state.is_alive() && container.config == self.config(name) && !self.namespaces_differ(name)
    }

    fn namespaces_differ(&self, name: &ServiceName) -> bool {
        self.observed.namespaces.get(name) != Some(&self.namespaces_fingerprint(name))
    }

    /// Owners of user namespaces before those who live in them.
    fn owners_first(&self, causes: &BTreeMap<&'a ServiceName, String>) -> Vec<&'a ServiceName> {
        let is_owner = |name: &&ServiceName| self.groups.sources(name).user == Source::Of((*name).clone());
        let needed = causes.keys().copied();
        // The one that stands for a group may not be wanted itself; its user namespace is.
        let leaders = needed.clone().filter_map(|name| match &self.groups.sources(name).user {
            Source::Of(leader) => Some(leader),
            Source::New | Source::Host => None,
        });
        let leaders: BTreeSet<&ServiceName> = leaders.collect();
        let leaders = self.project.services.keys().filter(|name| leaders.contains(name));
        let rest = needed.filter(|name| !is_owner(name));
        leaders.chain(rest).collect()
    }

    fn create_networks(
        &self,
        plan: &mut Plan,
        causes: &BTreeMap<&'a ServiceName, String>,
    ) -> BTreeMap<&'a NetworkName, StepId> {
        let mut made = BTreeMap::new();
        for network in self.project.networks.keys() {
            let on_it =
                |name: &&&ServiceName| self.project.services[**name].networks.iter().any(|a| a.network == *network);
            let Some(first) = causes.keys().find(on_it) else { continue };
            if self.observed.networks.contains_key(network) {
                continue;
            }
            let bridge = Bridge {
                network: network.clone(),
                interface: bridge_name(network),
                gateway: self.addresses.gateway(network),
            };
            made.insert(network, plan.add(Operation::CreateNetwork(bridge), format!("{first} is on it"), []));
        }
        made
    }

    fn create_volumes(
        &self,
        plan: &mut Plan,
        causes: &BTreeMap<&'a ServiceName, String>,
    ) -> BTreeMap<VolumeName, StepId> {
        let mut made = BTreeMap::new();
        for name in causes.keys() {
            for volume in named_volumes(&self.mounts(name)) {
                made.entry(volume.clone()).or_insert_with(|| {
                    let kind = self.project.volumes.get(volume).cloned().unwrap_or_default();
                    plan.add(Operation::CreateVolume(volume.clone(), kind), format!("{name} mounts it"), [])
                });
            }
        }
        made
    }

    /// The namespaces that a service owns, and its links; all steps that a container has to wait for come back.
    fn create_namespaces(
        &self,
        plan: &mut Plan,
        name: &'a ServiceName,
        namespaces: &BTreeMap<&ServiceName, Vec<StepId>>,
        networks: &BTreeMap<&NetworkName, StepId>,
        unpinned: &BTreeMap<&ServiceName, StepId>,
    ) -> Vec<StepId> {
        let mut set = self.namespace_set(name);
        set.fingerprint = self.namespaces_fingerprint(name);
        let mut after: Vec<StepId> = unpinned.get(name).copied().into_iter().collect();
        if let UserNamespace::Of(owner) = &set.user {
            after.extend(namespaces.get(owner).and_then(|ids| ids.first()));
        }
        let has_net = set.net;
        let made =
            plan.add(Operation::CreateNamespaces(set), "a service has its own unless the file says otherwise", after);
        let mut ids = vec![made];
        if has_net {
            for link in self.links(name) {
                let after = networks.get(&link.network).copied().into_iter().chain([made]);
                ids.push(plan.add(Operation::Attach(link), "the file puts it on this network", after));
            }
        }
        ids
    }

    fn namespace_set(&self, name: &ServiceName) -> NamespaceSet {
        let sources = self.groups.sources(name);
        let elsewhere = elsewhere::namespaces(self.project, self.observed, name);
        let own = |source: &Source, kind| *source == Source::Of(name.clone()) && !elsewhere.contains_key(&kind);
        let has_name = own(&sources.uts, Shared::Uts);
        NamespaceSet {
            service: name.clone(),
            user: match &sources.user {
                Source::Of(leader) if leader == name => {
                    let users = elsewhere::user_namespace(self.project, self.observed, &self.groups, name);
                    users.map_or(UserNamespace::Create(self.ids[name]), UserNamespace::Elsewhere)
                }
                Source::Of(leader) => UserNamespace::Of(leader.clone()),
                Source::New | Source::Host => UserNamespace::Host,
            },
            net: own(&sources.net, Shared::Net),
            ipc: own(&sources.ipc, Shared::Ipc),
            hostname: has_name.then(|| hosts::hostname(self.project, name)),
            domainname: self.project.services[name].domainname.clone().filter(|_| has_name),
            shm_size: self.project.services[name].files.shm_size.filter(|_| own(&sources.ipc, Shared::Ipc)),
            pid: own(&sources.pid, Shared::Pid),
            elsewhere,
            sysctls: self.project.services[name].process.sysctls.clone(),
            fingerprint: String::new(),
        }
    }

    fn links(&self, name: &ServiceName) -> Vec<Link> {
        let attachments = self.project.services[name].networks.iter().enumerate();
        attachments
            .filter_map(|(i, attachment)| {
                let network = &attachment.network;
                let address = self.addresses.of(name, network)?;
                let gateway = self.addresses.gateway(network);
                Some(Link {
                    service: name.clone(),
                    network: network.clone(),
                    bridge: bridge_name(network),
                    bridge_end: link_name(name, network),
                    interface: format!("eth{i}"),
                    address: ipnet::Ipv4Net::new_assert(address, gateway.prefix_len()),
                    // There is no way out of the stack yet. Without a default route what lies outside is unreachable at once;
                    // with one it would be waited for.
                    default_gateway: None,
                })
            })
            .collect()
    }

    fn container(&self, name: &ServiceName) -> ContainerSpec {
        let service = &self.project.services[name];
        let sources = self.groups.sources(name);
        let mut mounts = self.mounts(name);
        // What lies below another mount has to come after it, or it would be hidden.
        mounts.sort_by_key(|mount| mount.target.components().count());
        let address = match &sources.net {
            Source::Of(owner) => {
                let first = self.project.services[owner].networks.first();
                first.and_then(|attachment| self.addresses.of(owner, &attachment.network))
            }
            Source::New | Source::Host => None,
        };
        ContainerSpec {
            service: name.clone(),
            name: hosts::container_name(self.project, name),
            hostname: self.hostname(name),
            argv: service.argv(),
            environment: service.environment.clone(),
            working_dir: service.working_dir.clone().unwrap_or_else(|| "/".into()),
            user: service.user.clone(),
            files: FileSystem {
                rootfs: service.rootfs.clone(),
                read_only: service.read_only,
                volumes: named_volumes(&mounts)
                    .map(|volume| (volume.clone(), self.project.volumes.get(volume).cloned().unwrap_or_default()))
                    .collect(),
                devices: service.files.devices.clone(),
                mounts,
                shm: service.ipc != NamespaceMode::None,
                private_ipc: service.private_ipc,
                hosts_of: match &sources.net {
                    Source::Of(owner) => Some(owner.clone()),
                    Source::New | Source::Host => None,
                },
                hosts_elsewhere: match &sources.net {
                    Source::Of(owner) => self.project.services[owner].network_mode.container().is_some(),
                    Source::New | Source::Host => false,
                },
            },
            ids: self.ids[self.groups.leader(name)],
            // Without a user namespace of the container's there is none that another could be below.
            invoker: self.as_invoker(service.user.as_ref()).filter(|_| sources.user != Source::Host),
            namespaces: sources.clone(),
            init: service.init,
            process: service.process.clone(),
            privileges: Privileges {
                // Without AppArmor everything is unconfined.
                apparmor: service.privileges.apparmor.clone().filter(|_| self.observed.host.modules.apparmor),
                ..service.privileges.clone()
            },
            limits: service.limits.clone(),
            devices: limits::devices(&self.observed.host, service),
            ports: service.ports.clone(),
            address: address.map(Into::into),
            stop_signal: service.stop_signal.unwrap_or_default(),
            stop_grace_ms: u64::try_from(service.stop_grace_period.as_millis()).unwrap_or(u64::MAX),
            dependencies: service.dependencies().cloned().collect(),
            config: self.config(name),
        }
    }

    /// The host name that a service sees, as far as it is known.
    fn hostname(&self, name: &ServiceName) -> String {
        let host = &self.observed.host;
        match &self.groups.sources(name).uts {
            Source::Host if !host.name.is_empty() => host.name.clone(),
            Source::Host | Source::New => hosts::hostname(self.project, name),
            Source::Of(owner) => {
                let other = self.project.services[owner].uts.container();
                let other = other.and_then(|other| host.containers.get(other.as_str()));
                other.map_or_else(|| hosts::hostname(self.project, owner), |other| other.hostname.clone())
            }
        }
    }

    /// The mounts of a service: its own, and what it has of others.
    fn mounts(&self, name: &ServiceName) -> Vec<Mount> {
        let mut mounts = Vec::new();
        self.collect_mounts(name, false, &mut mounts, &mut BTreeSet::new());
        mounts
    }

    /// The first that is mounted at a place stays, as in Docker (moby, `daemon/volumes.go`): what a service has of its own
    /// goes before what it has of others.
    fn collect_mounts(
        &self,
        name: &ServiceName,
        read_only: bool,
        mounts: &mut Vec<Mount>,
        seen: &mut BTreeSet<ServiceName>,
    ) {
        if !seen.insert(name.clone()) {
            return;
        }
        let Some(service) = self.project.services.get(name) else { return };
        let is_other = seen.len() > 1;
        for mount in &service.mounts {
            if mounts.iter().any(|known| known.target == mount.target) {
                continue;
            }
            let mut mount = mount.clone();
            match &mut mount.source {
                MountSource::Bind(bind) => bind.read_only |= read_only,
                MountSource::Volume(volume) => {
                    volume.read_only |= read_only;
                    if is_other && volume.volume.is_none() && volume.of.is_none() {
                        volume.of = Some((name.clone(), mount.target.clone()));
                    }
                }
                MountSource::Image(_) => {}
                // They are not volumes.
                MountSource::Tmpfs(_) | MountSource::Grant(_) if is_other => continue,
                MountSource::Tmpfs(_) | MountSource::Grant(_) => {}
            }
            mounts.push(mount);
        }
        for from in &service.files.volumes_from {
            self.collect_mounts(&from.service, read_only || from.read_only, mounts, seen);
        }
    }

    /// The ordinary user, where a service runs as that user by number: then what it writes is to be theirs.
    fn as_invoker(&self, user: Option<&UserSpec>) -> Option<Invoker> {
        as_invoker(self.observed, user)
    }

    fn config(&self, name: &ServiceName) -> String {
        let service = &self.project.services[name];
        let volumes: Vec<_> = named_volumes(&service.mounts).map(|volume| self.project.volumes.get(volume)).collect();
        let others: Vec<_> = service.files.volumes_from.iter().map(|from| self.mounts(&from.service)).collect();
        fingerprint(&(service, volumes, others, self.as_invoker(service.user.as_ref())))
    }

    fn namespaces_fingerprint(&self, name: &ServiceName) -> String {
        let lasting = |name: &ServiceName| {
            let mut set = self.namespace_set(name);
            // By which process those of other stacks are had makes no difference.
            set.elsewhere.values_mut().for_each(|foreign| *foreign = foreign.lasting());
            if let UserNamespace::Elsewhere(foreign) = &mut set.user {
                *foreign = foreign.lasting();
            }
            set
        };
        // They belong to the user namespace of the group, and go with it.
        match self.groups.leader(name) {
            leader if leader == name => fingerprint(&(lasting(name), self.links(name))),
            leader => fingerprint(&(lasting(name), self.links(name), lasting(leader), self.links(leader))),
        }
    }
}

/// A digest of a value's JSON form: equal for equal values, in this version and the next.
fn fingerprint(value: &impl Serialize) -> String {
    let json = serde_json::to_vec(value).expect("plain data without maps of odd keys has a JSON form");
    Sha256::digest(json).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn link_name(service: &ServiceName, network: &NetworkName) -> String {
    address::interface_name(service.as_str(), &format!("{service}/{network}"))
}

fn bridge_name(network: &NetworkName) -> String {
    address::interface_name(network.as_str(), network.as_str())
}

fn named_volumes(mounts: &[Mount]) -> impl Iterator<Item = &VolumeName> {
    mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Volume(VolumeMount { volume, .. }) => volume.as_ref(),
        MountSource::Bind(_) | MountSource::Tmpfs(_) | MountSource::Grant(_) | MountSource::Image(_) => None,
    })
}

fn as_invoker(observed: &Observed, user: Option<&UserSpec>) -> Option<Invoker> {
    let invoker = observed.host.invoker?;
    (user?.user.parse() == Ok(invoker.uid) && invoker.uid != 0).then_some(invoker)
}

/// An id that a mount wants and the container does not have. The number of the user takes the place of a root that is nobody
/// where it is not one of the range itself.
fn missing_id(mounts: &[Mount], count: u32, invoker: Option<Invoker>) -> Option<(String, u32)> {
    let missing = |id: u32, own: Option<u32>| match own {
        Some(own) => id != own && (id >= count || (id == 0 && own >= count)),
        None => id >= count,
    };
    mounts.iter().find_map(|mount| {
        let ids = match &mount.source {
            MountSource::Tmpfs(tmpfs) => [tmpfs.uid, tmpfs.gid],
            MountSource::Grant(Grant { source: GrantSource::Copy { uid, gid, .. }, .. }) => [*uid, *gid],
            _ => return None,
        };
        let own = [invoker.map(|own| own.uid), invoker.map(|own| own.gid)];
        let (id, _) = ids.into_iter().zip(own).find(|(id, own)| id.is_some_and(|id| missing(id, *own)))?;
        Some((mount.target.display().to_string(), id?))
    })
}

/// The services asked for and all that they need, each after what it depends on, else in the order of names.
fn in_order<'a>(project: &'a Project, asked: &BTreeSet<ServiceName>) -> Vec<&'a ServiceName> {
    fn visit<'a>(project: &'a Project, name: &'a ServiceName, order: &mut Vec<&'a ServiceName>) {
        if order.contains(&name) {
            return;
        }
        for dependency in project.services[name].dependencies() {
            visit(project, dependency, order);
        }
        order.push(name);
    }
    let mut order = Vec::new();
    for name in project.services.keys().filter(|name| asked.is_empty() || asked.contains(name)) {
        visit(project, name, &mut order);
    }
    order
}
