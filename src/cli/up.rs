//! `nscompose up`.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, IsTerminal},
    time::Instant,
};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{
    files::{check_roots, containers_of_others, load_project, same_stack, services, tell_apart},
    image::{Provided, provide},
    limits::{leave_out, no_plan_of},
    network::Shared,
    settings::Settings,
    stack::{
        Broken, DEATHS, broken, carry_out, connection, gone, look_again, name_owners, open, reconnect, talk,
        until_done, wait_for_end,
    },
    terminal,
};
use crate::{
    diagnostics::Failure,
    image::store::StoreLock,
    load::Loaded,
    model::{ContainerElsewhere, ContainerState, InvalidPullPolicy, Project, PullPolicy, ServiceName},
    plan::{self, Intent},
    state::StackLayout,
    supervisor::{Connection, Event, Reply, Request, Snapshot},
    ui::{FilterBrokenPipe, LogFollower, LogPrinter, LogStyle, Printer, memory_size},
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
    /// Nothing is built or pulled, and nothing asked, anyway; for those who are used to it
    #[arg(long = "no-build", hide = true)]
    _no_build: bool,
    /// Likewise
    #[arg(long = "quiet-build", hide = true)]
    _quiet_build: bool,
    /// Likewise
    #[arg(long = "quiet-pull", hide = true)]
    _quiet_pull: bool,
    /// Likewise
    #[arg(short = 'y', long = "yes", hide = true)]
    _yes: bool,
    /// Compose file, or services to bring up
    #[arg(value_name = "FILE|SERVICE")]
    words: Vec<String>,
    /// Leave the stack running and come back when it is up
    #[arg(short, long)]
    detach: bool,
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

/// Those of `pull_policy` that make sense here.
fn pull_policy(text: &str) -> Result<PullPolicy, String> {
    match text {
        "always" | "missing" | "never" => text.parse().map_err(|e: InvalidPullPolicy| e.to_string()),
        _ => Err("it may be `always`, `missing` or `never`".to_owned()),
    }
}

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let words = tell_apart(&args.words, &settings.directory);
    let loaded = load_project(&words, settings, args.leniency.allow_unsupported)?;
    let intent = Intent {
        services: services(&words.services, loaded.project.services.keys())?.into_iter().collect(),
        pools: settings.address_pools()?,
    };
    check_roots(&loaded, &intent.services)?;
    // Before there is a runtime, and before anything is started.
    let elsewhere = containers_of_others(&loaded.project, settings)?;
    let Provided { mut project, held } = provide(loaded.project.clone(), &intent.services, args.pull, settings)?;
    let layout = settings.layout.stack(&project.name);
    let shared = Shared::of(settings, &project);
    open(&layout)?.on_runtime(async |mut connection, snapshot| {
        same_stack(&project.name, &project.files, &snapshot)?;
        if args.leniency.allow_unsupported {
            leave_out(&mut project, &snapshot.observed.host, &intent, &loaded, settings.printer);
        }
        let declared = |name: &ServiceName| loaded.all_services.iter().any(|declared| declared == name.as_str());
        for orphan in snapshot.observed.containers.keys().filter(|name| !declared(name)) {
            settings
                .printer
                .warning(&format!("service `{orphan}` runs and is not in the file any more; `down` removes it"));
        }
        if !args.detach && io::stdout().is_terminal() {
            // Before there are terminals, so that programs begin with the right size.
            let (rows, columns) = terminal::size();
            connection.send(&Request::Resize(rows, columns), &[]).await.map_err(|e| talk(&e))?;
        }
        let progress = Progress { printer: settings.printer, started: Instant::now() };
        let others = Others { elsewhere: &elsewhere, shared: &shared };
        let wanted = Wanted { project: &project, intent: &intent, others, loaded: &loaded, foreground: !args.detach };
        if args.detach {
            let mut taken = Vec::new();
            let mut snapshot = snapshot;
            let mut deaths = 0;
            let (result, unchanged) = loop {
                let outcome = async {
                    let (_, unchanged) = wanted.submit(&mut connection, snapshot.clone()).await?;
                    let show = |event| match event {
                        Event::PortTaken(port) => taken.push(port),
                        event => progress.show(&event),
                    };
                    until_done(&mut connection, show).await.map(|()| unchanged)
                };
                match outcome.await {
                    Ok(unchanged) => break (Ok(()), unchanged && deaths == 0),
                    Err(Broken::Failed(failure)) => break (Err(failure), false),
                    Err(Broken::Gone) if deaths == DEATHS => return Err(gone()),
                    // What the last supervisor has not done is planned anew from what there is.
                    Err(Broken::Gone) => (connection, snapshot) = reconnect(&layout).await?.ok_or_else(gone)?,
                }
                deaths += 1;
            };
            if result.is_err() {
                // What was begun has been undone. If that was all there was, let the last of it go before saying so.
                let left = look_again(&mut connection).await?;
                if left.is_none_or(|snapshot| snapshot.observed.containers.is_empty()) {
                    wait_for_end(&mut connection).await;
                }
            }
            // Its containers hold their images themselves by now.
            drop(held);
            result.map_err(|failure| name_owners(failure, &taken))?;
            if unchanged {
                settings.printer.progress(project.name.as_str(), "is up already, nothing to do");
            }
            return Ok(0);
        }
        let attached = project.services.iter().filter(|(_, service)| !service.process.unattached);
        let attached: BTreeSet<String> = attached.map(|(name, _)| name.to_string()).collect();
        let style = LogStyle {
            prefix: !args.no_log_prefix,
            color: !args.no_color && settings.printer.data_color(),
            timestamps: args.timestamps,
        };
        let mut foreground = Foreground {
            layout: &layout,
            project: &project,
            wanted,
            deaths: 0,
            progress,
            follower: LogFollower::new(&layout.logs(), []),
            logs: LogPrinter::new(style, attached.iter().cloned()),
            attached,
            log_lost: false,
            images: held,
            running: BTreeSet::new(),
        };
        if let Some(connection) = foreground.hand_over(connection, snapshot).await? {
            foreground.run(connection).await
        } else {
            Err(gone())
        }
    })
}

