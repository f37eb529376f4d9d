//! What a service sees at a path other than its root.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::VolumeName;

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
}

impl VolumeMount {
    /// One without a name, which goes with its container.
    pub fn anonymous() -> Self {
        Self { volume: None, read_only: false, nocopy: false }
    }
}

/// An empty folder in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TmpfsMount {
    /// Upper bound in bytes; none leaves the kernel's default of half the memory (tmpfs(5)).
    pub size: Option<u64>,
    /// Permission bits of its root, such as `0o1777`; none means 1777.
    pub mode: Option<u32>,
    /// Nothing can be written to it.
    pub read_only: bool,
}
