//! Spans of time: `1m30s`, `500ms`, `1.5h`.

use std::{fmt, time::Duration};

use serde::{Serialize, Serializer};
use serde_json::Value as Json;

use super::super::{Format, Reader, Schemas};
use crate::{
    diagnostics::Diagnostic,
    yaml::tree::{Node, ScalarKind},
};

/// A span of time, to the nanosecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl Span {
    /// Reads one. Nothing for what is none, is negative or does not fit 64 bits of nanoseconds.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        const UNITS: [(&str, u128); 10] = [
            ("ns", 1),
            ("us", 1_000),
            ("µs", 1_000),
            ("μs", 1_000),
            ("ms", 1_000_000),
            ("s", 1_000_000_000),
            ("m", 60 * 1_000_000_000),
            ("h", 3600 * 1_000_000_000),
            ("d", 24 * 3600 * 1_000_000_000),
            ("w", 7 * 24 * 3600 * 1_000_000_000),
        ];
        if text == "0" {
            return Some(Self(Duration::ZERO));
        }
        let mut rest = text.strip_prefix('+').unwrap_or(text);
        let mut total: u128 = 0;
        while !rest.is_empty() {
            let number = &rest[..rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len())];
            rest = &rest[number.len()..];
            let unit = &rest[..rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len())];
            rest = &rest[unit.len()..];
            let (_, nanos) = UNITS.iter().find(|(name, _)| *name == unit)?;
            let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
            if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || whole.len() > 20 {
                return None;
            }
            let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
            total = total.checked_add(whole.checked_mul(*nanos)?)?;
            // Twelve digits are finer than a nanosecond of a week.
            let fraction = &fraction[..fraction.len().min(12)];
            if !fraction.is_empty() {
                let part = fraction.parse::<u128>().ok()? * nanos / 10_u128.pow(fraction.len() as u32);
                total = total.checked_add(part)?;
            }
        }
        let nanos = u64::try_from(total).ok().filter(|nanos| i64::try_from(*nanos).is_ok())?;
        (!text.trim_start_matches('+').is_empty()).then_some(Self(Duration::from_nanos(nanos)))
    }
}

/// As Go prints it, which is how Compose does: `1h30m0s`, `1.5s`, `500ms`.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let fraction = |value: u128, unit: u128| {
            let (whole, rest) = (value / unit, value % unit);
            let width = unit.ilog10() as usize;
            let digits = format!("{rest:0width$}");
            match digits.trim_end_matches('0') {
                "" => whole.to_string(),
                digits => format!("{whole}.{digits}"),
            }
        };
        match nanos {
            0 => f.write_str("0s"),
            1..1_000 => write!(f, "{nanos}ns"),
            1_000..1_000_000 => write!(f, "{}µs", fraction(nanos, 1_000)),
            1_000_000..1_000_000_000 => write!(f, "{}ms", fraction(nanos, 1_000_000)),
            _ => {
                const MINUTE: u128 = 60 * 1_000_000_000;
                let (hours, minutes) = (nanos / (60 * MINUTE), nanos / MINUTE % 60);
                if hours > 0 {
                    write!(f, "{hours}h")?;
                }
                if hours > 0 || minutes > 0 {
                    write!(f, "{minutes}m")?;
                }
                write!(f, "{}s", fraction(nanos % MINUTE, 1_000_000_000))
            }
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Format for Span {
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        let number = node.scalar().is_some_and(|scalar| matches!(scalar.kind, ScalarKind::Int | ScalarKind::Float));
        if let Some(scalar) = node.scalar().filter(|_| number) {
            let diagnostic = Diagnostic::error(format!("`{}` is not a duration", scalar.text));
            cx.report(diagnostic.hint(format!("say of what: `{}s` for seconds", scalar.text)), node);
            return None;
        }
        let text = cx.string(node)?;
        let parsed = Self::parse(text);
        if parsed.is_none() {
            let diagnostic = Diagnostic::error(format!("`{text}` is not a duration"));
            let bare = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            let diagnostic = if bare {
                diagnostic.hint(format!("say of what: `{text}s` for seconds"))
            } else {
                diagnostic.hint("write numbers with the units w, d, h, m, s, ms or us, such as `1m30s`")
            };
            cx.report(diagnostic, node);
        }
        parsed
    }
    fn schema(schemas: &mut Schemas) -> Json {
        schemas.pattern("^(0|(([0-9]+\\.?[0-9]*|\\.[0-9]+)(ns|us|µs|μs|ms|s|m|h|d|w))+)$")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis, shown) in [
            ("1m30s", 90_000, "1m30s"),
            ("500ms", 500, "500ms"),
            ("1500ms", 1500, "1.5s"),
            ("1.5h", 5_400_000, "1h30m0s"),
            ("0", 0, "0s"),
            (".5s", 500, "500ms"),
            ("1h2m3s", 3_723_000, "1h2m3s"),
            ("1d2h", 93_600_000, "26h0m0s"),
            ("+5s", 5_000, "5s"),
        ] {
            let parsed = Span::parse(text).expect(text);
            assert_eq!(parsed.0, Duration::from_millis(millis), "{text}");
            assert_eq!(parsed.to_string(), shown, "{text}");
        }
        for bad in [
            "",
            "+",
            "++1s",
            "10",
            "s",
            "-1s",
            "1 s",
            "1y",
            "1.2.3s",
            "99999999999h",
            "1s2",
            ".s",
            "1ß",
            "9999999999999999999999s",
        ] {
            assert_eq!(Span::parse(bad), None, "{bad}");
        }
        // Terms that add up to just below what fits in 128 bits, and a fraction that would go beyond.
        let terms = "99999999999999999999w".repeat(7) + "0.9w";
        assert_eq!(Span::parse(&terms), None);
    }
}
