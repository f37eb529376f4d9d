//! The variables of a project: the environment of the caller over files of variables.
//!
//! ```text
//! caller's environment, PWD
//!   over  --env-file …, or COMPOSE_ENV_FILES, the last file first
//!   or    .env of the folder the search for files begins in, over .env of the project's folder
//! ```
//!
//! The first `.env` may say which files make the project (`COMPOSE_FILE`), so it is read before they are known, and the
//! second after that.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use super::{
    display, dotenv, read,
    tree::Origin,
    variables::{Variable, Variables},
};
use crate::diagnostics::{Diagnostic, Diagnostics};

/// Turns the default `.env` off.
const DISABLE: &str = "COMPOSE_DISABLE_ENV_FILE";

/// The variables of a project, as they become known.
pub(crate) struct ProjectVariables<'a> {
    variables: Variables,
    /// The folder of the caller.
    directory: &'a Path,
    /// The place of the next file among the files of the run.
    order: usize,
    /// Whether the `.env` of a folder counts.
    default: bool,
    folders: BTreeSet<PathBuf>,
    warned: BTreeSet<String>,
}

impl<'a> ProjectVariables<'a> {
    /// What is known at first: the environment of the caller, and the files that the caller names, relative ones from
    /// `directory`.
    pub(crate) fn new(
        environment: &BTreeMap<String, String>,
        directory: &'a Path,
        files: &[PathBuf],
        order: usize,
        diagnostics: &mut Diagnostics,
    ) -> Self {
        let mut variables = Variables::of_environment(environment);
        if variables.get("PWD").is_none() {
            let value = directory.display().to_string();
            variables.set("PWD", Variable { value, origin: Origin::Built });
        }
        let mut this =
            Self { variables, directory, order, default: true, folders: BTreeSet::new(), warned: BTreeSet::new() };
        let named: Vec<PathBuf> = match environment.get("COMPOSE_ENV_FILES") {
            Some(list) if files.is_empty() => list.split(',').filter(|file| !file.is_empty()).map(Into::into).collect(),
            _ => files.to_vec(),
        };
        if !named.is_empty() {
            this.default = false;
            let mut of_files = Variables::default();
            for file in &named {
                this.read(&directory.join(file), &mut of_files, diagnostics);
            }
            this.variables.under(of_files);
        } else if let Some(value) = environment.get(DISABLE) {
            match boolean(value) {
                Some(disabled) => this.default = !disabled,
                None => diagnostics.push(
                    Diagnostic::error(format!("`{DISABLE}` is `{value}`, which is neither true nor false"))
                        .hint("set it to `true` or `false`, or take it out of the environment"),
                ),
            }
        }
        this
    }

    /// Adds the `.env` of a folder, if there is one and the caller named no other files.
    pub(crate) fn folder(&mut self, folder: &Path, diagnostics: &mut Diagnostics) {
        let path = folder.join(".env");
        if !self.default || !self.folders.insert(folder.to_owned()) || !path.is_file() {
            return;
        }
        let mut of_file = Variables::default();
        self.read(&path, &mut of_file, diagnostics);
        if self.variables.get(DISABLE).is_none() && of_file.value(DISABLE).and_then(boolean) == Some(true) {
            // Strange as it is: what concerns Compose itself has been taken from the file by then.
            of_file.retain(|name| name.starts_with("COMPOSE_"));
            self.default = false;
        }
        self.variables.under(of_file);
    }

    fn read(&mut self, path: &Path, into: &mut Variables, diagnostics: &mut Diagnostics) {
        let display = display(self.directory, path);
        let order = self.order;
        self.order += 1;
        match read::read(order, path, &display) {
            Ok(file) => {
                // Files named together see each other, and a later one wins over an earlier one.
                let statements = dotenv::read(&file, diagnostics);
                statements.fill(&|name| self.variables.get(name), into, &mut self.warned, diagnostics);
            }
            Err(diagnostic) => diagnostics.push(diagnostic),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Variable> {
        self.variables.get(name)
    }

    pub(crate) fn into_variables(self) -> Variables {
        self.variables
    }
}

/// A boolean as Compose reads it from the environment.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Some(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Case(tempfile::TempDir);

    impl Case {
        fn new(files: &[(&str, &str)]) -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            for (name, text) in files {
                let path = folder.path().join(name);
                fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
                fs::write(path, text).expect("a file");
            }
            Self(folder)
        }

        /// The variables, without `PWD`; `folders` are those whose `.env` is looked for.
        fn read(&self, environment: &[(&str, &str)], files: &[&str], folders: &[&str]) -> (String, Diagnostics) {
            let environment =
                environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let files: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
            let mut diagnostics = Diagnostics::new();
            let mut known = ProjectVariables::new(&environment, self.0.path(), &files, 1, &mut diagnostics);
            for folder in folders {
                known.folder(&self.0.path().join(folder), &mut diagnostics);
            }
            let variables: Vec<String> = known
                .into_variables()
                .iter()
                .filter(|(name, _)| *name != "PWD")
                .map(|(name, variable)| format!("{name}={}", variable.value))
                .collect();
            (variables.join(" "), diagnostics)
        }

        fn clean(&self, environment: &[(&str, &str)], files: &[&str], folders: &[&str]) -> String {
            let (variables, diagnostics) = self.read(environment, files, folders);
            assert!(diagnostics.is_empty(), "{diagnostics}");
            variables
        }
    }

