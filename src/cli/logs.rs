//! `nscompose logs`.

use super::{
    files::{project_name, services_or_containers, tell_apart},
    settings::Settings,
    stack::{open_if_up, reconnect},
};
use crate::{
    diagnostics::Failure,
    ui::{FilterBrokenPipe, LogFollower, LogPrinter, LogStyle},
};

/// Show what the services have written, merged by time
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Compose file, or services to show
    #[arg(value_name = "FILE|SERVICE")]
    words: Vec<String>,
    /// Go on with what is written from now on, until the stack is down
    #[arg(short, long)]
    follow: bool,
    /// Show only so many of the lines that are there, the last ones
    #[arg(short = 'n', long, value_name = "LINES")]
    tail: Option<usize>,
    /// Show the time in front of each line
    #[arg(short, long)]
    timestamps: bool,
    /// Show lines without the service in front
    #[arg(long)]
    no_log_prefix: bool,
    /// Show lines without colours
    #[arg(long)]
    no_color: bool,
}

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let words = tell_apart(&args.words, &settings.directory);
    let name = project_name(&words, settings)?;
    let layout = settings.layout.stack(&name);
    let Some(opened) = open_if_up(&layout)? else {
        return Err(Failure::operation(format!("stack `{name}` is not up, and its logs went with it")));
    };
    opened.on_runtime(async |mut connection, snapshot| {
        let observed = snapshot.observed;
        let wanted = services_or_containers(&words.services, &observed.containers)?;
        let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
        let style = LogStyle {
            prefix: !args.no_log_prefix,
            color: !args.no_color && settings.printer.data_color(),
            timestamps: args.timestamps,
        };
        let shown = if wanted.is_empty() {
            observed.containers.keys().map(ToString::to_string).collect()
        } else {
            wanted.clone()
        };
        let mut printer = LogPrinter::new(style, shown);
        let mut follower = LogFollower::new(&layout.logs(), wanted);
        let read = |e: std::io::Error| Failure::host("cannot read the logs").caused_by(&e);
        let mut lines = follower.read().map_err(read)?;
        if let Some(tail) = args.tail {
            lines.drain(..lines.len().saturating_sub(tail));
        }
        let write = |e: std::io::Error| Failure::host("cannot write to standard output").caused_by(&e);
        let printed = printer.print(&lines);
        let read_on = args.follow && printed.is_ok();
        printed.filter_broken_pipe().map_err(write)?;
        if !read_on {
            return Ok(0);
        }
        loop {
            let mut ended = false;
            tokio::select! {
                () = follower.changed() => {}
                reply = connection.next() => ended = !matches!(reply, Ok(Some(_))),
            }
            if ended && let Some((again, _)) = reconnect(&layout).await? {
                (connection, ended) = (again, false);
            }
            let lines = follower.read().map_err(read)?;
            let printed = printer.print(&lines);
            let read_on = !ended && printed.is_ok();
            printed.filter_broken_pipe().map_err(write)?;
            if !read_on {
                return Ok(0);
            }
        }
    })
}
