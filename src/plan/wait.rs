//! Waiting: how far a service has to be before the plan goes on.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{Condition, ContainerState, Health, Life, ServiceName};

/// Until when a service is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// Its probe has passed.
    Healthy,
    /// It has ended with code 0.
    Completed,
    /// It is healthy; it runs, if nothing probes it; or it has ended with code 0.
    Up,
}

impl Until {
    /// What a condition waits for; none is for what has just been started already.
    pub(super) fn of(condition: Condition) -> Option<Self> {
        match condition {
            Condition::Started => None,
            Condition::Healthy => Some(Self::Healthy),
            Condition::Completed => Some(Self::Completed),
        }
    }

    /// What a life means for who waits; `None` for one that is not there.
    pub fn judge(self, life: Option<Life>) -> Verdict {
        let Some(life) = life else { return Verdict::Never(Never::Gone) };
        match (life.state, self) {
            (ContainerState::Exited(0), Self::Completed | Self::Up) => Verdict::Reached,
            (ContainerState::Exited(code), _) => Verdict::Never(Never::Exited(code)),
            (ContainerState::Restarting(code), _) => Verdict::Again(code),
            (ContainerState::Running | ContainerState::Paused, Self::Healthy | Self::Up) => match (life.health, self) {
                (Some(Health::Healthy), _) => Verdict::Reached,
                (Some(Health::Starting), _) => Verdict::NotYet,
                (Some(Health::Unhealthy), _) => Verdict::Never(Never::Unhealthy),
                (None, Self::Up) if life.state == ContainerState::Paused => Verdict::NotYet,
                (None, Self::Up) => Verdict::Reached,
                (None, _) => Verdict::Never(Never::NotProbed),
            },
            (
                ContainerState::Created
                | ContainerState::Starting
                | ContainerState::Running
                | ContainerState::Paused
                | ContainerState::Stopping,
                _,
            ) => Verdict::NotYet,
        }
    }
}

impl fmt::Display for Until {
    /// `wait for db to be healthy`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Healthy => "to be healthy",
            Self::Completed => "to complete",
            Self::Up => "to be up",
        })
    }
}

/// What a life means for who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is so far.
    Reached,
    /// It may come to it.
    NotYet,
    /// It has ended with this code and is started again; it may come to it yet.
    Again(i32),
    /// It does not come to it any more.
    Never(Never),
}

/// Why a service does not get as far as it has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Never {
    /// It has ended with this code, and is not started again.
    Exited(i32),
    /// So many probes in a row as its file allows went wrong.
    Unhealthy,
    /// Nothing probes it.
    NotProbed,
    /// It has been removed.
    Gone,
}

/// A service that the plan waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// The service.
    pub service: ServiceName,
    /// How far it has to be.
    pub until: Until,
    /// The services that are started after this, and need it; none when whoever brings the stack up wants to know.
    pub dependents: Vec<ServiceName>,
    /// Otherwise the plan goes on with a warning when it does not get so far.
    pub required: bool,
    /// Milliseconds after the beginning of the plan at which nobody waits any more. Without it a service that is on its way
    /// is waited for, and one that ends again and again for five minutes after its first end.
    pub within_ms: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_life_means_for_who_waits() {
        use ContainerState::{Created, Exited, Paused, Restarting, Running, Starting, Stopping};
        let (reached, not_yet) = (Verdict::Reached, Verdict::NotYet);
        let exited = |code| Verdict::Never(Never::Exited(code));
        let unhealthy = Verdict::Never(Never::Unhealthy);
        let no_probe = Verdict::Never(Never::NotProbed);
        for (state, health, healthy, completed, up) in [
            (Created, None, not_yet, not_yet, not_yet),
            (Starting, None, not_yet, not_yet, not_yet),
            (Running, None, no_probe, not_yet, reached),
            (Running, Some(Health::Starting), not_yet, not_yet, not_yet),
            (Running, Some(Health::Healthy), reached, not_yet, reached),
            (Running, Some(Health::Unhealthy), unhealthy, not_yet, unhealthy),
            (Paused, None, no_probe, not_yet, not_yet),
            (Paused, Some(Health::Healthy), reached, not_yet, reached),
            (Stopping, Some(Health::Healthy), not_yet, not_yet, not_yet),
            (Restarting(3), None, Verdict::Again(3), Verdict::Again(3), Verdict::Again(3)),
            (Exited(0), Some(Health::Healthy), exited(0), reached, reached),
            (Exited(2), None, exited(2), exited(2), exited(2)),
        ] {
            let life = Some(Life { state, health });
            let got = [Until::Healthy, Until::Completed, Until::Up].map(|until| until.judge(life));
            assert_eq!(got, [healthy, completed, up], "{state:?} {health:?}");
        }
        assert_eq!(Until::Completed.judge(None), Verdict::Never(Never::Gone));
    }
}
