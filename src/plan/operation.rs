//! What a step of a plan does: one effect each.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::{IdMap, Names, Wait};
use crate::model::{
    Dependency, Device, DeviceRule, Hooks, Image, Invoker, LifePolicy, Limits, LogSettings, MacAddress, Mount,
    NetworkName, Origin, Port, Privileges, ProcessOptions, ProjectName, Record, Rootfs, ServiceName, StopSignal,
    Sysctls, UplinkMeans, UserSpec, Volume, VolumeName,
};

/// One effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Make a bridge in the network namespace of the stack; of a network that stacks share, join it, and make its bridge if
    /// nobody has done so.
    CreateNetwork(Bridge),
    /// Make a named volume, or see that it is there.
    CreateVolume(VolumeName, Volume),
    /// Say by which names containers are found, and write what they see as /etc/hosts and /etc/resolv.conf, in place:
    /// running ones see the change.
    SetNames(Names),
    /// Ask the service manager of the account for a control group that limits can be set in.
    AskForGroup,
    /// Make the namespaces that a service owns and pin them.
    CreateNamespaces(NamespaceSet),
    /// Connect the network namespace of a service to a network.
    Attach(Link),
    /// Make ready all that a container is made of, and start nothing in it.
    Create(Box<ContainerSpec>),
    /// Make the container and start its first process.
    Start(Box<ContainerSpec>),
    /// Start a container that is there and does not run, from what it was made from.
    StartAgain(ServiceName),
    /// The same, and those that are started again with it are left alone this time.
    StartAlone(ServiceName),
    /// Wait until a container is as far as others need it.
    WaitFor(Wait),
    /// Ask a container to stop and wait until it has.
    Stop(ServiceName),
    /// The same, with so many milliseconds to do so instead of what its file said.
    StopWithin(ServiceName, u64),
    /// Send a signal to the first process of a container; with SIGKILL, wait until it has ended.
    Kill(ServiceName, StopSignal),
    /// Freeze the processes of a container.
    Pause(ServiceName),
    /// Let the processes of a container go on.
    Unpause(ServiceName),
    /// Remove what a stopped container leaves: its writable layer, its log, its control group, its ports.
    Remove(ServiceName),
    /// The same, but for its anonymous volumes: the next container of the service has them.
    RemoveButVolumes(ServiceName),
    /// Take a cable away from its bridge, so that its names are free.
    Detach(Cable),
    /// Let go of the namespaces that a service owns.
    RemoveNamespaces(ServiceName),
    /// Remove a named volume with all that is in it.
    RemoveVolume(VolumeName, Volume),
    /// Remove a bridge that nothing is connected to any more.
    RemoveNetwork(BridgeRemoval),
    /// Make the way out of the stack, or tell the one that there is of new networks.
    Connect(Uplink),
}

/// A bridge, with the addresses that the stack itself has on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    /// The network of the file.
    pub network: NetworkName,
    /// The network that stacks share which it is; none is one of the stack's own.
    pub shared: Option<NetworkName>,
    /// Name of the interface, at most 15 bytes (IFNAMSIZ).
    pub interface: String,
    /// Its addresses with the prefix length of their subnets, at most one of each family.
    pub gateways: Vec<IpNet>,
    /// Nothing is led out of the stack from it.
    pub internal: bool,
    /// What is led out of the stack from it has the address of the host.
    pub masquerade: bool,
    /// Largest packet; none is the kernel's choice.
    pub mtu: Option<u32>,
    /// Fingerprint of all this, compared by the next plan.
    pub config: String,
    /// The same in the words of the file.
    #[serde(default, skip_serializing_if = "Record::is_empty")]
    pub record: Record,
}

/// A bridge that goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeRemoval {
    /// The network of the file.
    pub network: NetworkName,
}

/// Which user namespace a service lives in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserNamespace {
    /// A new one, with this mapping of ids.
    Create(IdMap),
    /// That of the group it belongs to, made for this service.
    Of(ServiceName),
    /// That of whoever makes the stack: for root of the machine the host's, for an ordinary user that of the stack.
    Host,
    /// That of a container of another stack.
    Elsewhere(Foreign),
}

/// A namespace of a container of another stack, which is had by its first process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foreign {
    /// What the container is called.
    pub container: String,
    /// Its stack.
    pub project: ProjectName,
    /// Its first process, and when that was started, in clock ticks since boot.
    pub process: (i32, u64),
    /// Inode of the namespace.
    pub inode: u64,
}

impl Foreign {
    /// The namespace alone, whichever process it is had by.
    pub(super) fn lasting(&self) -> Self {
        Self { process: (0, 0), ..self.clone() }
    }
}

