//! `nscompose logs`.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{
    change::{named, one_container},
    files::{Words, known_services, no_container, project_name, tell_apart},
    settings::Settings,
    stack::{connect_if_up, reconnect},
    when,
};
use crate::{
    diagnostics::Failure,
    model::ServiceName,
    state::StackLayout,
    supervisor::Connection,
    ui::{FilterBrokenPipe, LogFollower, LogPrinter, LogRange, LogStyle},
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
    /// Show only so many of the lines that are there of each service, the last ones, or `all`
    #[arg(short = 'n', long, value_name = "LINES", value_parser = tail)]
    tail: Option<Tail>,
    /// Show no lines before this time: RFC 3339, seconds since 1970, or a time ago such as `10m`
    #[arg(long, value_name = "TIME", value_parser = when::flag)]
    since: Option<Timestamp>,
    /// Show no lines after this time
    #[arg(long, value_name = "TIME", value_parser = when::flag)]
    until: Option<Timestamp>,
    /// Show only the container of the service that has this number
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    index: Option<u32>,
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

/// How many lines; none are all.
#[derive(Debug, Clone, Copy)]
struct Tail(Option<u64>);

/// As in Docker, which takes what is less than none for all.
fn tail(text: &str) -> Result<Tail, String> {
    match text.parse::<i64>() {
        _ if text == "all" => Ok(Tail(None)),
        Ok(lines) => Ok(Tail(u64::try_from(lines).ok())),
        Err(_) => Err("write a number, or `all`".to_owned()),
    }
}

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let words = tell_apart(&args.words, &settings.directory);
    let name = project_name(&words, settings)?;
    let layout = settings.layout.stack(&name);
    if let Some(opened) = connect_if_up(&layout)? {
        return opened.on_runtime(async |connection, snapshot| {
            let mut observed = snapshot.observed;
            // What runs before a service writes to the log of that one, which may not be there yet.
            let hooks = observed.containers.keys().filter(|name| name.hook().is_some()).cloned();
            for hook in hooks.collect::<Vec<_>>() {
                if let Some(container) = observed.containers.remove(&hook) {
                    observed.containers.entry(hook.replica(hook.number())).or_insert(container);
                }
            }
            let wanted = match (args.index, &words.services[..]) {
                (None, _) => named(&words, &observed.containers, settings)?,
                (Some(_), [service]) => {
                    vec![one_container((service, args.index), &words, &observed.containers, settings)?]
                }
                (Some(_), _) => return Err(one_service()),
            };
            for service in wanted.iter().filter(|name| !observed.containers.contains_key(*name)) {
                settings.printer.progress(service.as_str(), "has no container yet");
            }
            let known = observed.containers.keys().map(ToString::to_string).collect();
            show(args, settings, &layout, (wanted, known), Some(connection)).await
        });
    }
    // A supervisor that was killed has left them, and whoever looks at them changes nothing.
    let known = LogFollower::services_in(&layout.logs());
    if known.is_empty() {
        named(&words, &BTreeMap::new(), settings)?;
        settings.printer.progress(name.as_str(), "is not up, and its logs went with it");
        return Ok(0);
    }
    let wanted = without_supervisor(&words, args.index, &known)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::host("cannot start the event loop").caused_by(&e))?;
    runtime.block_on(show(args, settings, &layout, (wanted, known), None))
}

fn without_supervisor(
    words: &Words,
    index: Option<u32>,
    known: &BTreeSet<String>,
) -> Result<Vec<ServiceName>, Failure> {
    let known: Vec<ServiceName> = known.iter().filter_map(|name| name.clone().try_into().ok()).collect();
    let mut found = known_services(&words.services, known.iter())?;
    if let Some(number) = index {
        let [service] = &words.services[..] else { return Err(one_service()) };
        found.retain(|name| name.number() == number);
        if found.is_empty() {
            return Err(no_container(service, index));
        }
    }
    Ok(found)
}

fn one_service() -> Failure {
    Failure::usage("`--index` is of one service, which has to be named")
}

