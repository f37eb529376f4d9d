//! A container's life after it has come up: what becomes of it, decided without doing anything.
//!
//! ```text
//! policy, stage, happening, now ──step──▶ stage, actions
//!                                 health.rs: what looks at it come to
//! ```
//!
//! There is no I/O and no clock in here: `now` comes from whoever asks, as the time since some fixed moment. The driver
//! (`executor/life.rs`) tells what happens, does what [`Action`]s say, and comes back when [`Stage::due`] says so.

mod health;
mod memory;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use health::Checks;
pub use memory::{Memory, Remembered};
use serde::{Deserialize, Serialize};

use crate::model::{ContainerState, Health, LifePolicy, RestartCondition};

/// How long it waits before it starts a container again for the first time, and at least (moby, `restartmanager`).
pub const FIRST_DELAY: Duration = Duration::from_millis(100);

/// How long it waits at most.
pub const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// Whoever has run for this long has come up; the next wait is the first one again.
pub const RAN_LONG: Duration = Duration::from_secs(10);

/// Where a container is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// It is being brought up.
    Starting {
        /// What it has been through.
        past: Past,
    },
    /// Its program runs.
    Running {
        /// What it has been through.
        past: Past,
        /// Since when.
        since: Duration,
        /// How it is looked after its health, if somebody does.
        checks: Option<Checks>,
    },
    /// Its processes are frozen.
    Paused {
        /// What it has been through.
        past: Past,
        /// How long it had run when it was frozen.
        ran: Duration,
        /// How it was looked after its health.
        checks: Option<Checks>,
    },
    /// It has been asked to stop.
    Stopping {
        /// What it has been through.
        past: Past,
        /// Since when it runs, if it does.
        since: Option<Duration>,
        /// What comes after its end.
        then: Then,
    },
    /// It has ended, and is started again in a moment.
    BackingOff {
        /// What it has been through.
        past: Past,
        /// How it ended.
        code: i32,
        /// When it is started.
        until: Duration,
    },
    /// It has ended, and stays so until somebody asks.
    Ended {
        /// What it has been through.
        past: Past,
        /// How it ended.
        code: i32,
    },
}

/// What comes after the end of a container that has been asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// Nothing: somebody wants it stopped.
    Stay,
    /// It is started again as one that has failed, whatever its code: it was unhealthy.
    TryAgain,
    /// It is started again at once: a service that it restarts with has been.
    StartAgain,
}

/// What a container has been through since somebody asked for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// How often it has been started again by itself.
    pub restarts: u32,
    /// How many of these count against the most that the policy allows.
    pub attempts: u32,
    /// How long it waited the last time; zero if it has not, or has run for long since.
    pub delay: Duration,
}

/// Something that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// Its program runs.
    Runs,
    /// It has ended, or did not come up, with this code as a shell would show it. One that the kernel killed for want of
    /// memory has 137, as every other that was killed.
    Ended(i32),
    /// What [`Stage::due`] said has come.
    Due,
    /// A look at its health went well, or not.
    Probed(bool),
    /// Somebody wants it stopped, or kills it: it is not started again until somebody asks for that.
    StopAsked,
    /// Somebody wants it started.
    StartAsked,
    /// It is frozen.
    Paused,
    /// It is thawed.
    Resumed,
    /// A service that it restarts with has been started again.
    NeededStarted,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Bring it up again; [`Happening::Runs`] or [`Happening::Ended`] says what comes of it.
    Start,
    /// Ask it to stop, and kill it after its grace period; [`Happening::Ended`] follows.
    Stop,
    /// Look at its health; [`Happening::Probed`] says what comes of it.
    Probe,
    /// End the look under way, of which nothing comes.
    DropProbe,
}

