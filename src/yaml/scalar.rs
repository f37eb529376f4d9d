//! What a plain scalar means, as Compose's YAML library understands it: the core schema of YAML 1.2, with the numbers of
//! YAML 1.1 beside it. So `yes`, `on` and `22:22` are strings, while `0755` and `1_000` are numbers.

use std::borrow::Cow;

use super::tree::ScalarKind;

mod timestamp;

/// A scalar as a value of its type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Typed<'a> {
    Null,
    Bool(bool),
    /// From the least of 64 bits with a sign to the greatest without.
    Int(i128),
    /// Also `inf` and `nan`.
    Float(f64),
    /// A point in time is one too, in the form of RFC 3339.
    String(Cow<'a, str>),
}

/// The type of a plain scalar.
pub(crate) fn classify(text: &str) -> ScalarKind {
    match text.as_bytes().first() {
        None => ScalarKind::Null,
        Some(b'~' | b'n' | b'N' | b't' | b'T' | b'f' | b'F') => match text {
            "~" | "null" | "Null" | "NULL" => ScalarKind::Null,
            "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => ScalarKind::Bool,
            _ => ScalarKind::String,
        },
        Some(b'+' | b'-' | b'.' | b'0'..=b'9') => match number(text) {
            Some(Typed::Int(_)) => ScalarKind::Int,
            Some(_) => ScalarKind::Float,
            None if timestamp::canonical(text).is_some() => ScalarKind::Timestamp,
            None => ScalarKind::String,
        },
        Some(_) => ScalarKind::String,
    }
}

/// The value of a scalar of a type that [`classify`] has found in it, or that a tag has given it.
pub(crate) fn value(text: &str, kind: ScalarKind) -> Typed<'_> {
    match kind {
        ScalarKind::Null => Typed::Null,
        ScalarKind::Bool => Typed::Bool(text.starts_with(['t', 'T'])),
        ScalarKind::Int | ScalarKind::Float => match number(text) {
            Some(Typed::Int(int)) if kind == ScalarKind::Float => Typed::Float(int as f64),
            Some(number) => number,
            None => Typed::String(text.into()),
        },
        ScalarKind::Timestamp => Typed::String(timestamp::canonical(text).map_or(text.into(), Cow::from)),
        ScalarKind::String => Typed::String(text.into()),
    }
}

/// The text that Compose makes of a value where it wants a string, as in `environment` and `labels`.
pub(crate) fn go_string(value: &Typed<'_>) -> String {
    match value {
        Typed::Null => String::new(),
        Typed::Bool(value) => value.to_string(),
        Typed::Int(value) => value.to_string(),
        Typed::Float(value) if value.is_nan() => "NaN".to_owned(),
        Typed::Float(value) if value.is_infinite() => if *value > 0.0 { "+Inf" } else { "-Inf" }.to_owned(),
        Typed::Float(value) => shortest(*value),
        Typed::String(text) => text.clone().into_owned(),
    }
}

/// The fewest digits that mean the same number, with an exponent below 0.0001 and from a million on.
fn shortest(value: f64) -> String {
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return value.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

fn number(text: &str) -> Option<Typed<'static>> {
    match text {
        ".nan" | ".NaN" | ".NAN" => return Some(Typed::Float(f64::NAN)),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Some(Typed::Float(f64::INFINITY)),
        "-.inf" | "-.Inf" | "-.INF" => return Some(Typed::Float(f64::NEG_INFINITY)),
        _ => {}
    }
    if text.starts_with('.') && !underscores_separate_digits(text) {
        return None;
    }
    let plain: Cow<'_, str> = if text.contains('_') { text.replace('_', "").into() } else { text.into() };
    if let Some(int) = int(&plain) {
        return Some(Typed::Int(int));
    }
    // One beyond the greatest is a text, not infinity.
    let float = plain.parse::<f64>().ok().filter(|float| is_float(&plain) && float.is_finite())?;
    Some(Typed::Float(float))
}

/// An integer of 64 bits: decimal, or `0x`, `0o`, `0b` and a leading zero (octal).
fn int(text: &str) -> Option<i128> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', _, ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', _, ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', _, ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if !digits.bytes().all(|byte| char::from(byte).is_digit(radix)) {
        return None;
    }
    let magnitude = i128::from(u64::from_str_radix(digits, radix).ok()?);
    let value = if negative { -magnitude } else { magnitude };
    // Only without a sign may it need all 64 bits.
    let fits = i64::try_from(value).is_ok() || !text.starts_with(['+', '-']);
    fits.then_some(value)
}

/// ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?, after a sign
fn is_float(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    digits(whole)
        && digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|exponent| !exponent.is_empty() && digits(exponent))
}

