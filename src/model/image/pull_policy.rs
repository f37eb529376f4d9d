//! When an image is looked for at its source.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

/// `pull_policy:` (Compose Specification).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum PullPolicy {
    /// Each time.
    Always,
    /// If there is none here: `missing` and `if_not_present`, and what goes without saying.
    #[default]
    Missing,
    /// Not at all: what is not here is an error.
    Never,
    /// It is built, and never pulled.
    Build,
    /// If what is here was last looked for longer ago than this: `daily`, `weekly`, `every_12h`.
    Every(Duration),
}

/// A text that is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a pull policy: use `always`, `missing`, `never`, `build`, `daily`, `weekly` or `every_` with a time such as `every_12h`"
)]
pub struct InvalidPullPolicy(pub String);

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

impl FromStr for PullPolicy {
    type Err = InvalidPullPolicy;

    fn from_str(text: &str) -> Result<Self, InvalidPullPolicy> {
        Ok(match text {
            "always" | "refresh" => Self::Always,
            "missing" | "if_not_present" => Self::Missing,
            "never" => Self::Never,
            "build" => Self::Build,
            "daily" => Self::Every(Duration::from_secs(DAY)),
            "weekly" => Self::Every(Duration::from_secs(7 * DAY)),
            other => {
                let span = other.strip_prefix("every_").and_then(span);
                Self::Every(span.ok_or_else(|| InvalidPullPolicy(text.to_owned()))?)
            }
        })
    }
}

/// Numbers, each with `w`, `d`, `h`, `m` or `s`.
fn span(text: &str) -> Option<Duration> {
    let mut seconds = 0_u64;
    for part in text.split_inclusive(|c: char| !c.is_ascii_digit()) {
        let (number, unit) = part.split_at(part.find(|c: char| !c.is_ascii_digit())?);
        let unit = match unit {
            "w" => 7 * DAY,
            "d" => DAY,
            "h" => HOUR,
            "m" => 60,
            "s" => 1,
            _ => return None,
        };
        seconds = seconds.checked_add(number.parse::<u64>().ok()?.checked_mul(unit)?)?;
    }
    (!text.is_empty()).then(|| Duration::from_secs(seconds))
}

impl TryFrom<String> for PullPolicy {
    type Error = InvalidPullPolicy;

    fn try_from(text: String) -> Result<Self, InvalidPullPolicy> {
        text.parse()
    }
}

impl From<PullPolicy> for String {
    fn from(policy: PullPolicy) -> Self {
        policy.to_string()
    }
}

impl fmt::Display for PullPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => f.write_str("always"),
            Self::Missing => f.write_str("missing"),
            Self::Never => f.write_str("never"),
            Self::Build => f.write_str("build"),
            Self::Every(span) => write!(f, "every_{}s", span.as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_reads_back_as_itself() {
        for text in
            ["always", "missing", "if_not_present", "never", "build", "daily", "weekly", "every_1d12h", "every_0s"]
        {
            let policy: PullPolicy = text.parse().unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        assert_eq!("every_1d12h".parse(), Ok(PullPolicy::Every(Duration::from_secs(36 * HOUR))));
        for wrong in ["", "sometimes", "every_", "every_5", "every_h", "every_5y", "every_99999999999999999999w"] {
            assert_eq!(wrong.parse::<PullPolicy>(), Err(InvalidPullPolicy(wrong.to_owned())));
        }
    }
}
