//! The signal that asks a service to stop.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A signal by number, read from `SIGTERM`, `TERM` or `15` (signal(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StopSignal(i32);

/// A text that names no signal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a signal: use a name such as SIGTERM or a number from 1 to 64")]
pub struct InvalidSignal(pub String);

impl StopSignal {
    /// SIGTERM, what a service gets when the file says nothing.
    pub const TERM: Self = Self(libc::SIGTERM);
    /// SIGKILL, which nothing can refuse.
    pub const KILL: Self = Self(libc::SIGKILL);

    /// The number as the kernel knows it on this architecture.
    pub fn number(self) -> i32 {
        self.0
    }
}

impl Default for StopSignal {
    fn default() -> Self {
        Self::TERM
    }
}

impl FromStr for StopSignal {
    type Err = InvalidSignal;

    fn from_str(text: &str) -> Result<Self, InvalidSignal> {
        let invalid = || InvalidSignal(text.to_owned());
        if let Ok(number) = text.parse::<i32>() {
            return if (1..=64).contains(&number) { Ok(Self(number)) } else { Err(invalid()) };
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        // Real-time signals, relative to the C library's own first and last ones as kill(1) reads them.
        let offset = |rest: &str| if rest.is_empty() { Ok(0) } else { rest[1..].parse::<i32>().map_err(|_| invalid()) };
        if let Some(rest) = name.strip_prefix("RTMIN") {
            if rest.is_empty() || rest.starts_with('+') {
                let number = libc::SIGRTMIN().saturating_add(offset(rest)?);
                return if number <= libc::SIGRTMAX() { Ok(Self(number)) } else { Err(invalid()) };
            }
            return Err(invalid());
        }
        if let Some(rest) = name.strip_prefix("RTMAX") {
            if rest.is_empty() || rest.starts_with('-') {
                let number = libc::SIGRTMAX().saturating_sub(offset(rest)?);
                return if number >= libc::SIGRTMIN() { Ok(Self(number)) } else { Err(invalid()) };
            }
            return Err(invalid());
        }
        let signal: nix::sys::signal::Signal = format!("SIG{name}").parse().map_err(|_| invalid())?;
        Ok(Self(signal as i32))
    }
}

impl fmt::Display for StopSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match nix::sys::signal::Signal::try_from(self.0) {
            Ok(signal) => f.write_str(signal.as_str()),
            Err(_) => write!(f, "signal {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_numbers_and_real_time_signals() {
        for (text, number) in [("SIGTERM", 15), ("int", 2), ("9", 9), ("SIGQUIT", 3), ("USR1", 10)] {
            assert_eq!(text.parse::<StopSignal>().expect(text).number(), number);
        }
        assert_eq!("SIGRTMIN+3".parse::<StopSignal>().expect("real-time").number(), libc::SIGRTMIN() + 3);
        for bad in ["", "SIGNOPE", "0", "65", "RTMIN+99", "RTMIN3", "-1"] {
            assert!(bad.parse::<StopSignal>().is_err(), "{bad:?} was taken");
        }
    }
}
