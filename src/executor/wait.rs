//! Waiting until a service is as far as others need it, and what is said when it does not get there.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::sync::{Notify, mpsc::UnboundedSender, watch};

use super::{Change, ExecutorError, Stack, Waiting, hooks};
use crate::{
    diagnostics::Failure,
    model::ServiceName,
    plan::{Never, Until, Verdict, Wait},
    state::{LogFolder, LogReader},
};

/// How long a service is waited for that ends again and again, counted from its first end, where nobody has set a bound. One
/// that does not end is bounded by its own probes, or by what it has to do.
const RESTARTS: Duration = Duration::from_secs(5 * 60);

/// How often it is told that somebody still waits.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// How many of its last log lines are shown of a service that did not get there.
const LAST_LINES: usize = 20;

/// A service that did not get as far as others need it.
#[derive(Debug)]
pub struct Unmet {
    /// What was waited for.
    pub wait: Wait,
    /// Why it does not come.
    pub why: Why,
    /// Who waits in vain, each with who it waits for.
    pub chain: Vec<(ServiceName, ServiceName)>,
    /// The last lines that it wrote.
    pub log: Vec<String>,
    /// What its last probe wrote.
    pub probe: Option<String>,
}

/// Why nobody waits any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It cannot come any more.
    Never(Never),
    /// Whoever wanted to know has gone.
    NobodyWaits,
    /// It has had its time.
    TooLong {
        /// The bound that somebody has set for all of the plan; else how long it was waited for.
        waited: Duration,
        /// It has ended meanwhile, last with this code, and was started again.
        exited: Option<i32>,
    },
}

/// Waits. `began` is when the plan was begun; nobody waits any more when `abandoned` becomes true.
///
/// # Errors
/// When the service does not get that far, and has to.
pub(super) async fn wait(
    wait: &Wait,
    stack: &Stack,
    began: Instant,
    changes: &UnboundedSender<Change>,
    abandoned: watch::Receiver<bool>,
) -> Result<(), ExecutorError> {
    // Its start may not be in the picture yet, and an earlier end of it may still be.
    let seen = Arc::new(Notify::new());
    if changes.send(Change::Sync(seen.clone())).is_ok() {
        seen.notified().await;
    }
    let result = until(wait, stack, began, changes, abandoned).await;
    let _ = changes.send(Change::Waited(wait.service.clone(), wait.until));
    let Err(why) = result else { return Ok(()) };
    if wait.service.hook().is_some() {
        return Err(hooks::before_start(wait, why, stack));
    }
    let log = last_log(stack, &wait.service);
    let probe = stack.last_probe(&wait.service);
    let unmet = Box::new(Unmet { wait: wait.clone(), why, chain: Vec::new(), log, probe });
    if wait.required {
        return Err(ExecutorError::Condition(unmet));
    }
    let _ = changes.send(Change::Warning(format!("{unmet}; it is not required")));
    Ok(())
}

