//! `nscompose ls`.

use std::collections::BTreeMap;

use clap::ValueEnum;

use super::{settings::Settings, stack::talk};
use crate::{
    diagnostics::Failure,
    model::ContainerState,
    state::StackLayout,
    supervisor::{Snapshot, observe},
    ui::{StackRow, stacks_json, stacks_table},
};

/// List the stacks of this account that are up
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Those too of which nothing runs
    #[arg(short, long)]
    all: bool,
    /// Only those for which this is so: name=TEXT, where TEXT is a part of the name
    #[arg(long, value_name = "NAME=VALUE", value_parser = filter)]
    filter: Vec<String>,
    /// How to list them
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// List their names only
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    #[default]
    Table,
    /// For programs: an array of objects
    Json,
}

fn filter(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some(("name", part)) => Ok(part.to_owned()),
        _ => Err("the only filter is `name=TEXT`".to_owned()),
    }
}

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let mut rows = Vec::new();
    for name in settings.layout.stacks() {
        if !args.filter.is_empty() && !args.filter.iter().any(|part| name.as_str().contains(part.as_str())) {
            continue;
        }
        let layout = settings.layout.stack(&name);
        let Some((status, files)) = look(&layout, args.all)? else { continue };
        rows.push(StackRow { name: name.to_string(), status, config_files: files });
    }
    let text = match args.format {
        _ if args.quiet => rows.iter().map(|row| format!("{}\n", row.name)).collect(),
        Format::Table => stacks_table(&rows),
        Format::Json => stacks_json(&rows),
    };
    settings.printer.data(&text)?;
    Ok(0)
}

/// What its containers do, in few words, and its files; none when there is nothing to list.
fn look(layout: &StackLayout, all: bool) -> Result<Option<(String, String)>, Failure> {
    let Ok(stream) = layout.connect() else {
        // What a killed supervisor has left, or is being made or removed just now.
        let left = all && layout.runtime().exists() && layout.journal().exists();
        return Ok(left.then(|| ("dead".to_owned(), String::new())));
    };
    let Some(Snapshot { observed, files, .. }) = observe(&stream).map_err(|e| talk(&e))? else { return Ok(None) };
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let shown = |state: ContainerState| all || state.is_up();
    for container in observed.containers.values().filter(|container| shown(container.state)) {
        *counts.entry(container.state.name()).or_default() += 1;
    }
    if counts.is_empty() {
        return Ok(None);
    }
    let status: Vec<String> = counts.iter().map(|(state, count)| format!("{state}({count})")).collect();
    let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    Ok(Some((status.join(", "), files.join(","))))
}
