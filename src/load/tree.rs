//! What phases 2 to 4 work on: a YAML tree that knows where each key and value stands.

use std::sync::Arc;

use crate::diagnostics::Span;

/// A value and where it stands. A value reached through an alias stands where the alias is; what is inside of it, where
/// it was written.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) value: Value,
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    Scalar(Scalar),
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
    /// Something was wrong with it and has been reported: whoever wants it makes do without, and says nothing.
    Broken,
}

/// A key with its value. Keys of one mapping differ; they stand in the order in which they were written.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: Arc<str>,
    pub(crate) key_span: Span,
    pub(crate) value: Node,
}

/// A scalar as it was written, and what the core schema makes of it.
#[derive(Debug, Clone)]
pub(crate) struct Scalar {
    pub(crate) text: Arc<str>,
    pub(crate) kind: ScalarKind,
    /// A variable was filled in: the text may be read as whatever type is wanted, as Compose does.
    pub(crate) interpolated: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScalarKind {
    Null,
    Bool,
    Int,
    Float,
    String,
}

impl Node {
    pub(crate) fn string(text: &str, span: Span) -> Self {
        let scalar = Scalar { text: text.into(), kind: ScalarKind::String, interpolated: false };
        Self { span, value: Value::Scalar(scalar) }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.kind == ScalarKind::Null)
    }

    /// The scalar, unless it is null.
    pub(crate) fn scalar(&self) -> Option<&Scalar> {
        match &self.value {
            Value::Scalar(scalar) if scalar.kind != ScalarKind::Null => Some(scalar),
            _ => None,
        }
    }

    pub(crate) fn entries(&self) -> Option<&[Entry]> {
        match &self.value {
            Value::Mapping(entries) => Some(entries),
            _ => None,
        }
    }

    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries()?.iter().find(|entry| &*entry.key == key)
    }

    /// What it is, with its article, for messages.
    pub(crate) fn describe(&self) -> &'static str {
        match &self.value {
            Value::Mapping(_) => "a mapping",
            Value::Sequence(_) => "a list",
            Value::Broken => "something broken",
            Value::Scalar(scalar) => match scalar.kind {
                ScalarKind::Null => "nothing",
                ScalarKind::Bool => "a boolean",
                ScalarKind::Int | ScalarKind::Float => "a number",
                ScalarKind::String => "a string",
            },
        }
    }

    /// The place of a part of a scalar, where its text is the text of the file; else the place of the whole.
    pub(crate) fn part(&self, range: std::ops::Range<usize>) -> Span {
        let Value::Scalar(scalar) = &self.value else { return self.span.clone() };
        let written = self.span.text();
        for quote in [0, 1] {
            let inner = written.get(quote..written.len().saturating_sub(quote));
            if inner == Some(&*scalar.text) {
                return self.span.part(range.start.saturating_add(quote)..range.end.saturating_add(quote));
            }
        }
        self.span.clone()
    }
}
