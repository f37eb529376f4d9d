//! The files of a service's `env_file:`.
//!
//! A file is read once, however many services name it; its variables are filled in for each of them. They see, in this
//! order, what the project knows, what the service's own `environment:` says, and what earlier files and lines say. A
//! name without a value takes the first two. Of files that set the same variable the last wins, and `environment:` wins
//! over all of them: laying it over the result is left to the caller.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    rc::Rc,
};

use super::{
    display,
    dotenv::{self, Statements},
    raw_env, read,
    variables::{Variable, Variables},
};
use crate::diagnostics::{Diagnostic, Diagnostics, Span};

/// Text that files may grow all services to.
const MOST_TEXT: usize = 256 * 1024 * 1024;

/// An entry of `env_file:`.
#[derive(Debug, Clone)]
pub(crate) struct EnvFile {
    /// Absolute, or empty if it is written so.
    pub(crate) path: PathBuf,
    /// Where the Compose file names it.
    pub(crate) span: Span,
    /// With `required: false`, a file that does not exist is left out.
    pub(crate) required: bool,
    /// What `format:` says, and where.
    pub(crate) format: Option<(String, Span)>,
}

/// The files of variables that a project has read.
pub(crate) struct EnvFiles<'a> {
    /// The folder that paths are shown from.
    directory: &'a Path,
    /// The place of the first of them among the files of the run.
    order: usize,
    /// What could not be read is none, and has been reported.
    read: BTreeMap<(PathBuf, Format), Option<Rc<Known>>>,
    text: usize,
    full: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Format {
    Dotenv,
    Raw,
}

struct Known {
    statements: Statements,
    /// Unset variables that were warned about.
    warned: std::cell::RefCell<BTreeSet<String>>,
}

impl<'a> EnvFiles<'a> {
    pub(crate) fn new(directory: &'a Path, order: usize) -> Self {
        Self { directory, order, read: BTreeMap::new(), text: 0, full: false }
    }

    /// The variables of the files of a service: `project` is what the project knows, `environment` what `environment:`
    /// sets, variables without a value left out.
    pub(crate) fn variables(
        &mut self,
        files: &[EnvFile],
        project: &Variables,
        environment: &Variables,
        diagnostics: &mut Diagnostics,
    ) -> Variables {
        let mut variables = Variables::default();
        let lookup = |name: &str| project.get(name).or_else(|| environment.get(name));
        for file in files {
            if !file.required && missing(&file.path) {
                continue;
            }
            let format = match file.format.as_ref().map(|(format, span)| (format.as_str(), span)) {
                None | Some(("", _)) => Format::Dotenv,
                Some(("raw", _)) => Format::Raw,
                Some((other, span)) => {
                    diagnostics.push(
                        Diagnostic::error(format!("`{other}` is no format of a file of variables"))
                            .at(span)
                            .hint("write `raw` to take values as they stand, or leave `format` out"),
                    );
                    continue;
                }
            };
            self.fill(&file.path, format, &file.span, &lookup, &mut variables, diagnostics);
        }
        variables
    }

    /// The labels of the files of a service: they see earlier files and lines, and nothing else.
    pub(super) fn labels(&mut self, files: &[(PathBuf, Span)], diagnostics: &mut Diagnostics) -> Variables {
        let mut labels = Variables::default();
        for (path, span) in files {
            self.fill(path, Format::Dotenv, span, &|_| None, &mut labels, diagnostics);
        }
        labels
    }

    fn fill<'v>(
        &mut self,
        path: &Path,
        format: Format,
        span: &Span,
        lookup: &dyn Fn(&str) -> Option<&'v Variable>,
        into: &mut Variables,
        diagnostics: &mut Diagnostics,
    ) {
        if self.full {
            return;
        }
        let mut found = Diagnostics::new();
        if let Some(known) = self.known(path, format, span, &mut found) {
            self.text += known.statements.fill(lookup, into, &mut known.warned.borrow_mut(), &mut found);
            if self.text > MOST_TEXT {
                self.full = true;
                let message = format!("files of variables make more than {} MiB of text", MOST_TEXT >> 20);
                found.push(Diagnostic::error(message).at(span));
            }
        }
        diagnostics.extend(found.into_iter().map(|diagnostic| match &diagnostic.span {
            Some(place) if place.file() != span.file() => diagnostic.label(span, "the file is named here"),
            _ => diagnostic,
        }));
    }

    fn known(
        &mut self,
        path: &Path,
        format: Format,
        span: &Span,
        diagnostics: &mut Diagnostics,
    ) -> Option<Rc<Known>> {
        let key = (path.to_owned(), format);
        if let Some(known) = self.read.get(&key) {
            return known.clone();
        }
        let known = match self.read(path) {
            Ok(file) => {
                let statements = match format {
                    Format::Dotenv => dotenv::read(&file, diagnostics),
                    Format::Raw => raw_env::read(&file, diagnostics),
                };
                Some(Rc::new(Known { statements, warned: std::cell::RefCell::default() }))
            }
            Err(diagnostic) => {
                let placed = diagnostic.span.is_some();
                diagnostics.push(if placed { diagnostic } else { diagnostic.at(span) });
                None
            }
        };
        self.read.insert(key, known.clone());
        known
    }

    fn read(&mut self, path: &Path) -> Result<crate::diagnostics::SourceFile, Diagnostic> {
        if path.as_os_str().is_empty() {
            return Err(Diagnostic::error("the path of a file of variables is empty").hint("name a file"));
        }
        let display = display(self.directory, path);
        if missing(path) {
            return Err(Diagnostic::error(format!("the file of variables `{display}` does not exist"))
                .hint(format!("looked for {}", path.display()))
                .hint("create it, or write `{path: …, required: false}` where `env_file` may be missing"));
        }
        let order = self.order;
        self.order += 1;
        read::read(order, path, &display)
    }
}

fn missing(path: &Path) -> bool {
    match std::fs::metadata(path) {
        Ok(_) => false,
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}