    /// The expectations of this and the next tests are what Docker Compose 2.40.3 does.
    #[test]
    fn the_environment_wins_over_files() {
        let case = Case::new(&[(".env", "A=1\nB=$A\nC=${A:-q}\nD=${B}2\n")]);
        assert_eq!(case.clean(&[], &[], &[""]), "A=1 B=1 C=1 D=12");
        assert_eq!(case.clean(&[("A", "env")], &[], &[""]), "A=env B=env C=env D=env2");
        assert_eq!(case.clean(&[("A", "")], &[], &[""]), "A= B= C=q D=2");
    }

    #[test]
    fn of_named_files_the_last_wins_and_no_default_is_read() {
        let case = Case::new(&[
            (".env", "A=dot\nD=dot\nCOMPOSE_ENV_FILES=a"),
            ("a", "A=1\nB=1\n"),
            ("b", "B=2\nC=$A$B\nA\n"),
            ("c", "B=$A\nA=2\nC=$A"),
        ]);
        assert_eq!(case.clean(&[], &["a", "b"], &[""]), "A=1 B=2 C=12");
        assert_eq!(case.clean(&[("A", "E")], &["a", "b"], &[""]), "A=E B=2 C=E2");
        assert_eq!(case.clean(&[], &["a", "c"], &[""]), "A=2 B=1 C=2");
        for (list, named, expected) in [
            ("a,c", &[][..], "A=2 B=1 C=2"),
            (",a,", &[], "A=1 B=1"),
            ("a", &["c"], "A=2 B= C=2"),
            ("", &[], "A=dot D=dot"),
            (",", &[], "A=dot D=dot"),
        ] {
            let (variables, diagnostics) = case.read(&[("COMPOSE_ENV_FILES", list)], named, &[""]);
            let rest: Vec<&str> = variables.split(' ').filter(|text| !text.starts_with("COMPOSE_")).collect();
            assert_eq!(rest.join(" "), expected, "{list}");
            assert!(!diagnostics.has_errors(), "{diagnostics}");
        }
        // Of the default file, COMPOSE_ENV_FILES is a variable like any other.
        assert_eq!(case.clean(&[], &[], &[""]), "A=dot COMPOSE_ENV_FILES=a D=dot");
    }

    #[test]
    fn a_named_file_has_to_be_there_and_a_default_one_has_not() {
        let case = Case::new(&[("d/.env/file", "")]);
        assert_eq!(case.clean(&[], &[], &["", "d"]), "");
        for files in [&["nope"][..], &["d"], &["d/.env"], &[""]] {
            assert!(case.read(&[], files, &[""]).1.has_errors(), "{files:?}");
        }
        assert!(case.read(&[("COMPOSE_ENV_FILES", "d/.env/file, x")], &[], &[]).1.has_errors());
        assert!(!case.read(&[], &["/dev/null"], &[""]).1.has_errors());
    }

    #[test]
    fn the_first_folder_wins_over_the_second() {
        let case = Case::new(&[(".env", "A=cwd\nB=cwd"), ("d/.env", "A=d\nC=$A$B")]);
        assert_eq!(case.clean(&[], &[], &["", "d", ""]), "A=cwd B=cwd C=cwdcwd");
        assert_eq!(case.clean(&[("B", "e")], &[], &["d"]), "A=d B=e C=de");
    }

    #[test]
    fn the_default_file_can_be_turned_off() {
        let case = Case::new(&[(".env", "A=1"), ("d/.env", "COMPOSE_DISABLE_ENV_FILE=1\nCOMPOSE_FILE=x\nB=1")]);
        for (value, expected) in [("1", ""), ("TRUE", ""), ("t", ""), ("0", "A=1"), ("false", "A=1")] {
            let (variables, diagnostics) = case.read(&[(DISABLE, value)], &[], &[""]);
            assert!(diagnostics.is_empty(), "{diagnostics}");
            assert_eq!(
                variables.split(' ').find(|text| text.starts_with('A')).unwrap_or_default(),
                expected,
                "{value}"
            );
        }
        for value in ["", "yes", "2"] {
            assert!(case.read(&[(DISABLE, value)], &[], &[""]).1.has_errors(), "{value}");
        }
        assert_eq!(case.clean(&[], &[], &["d", ""]), "COMPOSE_DISABLE_ENV_FILE=1 COMPOSE_FILE=x");
    }

    #[test]
    fn the_folder_of_the_caller_is_a_variable() {
        let mut diagnostics = Diagnostics::new();
        for (environment, expected) in [(BTreeMap::new(), "/x"), ([("PWD".to_owned(), "/y".to_owned())].into(), "/y")] {
            let known = ProjectVariables::new(&environment, Path::new("/x"), &[], 1, &mut diagnostics);
            assert_eq!(known.get("PWD").map(|variable| variable.value.as_str()), Some(expected));
        }
    }
}
