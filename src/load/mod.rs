//! Compose files become a [`Project`].
//!
//! ```text
//! 1 discover     which files                                        discover.rs
//! 2 parse        bytes -> text -> tree in which all has its place   read.rs, parse/ (tree.rs, scalar.rs)
//! 3 interpolate  variables, from the environment and `.env`         interpolate.rs (template.rs, dotenv.rs)
//! 4 merge        several trees -> one                               merge.rs, reset.rs
//! 5 resolve      tree -> Project: types, defaults, references       resolve/
//! ```
//!
//! Phases 2 to 4 know YAML and no Compose keys, but for the few with merge rules of their own; what a key means is known in
//! phase 5 alone, in one table per kind of mapping. Each phase collects all the mistakes it finds; a later one runs as
//! long as there is a tree to run on, so that one run shows them all.
//!
//! Files may mean harm: size, depth, expansion of aliases and variables are bounded, and nothing is ever executed.

mod discover;
mod dotenv;
mod interpolate;
mod merge;
#[cfg(test)]
mod oracle;
mod parse;
mod read;
mod reset;
mod resolve;
mod scalar;
mod template;
mod tree;
mod variables;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

pub use discover::discover;

use crate::{
    diagnostics::{Diagnostic, Diagnostics},
    model::{Project, ProjectName},
};
use interpolate::Interpolator;
use tree::{Node, Value};

/// What to load, all of it settled by the caller.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// The files, relative ones from `directory`, `-` for standard input. None: look for them.
    pub files: Vec<PathBuf>,
    /// The name of the project, if the caller insists on one.
    pub project_name: Option<String>,
    /// Absolute folder that the caller is in.
    pub directory: PathBuf,
    /// The environment of the caller: variables of the file and of services come from here.
    pub environment: BTreeMap<String, String>,
}

/// A project, and what is odd about its files.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The project.
    pub project: Project,
    /// Warnings, in file order.
    pub warnings: Diagnostics,
}

/// Reads the files of a stack.
///
/// # Errors
/// All mistakes of the files, in file order, the warnings between them.
pub fn load(options: &LoadOptions) -> Result<Loaded, Diagnostics> {
    let (files, directory) = files(options)?;
    let mut diagnostics = Diagnostics::new();
    let loaded = Loader { options, files: &files, directory: &directory }.run(&mut diagnostics);
    diagnostics.sort();
    match loaded {
        Some(project) if !diagnostics.has_errors() => Ok(Loaded { project, warnings: diagnostics }),
        _ => Err(diagnostics),
    }
}

/// The name of the project alone; the files may have mistakes beyond it.
///
/// # Errors
/// When there are no files to take it from, or it is not a valid name.
pub fn project_name(options: &LoadOptions) -> Result<ProjectName, Diagnostics> {
    let (files, directory) = files(options)?;
    let mut diagnostics = Diagnostics::new();
    let loader = Loader { options, files: &files, directory: &directory };
    let (trees, _) = loader.parse(&mut diagnostics);
    let variables = loader.variables(&mut diagnostics);
    let mut of_the_name = Diagnostics::new();
    match loader.name(&trees, &variables, &mut of_the_name) {
        Some(name) => Ok(name),
        None if of_the_name.has_errors() => Err(of_the_name),
        None => Err(diagnostics),
    }
}

/// The files that the options name or that are found, absolute, in the order in which they are merged.
///
/// # Errors
/// When there are none to be found.
pub fn project_files(options: &LoadOptions) -> Result<Vec<PathBuf>, Diagnostics> {
    Ok(files(options)?.0)
}

/// The files, absolute, and the folder that their relative paths start from.
fn files(options: &LoadOptions) -> Result<(Vec<PathBuf>, PathBuf), Diagnostics> {
    let files = if options.files.is_empty() { discover(&options.directory)? } else { options.files.clone() };
    let files: Vec<PathBuf> = files.iter().map(|file| absolute(&options.directory, file)).collect();
    // As Compose does: relative paths start from the folder of the first file.
    let directory = match files.first() {
        Some(file) if !is_stdin(file) => file.parent().unwrap_or(&options.directory).to_owned(),
        _ => options.directory.clone(),
    };
    Ok((files, directory))
}

struct Loader<'a> {
    options: &'a LoadOptions,
    files: &'a [PathBuf],
    directory: &'a Path,
}