fn underscores_separate_digits(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
    (0..bytes.len()).filter(|at| bytes[*at] == b'_').all(|at| digit(at.checked_sub(1)) && digit(Some(at + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str) -> Typed<'_> {
        value(text, classify(text))
    }

    #[test]
    fn what_compose_reads() {
        let string = |text: &'static str| Typed::String(text.into());
        let max = i128::from(u64::MAX);
        for (text, value) in [
            ("", Typed::Null),
            ("~", Typed::Null),
            ("Null", Typed::Null),
            ("nULL", string("nULL")),
            ("true", Typed::Bool(true)),
            ("FALSE", Typed::Bool(false)),
            ("tRUE", string("tRUE")),
            ("yes", string("yes")),
            ("off", string("off")),
            ("y", string("y")),
            ("-12", Typed::Int(-12)),
            ("+1", Typed::Int(1)),
            ("-0", Typed::Int(0)),
            ("0755", Typed::Int(0o755)),
            ("-0755", Typed::Int(-0o755)),
            ("0_7", Typed::Int(7)),
            ("08", Typed::Float(8.0)),
            ("01.5", Typed::Float(1.5)),
            ("0x1F", Typed::Int(31)),
            ("0X1F", Typed::Int(31)),
            ("0x_1", Typed::Int(1)),
            ("-0x10", Typed::Int(-16)),
            ("0o17", Typed::Int(15)),
            ("0O17", Typed::Int(15)),
            ("0o18", string("0o18")),
            ("0o", string("0o")),
            ("0b11", Typed::Int(3)),
            ("+0b11", Typed::Int(3)),
            ("0b2", string("0b2")),
            ("0x", string("0x")),
            ("00x1", string("00x1")),
            ("1_000", Typed::Int(1000)),
            ("1__0", Typed::Int(10)),
            ("1_", Typed::Int(1)),
            ("_1", string("_1")),
            ("-_1", Typed::Int(-1)),
            ("1_000.5", Typed::Float(1000.5)),
            ("18446744073709551615", Typed::Int(max)),
            ("18446744073709551616", Typed::Float(18_446_744_073_709_551_616.0)),
            ("+9223372036854775808", Typed::Float(9_223_372_036_854_775_808.0)),
            ("-9223372036854775808", Typed::Int(i128::from(i64::MIN))),
            ("-9223372036854775809", Typed::Float(-9_223_372_036_854_775_808.0)),
            ("-0x8000000000000001", string("-0x8000000000000001")),
            ("0x10000000000000000", string("0x10000000000000000")),
            ("02000000000000000000000", Typed::Float(2e21)),
            ("1e3", Typed::Float(1000.0)),
            ("1E+5", Typed::Float(100_000.0)),
            ("1e", string("1e")),
            ("1e400", string("1e400")),
            ("1e-400", Typed::Float(0.0)),
            (".5", Typed::Float(0.5)),
            ("+.5", Typed::Float(0.5)),
            (".1_0", Typed::Float(0.1)),
            (".1__0", string(".1__0")),
            (".5_", string(".5_")),
            ("._1", string("._1")),
            ("+.5_0", Typed::Float(0.5)),
            ("5.", Typed::Float(5.0)),
            ("1.e5", Typed::Float(100_000.0)),
            (".", string(".")),
            (".e5", string(".e5")),
            ("-", string("-")),
            ("--", string("--")),
            ("++1", string("++1")),
            ("+-1", string("+-1")),
            ("0x-1", string("0x-1")),
            ("0x1p4", string("0x1p4")),
            ("1.2.3", string("1.2.3")),
            ("inf", string("inf")),
            ("-.inf", Typed::Float(f64::NEG_INFINITY)),
            ("22:22", string("22:22")),
            ("e3", string("e3")),
            ("=", string("=")),
            ("<<", string("<<")),
            ("2020-01-01", string("2020-01-01T00:00:00Z")),
            ("2020-13-01", string("2020-13-01")),
            ("2020-01-01_", string("2020-01-01_")),
        ] {
            assert_eq!(typed(text), value, "{text:?}");
        }
        assert!(matches!(typed(".nan"), Typed::Float(nan) if nan.is_nan()));
    }

    #[test]
    fn what_compose_makes_of_them_in_a_string_place() {
        for (text, string) in [
            ("0755", "493"),
            ("1.0", "1"),
            ("1.10", "1.1"),
            ("1e3", "1000"),
            ("1e6", "1e+06"),
            ("100000.5", "100000.5"),
            ("123456789.0", "1.23456789e+08"),
            ("1234567.5", "1.2345675e+06"),
            ("100000000000000000000", "1e+20"),
            ("123456789012345678901234567890", "1.2345678901234568e+29"),
            ("0.0001", "0.0001"),
            ("0.00001", "1e-05"),
            ("1e-7", "1e-07"),
            ("-0.0", "-0"),
            ("-0", "0"),
            ("TRUE", "true"),
            (".inf", "+Inf"),
            ("-.inf", "-Inf"),
            (".nan", "NaN"),
            ("12345678", "12345678"),
            ("18446744073709551615", "18446744073709551615"),
        ] {
            assert_eq!(go_string(&typed(text)), string, "{text:?}");
        }
    }
}
