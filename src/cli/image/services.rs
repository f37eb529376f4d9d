//! The images that words on the command line mean: those of services, or named outright.

use std::collections::BTreeSet;

use crate::{
    cli::{
        files::{is_file, load_project, services, tell_apart},
        settings::Settings,
    },
    diagnostics::Failure,
    model::{ImageRequest, ImageSource, Platform, PullPolicy, Rootfs, ServiceName},
};

/// Images, each once, and the services that have none.
pub(super) struct Wanted {
    pub(super) images: Vec<ImageRequest>,
    pub(super) skipped: Vec<String>,
}

/// Words that have a `:`, a `/` or a `@` in them, or that no service of the stack goes by, are images; without any word all
/// services are meant.
pub(super) fn wanted(
    words: &[String],
    platform: Option<&Platform>,
    with_dependencies: bool,
    settings: &Settings,
) -> Result<Wanted, Failure> {
    let image = |word: &String| !is_file(word, &settings.directory) && word.contains([':', '/', '@']);
    let (named, words): (Vec<String>, Vec<String>) = words.iter().cloned().partition(image);
    let mut wanted = Wanted { images: Vec::new(), skipped: Vec::new() };
    if named.is_empty() || !words.is_empty() {
        of_services(&words, platform, with_dependencies, settings, &mut wanted)?;
    }
    for word in &named {
        wanted.images.push(request(word, platform)?);
    }
    let mut seen = Vec::new();
    wanted.images.retain(|image| {
        !seen.contains(image) && {
            seen.push(image.clone());
            true
        }
    });
    Ok(wanted)
}

/// The images of the services that the words name, or of all.
pub(in crate::cli) fn images_of_services(words: &[String], settings: &Settings) -> Result<Vec<ImageRequest>, Failure> {
    let mut wanted = Wanted { images: Vec::new(), skipped: Vec::new() };
    of_services(words, None, false, settings, &mut wanted)?;
    Ok(wanted.images)
}

fn request(word: &str, platform: Option<&Platform>) -> Result<ImageRequest, Failure> {
    let source: ImageSource = word.parse().map_err(|e| Failure::usage(format!("{e}")))?;
    Ok(ImageRequest { source, platform: platform.cloned(), pull_policy: PullPolicy::Always })
}

fn of_services(
    words: &[String],
    platform: Option<&Platform>,
    with_dependencies: bool,
    settings: &Settings,
    wanted: &mut Wanted,
) -> Result<(), Failure> {
    let told = tell_apart(words, &settings.directory);
    let files = told.files.iter().chain(&settings.files).next().is_some();
    // What cannot be run yet may have an image all the same.
    let project = match load_project(&told, settings, true) {
        Ok(loaded) => loaded.project,
        // Without a file that says otherwise, a word is an image.
        Err(_) if !files && !told.services.is_empty() => {
            for word in &told.services {
                wanted.images.push(request(word, platform)?);
            }
            return Ok(());
        }
        Err(failure) => return Err(failure),
    };
    let mut names: BTreeSet<ServiceName> = services(&told.services, project.services.keys())?.into_iter().collect();
    if names.is_empty() {
        names.extend(project.services.keys().cloned());
    }
    if with_dependencies {
        let mut next: Vec<ServiceName> = names.iter().cloned().collect();
        while let Some(name) = next.pop() {
            let dependencies = project.services[&name].dependencies().cloned();
            next.extend(dependencies.filter(|dependency| names.insert(dependency.clone())));
        }
    }
    for name in &names {
        let service = &project.services[name];
        let hooks = service.pre_start.iter().map(|hook| &hook.rootfs);
        for rootfs in hooks.chain([&service.rootfs]) {
            if let Rootfs::Image(image) = rootfs {
                wanted.images.push(ImageRequest { pull_policy: PullPolicy::Always, ..image.clone() });
            }
        }
        if !matches!(service.rootfs, Rootfs::Image(_)) {
            wanted.skipped.push(name.to_string());
        }
    }
    Ok(())
}
