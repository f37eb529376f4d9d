//! Commands that are run in a container at some time of its life, and before it in one of their own.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{Rootfs, UserSpec};

/// One command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Command line, never empty.
    pub command: Vec<String>,
    /// Who it runs as; none is whoever the service runs as.
    pub user: Option<UserSpec>,
    /// It has every capability of the container's user namespace.
    pub privileged: bool,
    /// Where it runs; none is the working directory of the service.
    pub working_dir: Option<PathBuf>,
    /// Added to the environment of the service.
    pub environment: BTreeMap<String, String>,
}

/// A command that runs to its end in a container of its own before the container of the service is started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreStart {
    /// What is run, and how: with all that the service says where the command itself says nothing. Its environment is all of it.
    pub run: Hook,
    /// What comes before the command: that of its image.
    pub entrypoint: Vec<String>,
    /// Where its files come from.
    pub rootfs: Rootfs,
    /// It is run for each replica of the service, and not once for all of them.
    pub per_replica: bool,
}

/// Those that are run in a container, each list in the order in which it is run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hooks {
    /// Once its program runs. It is up when the last of them has ended, with code 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub post_start: Vec<Hook>,
    /// When it is to be stopped, before its program is asked to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pre_stop: Vec<Hook>,
}
