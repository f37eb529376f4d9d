//! Bringing a stack up: only what differs is touched, and each step says why.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{
    Bridge, BridgeRemoval, Cable, ContainerSpec, FileSystem, IdMap, Link, NamespaceSet, Operation, Plan, Shared,
    Source, StepId, UplinkBridge, UserNamespace,
    address::{self, Addresses, NoAddress},
    down::stop_and_remove,
    elsewhere::{self, NotShared},
    group::Groups,
    ids::IdRanges,
    limits::{self, Unmet},
    names, uplink,
};
use crate::model::{
    AddressPool, ContainerState, Family, Grant, GrantSource, Invoker, Mount, MountSource, NamespaceMode, Network,
    NetworkAttachment, NetworkName, Observed, Port, Privileges, Project, Resource, Rootfs, ServiceName, UserSpec,
    VolumeMount, VolumeName, limit_text,
};

/// What is asked for beyond the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Intent {
    /// The services to bring up, with all they depend on; empty means all.
    pub services: BTreeSet<ServiceName>,
    /// Where subnets come from that nobody has chosen; empty is Docker's pools and the rest of 10.0.0.0/8.
    pub pools: Vec<AddressPool>,
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
    /// A network is said to be there and is not.
    #[error("network `{network}` is external, and there is no network `{external}` that stacks share")]
    NoShared {
        /// The network of the file.
        network: NetworkName,
        /// What it is called outside.
        external: NetworkName,
    },
    /// An address that a service has chosen is not to be had.
    #[error("service `{service}` cannot have {address} on network `{network}`: {why}")]
    Address {
        /// The service.
        service: ServiceName,
        /// The network of the file.
        network: NetworkName,
        /// The address.
        address: IpAddr,
        /// What keeps it from having it.
        why: String,
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
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::LeftBehind { .. } => Some("name both services, or none: then all are brought up".to_owned()),
            Self::UnknownService(_)
            | Self::SingleId { .. }
            | Self::SingleIdGroup { .. }
            | Self::Limits(_) => None,
            Self::MissingId { .. } => Some(
                "leave out `uid` and `gid`, or name an id that it has: with a single id that is 0, or else as many as /etc/subuid and /etc/subgid give the account".to_owned(),
            ),
            Self::HardLimit { resource: Resource::Nofile, .. } => Some(
                "ask for less, or raise `fs.nr_open` or the hard limit of whoever runs nscompose: limits.conf(5)".to_owned(),
            ),
            Self::HardLimit { .. } => Some(
                "ask for less, or raise the hard limit of whoever runs nscompose: limits.conf(5), or `ulimit -H` in a shell of root"
                    .to_owned(),
            ),
            Self::Elsewhere(error) => Some(error.hint().to_owned()),
            Self::NoAppArmor { .. } => Some(
                "leave it out, or start the kernel with `lsm=` and `apparmor` in it; `apparmor=unconfined` works everywhere"
                    .to_owned(),
            ),
            Self::NoSelinux { .. } => Some("leave it out; `label=disable` works everywhere".to_owned()),
            Self::NoAddress(_) => Some("a larger `subnet` or `ip_range` has more".to_owned()),
            Self::NoSubnet(_) => Some(
                "`ip route` shows the routes; a narrower one leaves room, and so does `networks.default_address_pools` of \
                 config.yaml or NSCOMPOSE_ADDRESS_POOLS"
                    .to_owned(),
            ),
            Self::NoShared { external, .. } => {
                Some(format!("`nscompose network create {external}` makes it; without `external: true` it is the stack's own"))
            }
            Self::Address { .. } => Some("choose another one, or none".to_owned()),
        }
    }
}

