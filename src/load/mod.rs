//! Compose files become a [`Project`](model::Project).
//!
//! ```text
//!  1 place         which files, and their variables                         place.rs (discover.rs, project_variables.rs)
//!  2 parse         bytes -> text -> trees in which all has its place        read.rs, crate::yaml
//!  3 interpolate   variables, from the environment and `.env`               interpolate.rs (template.rs, dotenv.rs)
//!  4 canonical     short forms -> long ones                                 crate::compose
//!  5 extends       services take the settings of others                     extends.rs
//!  6 include       other projects become part of this one                   include.rs
//!  7 merge         several trees -> one; `!reset` and `!override`           files.rs (reset.rs), crate::compose
//!  8 paths         relative paths of the host -> absolute ones              crate::compose
//!  9 normalize     what is meant and not written: names, networks, order    normalize.rs
//! 10 profiles      services that nobody asked for are left out              profiles.rs
//! 11 environment   what `env_file` and `label_file` say                     environment.rs (env_file.rs, label_file.rs)
//! 12 check         types, then references                                   crate::compose, consistency.rs (missing.rs, cycles.rs)
//! 13 resolve       what can be run, and what has to be refused              resolve/
//! ```
//!
//! Phases 2 and 3 know YAML and no Compose keys; 4, 7, 8 and 12 are the types' own business. Until the end all is one tree
//! in which each value knows where it was written and how it came to where it is. Each phase collects all the mistakes it
//! finds; a later one runs as long as there is a tree to run on, so that one run shows them all.
//!
//! Files may mean harm: size, depth, expansion of aliases and variables are bounded, and nothing is ever executed.

mod budget;
mod consistency;
mod cycles;
mod discover;
mod dotenv;
mod env_file;
mod environment;
mod explain;
mod extends;
mod files;
mod include;
mod interpolate;
mod json_form;
mod label_file;
mod missing;
mod normalize;
pub(crate) mod paths;
mod place;
mod profiles;
mod project_name;
mod project_variables;
mod raw_env;
pub(crate) mod read;
pub(crate) mod reset;
mod resolve;
mod select;
mod sources;
mod template;
mod variables;

use std::{collections::BTreeMap, path::PathBuf};

pub use discover::discover;
use explain::Taken;
pub use explain::{Explained, PathError, Place as WrittenAt, Stop};
pub use interpolate::UsedVariable;

use crate::{
    compose::{self, Document, Format, Reader},
    diagnostics::{Diagnostic, Diagnostics},
    model::{self, ProjectName, ServiceName},
    yaml::{parse, tree},
};
use files::Group;
use paths::display;
use place::Place;
use profiles::LeftOut;
use sources::Sources;
use tree::Node;
use variables::Variables;

/// What to load, all of it settled by the caller.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// The files, relative ones from `directory`, `-` for standard input. None: look for them.
    pub files: Vec<PathBuf>,
    /// The name of the project, if the caller insists on one.
    pub project_name: Option<String>,
    /// Absolute folder that the caller is in.
    pub directory: PathBuf,
    /// Folder that relative paths start from, instead of that of the first file.
    pub project_directory: Option<PathBuf>,
    /// Files with variables, instead of `.env`.
    pub env_files: Vec<PathBuf>,
    /// Profiles that are asked for; `*` for all.
    pub profiles: Vec<String>,
    /// Services that are asked for: what is to be run of others does not matter, except for those that they depend on, and
    /// their profiles are asked for too. None: all.
    pub services: Vec<String>,
    /// How many containers services have, whatever the files say.
    pub scale: BTreeMap<String, u32>,
    /// Nothing but these services, and what they depend on.
    pub only: bool,
    /// Variables stay as they are written.
    pub no_interpolate: bool,
    /// Nothing is added that is not written.
    pub no_normalize: bool,
    /// What cannot be done yet is left out, with a warning, when the project is to be run.
    pub allow_unsupported: bool,
    /// Relative paths stay relative.
    pub no_path_resolution: bool,
    /// Files of variables and of labels stay named, and are not read.
    pub no_env_resolution: bool,
    /// What services refer to need not be there.
    pub no_consistency: bool,
    /// The environment of the caller: variables of the file and of services come from here.
    pub environment: BTreeMap<String, String>,
}

