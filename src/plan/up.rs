//! Bringing a stack up: only what differs is touched, and each step says why.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{
    Bridge, BridgeRemoval, Cable, ContainerSpec, FileSystem, IdMap, Link, NamespaceSet, Operation, Plan, Source,
    StepId, UserNamespace,
    address::{self, Addresses, NoAddress},
    down::stop_and_remove,
    group::Groups,
    hosts,
    ids::IdRanges,
};
use crate::model::{
    AddressPool, ContainerState, Family, MountSource, NamespaceMode, Network, NetworkAttachment, NetworkName, Observed,
    Port, Project, Rootfs, Service, ServiceName, VolumeName,
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
}

impl PlanError {
    /// How to mend it, if it can be said in general.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownService(_) | Self::SingleId { .. } => None,
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
            let mut names = vec![name.to_string(), hosts::container_name(project, name)];
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
        let groups = Groups::of(project);
        let mut ranges = IdRanges::new(observed.host.ids, &project.name);
        let mut ids = BTreeMap::new();
        for name in project.services.keys().filter(|name| groups.sources(name).user == **name) {
            ids.insert(name.clone(), ranges.next(name));
        }
        let wanted = in_order(project, &intent.services);
        for name in &wanted {
            if let (1, Some(user)) = (ids[&groups.sources(name).user].count, &project.services[*name].user)
                && !matches!(user.user.as_str(), "0" | "root")
            {
                return Err(PlanError::SingleId { service: (*name).clone(), user: user.to_string() });
            }
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
            let own = [&sources.net, &sources.ipc, &sources.uts, &sources.pid];
            let mut owners = own.into_iter().filter_map(|source| match source {
                Source::Of(owner) => Some(owner),
                Source::New | Source::Host => None,
            });
            moved.contains(&sources.user) || owners.any(|owner| moved.contains(owner))
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
        let hosts = plan.add(
            Operation::WriteHosts(hosts::files(self.project, &self.groups, &self.addresses)),
            "containers look names up there",
            [],
        );

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
            let shared = [&sources.net, &sources.ipc, &sources.uts, &sources.pid].into_iter().filter_map(|s| match s {
                Source::Of(owner) => Some(owner),
                Source::New | Source::Host => None,
            });
            let mut after: Vec<StepId> = vec![hosts];
            after.extend(shared.chain([&sources.user]).filter_map(|owner| namespaces.get(owner)).flatten());
            after.extend(service.dependencies().filter_map(|dependency| started.get(dependency)));
            after.extend(removed.get(name));
            after.extend(named_volumes(service).filter_map(|volume| volumes.get(volume)));
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
            for source in [&Source::Of(sources.user.clone()), &sources.net, &sources.ipc, &sources.uts, &sources.pid] {
                let Source::Of(owner) = source else { continue };
                if owner != *name && self.namespaces_differ(owner) && self.observed.namespaces.contains_key(owner) {
                    causes
                        .entry(name)
                        .or_insert_with(|| format!("it shares a namespace of {owner}, which is made anew"));
                }
            }
        }
        causes
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
        let is_owner = |name: &&ServiceName| self.groups.sources(name).user == **name;
        let needed = causes.keys().copied();
        // The one that stands for a group may not be wanted itself; its user namespace is.
        let leaders = needed.clone().map(|name| &self.groups.sources(name).user);
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
            mtu: what.bridge.mtu,
            config: String::new(),
        };
        bridge.config = fingerprint(&(&bridge, what.bridge.icc));
        bridge
    }

    fn network(&self, network: &NetworkName) -> &Network {
        address::definition(&self.project.networks[network], self.observed)
    }

    fn create_volumes(
        &self,
        plan: &mut Plan,
        causes: &BTreeMap<&'a ServiceName, String>,
    ) -> BTreeMap<&'a VolumeName, StepId> {
        let mut made = BTreeMap::new();
        for name in causes.keys() {
            for volume in named_volumes(&self.project.services[*name]) {
                made.entry(volume).or_insert_with(|| {
                    plan.add(Operation::CreateVolume(volume.clone()), format!("{name} mounts it"), [])
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
        let own = |source: &Source| *source == Source::Of(name.clone());
        NamespaceSet {
            service: name.clone(),
            user: if sources.user == *name {
                UserNamespace::Create(self.ids[name])
            } else {
                UserNamespace::Of(sources.user.clone())
            },
            net: own(&sources.net),
            ipc: own(&sources.ipc),
            hostname: own(&sources.uts).then(|| hosts::hostname(self.project, name)),
            domainname: self.project.services[name].domainname.clone().filter(|_| own(&sources.uts)),
            pid: own(&sources.pid),
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
                default_gateways: if HAS_WAY_OUT { self.way_out(name, network) } else { Vec::new() },
                mac: attachment.mac,
                mtu: what.bridge.mtu,
                isolated: !what.bridge.icc,
                bridge_config: bridge.config,
            });
        }
        links
    }

    /// The gateways of this network that are the way out of a service: of each family that of the network with the highest
    /// `gw_priority`, of equals the first. Internal networks are none, nor are those that stacks share.
    fn way_out(&self, name: &ServiceName, network: &NetworkName) -> Vec<IpAddr> {
        let gateway = |network: &NetworkName, family: Family| {
            let gateways = self.addresses.gateways(network);
            gateways.iter().map(IpNet::addr).find(|gateway| Family::of(*gateway) == family)
        };
        let best = |family: Family| {
            let attachments = self.project.services[name].networks.iter().filter(|attachment| {
                let declared = &self.project.networks[&attachment.network];
                !declared.internal && declared.external.is_none() && gateway(&attachment.network, family).is_some()
            });
            // Of equals `max_by_key` takes the last.
            attachments.rev().max_by_key(|attachment| attachment.gateway_priority)
        };
        [Family::V4, Family::V6]
            .into_iter()
            .filter(|family| best(*family).is_some_and(|best| best.network == *network))
            .filter_map(|family| gateway(network, family))
            .collect()
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

    /// Where published ports of whoever is in the network namespace of this service lead to: an address on the first network
    /// of the stack's own, since the stack itself is on those.
    fn target(&self, owner: &ServiceName) -> Option<(IpAddr, NetworkName)> {
        let own = |attachment: &&NetworkAttachment| self.project.networks[&attachment.network].external.is_none();
        let networks = &self.project.services[owner].networks;
        let attachment = networks.iter().find(own).or_else(|| networks.first())?;
        let address = self.addresses.of(owner, &attachment.network).first()?;
        Some((*address, attachment.network.clone()))
    }

    fn container(&self, name: &ServiceName) -> ContainerSpec {
        let service = &self.project.services[name];
        let sources = self.groups.sources(name);
        let mut mounts = service.mounts.clone();
        // What lies below another mount has to come after it, or it would be hidden.
        mounts.sort_by_key(|mount| mount.target.components().count());
        let target = match &sources.net {
            Source::Of(owner) => self.target(owner),
            Source::New | Source::Host => None,
        };
        let (address, address_on) = target.unzip();
        ContainerSpec {
            service: name.clone(),
            name: hosts::container_name(self.project, name),
            hostname: hosts::hostname(self.project, name),
            argv: service.argv(),
            environment: service.environment.clone(),
            working_dir: service.working_dir.clone().unwrap_or_else(|| "/".into()),
            user: service.user.clone(),
            files: FileSystem {
                rootfs: service.rootfs.clone(),
                read_only: service.read_only,
                mounts,
                shm: service.ipc != NamespaceMode::None,
                hosts_of: match &sources.net {
                    Source::Of(owner) => Some(owner.clone()),
                    Source::New | Source::Host => None,
                },
            },
            ids: self.ids[&sources.user],
            namespaces: sources.clone(),
            init: service.init,
            process: service.process.clone(),
            privileges: service.privileges.clone(),
            limits: service.limits.clone(),
            ports: self.ports(name),
            address,
            address_on,
            stop_signal: service.stop_signal.unwrap_or_default(),
            stop_grace_ms: u64::try_from(service.stop_grace_period.as_millis()).unwrap_or(u64::MAX),
            dependencies: service.dependencies().cloned().collect(),
            config: self.config(name),
        }
    }

    fn config(&self, name: &ServiceName) -> String {
        fingerprint(&self.project.services[name])
    }

    fn namespaces_fingerprint(&self, name: &ServiceName) -> String {
        let own = |name: &ServiceName| (self.namespace_set(name), self.links(name));
        let leader = &self.groups.sources(name).user;
        // With the user namespace of the group all others have to be made anew: they belong to it (user_namespaces(7)).
        if leader == name { fingerprint(&own(name)) } else { fingerprint(&(own(name), own(leader))) }
    }
}

/// A digest of a value's JSON form: equal for equal values, in this version and the next.
fn fingerprint(value: &impl Serialize) -> String {
    let json = serde_json::to_vec(value).expect("plain data without maps of odd keys has a JSON form");
    Sha256::digest(json).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Whether there is a way out of the stack. Without one a default route would make what lies outside waited for; so it is
/// unreachable at once.
const HAS_WAY_OUT: bool = false;

/// A link-local address with the prefix of all of its kind (RFC 3927, RFC 4291).
fn link_local_net(address: IpAddr) -> IpNet {
    IpNet::new(address, if address.is_ipv4() { 16 } else { 64 }).unwrap_or_else(|_| address.into())
}

fn named_volumes(service: &Service) -> impl Iterator<Item = &VolumeName> {
    service.mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Volume(volume) => volume.volume.as_ref(),
        MountSource::Bind(_) | MountSource::Tmpfs(_) => None,
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
        let there = ObservedNetwork { subnets: Vec::new(), config: String::new(), shared: Some(all.clone()) };
        observed.networks.insert("it".parse().expect("a name"), there);
        let gone: ServiceName = gone.parse().expect("a name");
        observed.addresses.entry(gone.clone()).or_default().insert("it".parse().expect("a name"), vec![address]);
        let places = shared_places(&project, &observed, &Intent::default()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(places[&all][&gone].0, [address]);
    }
}