async fn until(
    wait: &Wait,
    stack: &Stack,
    began: Instant,
    changes: &UnboundedSender<Change>,
    mut abandoned: watch::Receiver<bool>,
) -> Result<(), Why> {
    let mut lives = stack.lives();
    let since = Instant::now();
    let bound = wait.within_ms.map(|ms| began + Duration::from_millis(ms));
    let (mut first_end, mut exited) = (None, None);
    let mut tick = tokio::time::interval(TOLD_EVERY);
    loop {
        let life = lives.borrow_and_update().get(&wait.service).copied();
        match wait.until.judge(life) {
            Verdict::Reached => return Ok(()),
            Verdict::Never(never) => return Err(Why::Never(never)),
            Verdict::NotYet => {}
            Verdict::Again(code) => {
                exited = Some(code);
                first_end.get_or_insert_with(Instant::now);
            }
        }
        let end = bound.or(first_end.map(|first| first + RESTARTS));
        let over = async {
            match end {
                Some(end) => tokio::time::sleep_until(end.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = lives.changed() => {
                if changed.is_err() {
                    return Err(Why::Never(Never::Gone));
                }
            }
            _ = abandoned.wait_for(|gone| *gone) => return Err(Why::NobodyWaits),
            () = over => {
                let waited = wait.within_ms.map_or(since.elapsed(), Duration::from_millis);
                return Err(Why::TooLong { waited, exited });
            }
            _ = tick.tick() => {
                let elapsed_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
                let probe = stack.last_probe(&wait.service);
                let _ = changes.send(Change::Waiting(Waiting { wait: wait.clone(), elapsed_ms, probe, exited }));
            }
        }
    }
}

/// The last lines that a service wrote.
pub(super) fn last_log(stack: &Stack, service: &ServiceName) -> Vec<String> {
    last_lines(stack.layout.log(service), LAST_LINES, None).unwrap_or_default()
}

/// Those of them that it wrote since then.
pub(super) fn last_log_since(stack: &Stack, service: &ServiceName, since: Option<Timestamp>) -> Vec<String> {
    last_lines(stack.layout.log(service), LAST_LINES, since).unwrap_or_default()
}

/// The last lines of a log, without what ends them.
fn last_lines(log: LogFolder, most: usize, since: Option<Timestamp>) -> io::Result<Vec<String>> {
    let mut reader = LogReader::new(log);
    reader.skip_to_last(most as u64)?;
    let mut lines: Vec<String> = Vec::new();
    while let Some(line) = reader.next_line()? {
        if since.is_some_and(|since| line.time < since) {
            continue;
        }
        lines.push(String::from_utf8_lossy(&line.text).trim_end_matches('\r').chars().take(LONGEST_LINE).collect());
    }
    Ok(lines)
}

/// Characters of a line that are shown of it.
const LONGEST_LINE: usize = 500;

/// So many names are shown of a list.
const NAMES: usize = 5;

impl std::fmt::Display for Unmet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Wait { service, until, dependents, .. } = &self.wait;
        let names: Vec<String> = dependents.iter().take(NAMES).map(|name| format!("`{name}`")).collect();
        let others = dependents.len().saturating_sub(NAMES);
        match (names.as_slice(), others) {
            ([], _) => write!(f, "service `{service}` is not up: it ")?,
            ([one], _) => write!(f, "{one} waits for `{service}` {until}, which ")?,
            (many, 0) => write!(f, "{} wait for `{service}` {until}, which ", many.join(", "))?,
            (many, _) => write!(f, "{} and {others} more wait for `{service}` {until}, which ", many.join(", "))?,
        }
        match self.why {
            Why::Never(Never::Exited(code)) => write!(f, "has exited with code {code}"),
            Why::Never(Never::Unhealthy) => f.write_str("is unhealthy"),
            Why::Never(Never::NotProbed) => f.write_str("has no health check"),
            Why::Never(Never::Gone) => f.write_str("has been removed"),
            Why::NobodyWaits => f.write_str("is not there yet, and the command that waited for it has gone"),
            Why::TooLong { waited, exited: Some(code) } => {
                write!(f, "ends again and again, last with code {code}, after {} s", waited.as_secs())
            }
            Why::TooLong { waited, exited: None } => {
                let far = match until {
                    Until::Healthy => "is not healthy yet",
                    Until::Completed => "has not ended yet",
                    Until::Up => "is not there yet",
                };
                write!(f, "{far} after {} s", waited.as_secs())
            }
        }
    }
}