/// A project that can be run, and what is odd about its files.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The project.
    pub project: model::Project,
    /// Names of all services that are written, whether they are wanted or not.
    pub all_services: Vec<String>,
    /// Warnings, in file order.
    pub warnings: Diagnostics,
    tree: Node,
    variables: Variables,
}

impl Loaded {
    /// A variable of the caller's environment, or of the files with variables.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.value(name)
    }

    /// The diagnostic at the first of these keys that the service has, such as `deploy.resources.limits.cpus`, and which it is;
    /// none if it has none of them.
    #[must_use]
    pub fn at_key<'k>(
        &self,
        service: &ServiceName,
        keys: &[&'k str],
        diagnostic: impl FnOnce(&'k str) -> Diagnostic,
    ) -> Option<Diagnostic> {
        let service = &self.tree.entry("services")?.value.entry(service.service())?.value;
        let found = keys.iter().find_map(|key| {
            let (mut node, mut found) = (service, None);
            for part in key.split('.') {
                let entry = node.entry(part)?;
                (node, found) = (&entry.value, Some(entry));
            }
            found.filter(|entry| !entry.value.is_implied()).map(|entry| (*key, entry))
        });
        found.map(|(key, entry)| compose::located_key(diagnostic(key), entry))
    }

    /// The diagnostic at the `rootfs` of that service.
    #[must_use]
    pub fn at_rootfs(&self, service: &ServiceName, diagnostic: Diagnostic) -> Diagnostic {
        let rootfs = self
            .tree
            .entry("services")
            .and_then(|services| services.value.entry(service.service()))
            .and_then(|service| service.value.entry("rootfs"));
        match rootfs {
            Some(rootfs) => compose::located(diagnostic, &rootfs.value),
            None => diagnostic,
        }
    }
}

/// The contents of a project's files, whether they can be run or not.
#[derive(Debug)]
pub struct Contents {
    /// All that is written, in its long form.
    pub project: compose::Project,
    /// Names of all services that are written, whether they are wanted or not.
    pub all_services: Vec<String>,
    /// Name of the project.
    pub name: ProjectName,
    /// Folder that relative paths start from.
    pub directory: PathBuf,
    /// The files, absolute, in the order in which they are merged.
    pub files: Vec<PathBuf>,
    /// Warnings, in file order.
    pub warnings: Diagnostics,
    tree: Node,
    left_out: LeftOut,
    taken: Taken,
    /// Variables stand as they are written.
    as_written: bool,
    /// There are keys that begin with `x-` below the top level.
    extended: bool,
    variables: Variables,
}

impl Contents {
    /// The variables that the files may name, with their values.
    #[must_use]
    pub fn variables(&self) -> BTreeMap<String, String> {
        self.variables.values()
    }

    /// The volumes that are declared, whether all of the project could be run or not.
    #[must_use]
    pub fn volumes(&self) -> BTreeMap<model::VolumeName, model::Volume> {
        resolve::volumes_of(&self.project, &self.name)
    }

    /// The variables that the values of the files name. Only what was loaded with `no_interpolate` has them still.
    #[must_use]
    pub fn used_variables(&self) -> Vec<UsedVariable> {
        interpolate::used_variables(&self.tree, &mut Diagnostics::new())
    }

    /// All that is written, in its long form, whatever its types.
    #[must_use]
    pub fn untyped(&self) -> compose::Untyped {
        compose::Untyped::of(&self.tree)
    }

