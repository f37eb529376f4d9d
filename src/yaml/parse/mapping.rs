//! A mapping that is being read: its keys, and what `<<` brings in.

use std::{collections::HashMap, sync::Arc};

use crate::{
    diagnostics::{Diagnostic, Diagnostics, Span},
    yaml::tree::{Directive, Entry, Node, ScalarKind, Step, Value, Via},
};

/// A key is looked up among fewer than this one by one, which is cheaper than a table.
const FEW: usize = 24;

#[derive(Default)]
pub(super) struct Mapping {
    entries: Vec<Entry>,
    /// Where a key stands in `entries`, once there are many.
    table: HashMap<Arc<str>, usize>,
    key: Option<Key>,
    merge: Option<Merge>,
}

enum Key {
    Name(Arc<str>, Span),
    /// `<<`, not quoted.
    Merge(Span),
    /// One that was there before, or none at all; its value is dropped.
    Dropped,
}

/// What `<<` says.
struct Merge {
    key: Span,
    /// The strongest first.
    sources: Vec<Node>,
    /// The directive of its value: it counts for the mapping, as `<<` is no key that an earlier file could have.
    directive: bool,
}

impl Mapping {
    /// Whether the next node is a value.
    pub(super) fn expects_value(&self) -> bool {
        self.key.is_some()
    }

    /// Takes the next node, be it a key or a value. `merge` says that it is `<<`, not quoted.
    pub(super) fn take(&mut self, node: Node, merge: bool, diagnostics: &mut Diagnostics) -> Result<(), Diagnostic> {
        match self.key.take() {
            None => self.key = Some(self.read_key(node, merge, diagnostics)?),
            Some(Key::Merge(key)) => {
                let directive = node.directive.is_some();
                let sources = if node.directive == Some(Directive::Reset) { Vec::new() } else { sources(node)? };
                self.merge = Some(Merge { key, sources, directive });
            }
            Some(Key::Name(key, key_span)) => self.push(Entry { key, key_span, value: node }),
            Some(Key::Dropped) => {}
        }
        Ok(())
    }

    fn read_key(&self, node: Node, merge: bool, diagnostics: &mut Diagnostics) -> Result<Key, Diagnostic> {
        // A key that an alias names stands where the alias is.
        let span = match node.via.as_deref() {
            Some(Via { step: Step::Alias(at), .. }) => at.clone(),
            _ => node.span.clone(),
        };
        let Value::Scalar(scalar) = &node.value else {
            return Err(Diagnostic::error("a key is a single word, not a list or a mapping").at(&span));
        };
        if scalar.text.is_empty() && scalar.kind == ScalarKind::Null {
            diagnostics.push(Diagnostic::error("a key is missing here").at(&span));
            return Ok(Key::Dropped);
        }
        if scalar.kind != ScalarKind::String {
            let found = if node.is_null() { "null" } else { node.describe() };
            diagnostics.push(
                Diagnostic::error(format!("a key is a string, and `{}` is {found}", scalar.text))
                    .at(&span)
                    .hint(format!("put it in quotes: `\"{}\"`", scalar.text)),
            );
        }
        let first = if &*scalar.text == "<<" { self.merge.as_ref().map(|merge| &merge.key) } else { None };
        let first = first.or_else(|| self.find(&scalar.text).map(|at| &self.entries[at].key_span));
        if let Some(first) = first {
            let diagnostic = Diagnostic::error(format!("the key `{}` comes twice", scalar.text))
                .at(&span)
                .label(first, "first here");
            diagnostics.push(match &*scalar.text {
                "<<" => diagnostic.hint("list them instead: `<<: [*one, *two]`"),
                _ => diagnostic.hint("remove one of the two"),
            });
            return Ok(Key::Dropped);
        }
        Ok(if merge { Key::Merge(span) } else { Key::Name(scalar.text.clone(), span) })
    }

    fn find(&self, key: &str) -> Option<usize> {
        if self.entries.len() < FEW {
            self.entries.iter().position(|entry| &*entry.key == key)
        } else {
            self.table.get(key).copied()
        }
    }

    fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
        let named = |(at, entry): (usize, &Entry)| (entry.key.clone(), at);
        match self.entries.len() {
            0..FEW => {}
            FEW => self.table = self.entries.iter().enumerate().map(named).collect(),
            many => self.table.extend(self.entries.iter().enumerate().skip(many - 1).map(named)),
        }
    }

    /// The entries with what `<<` brings in, and whether the mapping stands for what earlier files say by it.
    pub(super) fn close(mut self) -> (Vec<Entry>, bool) {
        let Some(merge) = self.merge.take() else { return (self.entries, false) };
        for source in merge.sources {
            // All entries of a source share the steps, as long as they have made none before.
            let shared = Via::new(Step::MergeKey(merge.key.clone()), source.via.clone());
            let Value::Mapping(entries) = source.value else { continue };
            for mut entry in entries {
                entry.value.via = Some(match entry.value.via.take() {
                    None => shared.clone(),
                    Some(before) => {
                        let before = source
                            .via
                            .as_deref()
                            .map_or(before.clone(), |via| Via::new(via.step.clone(), Some(before.clone())));
                        Via::new(shared.step.clone(), Some(before))
                    }
                });
                match self.find(&entry.key) {
                    None => self.push(entry),
                    Some(at) => both(&mut self.entries[at], entry),
                }
            }
        }
        (self.entries, merge.directive)
    }
}

/// An entry that is there already wins, but a `!reset` takes the key out of earlier files and leaves the other's value.
fn both(own: &mut Entry, merged: Entry) {
    let reset = |entry: &Entry| entry.value.directive == Some(Directive::Reset);
    match (reset(own), reset(&merged)) {
        (true, false) => own.value = Node { directive: Some(Directive::Override), ..merged.value },
        (false, true) => own.value.directive = Some(Directive::Override),
        _ => {}
    }
}

/// The mappings that `<<` names, the strongest first.
fn sources(node: Node) -> Result<Vec<Node>, Diagnostic> {
    let wrong = |node: &Node| {
        let found = node.describe();
        node.locate(Diagnostic::error(format!("`<<` takes a mapping or a list of mappings, not {found}")))
    };
    match node.value {
        Value::Mapping(_) => Ok(vec![node]),
        Value::Sequence(mut nodes) => match nodes.iter().find(|node| node.entries().is_none()) {
            Some(other) => Err(wrong(other)),
            None => {
                // Mappings of a list that an alias names came by it too.
                for source in nodes.iter_mut().filter(|source| source.via.is_none()) {
                    source.via.clone_from(&node.via);
                }
                Ok(nodes)
            }
        },
        Value::Scalar(_) | Value::Broken => Err(wrong(&node)),
    }
}
