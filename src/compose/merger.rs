//! Several files become one, later files weighing more (Compose Specification, "Merge").
//!
//! Unless a type says otherwise, and for `x-` keys too, mappings are merged key by key, lists are appended, and anything else is replaced.

use std::collections::HashMap;

use crate::{
    diagnostics::{Diagnostic, Diagnostics},
    yaml::tree::{Directive, Node, Value},
};

/// Merges two canonical trees.
pub(crate) struct Merger<'a> {
    diagnostics: &'a mut Diagnostics,
}

/// How the values of a key are merged; none: the later one counts, as for a key that nobody knows.
type Rule = fn(Node, Node, &mut Merger<'_>) -> Node;

impl<'a> Merger<'a> {
    pub(crate) fn new(diagnostics: &'a mut Diagnostics) -> Self {
        Self { diagnostics }
    }

    /// Key by key.
    pub(crate) fn mappings(&mut self, earlier: Node, later: Node, rule: &dyn Fn(&str) -> Option<Rule>) -> Node {
        let (mut mine, theirs) = match (earlier.value, later.value) {
            (Value::Mapping(mine), Value::Mapping(theirs)) => (mine, theirs),
            (mine, theirs) => return self.mismatch(earlier.span, mine, later.span, theirs),
        };
        let mut index: HashMap<_, usize> =
            mine.iter().enumerate().map(|(slot, entry)| (entry.key.clone(), slot)).collect();
        for mut entry in theirs {
            let Some(slot) = index.get(&entry.key).copied() else {
                index.insert(entry.key.clone(), mine.len());
                mine.push(entry);
                continue;
            };
            let before = std::mem::replace(&mut mine[slot].value, Node::new(entry.key_span.clone(), Value::Broken));
            entry.value = match rule(&entry.key) {
                Some(rule) => self.values(before, entry.value, rule),
                None if entry.key.starts_with("x-") => self.values(before, entry.value, Self::alike),
                None => entry.value.instead_of(&before),
            };
            mine[slot] = entry;
        }
        Node { span: later.span, value: Value::Mapping(mine), via: later.via, directive: earlier.directive }
    }

    /// What is nobody's business is merged by its shape alone.
    fn alike(earlier: Node, later: Node, merger: &mut Merger<'_>) -> Node {
        match (&earlier.value, &later.value) {
            (Value::Mapping(_), _) => merger.mappings(earlier, later, &|_| Some(Self::alike)),
            (Value::Sequence(_), _) => merger.lists(earlier, later),
            _ => later,
        }
    }

    /// Two values of one key, each of which may be nothing.
    pub(crate) fn values(&mut self, earlier: Node, later: Node, rule: Rule) -> Node {
        if later.directive == Some(Directive::Override) {
            return later.instead_of(&earlier);
        }
        if earlier.is_null() {
            return later;
        }
        if later.is_null() {
            return earlier;
        }
        rule(earlier, later, self)
    }

    /// One after the other.
    pub(crate) fn lists(&mut self, earlier: Node, later: Node) -> Node {
        match (earlier.value, later.value) {
            (Value::Sequence(mut mine), Value::Sequence(theirs)) => {
                mine.extend(theirs);
                Node { span: later.span, value: Value::Sequence(mine), via: later.via, directive: None }
            }
            (mine, theirs) => self.mismatch(earlier.span, mine, later.span, theirs),
        }
    }

    fn mismatch(
        &mut self,
        earlier: crate::diagnostics::Span,
        mine: Value,
        later: crate::diagnostics::Span,
        theirs: Value,
    ) -> Node {
        let (mine, theirs) = (Node::new(earlier, mine), Node::new(later, theirs));
        if !matches!((&mine.value, &theirs.value), (Value::Broken, _) | (_, Value::Broken)) {
            let (here, before) = (theirs.describe(), mine.describe());
            self.diagnostics.push(
                Diagnostic::error(format!("this is {here}, and {before} in an earlier file"))
                    .at(&theirs.span)
                    .label(&mine.span, "the earlier one"),
            );
        }
        Node::new(theirs.span, Value::Broken)
    }
}

/// A list in which each item stands once: the last of those that are the same, where the first of them stood.
pub(crate) fn unique(nodes: Vec<Node>, identity: fn(&Node) -> Option<String>) -> Vec<Node> {
    if nodes.len() < 2 {
        return nodes;
    }
    let mut index: HashMap<String, usize> = HashMap::with_capacity(nodes.len());
    let mut kept: Vec<Node> = Vec::with_capacity(nodes.len());
    for node in nodes {
        match identity(&node) {
            None => kept.push(node),
            Some(key) => match index.get(&key) {
                Some(slot) => kept[*slot] = node,
                None => {
                    index.insert(key, kept.len());
                    kept.push(node);
                }
            },
        }
    }
    kept
}