    /// Why there is no service.
    fn nothing_to_run(&self) -> Diagnostic {
        let services = self.tree.entry("services").filter(|services| !services.value.is_implied());
        let nothing = if self.left_out.is_empty() {
            Diagnostic::error("no service is declared").hint("declare at least one under `services:`")
        } else {
            let mut profiles: Vec<String> = self.left_out.values().flatten().cloned().collect();
            profiles.sort();
            profiles.dedup();
            Diagnostic::error("every service belongs to a profile that is not asked for")
                .hint(profiles::ask_for(&profiles))
        };
        match services {
            Some(services) => nothing.at(&services.key_span),
            None => nothing.at(&self.tree.span.part(0..0)),
        }
    }

    /// Where the value at a path comes from, part by part.
    ///
    /// # Errors
    /// When the path is none, or leads nowhere.
    pub fn explain(&self, path: &str) -> Result<Vec<Explained>, PathError> {
        // What is printed, if it is not the tree itself.
        let printed = if self.as_written { None } else { Document::of(&self.project).ok() };
        explain::explain(&self.tree, printed.as_ref(), &self.left_out, &self.taken, path)
    }

    /// The project as Docker Compose prints it in JSON.
    ///
    /// # Errors
    /// When a value cannot be said in JSON, such as a number of more than 64 bits.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        let mut known = Diagnostics::new();
        let mut reader = Reader::new(&mut known).without_extensions();
        let read = if self.extended { compose::Project::read(&self.tree, &mut reader) } else { None };
        json_form::text(read.as_ref().unwrap_or(&self.project))
    }
}

/// Reads the files of a stack that is to be run.
///
/// # Errors
/// All mistakes of the files, in file order, the warnings between them.
pub fn load(options: &LoadOptions) -> Result<Loaded, Diagnostics> {
    let mut diagnostics = Diagnostics::new();
    let place = Place::of(options, &mut diagnostics)?;
    let resolved = place.contents(options, &mut diagnostics).and_then(|contents| {
        let (project, directory, tree) = (&contents.project, &contents.directory, &contents.tree);
        if project.services.as_ref().is_none_or(|services| services.0.0.is_empty()) {
            let nothing = contents.nothing_to_run();
            if !diagnostics.has_errors() {
                diagnostics.push(nothing);
            }
            return None;
        }
        let wanted = select::with_dependencies(project, &options.services);
        let wanted = (!options.services.is_empty()).then_some(&wanted);
        let parts = resolve::resolve(
            project,
            (directory, &contents.variables),
            tree,
            wanted,
            options.allow_unsupported,
            &mut diagnostics,
        );
        Some((contents, parts))
    });
    diagnostics.sort();
    match resolved {
        Some((contents, parts)) if !diagnostics.has_errors() => Ok(Loaded {
            project: model::Project {
                name: contents.name,
                directory: contents.directory,
                files: contents.files,
                services: parts.services,
                replicas: parts.replicas,
                networks: parts.networks,
                volumes: parts.volumes,
                uplink: parts.uplink,
            },
            all_services: contents.all_services,
            warnings: diagnostics,
            tree: contents.tree,
            variables: contents.variables,
        }),
        _ => Err(diagnostics),
    }
}

/// Reads the files of a stack, whether it can be run or not.
///
/// # Errors
/// All mistakes of the files, in file order, the warnings between them.
pub fn contents(options: &LoadOptions) -> Result<Contents, Diagnostics> {
    let mut diagnostics = Diagnostics::new();
    let place = Place::of(options, &mut diagnostics)?;
    let contents = place.contents(options, &mut diagnostics);
    diagnostics.sort();
    match contents {
        Some(contents) if !diagnostics.has_errors() => Ok(Contents { warnings: diagnostics, ..contents }),
        _ => Err(diagnostics),
    }
}

/// The name of the project alone; the files may have mistakes beyond it.
///
/// # Errors
/// When there are no files to take it from, or it is not a valid name.
pub fn project_name(options: &LoadOptions) -> Result<ProjectName, Diagnostics> {
    let mut diagnostics = Diagnostics::new();
    let place = Place::of(options, &mut diagnostics)?;
    let mut sources = Sources::new(&options.directory);
    let mut of_the_name = Diagnostics::new();
    match place.name(options, &mut sources, &mut diagnostics, &mut of_the_name) {
        Some((name, _)) => Ok(name),
        None if of_the_name.has_errors() => Err(of_the_name),
        None => Err(diagnostics),
    }
}

