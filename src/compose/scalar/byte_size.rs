//! Amounts of memory: `64m`, `1gb`, `512k`, or plain bytes.

use serde::{Serialize, Serializer};
use serde_json::{Value as Json, json};

use super::super::{Format, Reader, Schemas, untyped};
use crate::{
    diagnostics::Diagnostic,
    yaml::tree::{Node, ScalarKind},
};

/// Bytes; -1 is no limit at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteSize(pub i64);

/// As Compose prints it: a string of digits.
impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl ByteSize {
    /// Reads an amount. Units are powers of 1024 (Compose Specification, "Specifying byte values").
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "-1" {
            return Some(Self(-1));
        }
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let shift = match unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            "p" | "pb" | "pib" => 50,
            _ => return None,
        };
        let unit = 1_i64 << shift;
        match number.split_once('.') {
            None => number.parse::<i64>().ok()?.checked_mul(unit).map(Self),
            Some(_) => {
                // As Compose does it, in double precision.
                let size = number.parse::<f64>().ok()? * unit as f64;
                (size < i64::MAX as f64).then_some(Self(size as i64))
            }
        }
    }
}

/// What is said of a text that is none.
pub(crate) fn not_a_size(text: &str) -> Diagnostic {
    Diagnostic::error(format!("`{text}` is not an amount of memory"))
        .hint("write a number of bytes, or one with k, m or g, such as `64m`")
}

impl Format for ByteSize {
    fn omitted(&self) -> bool {
        self.0 == 0
    }
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        let scalar = cx.string_or_number(node)?;
        let size = match scalar.kind {
            // A part of a byte is none.
            ScalarKind::Float => None,
            ScalarKind::Int => {
                untyped::integer(scalar).and_then(|size| i64::try_from(size).ok()).filter(|size| *size >= -1).map(Self)
            }
            _ => Self::parse(&scalar.text),
        };
        if size.is_none() {
            cx.report(not_a_size(&scalar.text), node);
        }
        size
    }
    fn schema(schemas: &mut Schemas) -> Json {
        const AMOUNT: &str = "^(-1|([0-9][0-9_]*\\.?[0-9]*|\\.[0-9]+) ?([kmgtpKMGTP]([iI]?[bB])?|[bB])?)$";
        schemas.or_text(json!({"type": "number", "minimum": -1}), AMOUNT)
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
            (".5g", 1 << 29),
            ("-1", -1),
        ] {
            assert_eq!(ByteSize::parse(text), Some(ByteSize(size)), "{text}");
        }
        for bad in ["", "m", "-2", "1x", "99999999999g", "1.2.3m", "2  m"] {
            assert_eq!(ByteSize::parse(bad), None, "{bad}");
        }
    }
}
