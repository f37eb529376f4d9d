//! A whole file, resolved.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{Network, NetworkName, ProjectName, Service, ServiceName, UplinkWish, VolumeName};

/// A whole stack as the files describe it: every default filled in, every reference resolved, no dependency cycle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    /// Its name, from `-p`, the file's `name:` or the folder.
    pub name: ProjectName,
    /// Absolute folder that relative paths of the file start from.
    pub directory: PathBuf,
    /// The files it was read from, absolute, in the order in which they were merged.
    pub files: Vec<PathBuf>,
    /// Services by name.
    pub services: BTreeMap<ServiceName, Service>,
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
pub struct Volume {}
