//! Amounts of memory as Compose writes them: `64m`, `1gb`, `512k`, or plain bytes.

use super::{Context, Node};
use crate::diagnostics::Diagnostic;

pub(super) fn read(cx: &mut Context<'_>, what: &str, node: &Node) -> Option<u64> {
    let text = cx.string_or_number(what, node)?;
    let size = parse(text);
    if size.is_none() {
        cx.push(not_a_size(text).at(&node.span));
    }
    size
}

pub(super) fn not_a_size(text: &str) -> Diagnostic {
    Diagnostic::error(format!("`{text}` is not an amount of memory"))
        .hint("write a number of bytes, or one with k, m or g, such as `64m`")
}

/// Units are powers of 1024 (Compose Specification, "Specifying byte values").
pub(super) fn parse(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    match number.split_once('.') {
        None => number.parse::<u64>().ok()?.checked_mul(1 << shift),
        Some((whole, fraction)) => {
            let numerator: u64 = fraction.get(..fraction.len().min(6))?.parse().ok()?;
            let part = u128::from(numerator) * (1_u128 << shift) / 10_u128.pow(fraction.len().min(6) as u32);
            whole.parse::<u64>().ok()?.checked_mul(1 << shift)?.checked_add(part as u64)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, size) in [
            ("0", 0),
            ("1024", 1024),
            ("64m", 64 << 20),
            ("1gb", 1 << 30),
            ("512K", 512 << 10),
            ("1.5g", 3 << 29),
            ("2 MiB", 2 << 20),
        ] {
            assert_eq!(parse(text), Some(size), "{text}");
        }
        for bad in ["", "m", "-1", "1x", "99999999999g", "1.2.3m", ".5g", "1.g"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