impl Stage {
    /// What others see of it.
    pub fn state(&self) -> ContainerState {
        match self {
            Self::Starting { .. } => ContainerState::Starting,
            Self::Running { .. } => ContainerState::Running,
            Self::Paused { .. } => ContainerState::Paused,
            Self::Stopping { .. } => ContainerState::Stopping,
            Self::BackingOff { code, .. } => ContainerState::Restarting(*code),
            Self::Ended { code, .. } => ContainerState::Exited(*code),
        }
    }

    /// What looks at it say; none if it does not run, or there are none.
    pub fn checks(&self) -> Option<&Checks> {
        match self {
            Self::Running { checks, .. } | Self::Paused { checks, .. } => checks.as_ref(),
            Self::Starting { .. } | Self::Stopping { .. } | Self::BackingOff { .. } | Self::Ended { .. } => None,
        }
    }

    /// When something is to be done if nothing happens before; none is never, so that nobody wakes up for it.
    pub fn due(&self) -> Option<Duration> {
        match self {
            Self::Running { checks, .. } => checks.as_ref()?.due(),
            Self::BackingOff { until, .. } => Some(*until),
            Self::Starting { .. } | Self::Paused { .. } | Self::Stopping { .. } | Self::Ended { .. } => None,
        }
    }

    /// What it has been through.
    pub fn past(&self) -> &Past {
        match self {
            Self::Starting { past }
            | Self::Running { past, .. }
            | Self::Paused { past, .. }
            | Self::Stopping { past, .. }
            | Self::BackingOff { past, .. }
            | Self::Ended { past, .. } => past,
        }
    }
}

/// What becomes of a container when something happens, and what is to be done.
#[must_use]
pub fn step(policy: &LifePolicy, stage: Stage, happening: Happening, now: Duration) -> (Stage, Vec<Action>) {
    use Happening as H;
    use Stage as S;
    let nothing = Vec::new();
    match (stage, happening) {
        (S::Starting { past }, H::Runs) => {
            let checks = policy.health.as_ref().map(|check| Checks::begin(check, now));
            (S::Running { past, since: now, checks }, nothing)
        }
        (S::Starting { past }, H::Ended(code)) => (after_end(policy, past, code, Duration::ZERO, now), nothing),
        (S::Starting { past }, H::StopAsked) => (S::Stopping { past, since: None, then: Then::Stay }, nothing),

        (S::Running { past, since, checks: Some(mut checks) }, H::Due) => {
            let actions = if checks.begin_look(now) { vec![Action::Probe] } else { nothing };
            (S::Running { past, since, checks: Some(checks) }, actions)
        }
        (S::Running { past, since, checks: Some(mut checks) }, H::Probed(well)) => {
            let Some(check) = &policy.health else { return (S::Running { past, since, checks: None }, nothing) };
            checks.looked(check, well, now);
            let hopeless = checks.health() == Health::Unhealthy;
            if hopeless && policy.restart_unhealthy && may_try(policy, &worn(policy, &past, now - since)) {
                (S::Stopping { past, since: Some(since), then: Then::TryAgain }, vec![Action::Stop])
            } else {
                (S::Running { past, since, checks: Some(checks) }, nothing)
            }
        }
        (S::Running { past, since, .. }, H::Ended(code)) => {
            (after_end(policy, past, code, now.saturating_sub(since), now), vec![Action::DropProbe])
        }
        (S::Running { past, since, .. }, H::StopAsked) => {
            (S::Stopping { past, since: Some(since), then: Then::Stay }, vec![Action::DropProbe])
        }
        (S::Running { past, since, .. }, H::NeededStarted) => {
            let stage = S::Stopping { past, since: Some(since), then: Then::StartAgain };
            (stage, vec![Action::DropProbe, Action::Stop])
        }
        (S::Running { past, since, mut checks }, H::Paused) => {
            if let Some(checks) = &mut checks {
                checks.pause();
            }
            (S::Paused { past, ran: now.saturating_sub(since), checks }, vec![Action::DropProbe])
        }

        (S::Paused { past, ran, mut checks }, H::Resumed) => {
            if let (Some(checks), Some(check)) = (&mut checks, &policy.health) {
                checks.resume(check, now, ran);
            }
            (S::Running { past, since: now.saturating_sub(ran), checks }, nothing)
        }
        (S::Paused { past, ran, .. }, H::Ended(code)) => (after_end(policy, past, code, ran, now), nothing),
        (S::Paused { past, ran, .. }, H::StopAsked) => {
            let since = Some(now.saturating_sub(ran));
            (S::Stopping { past, since, then: Then::Stay }, nothing)
        }

        // Asked before it ran: now it can hear it.
        (S::Stopping { past, since: None, then }, H::Runs) => {
            (S::Stopping { past, since: Some(now), then }, vec![Action::Stop])
        }
        (S::Stopping { past, since, .. }, H::StopAsked) => (S::Stopping { past, since, then: Then::Stay }, nothing),
        (S::Stopping { past, since, .. }, H::StartAsked) => {
            (S::Stopping { past, since, then: Then::StartAgain }, nothing)
        }
        (S::Stopping { past, since, then }, H::Ended(code)) => match then {
            Then::Stay => (S::Ended { past, code }, nothing),
            Then::StartAgain => {
                // It has nothing to wait for, but its end is news before its start is.
                let past = Past { restarts: past.restarts, ..Past::default() };
                (S::BackingOff { past, code, until: now }, nothing)
            }
            Then::TryAgain => {
                let ran = since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
                (try_again(policy, worn(policy, &past, ran), code, now), nothing)
            }
        },

        (S::BackingOff { past, code, until }, H::Due) => {
            if now >= until {
                (S::Starting { past }, vec![Action::Start])
            } else {
                (S::BackingOff { past, code, until }, nothing)
            }
        }
        (S::BackingOff { past, code, .. }, H::StopAsked) => (S::Ended { past, code }, nothing),
        (S::BackingOff { .. } | S::Ended { .. }, H::StartAsked) => {
            (S::Starting { past: Past::default() }, vec![Action::Start])
        }

        // Nothing that would change anything: news of what is no longer so.
        (
            stage,
            H::Runs
            | H::Ended(_)
            | H::Due
            | H::Probed(_)
            | H::StopAsked
            | H::StartAsked
            | H::Paused
            | H::Resumed
            | H::NeededStarted,
        ) => (stage, nothing),
    }
}

