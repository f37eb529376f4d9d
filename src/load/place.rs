//! Phase 1: which files make the project, from where their paths start, and what variables they may name.

use std::path::{Path, PathBuf};

use super::{
    LoadOptions, discover,
    paths::{absolute, is_stdin, remote},
    project_variables::ProjectVariables,
    variables::Variables,
};
use crate::diagnostics::Diagnostics;

/// Files of variables come before all others in messages.
const FIRST: usize = 0;

/// Where a project is.
pub(super) struct Place {
    /// Absolute, in the order in which they are merged.
    pub(super) files: Vec<PathBuf>,
    /// Folder that relative paths start from.
    pub(super) directory: PathBuf,
    /// The environment of the caller over the files of variables.
    pub(super) variables: Variables,
    /// Profiles that are asked for.
    pub(super) profiles: Vec<String>,
}

impl Place {
    pub(super) fn of(options: &LoadOptions, diagnostics: &mut Diagnostics) -> Result<Self, Diagnostics> {
        let here = &options.directory;
        let mut variables = ProjectVariables::new(&options.environment, here, &options.env_files, FIRST, diagnostics);
        let start = options.project_directory.as_ref().map_or_else(|| here.clone(), |folder| absolute(here, folder));
        // It may say which files there are.
        variables.folder(&start, diagnostics);
        let value = |name: &str| variables.get(name).map(|variable| variable.value.as_str()).filter(|v| !v.is_empty());
        let files = match (&options.files[..], value("COMPOSE_FILE")) {
            ([], Some(list)) => {
                let separator = value("COMPOSE_PATH_SEPARATOR").unwrap_or(":");
                list.split(separator).filter(|file| !file.is_empty()).map(PathBuf::from).collect()
            }
            ([], None) => discover(&start)?,
            (named, _) => named.to_vec(),
        };
        if let Some(remote) = files.iter().find_map(|file| remote(file.to_str()?)) {
            diagnostics.push(remote);
            return Err(std::mem::take(diagnostics));
        }
        let files: Vec<PathBuf> = files.iter().map(|file| absolute(here, file)).collect();
        // As Compose does: relative paths start from the folder of the first file.
        let directory = match (&options.project_directory, files.first()) {
            (Some(_), _) => start,
            (None, Some(file)) if !is_stdin(file) => file.parent().unwrap_or(Path::new("/")).to_owned(),
            _ => here.clone(),
        };
        variables.folder(&directory, diagnostics);
        let variables = variables.into_variables();
        let profiles = match variables.value("COMPOSE_PROFILES") {
            Some(list) if options.profiles.is_empty() => {
                list.split(',').map(str::trim).filter(|profile| !profile.is_empty()).map(str::to_owned).collect()
            }
            _ => options.profiles.clone(),
        };
        Ok(Self { files, directory, variables, profiles })
    }
}
