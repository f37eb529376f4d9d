use super::*;
use crate::model::{HealthCheck, HealthTest, RestartPolicy};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn policy(restart: &str) -> LifePolicy {
    LifePolicy { restart: restart.parse().expect("a policy"), ..LifePolicy::default() }
}

fn looked_after(retries: u32, start_period: Duration) -> LifePolicy {
    let check = HealthCheck {
        test: HealthTest::Program(vec!["probe".to_owned()]),
        interval: ms(1_000),
        timeout: ms(500),
        retries,
        start_period,
        start_interval: ms(100),
    };
    LifePolicy { health: Some(check), ..LifePolicy::default() }
}

/// A container with a clock that only its test moves.
struct Life {
    policy: LifePolicy,
    stage: Stage,
    now: Duration,
}

impl Life {
    fn running(policy: LifePolicy) -> Self {
        let mut life = Self { policy, stage: Stage::Starting { past: Past::default() }, now: ms(5_000) };
        assert_eq!(life.happens(Happening::Runs), []);
        life
    }

    fn happens(&mut self, happening: Happening) -> Vec<Action> {
        let (stage, actions) = step(&self.policy, self.stage.clone(), happening, self.now);
        self.stage = stage;
        actions
    }

    /// Waits until something is due, and gives for how long that was.
    fn waits(&mut self) -> u64 {
        let due = self.stage.due().expect("something is due");
        let waited = due - self.now;
        self.now = due;
        waited.as_millis() as u64
    }

    /// Ends after so long with this code; how long it waits before it is started again, if it is.
    fn ends(&mut self, ran: u64, code: i32) -> Option<u64> {
        self.now += ms(ran);
        self.happens(Happening::Ended(code));
        match self.stage.state() {
            ContainerState::Restarting(shown) => {
                assert_eq!(shown, code);
                let waited = self.waits();
                assert_eq!(self.happens(Happening::Due), [Action::Start]);
                assert_eq!(self.stage.state(), ContainerState::Starting);
                assert_eq!(self.happens(Happening::Runs), []);
                Some(waited)
            }
            ContainerState::Exited(shown) => {
                assert_eq!((shown, self.stage.due()), (code, None));
                None
            }
            other => panic!("{other:?}"),
        }
    }

    fn probe(&mut self, well: bool) -> Vec<Action> {
        self.waits();
        assert_eq!(self.happens(Happening::Due), [Action::Probe]);
        assert_eq!(self.stage.due(), None, "one at a time");
        self.happens(Happening::Probed(well))
    }

    fn health(&self) -> (Health, u32) {
        let checks = self.stage.checks().expect("checks");
        (checks.health(), checks.failing())
    }
}

#[test]
fn each_policy_and_how_a_container_ended() {
    for (restart, code, again) in [
        ("no", 0, false),
        ("no", 1, false),
        ("always", 0, true),
        ("always", 1, true),
        ("unless-stopped", 0, true),
        ("unless-stopped", 137, true),
        ("on-failure", 0, false),
        ("on-failure", 1, true),
        // Out of memory.
        ("on-failure", 137, true),
        ("on-failure:2", 3, true),
    ] {
        let mut life = Life::running(policy(restart));
        assert_eq!(life.ends(0, code).is_some(), again, "{restart}, code {code}");
        assert_eq!(life.stage.past().restarts, u32::from(again));
    }
}

#[test]
fn waits_double_up_to_a_minute_and_begin_anew_after_ten_seconds() {
    let mut life = Life::running(policy("always"));
    let expected = [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000];
    for wait in expected {
        assert_eq!(life.ends(9_999, 1), Some(wait));
    }
    assert_eq!(life.ends(10_000, 1), Some(100));
    assert_eq!(life.ends(0, 1), Some(200));
    assert_eq!(life.stage.past().restarts, 14);
}

#[test]
fn attempts_are_counted_and_a_window_forgives_them() {
    let mut life = Life::running(policy("on-failure:3"));
    let waits: Vec<_> = (0..4).map(|_| life.ends(20_000, 1)).collect();
    assert_eq!(waits, [Some(100), Some(100), Some(100), None]);

    let restart = RestartPolicy { window: Some(ms(2_000)), delay: Some(ms(700)), ..policy("on-failure:2").restart };
    let mut life = Life::running(LifePolicy { restart, ..LifePolicy::default() });
    assert_eq!([1_999, 1_999].map(|ran| life.ends(ran, 1)), [Some(700), Some(700)]);
    assert_eq!([2_000, 0, 0].map(|ran| life.ends(ran, 1)), [Some(700), Some(700), None]);
}

