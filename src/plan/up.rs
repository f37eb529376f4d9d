//! Bringing a stack up: only what differs is touched, and each step says why.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{
    Bridge, Cable, ContainerSpec, FileSystem, IdMap, Link, NamespaceSet, Operation, Plan, Source, StepId,
    UserNamespace,
    address::{self, Addresses, NoAddress},
    down::stop_and_remove,
    group::Groups,
    hosts,
    ids::IdRanges,
    uplink,
};
use crate::model::{
    ContainerState, MountSource, NamespaceMode, NetworkName, Observed, Project, Rootfs, Service, ServiceName,
    VolumeName,
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
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::UnknownService(_) | Self::NoAddress(_) | Self::SingleId { .. } => None,
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
        Ok(Self { addresses: Addresses::choose(project, observed)?, project, observed, groups, ids, wanted })
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
            Operation::WriteHosts(hosts::files(self.project, &self.groups, &self.addresses, |name| {
                uplink::network_of(self.project, &self.observed.host, name).is_some()
            })),
            "containers look names up there",
            [],
        );

        let bridges = self.observed.networks.keys().chain(networks.keys().copied());
        let wish = uplink::wish(self.project, self.observed, bridges, bridge_name, fingerprint);
        let connected =
            wish.map(|wish| plan.add(Operation::Connect(wish), "networks lead out", networks.values().copied()));

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
            after.extend(connected);
            after.extend(named_volumes(service).filter_map(|volume| volumes.get(volume)));
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
                mtu: uplink::mtu(self.project, &self.observed.host, network),
            };
            made.insert(network, plan.add(Operation::CreateNetwork(bridge), format!("{first} is on it"), []));
        }
        made
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
        let attachments = self.project.services[name].networks.iter().enumerate();
        let way_out = uplink::network_of(self.project, &self.observed.host, name);
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
                    // Without a way out there is none: what lies outside is unreachable at once then, and not waited for.
                    default_gateway: (way_out == Some(network)).then(|| gateway.addr().into()),
                    mtu: uplink::mtu(self.project, &self.observed.host, network),
                })
            })
            .collect()
    }

    fn container(&self, name: &ServiceName) -> ContainerSpec {
        let service = &self.project.services[name];
        let sources = self.groups.sources(name);
        let mut mounts = service.mounts.clone();
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
            ports: service.ports.clone(),
            address: address.map(Into::into),
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
        fingerprint(&(self.namespace_set(name), self.links(name)))
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