/// Kinds of namespace that services share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shared {
    /// Network.
    Net,
    /// IPC, with /dev/shm.
    Ipc,
    /// Host name.
    Uts,
    /// Process ids.
    Pid,
}

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Net => "net",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Pid => "pid",
        })
    }
}

/// The namespaces that a service owns, made before it is started and kept when it is restarted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceSet {
    /// The owner.
    pub service: ServiceName,
    /// The user namespace that the others belong to.
    pub user: UserNamespace,
    /// Make a network namespace.
    pub net: bool,
    /// There is a name server in it.
    pub resolver: bool,
    /// Make an IPC namespace, with its /dev/shm.
    pub ipc: bool,
    /// Make a host name namespace with this host name.
    pub hostname: Option<String>,
    /// Size of its /dev/shm in bytes; none is 64 MiB.
    pub shm_size: Option<u64>,
    /// NIS domain name in it.
    pub domainname: Option<String>,
    /// Make a pid namespace with an init of nscompose's own; only where it is shared, since one that is not lives and
    /// dies with its container.
    pub pid: bool,
    /// Those that are held and not made: they are of containers of other stacks.
    pub elsewhere: BTreeMap<Shared, Foreign>,
    /// Settings of the kernel for the network and the IPC namespace. Those of an interface are set when it is there, by the
    /// container.
    #[serde(default)]
    pub sysctls: Sysctls,
    /// Fingerprint of all this and of the links, compared by the next plan.
    pub fingerprint: String,
}

/// One end of a virtual cable: an interface in the network namespace of a service, the other end on a bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Who owns the network namespace.
    pub service: ServiceName,
    /// The network of the file.
    pub network: NetworkName,
    /// The bridge.
    pub bridge: String,
    /// Name of the end on the bridge, at most 15 bytes.
    pub bridge_end: String,
    /// Name of the end in the container.
    pub interface: String,
    /// Its addresses, with the prefix lengths of their subnets: at most one of each family.
    pub addresses: Vec<IpNet>,
    /// Further ones, that reach no further than the network.
    pub link_local: Vec<IpNet>,
    /// Where everything else is sent: at most one of each family, and on one link of a service.
    pub default_gateways: Vec<IpAddr>,
    /// Single addresses that are behind a gateway although those of the service have it look for them next door.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Hardware address of the end in the container; none lets the kernel choose.
    pub mac: Option<MacAddress>,
    /// Largest packet; none is the kernel's choice.
    pub mtu: Option<u32>,
    /// Others on the bridge are not reached, but for the bridge itself.
    pub isolated: bool,
    /// Kernel parameters of the end in the container: paths below /proc/sys, and values.
    pub sysctls: BTreeMap<String, String>,
    /// Fingerprint of the bridge that it is on.
    pub bridge_config: String,
}

/// The way to one address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The address.
    pub to: IpAddr,
    /// The gateway that leads there.
    pub via: IpAddr,
}

/// The way out of a stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uplink {
    /// What it is made with.
    pub means: UplinkMeans,
    /// Addresses of its end in the stack, with the prefix that both ends are in; the other end has the address before. The
    /// first is taken that is free on the host at that moment.
    pub addresses: Vec<Ipv4Net>,
    /// The same for IPv6; none if no network that leads out has it.
    #[serde(default)]
    pub addresses_v6: Vec<Ipv6Net>,
    /// The address at which containers reach the host itself.
    pub host_gateway: Ipv4Addr,
    /// Every bridge of the stack.
    pub bridges: Vec<UplinkBridge>,
    /// Fingerprint of all this, compared by the next plan.
    pub fingerprint: String,
}

/// A bridge of the stack, as its uplink sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UplinkBridge {
    /// Name of the interface.
    pub interface: String,
    /// Whether what is on it may go out.
    pub leads_out: bool,
    /// Fingerprint of the bridge: one that is made anew forwards nothing until it is told to.
    pub config: String,
}

/// A cable that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cable {
    /// Who owns the network namespace that it leads to.
    pub service: ServiceName,
    /// The network of the file.
    pub network: NetworkName,
    /// Name of the end on the bridge.
    pub bridge_end: String,
}

/// Where a container gets one of its namespaces from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A new one, made with the container and gone with it.
    New,
    /// The pinned one of this service, which may be the container's own.
    Of(ServiceName),
    /// That of the host.
    Host,
}

/// Where a container gets each of its namespaces from. Its mount namespace is always new.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    /// Users, which is never new: the others belong to it.
    pub user: Source,
    /// Network.
    pub net: Source,
    /// IPC.
    pub ipc: Source,
    /// Host name.
    pub uts: Source,
    /// Process ids.
    pub pid: Source,
    /// Control groups, a new one or that of the host.
    pub cgroup: Source,
}