/// What a plan depends on that other stacks have.
#[derive(Clone, Copy)]
struct Others<'a> {
    elsewhere: &'a BTreeMap<String, ContainerElsewhere>,
    shared: &'a Shared,
}

/// What is to be brought up, and what its plan depends on.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    project: &'a Project,
    intent: &'a Intent,
    others: Others<'a>,
    loaded: &'a Loaded,
    foreground: bool,
}

impl Wanted<'_> {
    /// Plans, and hands the plan over until one is taken: whoever changes the stack meanwhile makes it stale. What the plan was
    /// made from comes back, and whether there is nothing to do.
    async fn submit(&self, connection: &mut Connection, mut snapshot: Snapshot) -> Result<(Snapshot, bool), Broken> {
        let Self { project, intent, others, loaded, foreground } = *self;
        loop {
            snapshot.observed.host.containers.clone_from(others.elsewhere);
            // No other stack chooses addresses between our look and our word.
            let lock = others.shared.lock()?;
            others.shared.look(&mut snapshot.observed)?;
            let plan = plan::up(project, &snapshot.observed, intent).map_err(|e| no_plan_of(&e, loaded))?;
            let places =
                plan::shared_places(project, &snapshot.observed, intent).map_err(|e| no_plan_of(&e, loaded))?;
            others.shared.take(snapshot.keeper, places)?;
            drop(lock);
            let unchanged = plan.is_empty();
            let generation = snapshot.generation;
            let request = Request::Apply { plan, generation, files: project.files.clone(), foreground };
            connection.send(&request, &[]).await.map_err(|e| broken(&e))?;
            match connection.next().await.map_err(|e| broken(&e))? {
                Some(Reply::Accepted) => return Ok((snapshot, unchanged)),
                Some(Reply::Stale) => snapshot = look_again(connection).await?.ok_or(Broken::Gone)?,
                Some(Reply::Failed(failure)) => return Err(failure.into()),
                Some(_) => {
                    return Err(Failure::internal("the supervisor answers something else than what was asked").into());
                }
                None => return Err(Broken::Gone),
            }
        }
    }
}

/// What is said of kills for want of memory.
fn out_of_memory(service: &ServiceName, kills: u64, limit: Option<u64>) -> String {
    let limit = limit.map(|limit| format!(", {}", memory_size(limit))).unwrap_or_default();
    let killed = if kills == 1 { "a process".to_owned() } else { format!("{kills} processes in all") };
    format!("service `{service}` has used up its limit of memory{limit}: the kernel killed {killed} of it")
}

/// Prints what happens.
struct Progress {
    printer: Printer,
    started: Instant,
}

