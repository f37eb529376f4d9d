//! What a plain scalar means: the core schema of YAML 1.2, so that `yes`, `on` and `22:22` are strings.

use super::tree::ScalarKind;

/// Reads a plain scalar (YAML 1.2.2, 10.3.2 "Tag Resolution").
pub(crate) fn classify(text: &str) -> ScalarKind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => ScalarKind::Null,
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => ScalarKind::Bool,
        _ if is_int(text) => ScalarKind::Int,
        _ if is_float(text) => ScalarKind::Float,
        _ => ScalarKind::String,
    }
}

fn is_int(text: &str) -> bool {
    let all = |digits: &str, valid: fn(&u8) -> bool| !digits.is_empty() && digits.as_bytes().iter().all(valid);
    if let Some(digits) = text.strip_prefix("0o") {
        return all(digits, |b| (b'0'..=b'7').contains(b));
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return all(digits, u8::is_ascii_hexdigit);
    }
    all(text.strip_prefix(['-', '+']).unwrap_or(text), u8::is_ascii_digit)
}

fn is_float(text: &str) -> bool {
    if matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return true;
    }
    // ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn core_schema() {
        for (text, kind) in [
            ("", ScalarKind::Null),
            ("~", ScalarKind::Null),
            ("true", ScalarKind::Bool),
            ("yes", ScalarKind::String),
            ("off", ScalarKind::String),
            ("-12", ScalarKind::Int),
            ("0x1F", ScalarKind::Int),
            ("0o17", ScalarKind::Int),
            ("0o18", ScalarKind::String),
            ("1e3", ScalarKind::Float),
            (".5", ScalarKind::Float),
            ("5.", ScalarKind::Float),
            (".", ScalarKind::String),
            ("1.2.3", ScalarKind::String),
            ("-.inf", ScalarKind::Float),
            ("22:22", ScalarKind::String),
            ("1_000", ScalarKind::String),
            ("e3", ScalarKind::String),
            ("-", ScalarKind::String),
        ] {
            assert_eq!(classify(text), kind, "{text:?}");
        }
    }
}
