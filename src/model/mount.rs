//! What a service sees at a path other than its root.

use std::{fmt, path::PathBuf};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{DeviceAccess, Digest, Image, ImageRequest, ServiceName, VolumeName};

/// What says nothing is not written.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// One mount of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path inside the container.
    pub target: PathBuf,
    /// What is mounted there.
    pub source: MountSource,
}

/// What a mount shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountSource {
    /// A file or folder of the host.
    Bind(BindMount),
    /// A volume of the file, kept until somebody removes it.
    Volume(VolumeMount),
    /// An empty folder in memory, gone with the container.
    Tmpfs(TmpfsMount),
    /// A config or a secret.
    Grant(Grant),
    /// The files of an image, which can only be read.
    Image(ImageMount),
}

/// A file or folder of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindMount {
    /// Absolute path on the host.
    pub source: PathBuf,
    /// Nothing can be written through it, submounts included.
    pub read_only: bool,
    /// Make a folder where the source does not exist, as Compose does for the short form.
    pub create_host_path: bool,
    /// Whether mounts that are made later are seen on the other side.
    #[serde(default, skip_serializing_if = "is_default")]
    pub propagation: Propagation,
    /// What becomes of the mounts below the source.
    #[serde(default, skip_serializing_if = "is_default")]
    pub submounts: Submounts,
}

/// Whether a mount that is made below one side of a bind mount later is seen on the other (mount_namespaces(7)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Propagation {
    /// Neither way.
    #[default]
    Private,
    /// What the host mounts is seen in the container.
    Slave,
    /// Both ways.
    Shared,
}

/// What becomes of the mounts below the source of a bind mount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Submounts {
    /// They come along, and cannot be written to where the mount itself cannot.
    #[default]
    Follow,
    /// They come along as they are, also where the mount itself cannot be written to.
    Writable,
    /// They stay away: the folder that they cover is seen.
    Left,
}

/// A named volume, or an anonymous one that goes with its container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeMount {
    /// The declared volume; none is an anonymous one.
    pub volume: Option<VolumeName>,
    /// Nothing can be written through it.
    pub read_only: bool,
    /// What the image has at that place is not copied into it while it is new.
    pub nocopy: bool,
    /// The part of it that is mounted, relative and without `..`; none is all of it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub subpath: Option<PathBuf>,
    /// An anonymous one is not the service's own but the one that this service has at this place.
    #[serde(default, skip_serializing_if = "is_default")]
    pub of: Option<(ServiceName, PathBuf)>,
    /// What it gets while it is new.
    #[serde(default, skip_serializing_if = "is_default")]
    pub beginning: Beginning,
}

/// What a volume gets from a container while it is new.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Beginning {
    /// A copy of what the image has at its place; where that has nothing, it becomes that of the user of the container.
    #[default]
    Usual,
    /// The same copy. Whose it is to be another container says, which is started later.
    Ownerless,
    /// Another container has had it before. It may be empty still, and be somebody's: if it is neither filled nor anybody's, it
    /// becomes that of the user of the container.
    Made,
}

impl VolumeMount {
    /// One without a name, which goes with its container.
    pub fn anonymous() -> Self {
        Self { volume: None, read_only: false, nocopy: false, subpath: None, of: None, beginning: Beginning::Usual }
    }
}

/// An empty folder in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TmpfsMount {
    /// Upper bound in bytes; none leaves the kernel's default of half the memory (tmpfs(5)).
    pub size: Option<u64>,
    /// Upper bound in blocks of a page each; none leaves it to `size`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub blocks: Option<u64>,
    /// Upper bound of the number of files; none leaves the kernel's default, 0 is none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub inodes: Option<u64>,
    /// Permission bits of its root, such as `0o1777`; none means 1777.
    pub mode: Option<u32>,
    /// Who its root belongs to, an id of the container; none means root.
    #[serde(default, skip_serializing_if = "is_default")]
    pub uid: Option<u32>,
    /// The group that its root belongs to, an id of the container; none means root's.
    #[serde(default, skip_serializing_if = "is_default")]
    pub gid: Option<u32>,
    /// Nothing can be written to it.
    pub read_only: bool,
    /// Nothing in it can be run.
    #[serde(default, skip_serializing_if = "is_default")]
    pub noexec: bool,
    /// Set-user-id programs in it change who they run as.
    #[serde(default, skip_serializing_if = "is_default")]
    pub suid: bool,
    /// When times of last access are written down.
    #[serde(default, skip_serializing_if = "is_default")]
    pub atime: Atime,
}

/// When times of last access are written down (mount(8)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Atime {
    /// When the last one is older than the last change, or a day old.
    #[default]
    Relative,
    /// Never.
    Never,
    /// Never for folders, else as [`Atime::Relative`].
    NotOfFolders,
    /// At each access.
    Always,
}

/// The files of an image, or some of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageMount {
    /// Which image.
    pub image: MountedImage,
    /// The part of it that is mounted, relative and without `..`; none is all of it.
    pub subpath: Option<PathBuf>,
}

/// An image that is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountedImage {
    /// One that is yet to be looked for; none is left when there is a plan.
    Wanted(ImageRequest),
    /// One of the store.
    Here(Box<Image>),
}

/// A config or a secret as a file that can only be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// What messages call it, such as `secret token`.
    pub name: String,
    /// What the file says.
    pub source: GrantSource,
    /// Digest of what it says: where that changes, the container is made anew.
    pub digest: Digest,
}

/// Where the contents of a config or a secret come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantSource {
    /// The file of the host itself, as it is.
    File(PathBuf),
    /// A file of its own in memory.
    Copy {
        /// What it says.
        contents: Contents,
        /// Who it belongs to, an id of the container; none is who the service runs as.
        uid: Option<u32>,
        /// The group that it belongs to, an id of the container; none is that of who the service runs as.
        gid: Option<u32>,
        /// Permission bits.
        mode: u32,
    },
}

/// Bytes that nobody but their reader is to see: neither `Debug` nor a message shows them.
#[derive(Clone, PartialEq, Eq)]
pub struct Contents(pub Vec<u8>);

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Contents({} bytes)", self.0.len())
    }
}

impl Serialize for Contents {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Contents {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64_STANDARD.decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// A device of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Absolute path on the host; a folder stands for all devices below it.
    pub source: PathBuf,
    /// Absolute path in the container.
    pub target: PathBuf,
    /// What may be done with it.
    pub access: DeviceAccess,
}

/// Another service whose volumes and bind mounts a service has as well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumesFrom {
    /// The other one.
    pub service: ServiceName,
    /// Nothing can be written through them.
    pub read_only: bool,
}

/// What a service sees of the host, of memory and of other services besides its mounts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// Size of /dev/shm in bytes, where it has an IPC namespace of its own; none is 64 MiB.
    #[serde(default, skip_serializing_if = "is_default")]
    pub shm_size: Option<u64>,
    /// Devices, in file order; no two at one place.
    #[serde(default, skip_serializing_if = "is_default")]
    pub devices: Vec<Device>,
    /// Services whose mounts it has as well, in file order.
    #[serde(default, skip_serializing_if = "is_default")]
    pub volumes_from: Vec<VolumesFrom>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_not_shown() {
        let contents = Contents(b"hunter2\xff".to_vec());
        assert!(!format!("{contents:?}").contains("hunter2"));
        let json = serde_json::to_string(&contents).expect("a string");
        assert!(!json.contains("hunter2"));
        assert_eq!(serde_json::from_str::<Contents>(&json).expect("read"), contents);
    }
}
