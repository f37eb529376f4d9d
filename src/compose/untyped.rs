//! Values that are nobody's business but their author's.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Document;
use crate::yaml::{
    scalar::{self, Typed},
    tree::{Node, Scalar, ScalarKind, Value},
};

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

    /// What is printed; none for a list or a mapping with something in it.
    pub(crate) fn printed(document: &Document) -> Option<Self> {
        Some(match document {
            Document::Null => Self::Null,
            Document::Bool(value) => Self::Bool(*value),
            Document::Number(number) => match number.as_i128() {
                Some(number) => Self::Int(number),
                None => Self::Float(number.as_f64()?),
            },
            Document::Text(text) => Self::Text(text.clone()),
            Document::List(items) if items.is_empty() => Self::List(Vec::new()),
            Document::Map(entries) if entries.is_empty() => Self::Map(BTreeMap::new()),
            Document::List(_) | Document::Map(_) => return None,
        })
    }

    /// What a scalar of that kind means.
    pub(crate) fn scalar(text: &str, kind: ScalarKind) -> Self {
        match scalar::value(text, kind) {
            Typed::Null => Self::Null,
            Typed::Bool(value) => Self::Bool(value),
            Typed::Int(number) => Self::Int(number),
            // As Go's JSON has it.
            Typed::Float(number) if number.fract() == 0.0 && number.abs() < 1.8e19 => Self::Int(number as i128),
            Typed::Float(number) => Self::Float(number),
            Typed::String(text) => Self::Text(text.into_owned()),
        }
    }
}

/// A whole number as YAML writes it.
pub(crate) fn integer(scalar: &Scalar) -> Option<i128> {
    match scalar::value(&scalar.text, scalar.kind) {
        Typed::Int(number) => Some(number),
        _ => None,
    }
}

/// A number as YAML writes it, whole or not.
pub(crate) fn float(scalar: &Scalar) -> Option<f64> {
    match scalar::value(&scalar.text, scalar.kind) {
        Typed::Int(number) => Some(number as f64),
        Typed::Float(number) => Some(number),
        _ => None,
    }
}

/// A scalar where a text is wanted, as Compose puts it there.
pub(crate) fn text(scalar: &Scalar) -> String {
    scalar::go_string(&scalar::value(&scalar.text, scalar.kind))
}