impl Unmet {
    /// Adds what people need to find out why.
    pub(super) fn explain(&self, failure: Failure) -> Failure {
        let service = &self.wait.service;
        // Who waits for it directly is in the message.
        let further: Vec<String> = self
            .chain
            .iter()
            .filter(|(_, on)| on != service)
            .map(|(name, on)| format!("`{name}` waits for `{on}`"))
            .collect();
        let mut failure = failure;
        if !further.is_empty() {
            failure = failure.note("not started either", further);
        }
        if let Some(probe) = self.probe.as_ref().filter(|probe| !probe.trim().is_empty()) {
            failure = failure.note(format!("the last probe of `{service}` wrote"), probe.lines());
        }
        if !self.log.is_empty() {
            failure = failure.note(format!("the last lines of `{service}`"), &self.log);
        }
        match (self.why, self.wait.until) {
            (Why::Never(Never::NotProbed), _) => failure
                .hint(format!("give `{service}` a `healthcheck`, or wait for it with `condition: service_started`")),
            (Why::TooLong { .. }, _) => failure.hint("`--wait-timeout SECONDS` sets how long `up` waits"),
            (Why::Never(Never::Exited(0)), Until::Healthy) => {
                failure.hint("for a service that is there to end, use `condition: service_completed_successfully`")
            }
            _ => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> ServiceName {
        name.parse().expect("a name")
    }

    fn unmet(dependents: &[&str], until: Until, why: Why) -> Unmet {
        let dependents = dependents.iter().map(|dependent| name(dependent)).collect();
        let wait = Wait { service: name("db"), until, dependents, required: true, within_ms: None };
        Unmet { wait, why, chain: Vec::new(), log: Vec::new(), probe: None }
    }

    #[test]
    fn messages() {
        let second = Duration::from_secs(1);
        for (dependents, until, why, text) in [
            (
                &["app"][..],
                Until::Healthy,
                Why::Never(Never::Unhealthy),
                "`app` waits for `db` to be healthy, which is unhealthy",
            ),
            (
                &["app", "web"],
                Until::Completed,
                Why::Never(Never::Exited(3)),
                "`app`, `web` wait for `db` to complete, which has exited with code 3",
            ),
            (&[], Until::Up, Why::Never(Never::Exited(1)), "service `db` is not up: it has exited with code 1"),
            (
                &["a", "b", "c", "d", "e", "f", "g"],
                Until::Healthy,
                Why::TooLong { waited: second, exited: Some(2) },
                "`a`, `b`, `c`, `d`, `e` and 2 more wait for `db` to be healthy, which ends again and again, last with code 2, after 1 s",
            ),
        ] {
            assert_eq!(unmet(dependents, until, why).to_string(), text);
        }
    }

    #[test]
    fn what_is_known_is_said_and_harmless() {
        let mut unmet = unmet(&["app"], Until::Healthy, Why::Never(Never::Unhealthy));
        unmet.chain = vec![(name("app"), name("db")), (name("front"), name("app"))];
        unmet.log = vec!["no \u{1b}[2J".to_owned()];
        unmet.probe = Some("refused\nagain\n".to_owned());
        let failure = unmet.explain(Failure::operation(unmet.to_string()));
        assert_eq!(
            failure.render(false),
            "error: `app` waits for `db` to be healthy, which is unhealthy
not started either:
  | `front` waits for `app`
the last probe of `db` wrote:
  | refused
  | again
the last lines of `db`:
  | no ␛[2J
"
        );
    }

    #[test]
    fn the_last_lines_of_a_log() {
        let folder = tempfile::tempdir().expect("folder");
        let log = || LogFolder::new(folder.path().to_owned());
        assert!(last_lines(log(), 2, None).expect("none yet").is_empty());
        let line =
            |text: &str| format!("{{\"log\":\"{text}\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-02T03:04:05Z\"}}\n");
        let text = format!("{}{}{}{{\"log\":\"half", line("one"), line("two"), line("three"));
        std::fs::write(folder.path().join("0.jsonl"), text).expect("written");
        assert_eq!(last_lines(log(), 2, None).expect("lines"), ["two", "three"]);
        assert_eq!(last_lines(log(), 2, Some(Timestamp::now())).expect("lines"), [""; 0]);
    }
}
