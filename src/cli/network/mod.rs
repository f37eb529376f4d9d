//! The verbs that deal with networks that stacks share, and what joining one takes.

mod create;
mod inspect;
mod list;
mod remove;

use std::collections::BTreeMap;

use clap::Subcommand;

use super::settings::Settings;
use crate::{
    diagnostics::{Failure, suggest},
    model::{NetworkName, Observed, Project, ProjectName},
    plan::SharedPlaces,
    state::{Definition, FolderLock, Lease, Place, ProcessRecord, SharedNetworks},
};

/// Those that Docker has below `network`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    Create(create::Args),
    #[command(name = "ls", alias = "list")]
    List(list::Args),
    Inspect(inspect::Args),
    #[command(name = "rm", alias = "remove")]
    Remove(remove::Args),
}

pub(super) fn run(verb: &Verb, settings: &Settings) -> Result<u8, Failure> {
    match verb {
        Verb::Create(args) => create::run(args, settings),
        Verb::List(args) => list::run(args, settings),
        Verb::Inspect(args) => inspect::run(args, settings),
        Verb::Remove(args) => remove::run(args, settings),
    }
}

fn networks(settings: &Settings) -> SharedNetworks {
    SharedNetworks::new(&settings.layout)
}

fn broken(error: &std::io::Error) -> Failure {
    Failure::host("cannot use the list of networks that stacks share").caused_by(error)
}

/// Keeps others from changing networks, in folders of which it is made sure that they are the account's own.
fn lock(settings: &Settings) -> Result<FolderLock, Failure> {
    settings.layout.lock().map_err(|e| Failure::host("cannot make nscompose's folders").caused_by(&e))
}

/// All of them. What stacks have on them is read next, from a folder that may be below /tmp.
fn all(settings: &Settings) -> Result<BTreeMap<NetworkName, Definition>, Failure> {
    settings.layout.check().and_then(|()| networks(settings).all()).map_err(|e| broken(&e))
}

fn find(settings: &Settings, word: &str) -> Result<(NetworkName, Definition), Failure> {
    let all = all(settings)?;
    if let Some((name, definition)) = all.iter().find(|(name, _)| name.as_str() == word) {
        return Ok((name.clone(), definition.clone()));
    }
    let failure = Failure::operation(format!("there is no network `{word}` that stacks share"));
    Err(match suggest(word, all.keys().map(NetworkName::as_str)) {
        Some(name) => failure.hint(format!("did you mean `{name}`?")),
        None => failure.hint("`nscompose network ls` lists them"),
    })
}

/// What a stack's way onto networks that stacks share is made of.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    networks: SharedNetworks,
    stack: ProjectName,
    /// Those that the file names.
    named: Vec<NetworkName>,
}

impl Shared {
    /// What the file of a stack names.
    pub(super) fn of(settings: &Settings, project: &Project) -> Self {
        let named = project.networks.values().filter_map(|network| network.external.clone()).collect();
        Self { networks: networks(settings), stack: project.name.clone(), named }
    }

    /// Keeps other stacks from choosing addresses; not needed where the file names no such network.
    pub(super) fn lock(&self) -> Result<Option<FolderLock>, Failure> {
        let none = self.named.is_empty();
        if none { Ok(None) } else { self.networks.lock().map(Some).map_err(|e| broken(&e)) }
    }

    /// Adds what there is of them to what is observed.
    pub(super) fn look(&self, observed: &mut Observed) -> Result<(), Failure> {
        observed.shared = BTreeMap::new();
        for name in &self.named {
            if let Some(there) = self.networks.seen_by(&self.stack, name).map_err(|e| broken(&e))? {
                observed.shared.insert(name.clone(), there);
            }
        }
        Ok(())
    }

    /// Writes down what the stack will have there, in the name of its supervisor.
    pub(super) fn take(&self, keeper: i32, places: SharedPlaces) -> Result<(), Failure> {
        let kept = places.keys().cloned().collect();
        self.networks.give_back(&self.stack, &kept);
        let Some(owner) = ProcessRecord::of(keeper) else { return Ok(()) };
        for (name, services) in places {
            let place = |(addresses, names): (Vec<_>, _)| Place { addresses: addresses.into_iter().collect(), names };
            let services = services.into_iter().map(|(service, at)| (service, place(at))).collect();
            self.networks.take(&name, &self.stack, &Lease { owner, services }).map_err(|e| broken(&e))?;
        }
        Ok(())
    }
}
