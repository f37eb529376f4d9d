//! Who waits for what: a line that lives while they do on a terminal, elsewhere a line when it begins and every ten seconds.

use std::collections::BTreeMap;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Printer;
use crate::{
    diagnostics::sanitize,
    executor::Waiting,
    model::ServiceName,
    plan::{Until, Wait},
};

/// How often it is said where lines stay.
const SAID_EVERY_MS: u64 = 10_000;

/// What is waited for.
type Key = (ServiceName, Until);

/// Shows who waits.
#[derive(Debug)]
pub struct WaitProgress {
    printer: Printer,
    display: Display,
}

#[derive(Debug)]
enum Display {
    /// A terminal.
    Live { all: MultiProgress, lines: BTreeMap<Key, ProgressBar> },
    /// Something else, with what has been said last.
    Lines(BTreeMap<Key, u64>),
}

impl WaitProgress {
    /// With nothing to show yet.
    pub fn new(printer: Printer) -> Self {
        let live = printer.draws();
        let display = if live {
            let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
            Display::Live { all, lines: BTreeMap::new() }
        } else {
            Display::Lines(BTreeMap::new())
        };
        Self { printer, display }
    }

    /// Somebody waits, still.
    pub fn show(&mut self, waiting: &Waiting) {
        let (who, what) = text(waiting);
        let key = (waiting.wait.service.clone(), waiting.wait.until);
        match &mut self.display {
            Display::Live { all, lines } => {
                let line = lines.entry(key).or_insert_with(|| {
                    let style = ProgressStyle::with_template("{spinner} {msg}");
                    all.add(ProgressBar::new_spinner())
                        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
                });
                line.set_message(sanitize(&format!("{who} {what}")).into_owned());
                line.tick();
            }
            Display::Lines(said) => {
                let due = said.get(&key).is_none_or(|last| waiting.elapsed_ms >= last + SAID_EVERY_MS);
                if due {
                    said.insert(key, waiting.elapsed_ms);
                    self.printer.progress(&who, &what);
                }
            }
        }
    }

    /// Nobody waits for it any more.
    pub fn ended(&mut self, service: &ServiceName, until: Until) {
        let key = (service.clone(), until);
        match &mut self.display {
            Display::Live { lines, .. } => {
                if let Some(line) = lines.remove(&key) {
                    line.finish_and_clear();
                }
            }
            Display::Lines(said) => {
                said.remove(&key);
            }
        }
    }

    /// Prints something where lines live.
    pub fn suspended<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.display {
            Display::Live { all, lines } if !lines.is_empty() => all.suspend(print),
            Display::Live { .. } | Display::Lines(_) => print(),
        }
    }
}

/// Who waits, and for what.
fn text(Waiting { wait, elapsed_ms, probe, exited }: &Waiting) -> (String, String) {
    let Wait { service, until, dependents, .. } = wait;
    let (who, what) = match dependents.as_slice() {
        [] => (service.to_string(), format!("is waited for {until}")),
        [one] => (one.to_string(), format!("waits for {service} {until}")),
        [first, others @ ..] if others.len() < 3 => {
            let others = others.iter().map(|name| format!(", {name}"));
            (format!("{first}{}", others.collect::<String>()), format!("wait for {service} {until}"))
        }
        [first, others @ ..] => (format!("{first} and {} more", others.len()), format!("wait for {service} {until}")),
    };
    let mut notes = Vec::new();
    if *elapsed_ms >= 1000 {
        notes.push(format!("{} s", elapsed_ms / 1000));
    }
    if let Some(code) = exited {
        notes.push(format!("has exited with code {code} and is started again"));
    }
    // The end of it says most.
    if let Some(line) = probe.as_deref().and_then(|probe| probe.trim().lines().next_back()) {
        let short: String = line.chars().take(80).collect();
        notes.push(format!("probe: \"{short}\""));
    }
    let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) };
    (who, format!("{what}{notes}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let name = |name: &&str| name.parse().expect("a name");
        let waiting = |dependents: &[&str], elapsed_ms, probe: Option<&str>, exited| {
            let dependents = dependents.iter().map(name).collect();
            let wait =
                Wait { service: name(&"db"), until: Until::Healthy, dependents, required: true, within_ms: None };
            let (who, what) = text(&Waiting { wait, elapsed_ms, probe: probe.map(str::to_owned), exited });
            format!("{who} {what}")
        };
        assert_eq!(waiting(&["web"], 0, None, None), "web waits for db to be healthy");
        assert_eq!(
            waiting(&["web"], 12_400, Some("one\nno response\n"), None),
            "web waits for db to be healthy (12 s, probe: \"no response\")"
        );
        assert_eq!(waiting(&[], 0, None, None), "db is waited for to be healthy");
        assert_eq!(
            waiting(&["a", "b"], 1000, None, Some(3)),
            "a, b wait for db to be healthy (1 s, has exited with code 3 and is started again)"
        );
        assert_eq!(waiting(&["a", "b", "c", "d", "e"], 0, None, None), "a and 4 more wait for db to be healthy");
    }
}
