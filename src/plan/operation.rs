//! What a step of a plan does: one effect each.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    path::PathBuf,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::IdMap;
use crate::model::{
    Limits, MacAddress, Mount, NetworkName, Port, Privileges, ProcessOptions, Rootfs, ServiceName, StopSignal,
    UserSpec, VolumeName,
};

/// One effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Make a bridge in the network namespace of the stack; of a network that stacks share, join it, and make its bridge if
    /// nobody has done so.
    CreateNetwork(Bridge),
    /// Make the folder of a named volume.
    CreateVolume(VolumeName),
    /// Write the hosts files that containers see as /etc/hosts, in place: running ones see the change.
    WriteHosts(Vec<HostsFile>),
    /// Make the namespaces that a service owns and pin them.
    CreateNamespaces(NamespaceSet),
    /// Connect the network namespace of a service to a network.
    Attach(Link),
    /// Make the container and start its first process.
    Start(Box<ContainerSpec>),
    /// Ask a container to stop and wait until it has.
    Stop(ServiceName),
    /// Remove what a stopped container leaves: its writable layer, its log, its control group, its ports.
    Remove(ServiceName),
    /// Take a cable away from its bridge, so that its names are free.
    Detach(Cable),
    /// Let go of the namespaces that a service owns.
    RemoveNamespaces(ServiceName),
    /// Remove a named volume with all that is in it.
    RemoveVolume(VolumeName),
    /// Remove a bridge that nothing is connected to any more.
    RemoveNetwork(BridgeRemoval),
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
    /// Make an IPC namespace, with its /dev/shm.
    pub ipc: bool,
    /// Make a host name namespace with this host name.
    pub hostname: Option<String>,
    /// NIS domain name in it.
    pub domainname: Option<String>,
    /// Make a pid namespace with an init of nscompose's own; only where it is shared, since one that is not lives and
    /// dies with its container.
    pub pid: bool,
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

/// The names that a service knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostsFile {
    /// Whose file it is.
    pub service: ServiceName,
    /// Its whole text, hosts(5).
    pub text: String,
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

/// Where a container gets each of its namespaces from. Its mount and control group namespaces are always new.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    /// Owner of the user namespace.
    pub user: ServiceName,
    /// Network.
    pub net: Source,
    /// IPC.
    pub ipc: Source,
    /// Host name.
    pub uts: Source,
    /// Process ids.
    pub pid: Source,
}

/// What a container sees as its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSystem {
    /// Where the root comes from.
    pub rootfs: Rootfs,
    /// The root cannot be written to.
    pub read_only: bool,
    /// Mounts, parents before what lies below them.
    pub mounts: Vec<Mount>,
    /// /dev/shm is there.
    pub shm: bool,
    /// Whose hosts file is seen as /etc/hosts; none is the host's own.
    pub hosts_of: Option<ServiceName>,
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
    /// Pid 1 is an init.
    pub init: bool,
    /// What its processes start with.
    pub process: ProcessOptions,
    /// What they may do.
    pub privileges: Privileges,
    /// What they may use.
    pub limits: Limits,
    /// Ports to publish, and the address in the stack that they lead to.
    pub ports: Vec<Port>,
    /// Address that published ports lead to.
    pub address: Option<IpAddr>,
    /// The network that it is an address of.
    pub address_on: Option<NetworkName>,
    /// What asks it to stop.
    pub stop_signal: StopSignal,
    /// Milliseconds it may take to stop.
    pub stop_grace_ms: u64,
    /// Services it is started after.
    pub dependencies: BTreeSet<ServiceName>,
    /// Fingerprint of the configuration, compared by the next plan.
    pub config: String,
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
            Self::CreateVolume(volume) => write!(f, "create volume {volume}"),
            Self::WriteHosts(files) => {
                write!(f, "write hosts")?;
                files.iter().try_for_each(|file| write!(f, " {}", file.service))
            }
            Self::CreateNamespaces(set) => {
                write!(f, "create namespaces {} user ", set.service)?;
                match &set.user {
                    UserNamespace::Create(map) => write!(f, "{map}")?,
                    UserNamespace::Of(owner) => write!(f, "of {owner}")?,
                }
                for (made, name) in
                    [(set.net, "net"), (set.ipc, "ipc"), (set.hostname.is_some(), "uts"), (set.pid, "pid")]
                {
                    if made {
                        write!(f, " {name}")?;
                    }
                }
                Ok(())
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
                link.default_gateways.iter().try_for_each(|gateway| write!(f, " default via {gateway}"))
            }
            Self::Start(spec) => {
                write!(f, "start {}", spec.service)?;
                for (source, name) in [
                    (&spec.namespaces.net, "net"),
                    (&spec.namespaces.ipc, "ipc"),
                    (&spec.namespaces.uts, "uts"),
                    (&spec.namespaces.pid, "pid"),
                ] {
                    match source {
                        Source::Of(owner) if *owner != spec.service => write!(f, " {name}:{owner}")?,
                        Source::Host => write!(f, " {name}:host")?,
                        Source::Of(_) | Source::New => {}
                    }
                }
                spec.ports.iter().try_for_each(|port| write!(f, " {port}"))
            }
            Self::Stop(service) => write!(f, "stop {service}"),
            Self::Remove(service) => write!(f, "remove {service}"),
            Self::Detach(cable) => write!(f, "detach {} from {}", cable.service, cable.network),
            Self::RemoveVolume(volume) => write!(f, "remove volume {volume}"),
            Self::RemoveNamespaces(service) => write!(f, "remove namespaces {service}"),
            Self::RemoveNetwork(bridge) => write!(f, "remove network {}", bridge.network),
        }
    }
}
