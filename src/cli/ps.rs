//! `nscompose ps`.

use std::collections::BTreeSet;

use clap::ValueEnum;

use super::{
    change::{declared, named},
    files::{project_name, tell_apart},
    settings::Settings,
    stack::open_if_up,
};
use crate::{
    diagnostics::Failure,
    model::{ContainerState, ServiceName},
    ui::{Row, Template, container_rows, containers_by_template, containers_json, containers_table},
};

/// List the containers of the stack
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) more: super::MoreFiles,
    /// List those too that have ended, or have not been started yet
    #[arg(short, long)]
    all: bool,
    /// List only those for which this is so: status=STATUS
    #[arg(long, value_name = "NAME=VALUE", value_parser = filter)]
    filter: Vec<Status>,
    /// List only those that are in this state, one of several if it is said several times
    #[arg(long, value_name = "STATUS", value_enum)]
    status: Vec<Status>,
    /// Do not cut commands off
    #[arg(long)]
    no_trunc: bool,
    /// List those too whose services the file does not have any more
    #[arg(
        long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true,
        default_missing_value = "true", action = clap::ArgAction::Set
    )]
    orphans: bool,
    /// Compose file, or services to list
    #[arg(value_name = "FILE|SERVICE")]
    words: Vec<String>,
    /// How to list them: `table` for people, `json` for programs, an object a line, or a template of one's own, such as
    /// '{{.Name}} {{.Status}}' or 'table {{.Service}}\t{{.Ports}}'
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = format)]
    format: Format,
    /// List the names of services only
    #[arg(long)]
    services: bool,
    /// List the names of containers only
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Format {
    Table,
    Json,
    Template(Template),
}

fn format(text: &str) -> Result<Format, String> {
    match text {
        "table" => Ok(Format::Table),
        "json" => Ok(Format::Json),
        _ if text.contains("{{") => containers_by_template(text).map(Format::Template).map_err(|e| e.to_string()),
        _ => Err("write `table`, `json`, or a template such as '{{.Name}} {{.Status}}'".to_owned()),
    }
}

/// In Docker's words; of `dead` and `removing` there are none here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Status {
    Created,
    Dead,
    Exited,
    Paused,
    Removing,
    Restarting,
    Running,
}

impl Status {
    fn of(state: ContainerState) -> Self {
        match state {
            ContainerState::Created => Self::Created,
            ContainerState::Starting | ContainerState::Running | ContainerState::Stopping => Self::Running,
            ContainerState::Paused => Self::Paused,
            ContainerState::Restarting(_) => Self::Restarting,
            ContainerState::Exited(_) => Self::Exited,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Dead => "dead",
            Self::Exited => "exited",
            Self::Paused => "paused",
            Self::Removing => "removing",
            Self::Restarting => "restarting",
            Self::Running => "running",
        }
    }
}

fn filter(text: &str) -> Result<Status, String> {
    match text.split_once('=') {
        Some(("status", status)) => Status::from_str(status, false).map_err(|_| {
            let all: Vec<&str> = Status::value_variants().iter().map(|status| status.name()).collect();
            format!("a status is one of {}", all.join(", "))
        }),
        _ => Err("the only filter is `status=STATUS`".to_owned()),
    }
}

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let words = tell_apart(&args.words, &settings.directory);
    let project = project_name(&words, settings)?;
    let layout = settings.layout.stack(&project);
    let mut observed = open_if_up(&layout)?.map(|opened| opened.snapshot.observed).unwrap_or_default();
    if !words.services.is_empty() {
        let wanted = named(&words, &observed.containers, settings)?;
        observed.containers.retain(|name, _| wanted.contains(name));
    }
    // What runs before a service is there while it runs, and nobody's business before and after.
    observed.containers.retain(|name, container| name.hook().is_none() || container.state.is_alive());
    if !args.orphans && words.services.is_empty() {
        let declared = declared(&words, settings).ok_or_else(|| {
            Failure::operation("which containers are orphans cannot be told without the file of the stack")
                .hint("go to its folder, or name it with -f FILE")
        })?;
        observed.containers.retain(|name, _| declared.iter().any(|declared| declared == name.service()));
    }
    let wanted: Vec<Status> = args.status.iter().chain(&args.filter).copied().collect();
    observed.containers.retain(|_, container| match Status::of(container.state) {
        status if !wanted.is_empty() => wanted.contains(&status),
        Status::Created | Status::Exited => args.all,
        _ => true,
    });
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
    let rows = container_rows(&project, &observed, jiff::Timestamp::now());
    settings.printer.data(&match &args.format {
        Format::Table => containers_table(&rows, args.no_trunc),
        Format::Json => containers_json(&rows),
        Format::Template(template) => template.render(&rows.into_iter().map(Row::into_map).collect::<Vec<_>>()),
    })?;
    Ok(0)
}