impl Progress {
    fn show(&self, event: &Event) {
        match event {
            Event::Container(service, ContainerState::Running) => {
                let ms = self.started.elapsed().as_millis();
                self.printer.progress(service.as_str(), &format!("started after {ms} ms"));
            }
            Event::Container(service, ContainerState::Stopping) => self.printer.progress(service.as_str(), "stopping"),
            Event::Container(service, ContainerState::Exited(code)) => {
                self.printer.progress(service.as_str(), &format!("exited with code {code}"));
            }
            Event::Container(service, ContainerState::Restarting(code)) => {
                self.printer.progress(service.as_str(), &format!("exited with code {code}, is started again"));
            }
            Event::Container(service, ContainerState::Paused) => self.printer.progress(service.as_str(), "paused"),
            Event::Container(_, ContainerState::Created | ContainerState::Starting) => {}
            Event::OutOfMemory { service, kills, limit } => {
                self.printer.warning(&out_of_memory(service, *kills, *limit));
            }
            Event::Removed(service) => self.printer.progress(service.as_str(), "removed"),
            Event::Notice(text) => self.printer.progress("host", text),
            Event::Warning(text) => self.printer.warning(text),
            Event::Began(step) | Event::Done(step) | Event::Undoing(step) => tracing::debug!(step),
            // Said with the failure that follows.
            Event::PortTaken(_) => {}
        }
    }
}

/// The stack belongs to this command for as long as it runs.
struct Foreground<'a> {
    layout: &'a StackLayout,
    project: &'a Project,
    wanted: Wanted<'a>,
    /// How many supervisors have died meanwhile.
    deaths: u32,
    progress: Progress,
    follower: LogFollower,
    logs: LogPrinter,
    /// Services whose output is shown.
    attached: BTreeSet<String>,
    log_lost: bool,
    /// Keeps what the stack runs on from being removed until it is up: then its containers do that themselves.
    images: Option<StoreLock>,
    running: BTreeSet<ServiceName>,
}

/// As a shell has it for a program ended by SIGINT.
const INTERRUPTED: u8 = 130;

