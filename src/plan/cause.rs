//! Why a step is there: a sentence, or the keys of the file whose values differ.

use std::{fmt, mem};

use serde::{Deserialize, Serialize};

use crate::{
    diagnostics::sanitize,
    model::{Record, Recorded},
};

/// Why a step is there, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// What is said when no key is known to differ.
    text: String,
    /// What differs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
}

/// A key of the file whose value differs from the one that something was made with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Such as `services.web.environment.DEBUG`.
    pub key: String,
    /// Its value then; none if the file did not say it.
    pub was: Option<Recorded>,
    /// Its value now.
    pub is: Option<Recorded>,
}

/// How many keys a sentence names; there are more in JSON.
const NAMED: usize = 3;

/// Longer values are shown in part, in characters.
const LONGEST: usize = 60;

/// How much comes before what differs, in characters.
const BEFORE: usize = 12;

impl Cause {
    /// What differs, or this sentence if nothing does.
    pub(super) fn of(differences: Vec<Difference>, otherwise: impl Into<String>) -> Self {
        Self { text: otherwise.into(), differences }
    }
}

impl From<String> for Cause {
    fn from(text: String) -> Self {
        Self { text, differences: Vec::new() }
    }
}

impl From<&str> for Cause {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, rest)) = self.differences.split_first() else { return f.write_str(&sanitize(&self.text)) };
        write!(f, "{first}")?;
        // One more takes no more room than the word that there is one.
        let named = if rest.len() <= NAMED { rest.len() } else { NAMED - 1 };
        rest[..named].iter().try_for_each(|difference| write!(f, ", {difference}"))?;
        match rest.len() - named {
            0 => Ok(()),
            more => write!(f, ", and {more} more"),
        }
    }
}

impl fmt::Display for Difference {
    /// `services.web.environment.DEBUG "0" → "1"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = sanitize(&self.key);
        if let (Some(Recorded::Hidden { .. }), Some(Recorded::Hidden { .. })) = (&self.was, &self.is) {
            return write!(f, "{key} has another value");
        }
        let (was, is) = (shown(self.was.as_ref(), self.is.as_ref()), shown(self.is.as_ref(), self.was.as_ref()));
        let (was, is) = shortened(&was, &is);
        write!(f, "{key} {} → {}", sanitize(&was), sanitize(&is))
    }
}

/// A flag that is not said is the other one.
fn shown(value: Option<&Recorded>, other: Option<&Recorded>) -> String {
    match (value, other) {
        (Some(Recorded::Shown(text)), _) => text.clone(),
        (Some(Recorded::Hidden { .. }), _) => "(not shown)".to_owned(),
        (None, Some(Recorded::Shown(other))) if other == "true" => "false".to_owned(),
        (None, Some(Recorded::Shown(other))) if other == "false" => "true".to_owned(),
        (None, _) => "none".to_owned(),
    }
}

/// Two values in few characters, so that what differs is among them.
fn shortened(was: &str, is: &str) -> (String, String) {
    let same = was.chars().zip(is.chars()).take_while(|(a, b)| a == b).count();
    let too_long = |text: &str| text.chars().count() > LONGEST;
    let start = if too_long(was) || too_long(is) { same.saturating_sub(BEFORE) } else { 0 };
    let cut = |text: &str| {
        let mut rest: String = text.chars().skip(start).collect();
        if start > 0 {
            rest.insert(0, '…');
        }
        if too_long(&rest) {
            rest = rest.chars().take(LONGEST).chain(['…']).collect();
        }
        rest
    };
    (cut(was), cut(is))
}

/// What differs between two records, in the order of the keys. What is said about something that is only in one of them is not
/// listed one by one.
pub(super) fn differences(was: &Record, is: &Record) -> Vec<Difference> {
    let mut keys: Vec<&String> = was.keys().chain(is.keys()).collect();
    keys.sort();
    keys.dedup();
    let mut found: Vec<Difference> = Vec::new();
    let mut whole: Option<String> = None;
    for key in keys {
        let (before, now) = (was.get(key), is.get(key));
        if before == now || whole.as_ref().is_some_and(|whole| is_below(key, whole)) {
            continue;
        }
        if before.is_none() != now.is_none() {
            whole = Some(key.clone());
        }
        found.push(Difference { key: key.clone(), was: before.cloned(), is: now.cloned() });
    }
    found
}

fn is_below(key: &str, whole: &str) -> bool {
    key.strip_prefix(whole).is_some_and(|rest| rest.starts_with(['.', '[']))
}

/// The keys of both, each once.
pub(super) fn merged(mut first: Vec<Difference>, second: Vec<Difference>) -> Vec<Difference> {
    for difference in second {
        if !first.iter().any(|known| known.key == difference.key) {
            first.push(difference);
        }
    }
    mem::take(&mut first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Digest;

    fn record(pairs: &[(&str, &str)]) -> Record {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), Recorded::Shown((*value).to_owned()))).collect()
    }

    fn text(was: &[(&str, &str)], is: &[(&str, &str)]) -> String {
        Cause::of(differences(&record(was), &record(is)), "nothing").to_string()
    }

    #[test]
    fn what_differs_is_named_and_the_rest_counted() {
        assert_eq!(text(&[("a", "1")], &[("a", "1")]), "nothing");
        assert_eq!(text(&[("a", "1"), ("b", "2")], &[("a", "2"), ("b", "2")]), "a 1 → 2");
        assert_eq!(text(&[], &[("a", "1"), ("b", "true")]), "a none → 1, b false → true");
        assert_eq!(text(&[("a", "false")], &[]), "a false → true");
        let all = [("a", "1"), ("b", "2"), ("c", "3"), ("d", "4"), ("e", "5")];
        assert_eq!(text(&all[..4], &[]), "a 1 → none, b 2 → none, c 3 → none, d 4 → none");
        assert_eq!(text(&all, &[]), "a 1 → none, b 2 → none, c 3 → none, and 2 more");
    }

    #[test]
    fn what_is_said_of_something_that_is_new_goes_without_saying() {
        let volume = [("v[/d]", "\"bind /x\""), ("v[/d].read_only", "true"), ("v[/da]", "\"tmpfs\"")];
        assert_eq!(text(&[], &volume), "v[/d] none → \"bind /x\", v[/da] none → \"tmpfs\"");
        assert_eq!(text(&volume[..1], &volume[..2]), "v[/d].read_only false → true");
    }

    #[test]
    fn long_values_are_shown_where_they_differ() {
        let long = "x".repeat(100);
        let shown = text(&[("a", &format!("{long}1{long}"))], &[("a", &format!("{long}2{long}"))]);
        assert!(shown.contains(&format!("…{}1x", "x".repeat(BEFORE))), "{shown}");
        assert!(shown.contains(&format!("…{}2x", "x".repeat(BEFORE))), "{shown}");
        assert!(shown.chars().count() < 2 * LONGEST + 20, "{shown}");
    }

    #[test]
    fn what_is_hidden_stays_so() {
        let hidden = |text: &str| Some(Recorded::Hidden { digest: Digest::of(text.as_bytes()) });
        let difference = |was, is| Difference { key: "a".to_owned(), was, is }.to_string();
        assert_eq!(difference(hidden("1"), hidden("2")), "a has another value");
        assert_eq!(difference(None, hidden("2")), "a none → (not shown)");
        assert!(!difference(Some(Recorded::Shown("\"x\u{9b}31m\"".to_owned())), None).contains('\u{9b}'));
    }
}
