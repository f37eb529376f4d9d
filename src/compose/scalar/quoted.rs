//! Values of which Compose wants to know whether they stand between quotes.

use crate::compose::inherit::inherit;
use serde::Serialize;
use serde_json::{Value as Json, json};

use super::super::{Format, Reader, Schemas, untyped};
use crate::{
    diagnostics::Diagnostic,
    yaml::tree::{Node, ScalarKind},
};

/// A number that is written without quotes, unless a variable made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Unquoted<T>(pub T);

/// An amount that is written as a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Quoted<T>(pub T);

/// A string or a whole number, which is kept as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct TextOrWhole(pub String);

/// A string, a number, or nothing, which is an empty one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct TextOrNothing(pub String);

impl<T: Format> Format for Unquoted<T> {
    inherit!(T: omitted schema);
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        if let Some(scalar) = node.scalar()
            && scalar.kind == ScalarKind::String
            && !scalar.interpolated
        {
            let diagnostic = Diagnostic::error(format!("{} takes a number, not a string", cx.what()));
            let number = scalar.text.parse::<f64>().is_ok();
            cx.report(if number { diagnostic.hint("leave out the quotes") } else { diagnostic }, node);
            return None;
        }
        T::read(node, cx).map(Self)
    }
}

impl<T: Format> Format for Quoted<T> {
    fn omitted(&self) -> bool {
        self.0.omitted()
    }
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        if node.scalar().is_some_and(|scalar| scalar.kind != ScalarKind::String) {
            cx.mistyped("a string with a unit, such as `64m`", node);
            return None;
        }
        T::read(node, cx).map(Self)
    }
    fn schema(_: &mut Schemas) -> Json {
        json!({"type": "string"})
    }
}

impl Format for TextOrWhole {
    fn omitted(&self) -> bool {
        self.0.is_empty()
    }
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        match node.scalar() {
            Some(scalar) if matches!(scalar.kind, ScalarKind::String | ScalarKind::Int) => {
                Some(Self(untyped::text(scalar)))
            }
            Some(scalar) if scalar.kind == ScalarKind::Float => {
                let diagnostic = Diagnostic::error(format!("{} takes a whole number or a string", cx.what()));
                cx.report(diagnostic.hint(format!("put it between quotes: `\"{}\"`", scalar.text)), node);
                None
            }
            _ => {
                cx.mistyped("a string or a whole number", node);
                None
            }
        }
    }
    fn schema(_: &mut Schemas) -> Json {
        json!({"type": ["string", "integer"]})
    }
}

impl Format for TextOrNothing {
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        if node.is_null() {
            return Some(Self(String::new()));
        }
        cx.string_or_number(node).map(|scalar| Self(untyped::text(scalar)))
    }
    fn schema(_: &mut Schemas) -> Json {
        json!({"type": ["string", "number", "null"]})
    }
}