impl Loader<'_> {
    fn run(&self, diagnostics: &mut Diagnostics) -> Option<Project> {
        let (mut trees, complete) = self.parse(diagnostics);
        let mut variables = self.variables(diagnostics);
        let name = self.name(&trees, &variables, diagnostics);
        if let Some(name) = &name {
            // The specification promises it to files.
            variables.insert("COMPOSE_PROJECT_NAME".to_owned(), name.as_str().to_owned());
        }
        let mut interpolator = Interpolator::new(&variables);
        for tree in &mut trees {
            interpolator.node(tree, diagnostics);
        }
        if !complete {
            // A file is missing from the whole, so what refers to it would only look wrong.
            return None;
        }
        let trees = trees.into_iter().map(|mut tree| (reset::take(&mut tree), tree));
        let (_, root) = trees.reduce(|(_, mut earlier), (resets, later)| {
            reset::apply(&resets, &mut earlier);
            (Vec::new(), merge::merge(earlier, later, diagnostics))
        })?;
        let surroundings = resolve::Surroundings { directory: self.directory, variables: &variables };
        let parts = resolve::resolve(&root, &surroundings, diagnostics)?;
        Some(Project {
            name: name?,
            directory: self.directory.to_owned(),
            files: self.files.to_vec(),
            services: parts.services,
            networks: parts.networks,
            volumes: parts.volumes,
        })
    }

    /// Phase 2 for each file: the documents of all, and whether none is missing. What cannot be read is left out, and its
    /// mistakes are in `diagnostics`.
    fn parse(&self, diagnostics: &mut Diagnostics) -> (Vec<Node>, bool) {
        let mut trees = Vec::new();
        let mut complete = true;
        for (order, path) in self.files.iter().enumerate() {
            let display = display(&self.options.directory, path);
            let parsed = read::read(order, path, &display)
                .and_then(|file| Ok((parse::parse(&file, diagnostics)?, file)))
                .and_then(|(documents, file)| {
                    if documents.is_empty() {
                        return Err(Diagnostic::error(format!("`{display}` is empty")).at(&file.span(0..0)));
                    }
                    documents.into_iter().map(|tree| document(tree, &display)).collect::<Result<Vec<_>, _>>()
                });
            match parsed {
                Ok(documents) => trees.extend(documents),
                Err(diagnostic) => {
                    complete = false;
                    diagnostics.push(diagnostic);
                }
            }
        }
        (trees, complete)
    }

    /// The environment of the caller over the `.env` file of the project's folder.
    fn variables(&self, diagnostics: &mut Diagnostics) -> BTreeMap<String, String> {
        let path = self.directory.join(".env");
        let mut variables = BTreeMap::new();
        if path.is_file() {
            let display = display(&self.options.directory, &path);
            match read::read(self.files.len(), &path, &display) {
                Ok(file) => variables = dotenv::parse(&file, &self.options.environment, diagnostics),
                Err(diagnostic) => diagnostics.push(diagnostic),
            }
        }
        variables.extend(self.options.environment.iter().map(|(name, value)| (name.clone(), value.clone())));
        variables
    }

    /// The name of the project: from the caller, `COMPOSE_PROJECT_NAME`, the last file with a `name:`, or the folder.
    fn name(
        &self,
        trees: &[Node],
        variables: &BTreeMap<String, String>,
        diagnostics: &mut Diagnostics,
    ) -> Option<ProjectName> {
        let given = self.options.project_name.as_ref().map(|name| (name.as_str(), "the project name"));
        let variable = variables
            .get("COMPOSE_PROJECT_NAME")
            .filter(|name| !name.is_empty())
            .map(|name| (name.as_str(), "COMPOSE_PROJECT_NAME"));
        if let Some((name, origin)) = given.or(variable) {
            return match name.parse() {
                Ok(name) => Some(name),
                Err(error) => {
                    let diagnostic = Diagnostic::error(format!("{origin} cannot be used: {error}"));
                    diagnostics.push(with_normalized(diagnostic, name));
                    None
                }
            };
        }
        if let Some(entry) = trees.iter().rev().find_map(|tree| tree.entry("name")) {
            let mut node = entry.value.clone();
            // Its mistakes are found once more, and reported, when the whole tree is filled in.
            Interpolator::new(variables).node(&mut node, &mut Diagnostics::new());
            return match &node.value {
                Value::Scalar(scalar) if !node.is_null() => match scalar.text.parse() {
                    Ok(name) => Some(name),
                    Err(error) => {
                        let diagnostic = Diagnostic::error(format!("{error}")).at(&node.span);
                        diagnostics.push(with_normalized(diagnostic, &scalar.text));
                        None
                    }
                },
                Value::Broken => None,
                _ => {
                    let found = node.describe();
                    diagnostics.push(Diagnostic::error(format!("`name` is a string, not {found}")).at(&node.span));
                    None
                }
            };
        }
        let folder = self.directory.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let name = normalize(&folder).parse().ok();
        if name.is_none() {
            diagnostics.push(
                Diagnostic::error(format!("no project name can be made of the folder `{}`", self.directory.display()))
                    .hint("give one with `-p NAME`, or with `name:` in the file"),
            );
        }
        name
    }
}

/// A document that can be one of a Compose file.
fn document(tree: Node, display: &str) -> Result<Node, Diagnostic> {
    if tree.entries().is_some() {
        return Ok(tree);
    }
    if tree.is_null() && tree.span.bytes().start == 0 {
        return Err(Diagnostic::error(format!("`{display}` is empty")).at(&tree.span));
    }
    if tree.is_null() {
        return Err(Diagnostic::error(format!("`{display}` has a document that is empty"))
            .at(&tree.span)
            .hint("remove the `---` that nothing follows"));
    }
    let found = tree.describe();
    Err(Diagnostic::error(format!("a Compose file is a mapping, and this is {found}"))
        .at(&tree.span)
        .hint("begin with `services:`"))
}

fn with_normalized(diagnostic: Diagnostic, name: &str) -> Diagnostic {
    match normalize(name).as_str() {
        "" => diagnostic,
        normalized => diagnostic.hint(format!("`{normalized}` would do")),
    }
}

/// A name that follows the rules, as Compose makes it of a folder's.
fn normalize(name: &str) -> String {
    let name: String =
        name.to_lowercase().chars().filter(|c| matches!(c, 'a'..='z' | '0'..='9' | '_' | '-')).take(100).collect();
    name.trim_start_matches(['_', '-']).to_owned()
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

fn absolute(directory: &Path, path: &Path) -> PathBuf {
    if is_stdin(path) { path.to_owned() } else { resolve::clean(&directory.join(path)) }
}

/// A path as people would name it from where they are.
fn display(directory: &Path, path: &Path) -> String {
    if is_stdin(path) {
        return "<stdin>".to_owned();
    }
    match path.strip_prefix(directory) {
        Ok(below) if below.as_os_str().is_empty() => ".".to_owned(),
        Ok(below) => below.display().to_string(),
        Err(_) => path.display().to_string(),
    }
}
