//! The files that a project is read from, each of them once.

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use super::{dotenv, parse, paths::display, read, tree::Node, variables::Variables};
use crate::diagnostics::{Diagnostic, Diagnostics, SourceFile, Span};

/// Files of one project, with what has been read of them.
pub(super) struct Sources {
    /// Folder that messages name files from.
    directory: PathBuf,
    /// Files in the order in which they were met, which is the order of their diagnostics.
    met: usize,
    documents: HashMap<PathBuf, Option<Vec<Node>>>,
    texts: HashMap<PathBuf, Option<SourceFile>>,
    /// Variables without a value that were warned about.
    warned: BTreeSet<String>,
}

impl Sources {
    pub(super) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            met: 100,
            documents: HashMap::new(),
            texts: HashMap::new(),
            warned: BTreeSet::new(),
        }
    }

    /// The text of a file; `named` is where it is asked for.
    fn text(&mut self, path: &Path, named: Option<&Span>, diagnostics: &mut Diagnostics) -> Option<SourceFile> {
        if let Some(known) = self.texts.get(path) {
            return known.clone();
        }
        let order = self.met;
        self.met += 1;
        let text = match read::read(order, path, &display(&self.directory, path)) {
            Ok(file) => Some(file),
            Err(diagnostic) => {
                diagnostics.push(match named {
                    Some(span) if diagnostic.span.is_none() => diagnostic.at(span),
                    _ => diagnostic,
                });
                None
            }
        };
        self.texts.insert(path.to_owned(), text.clone());
        text
    }

    /// The documents of a Compose file, each a mapping; `named` is where it is asked for. A file that cannot be read is
    /// nothing, and its mistakes are reported once.
    pub(super) fn documents(
        &mut self,
        path: &Path,
        named: Option<&Span>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Vec<Node>> {
        if let Some(known) = self.documents.get(path) {
            return known.clone();
        }
        let documents = self
            .text(path, named, diagnostics)
            .and_then(|file| mappings(&file, diagnostics).map_err(|diagnostic| diagnostics.push(diagnostic)).ok());
        self.documents.insert(path.to_owned(), documents.clone());
        documents
    }

    /// A file as people would name it from where they are.
    pub(super) fn display(&self, path: &Path) -> String {
        display(&self.directory, path)
    }

    /// The beginning of a file that has been read.
    pub(super) fn start(&self, path: &Path) -> Option<Span> {
        self.texts.get(path)?.as_ref().map(|file| file.span(0..0))
    }

    /// Adds the variables of files to those that there are, which count for more; of several files the last.
    pub(super) fn variables(&mut self, files: &[PathBuf], variables: &mut Variables, diagnostics: &mut Diagnostics) {
        let mut together = Variables::default();
        for path in files {
            let Some(file) = self.text(path, None, diagnostics) else { continue };
            dotenv::read(&file, diagnostics).fill(
                &|name| variables.get(name),
                &mut together,
                &mut self.warned,
                diagnostics,
            );
        }
        variables.under(together);
    }

    /// The text of a file that may be missing.
    pub(super) fn optional(
        &mut self,
        path: &Path,
        required: bool,
        named: &Span,
        diagnostics: &mut Diagnostics,
    ) -> Option<SourceFile> {
        if !required && !path.exists() {
            return None;
        }
        self.text(path, Some(named), diagnostics)
    }
}

fn mappings(file: &SourceFile, diagnostics: &mut Diagnostics) -> Result<Vec<Node>, Diagnostic> {
    let documents = parse::parse(file, diagnostics)?;
    match documents.iter().find(|node| node.entries().is_none()) {
        Some(node) => {
            let found = node.describe();
            Err(Diagnostic::error(format!("a Compose file is a mapping, and this is {found}"))
                .at(&node.span)
                .hint("begin with `services:`"))
        }
        None => Ok(documents),
    }
}
