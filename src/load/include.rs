//! Phase 6: other projects become part of this one, each read against its own folder and its own variables.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    files::Group,
    paths,
    sources::Sources,
    tree::{Entry, Node, ScalarKind, Step, Value},
};
use crate::{
    compose::{clean, fingerprint, located},
    diagnostics::{Diagnostic, Diagnostics, suggest},
};

/// Files are included no deeper than this.
const DEEPEST: usize = 100;

/// What an item of `include` may say.
const KEYS: [&str; 3] = ["path", "env_file", "project_directory"];

/// What an included project gives to the one that includes it.
const SECTIONS: [&str; 6] = ["services", "volumes", "networks", "secrets", "configs", "models"];

/// Loads what `include` names and adds it to the tree.
pub(super) fn apply(
    group: &Group<'_>,
    file: &Path,
    tree: &mut Node,
    sources: &mut Sources,
    diagnostics: &mut Diagnostics,
) {
    let Value::Mapping(entries) = &mut tree.value else { return };
    let Some(at) = entries.iter().position(|entry| &*entry.key == "include") else { return };
    if entries[at].value.is_null() {
        entries.remove(at);
        return;
    }
    let Value::Sequence(items) = &entries[at].value.value else { return };
    let items = items.clone();
    let mut above = group.above.to_vec();
    above.push(file.to_owned());
    let mut done = true;
    let mut names = Names::new();
    for item in &items {
        let Some(entry) = Included::of(item, diagnostics) else {
            // It is read, and refused, like everything else.
            done = false;
            continue;
        };
        if let Some(mut included) = entry.load(group, &above, item, sources, diagnostics) {
            included.came(&Step::Include(item.span.clone()));
            import(included, tree, &mut names, diagnostics);
        }
    }
    if let Value::Mapping(entries) = &mut tree.value
        && done
    {
        entries.retain(|entry| &*entry.key != "include");
    }
}

/// An item of `include`, in its long form.
struct Included {
    paths: Vec<(String, Node)>,
    env_files: Vec<(String, Node)>,
    project_directory: Option<String>,
}

impl Included {
    fn of(item: &Node, diagnostics: &mut Diagnostics) -> Option<Self> {
        let texts = |key: &str| -> Option<Vec<(String, Node)>> {
            let Some(entry) = item.entry(key).filter(|entry| !entry.value.is_null()) else { return Some(Vec::new()) };
            let Value::Sequence(nodes) = &entry.value.value else { return None };
            nodes.iter().map(|node| Some((node.scalar()?.text.to_string(), node.clone()))).collect()
        };
        let project_directory = match item.entry("project_directory").filter(|entry| !entry.value.is_null()) {
            None => None,
            Some(entry) => Some(
                entry
                    .value
                    .scalar()
                    .filter(|scalar| matches!(scalar.kind, ScalarKind::String | ScalarKind::Int))?
                    .text
                    .to_string(),
            ),
        };
        let paths = texts("path")?;
        if item.entries().is_none() && !item.is_null() {
            return None;
        }
        for entry in item.entries().unwrap_or_default() {
            if !KEYS.contains(&&*entry.key) && !entry.key.starts_with("x-") {
                let diagnostic = Diagnostic::warning(format!("`include` has no key `{}`: it means nothing", entry.key));
                diagnostics.push(diagnostic.at(&entry.key_span).did_you_mean(suggest(&entry.key, KEYS)));
            }
        }
        Some(Self { paths, env_files: texts("env_file")?, project_directory })
    }

