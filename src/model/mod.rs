//! The vocabulary of a stack: what a Compose file says, as types that exist only when they are valid.
//!
//! ```text
//! Project ─┬─ Service ─┬─ NamespaceMode (network, ipc, pid, uts, user, cgroup)
//!          │           ├─ Mount, Port, NetworkAttachment
//!          │           └─ StopSignal, UserSpec, Rootfs
//!          ├─ Network
//!          └─ Volume
//! Observed ── Container ── Life, Host
//! ```
//!
//! Nothing here does I/O. Every reference inside a [`Project`] (a service that another one depends on, a network that a
//! service joins) is known to resolve: `load` is the only maker, and it refuses a file in which one does not.

mod capability;
mod dependency;
mod health;
mod hook;
mod image;
mod life;
mod limits;
mod logging;
mod mount;
mod name;
mod namespace_mode;
mod namespaces;
mod naming;
mod network;
mod observed;
mod origin;
mod port;
mod privileges;
mod process_options;
mod project;
mod restart;
mod seccomp;
mod service;
mod service_name;
mod signal;
mod uplink;
mod user;

pub use capability::{Capabilities, Capability, UnknownCapability};
pub use dependency::{Condition, Dependency};
pub use health::{HealthCheck, HealthSettings, HealthTest, InvalidListeningPort, ListeningPort, ProbeLog, ProbeResult};
pub use hook::{Hook, Hooks, PreStart};
pub use image::{
    Digest, Image, ImageConfig, ImageHealthcheck, ImageName, ImageRequest, ImageSource, InArchive, InvalidDigest,
    InvalidImageName, InvalidImageSource, InvalidPlatform, InvalidPullPolicy, NoCommand, Platform, PullPolicy,
};
pub use life::{ContainerState, Health, Life};
pub use limits::{
    Bandwidth, Cgroups, CpuLimits, CpuList, DeviceAccess, DeviceKind, DeviceRule, DeviceValue, Effective,
    InvalidCpuList, InvalidDeviceRule, IoLimits, Lack, Limits, MemoryLimits, RealTime, Setting, Swap, Usage,
};
pub use logging::{InvalidLogTag, LogSettings, LogTag, Logging};
pub use mount::{
    Atime, Beginning, BindMount, Contents, Device, Files, Grant, GrantSource, ImageMount, Mount, MountSource,
    MountedImage, Propagation, Submounts, TmpfsMount, VolumeMount, VolumesFrom,
};
pub use name::{ContainerName, InvalidName, NetworkName, ProjectName, VolumeName};
pub use namespace_mode::NamespaceMode;
pub use namespaces::{Inodes, Namespaces, ServiceNamespaces};
pub use naming::{HostAddress, HostResolver, NameSettings, RESOLVER};
pub use network::{
    AddressPool, Addressing, BridgeOptions, Family, InvalidAddressPool, InvalidMacAddress, MacAddress, Network,
    NetworkAttachment, is_interface_name,
};
pub use observed::{
    Container, ContainerElsewhere, Host, Ids, Invoker, Observed, ObservedNetwork, PublishedPort, SecurityModules,
    SharedNetwork,
};
pub use origin::{Origin, Record, Recorded};
pub use port::{InvalidPort, Port, Protocol};
pub use privileges::{Privileges, SelinuxLabel};
pub use process_options::{
    ProcessOptions, Resource, ResourceLimit, Sysctls, UnknownResource, is_of_interface, limit_text,
};
pub use project::{Project, Volume, VolumeSource};
pub use restart::{InvalidRestart, LifePolicy, LifeSettings, RestartCondition, RestartPolicy};
pub use seccomp::{
    Comparison, KernelVersion, Seccomp, SeccompAction, SeccompArch, SeccompCondition, SeccompProfile, SeccompRule,
    When, X32_BIT, is_syscall, syscall_number,
};
pub use service::{Rootfs, Service};
pub use service_name::ServiceName;
pub use signal::{InvalidSignal, StopSignal};
pub use uplink::{HOST_GATEWAY, UPLINK_INTERFACE, UplinkMeans, UplinkWish};
pub use user::{InvalidUser, UserSpec};
