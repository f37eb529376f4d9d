//! Texts.

use std::marker::PhantomData;

use serde::Serialize;
use serde_json::{Value as Json, json};

use super::super::{Folder, Format, Reader, Schemas};
use crate::{
    compose::resolve_path,
    diagnostics::Diagnostic,
    yaml::tree::{Node, Value},
};

/// A string, and nothing that YAML would read as something else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Text(pub String);

impl Format for Text {
    fn omitted(&self) -> bool {
        self.0.is_empty()
    }
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        cx.string(node).map(|text| Self(text.to_owned()))
    }
    /// In a set, `KEY=VALUE` is what sets `KEY`; a path that has a `=` in it is still a path.
    fn identity(node: &Node) -> Option<String> {
        let text = &node.scalar()?.text;
        if text.starts_with('/') {
            return Some(text.to_string());
        }
        Some(text.split_once('=').map_or(&**text, |(key, _)| key).to_owned())
    }
    fn schema(_: &mut Schemas) -> Json {
        json!({"type": "string"})
    }
}

/// A string or a number, which is kept as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct TextOrNumber(pub String);

impl Format for TextOrNumber {
    fn omitted(&self) -> bool {
        self.0.is_empty()
    }
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        cx.string_or_number(node).map(|scalar| Self(super::super::untyped::text(scalar)))
    }
    fn schema(_: &mut Schemas) -> Json {
        json!({"type": ["string", "number"]})
    }
}

/// A path of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct HostPath(pub String);

impl Format for HostPath {
    fn omitted(&self) -> bool {
        self.0.is_empty()
    }
    fn settle(node: &mut Node, folder: &Folder<'_>) {
        if let Value::Scalar(scalar) = &mut node.value
            && !scalar.text.is_empty()
            && let Some(path) = resolve_path(&scalar.text, folder)
        {
            scalar.text = path.into();
        }
    }
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        cx.string(node).map(|text| Self(text.to_owned()))
    }
    fn schema(_: &mut Schemas) -> Json {
        json!({"type": "string"})
    }
}

/// What a text has to look like.
pub trait Pattern {
    /// The rule as a regular expression, for the schema.
    const PATTERN: &'static str;
    /// The rule, for people.
    const RULE: &'static str;
    /// Whether a text keeps to it.
    fn matches(text: &str) -> bool;
}

/// A text that looks as `P` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct PatternText<P>(pub String, #[serde(skip)] PhantomData<P>);

impl<P: Pattern> Format for PatternText<P> {
    fn omitted(&self) -> bool {
        self.0.is_empty()
    }
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        let text = cx.string(node)?;
        if !P::matches(text) {
            let what = cx.what();
            cx.report(Diagnostic::error(format!("`{text}` is nothing that {what} may be")).hint(P::RULE), node);
            return None;
        }
        Some(Self(text.to_owned(), PhantomData))
    }
    fn schema(schemas: &mut Schemas) -> Json {
        schemas.pattern(P::PATTERN)
    }
}