/// Shows them, and with a supervisor follows them until it ends.
async fn show(
    args: &Args,
    settings: &Settings,
    layout: &StackLayout,
    (wanted, known): (Vec<ServiceName>, BTreeSet<String>),
    mut connection: Option<Connection>,
) -> Result<u8, Failure> {
    // Who has named a service, and not one of its containers, means those too that come later.
    let whole = wanted.iter().map(|name| name.service().to_owned());
    let whole: Vec<String> = whole.filter(|name| args.index.is_none() && args.words.contains(name)).collect();
    let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
    let style = LogStyle {
        prefix: !args.no_log_prefix,
        color: !args.no_color && settings.printer.data_color(),
        timestamps: args.timestamps,
    };
    let printer = LogPrinter::new(style, if wanted.is_empty() { known.into_iter().collect() } else { wanted.clone() });
    let range = LogRange { since: args.since, until: args.until, tail: args.tail.and_then(|Tail(lines)| lines) };
    let follower = LogFollower::new(&layout.logs(), wanted.iter().cloned(), range).with_all_of(whole);
    let mut shown = Shown { follower, printer, settings };
    let read_on = shown.show()?;
    for service in shown.follower.without_log().filter(|name| wanted.iter().any(|wanted| wanted == name)) {
        settings.printer.warning(&format!("service `{service}` keeps no log: its `logging.driver` is `none`"));
    }
    if !read_on {
        return Ok(0);
    }
    let until = args.until.unwrap_or(Timestamp::MAX);
    let Some(connection) = connection.as_mut().filter(|_| args.follow && until > Timestamp::now()) else {
        shown.show_unended()?;
        return Ok(0);
    };
    loop {
        let left = until.duration_since(Timestamp::now()).unsigned_abs();
        let mut ended = false;
        tokio::select! {
            () = shown.follower.changed() => {}
            reply = connection.next() => ended = !matches!(reply, Ok(Some(_))),
            // There is nothing beyond it that would be shown.
            () = tokio::time::sleep(left), if args.until.is_some() => ended = true,
        }
        if ended {
            shown.follower.look_again();
        }
        if !shown.show()? {
            return Ok(0);
        }
        if ended {
            if until > Timestamp::now()
                && let Some((again, _)) = reconnect(layout).await?
            {
                *connection = again;
                continue;
            }
            shown.show_unended()?;
            return was_killed(layout, until);
        }
    }
}

/// A supervisor that ends has taken its folder along; one that was killed has another one after it, unless the keeper was, too.
fn was_killed(layout: &StackLayout, until: Timestamp) -> Result<u8, Failure> {
    if until > Timestamp::now() && layout.runtime().exists() && connect_if_up(layout)?.is_none() {
        return Err(Failure::operation("the supervisor of the stack and its keeper have been killed")
            .hint("`nscompose up` or `nscompose down` finds out what is left of the stack"));
    }
    Ok(0)
}

struct Shown<'a> {
    follower: LogFollower,
    printer: LogPrinter,
    settings: &'a Settings,
}

impl Shown<'_> {
    /// Shows what there is; false if nobody wants to see it any more.
    fn show(&mut self) -> Result<bool, Failure> {
        let read = |e: std::io::Error| Failure::host("cannot read the logs").caused_by(&e);
        let printer = &mut self.printer;
        let mut printed = Ok(());
        while printed.is_ok()
            && let Some((service, line)) = self.follower.next_line().map_err(read)?
        {
            if line.after_gap {
                // They come to where the gap is.
                let _ = printer.flush();
                self.settings.printer.warning(&gap(service));
            }
            printed = printer.print(service, &line);
        }
        let printed = printed.and_then(|()| printer.flush());
        let read_on = printed.is_ok();
        printed.filter_broken_pipe().map_err(write)?;
        Ok(read_on)
    }

    fn show_unended(&mut self) -> Result<(), Failure> {
        let lines = self.follower.unended();
        let printed = lines.iter().try_for_each(|(service, line)| self.printer.print(service, line));
        printed.and_then(|()| self.printer.flush()).filter_broken_pipe().map_err(write)
    }
}

fn write(error: std::io::Error) -> Failure {
    Failure::host("cannot write to standard output").caused_by(&error)
}

/// What is said where lines are missing.
pub(super) fn gap(service: &str) -> String {
    format!("lines of `{service}` are missing here: they were removed, as `max-file` says, before they could be read")
}
