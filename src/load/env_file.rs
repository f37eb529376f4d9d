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

/// Text that a variable counts for by being there.
const VARIABLE: usize = 256;

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
            self.text += into.len() * VARIABLE;
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

    fn known(&mut self, path: &Path, format: Format, span: &Span, diagnostics: &mut Diagnostics) -> Option<Rc<Known>> {
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{diagnostics::SourceFile, yaml::tree::Origin};

    struct Case {
        folder: tempfile::TempDir,
        compose: SourceFile,
    }

    impl Case {
        fn new(files: &[(&str, &str)]) -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            for (name, text) in files {
                fs::write(folder.path().join(name), text).expect("a file");
            }
            Self { folder, compose: SourceFile::new(0, "compose.yaml", "env_file") }
        }

        fn file(&self, name: &str) -> EnvFile {
            let path = self.folder.path().join(name);
            EnvFile { path, span: self.compose.span(0..8), required: true, format: None }
        }

        fn raw(&self, name: &str, format: &str) -> EnvFile {
            EnvFile { format: Some((format.to_owned(), self.compose.span(0..3))), ..self.file(name) }
        }

        fn optional(&self, name: &str) -> EnvFile {
            EnvFile { required: false, ..self.file(name) }
        }

        fn read(&self, files: &[EnvFile], project: &[(&str, &str)], service: &[(&str, &str)]) -> (String, Diagnostics) {
            let mut diagnostics = Diagnostics::new();
            let mut read = EnvFiles::new(self.folder.path(), 1);
            let found = read.variables(files, &variables(project), &variables(service), &mut diagnostics);
            let found: Vec<String> =
                found.iter().map(|(name, variable)| format!("{name}={}", variable.value)).collect();
            (found.join(" "), diagnostics)
        }
    }

    fn variables(list: &[(&str, &str)]) -> Variables {
        let mut variables = Variables::default();
        for (name, value) in list {
            variables.set(*name, Variable { value: (*value).to_owned(), origin: Origin::Environment });
        }
        variables
    }

    /// The expectations are what Docker Compose 2.40.3 does, before `environment:` is laid over them.
    #[test]
    fn the_last_file_wins_and_sees_what_came_before() {
        let case = Case::new(&[
            ("a", "A=1\nB=1\nX=$A\nQ=1\n"),
            ("b", "A=2\nC=$B$A\nD=$X\nQ\nHOST\n"),
            ("own", "C=$A-$E\nA=x\nD=$A\nZ=$S\nS=f\nQ\nN\n"),
            ("raw", "Q\nR=$Q\nS\nN\n"),
        ]);
        let read = |files: &[&str], project: &[(&str, &str)], service: &[(&str, &str)]| {
            let files: Vec<EnvFile> = files.iter().map(|name| case.file(name)).collect();
            case.read(&files, project, service).0
        };
        assert_eq!(read(&["a", "b"], &[("HOST", "h")], &[]), "A=2 B=1 C=12 D=1 HOST=h Q=1 X=1");
        let service = [("A", "e"), ("E", "ee"), ("Q", "q"), ("S", "weaker")];
        assert_eq!(read(&["own"], &[("S", "dot")], &service), "A=x C=e-ee D=e Q=q S=f Z=dot");
        let (found, _) = case.read(&[case.raw("raw", "raw")], &[("S", "dot")], &service);
        assert_eq!(found, "Q=q R=$Q S=dot");
    }

    #[test]
    fn a_missing_file_is_a_mistake_unless_it_may_be_missing() {
        let case = Case::new(&[("b", "B=1"), ("bad", "A+=1")]);
        let (found, diagnostics) = case.read(&[case.optional("a"), case.file("b")], &[], &[]);
        assert_eq!((found.as_str(), diagnostics.len()), ("B=1", 0));
        let (_, diagnostics) = case.read(&[case.file("a")], &[], &[]);
        let missing = diagnostics.iter().next().expect("a mistake");
        assert_eq!(missing.message, "the file of variables `a` does not exist");
        assert_eq!(missing.span.as_ref().map(Span::to_string).as_deref(), Some("compose.yaml:1:1"));
        assert_eq!(missing.hints.len(), 2);
        // What is there and wrong is a mistake all the same.
        for file in ["bad", ".", "b/c"] {
            assert!(case.read(&[case.optional(file)], &[], &[]).1.has_errors(), "{file}");
        }
        let empty = EnvFile { path: PathBuf::new(), ..case.file("a") };
        assert!(case.read(&[empty], &[], &[]).1.has_errors());
    }

    #[test]
    fn only_the_formats_of_compose_are_known() {
        let case = Case::new(&[("a", "A='x'")]);
        assert_eq!(case.read(&[case.raw("a", "raw")], &[], &[]).0, "A='x'");
        assert_eq!(case.read(&[case.raw("a", "")], &[], &[]).0, "A=x");
        for format in ["dotenv", "RAW", "default"] {
            assert!(case.read(&[case.raw("a", format)], &[], &[]).1.has_errors(), "{format}");
            let optional = EnvFile { required: false, ..case.raw("missing", format) };
            assert!(case.read(&[optional], &[], &[]).1.is_empty(), "{format}");
        }
    }

    #[test]
    fn a_file_is_read_once_and_filled_in_for_each_service() {
        let case = Case::new(&[("a", "A=$S$U\nB=${\n")]);
        let mut read = EnvFiles::new(case.folder.path(), 1);
        let mut diagnostics = Diagnostics::new();
        let mut of = |service: &[(&str, &str)]| {
            let found = read.variables(&[case.file("a")], &Variables::default(), &variables(service), &mut diagnostics);
            found.value("A").map(str::to_owned)
        };
        assert_eq!(of(&[("S", "1")]).as_deref(), Some("1"));
        fs::remove_file(case.folder.path().join("a")).expect("removal");
        assert_eq!(of(&[("S", "2")]).as_deref(), Some("2"));
        // A mistake of the file and an unset variable, once each, with the place that names the file.
        assert_eq!(diagnostics.len(), 2, "{diagnostics}");
        assert!(diagnostics.iter().all(|found| found.labels.len() == 1), "{diagnostics}");
    }

    #[test]
    fn labels_see_labels_alone() {
        let case = Case::new(&[("a", "A=1\nB=x\nC=\"y\"\nHOST\n"), ("b", "B=2\nD=$C$A\n")]);
        let mut diagnostics = Diagnostics::new();
        let mut read = EnvFiles::new(case.folder.path(), 1);
        let files = ["a", "b"].map(|name| (case.folder.path().join(name), case.compose.span(0..8)));
        let labels = crate::load::label_file::labels(&files, &mut read, &mut diagnostics);
        let labels: Vec<String> = labels.iter().map(|(name, variable)| format!("{name}={}", variable.value)).collect();
        assert_eq!(labels, ["A=1", "B=2", "C=y", "D=y1"]);
        assert!(diagnostics.is_empty(), "{diagnostics}");
    }

    #[test]
    fn many_services_with_a_long_file_do_not_fill_the_memory() {
        let case = Case::new(&[("a", &format!("A={}\n", "x".repeat(8 << 20)))]);
        let mut read = EnvFiles::new(case.folder.path(), 1);
        let mut diagnostics = Diagnostics::new();
        for _ in 0..1000 {
            read.variables(&[case.file("a")], &Variables::default(), &Variables::default(), &mut diagnostics);
        }
        assert_eq!(diagnostics.len(), 1, "{diagnostics}");
    }
}