/// What a container sees as its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSystem {
    /// Where the root comes from.
    pub rootfs: Rootfs,
    /// The image that new volumes get their first contents from instead: that of the service, for what runs before it on another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes_image: Option<Box<Image>>,
    /// The root cannot be written to.
    pub read_only: bool,
    /// Mounts, parents before what lies below them.
    pub mounts: Vec<Mount>,
    /// What the named volumes among them are.
    pub volumes: BTreeMap<VolumeName, Volume>,
    /// Devices of the host.
    pub devices: Vec<Device>,
    /// /dev/shm is there.
    pub shm: bool,
    /// Nobody else may have the IPC namespace.
    pub private_ipc: bool,
    /// Whose names are seen, as /etc/hosts and /etc/resolv.conf; none is the host's own.
    pub names_of: Option<ServiceName>,
    /// Lines of hosts(5) besides the host's own, where those are seen.
    pub hosts_besides: String,
    /// That service has its network from a container of another stack, and the hosts file with it.
    pub hosts_elsewhere: bool,
}

/// One container with every choice made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// The service it is a container of.
    pub service: ServiceName,
    /// Its name, such as `shop-web-1`.
    pub name: String,
    /// Its host name, as the environment variable HOSTNAME has it.
    pub hostname: String,
    /// Command line, never empty.
    pub argv: Vec<String>,
    /// Environment as the file says; PATH, HOME and HOSTNAME are added where it does not.
    pub environment: BTreeMap<String, String>,
    /// Variables that it does not have although others would be given them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub unset: BTreeSet<String>,
    /// Working directory.
    pub working_dir: PathBuf,
    /// Who it runs as.
    pub user: Option<UserSpec>,
    /// Its files.
    pub files: FileSystem,
    /// Its namespaces.
    pub namespaces: Sources,
    /// Ids that exist in it.
    pub ids: IdMap,
    /// It runs as the ordinary user whose stack it is, by number: what it writes is theirs.
    pub invoker: Option<Invoker>,
    /// Pid 1 is an init.
    pub init: bool,
    /// What its processes start with.
    pub process: ProcessOptions,
    /// What they may do.
    pub privileges: Privileges,
    /// What they may use.
    pub limits: Limits,
    /// What becomes of what they write.
    pub logging: LogSettings,
    /// The devices that they may use, as rules that allow; none leaves all to the permissions of their nodes.
    pub devices: Option<Vec<DeviceRule>>,
    /// Ports to publish, and the address in the stack that they lead to.
    pub ports: Vec<Port>,
    /// Address that published ports lead to.
    pub address: Option<IpAddr>,
    /// The network that it is an address of.
    pub address_on: Option<NetworkName>,
    /// Where they lead instead for clients that come by IPv6 and keep their address on the way.
    #[serde(default)]
    pub address_v6: Option<Ipv6Addr>,
    /// What asks it to stop.
    pub stop_signal: StopSignal,
    /// Milliseconds it may take to stop.
    pub stop_grace_ms: u64,
    /// When it is started again, and how it is looked after its health.
    #[serde(default)]
    pub life: LifePolicy,
    /// Services it is started after.
    pub dependencies: BTreeSet<ServiceName>,
    /// What it needs of them, and which it is started again with.
    #[serde(default)]
    pub depends_on: Vec<Dependency>,
    /// Commands that are run in it.
    #[serde(default)]
    pub hooks: Hooks,
    /// Fingerprint of the configuration, compared by the next plan.
    pub config: String,
    /// The same in the words of the file, for people.
    #[serde(default)]
    pub origin: Origin,
}

