//! What runs of a stack, as one snapshot.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use super::{
    Cgroups, ContainerState, Dependency, Digest, Effective, Health, HostResolver, Life, Network, NetworkName, Origin,
    Port, ProbeLog, ProjectName, Record, Resource, ServiceName, StopSignal, UplinkMeans,
};

/// What there is of a stack at one moment; what `plan` compares a [`super::Project`] with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// The machine and the account.
    pub host: Host,
    /// Containers by service.
    pub containers: BTreeMap<ServiceName, Container>,
    /// Networks whose bridge exists.
    pub networks: BTreeMap<NetworkName, ObservedNetwork>,
    /// Addresses that are given out, by service and network; they stay while the network does.
    pub addresses: BTreeMap<ServiceName, BTreeMap<NetworkName, Vec<IpAddr>>>,
    /// Services whose namespaces exist, with the fingerprint of what was asked of them.
    pub namespaces: BTreeMap<ServiceName, String>,
    /// The fingerprint of what was asked of the way out, once somebody did.
    #[serde(default)]
    pub uplink: Option<String>,
    /// Networks that stacks of the account share, as far as somebody has looked.
    #[serde(default)]
    pub shared: BTreeMap<NetworkName, SharedNetwork>,
}

/// A network that stacks share, made with `nscompose network create`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedNetwork {
    /// What it is like, with its subnets.
    pub network: Network,
    /// Addresses that other stacks have on it, with who has each, as `STACK/SERVICE`.
    pub taken: BTreeMap<IpAddr, String>,
}

/// A bridge that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedNetwork {
    /// Its subnets, at most one of each family.
    pub subnets: Vec<IpNet>,
    /// Name of the interface.
    #[serde(default)]
    pub interface: String,
    /// Fingerprint of what the file said of it.
    pub config: String,
    /// The same in the words of the file.
    #[serde(default)]
    pub record: Record,
    /// The network that stacks share which it is.
    #[serde(default)]
    pub shared: Option<NetworkName>,
}

/// The machine and the account, as far as a plan depends on them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Which user and group ids containers can have.
    pub ids: Ids,
    /// IPv4 destinations that the host has a route for; subnets keep clear of them.
    pub routes: BTreeSet<Ipv4Net>,
    /// How it finds names.
    #[serde(default)]
    pub resolver: HostResolver,
    /// Its host name; empty when it is not known.
    #[serde(default)]
    pub name: String,
    /// Running containers of other stacks whose namespaces the file asks for, by their names. Only whoever plans looks for
    /// them; a supervisor knows of none.
    #[serde(default)]
    pub containers: BTreeMap<String, ContainerElsewhere>,
    /// Security modules of its kernel.
    #[serde(default)]
    pub modules: SecurityModules,
    /// The most that a hard resource limit of a container can be; those that are not here can be anything.
    #[serde(default)]
    pub hard_limits: BTreeMap<Resource, u64>,
    /// What its control groups cannot do.
    #[serde(default)]
    pub cgroups: Cgroups,
    /// The ordinary user whose stack it is; none as root.
    #[serde(default)]
    pub invoker: Option<Invoker>,
    /// What a way out can be made with.
    #[serde(default)]
    pub uplink: UplinkMeans,
}

/// An ordinary user, by the ids of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invoker {
    /// User id.
    pub uid: u32,
    /// Id of the main group.
    pub gid: u32,
}

/// A running container of another stack: its first process, by which its namespaces can be had, and what they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerElsewhere {
    /// Its stack.
    pub project: ProjectName,
    /// Its first process, in the pid namespace of the host.
    pub pid: i32,
    /// When that was started, in clock ticks since boot: with the number it names one process for good.
    pub started: u64,
    /// First id of the host that an id of the container is, and how many there are.
    pub ids: (u32, u32),
    /// Inode of its user namespace.
    pub user: u64,
    /// Its users are those of the host.
    pub host_users: bool,
    /// Inode of its network namespace; none when that is the host's.
    pub net: Option<u64>,
    /// Inode of its IPC namespace, likewise.
    pub ipc: Option<u64>,
    /// Inode of its pid namespace, likewise.
    pub pids: Option<u64>,
    /// Inode of its host name namespace, likewise.
    pub uts: Option<u64>,
    /// Its host name.
    pub hostname: String,
    /// Its file says that nobody shares its IPC namespace.
    pub private_ipc: bool,
}

/// Which of the security modules a kernel has that give programs a profile or a label.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SecurityModules {
    /// AppArmor.
    pub apparmor: bool,
    /// SELinux.
    pub selinux: bool,
}

/// Which user and group ids containers can have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ids {
    /// Run by root: every group of containers gets a range of its own.
    #[default]
    Root,
    /// Run by an ordinary user with a range in /etc/subuid and /etc/subgid: so many ids, root of the container being the
    /// user.
    Range(u32),
    /// Run by an ordinary user without a range: the container has root, which is the user, and nobody else.
    Single,
}

/// One container of a stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Its name, such as `shop-web-1`.
    pub name: String,
    /// Where it is in its life.
    pub state: ContainerState,
    /// What its probes say; none if it has none.
    #[serde(default)]
    pub health: Option<Health>,
    /// What the latest of them found.
    #[serde(default)]
    pub probes: ProbeLog,
    /// How often it has been started again by itself since somebody asked for it.
    #[serde(default)]
    pub restarts: u32,
    /// Its first process, in the pid namespace of the host.
    pub pid: Option<i32>,
    /// Fingerprint of the configuration it was made from.
    pub config: String,
    /// That configuration in the words of its file, and the files.
    #[serde(default)]
    pub origin: Origin,
    /// The image that it runs, if it does.
    #[serde(default)]
    pub image: Option<Digest>,
    /// Services that it was started after; they are stopped after it.
    pub dependencies: BTreeSet<ServiceName>,
    /// What it needs of them.
    #[serde(default)]
    pub depends_on: Vec<Dependency>,
    /// Its file says that nobody shares its IPC namespace.
    #[serde(default)]
    pub private_ipc: bool,
    /// Its command line.
    pub command: Vec<String>,
    /// Its published ports, each with the addresses of the host that really lead to it.
    pub ports: Vec<PublishedPort>,
    /// How it is asked to stop.
    pub stop_signal: StopSignal,
    /// Milliseconds it may take to stop.
    pub stop_grace_ms: u64,
    /// Milliseconds since the Unix epoch at which it was started.
    pub started_ms: i64,
    /// Its limits, as the kernel has them.
    #[serde(default)]
    pub limits: Effective,
    /// How many of its processes the kernel has killed because its memory was used up.
    #[serde(default)]
    pub oom_kills: u64,
}

impl Container {
    /// What others wait for.
    pub fn life(&self) -> Life {
        Life { state: self.state, health: self.health }
    }
}

/// A port of a running container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// What the file says.
    pub port: Port,
    /// Where it listens on the host.
    pub listens_on: Vec<SocketAddr>,
}
