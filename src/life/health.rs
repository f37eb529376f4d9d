//! What looks at a container come to (moby, `daemon/health.go`).

use std::time::Duration;

use crate::model::{Health, HealthCheck};

/// How a running container is looked after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checks {
    health: Health,
    /// How many have failed in a row and counted.
    failing: u32,
    /// Until then failures do not count, unless one look has gone well.
    lenient_until: Duration,
    /// When the look under way began, or the next one is due.
    next: Next,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Due(Duration),
    UnderWay {
        began: Duration,
    },
    /// It is frozen: nobody could look.
    Never,
}

impl Checks {
    pub(super) fn begin(check: &HealthCheck, now: Duration) -> Self {
        let mut checks =
            Self { health: Health::Starting, failing: 0, lenient_until: now + check.start_period, next: Next::Never };
        checks.wait(check, now);
        checks
    }

    /// Goes on with what they had come to, of a container that has run for so long.
    pub(super) fn recall(check: &HealthCheck, health: Health, ran: Duration, now: Duration) -> Self {
        let mut checks = Self { health, failing: 0, lenient_until: now, next: Next::Never };
        checks.resume(check, now, ran);
        checks
    }

    /// What they have come to.
    pub fn health(&self) -> Health {
        self.health
    }

    /// How many have failed in a row and counted.
    pub fn failing(&self) -> u32 {
        self.failing
    }

    pub(super) fn due(&self) -> Option<Duration> {
        match self.next {
            Next::Due(at) => Some(at),
            Next::UnderWay { .. } | Next::Never => None,
        }
    }

    /// Whether a look begins now. There is one at a time.
    pub(super) fn begin_look(&mut self, now: Duration) -> bool {
        let begins = matches!(self.next, Next::Due(at) if now >= at);
        if begins {
            self.next = Next::UnderWay { began: now };
        }
        begins
    }

    /// Takes what the look under way has found.
    pub(super) fn looked(&mut self, check: &HealthCheck, well: bool, now: Duration) {
        let Next::UnderWay { began } = self.next else { return };
        if well {
            self.failing = 0;
            self.health = Health::Healthy;
        } else if self.health != Health::Starting || began >= self.lenient_until {
            self.failing = self.failing.saturating_add(1);
            if self.failing >= check.retries {
                self.health = Health::Unhealthy;
            }
        }
        self.wait(check, now);
    }

    fn wait(&mut self, check: &HealthCheck, now: Duration) {
        let starting = self.health == Health::Starting && now < self.lenient_until;
        self.next = Next::Due(now + if starting { check.start_interval } else { check.interval });
    }

    pub(super) fn pause(&mut self) {
        self.next = Next::Never;
    }

    /// Goes on with a container that had run for so long; the time in which it was frozen counts for nothing.
    pub(super) fn resume(&mut self, check: &HealthCheck, now: Duration, ran: Duration) {
        self.lenient_until = now + check.start_period.saturating_sub(ran);
        self.wait(check, now);
    }
}
