//! The verbs that deal with images, and what they have in common.
//!
//! What only looks reads the store as whoever calls. What changes it happens as root of the containers' ids
//! (`as_root_of_containers`), since layers hold files of all of them.

mod access;
mod commit;
mod container;
mod export;
mod list;
mod load;
mod provide;
mod prune;
mod pull;
mod push;
mod remove;
mod save;
mod services;
mod tag;
mod usage;

use std::{collections::BTreeMap, path::PathBuf};

use clap::Subcommand;

use super::settings::Settings;
use crate::{
    diagnostics::{Failure, FailureKind, suggest},
    image::store::{Entry, Store, StoreError, StoreLock},
    model::{Digest, ImageName},
    supervisor::observe,
};

use access::{install_failure, installer};
pub(super) use provide::{Provided, look_only, provide};
pub(super) use remove::remove_unused;
pub(super) use services::images_of_services;

/// The verbs, as they stand beside those of stacks.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    Images(list::Args),
    Pull(pull::Args),
    Push(push::Args),
    Tag(tag::Args),
    Rmi(remove::Args),
    Load(load::Args),
    Save(save::Args),
    Commit(commit::Args),
    Export(export::Args),
    /// Manage images
    #[command(subcommand)]
    Image(Group),
    /// Look at what nscompose keeps
    #[command(subcommand)]
    System(System),
}

/// Those that Docker has below `image`.
#[derive(Debug, Subcommand)]
pub(super) enum Group {
    #[command(name = "ls", alias = "list")]
    List(list::Args),
    #[command(name = "rm", alias = "remove")]
    Remove(remove::Args),
    Prune(prune::Args),
}

/// Those that Docker has below `system`.
#[derive(Debug, Subcommand)]
pub(super) enum System {
    Df(usage::Args),
}

impl Verb {
    pub(super) fn more_files(&self) -> &[PathBuf] {
        match self {
            Self::Pull(args) => &args.more.files,
            Self::Push(args) => &args.more.files,
            Self::Commit(args) => &args.more.files,
            Self::Export(args) => &args.more.files,
            _ => &[],
        }
    }
}

pub(super) fn run(verb: &Verb, settings: &Settings) -> Result<u8, Failure> {
    match verb {
        Verb::Images(args) | Verb::Image(Group::List(args)) => list::run(args, settings),
        Verb::Pull(args) => pull::run(args, settings),
        Verb::Push(args) => push::run(args, settings),
        Verb::Tag(args) => tag::run(args, settings),
        Verb::Rmi(args) | Verb::Image(Group::Remove(args)) => remove::run(args, settings),
        Verb::Image(Group::Prune(args)) => prune::run(args, settings),
        Verb::Load(args) => load::run(args, settings),
        Verb::Save(args) => save::run(args, settings),
        Verb::Commit(args) => commit::run(args, settings),
        Verb::Export(args) => export::run(args, settings),
        Verb::System(System::Df(args)) => usage::run(args, settings),
    }
}

/// The store of the account.
fn store(settings: &Settings) -> Store {
    Store::new(settings.layout.images())
}

/// Keeps what is in the store there, in folders of which it is made sure that they are the account's own.
fn share(settings: &Settings) -> Result<StoreLock, Failure> {
    create(settings)?;
    let waits = || settings.printer.progress("images", "are being removed by another nscompose, which is waited for");
    store(settings).share_or_wait(waits).map_err(|e| broken(&e))
}

/// The same for who only needs what is there: where there is no store, none is made.
fn share_if_there(settings: &Settings) -> Result<Option<StoreLock>, Failure> {
    if store(settings).folder().exists() { share(settings).map(Some) } else { Ok(None) }
}

/// Has the store alone.
fn own(settings: &Settings) -> Result<StoreLock, Failure> {
    create(settings)?;
    store(settings).own_or_wait(|| waits_for_users(settings)).map_err(|e| broken(&e))
}

fn waits_for_users(settings: &Settings) {
    settings.printer.progress("images", "are being pulled or brought up by another nscompose, which is waited for");
}

fn create(settings: &Settings) -> Result<(), Failure> {
    settings.layout.create().map_err(|e| Failure::host("cannot make nscompose's folders").caused_by(&e))
}

fn broken(error: &StoreError) -> Failure {
    let failure = Failure::from_error(FailureKind::Host, error);
    match error {
        StoreError::Mismatch { .. } | StoreError::Size { .. } | StoreError::Broken { .. } => {
            failure.hint("`nscompose images --check` looks for all that is damaged")
        }
        StoreError::Io { .. } => failure,
    }
}

/// Why a name with a digest is none for an image that is made or named here.
fn no_digest() -> Failure {
    Failure::usage("a digest is not something that can be given").hint("leave it out, or give a tag")
}

/// Which services run which image, as `STACK/SERVICE`. A stack that does not answer is left out: its images are in use all
/// the same, and the store knows.
fn users(settings: &Settings) -> BTreeMap<Digest, Vec<String>> {
    let mut users: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
    for stack in settings.layout.stacks() {
        let stream = settings.layout.stack(&stack).connect().ok();
        let Some(snapshot) = stream.and_then(|stream| observe(&stream).ok().flatten()) else { continue };
        for (service, container) in snapshot.observed.containers {
            if let Some(image) = container.image {
                users.entry(image).or_default().push(format!("{stack}/{service}"));
            }
        }
    }
    users
}

/// The entries that a word on the command line means: a name, an ID or the beginning of one of at least four digits, or
/// the name with the digest that a registry knows it by.
fn find<'a>(word: &str, entries: &'a [Entry]) -> Result<Vec<&'a Entry>, Failure> {
    if let Ok(name) = word.parse::<ImageName>() {
        let named = |entry: &&Entry| {
            entry.name.as_ref() == Some(&name)
                || name.digest().is_some_and(|digest| {
                    let same = |other: &ImageName| other.familiar_repository() == name.familiar_repository();
                    entry.name.as_ref().is_some_and(same) && entry.registry_digest.as_ref() == Some(digest)
                })
        };
        let found: Vec<&Entry> = entries.iter().filter(named).collect();
        if !found.is_empty() {
            return Ok(found);
        }
    }
    let hex = word.strip_prefix("sha256:").unwrap_or(word);
    if hex.len() >= 4 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        let found: Vec<&Entry> = entries.iter().filter(|entry| entry.id.hex().starts_with(hex)).collect();
        if let Some(first) = found.first() {
            if found.iter().all(|entry| entry.id == first.id) {
                return Ok(found);
            }
            return Err(Failure::usage(format!("`{word}` is the beginning of several IDs")));
        }
    }
    let failure = Failure::operation(format!("there is no image `{word}`"));
    let names: Vec<String> = entries.iter().filter_map(|entry| Some(entry.name.as_ref()?.to_string())).collect();
    Err(match suggest(word, names.iter().map(String::as_str)) {
        Some(name) => failure.hint(format!("did you mean `{name}`?")),
        None => failure.hint("`nscompose images` lists them"),
    })
}