impl ContainerSpec {
    /// The services that it is started again with.
    pub fn restart_with(&self) -> impl Iterator<Item = &ServiceName> {
        self.depends_on.iter().filter(|dependency| dependency.restart).map(|dependency| &dependency.service)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateNetwork(bridge) => {
                match &bridge.shared {
                    None => write!(f, "create network {} {}", bridge.network, bridge.interface)?,
                    Some(shared) => {
                        write!(f, "join network {} of all stacks {shared} {}", bridge.network, bridge.interface)?
                    }
                }
                bridge.gateways.iter().try_for_each(|gateway| write!(f, " {gateway}"))?;
                if let Some(mtu) = bridge.mtu {
                    write!(f, " mtu {mtu}")?;
                }
                let flags = [(bridge.internal, " internal"), (!bridge.masquerade, " not masqueraded")];
                flags.iter().filter(|(set, _)| *set).try_for_each(|(_, word)| f.write_str(word))
            }
            Self::CreateVolume(volume, _) => write!(f, "create volume {volume}"),
            Self::SetNames(names) => {
                write!(f, "set names")?;
                names.clients.iter().try_for_each(|client| write!(f, " {}", client.service))
            }
            Self::AskForGroup => write!(f, "ask for a control group"),
            Self::CreateNamespaces(set) => {
                write!(f, "create namespaces {} user ", set.service)?;
                match &set.user {
                    UserNamespace::Create(map) => write!(f, "{map}")?,
                    UserNamespace::Of(owner) => write!(f, "of {owner}")?,
                    UserNamespace::Host => write!(f, "of the host")?,
                    UserNamespace::Elsewhere(foreign) => write!(f, "of container {}", foreign.container)?,
                }
                for (made, name) in
                    [(set.net, "net"), (set.ipc, "ipc"), (set.hostname.is_some(), "uts"), (set.pid, "pid")]
                {
                    if made {
                        write!(f, " {name}")?;
                    }
                }
                set.elsewhere.iter().try_for_each(|(kind, of)| write!(f, " {kind}:container:{}", of.container))
            }
            Self::Attach(link) => {
                write!(f, "attach {} to {} {}", link.service, link.network, link.interface)?;
                link.addresses.iter().chain(&link.link_local).try_for_each(|address| write!(f, " {address}"))?;
                if let Some(mac) = link.mac {
                    write!(f, " mac {mac}")?;
                }
                if link.isolated {
                    write!(f, " isolated")?;
                }
                link.sysctls.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))?;
                link.default_gateways.iter().try_for_each(|gateway| write!(f, " default via {gateway}"))?;
                link.routes.iter().try_for_each(|route| write!(f, " {} via {}", route.to, route.via))
            }
            Self::Create(spec) | Self::Start(spec) => {
                let verb = if matches!(self, Self::Create(_)) { "create" } else { "start" };
                write!(f, "{verb} {}", spec.service)?;
                for (source, name) in [
                    (&spec.namespaces.net, "net"),
                    (&spec.namespaces.ipc, "ipc"),
                    (&spec.namespaces.uts, "uts"),
                    (&spec.namespaces.pid, "pid"),
                    (&spec.namespaces.cgroup, "cgroup"),
                ] {
                    match source {
                        Source::Of(owner) if *owner != spec.service => write!(f, " {name}:{owner}")?,
                        Source::Host => write!(f, " {name}:host")?,
                        Source::Of(_) | Source::New => {}
                    }
                }
                spec.ports.iter().try_for_each(|port| write!(f, " {port}"))
            }
            Self::StartAgain(service) => write!(f, "start {service} again"),
            Self::StartAlone(service) => write!(f, "start {service} again alone"),
            Self::WaitFor(wait) => {
                write!(f, "wait for {} {}", wait.service, wait.until)?;
                if let Some(within) = wait.within_ms {
                    write!(f, " within {} s", within.div_ceil(1000))?;
                }
                if wait.required { Ok(()) } else { f.write_str(" or not") }
            }
            Self::Stop(service) => write!(f, "stop {service}"),
            Self::StopWithin(service, ms) => write!(f, "stop {service} within {ms} ms"),
            Self::Kill(service, signal) => write!(f, "send {signal} to {service}"),
            Self::Pause(service) => write!(f, "pause {service}"),
            Self::Unpause(service) => write!(f, "unpause {service}"),
            Self::Remove(service) => write!(f, "remove {service}"),
            Self::RemoveButVolumes(service) => write!(f, "remove {service} but its anonymous volumes"),
            Self::Detach(cable) => write!(f, "detach {} from {}", cable.service, cable.network),
            Self::RemoveVolume(volume, _) => write!(f, "remove volume {volume}"),
            Self::RemoveNamespaces(service) => write!(f, "remove namespaces {service}"),
            Self::Connect(uplink) => {
                match &uplink.means {
                    UplinkMeans::None => write!(f, "connect none")?,
                    UplinkMeans::Veth { .. } => write!(f, "connect veth")?,
                    UplinkMeans::Pasta { .. } => write!(f, "connect pasta")?,
                    UplinkMeans::Missing { program, .. } => write!(f, "connect none, {program} is missing")?,
                }
                if let Some(address) = uplink.addresses.first() {
                    write!(f, " {address}")?;
                }
                if let Some(address) = uplink.addresses_v6.first() {
                    write!(f, " {address}")?;
                }
                uplink.bridges.iter().filter(|bridge| bridge.leads_out).try_for_each(|b| write!(f, " {}", b.interface))
            }
            Self::RemoveNetwork(bridge) => write!(f, "remove network {}", bridge.network),
        }
    }
}
