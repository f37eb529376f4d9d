//! `nscompose up`.

mod ends;
mod foreground;
mod progress;
mod wanted;

use std::{
    collections::BTreeSet,
    io::{self, IsTerminal},
};

use ends::Ends;
use foreground::Foreground;
pub(super) use progress::Progress;
use wanted::Submitted;
pub(super) use wanted::{Others, Wanted};

use super::{
    create,
    files::{Scale, check_roots, containers_of_others, load_scaled, same_stack, services, tell_apart},
    image::{Provided, provide},
    limits::leave_out,
    network::Shared,
    settings::Settings,
    stack::{DEATHS, gone, look_again, name_owners, open, talk, wait_for_end},
    terminal,
    when::seconds,
    wishes::{Wishes, pull_policy, wait_timeout_ms, warn_of_orphans},
};
use crate::{
    diagnostics::Failure,
    model::{ContainerState, Project, PullPolicy, ServiceName},
    plan::{self, Intent},
    supervisor::{Connection, Request, Snapshot},
    ui::{LogFollower, LogPrinter, LogRange, LogStyle},
};

/// Bring the stack up, or the named services with all they need
///
/// In the foreground the log lines of all services are shown, and Ctrl-C takes the stack down; a second one kills it.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) more: super::MoreFiles,
    #[command(flatten)]
    leniency: super::Leniency,
    #[command(flatten)]
    wishes: Wishes,
    #[command(flatten)]
    _accustomed: super::Accustomed,
    /// Likewise: nothing is built
    #[arg(long = "quiet-build", hide = true)]
    _quiet_build: bool,
    /// There is no menu, anyway; for those who are used to it
    #[arg(long = "menu", hide = true, require_equals = true, value_parser = ["false"])]
    _menu: Option<String>,
    /// Compose file, or services to bring up
    #[arg(value_name = "FILE|SERVICE")]
    words: Vec<String>,
    /// Leave the stack running and come back when it is up
    #[arg(short, long)]
    detach: bool,
    /// Come back when all services are up: healthy, or running where nothing probes them, or ended with code 0. The exit code
    /// is 1 if one does not get there
    #[arg(
        long,
        conflicts_with_all = [
            "abort_on_container_exit", "abort_on_container_failure", "exit_code_from", "attach", "attach_dependencies"
        ]
    )]
    wait: bool,
    /// Seconds after which nothing is waited for any more; 0 is no limit
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = seconds)]
    wait_timeout: Option<u32>,
    /// Take the stack down when a service has ended, and exit with its code
    #[arg(long, conflicts_with_all = ["detach", "abort_on_container_failure"])]
    abort_on_container_exit: bool,
    /// Take the stack down when a service has ended with another code than 0, and exit with its code
    #[arg(long, conflicts_with = "detach")]
    abort_on_container_failure: bool,
    /// Exit with the code of this service; implies --abort-on-container-exit
    #[arg(long, value_name = "SERVICE", conflicts_with_all = ["detach", "abort_on_container_failure"])]
    exit_code_from: Option<String>,
    /// Show the output of these services only
    #[arg(long, value_name = "SERVICE", conflicts_with_all = ["detach", "attach_dependencies"])]
    attach: Vec<String>,
    /// Do not show the output of these services
    #[arg(long, value_name = "SERVICE")]
    no_attach: Vec<String>,
    /// Show the output of the services that are brought up because the named ones need them, too
    #[arg(long, conflicts_with = "detach")]
    attach_dependencies: bool,
    /// Make containers and start none, as `create` does
    #[arg(long)]
    no_start: bool,
    /// When images are looked for in their registries, instead of what `pull_policy` says: always, missing or never
    #[arg(long, value_name = "POLICY", value_parser = pull_policy)]
    pull: Option<PullPolicy>,
    /// Show log lines without the service in front
    #[arg(long)]
    no_log_prefix: bool,
    /// Show log lines without colours
    #[arg(long)]
    no_color: bool,
    /// Show the time in front of each log line
    #[arg(long)]
    timestamps: bool,
}

