//! Where a container is in its life.

use serde::{Deserialize, Serialize};

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainerState {
    /// It has been made and never started.
    Created,
    /// It is being brought up.
    Starting,
    /// Its first process runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// It has been asked to stop.
    Stopping,
    /// Its first process has ended with this code as a shell would show it, and it will be started again in a moment.
    Restarting(i32),
    /// Its first process has ended, with this code as a shell would show it.
    Exited(i32),
}

impl ContainerState {
    /// Whether it has processes.
    pub fn is_alive(self) -> bool {
        match self {
            Self::Starting | Self::Running | Self::Paused | Self::Stopping => true,
            Self::Created | Self::Restarting(_) | Self::Exited(_) => false,
        }
    }

    /// Whether it is meant to run: it does, or it will in a moment.
    pub fn is_up(self) -> bool {
        self.is_alive() || matches!(self, Self::Restarting(_))
    }

    /// How its first process has ended, if it has and no other has taken its place.
    pub fn exit_code(self) -> Option<i32> {
        match self {
            Self::Restarting(code) | Self::Exited(code) => Some(code),
            Self::Created | Self::Starting | Self::Running | Self::Paused | Self::Stopping => None,
        }
    }

    /// What people and programs read, as Docker has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Restarting(_) => "restarting",
            Self::Exited(_) => "exited",
        }
    }
}

/// What the probes of a container say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Not yet anything.
    Starting,
    /// The last one went well.
    Healthy,
    /// So many in a row as its file allows went wrong.
    Unhealthy,
}

impl Health {
    /// What people and programs read, as Docker has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What others wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// Where it is.
    pub state: ContainerState,
    /// None if nothing probes it.
    pub health: Option<Health>,
}