#[test]
fn no_delay_is_so_short_that_nothing_else_happens() {
    let restart = RestartPolicy { delay: Some(ms(1)), ..policy("always").restart };
    let mut life = Life::running(LifePolicy { restart, ..LifePolicy::default() });
    assert_eq!([life.ends(0, 0), life.ends(0, 0)], [Some(100), Some(100)]);
}

#[test]
fn one_that_does_not_come_up_again_is_tried_again() {
    let mut life = Life::running(policy("on-failure:2"));
    life.happens(Happening::Ended(1));
    life.waits();
    assert_eq!(life.happens(Happening::Due), [Action::Start]);
    life.happens(Happening::Ended(128));
    assert_eq!(life.stage.state(), ContainerState::Restarting(128));
    assert_eq!(life.waits(), 200);
    assert_eq!(life.happens(Happening::Due), [Action::Start]);
    life.happens(Happening::Ended(128));
    assert_eq!(life.stage.state(), ContainerState::Exited(128));
}

#[test]
fn what_somebody_stops_stays_until_somebody_starts_it() {
    for restart in ["always", "unless-stopped", "on-failure"] {
        let mut life = Life::running(policy(restart));
        assert_eq!(life.happens(Happening::StopAsked), [Action::DropProbe]);
        assert_eq!(life.stage.state(), ContainerState::Stopping);
        life.happens(Happening::Ended(143));
        assert_eq!(life.stage.state(), ContainerState::Exited(143));
        for ignored in [Happening::Due, Happening::StopAsked, Happening::NeededStarted, Happening::Probed(false)] {
            assert_eq!(life.happens(ignored), []);
            assert_eq!(life.stage.state(), ContainerState::Exited(143));
        }
        assert_eq!(life.happens(Happening::StartAsked), [Action::Start]);
        life.happens(Happening::Runs);
        assert_eq!(life.ends(0, 1), Some(100), "{restart}: by itself again");

        // In the middle of a wait.
        life.happens(Happening::Ended(7));
        assert_eq!(life.stage.state(), ContainerState::Restarting(7));
        assert_eq!(life.happens(Happening::StopAsked), []);
        assert_eq!((life.stage.state(), life.stage.due()), (ContainerState::Exited(7), None));
        // And the other way round.
        life.happens(Happening::StartAsked);
        life.happens(Happening::Runs);
        life.happens(Happening::Ended(7));
        assert_eq!(life.happens(Happening::StartAsked), [Action::Start], "nobody waits for what somebody asked for");
        assert_eq!(life.stage.past(), &Past::default());
    }
}

#[test]
fn one_that_is_asked_to_stop_before_it_runs_is_stopped_then() {
    let mut life = Life { policy: policy("always"), stage: Stage::Starting { past: Past::default() }, now: ms(0) };
    assert_eq!(life.happens(Happening::StopAsked), []);
    assert_eq!(life.happens(Happening::Runs), [Action::Stop]);
    life.happens(Happening::Ended(0));
    assert_eq!(life.stage.state(), ContainerState::Exited(0));
}

#[test]
fn so_many_failures_in_a_row_make_it_unhealthy_and_one_success_healthy() {
    let mut life = Life::running(looked_after(3, ms(0)));
    assert_eq!(life.health(), (Health::Starting, 0));
    for (well, expected) in [
        (false, (Health::Starting, 1)),
        (false, (Health::Starting, 2)),
        (true, (Health::Healthy, 0)),
        (false, (Health::Healthy, 1)),
        (true, (Health::Healthy, 0)),
        (false, (Health::Healthy, 1)),
        (false, (Health::Healthy, 2)),
        (false, (Health::Unhealthy, 3)),
        (false, (Health::Unhealthy, 4)),
        (true, (Health::Healthy, 0)),
    ] {
        assert_eq!(life.probe(well), []);
        assert_eq!(life.health(), expected);
    }
}

#[test]
fn failures_at_the_start_do_not_count_and_are_looked_at_more_often() {
    let mut life = Life::running(looked_after(1, ms(1_000)));
    for _ in 0..9 {
        assert_eq!(life.waits(), 100);
        assert_eq!(life.happens(Happening::Due), [Action::Probe]);
        life.happens(Happening::Probed(false));
        assert_eq!(life.health(), (Health::Starting, 0));
    }
    // The tenth begins when the time is over.
    assert_eq!(life.waits(), 100);
    life.happens(Happening::Due);
    life.happens(Happening::Probed(false));
    assert_eq!(life.health(), (Health::Unhealthy, 1));
    assert_eq!(life.waits(), 1_000);

    // Whoever has been healthy once has started.
    let mut life = Life::running(looked_after(1, ms(1_000)));
    life.probe(true);
    assert_eq!(life.waits(), 1_000);
    life.happens(Happening::Due);
    life.happens(Happening::Probed(false));
    assert_eq!(life.health(), (Health::Unhealthy, 1));
}