/// `up -d` of these services and, unless there is `no_deps`, what they depend on.
pub(super) fn scale(
    files: Vec<String>,
    scale: Vec<Scale>,
    allow_unsupported: bool,
    no_deps: bool,
    settings: &Settings,
) -> Result<u8, Failure> {
    #[derive(clap::Parser)]
    struct Plain {
        #[command(flatten)]
        args: Args,
    }
    let flags = ["up", "--detach"].into_iter().chain(no_deps.then_some("--no-deps"));
    let Plain { mut args } = clap::Parser::parse_from(flags);
    args.words = files;
    args.words.extend(scale.iter().map(|scale| scale.service.clone()));
    args.leniency.allow_unsupported |= allow_unsupported;
    args.wishes.scale_to(scale);
    run(&args, settings)
}

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let words = tell_apart(&args.words, &settings.directory);
    if args.no_start {
        return create::make(&words, &args.wishes, args.leniency.allow_unsupported, args.pull, settings);
    }
    let loaded = load_scaled(&words, args.wishes.scale(), settings, args.leniency.allow_unsupported)?;
    let selected = services(&words.services, loaded.project.services.keys())?.into_iter().collect();
    let intent = Intent {
        wait: args.wait,
        wait_timeout_ms: wait_timeout_ms(args.wait_timeout),
        ..args.wishes.intent(selected, false, &loaded, settings)?
    };
    let alone = args.wishes.is_alone();
    let detach = args.detach || args.wait;
    let attached = attached(args, &plan::expand(loaded.project.clone()), &intent)?;
    let ends = Ends::new(args, &plan::expand(loaded.project.clone()))?;
    if let Some(service) = ends.never_ends(&plan::expand(loaded.project.clone()), &intent, alone) {
        return Err(Failure::usage(format!("`--exit-code-from {service}`: it is not among what is brought up"))
            .hint(format!("name `{service}` too, or leave the other services out")));
    }
    check_roots(&loaded, &intent.services, alone)?;
    // Before there is a runtime, and before anything is started.
    let elsewhere = containers_of_others(&loaded.project, settings)?;
    let provided = provide(loaded.project.clone(), (&intent.services, alone), args.pull, settings)?;
    let Provided { mut project, mut held } = provided;
    let layout = settings.layout.stack(&project.name);
    let shared = Shared::of(settings, &project);
    // A supervisor that was about to end, and has ended when it was asked, says nothing; then there is another to be had.
    let mut attempt = async |mut connection: Connection, snapshot: Snapshot| -> Result<Option<u8>, Failure> {
        same_stack(&project.name, &project.files, &snapshot)?;
        if args.leniency.allow_unsupported {
            leave_out(&mut project, &snapshot.observed.host, &intent, &loaded, settings.printer);
        }
        warn_of_orphans(&loaded, &snapshot.observed, &intent, settings);
        for (name, container) in &snapshot.observed.containers {
            if intent.asks_for(name) && container.state == ContainerState::Paused {
                settings.printer.warning(&format!("service `{name}` is paused; `unpause` lets it go on"));
            }
        }
        if !detach && io::stdout().is_terminal() {
            // Before there are terminals, so that programs begin with the right size.
            let (rows, columns) = terminal::size();
            connection.send(&Request::Resize(rows, columns), &[]).await.map_err(|e| talk(&e))?;
        }
        let mut progress = Progress::new(settings.printer);
        let was_there = !snapshot.observed.containers.is_empty();
        let others = Others { elsewhere: &elsewhere, shared: &shared, loaded: &loaded };
        let wanted = Wanted { layout: &layout, project: &project, intent: &intent, others, foreground: !detach };
        if detach {
            let mut taken = Vec::new();
            let result = wanted.carry_through(&mut connection, snapshot, &mut progress, &mut taken).await;
            let mut kept = false;
            if result.is_err() {
                // What was begun has been undone, unless it is to be looked at. If that was all there was, let the last of it
                // go before saying so.
                let left = look_again(&mut connection).await?;
                if left.is_none_or(|snapshot| snapshot.observed.containers.is_empty()) {
                    wait_for_end(&mut connection).await;
                } else {
                    kept = !was_there;
                }
            }
            let Some(unchanged) = result.map_err(|failure| {
                let failure = name_owners(failure, &taken);
                if kept { failure.hint(KEPT) } else { failure }
            })?
            else {
                return Ok(None);
            };
            // Its containers hold their images themselves by now.
            held = None;
            if unchanged {
                settings.printer.progress(project.name.as_str(), "is up already, nothing to do");
            }
            return Ok(Some(0));
        }
        // What it shows are containers.
        let expanded = plan::expand(project.clone());
        let style = LogStyle {
            prefix: !args.no_log_prefix,
            color: !args.no_color && settings.printer.data_color(),
            timestamps: args.timestamps,
        };
        let mut foreground = Foreground {
            tenure: None,
            layout: &layout,
            timeout_ms: args.wishes.timeout_ms(),
            project: &expanded,
            wanted,
            deaths: 0,
            progress,
            follower: LogFollower::new(&layout.logs(), [], LogRange::default()),
            logs: LogPrinter::new(style, attached.iter().cloned()),
            attached: attached.clone(),
            ends: ends.clone(),
            log_lost: false,
            images: held.take(),
            running: BTreeSet::new(),
        };
        if let Some(connection) = foreground.hand_over(connection, snapshot).await? {
            foreground.run(connection).await.map(Some)
        } else {
            held = foreground.images.take();
            Ok(None)
        }
    };
    for _ in 0..DEATHS {
        if let Some(code) = open(&layout)?.on_runtime(&mut attempt)? {
            return Ok(code);
        }
    }
    Err(gone())
}

/// What is there after a service did not get as far as others need it.
const KEPT: &str =
    "what has been started stays, to be looked at: `ps` and `logs` show it, `up` goes on, `down` removes it";

/// The containers whose output is shown, as Docker Compose chooses them. `project` is expanded.
fn attached(args: &Args, project: &Project, intent: &Intent) -> Result<BTreeSet<String>, Failure> {
    let mut shown: BTreeSet<ServiceName> = if !args.attach.is_empty() {
        services(&args.attach, project.services.keys())?.into_iter().collect()
    } else {
        let mut all: Vec<&ServiceName> = project.services.keys().filter(|name| intent.asks_for(name)).collect();
        let mut known: BTreeSet<&ServiceName> = BTreeSet::new();
        while let Some(name) = all.pop() {
            if known.insert(name) && args.attach_dependencies {
                all.extend(project.services[name].dependencies());
            }
        }
        known.into_iter().filter(|name| !project.services[*name].process.unattached).cloned().collect()
    };
    for name in services(&args.no_attach, project.services.keys())? {
        shown.remove(&name);
    }
    Ok(shown.into_iter().map(|name| name.to_string()).collect())
}
