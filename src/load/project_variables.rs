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
        let mut this = Self {
            variables,
            directory,
            order,
            default: true,
            folders: BTreeSet::new(),
            warned: BTreeSet::new(),
        };
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