impl Foreground<'_> {
    async fn run(mut self, mut owner: Connection) -> Result<u8, Failure> {
        let (mut interrupt, mut terminate) = signals()?;
        let resized = signal(SignalKind::window_change());
        let mut resized = resized.map_err(|e| Failure::host("cannot catch signals").caused_by(&e))?;
        // What was written before somebody watched brings no news.
        self.print_logs();
        let mut up = false;
        let mut interrupted = false;
        let mut taken = Vec::new();
        loop {
            tokio::select! {
                reply = owner.next() => match reply.map_err(|e| talk(&e))? {
                    Some(Reply::Event(event)) => {
                        match &event {
                            Event::Container(service, state) if state.is_alive() => {
                                self.running.insert(service.clone());
                            }
                            Event::Container(service, _) | Event::Removed(service) => {
                                // What it wrote comes before the news of its end.
                                self.print_logs();
                                self.running.remove(service);
                            }
                            Event::PortTaken(port) => taken.push(port.clone()),
                            _ => {}
                        }
                        self.progress.show(&event);
                    }
                    Some(Reply::Done) => {
                        up = true;
                        // Its containers hold their images themselves by now.
                        self.images = None;
                    }
                    Some(Reply::Failed(failure)) => {
                        self.print_logs();
                        drop_and_wait(owner).await;
                        return Err(name_owners(failure, &taken));
                    }
                    Some(_) => {}
                    None => match self.come_back(up).await? {
                        Some(connection) => owner = connection,
                        // Somebody else has taken it down.
                        None if up && self.running.is_empty() => break,
                        None => return Err(gone()),
                    },
                },
                () = self.follower.changed() => self.print_logs(),
                _ = resized.recv(), if io::stdout().is_terminal() => {
                    let (rows, columns) = terminal::size();
                    // Where the supervisor has gone, the next one asks.
                    let _ = owner.send(&Request::Resize(rows, columns), &[]).await;
                }
                _ = interrupt.recv() => interrupted = true,
                _ = terminate.recv() => interrupted = true,
            }
            if interrupted || up && self.running.is_empty() {
                break;
            }
        }
        if interrupted {
            self.progress.printer.progress(self.project.name.as_str(), "is going down; again to kill it");
        }
        self.down(owner, &mut interrupt, &mut terminate).await?;
        Ok(if interrupted { INTERRUPTED } else { 0 })
    }

    /// Hands the plan to a supervisor, or to the one after it; none when there is none any more.
    async fn hand_over(
        &mut self,
        mut connection: Connection,
        mut snapshot: Snapshot,
    ) -> Result<Option<Connection>, Failure> {
        loop {
            match self.wanted.submit(&mut connection, snapshot).await {
                Ok((snapshot, _)) => {
                    let containers = snapshot.observed.containers.into_iter();
                    let alive = containers.filter(|(_, container)| container.state.is_alive());
                    self.running = alive.map(|(name, _)| name).collect();
                    return Ok(Some(connection));
                }
                Err(Broken::Failed(failure)) => return Err(failure),
                Err(Broken::Gone) => match self.another().await? {
                    Some(another) => (connection, snapshot) = another,
                    None => return Ok(None),
                },
            }
        }
    }

    /// The supervisor that comes after one that has gone.
    async fn another(&mut self) -> Result<Option<(Connection, Snapshot)>, Failure> {
        self.deaths += 1;
        if self.deaths > DEATHS { Err(gone()) } else { reconnect(self.layout).await }
    }

    /// Goes on with the supervisor that has come after one that has gone; none when there is none. What was not `up` yet is
    /// planned anew from what there is.
    async fn come_back(&mut self, up: bool) -> Result<Option<Connection>, Failure> {
        while let Some((mut connection, snapshot)) = self.another().await? {
            if !up {
                return self.hand_over(connection, snapshot).await;
            }
            let containers = snapshot.observed.containers.into_iter();
            let alive = containers.filter(|(_, container)| container.state.is_alive());
            self.running = alive.map(|(name, _)| name).collect();
            match carry_out(&mut connection, &Request::Own, |_| {}).await {
                Ok(()) => return Ok(Some(connection)),
                Err(Broken::Failed(failure)) => return Err(failure),
                Err(Broken::Gone) => {}
            }
        }
        Ok(None)
    }

    /// Takes the stack down and shows the last of its logs.
    async fn down(
        &mut self,
        mut owner: Connection,
        interrupt: &mut Signal,
        terminate: &mut Signal,
    ) -> Result<(), Failure> {
        loop {
            let Ok(stream) = self.layout.connect() else { return Ok(()) };
            let mut ending = connection(stream)?;
            let request = Request::Down { timeout_ms: None, volumes: BTreeMap::new() };
            let sent = ending.send(&request, &[]).await;
            let result = loop {
                if sent.is_err() {
                    break Err(Broken::Gone);
                }
                tokio::select! {
                    reply = ending.next() => match reply.map_err(|e| talk(&e))? {
                        Some(Reply::Done) => break Ok(()),
                        None => break Err(Broken::Gone),
                        Some(Reply::Failed(failure)) => break Err(Broken::Failed(failure)),
                        Some(Reply::Event(event)) => self.progress.show(&event),
                        Some(_) => {}
                    },
                    // Its events come to `ending` too; here they are only taken.
                    Ok(Some(_)) = owner.next() => {}
                    () = self.follower.changed() => self.print_logs(),
                    _ = interrupt.recv() => self.kill().await?,
                    _ = terminate.recv() => self.kill().await?,
                }
            };
            self.print_logs();
            match result {
                Ok(()) => {
                    owner.hang_up().await;
                    wait_for_end(&mut owner).await;
                    wait_for_end(&mut ending).await;
                    return Ok(());
                }
                Err(Broken::Failed(failure)) => return Err(failure),
                // Either it has gone with all of the stack, or another one takes its place.
                Err(Broken::Gone) => {
                    if self.another().await?.is_none() {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn kill(&self) -> Result<(), Failure> {
        self.progress.printer.progress(self.project.name.as_str(), "is killed");
        let mut connection = connection(self.layout.connect().map_err(|e| talk(&e))?)?;
        Ok(carry_out(&mut connection, &Request::Kill, |_| {}).await?)
    }

    fn declares(&self, service: &str) -> bool {
        self.project.services.keys().any(|name| name.as_str() == service)
    }

    fn print_logs(&mut self) {
        // Nobody reading any more is no reason to leave the stack alone; a full disk is one to say so.
        let printed = self.follower.read().and_then(|mut lines| {
            // What the file does not have any more is shown as before.
            lines.retain(|(service, _)| self.attached.contains(service) || !self.declares(service));
            self.logs.print(&lines)
        });
        if let Err(error) = printed.filter_broken_pipe()
            && !self.log_lost
        {
            self.log_lost = true;
            self.progress.printer.warning(&format!("log lines are not shown any more: {error}"));
        }
    }
}

fn signals() -> Result<(Signal, Signal), Failure> {
    let catch = |kind| signal(kind).map_err(|e| Failure::host("cannot catch signals").caused_by(&e));
    Ok((catch(SignalKind::interrupt())?, catch(SignalKind::terminate())?))
}

/// Lets the supervisor go, and waits until it has.
async fn drop_and_wait(mut owner: Connection) {
    owner.hang_up().await;
    wait_for_end(&mut owner).await;
}