    fn load(
        self,
        group: &Group<'_>,
        above: &[PathBuf],
        item: &Node,
        sources: &mut Sources,
        diagnostics: &mut Diagnostics,
    ) -> Option<Node> {
        let files: Vec<PathBuf> = self.paths.iter().map(|(path, _)| clean(&group.directory.join(path))).collect();
        let first = files.first()?;
        if above.contains(first) || above.len() > DEEPEST {
            let from = above.iter().position(|file| file == first).unwrap_or_default();
            let names: Vec<String> =
                above[from..].iter().chain([first]).take(20).map(|file| file.display().to_string()).collect();
            diagnostics.push(
                Diagnostic::error(format!("files include each other: `{}`", names.join("` -> `")))
                    .at(&item.span)
                    .hint("remove one of the includes"),
            );
            return None;
        }
        if !sources.budget.include(&item.span, diagnostics) {
            return None;
        }
        // Read here first, so that one that is missing is reported where it is named.
        let mut missing = false;
        for (file, (text, node)) in files.iter().zip(&self.paths) {
            if let Some(remote) = paths::remote(text) {
                diagnostics.push(located(remote, node));
                missing = true;
                continue;
            }
            missing |= !sources.read(file, Some(&node.span), diagnostics);
        }
        if missing {
            return None;
        }
        let directory = match &self.project_directory {
            Some(directory) => clean(&group.directory.join(directory)),
            None => first.parent().unwrap_or(group.directory).to_owned(),
        };
        let env_files: Vec<(PathBuf, Option<&Node>)> = if self.env_files.is_empty() {
            let default = directory.join(".env");
            if default.is_file() { vec![(default, None)] } else { Vec::new() }
        } else {
            self.env_files.iter().map(|(path, node)| (clean(&group.directory.join(path)), Some(node))).collect()
        };
        for (path, node) in &env_files {
            if let Some(node) = node {
                sources.optional(path, true, &node.span, diagnostics)?;
            }
        }
        if !sources.budget.nodes(group.variables.len(), Some(&item.span), diagnostics) {
            return None;
        }
        let mut variables = group.variables.clone();
        let paths: Vec<PathBuf> = env_files.into_iter().map(|(path, _)| path).collect();
        sources.variables(&paths, &mut variables, diagnostics);
        let inner = Group {
            files: &files,
            directory: &directory,
            variables: &variables,
            interpolate: group.interpolate,
            paths: group.paths,
            above,
        };
        inner.load(sources, diagnostics)
    }
}

/// Where the entries of each section stand.
type Names = HashMap<Arc<str>, HashMap<Arc<str>, usize>>;

/// Adds the sections of an included project to those of the tree.
fn import(included: Node, tree: &mut Node, names: &mut Names, diagnostics: &mut Diagnostics) {
    let (Value::Mapping(sections), Value::Mapping(mine)) = (included.value, &mut tree.value) else { return };
    for section in sections.into_iter().filter(|section| SECTIONS.contains(&&*section.key)) {
        let Some(own) = mine.iter_mut().find(|entry| entry.key == section.key) else {
            mine.push(section);
            continue;
        };
        let (Value::Mapping(own), Value::Mapping(theirs)) = (&mut own.value.value, section.value.value) else {
            continue;
        };
        let known = names.entry(section.key.clone()).or_default();
        known.extend(own.iter().enumerate().skip(known.len()).map(|(at, entry)| (entry.key.clone(), at)));
        for entry in theirs {
            match known.get(&entry.key).map(|at| &own[*at]) {
                None => {
                    known.insert(entry.key.clone(), own.len());
                    own.push(entry);
                }
                Some(mine) if fingerprint(&mine.value) == fingerprint(&entry.value) => {}
                Some(mine) => conflict(&section.key, mine, &entry, diagnostics),
            }
        }
    }
}

fn conflict(section: &str, mine: &Entry, theirs: &Entry, diagnostics: &mut Diagnostics) {
    diagnostics.push(
        Diagnostic::error(format!("`{}` of `{section}` is declared in an included file as well, and differs", mine.key))
            .at(&mine.key_span)
            .label(&theirs.key_span, "the included one")
            .hint("rename one of them, or change the included one in a file of its own: `path: [included.yaml, changes.yaml]`"),
    );
}
