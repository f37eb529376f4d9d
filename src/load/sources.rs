//! The files that a project is read from, each of them once.

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
    rc::Rc,
};

use super::{
    budget::Budget,
    dotenv::{self, Statements},
    parse,
    paths::display,
    read,
    tree::Node,
    variables::Variables,
};
use crate::diagnostics::{Diagnostic, Diagnostics, SourceFile, Span};

/// Files of one project, with what has been read of them.
pub(super) struct Sources {
    /// Folder that messages name files from.
    directory: PathBuf,
    /// Files in the order in which they were met, which is the order of their diagnostics.
    met: usize,
    documents: HashMap<PathBuf, Documents>,
    texts: HashMap<PathBuf, Option<SourceFile>>,
    /// Files of variables.
    statements: HashMap<PathBuf, Rc<Statements>>,
    /// Variables without a value that were warned about.
    warned: BTreeSet<String>,
    pub(super) budget: Budget,
}

/// What has become of the documents of a file.
enum Documents {
    /// It could not be read, and that has been reported.
    Broken,
    /// They are there, and will be wanted.
    Ready(Vec<Node>),
    /// They have been handed out. Most files are wanted once, so that a copy would be a waste.
    Taken,
    /// They have been wanted more than once, and may be again.
    Kept(Vec<Node>),
}

impl Sources {
    pub(super) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            met: 100,
            documents: HashMap::new(),
            texts: HashMap::new(),
            statements: HashMap::new(),
            warned: BTreeSet::new(),
            budget: Budget::default(),
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

    /// Reads the documents of a Compose file, each a mapping; `named` is where it is asked for. False if the file cannot be
    /// read: its mistakes are reported once.
    pub(super) fn read(&mut self, path: &Path, named: Option<&Span>, diagnostics: &mut Diagnostics) -> bool {
        if let Some(known) = self.documents.get(path) {
            return !matches!(known, Documents::Broken);
        }
        let documents = match self.parsed(path, named, diagnostics) {
            Some(documents) => Documents::Ready(documents),
            None => Documents::Broken,
        };
        let read = !matches!(documents, Documents::Broken);
        self.documents.insert(path.to_owned(), documents);
        read
    }

    fn parsed(&mut self, path: &Path, named: Option<&Span>, diagnostics: &mut Diagnostics) -> Option<Vec<Node>> {
        let file = self.text(path, named, diagnostics)?;
        mappings(&file, diagnostics).map_err(|diagnostic| diagnostics.push(diagnostic)).ok()
    }

    /// The documents of a Compose file, to keep.
    pub(super) fn documents(
        &mut self,
        path: &Path,
        named: Option<&Span>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Vec<Node>> {
        if self.budget.exhausted() || !self.read(path, named, diagnostics) {
            return None;
        }
        let known = self.documents.get_mut(path)?;
        let documents = match std::mem::replace(known, Documents::Taken) {
            Documents::Broken => {
                *known = Documents::Broken;
                return None;
            }
            Documents::Ready(documents) => documents,
            Documents::Kept(documents) => {
                *known = Documents::Kept(documents.clone());
                documents
            }
            Documents::Taken => {
                // What there is to say about them has been said.
                let documents = self.parsed(path, named, &mut Diagnostics::new())?;
                self.documents.insert(path.to_owned(), Documents::Kept(documents.clone()));
                documents
            }
        };
        let size = documents.iter().map(Node::size).sum();
        let start = documents.first().map(|tree| &tree.span);
        self.budget.nodes(size, named.or(start), diagnostics).then_some(documents)
    }

    /// A key at the top of the documents of a file that has been read and not been handed out.
    pub(super) fn top(&self, path: &Path, key: &str) -> Option<&Node> {
        match self.documents.get(path)? {
            Documents::Ready(documents) | Documents::Kept(documents) => {
                documents.iter().rev().find_map(|tree| tree.entry(key)).map(|entry| &entry.value)
            }
            Documents::Broken | Documents::Taken => None,
        }
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
            let statements = self
                .statements
                .entry(path.clone())
                .or_insert_with(|| Rc::new(dotenv::read(&file, diagnostics)))
                .clone();
            statements.fill(&|name| variables.get(name), &mut together, &mut self.warned, diagnostics);
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
