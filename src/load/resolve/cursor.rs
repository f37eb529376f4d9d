//! A place in the canonical tree, for diagnostics.

use super::super::tree::{Entry, Node, Value};
use crate::{
    compose::{located, located_key},
    diagnostics::{Diagnostic, Span},
};

/// A value, and the key that it stands under, if it does.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'t> {
    pub(super) node: &'t Node,
    entry: Option<&'t Entry>,
}

impl<'t> Cursor<'t> {
    pub(super) fn root(node: &'t Node) -> Self {
        Self { node, entry: None }
    }

    fn of(entry: &'t Entry) -> Self {
        Self { node: &entry.value, entry: Some(entry) }
    }

    /// The value of a key, if it is there.
    pub(super) fn get(self, key: &str) -> Option<Self> {
        self.node.entry(key).map(Self::of)
    }

    /// The value of a key, or this one if it is not there.
    pub(super) fn at(self, key: &str) -> Self {
        self.get(key).unwrap_or(self)
    }

    /// Each key with its value, in order.
    pub(super) fn entries(self) -> impl Iterator<Item = (&'t str, Self)> {
        self.node.entries().unwrap_or_default().iter().map(|entry| (&*entry.key, Self::of(entry)))
    }

    /// Each of the items that were read from this list with its place. None of them if some could not be read: which are
    /// left is not to be told, and there are mistakes enough.
    pub(super) fn items<T>(self, items: &'t [T]) -> impl Iterator<Item = (&'t T, Self)> {
        let nodes = match &self.node.value {
            Value::Sequence(nodes) if nodes.len() == items.len() => nodes.as_slice(),
            _ => &[],
        };
        items.iter().zip(nodes.iter().map(Self::root))
    }

    /// The key that it stands under; none of a list's items has one.
    pub(super) fn key(self) -> &'t str {
        self.entry.map_or("", |entry| &entry.key)
    }

    /// It is nowhere written.
    pub(super) fn is_implied(self) -> bool {
        self.node.is_implied()
    }

    pub(super) fn span(self) -> &'t Span {
        &self.node.span
    }

    pub(super) fn key_span(self) -> &'t Span {
        self.entry.map_or(&self.node.span, |entry| &entry.key_span)
    }

    /// The diagnostic at this value.
    pub(super) fn here(self, diagnostic: Diagnostic) -> Diagnostic {
        located(diagnostic, self.node)
    }

    /// The diagnostic at the key of this value.
    pub(super) fn at_key(self, diagnostic: Diagnostic) -> Diagnostic {
        match self.entry {
            Some(entry) => located_key(diagnostic, entry),
            None => self.here(diagnostic),
        }
    }

    /// The diagnostic at a part of this scalar.
    pub(super) fn at_part(self, diagnostic: Diagnostic, range: std::ops::Range<usize>) -> Diagnostic {
        let span = self.node.part(range);
        Diagnostic { span: Some(span), ..self.here(diagnostic) }
    }
}
