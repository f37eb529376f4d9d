//! `nscompose rmi`.

use super::{broken, create, find, store, users, waits_for_users};
use crate::{
    cli::settings::Settings,
    diagnostics::{Failure, FailureKind},
    image::store::{Entry, Removed, Store},
    model::{ImageRequest, ImageSource},
    sandbox::as_root_of_containers,
};

/// Remove images
///
/// An image that a container runs is not removed. Layers that another image has too stay.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Images by name or ID; with an ID all names of it are removed
    #[arg(value_name = "IMAGE", required = true)]
    words: Vec<String>,
}

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let store = store(settings);
    let entries = store.entries().map_err(|e| broken(&e))?;
    let mut doomed: Vec<Entry> = Vec::new();
    for word in &args.words {
        for entry in find(word, &entries)? {
            if !doomed.contains(entry) {
                doomed.push(entry.clone());
            }
        }
    }
    if let Some(failure) = in_use(&store, &doomed, &entries, settings) {
        return Err(failure);
    }
    as_root_of_containers(|| {
        let removed = remove(&store, &doomed, settings)?;
        removed.in_use.first().map_or(Ok(()), |entry| Err(used(entry, settings)))
    })?;
    Ok(0)
}

/// Removes those of these images that are here. One that a container of another stack runs stays, with a warning.
pub(in crate::cli) fn remove_unused(images: &[ImageRequest], settings: &Settings) -> Result<(), Failure> {
    let store = store(settings);
    if !store.folder().exists() {
        return Ok(());
    }
    let entries = store.entries().map_err(|e| broken(&e))?;
    let wanted = |entry: &&Entry| {
        entry.name.as_ref().is_some_and(|name| {
            images.iter().any(|image| matches!(&image.source, ImageSource::Registry(wanted) if wanted == name))
        })
    };
    let doomed: Vec<Entry> = entries.iter().filter(wanted).cloned().collect();
    if doomed.is_empty() {
        return Ok(());
    }
    let mut users = users(settings);
    let in_use = as_root_of_containers(|| {
        let stays = remove(&store, &doomed, settings)?.in_use.into_iter();
        Ok(stays.map(|entry| (entry.name.map(|name| name.to_string()), entry.id)).collect::<Vec<_>>())
    })?;
    for (name, id) in in_use {
        let name = name.unwrap_or_else(|| id.short().to_owned());
        let by = users.remove(&id).map_or_else(String::new, |users| format!(", run by {}", users.join(", ")));
        settings.printer.warning(&format!("image `{name}` is in use and stays{by}"));
    }
    Ok(())
}

/// Check all, then change: the first image that would be taken away from a container, if there is one. One of several names
/// can be taken away.
fn in_use(store: &Store, doomed: &[Entry], all: &[Entry], settings: &Settings) -> Option<Failure> {
    let last = |entry: &&Entry| !all.iter().any(|other| other.id == entry.id && !doomed.contains(other));
    doomed.iter().filter(last).find(|entry| store.is_in_use(&entry.id)).map(|entry| used(entry, settings))
}

fn used(entry: &Entry, settings: &Settings) -> Failure {
    let name = entry.name.as_ref().map_or_else(|| entry.id.short().to_owned(), ToString::to_string);
    let failure = Failure::new(FailureKind::Operation, format!("image `{name}` is in use"));
    match users(settings).remove(&entry.id) {
        Some(users) => failure.note("who runs it", users).hint("take the stack down first"),
        None => failure.hint("something is just beginning to run it, or pulls it; try again"),
    }
}

/// Takes entries away and says what went with them.
pub(super) fn remove(store: &Store, doomed: &[Entry], settings: &Settings) -> Result<Removed, Failure> {
    create(settings)?;
    let removed = store.remove(doomed, || waits_for_users(settings)).map_err(|e| broken(&e))?;
    for name in &removed.names {
        settings.printer.progress(name, "untagged");
    }
    for id in &removed.images {
        settings.printer.progress(id.short(), "removed");
    }
    Ok(removed)
}