impl From<NoAddress> for PlanError {
    fn from(error: NoAddress) -> Self {
        match error {
            NoAddress::Subnet(network) => Self::NoSubnet(network),
            NoAddress::Host(network) => Self::NoAddress(network),
            NoAddress::Shared { network, external } => Self::NoShared { network, external },
            NoAddress::Chosen { service, network, address, why } => Self::Address { service, network, address, why },
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

/// What a stack has on a network that stacks share: each service with its addresses, and the names it is found under.
pub type SharedPlaces = BTreeMap<NetworkName, BTreeMap<ServiceName, (Vec<IpAddr>, Vec<String>)>>;

/// What the stack will have on networks that stacks share, once [`up`] has been carried out.
///
/// # Errors
/// Those of [`up`].
pub fn shared_places(project: &Project, observed: &Observed, intent: &Intent) -> Result<SharedPlaces, PlanError> {
    let up = Up::new(project, observed, intent)?;
    let mut places = SharedPlaces::new();
    for (network, declared) in &project.networks {
        let Some(external) = &declared.external else { continue };
        for (name, service) in &project.services {
            // A service that shares somebody's network is found where that one is.
            let Source::Of(at) = &up.groups.sources(name).net else { continue };
            let addresses = up.addresses.of(at, network);
            if addresses.is_empty() {
                continue;
            }
            let mut names = vec![names::container_name(project, name), name.to_string()];
            let aliases = service.networks.iter().filter(|on| on.network == *network).flat_map(|on| &on.aliases);
            names.extend(aliases.cloned());
            places.entry(external.clone()).or_default().insert(name.clone(), (addresses.to_vec(), names));
        }
    }
    // What the file does not have any more, and runs on, keeps its addresses.
    for (name, networks) in &observed.addresses {
        for (network, addresses) in networks {
            let there = observed.networks.get(network).and_then(|network| network.shared.clone());
            if let Some(external) = there.filter(|_| !addresses.is_empty()) {
                let of_it = places.entry(external).or_default();
                of_it.entry(name.clone()).or_insert_with(|| (addresses.clone(), vec![name.to_string()]));
            }
        }
    }
    Ok(places)
}

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
        let on = |network: &NetworkName| {
            wanted.iter().any(|name| project.services[*name].networks.iter().any(|on| on.network == *network))
        };
        let addresses = Addresses::choose(project, observed, &intent.pools, on)?;
        let mut up = Self { addresses, project, observed, groups, ids, wanted };
        up.wanted = up.with_moved();
        Ok(up)
    }

    /// What is wanted, and besides it all that runs on a network that changes, or has to give its address up.
    fn with_moved(&self) -> Vec<&'a ServiceName> {
        let moved: BTreeSet<&ServiceName> =
            self.observed.namespaces.keys().filter(|name| self.is_moved(name)).collect();
        let touched = |name: &&ServiceName| {
            let sources = self.groups.sources(name);
            let own = [&sources.user, &sources.net, &sources.ipc, &sources.uts, &sources.pid];
            own.into_iter().any(|source| matches!(source, Source::Of(owner) if moved.contains(owner)))
        };
        let runs = |name: &&ServiceName| {
            self.observed.containers.get(*name).is_some_and(|container| container.state.is_alive())
        };
        let more: BTreeSet<ServiceName> =
            self.project.services.keys().filter(|name| runs(name) && touched(name)).cloned().collect();
        if more.is_empty() {
            return self.wanted.clone();
        }
        let wanted: BTreeSet<ServiceName> = self.wanted.iter().copied().cloned().chain(more.iter().cloned()).collect();
        // In the order of all; those that `more` depends on and that nobody asked for stay as they are.
        in_order(self.project, &wanted).into_iter().filter(|name| wanted.contains(*name)).collect()
    }

    /// Whether the namespaces of a service that there are have another network, or another address, than they shall have.
    fn is_moved(&self, name: &ServiceName) -> bool {
        let Some(service) = self.project.services.get(name) else { return false };
        service.networks.iter().any(|attachment| {
            let network = &attachment.network;
            let there = self.observed.addresses.get(name).and_then(|networks| networks.get(network));
            there.is_some_and(|there| {
                let mut there = there.clone();
                there.sort();
                self.network_changes(network) || there != self.addresses.of(name, network)
            })
        })
    }

