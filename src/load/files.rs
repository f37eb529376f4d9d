//! Files that are merged into one: those of the project, or those of one `include`.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    budget::Budget,
    extends::Extender,
    include,
    interpolate::Interpolator,
    sources::Sources,
    tree::{Entry, Node, Value},
    variables::Variables,
};
use crate::{
    compose::{Folder, Format, Merger, Project, Reader, misplaced},
    diagnostics::{Diagnostic, Diagnostics},
};

/// Files, and what they are read against.
#[derive(Clone, Copy)]
pub(super) struct Group<'a> {
    /// Absolute; the later ones are merged over the earlier.
    pub(super) files: &'a [PathBuf],
    /// Folder that relative paths start from.
    pub(super) directory: &'a Path,
    pub(super) variables: &'a Variables,
    pub(super) interpolate: bool,
    /// Relative paths become absolute.
    pub(super) paths: bool,
    /// Files that include this one, outermost first.
    pub(super) above: &'a [PathBuf],
}

impl<'a> Group<'a> {
    /// The tree of all files, in which no path is relative. Nothing if one of them cannot be read.
    pub(super) fn load(&self, sources: &mut Sources, diagnostics: &mut Diagnostics) -> Option<Node> {
        let mut merged: Option<Node> = None;
        let mut missing = false;
        for path in self.files {
            let Some(documents) = sources.documents(path, None, diagnostics) else {
                missing = true;
                continue;
            };
            for document in documents {
                let (mut tree, resets) = self.prepared(document, &mut sources.budget, diagnostics);
                if sources.budget.exhausted() {
                    return None;
                }
                Extender::new(self, path, sources, diagnostics).apply(&mut tree, &resets);
                include::apply(self, path, &mut tree, sources, diagnostics);
                merged = Some(match merged {
                    None => tree,
                    Some(mut earlier) => {
                        super::reset::apply(&resets, &mut earlier);
                        let touched = Touched::by(&tree);
                        // To merge is to go through what there is, however little comes to it.
                        let through = earlier.entries().unwrap_or_default().iter();
                        let through = through.map(|section| section.value.entries().unwrap_or_default().len()).sum();
                        if !sources.budget.nodes(through, Some(&tree.span), diagnostics) {
                            return None;
                        }
                        // Each file has to be right when it is merged, not only what counts in the end.
                        let merged = Project::merge(earlier, tree, &mut Merger::new(diagnostics));
                        let changed = touched.of(&merged);
                        if !sources.budget.nodes(changed.size() / 4, Some(&merged.span), diagnostics) {
                            return None;
                        }
                        Project::read(&changed, &mut Reader::new(diagnostics).leaving_variables(!self.interpolate));
                        merged
                    }
                });
            }
        }
        if missing {
            // What refers to the missing part would only look wrong.
            return None;
        }
        let Some(mut tree) = merged else {
            if let (false, Some(start)) =
                (self.above.is_empty(), self.files.first().and_then(|path| sources.start(path)))
            {
                // What includes it has something to say.
                return Some(Node::new(start, super::tree::Value::Mapping(Vec::new())));
            }
            let named = self.files.first().map(|path| sources.display(path)).unwrap_or_default();
            let empty = Diagnostic::error(format!("`{named}` is empty"));
            diagnostics.push(match self.files.first().and_then(|path| sources.start(path)) {
                Some(span) => empty.at(&span),
                None => empty,
            });
            return None;
        };
        obsolete_version(&mut tree, diagnostics);
        if self.above.is_empty() && tree.entries().is_some_and(<[Entry]>::is_empty) {
            let nothing = Diagnostic::error("the Compose file says nothing").at(&tree.span);
            diagnostics.push(nothing.hint("begin with `services:`"));
        }
        Project::settle(&mut tree, &self.folder());
        if let Some(services) = tree.entry_mut("services").filter(|_| self.interpolate) {
            super::environment::inherit(&mut services.value, self.variables);
        }
        Some(tree)
    }

    pub(super) fn folder(&self) -> Folder<'_> {
        Folder {
            directory: self.directory,
            home: self.variables.value("HOME").filter(|home| home.starts_with('/')),
            paths: self.paths,
            as_written: !self.interpolate,
        }
    }

    /// A document with its variables filled in, its `!reset` taken out, misplaced keys put right, and everything in its
    /// long form.
    pub(super) fn prepared(
        &self,
        mut tree: Node,
        budget: &mut Budget,
        diagnostics: &mut Diagnostics,
    ) -> (Node, Vec<super::reset::Path>) {
        if self.interpolate {
            let mut interpolator = Interpolator::new(self.variables);
            interpolator.node(&mut tree, diagnostics);
            budget.text(interpolator.text(), Some(&tree.span), diagnostics);
        }
        let resets = super::reset::take(&mut tree);
        misplaced(&mut tree, diagnostics);
        (Project::canonical(tree, &mut Reader::new(diagnostics).leaving_variables(!self.interpolate)), resets)
    }
}

/// The keys of a file's sections: what it may have changed in what came before it.
struct Touched(Vec<(Arc<str>, SectionKeys)>);

/// None: the section is no mapping.
type SectionKeys = Option<HashSet<Arc<str>>>;

impl Touched {
    fn by(tree: &Node) -> Self {
        let keys = |node: &Node| node.entries().map(|all| all.iter().map(|entry| entry.key.clone()).collect());
        let sections = tree.entries().unwrap_or_default().iter();
        Self(sections.map(|section| (section.key.clone(), keys(&section.value))).collect())
    }

    /// That part of the merged tree. The rest is as it was, and has been read or will be.
    fn of(&self, merged: &Node) -> Node {
        let part = |(section, keys): &(Arc<str>, SectionKeys)| {
            let found = merged.entry(section)?;
            let value = match (&found.value.value, keys) {
                (Value::Mapping(all), Some(keys)) => {
                    let touched = all.iter().filter(|entry| keys.contains(&entry.key));
                    found.value.with_value(Value::Mapping(touched.cloned().collect()))
                }
                _ => found.value.clone(),
            };
            Some(Entry { key: found.key.clone(), key_span: found.key_span.clone(), value })
        };
        merged.with_value(Value::Mapping(self.0.iter().filter_map(part).collect()))
    }
}

/// `version` means nothing, and is gone once that is said.
fn obsolete_version(tree: &mut Node, diagnostics: &mut Diagnostics) {
    let super::tree::Value::Mapping(entries) = &mut tree.value else { return };
    let Some(at) = entries.iter().position(|entry| &*entry.key == "version") else { return };
    let Entry { key_span, value, .. } = &entries[at];
    if value.scalar().is_none_or(|scalar| scalar.kind != super::tree::ScalarKind::String) {
        // It is read, and refused, like everything else.
        return;
    }
    diagnostics
        .push(Diagnostic::warning("`version` is obsolete and means nothing").at(key_span).hint("remove the line"));
    entries.remove(at);
}
