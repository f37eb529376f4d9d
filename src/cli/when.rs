//! Moments and spans on a command line. Moments are what Docker takes: a time ago (`10m`, `1h30m`), a date with or without a time and
//! a zone (RFC 3339 and less of it), or seconds since 1970.

use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};

use crate::compose::Span;

/// Reads one, seen from `now`; what has no zone is in `zone`.
pub(super) fn parse(text: &str, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    if text != "0"
        && let Some(Span(ago)) = Span::parse(text)
    {
        return now.checked_sub(SignedDuration::try_from(ago).ok()?).ok();
    }
    if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = format!("{:0<9}", fraction.get(..9).unwrap_or(fraction));
        return Timestamp::new(seconds.parse().ok()?, digits.parse().ok()?).ok();
    }
    // Hours alone, and a date with a zone, are less than the parser takes.
    let date = text.get(..10)?;
    let rest = &text[10..];
    let begin = rest.len() - rest.strip_prefix(['T', 't', ' ']).unwrap_or(rest).len();
    let end = rest[begin..].find(['Z', 'z', '+', '-']).map_or(rest.len(), |at| at + begin);
    if begin == 0 && end > 0 {
        return None;
    }
    let (time, offset) = (&rest[begin..end], &rest[end..]);
    let time = match time.len() {
        0 => "00:00:00".to_owned(),
        2 => format!("{time}:00:00"),
        5 => format!("{time}:00"),
        _ => time.to_owned(),
    };
    if offset.is_empty() {
        let civil: DateTime = format!("{date}T{time}").parse().ok()?;
        return civil.to_zoned(zone.clone()).ok().map(|zoned| zoned.timestamp());
    }
    format!("{date}T{time}{offset}").parse().ok()
}

/// For a flag.
pub(super) fn flag(text: &str) -> Result<Timestamp, String> {
    parse(text, Timestamp::now(), &TimeZone::system()).ok_or_else(|| {
        "write a time ago, such as `10m`, a time, such as `2026-01-02T15:04:05Z`, or seconds since 1970".to_owned()
    })
}

/// How long something may take, for a flag.
pub(super) fn seconds(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "write a whole number of seconds, such as `10`".to_owned())
}

#[cfg(test)]
mod tests {
    use jiff::tz::offset;

    use super::*;

    #[test]
    fn what_docker_takes() {
        let now: Timestamp = "2026-03-04T12:00:00Z".parse().expect("a time");
        let zone = TimeZone::fixed(offset(2));
        for (text, expected) in [
            ("10m", "2026-03-04T11:50:00Z"),
            ("1h30m", "2026-03-04T10:30:00Z"),
            ("0s", "2026-03-04T12:00:00Z"),
            ("0", "1970-01-01T00:00:00Z"),
            ("1136073600.5", "2006-01-01T00:00:00.5Z"),
            ("1136073600.000000001", "2006-01-01T00:00:00.000000001Z"),
            ("2026-01-02T15:04:05.999999999Z", "2026-01-02T15:04:05.999999999Z"),
            ("2026-01-02T15:04:05+01:00", "2026-01-02T14:04:05Z"),
            ("2026-01-02T15:04-01:00", "2026-01-02T16:04:00Z"),
            ("2026-01-02T15Z", "2026-01-02T15:00:00Z"),
            ("2026-01-02Z", "2026-01-02T00:00:00Z"),
            ("2026-01-02T15:04:05.5", "2026-01-02T13:04:05.5Z"),
            ("2026-01-02T15:04", "2026-01-02T13:04:00Z"),
            ("2026-01-02T15", "2026-01-02T13:00:00Z"),
            ("2026-01-02", "2026-01-01T22:00:00Z"),
        ] {
            assert_eq!(parse(text, now, &zone), Some(expected.parse().expect("a time")), "{text}");
        }
        for bad in
            ["", "x", "10", "yesterday", "2026-13-01", "2026-01-02T25", "2026-01-0215:04", "10 m", "-", "é2345678901"]
        {
            let expected = (bad == "10").then(|| Timestamp::from_second(10).expect("a time"));
            assert_eq!(parse(bad, now, &zone), expected, "{bad}");
        }
    }
}
