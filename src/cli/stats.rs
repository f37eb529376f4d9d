//! `nscompose stats`.

use std::{
    collections::BTreeMap,
    io::IsTerminal,
    time::{Duration, Instant},
};

use clap::ValueEnum;

use super::{
    change::named,
    files::{project_name, tell_apart},
    settings::Settings,
    stack::{gone, open_if_up, talk},
};
use crate::{
    diagnostics::Failure,
    model::{Lack, Observed, ServiceName, Setting, Usage},
    supervisor::{Connection, Reply, Request},
    ui::{StatsRow, stats_json, stats_table},
};

/// Show what the containers of the stack use, again and again until Ctrl-C
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) more: super::MoreFiles,
    /// List those that have ended too
    #[arg(short, long)]
    all: bool,
    /// Names are never cut off; for those who are used to it
    #[arg(long = "no-trunc", hide = true)]
    _no_trunc: bool,
    /// Compose file, or services to list
    #[arg(value_name = "FILE|SERVICE")]
    words: Vec<String>,
    /// How to list them
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Show it once
    #[arg(long)]
    no_stream: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    #[default]
    Table,
    /// For programs: an object a line for each container, again and again
    Json,
}

/// Time over which the use of processors is taken, and between two looks.
const INTERVAL: Duration = Duration::from_millis(1000);

/// Likewise where it is shown once.
const ONCE: Duration = Duration::from_millis(250);

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let words = tell_apart(&args.words, &settings.directory);
    let name = project_name(&words, settings)?;
    let layout = settings.layout.stack(&name);
    let Some(opened) = open_if_up(&layout)? else {
        return Err(Failure::operation(format!("stack `{name}` is not up")).hint("`nscompose up -d` brings it up"));
    };
    opened.on_runtime(async |mut connection, snapshot| {
        let mut observed = snapshot.observed;
        let wanted = named(&words, &observed.containers, settings)?;
        let mut before = look(&mut connection).await?;
        if let Some(why) = nothing_counted(&observed, &before.1) {
            settings.printer.warning(&why);
        }
        // On a terminal each look takes the place of the last one.
        let redraw = args.format == Format::Table && !args.no_stream && std::io::stdout().is_terminal();
        loop {
            tokio::time::sleep(if args.no_stream { ONCE } else { INTERVAL }).await;
            let after = look(&mut connection).await?;
            if !args.no_stream {
                observed = super::stack::look_again(&mut connection).await?.ok_or_else(gone)?.observed;
            }
            let shown = observed.containers.iter().filter(|(service, container)| {
                (wanted.is_empty() || wanted.contains(service)) && (args.all || container.state.is_alive())
            });
            let elapsed = after.0 - before.0;
            let rows: Vec<StatsRow> = shown
                .map(|(service, container)| {
                    let now = after.1.get(service).cloned().unwrap_or_default();
                    StatsRow::new(service, container, now, before.1.get(service), elapsed)
                })
                .collect();
            let text = match args.format {
                Format::Table if redraw => format!("\u{1b}[H\u{1b}[J{}", stats_table(&rows)),
                Format::Table => stats_table(&rows),
                Format::Json => stats_json(&rows),
            };
            settings.printer.data(&text)?;
            if args.no_stream {
                return Ok(0);
            }
            before = after;
        }
    })
}

type Look = (Instant, BTreeMap<ServiceName, Usage>);

async fn look(connection: &mut Connection) -> Result<Look, Failure> {
    connection.send(&Request::Stats, &[]).await.map_err(|e| talk(&e))?;
    loop {
        match connection.next().await.map_err(|e| talk(&e))? {
            Some(Reply::Stats(usage)) => return Ok((Instant::now(), usage)),
            Some(Reply::Failed(failure)) => return Err(failure),
            Some(_) => {}
            None => return Err(gone()),
        }
    }
}

/// Why there is nothing but dashes.
fn nothing_counted(observed: &Observed, usage: &BTreeMap<ServiceName, Usage>) -> Option<String> {
    let counted = usage.values().any(|usage| usage.cpu_us.is_some() || usage.memory.is_some());
    if counted || usage.is_empty() {
        return None;
    }
    let cgroups = &observed.host.cgroups;
    Some(match cgroups.lacks.get(&Setting::MemoryMax) {
        Some(lack @ (Lack::NotDelegated { .. } | Lack::VersionOne | Lack::NoHierarchy)) => {
            format!("what containers use is not counted: {lack}")
        }
        _ if cgroups.ask => {
            "what containers use is not counted: without limits they have no control group; a `mem_limit`, \
            however high, gives them one"
                .to_owned()
        }
        _ => "what containers use is not counted: they have no control group".to_owned(),
    })
}
