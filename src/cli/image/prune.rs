//! `nscompose image prune`.

use super::{broken, remove::remove, store};
use crate::{
    cli::settings::Settings, diagnostics::Failure, image::store::Entry, sandbox::as_root_of_containers, ui::size,
};

/// Remove images that have lost their name, and what broken-off pulls have left
///
/// Nothing that a container runs is removed.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Remove all that no container runs, whether they have a name or not
    #[arg(short, long)]
    all: bool,
    /// Taken for compatibility: nothing is asked anyway
    #[arg(short, long)]
    force: bool,
}

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let store = store(settings);
    let bytes = as_root_of_containers(|| {
        let entries = store.entries().map_err(|e| broken(&e))?;
        let doomed: Vec<Entry> = entries
            .into_iter()
            .filter(|entry| (args.all || entry.name.is_none()) && !store.is_in_use(&entry.id))
            .collect();
        remove(&store, &doomed, settings).map(|removed| removed.bytes)
    })?;
    settings.printer.progress(&size(bytes), "freed");
    Ok(0)
}