#[test]
fn nobody_looks_at_one_that_is_frozen_or_asked_to_stop() {
    let mut life = Life::running(looked_after(3, ms(400)));
    life.waits();
    assert_eq!(life.happens(Happening::Due), [Action::Probe]);
    assert_eq!(life.happens(Happening::Paused), [Action::DropProbe]);
    assert_eq!((life.stage.state(), life.stage.due()), (ContainerState::Paused, None));
    assert_eq!(life.happens(Happening::Probed(false)), [], "it was ended, and says nothing");
    assert_eq!(life.health(), (Health::Starting, 0));
    life.now += ms(60_000);
    life.happens(Happening::Resumed);
    // It is 300 ms from the end of its beginning, as before.
    for wait in [100, 100, 100] {
        assert_eq!(life.waits(), wait);
        assert_eq!(life.happens(Happening::Due), [Action::Probe]);
        life.happens(Happening::Probed(false));
    }
    assert_eq!(life.health(), (Health::Starting, 1));
    assert_eq!(life.happens(Happening::StopAsked), [Action::DropProbe]);
    assert_eq!(life.stage.due(), None);

    let mut life = Life::running(policy("always"));
    assert_eq!(life.stage.due(), None, "nobody wakes up without probes");
    life.happens(Happening::Paused);
    life.happens(Happening::Ended(137));
    assert_eq!(life.stage.state(), ContainerState::Restarting(137));
}

#[test]
fn one_that_is_unhealthy_is_started_again_if_the_file_says_so() {
    for (restart, restarts) in [("no", 3), ("always", 3), ("on-failure:1", 1)] {
        let restart = RestartPolicy { ..policy(restart).restart };
        let mut life = Life::running(LifePolicy { restart, restart_unhealthy: true, ..looked_after(1, ms(0)) });
        let mut counted = 0;
        for _ in 0..3 {
            if life.probe(false) != [Action::Stop] {
                break;
            }
            counted += 1;
            assert_eq!(life.stage.state(), ContainerState::Stopping);
            // It went well in the end, which does not matter.
            life.happens(Happening::Ended(0));
            life.waits();
            assert_eq!(life.happens(Happening::Due), [Action::Start]);
            life.happens(Happening::Runs);
            assert_eq!(life.health(), (Health::Starting, 0));
        }
        assert_eq!(counted, restarts);
    }
    // Somebody wants it stopped while it is being stopped for that.
    let mut life = Life::running(LifePolicy { restart_unhealthy: true, ..looked_after(1, ms(0)) });
    assert_eq!(life.probe(false), [Action::Stop]);
    life.happens(Happening::StopAsked);
    life.happens(Happening::Ended(0));
    assert_eq!(life.stage.state(), ContainerState::Exited(0));
}

#[test]
fn one_restarts_with_what_it_needs_and_that_is_no_failure() {
    let mut life = Life::running(policy("on-failure:1"));
    assert_eq!(life.ends(0, 1), Some(100));
    assert_eq!(life.happens(Happening::NeededStarted), [Action::DropProbe, Action::Stop]);
    assert_eq!(life.happens(Happening::Ended(143)), []);
    assert_eq!(life.stage.state(), ContainerState::Restarting(143), "others hear how it has ended");
    assert_eq!(life.stage.due(), Some(life.now), "at once");
    assert_eq!(life.happens(Happening::Due), [Action::Start]);
    life.happens(Happening::Runs);
    assert_eq!(life.stage.past(), &Past { restarts: 1, ..Past::default() });
    assert_eq!(life.ends(0, 1), Some(100), "its attempts are its own again");
    // What has ended stays so.
    assert_eq!(life.ends(0, 1), None);
    assert_eq!(life.happens(Happening::NeededStarted), []);
}

#[test]
fn how_long_it_has_run_is_not_forgotten_with_a_supervisor() {
    let mut life = Life::running(policy("always"));
    for wait in [100, 200, 400] {
        assert_eq!(life.ends(1_000, 1), Some(wait));
    }
    life.now += ms(9_000);
    let memory = Memory::of(&life.stage, 1);
    // The next one reckons from when the container began.
    (life.stage, life.now) = (memory.recall(&life.policy, ms(9_000), ms(9_000)), ms(9_000));
    assert_eq!(life.ends(1_000, 1), Some(100));
}
