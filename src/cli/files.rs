//! Which files and which services the words of a command line name.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    str::FromStr,
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
    load_scaled(words, &[], settings, allow_unsupported)
}

/// The same with other numbers of containers than the files say.
pub(super) fn load_scaled(
    words: &Words,
    scale: &[Scale],
    settings: &Settings,
    allow_unsupported: bool,
) -> Result<Loaded, Failure> {
    let numbers = scale.iter().map(|scale| (scale.service.clone(), scale.number)).collect();
    let options = LoadOptions { allow_unsupported, scale: numbers, ..options(words, settings)? };
    let loaded = load(&options)?;
    settings.printer.diagnostics(&loaded.warnings);
    let named: Vec<String> = scale.iter().map(|scale| scale.service.clone()).collect();
    services(&named, loaded.project.services.keys())?;
    Ok(loaded)
}

/// How many containers a service is to have: `SERVICE=NUMBER`, as Docker Compose has it. The last word on a service counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scale {
    pub(super) service: String,
    pub(super) number: u32,
}

impl FromStr for Scale {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = text.split_once('=').and_then(|(service, number)| {
            let number = number.bytes().all(|b| b.is_ascii_digit()).then(|| number.parse().ok())??;
            (!service.is_empty()).then(|| Self { service: service.to_owned(), number })
        });
        read.ok_or_else(|| "it is a service and how many containers it is to have, as in `web=3`".to_owned())
    }
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

/// The services that the words name, all replicas of each that are known, or a single one as `web/2`.
pub(super) fn services<'a>(
    words: &[String],
    known: impl Iterator<Item = &'a ServiceName> + Clone,
) -> Result<Vec<ServiceName>, Failure> {
    let mut found: Vec<ServiceName> = Vec::new();
    for word in words {
        // What runs before a service is meant by its own name only.
        let of_service = |name: &ServiceName| name.service() == word && name.hook().is_none();
        let of_word = known.clone().filter(|name| of_service(name) || name.as_str() == word);
        let of_word: Vec<&ServiceName> = of_word.collect();
        if of_word.is_empty() {
            let failure = Failure::usage(format!("there is no service `{word}` in this stack"));
            return Err(match suggest(word, known.clone().map(ServiceName::as_str)) {
                Some(name) => failure.hint(format!("did you mean `{name}`?")),
                None => failure,
            });
        }
        found.extend(of_word.into_iter().cloned());
    }
    Ok(found)
}

/// The same, where it is about what is there of the stack.
pub(super) use services as known_services;

/// The containers that the words name: all of a service by its name, one by its own.
pub(super) fn services_or_containers(
    words: &[String],
    containers: &BTreeMap<ServiceName, Container>,
) -> Result<Vec<ServiceName>, Failure> {
    let by_container = |word: &String| {
        let found = containers.iter().find(|(_, container)| container.name == *word);
        found.filter(|_| !containers.keys().any(|name| name.service() == word)).map(|(name, _)| name.clone())
    };
    let mut found = Vec::new();
    for word in words {
        match by_container(word) {
            Some(name) => found.push(name),
            None => found.extend(services(std::slice::from_ref(word), containers.keys())?),
        }
    }
    Ok(found)
}

/// The one container that a word means: that with the number `index` of a service, or its first.
pub(super) fn container(
    word: &str,
    index: Option<u32>,
    containers: &BTreeMap<ServiceName, Container>,
) -> Result<ServiceName, Failure> {
    let found = services_or_containers(&[word.to_owned()], containers)?.into_iter();
    let mut found = found.filter(|name| index.is_none_or(|index| name.number() == index));
    found.next().ok_or_else(|| no_container(word, index))
}

/// Why there is none.
pub(super) fn no_container(service: &str, index: Option<u32>) -> Failure {
    let failure = Failure::operation(format!("service `{service}` has no container {}", index.unwrap_or(1)));
    failure.hint("`nscompose ps` shows what there is")
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
