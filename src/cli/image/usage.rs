//! `nscompose system df`.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::{broken, store};
use crate::{
    cli::settings::Settings,
    diagnostics::Failure,
    image::store::{Entry, Store, size_on_disk},
    sandbox::as_root_of_containers,
    ui::{UsageRow, usage_table},
};

/// Show how much disk images, containers and volumes take
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// For programs: an array of objects
    #[arg(long, value_name = "FORMAT", value_parser = ["json"])]
    format: Option<String>,
}

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let store = store(settings);
    let rows = as_root_of_containers(|| {
        let data = settings.layout.folders()[1];
        Ok(vec![images(&store)?, containers(&data.join("stacks")), volumes(&data.join("volumes"))])
    })?;
    settings.printer.data(&match args.format {
        None => usage_table(&rows),
        Some(_) => crate::ui::json_lines(&rows),
    })?;
    Ok(0)
}

/// Images, of which those that no container runs could go.
fn images(store: &Store) -> Result<UsageRow, Failure> {
    let entries = store.entries().map_err(|e| broken(&e))?;
    let (used, unused): (Vec<&Entry>, Vec<&Entry>) = entries.iter().partition(|entry| store.is_in_use(&entry.id));
    let parts = |entries: &[&Entry]| {
        let mut paths = BTreeSet::new();
        for entry in entries {
            paths.extend([store.blob(&entry.manifest), store.blob(&entry.id)]);
            for layer in store.open((*entry).clone()).into_iter().flat_map(|stored| stored.layers) {
                paths.extend([store.blob(&layer.digest), store.layer(&layer.diff_id)]);
            }
        }
        paths
    };
    let (kept, other) = (parts(&used), parts(&unused));
    let bytes = |paths: &BTreeSet<PathBuf>| paths.iter().map(|path| size_on_disk(path)).sum::<u64>();
    let reclaimable = bytes(&other.difference(&kept).cloned().collect());
    let ids: BTreeSet<_> = entries.iter().map(|entry| &entry.id).collect();
    let active: BTreeSet<_> = used.iter().map(|entry| &entry.id).collect();
    Ok(UsageRow {
        kind: "Images".to_owned(),
        total: ids.len(),
        active: active.len(),
        size: bytes(&kept) + reclaimable,
        reclaimable,
    })
}

/// What there is of containers, which is all in use: `down` leaves nothing.
fn containers(stacks: &Path) -> UsageRow {
    let total = count(stacks, |stack| count(&stack.join("containers"), |_| 1));
    row("Containers", total, total, stacks)
}

fn volumes(path: &Path) -> UsageRow {
    row("Volumes", count(path, |_| 1), 0, path)
}

/// The sum of what is counted in each thing that is in a folder.
fn count(folder: &Path, each: impl Fn(&Path) -> usize) -> usize {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| each(&entry.path())).sum()
}

fn row(kind: &str, total: usize, active: usize, path: &Path) -> UsageRow {
    let size = if path.exists() { size_on_disk(path) } else { 0 };
    UsageRow { kind: kind.to_owned(), total, active, size, reclaimable: 0 }
}
