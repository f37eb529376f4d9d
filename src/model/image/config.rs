//! What an image says about running it.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::model::{StopSignal, UserSpec};

/// The part of an image's configuration that counts when it is run (OCI Image Configuration, `config`). A Compose file's
/// own keys go before it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// `Entrypoint`: the program with its first arguments; may be empty.
    pub entrypoint: Vec<String>,
    /// `Cmd`: the arguments, or the whole command line where there is no entrypoint.
    pub command: Vec<String>,
    /// `Env`.
    pub environment: BTreeMap<String, String>,
    /// `WorkingDir`.
    pub working_dir: Option<PathBuf>,
    /// `User`.
    pub user: Option<UserSpec>,
    /// `Volumes`: folders that get a volume of their own, with what the image has in them.
    pub volumes: Vec<PathBuf>,
    /// `ExposedPorts` such as `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// `StopSignal`.
    pub stop_signal: Option<StopSignal>,
    /// `Labels`.
    pub labels: BTreeMap<String, String>,
    /// `Healthcheck`, Docker's addition; kept for who looks after a container's health.
    pub healthcheck: Option<ImageHealthcheck>,
    /// `Shell`, Docker's addition: what runs lines of the health check; empty is `/bin/sh -c`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
}

/// How an image says that its health is checked (Docker Image Specification v1.2, `Healthcheck`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageHealthcheck {
    /// `["CMD", arg...]`, `["CMD-SHELL", line]` or `["NONE"]`.
    pub test: Vec<String>,
    /// Between two checks.
    pub interval: Option<Duration>,
    /// How long one may take.
    pub timeout: Option<Duration>,
    /// How long failures do not count after the start.
    pub start_period: Option<Duration>,
    /// Between two checks in that time.
    pub start_interval: Option<Duration>,
    /// How many failures in a row count.
    pub retries: Option<u32>,
}