    /// Whether a bridge that there is has to be made anew.
    fn network_changes(&self, network: &NetworkName) -> bool {
        let known = self.project.networks.contains_key(network);
        let there = self.observed.networks.get(network).filter(|_| known);
        there.is_some_and(|there| there.config != self.bridge(network).config)
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
        let mut detached: BTreeMap<&NetworkName, Vec<StepId>> = BTreeMap::new();
        // Those that have ended and that nobody wants lose their place on a network that goes, and get another when they come.
        let ended = self.observed.namespaces.keys().filter(|name| !causes.contains_key(name) && self.is_moved(name));
        for name in causes.keys().copied().filter(|name| self.namespaces_differ(name)).chain(ended) {
            if self.observed.namespaces.contains_key(name) {
                let cause = "what the file asks of them has changed";
                // A namespace that nothing holds is taken down by the kernel in its own time, and until then the near end of
                // a cable keeps its name.
                let networks = self.observed.addresses.get(name).into_iter().flat_map(BTreeMap::keys);
                let mut cables: Vec<StepId> = Vec::new();
                for network in networks {
                    let id = self.detach(&mut plan, name, network, cause, &all_removed);
                    detached.entry(network).or_default().push(id);
                    cables.push(id);
                }
                let after = all_removed.iter().copied().chain(cables);
                unpinned.insert(name, plan.add(Operation::RemoveNamespaces(name.clone()), cause, after));
            }
        }

        let removed_networks = self.remove_networks(&mut plan, detached, &all_removed);
        let networks = self.create_networks(&mut plan, &causes, &removed_networks);
        let volumes = self.create_volumes(&mut plan, &causes);
        let named = plan.add(
            Operation::SetNames(names::names(self.project, &self.groups, &self.addresses, &self.observed.host)),
            "containers find each other by them",
            [],
        );

        let limited = causes.keys().find(|name| !self.project.services[**name].limits.asks().is_empty());
        let group = limited
            .filter(|_| self.observed.host.cgroups.ask)
            .map(|name| plan.add(Operation::AskForGroup, format!("{name} has limits"), all_removed.iter().copied()));

        let wish = uplink::wish(
            self.project,
            self.observed,
            self.uplink_bridges(networks.keys().copied(), &removed_networks),
            fingerprint,
        );
        let after = networks.values().chain(removed_networks.values()).copied();
        let connected = wish.map(|wish| plan.add(Operation::Connect(wish), "networks lead out", after));

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
            let mut after: Vec<StepId> = vec![named];
            after.extend(group);
            after.extend(shared.filter_map(|owner| namespaces.get(owner)).flatten());
            after.extend(service.dependencies().filter_map(|dependency| started.get(dependency)));
            after.extend(removed.get(name));
            after.extend(connected);
            after.extend(named_volumes(&self.mounts(name)).filter_map(|volume| volumes.get(volume)));
            let spec = self.container(name);
            started.insert(name, plan.add(Operation::Start(Box::new(spec)), causes[name].clone(), after));
        }
        Ok(plan)
    }

    fn detach(
        &self,
        plan: &mut Plan,
        service: &ServiceName,
        network: &NetworkName,
        cause: &str,
        after: &[StepId],
    ) -> StepId {
        let bridge_end = self.link_name(service, network);
        let cable = Cable { service: service.clone(), network: network.clone(), bridge_end };
        plan.add(Operation::Detach(cable), cause, after.iter().copied())
    }

    /// Removes the bridges that have to be made anew, each after all that is connected to it.
    fn remove_networks(
        &self,
        plan: &mut Plan,
        mut detached: BTreeMap<&'a NetworkName, Vec<StepId>>,
        removed: &[StepId],
    ) -> BTreeMap<&'a NetworkName, StepId> {
        let mut gone = BTreeMap::new();
        for network in self.observed.networks.keys().filter(|network| self.network_changes(network)) {
            let cause = "what the file says of it has changed";
            let mut after = detached.remove(network).unwrap_or_default();
            // Services that the file does not have any more, and that run on.
            for (service, networks) in &self.observed.addresses {
                if !self.project.services.contains_key(service) && networks.contains_key(network) {
                    after.push(self.detach(plan, service, network, cause, removed));
                }
            }
            let removal = BridgeRemoval { network: network.clone() };
            gone.insert(network, plan.add(Operation::RemoveNetwork(removal), cause, after));
        }
        gone
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
                Some(_) if self.namespaces_differ(name) => {
                    let on = |attachment: &&NetworkAttachment| self.network_changes(&attachment.network);
                    match self.project.services[*name].networks.iter().find(on) {
                        Some(attachment) => format!("its network {} has changed", attachment.network),
                        None if self.is_moved(name) => "its addresses have changed".to_owned(),
                        None => "its namespaces have changed".to_owned(),
                    }
                }
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
        removed: &BTreeMap<&'a NetworkName, StepId>,
    ) -> BTreeMap<&'a NetworkName, StepId> {
        let mut made = BTreeMap::new();
        for network in self.project.networks.keys() {
            let on_it =
                |name: &&&ServiceName| self.project.services[**name].networks.iter().any(|a| a.network == *network);
            let Some(first) = causes.keys().find(on_it) else { continue };
            let gone = removed.get(network);
            if self.observed.networks.contains_key(network) && gone.is_none() {
                continue;
            }
            let (bridge, after) = (self.bridge(network), gone.copied());
            made.insert(network, plan.add(Operation::CreateNetwork(bridge), format!("{first} is on it"), after));
        }
        made
    }

    fn bridge(&self, network: &NetworkName) -> Bridge {
        let said = &self.project.networks[network];
        let what = address::definition(said, self.observed);
        let mut bridge = Bridge {
            network: network.clone(),
            shared: said.external.clone(),
            interface: what.bridge.name.clone().unwrap_or_else(|| {
                let name = said.external.as_ref().unwrap_or(network);
                address::interface_name(name.as_str(), name.as_str())
            }),
            gateways: self.addresses.gateways(network),
            internal: what.internal,
            masquerade: what.bridge.masquerade,
            mtu: self.mtu(network),
            config: String::new(),
        };
        bridge.config = fingerprint(&(&bridge, what.bridge.icc));
        bridge
    }

    /// The bridges in the stack's own namespace once these networks have been made and those have gone. Networks that the
    /// file does not have any more lead nowhere.
    fn uplink_bridges(
        &self,
        made: impl Iterator<Item = &'a NetworkName>,
        gone: &BTreeMap<&NetworkName, StepId>,
    ) -> Vec<UplinkBridge> {
        let stay = self.observed.networks.keys().filter(|network| !gone.contains_key(network));
        let all: BTreeSet<&NetworkName> = stay.chain(made).collect();
        let bridges = all.into_iter().filter_map(|network| match self.project.networks.get(network) {
            Some(said) if said.external.is_some() => None,
            Some(_) => {
                let Bridge { interface, config, .. } = self.bridge(network);
                Some(UplinkBridge { interface, leads_out: uplink::leads_out(self.project, network), config })
            }
            None => {
                let there = self.observed.networks.get(network).filter(|there| there.shared.is_none())?;
                let (interface, config) = (there.interface.clone(), there.config.clone());
                Some(UplinkBridge { interface, leads_out: false, config })
            }
        });
        bridges.collect()
    }

    fn network(&self, network: &NetworkName) -> &Network {
        address::definition(&self.project.networks[network], self.observed)
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
            resolver: own(&sources.net, Shared::Net) && !self.project.services[name].networks.is_empty(),
            ipc: own(&sources.ipc, Shared::Ipc),
            hostname: has_name.then(|| names::hostname(self.project, name)),
            domainname: self.project.services[name].domainname.clone().filter(|_| has_name),
            shm_size: self.project.services[name].files.shm_size.filter(|_| own(&sources.ipc, Shared::Ipc)),
            pid: own(&sources.pid, Shared::Pid),
            elsewhere,
            sysctls: self.project.services[name].process.sysctls.clone(),
            fingerprint: String::new(),
        }
    }

    fn links(&self, name: &ServiceName) -> Vec<Link> {
        let attachments = &self.project.services[name].networks;
        let chosen: BTreeSet<&str> =
            attachments.iter().filter_map(|attachment| attachment.interface.as_deref()).collect();
        let mut given: BTreeSet<String> = BTreeSet::new();
        let mut links = Vec::with_capacity(attachments.len());
        for attachment in attachments {
            let network = &attachment.network;
            let addresses = self.addresses.nets_of(name, network);
            if addresses.is_empty() {
                continue;
            }
            let what = self.network(network);
            let interface = attachment.interface.clone().unwrap_or_else(|| {
                let prefix = what.bridge.interface_prefix.as_deref().unwrap_or("eth");
                let names = (0_u32..).map(|number| format!("{prefix}{number}"));
                let mut free = names.filter(|name| !chosen.contains(name.as_str()) && !given.contains(name));
                free.next().unwrap_or_default()
            });
            given.insert(interface.clone());
            let bridge = self.bridge(network);
            links.push(Link {
                service: name.clone(),
                network: network.clone(),
                bridge: bridge.interface,
                bridge_end: self.link_name(name, network),
                sysctls: attachment
                    .sysctls
                    .iter()
                    .map(|(name, value)| (name.replace("/IFNAME/", &format!("/{interface}/")), value.clone()))
                    .collect(),
                interface,
                addresses,
                link_local: attachment.link_local.iter().map(|address| link_local_net(*address)).collect(),
                default_gateways: self.default_gateways(name, network),
                mac: attachment.mac,
                mtu: self.mtu(network),
                isolated: !what.bridge.icc,
                bridge_config: bridge.config,
            });
        }
        links
    }

    /// The gateways of this network that are the way out of a service.
    fn way_out(&self, name: &ServiceName, network: &NetworkName) -> Vec<IpAddr> {
        let families = [Family::V4, Family::V6].into_iter();
        let ways = families.filter_map(|family| uplink::way_out(self.project, &self.addresses, name, family));
        ways.filter(|(on, _)| *on == network).map(|(_, gateway)| gateway).collect()
    }

    /// Where a service sends what is not for its networks. Without a way out there is none: what lies outside is unreachable
    /// at once then, and not waited for. So it is with IPv6, which no uplink carries.
    fn default_gateways(&self, name: &ServiceName, network: &NetworkName) -> Vec<IpAddr> {
        let mut gateways = self.way_out(name, network);
        gateways.retain(|gateway| gateway.is_ipv4() && self.observed.host.uplink.is_there());
        gateways
    }

    /// The largest packet on a network: what the file says, or what suits the uplink; none leaves it to the kernel.
    fn mtu(&self, network: &NetworkName) -> Option<u32> {
        self.network(network).bridge.mtu.or_else(|| uplink::mtu(self.project, &self.observed.host, network))
    }

    fn link_name(&self, service: &ServiceName, network: &NetworkName) -> String {
        // Cables of several stacks meet on a bridge that they share.
        address::interface_name(service.as_str(), &format!("{}/{service}/{network}", self.project.name))
    }

    /// The ports of a service; what names no address of the host is at that which its first network says.
    fn ports(&self, name: &ServiceName) -> Vec<Port> {
        let service = &self.project.services[name];
        let first = service.networks.first().map(|attachment| self.network(&attachment.network));
        let binding = first.and_then(|network| network.bridge.host_binding);
        let ports = service.ports.iter().cloned();
        ports.map(|port| Port { host_ip: port.host_ip.or(binding.map(IpAddr::V4)), ..port }).collect()
    }

    /// Where published ports of whoever is in the network namespace of this service lead to: an address on the network that is
    /// its way out, since answers go there, or on the first of the stack's own, since the stack itself is on those.
    fn target(&self, owner: &ServiceName) -> Option<(IpAddr, NetworkName)> {
        let own = |attachment: &&NetworkAttachment| self.project.networks[&attachment.network].external.is_none();
        let networks = &self.project.services[owner].networks;
        let network = match uplink::way_out(self.project, &self.addresses, owner, Family::V4) {
            Some((network, _)) => network,
            None => &networks.iter().find(own).or_else(|| networks.first())?.network,
        };
        let address = self.addresses.of(owner, network).first()?;
        Some((*address, network.clone()))
    }

    fn container(&self, name: &ServiceName) -> ContainerSpec {
        let service = &self.project.services[name];
        let sources = self.groups.sources(name);
        let mut mounts = self.mounts(name);
        // What lies below another mount has to come after it, or it would be hidden.
        mounts.sort_by_key(|mount| mount.target.components().count());
        let target = match &sources.net {
            Source::Of(owner) => self.target(owner),
            Source::New | Source::Host => None,
        };
        let (address, address_on) = target.unzip();
        ContainerSpec {
            service: name.clone(),
            name: names::container_name(self.project, name),
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
                hosts_besides: names::besides_the_hosts(service),
                names_of: match &sources.net {
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
            logging: service.logging.settings(service, &names::container_name(self.project, name)),
            devices: limits::devices(&self.observed.host, service),
            ports: self.ports(name),
            address,
            address_on,
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
            Source::Host | Source::New => names::hostname(self.project, name),
            Source::Of(owner) => {
                let other = self.project.services[owner].uts.container();
                let other = other.and_then(|other| host.containers.get(other.as_str()));
                other.map_or_else(|| names::hostname(self.project, owner), |other| other.hostname.clone())
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
        let own = |name: &ServiceName| (lasting(name), self.links(name));
        // With the user namespace of the group all others have to be made anew: they belong to it (user_namespaces(7)).
        match self.groups.leader(name) {
            leader if leader == name => fingerprint(&own(name)),
            leader => fingerprint(&(own(name), own(leader))),
        }
    }
}

/// A digest of a value's JSON form: equal for equal values, in this version and the next.
fn fingerprint(value: &impl Serialize) -> String {
    let json = serde_json::to_vec(value).expect("plain data without maps of odd keys has a JSON form");
    Sha256::digest(json).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// A link-local address with the prefix of all of its kind (RFC 3927, RFC 4291).
fn link_local_net(address: IpAddr) -> IpNet {
    IpNet::new(address, if address.is_ipv4() { 16 } else { 64 }).unwrap_or_else(|_| address.into())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        load::{LoadOptions, load},
        model::{Addressing, ObservedNetwork, SharedNetwork},
    };

    fn project(yaml: &str) -> Project {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("compose.yaml");
        std::fs::write(&file, format!("name: case\n{yaml}")).expect("written");
        let options = LoadOptions { files: vec![file], directory: folder.path().to_owned(), ..LoadOptions::default() };
        load(&options).unwrap_or_else(|e| panic!("{}", e.render(false))).project
    }

    /// Each network with the gateways that are the way out of service `a`.
    fn ways_out(yaml: &str, shared: &[&str]) -> Vec<(String, Vec<String>)> {
        let project = project(yaml);
        let name = |name: &str| name.parse().expect("a name");
        let network = Network {
            ipv4: Some(Addressing { subnet: Some("10.9.0.0/24".parse().expect("a subnet")), ..Addressing::default() }),
            ..Network::default()
        };
        let shared =
            shared.iter().map(|it| (name(it), SharedNetwork { network: network.clone(), taken: BTreeMap::new() }));
        let observed = Observed { shared: shared.collect(), ..Observed::default() };
        let up = Up::new(&project, &observed, &Intent::default()).unwrap_or_else(|e| panic!("{e}"));
        let service = "a".parse().expect("a name");
        let networks = project.services[&service].networks.iter().map(|attachment| &attachment.network);
        let gateways = |network| up.way_out(&service, network).iter().map(ToString::to_string).collect();
        networks.map(|network| (network.to_string(), gateways(network))).collect()
    }

    #[test]
    fn the_way_out_is_the_network_with_the_highest_priority_that_leads_out() {
        let yaml = |a: &str, more: &str| {
            format!(
                "services: {{a: {{rootfs: host, command: a, networks: {a}}}}}
networks:
  one: {{ipam: {{config: [{{subnet: 10.1.0.0/24}}]}}}}
  two: {{ipam: {{config: [{{subnet: 10.2.0.0/24}}, {{subnet: 'fd02::/64'}}]}}}}
  shut: {{internal: true}}
{more}"
            )
        };
        let out =
            |network: &str, gateways: &[&str]| (network.to_owned(), gateways.iter().map(|&g| g.to_owned()).collect());
        assert_eq!(
            ways_out(&yaml("[shut, one, two]", ""), &[]),
            [out("shut", &[]), out("one", &["10.1.0.1"]), out("two", &["fd02::1"])]
        );
        assert_eq!(
            ways_out(&yaml("{shut: {gw_priority: 9}, one: , two: {gw_priority: 1}}", ""), &[]),
            [out("shut", &[]), out("one", &[]), out("two", &["10.2.0.1", "fd02::1"])]
        );
        assert_eq!(
            ways_out(&yaml("{all: {gw_priority: 1}, one: }", "  all: {external: true}"), &["all"]),
            [out("all", &[]), out("one", &["10.1.0.1"])]
        );
    }

    #[test]
    fn what_runs_on_keeps_its_place_on_a_shared_network() {
        let project = project("services: {a: {rootfs: host, command: a}}");
        let mut observed = Observed::default();
        let (all, gone, address) =
            ("all".parse::<NetworkName>().expect("a name"), "gone", "10.9.0.7".parse().expect("an address"));
        let there = ObservedNetwork {
            subnets: Vec::new(),
            interface: String::new(),
            config: String::new(),
            shared: Some(all.clone()),
        };
        observed.networks.insert("it".parse().expect("a name"), there);
        let gone: ServiceName = gone.parse().expect("a name");
        observed.addresses.entry(gone.clone()).or_default().insert("it".parse().expect("a name"), vec![address]);
        let places = shared_places(&project, &observed, &Intent::default()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(places[&all][&gone].0, [address]);
    }
}
