//! A whole file, resolved.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{Network, NetworkName, ProjectName, Service, ServiceName, TmpfsMount, UplinkWish, VolumeName};

/// A whole stack as the files describe it: every default filled in, every reference resolved, no dependency cycle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    /// Its name, from `-p`, the file's `name:` or the folder.
    pub name: ProjectName,
    /// Absolute folder that relative paths of the file start from.
    pub directory: PathBuf,
    /// The files it was read from, absolute, in the order in which they were merged.
    pub files: Vec<PathBuf>,
    /// Services by name; after [`crate::plan::expand`], each of their replicas.
    pub services: BTreeMap<ServiceName, Service>,
    /// How many containers services have that have not just one.
    #[serde(default, skip_serializing_if = "super::mount::is_default")]
    pub replicas: BTreeMap<ServiceName, u32>,
    /// Networks that at least one service is on, or that the file declares.
    pub networks: BTreeMap<NetworkName, Network>,
    /// Declared volumes.
    pub volumes: BTreeMap<VolumeName, Volume>,
    /// Its way out.
    #[serde(default)]
    pub uplink: UplinkWish,
}

/// A volume of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its whole name, which other stacks know it by too; none is one of the stack's own, named after both.
    #[serde(default, skip_serializing_if = "super::mount::is_default")]
    pub name: Option<VolumeName>,
    /// It has to be there already, and is not removed with the stack.
    #[serde(default, skip_serializing_if = "super::mount::is_default")]
    pub external: bool,
    /// What it is.
    #[serde(default, skip_serializing_if = "super::mount::is_default")]
    pub source: VolumeSource,
}

/// What a volume is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeSource {
    /// A folder that nscompose keeps.
    #[default]
    Kept,
    /// A folder of the host, which is there and stays there.
    Folder(PathBuf),
    /// Files in memory that go with the stack, shared by all services that have them mounted.
    Memory(TmpfsMount),
}
