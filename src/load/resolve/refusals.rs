//! What cannot be done yet: an error, or a warning for who wants to go on without it.

use super::super::tree::{Node, Value};
use crate::{
    compose::{Format, Project, RefusedValue, Support, Visited, Visitor, harmless, located, located_key, refused},
    diagnostics::{Diagnostic, Diagnostics},
};

pub(super) struct Refusals<'a> {
    pub(super) diagnostics: &'a mut Diagnostics,
    allow: bool,
    any: bool,
}

impl<'a> Refusals<'a> {
    pub(super) fn new(diagnostics: &'a mut Diagnostics, allow: bool) -> Self {
        Self { diagnostics, allow, any: false }
    }

    /// True if what is not supported is left out.
    pub(super) fn allowed(&self) -> bool {
        self.allow
    }

    /// Looks at each key that is written.
    pub(super) fn walk(&mut self, tree: &Node) {
        let mut does = |visited: &Visited<'_>| self.key(visited);
        Project::visit(tree, &mut Visitor::new(&mut does));
    }

    /// Says it in the end, once.
    pub(super) fn finish(self) {
        if self.any && !self.allow {
            self.diagnostics.close("`--allow-unsupported` leaves out what is not supported yet");
        }
    }

    fn key(&mut self, Visited { field, entry, path }: &Visited<'_>) {
        let node = &entry.value;
        match field.support {
            _ if node.is_implied() => {}
            Support::Loaded | Support::Metadata => {}
            Support::NoEffect(why) => {
                let warning = Diagnostic::warning(format!("`{path}` has no effect: {why}"));
                self.diagnostics.push(located_key(warning, entry));
            }
            Support::Refused(hint) => {
                if !changes_nothing(&path.pattern(), node) {
                    self.refuse(&path.to_string(), hint, |diagnostic| located_key(diagnostic, entry));
                }
            }
            Support::Works => {
                if let Some(scalar) = node.scalar().filter(|scalar| !scalar.text.is_empty())
                    && let Some(value) = refused(&path.pattern(), &scalar.text)
                {
                    self.value(value, &format!("{path}: {}", scalar.text), |diagnostic| located(diagnostic, node));
                }
            }
        }
    }

    /// A value that is refused, its place given by `at`.
    pub(super) fn value(&mut self, value: &RefusedValue, what: &str, at: impl FnOnce(Diagnostic) -> Diagnostic) {
        self.refuse(what, value.hint, at);
    }

    /// An option of a driver that is not understood, its place given by `at`.
    pub(super) fn option(&mut self, what: &str, at: impl FnOnce(Diagnostic) -> Diagnostic) {
        self.refuse(what, "", at);
    }

    fn refuse(&mut self, what: &str, hint: &str, at: impl FnOnce(Diagnostic) -> Diagnostic) {
        self.any = true;
        let diagnostic = if self.allow {
            Diagnostic::warning(format!("`{what}` is not supported yet and is left out"))
        } else {
            Diagnostic::error(format!("`{what}` is not supported yet"))
        };
        let diagnostic = at(diagnostic);
        self.diagnostics.push(if hint.is_empty() || self.allow { diagnostic } else { diagnostic.hint(hint) });
    }
}

/// Nothing would be different without it.
fn changes_nothing(path: &str, node: &Node) -> bool {
    match &node.value {
        Value::Mapping(entries) => entries.is_empty(),
        Value::Sequence(nodes) if nodes.is_empty() => true,
        // It has been reported.
        Value::Broken => true,
        Value::Scalar(_) if node.is_null() => true,
        // What a variable made of nothing.
        Value::Scalar(scalar) if scalar.text.is_empty() => true,
        Value::Sequence(_) | Value::Scalar(_) => word(node).is_some_and(|word| harmless(path, word)),
    }
}

/// The one word that it says, alone or in a list.
fn word(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Sequence(nodes) => match &nodes[..] {
            [node] => node.scalar().map(|scalar| &*scalar.text),
            _ => None,
        },
        _ => node.scalar().map(|scalar| &*scalar.text),
    }
}