/// What comes after it has ended by itself, having run for so long.
fn after_end(policy: &LifePolicy, past: Past, code: i32, ran: Duration, now: Duration) -> Stage {
    let wanted = match policy.restart.condition {
        RestartCondition::Never => false,
        RestartCondition::OnFailure => code != 0,
        RestartCondition::Always | RestartCondition::UnlessStopped => true,
    };
    let past = worn(policy, &past, ran);
    if wanted && may_try(policy, &past) { try_again(policy, past, code, now) } else { Stage::Ended { past, code } }
}

/// What still counts of its past for one that has run for so long.
fn worn(policy: &LifePolicy, past: &Past, ran: Duration) -> Past {
    let come_up = policy.restart.window.is_some_and(|window| ran >= window);
    Past {
        restarts: past.restarts,
        attempts: if come_up { 0 } else { past.attempts },
        delay: if ran >= RAN_LONG { Duration::ZERO } else { past.delay },
    }
}

fn may_try(policy: &LifePolicy, past: &Past) -> bool {
    policy.restart.max_attempts.is_none_or(|most| past.attempts < most)
}

fn try_again(policy: &LifePolicy, past: Past, code: i32, now: Duration) -> Stage {
    let delay = match policy.restart.delay {
        // Whoever asks for less gets a loop that does nothing but restart.
        Some(delay) => delay.max(FIRST_DELAY),
        None if past.delay.is_zero() => FIRST_DELAY,
        None => (past.delay * 2).min(LONGEST_DELAY),
    };
    let past = Past { restarts: past.restarts.saturating_add(1), attempts: past.attempts.saturating_add(1), delay };
    Stage::BackingOff { past, code, until: now + delay }
}
