//! `nscompose system df`.

use std::collections::BTreeSet;

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
        Ok(vec![
            images(&store)?,
            folder("Containers", &data.join("stacks"), true),
            folder("Volumes", &data.join("volumes"), false),
        ])
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
    let bytes = |paths: &BTreeSet<std::path::PathBuf>| paths.iter().map(|path| size_on_disk(path)).sum::<u64>();
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

fn folder(kind: &str, path: &std::path::Path, active: bool) -> UsageRow {
    let total = std::fs::read_dir(path).into_iter().flatten().flatten().count();
    UsageRow {
        kind: kind.to_owned(),
        total,
        active: if active { total } else { 0 },
        size: if total == 0 { 0 } else { size_on_disk(path) },
        reclaimable: 0,
    }
}
