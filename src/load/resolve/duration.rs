//! Durations as Compose writes them: `1m30s`, `500ms`, `1.5h`.

use std::time::Duration;

use super::{Context, Node, ScalarKind};
use crate::diagnostics::Diagnostic;

pub(super) fn read(cx: &mut Context<'_>, what: &str, node: &Node) -> Option<Duration> {
    let text = cx.string_or_number(what, node)?;
    let parsed = parse(text);
    if parsed.is_none() {
        let diagnostic = Diagnostic::error(format!("`{text}` is not a duration")).at(&node.span);
        let number = node.scalar().is_some_and(|scalar| scalar.kind != ScalarKind::String)
            || text.bytes().all(|b| b.is_ascii_digit());
        cx.push(if number {
            diagnostic.hint(format!("say of what: `{text}s` for seconds"))
        } else {
            diagnostic.hint("write numbers with the units h, m, s, ms or us, such as `1m30s`")
        });
    }
    parsed
}

/// Nothing for what is no duration, is negative or does not fit 64 bits of nanoseconds, as in Go.
fn parse(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u128); 8] = [
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000),
        ("μs", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60 * 1_000_000_000),
        ("h", 3600 * 1_000_000_000),
    ];
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
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
        // Twelve digits are finer than a nanosecond of an hour.
        let fraction = &fraction[..fraction.len().min(12)];
        if !fraction.is_empty() {
            total += fraction.parse::<u128>().ok()? * nanos / 10_u128.pow(fraction.len() as u32);
        }
    }
    if text.is_empty() || total > i64::MAX as u128 { None } else { Some(Duration::from_nanos(total as u64)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [
            ("1m30s", 90_000),
            ("500ms", 500),
            ("1.5h", 5_400_000),
            ("0", 0),
            ("0s", 0),
            (".5s", 500),
            ("1h2m3s", 3_723_000),
        ] {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for bad in
            ["", "10", "s", "-1s", "1 s", "1d", "1.2.3s", "99999999999h", "1s2", ".s", "1ß", "9999999999999999999999s"]
        {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
