//! Values that are nobody's business but their author's.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::load::tree::{Node, ScalarKind, Value};

/// Keys that begin with `x-`, with their values.
pub type Extensions = BTreeMap<String, Untyped>;

/// Whatever stands there.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Untyped {
    /// Nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// A number with a fraction, or one too large for a whole one.
    Float(f64),
    /// A string.
    Text(String),
    /// A list.
    List(Vec<Self>),
    /// A mapping.
    Map(BTreeMap<String, Self>),
}

impl Untyped {
    pub(crate) fn of(node: &Node) -> Self {
        match &node.value {
            Value::Broken => Self::Null,
            Value::Scalar(found) => Self::scalar(&found.text, found.kind),
            Value::Sequence(nodes) => Self::List(nodes.iter().map(Self::of).collect()),
            Value::Mapping(entries) => {
                Self::Map(entries.iter().map(|entry| (entry.key.to_string(), Self::of(&entry.value))).collect())
            }
        }
    }

    /// What a scalar of that kind means.
    pub(crate) fn scalar(text: &str, kind: ScalarKind) -> Self {
        match kind {
            ScalarKind::Null => Self::Null,
            ScalarKind::Bool => Self::Bool(text.eq_ignore_ascii_case("true")),
            ScalarKind::Int => integer(text).map_or_else(|| Self::Text(text.to_owned()), Self::Int),
            ScalarKind::Float => text.parse().map_or_else(|_| Self::Text(text.to_owned()), Self::Float),
            ScalarKind::String => Self::Text(text.to_owned()),
        }
    }
}

/// A whole number as YAML writes it.
pub(crate) fn integer(text: &str) -> Option<i128> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = match digits.get(..2) {
        Some("0x") => (16, &digits[2..]),
        Some("0o") => (8, &digits[2..]),
        _ if digits.len() > 1 && digits.starts_with('0') => (8, &digits[1..]),
        _ => (10, digits),
    };
    Some(sign * i128::from_str_radix(digits, radix).ok()?)
}

/// A scalar where a text is wanted, as Compose puts it there.
pub(crate) fn text(scalar: &crate::load::tree::Scalar) -> String {
    match Untyped::scalar(&scalar.text, scalar.kind) {
        Untyped::Bool(value) => value.to_string(),
        Untyped::Int(number) => number.to_string(),
        Untyped::Float(number) => number.to_string(),
        Untyped::Text(text) => text,
        Untyped::Null | Untyped::List(_) | Untyped::Map(_) => String::new(),
    }
}
