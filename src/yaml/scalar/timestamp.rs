//! Points in time, which YAML 1.1 knows and Compose's library still reads (yaml.org/type/timestamp.html, in part).

/// The form of RFC 3339, if the text is a date, or a date and a time, in one of the forms that are read.
pub(super) fn canonical(text: &str) -> Option<String> {
    let (year, rest) = text.split_at_checked(4)?;
    let year: u32 = if digits(year) { year.parse().ok()? } else { return None };
    let (month, rest) = field(rest.strip_prefix('-')?)?;
    let (day, rest) = field(rest.strip_prefix('-')?)?;
    if !(1..=12).contains(&month) || day < 1 || day > days(year, month) {
        return None;
    }
    let date = format!("{year:04}-{month:02}-{day:02}");
    if rest.is_empty() {
        return Some(format!("{date}T00:00:00Z"));
    }
    let zoned = !rest.starts_with(' ');
    let (hour, rest) = field(rest.strip_prefix(['T', 't', ' '])?)?;
    let (minute, rest) = field(rest.strip_prefix(':')?)?;
    let (second, rest) = field(rest.strip_prefix(':')?)?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (fraction, rest) = match rest.strip_prefix(['.', ',']) {
        Some(rest) => {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            if end == 0 {
                return None;
            }
            // Nanoseconds are the finest there is.
            (rest[..end.min(9)].trim_end_matches('0'), &rest[end..])
        }
        None => ("", rest),
    };
    let zone = match rest {
        "" if !zoned => "Z".to_owned(),
        "Z" if zoned => "Z".to_owned(),
        _ if zoned => offset(rest)?,
        _ => return None,
    };
    let dot = if fraction.is_empty() { "" } else { "." };
    Some(format!("{date}T{hour:02}:{minute:02}:{second:02}{dot}{fraction}{zone}"))
}

/// A number of one digit or two.
fn field(text: &str) -> Option<(u32, &str)> {
    let end = text.bytes().take(2).take_while(u8::is_ascii_digit).count();
    Some((text.get(..end)?.parse().ok()?, &text[end..]))
}

/// `+hh:mm`.
fn offset(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    if bytes.len() != 6 || !matches!(bytes[0], b'+' | b'-') || bytes[3] != b':' {
        return None;
    }
    let (hours, minutes) = (text.get(1..3)?, text.get(4..6)?);
    if !digits(hours) || !digits(minutes) || hours > "24" || minutes > "60" {
        return None;
    }
    Some(if hours == "00" && minutes == "00" { "Z".to_owned() } else { text.to_owned() })
}

fn digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn days(year: u32, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn what_compose_reads() {
        for (text, found) in [
            ("2020-01-01", Some("2020-01-01T00:00:00Z")),
            ("2020-1-1", Some("2020-01-01T00:00:00Z")),
            ("2020-02-29", Some("2020-02-29T00:00:00Z")),
            ("2021-02-29", None),
            ("2020-13-01", None),
            ("2020-001-01", None),
            ("0000-01-01", Some("0000-01-01T00:00:00Z")),
            ("2020-01-01T1:2:3Z", Some("2020-01-01T01:02:03Z")),
            ("2020-01-01 10:00:00", Some("2020-01-01T10:00:00Z")),
            ("2020-01-01 1:2:3.5", Some("2020-01-01T01:02:03.5Z")),
            ("2020-01-01 10:00:00 +1", None),
            ("2020-01-01T00:00:00.500Z", Some("2020-01-01T00:00:00.5Z")),
            ("2020-01-01T00:00:00.1234567891Z", Some("2020-01-01T00:00:00.123456789Z")),
            ("2020-01-01t00:00:00+02:30", Some("2020-01-01T00:00:00+02:30")),
            ("2020-01-01T00:00:00-00:00", Some("2020-01-01T00:00:00Z")),
            ("2020-01-01T00:00:00+0200", None),
            ("2020-01-01t00:00:00z", None),
            ("2020-01-01T00:00:00", None),
            ("2020-01-01T00:00Z", None),
            ("2020-01-01T24:00:00Z", None),
            ("2020-01-01T00:00:60Z", None),
            ("2020-01-01T00:00:00.Z", None),
            ("20200101", None),
            ("äö-01-01", None),
        ] {
            assert_eq!(canonical(text).as_deref(), found, "{text}");
        }
    }
}