/// The files that the options name or that are found, absolute, in the order in which they are merged.
///
/// # Errors
/// When there are none to be found.
pub fn project_files(options: &LoadOptions) -> Result<Vec<PathBuf>, Diagnostics> {
    Ok(Place::of(options, &mut Diagnostics::new())?.files)
}

impl Place {
    fn name(
        &self,
        options: &LoadOptions,
        sources: &mut Sources,
        diagnostics: &mut Diagnostics,
        of_the_name: &mut Diagnostics,
    ) -> Option<(ProjectName, project_name::From)> {
        for file in &self.files {
            sources.read(file, None, diagnostics);
        }
        let says = |node: &&Node| !project_name::says_nothing(node);
        let written = self.files.iter().rev().find_map(|file| sources.top(file, "name").filter(says));
        project_name::of(options.project_name.as_deref(), written, &self.variables, &self.directory, of_the_name)
    }

    fn contents(mut self, options: &LoadOptions, diagnostics: &mut Diagnostics) -> Option<Contents> {
        let mut sources = Sources::new(&options.directory);
        let mut of_the_name = Diagnostics::new();
        let (name, from) = self.name(options, &mut sources, diagnostics, &mut of_the_name).unzip();
        of_the_name.iter().for_each(|diagnostic| diagnostics.push(diagnostic.clone()));
        if let Some(name) = &name {
            // The specification promises it to files.
            self.variables.set_built("COMPOSE_PROJECT_NAME", name.as_str());
        }
        let group = Group {
            files: &self.files,
            directory: &self.directory,
            variables: &self.variables,
            interpolate: !options.no_interpolate,
            paths: !options.no_path_resolution,
            above: &[],
        };
        let mut tree = group.load(&mut sources, diagnostics)?;
        // A project without a name is read to the end all the same, for its other mistakes.
        let shown = name.as_ref().map_or("unnamed", ProjectName::as_str);
        if !options.no_normalize {
            normalize::normalize(&mut tree, shown, &self.variables);
        }
        normalize::always(&mut tree, shown, from.as_ref());
        let all_services = consistency::names(&tree, "services");
        let as_written = options.no_interpolate;
        let mut reader = Reader::new(diagnostics).leaving_variables(as_written);
        let mut project = compose::Project::read(&tree, &mut reader)?;
        let extended = reader.has_extensions();
        project.set_numbers(&options.scale);
        let mut left_out = LeftOut::new();
        let mut taken = Taken::new();
        if !as_written {
            // Which services are wanted, and what they need, may be up to variables.
            cycles::report(&tree, &project, diagnostics);
            let profiles = profiles::Wanted { profiles: &self.profiles, services: &options.services };
            // Those of the environment may be meant for other projects.
            profiles::unknown(&tree, &options.profiles, diagnostics);
            left_out = profiles::select(&mut tree, &profiles);
            if !left_out.is_empty() {
                profiles::keep(&tree, &mut project);
            }
            if !options.no_consistency {
                consistency::check(&tree, &project, &all_services, diagnostics);
            }
            if options.only && select::keep_only(&mut tree, &project, &options.services) {
                profiles::keep(&tree, &mut project);
            }
            if profiles::drop_unused(&mut tree, &project) {
                profiles::keep(&tree, &mut project);
            }
            if !options.no_env_resolution {
                taken = explain::taken(&tree);
                let directories = (&*self.directory, &*options.directory);
                environment::fill(&mut tree, &mut project, &self.variables, directories, diagnostics);
            }
        }
        let mut all_services: Vec<String> = all_services.iter().map(ToString::to_string).collect();
        all_services.sort();
        Some(Contents {
            project,
            all_services,
            name: name?,
            directory: self.directory,
            files: self.files,
            warnings: Diagnostics::new(),
            tree,
            left_out,
            taken,
            as_written,
            extended,
            variables: self.variables,
        })
    }
}
