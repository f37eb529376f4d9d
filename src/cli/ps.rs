//! `nscompose ps`.

use std::collections::BTreeSet;

use clap::ValueEnum;

use super::{
    files::{project_name, services_or_containers, tell_apart},
    settings::Settings,
    stack::open_if_up,
};
use crate::{
    diagnostics::Failure,
    model::ServiceName,
    ui::{container_rows, containers_json, containers_table},
};

/// List the containers of the stack
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) more: super::MoreFiles,
    /// Those that have ended are listed anyway; for those who are used to it
    #[arg(short = 'a', long = "all", hide = true)]
    _all: bool,
    /// Compose file, or services to list
    #[arg(value_name = "FILE|SERVICE")]
    words: Vec<String>,
    /// How to list them
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// List the names of services only
    #[arg(long)]
    services: bool,
    /// List the names of containers only
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

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let words = tell_apart(&args.words, &settings.directory);
    let layout = settings.layout.stack(&project_name(&words, settings)?);
    let mut observed = open_if_up(&layout)?.map(|opened| opened.snapshot.observed).unwrap_or_default();
    if !words.services.is_empty() {
        let wanted = services_or_containers(&words.services, &observed.containers)?;
        observed.containers.retain(|name, _| wanted.contains(name));
    }
    if args.services {
        let names: BTreeSet<&str> = observed.containers.keys().map(ServiceName::service).collect();
        let names: String = names.into_iter().map(|name| format!("{name}\n")).collect();
        settings.printer.data(&names)?;
        return Ok(0);
    }
    if args.quiet {
        let names: String = observed.containers.values().map(|container| format!("{}\n", container.name)).collect();
        settings.printer.data(&names)?;
        return Ok(0);
    }
    let rows = container_rows(&observed, jiff::Timestamp::now());
    settings.printer.data(&match args.format {
        Format::Table => containers_table(&rows),
        Format::Json => containers_json(&rows),
    })?;
    Ok(0)
}
