//! Which files and which services the words of a command line name.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use super::settings::Settings;
use crate::{
    diagnostics::{Diagnostic, Diagnostics, Failure, suggest},
    load::{LoadOptions, Loaded, load},
    model::{Container, ContainerElsewhere, Project, ProjectName, Rootfs, ServiceName},
    supervisor::{Snapshot, containers_elsewhere, is_root_of_machine},
};

/// The words behind a verb, told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) files: Vec<PathBuf>,
    pub(super) services: Vec<String>,
}

/// A word is a file when it ends as one or is there as one; any other is a service.
pub(super) fn tell_apart(words: &[String], directory: &Path) -> Words {
    let (files, services) = words.iter().cloned().partition(|word| is_file(word, directory));
    let files: Vec<String> = files;
    Words { files: files.into_iter().map(PathBuf::from).collect(), services }
}

pub(super) fn is_file(word: &str, directory: &Path) -> bool {
    let ending = Path::new(word).extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
    ending || directory.join(word).is_file()
}

/// Loads the files that the command line names, or finds them, to run them. Warnings are printed.
pub(super) fn load_project(words: &Words, settings: &Settings, allow_unsupported: bool) -> Result<Loaded, Failure> {
    let options = LoadOptions { allow_unsupported, ..options(words, settings)? };
    let loaded = load(&options)?;
    settings.printer.diagnostics(&loaded.warnings);
    Ok(loaded)
}

/// The name of the stack that the command line means; the file need not be valid beyond that.
pub(super) fn project_name(words: &Words, settings: &Settings) -> Result<ProjectName, Failure> {
    if let Some(name) = &settings.project_name {
        return name.parse().map_err(|e| Failure::usage("the name given with -p cannot be one").caused_by(&e));
    }
    Ok(crate::load::project_name(&options(words, settings)?)?)
}

/// Refuses to touch a stack of the same name that was brought up from another place: two folders of one name are not one
/// stack. Further files beside the first one may come and go.
pub(super) fn same_stack(name: &ProjectName, files: &[PathBuf], snapshot: &Snapshot) -> Result<(), Failure> {
    match (snapshot.files.first(), files.first()) {
        (Some(theirs), Some(ours)) if theirs != ours && !snapshot.observed.containers.is_empty() => {
            Err(Failure::operation(format!(
                "stack `{name}` is up already, and it was brought up from {}",
                theirs.display()
            ))
            .hint("give this one a name of its own with -p NAME or `name:`, or take the other one down with its file"))
        }
        _ => Ok(()),
    }
}

/// The files that the command line means, without reading them.
pub(super) fn file_list(words: &Words, settings: &Settings) -> Result<Vec<PathBuf>, Failure> {
    Ok(crate::load::project_files(&options(words, settings)?)?)
}

/// Checks what the files of the selected services, and of those that they need unless they are to be alone, are made from,
/// before anything is touched.
pub(super) fn check_roots(loaded: &Loaded, selected: &BTreeSet<ServiceName>, alone: bool) -> Result<(), Failure> {
    let services = &loaded.project.services;
    let mut wanted: BTreeSet<&ServiceName> = BTreeSet::new();
    let mut next: Vec<&ServiceName> =
        services.keys().filter(|name| selected.is_empty() || selected.contains(*name)).collect();
    while let Some(name) = next.pop() {
        if let Some(service) = services.get(name)
            && wanted.insert(name)
            && !alone
        {
            next.extend(service.dependencies());
        }
    }
    let mut diagnostics = Diagnostics::new();
    for (name, service) in services.iter().filter(|(name, _)| wanted.contains(name)) {
        let (path, what, fits) = match &service.rootfs {
            Rootfs::Host | Rootfs::Image(_) | Rootfs::Layers(_) => continue,
            Rootfs::Directory(path) => (path, "a folder", path.is_dir()),
            Rootfs::Tar(path) => (path, "a tar file", path.is_file()),
        };
        if !fits {
            let found = if path.exists() { format!("is not {what}") } else { "is not there".to_owned() };
            let missing = Diagnostic::error(format!("service `{name}`: its rootfs {} {found}", path.display()));
            diagnostics.push(loaded.at_rootfs(name, missing).hint(
                "`rootfs:` is `host`, a folder, or a tar file; relative paths start from the folder of the file",
            ));
        }
    }
    diagnostics.sort();
    if diagnostics.is_empty() { Ok(()) } else { Err(diagnostics.into()) }
}

/// The containers of other stacks whose namespaces the file asks for.
pub(super) fn containers_of_others(
    project: &Project,
    settings: &Settings,
) -> Result<BTreeMap<String, ContainerElsewhere>, Failure> {
    let modes = project.services.values().flat_map(|service| service.sharing().map(|(_, mode)| mode));
    let names = modes.filter_map(|mode| mode.container()).map(ToString::to_string).collect();
    // Nobody else can have them, which the plan says.
    if is_root_of_machine() {
        containers_elsewhere(&settings.layout, &project.name, &names)
    } else {
        Ok(BTreeMap::new())
    }
}

pub(super) fn options(words: &Words, settings: &Settings) -> Result<LoadOptions, Failure> {
    if !words.files.is_empty() && !settings.files.is_empty() {
        return Err(Failure::usage(format!("`{}` is a second file beside those of -f", words.files[0].display()))
            .hint("name all files with -f"));
    }
    let files = if words.files.is_empty() { settings.files.clone() } else { words.files.clone() };
    Ok(LoadOptions {
        files,
        project_name: settings.project_name.clone(),
        directory: settings.directory.clone(),
        project_directory: settings.project_directory.clone(),
        env_files: settings.env_files.clone(),
        profiles: settings.profiles.clone(),
        environment: settings.environment.clone(),
        services: words.services.clone(),
        ..LoadOptions::default()
    })
}

/// The services that the words name.
pub(super) fn services<'a>(
    words: &[String],
    known: impl Iterator<Item = &'a ServiceName> + Clone,
) -> Result<Vec<ServiceName>, Failure> {
    let find = |word: &String| {
        known.clone().find(|name| name.as_str() == word).cloned().ok_or_else(|| {
            let failure = Failure::usage(format!("there is no service `{word}` in this stack"));
            match suggest(word, known.clone().map(ServiceName::as_str)) {
                Some(name) => failure.hint(format!("did you mean `{name}`?")),
                None => failure,
            }
        })
    };
    words.iter().map(find).collect()
}

/// The services that the words name, by their own names or by those of their containers.
pub(super) fn services_or_containers(
    words: &[String],
    containers: &BTreeMap<ServiceName, Container>,
) -> Result<Vec<ServiceName>, Failure> {
    let by_container = |word: &String| {
        let found = containers.iter().find(|(_, container)| container.name == *word);
        found.filter(|_| !containers.keys().any(|name| name.as_str() == word)).map(|(name, _)| name.clone())
    };
    words
        .iter()
        .map(|word| match by_container(word) {
            Some(name) => Ok(name),
            None => Ok(services(std::slice::from_ref(word), containers.keys())?.remove(0)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_a_file_by_its_ending_or_by_being_there() {
        let dir = tempfile::tempdir().expect("folder");
        std::fs::write(dir.path().join("stack"), "").expect("file");
        std::fs::create_dir(dir.path().join("web")).expect("folder");
        let words: Vec<String> = ["a.yaml", "web", "stack", "b/c.yml", "db"].map(String::from).into();
        let told = tell_apart(&words, dir.path());
        assert_eq!(told.files, ["a.yaml", "stack", "b/c.yml"].map(PathBuf::from));
        assert_eq!(told.services, ["web", "db"]);
    }
}
