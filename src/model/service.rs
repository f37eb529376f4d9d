//! One service of a file.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    ContainerName, Dependency, Files, Hooks, Image, ImageRequest, LifeSettings, Limits, Logging, Mount, NameSettings,
    NamespaceMode, NetworkAttachment, Port, PreStart, Privileges, ProcessOptions, ServiceName, StopSignal, UserSpec,
};

/// Where the root file system of a service comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rootfs {
    /// The files of the host, copied on write; /home and /root hidden.
    Host,
    /// A folder, copied on write.
    Directory(PathBuf),
    /// A tar archive, plain or gzip, unpacked for the stack.
    Tar(PathBuf),
    /// An image that is yet to be looked for; none is left when there is a plan.
    Image(ImageRequest),
    /// The layers of an image of the store, copied on write.
    Layers(Box<Image>),
}

/// One service, with every default filled in and every reference known to resolve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Where its files come from.
    pub rootfs: Rootfs,
    /// The program with its first arguments; `command` follows it. An empty one is none, and hides that of an image.
    pub entrypoint: Option<Vec<String>>,
    /// The arguments, or the whole command line where there is no entrypoint. An empty one hides that of an image.
    pub command: Option<Vec<String>>,
    /// Environment variables. A name without a value has been looked up in the caller's environment already.
    pub environment: BTreeMap<String, String>,
    /// Variables that it does not have, whatever its image says: their names have no value, and the caller has none for them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub unset: BTreeSet<String>,
    /// Working directory inside the container; none is `/`.
    pub working_dir: Option<PathBuf>,
    /// Who it runs as; none is root of the container.
    pub user: Option<UserSpec>,
    /// What its container is called; none is `PROJECT-SERVICE-1`.
    pub container_name: Option<ContainerName>,
    /// Host name; none is the name of the container.
    pub hostname: Option<String>,
    /// NIS domain name (uname(2)).
    pub domainname: Option<String>,
    /// Volumes and tmpfs, in file order; no two have the same target.
    pub mounts: Vec<Mount>,
    /// What it needs of other services before it is started, beyond that those whose namespaces it shares are; in file
    /// order.
    pub depends_on: Vec<Dependency>,
    /// Networks it is on, in file order; empty unless `network_mode` is private.
    pub networks: Vec<NetworkAttachment>,
    /// Names that it finds besides.
    pub names: NameSettings,
    /// Ports reachable from the host.
    pub ports: Vec<Port>,
    /// Network namespace.
    pub network_mode: NamespaceMode,
    /// IPC namespace, with /dev/shm and /dev/mqueue.
    pub ipc: NamespaceMode,
    /// `ipc:` says that nobody shares it (`private`, `none`), which is more than saying nothing.
    pub private_ipc: bool,
    /// Process ids.
    pub pid: NamespaceMode,
    /// Host name namespace.
    pub uts: NamespaceMode,
    /// Users and groups, and with them all rights over what belongs to the other namespaces.
    pub userns_mode: NamespaceMode,
    /// Which control groups it sees.
    pub cgroup: NamespaceMode,
    /// Run an init as pid 1 that reaps orphans and forwards signals.
    pub init: bool,
    /// The root file system cannot be written to.
    pub read_only: bool,
    /// What it sees besides its mounts.
    #[serde(default, skip_serializing_if = "super::mount::is_default")]
    pub files: Files,
    /// What its processes start with.
    pub process: ProcessOptions,
    /// What it may do.
    pub privileges: Privileges,
    /// What it may use.
    pub limits: Limits,
    /// What becomes of what it writes.
    #[serde(default, skip_serializing_if = "super::mount::is_default")]
    pub logging: Logging,
    /// What asks it to stop; none is SIGTERM, or what its image says.
    pub stop_signal: Option<StopSignal>,
    /// How long it may take to stop before it is killed.
    pub stop_grace_period: Duration,
    /// Commands that are run in it.
    #[serde(default, skip_serializing_if = "super::mount::is_default")]
    pub hooks: Hooks,
    /// Commands that are run to their ends before it is started, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pre_start: Vec<PreStart>,
    /// When it is started again, and how it is looked after its health.
    #[serde(default, skip_serializing_if = "super::mount::is_default")]
    pub life: LifeSettings,
}

impl Service {
    /// How long a service may take to stop when the file does not say (Compose Specification, `stop_grace_period`).
    pub const DEFAULT_STOP_GRACE_PERIOD: Duration = Duration::from_secs(10);

    /// Every service that has to be up before this one: `depends_on` and the owners of shared namespaces.
    pub fn dependencies(&self) -> impl Iterator<Item = &ServiceName> {
        let needed = self.depends_on.iter().map(|dependency| &dependency.service);
        needed.chain(self.sharing().into_iter().filter_map(|(_, mode)| mode.service()))
    }

    /// What it can share with others, each with its key.
    pub fn sharing(&self) -> [(&'static str, &NamespaceMode); 4] {
        [("network_mode", &self.network_mode), ("ipc", &self.ipc), ("pid", &self.pid), ("uts", &self.uts)]
    }
}
