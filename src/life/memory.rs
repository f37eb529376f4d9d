//! What of a container's life outlives whoever looks after it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Checks, Past, Stage, Then};
use crate::model::{Health, LifePolicy};

/// Where a container was in its life when that was written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The first process that it is of: what is remembered of another one counts for nothing.
    pub pid: i32,
    /// What it has been through.
    pub past: Past,
    /// The stage.
    pub stage: Remembered,
}

/// A [`Stage`] without moments in time, which are of a clock that nobody has any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remembered {
    /// It was being brought up again.
    Starting,
    /// Its program ran, and looks at its health had come to this.
    Running(Option<Health>),
    /// Its processes were frozen, likewise.
    Paused(Option<Health>),
    /// It had been asked to stop.
    Stopping(Then),
    /// It had ended with this code, and was to be started again in a moment.
    BackingOff(i32),
    /// It had ended with this code.
    Ended(i32),
}

impl Memory {
    /// What is to be remembered of a container with this first process.
    pub fn of(stage: &Stage, pid: i32) -> Self {
        let health = stage.checks().map(Checks::health);
        let remembered = match stage {
            Stage::Starting { .. } => Remembered::Starting,
            Stage::Running { .. } => Remembered::Running(health),
            Stage::Paused { .. } => Remembered::Paused(health),
            Stage::Stopping { then, .. } => Remembered::Stopping(*then),
            Stage::BackingOff { code, .. } => Remembered::BackingOff(*code),
            Stage::Ended { code, .. } => Remembered::Ended(*code),
        };
        Self { pid, past: stage.past().clone(), stage: remembered }
    }

    /// Whether it says no more than that there is a container that has come up.
    pub fn is_plain(&self) -> bool {
        let plain = matches!(self.stage, Remembered::Running(None | Some(Health::Starting)));
        plain && self.past == Past::default()
    }

    /// The stage that it goes on in, having run for so long by now.
    ///
    /// One that had been asked to stop may not have heard: it is asked again once [`Happening::Runs`](super::Happening::Runs)
    /// is told. One that waited for its next start has waited long enough when it has waited anew.
    pub fn recall(&self, policy: &LifePolicy, ran: Duration, now: Duration) -> Stage {
        let past = self.past.clone();
        let checks = |health: Option<Health>| {
            policy.health.as_ref().map(|check| Checks::recall(check, health.unwrap_or(Health::Starting), ran, now))
        };
        match self.stage {
            Remembered::Starting => Stage::Starting { past },
            Remembered::Running(health) => {
                Stage::Running { past, since: now.saturating_sub(ran), checks: checks(health) }
            }
            Remembered::Paused(health) => {
                let mut checks = checks(health);
                checks.iter_mut().for_each(Checks::pause);
                Stage::Paused { past, ran, checks }
            }
            Remembered::Stopping(then) => Stage::Stopping { past, since: None, then },
            Remembered::BackingOff(code) => {
                let until = now + past.delay;
                Stage::BackingOff { past, code, until }
            }
            Remembered::Ended(code) => Stage::Ended { past, code },
        }
    }
}
