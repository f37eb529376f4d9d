//! The vocabulary of a stack: what a Compose file says, as types that exist only when they are valid.
//!
//! ```text
//! Project ─┬─ Service ─┬─ NamespaceMode (network, ipc, pid, uts)
//!          │           ├─ Mount, Port, NetworkAttachment
//!          │           └─ StopSignal, UserSpec, Rootfs
//!          ├─ Network
//!          └─ Volume
//! Observed ── Container, ContainerState, Host
//! ```
//!
//! Nothing here does I/O. Every reference inside a [`Project`] (a service that another one depends on, a network that a
//! service joins) is known to resolve: `load` is the only maker, and it refuses a file in which one does not.

mod image;
mod limits;
mod mount;
mod name;
mod namespace_mode;
mod network;
mod observed;
mod port;
mod privileges;
mod process_options;
mod project;
mod service;
mod signal;
mod user;

pub use image::{
    Digest, Image, ImageConfig, ImageHealthcheck, ImageName, ImageRequest, ImageSource, InArchive, InvalidDigest,
    InvalidImageName, InvalidImageSource, InvalidPlatform, InvalidPullPolicy, NoCommand, Platform, PullPolicy,
};
pub use limits::Limits;
pub use mount::{BindMount, Mount, MountSource, TmpfsMount, VolumeMount};
pub use name::{InvalidName, NetworkName, ProjectName, ServiceName, VolumeName};
pub use namespace_mode::NamespaceMode;
pub use network::{
    AddressPool, Addressing, BridgeOptions, Family, InvalidAddressPool, InvalidMacAddress, MacAddress, Network,
    NetworkAttachment, is_interface_name,
};
pub use observed::{Container, ContainerState, Host, Ids, Observed, ObservedNetwork, PublishedPort, SharedNetwork};
pub use port::{InvalidPort, Port, Protocol};
pub use privileges::Privileges;
pub use process_options::ProcessOptions;
pub use project::{Project, Volume};
pub use service::{Rootfs, Service};
pub use signal::{InvalidSignal, StopSignal};
pub use user::{InvalidUser, UserSpec};
