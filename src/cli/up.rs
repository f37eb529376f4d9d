//! `nscompose up`.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, IsTerminal},
    time::Instant,
};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{
    create,
    files::{Scale, check_roots, containers_of_others, load_scaled, same_stack, services, tell_apart},
    image::{Provided, provide},
    limits::{leave_out, no_plan_of},
    logs::gap,
    network::Shared,
    settings::Settings,
    stack::{
        Broken, DEATHS, broken, carry_out, connection, gone, look_again, name_owners, open, reconnect, talk,
        until_done, wait_for_end, went_away,
    },
    terminal,
    wishes::{Wishes, pull_policy, wait_timeout_ms, warn_of_orphans},
};
use crate::{
    diagnostics::Failure,
    image::store::StoreLock,
    load::Loaded,
    model::{Condition, ContainerElsewhere, ContainerState, Health, Port, Project, PullPolicy, ServiceName},
    plan::{self, Action, Intent, Plan},
    state::StackLayout,
    supervisor::{Connection, Event, Reply, Request, Snapshot},
    ui::{FilterBrokenPipe, LogFollower, LogPrinter, LogRange, LogStyle, Printer, WaitProgress, memory_size},
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
    #[arg(long, value_name = "SECONDS")]
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

/// When the end of a service is the end of the stack, and what the exit code is then.
#[derive(Debug, Clone, Default)]
struct Ends {
    /// Any end is; otherwise none, or only one with an error.
    with_any: bool,
    with_failure: bool,
    /// Whose code it is.
    code_from: Option<ServiceName>,
    /// Services that others wait for to end: with code 0 they have done what they are there for.
    jobs: BTreeSet<ServiceName>,
    /// The one that ended everything.
    first: Option<(ServiceName, i32)>,
    /// The code of the one whose code it is.
    code: Option<i32>,
}

impl Ends {
    fn new(args: &Args, project: &Project) -> Result<Self, Failure> {
        let code_from = services(args.exit_code_from.as_slice(), project.services.keys())?.into_iter().next();
        let dependencies = project.services.values().flat_map(|service| &service.depends_on);
        let jobs = dependencies.filter(|dependency| dependency.condition == Condition::Completed);
        Ok(Self {
            with_any: args.abort_on_container_exit || code_from.is_some(),
            with_failure: args.abort_on_container_failure,
            code_from,
            jobs: jobs.map(|dependency| dependency.service.clone()).collect(),
            ..Self::default()
        })
    }

    /// A service has ended for good.
    fn ended(&mut self, service: &ServiceName, code: i32) {
        if service.hook().is_some() {
            // It is there to end.
            return;
        }
        let is_asked = self.code_from.as_ref() == Some(service);
        if is_asked {
            self.code.get_or_insert(code);
        }
        let is_done = code == 0 && self.jobs.contains(service) && !is_asked;
        if self.first.is_none() && !is_done && (self.with_any || self.with_failure && code != 0) {
            self.first = Some((service.clone(), code));
        }
    }

    fn exit_code(&self) -> u8 {
        let code = self.code.or(self.first.as_ref().map(|(_, code)| *code)).unwrap_or(0);
        u8::try_from(code).unwrap_or(1)
    }
}

/// What a plan depends on besides the project: what other stacks have, and the files, for the places of what is wrong.
#[derive(Clone, Copy)]
pub(super) struct Others<'a> {
    pub(super) elsewhere: &'a BTreeMap<String, ContainerElsewhere>,
    pub(super) shared: &'a Shared,
    pub(super) loaded: &'a Loaded,
}

/// What is to be said of a plan that has been taken.
pub(super) struct Submitted {
    /// There is nothing to do.
    pub(super) unchanged: bool,
    /// Services whose containers are made anew, and why.
    anew: Vec<(ServiceName, String)>,
}

impl Submitted {
    fn of(plan: &Plan) -> Self {
        let anew = plan.actions().into_iter().filter(|(_, (action, _))| *action == Action::Recreate);
        let anew = anew.map(|(service, (_, cause))| (service.clone(), cause.to_string())).collect();
        Self { unchanged: plan.is_empty(), anew }
    }
}

/// What is to be brought up, and what its plan depends on.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) layout: &'a StackLayout,
    pub(super) project: &'a Project,
    pub(super) intent: &'a Intent,
    pub(super) others: Others<'a>,
    /// The stack goes down with who wants it.
    pub(super) foreground: bool,
}

impl Wanted<'_> {
    /// Plans, and hands the plan over until one is taken: whoever changes the stack meanwhile makes it stale. What the plan was
    /// made from comes back, and what is to be said of it.
    async fn submit(
        &self,
        connection: &mut Connection,
        mut snapshot: Snapshot,
        progress: &mut Progress,
    ) -> Result<(Snapshot, Submitted), Broken> {
        let Self { project, intent, others, foreground, .. } = *self;
        loop {
            snapshot.observed.host.containers.clone_from(others.elsewhere);
            // No other stack chooses addresses between our look and our word.
            let lock = others.shared.lock()?;
            others.shared.look(&mut snapshot.observed)?;
            let plan = plan::up(project, &snapshot.observed, intent).map_err(|e| no_plan_of(&e, others.loaded))?;
            let places =
                plan::shared_places(project, &snapshot.observed, intent).map_err(|e| no_plan_of(&e, others.loaded))?;
            others.shared.take(snapshot.keeper, places)?;
            drop(lock);
            let submitted = Submitted::of(&plan);
            let generation = snapshot.generation;
            let request = Request::Apply { plan, generation, files: project.files.clone(), foreground };
            connection.send(&request, &[]).await.map_err(|e| broken(&e))?;
            let answer = loop {
                match connection.next().await.map_err(|e| broken(&e))? {
                    // Another command is carried out first.
                    Some(Reply::Event(event)) => progress.show(&event),
                    answer => break answer,
                }
            };
            match answer {
                Some(Reply::Accepted) => {
                    progress.announce(&submitted);
                    return Ok((snapshot, submitted));
                }
                Some(Reply::Stale) => snapshot = look_again(connection).await?.ok_or(Broken::Gone)?,
                Some(Reply::Failed(failure)) => return Err(failure.into()),
                Some(_) => {
                    return Err(Failure::internal("the supervisor answers something else than what was asked").into());
                }
                None => return Err(Broken::Gone),
            }
        }
    }

    /// Has it carried out to its end, by the next supervisor if one dies, and shows what happens but for ports that are `taken`.
    /// Whether there was nothing to do comes back; none if there is no supervisor any more.
    pub(super) async fn carry_through(
        &self,
        connection: &mut Connection,
        mut snapshot: Snapshot,
        progress: &mut Progress,
        taken: &mut Vec<Port>,
    ) -> Result<Option<bool>, Failure> {
        let mut deaths = 0;
        loop {
            let outcome = async {
                let (_, submitted) = self.submit(connection, snapshot, progress).await?;
                let show = |event| match event {
                    Event::PortTaken(port) => taken.push(port),
                    event => progress.show(&event),
                };
                until_done(connection, show).await.map(|()| submitted.unchanged)
            };
            match outcome.await {
                Ok(unchanged) => return Ok(Some(unchanged && deaths == 0)),
                Err(Broken::Failed(failure)) => return Err(failure),
                Err(Broken::Gone) if deaths == DEATHS => return Err(gone()),
                // What the last supervisor has not done is planned anew from what there is.
                Err(Broken::Gone) => match reconnect(self.layout).await? {
                    Some(another) => (*connection, snapshot) = another,
                    None => return Ok(None),
                },
            }
            deaths += 1;
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
pub(super) struct Progress {
    printer: Printer,
    started: Instant,
    waits: WaitProgress,
}

impl Progress {
    pub(super) fn new(printer: Printer) -> Self {
        Self { printer, started: Instant::now(), waits: WaitProgress::new(printer) }
    }

    /// Says why containers that people know are made anew.
    pub(super) fn announce(&mut self, submitted: &Submitted) {
        let printer = self.printer;
        self.waits.suspended(|| {
            for (service, cause) in &submitted.anew {
                printer.progress(service.as_str(), &format!("is made anew: {cause}"));
            }
        });
    }

    pub(super) fn show(&mut self, event: &Event) {
        match event {
            Event::Waiting(waiting) => return self.waits.show(waiting),
            Event::Waited(service, until) => return self.waits.ended(service, *until),
            _ => {}
        }
        self.waits.suspended(|| self.print(event));
    }

    fn print(&self, event: &Event) {
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
            Event::Container(service, ContainerState::Created) => self.printer.progress(service.as_str(), "created"),
            Event::Container(_, ContainerState::Starting) => {}
            Event::Health(service, Health::Healthy) => self.printer.progress(service.as_str(), "healthy"),
            Event::Health(service, Health::Unhealthy) => self.printer.progress(service.as_str(), "unhealthy"),
            Event::Health(_, Health::Starting) => {}
            Event::OutOfMemory { service, kills, limit } => {
                self.printer.warning(&out_of_memory(service, *kills, *limit));
            }
            Event::Unpaused(service) => self.printer.progress(service.as_str(), "goes on"),
            Event::Removed(service) => self.printer.progress(service.as_str(), "removed"),
            Event::Queued => {
                self.printer.progress("the stack", "is being changed by another command, which is waited for");
            }
            Event::Notice(text) => self.printer.progress("host", text),
            Event::Warning(text) => self.printer.warning(text),
            Event::PlanBegan | Event::PlanEnded => {}
            Event::Began(step) | Event::Done(step) | Event::Undoing(step) => tracing::debug!(step),
            // Said with the failure that follows, or shown already.
            Event::PortTaken(_) | Event::Waiting(_) | Event::Waited(..) => {}
        }
    }
}

/// The next word of a supervisor; none when it has gone.
async fn heard(connection: &mut Connection) -> Result<Option<Reply>, Failure> {
    match connection.next().await.map_err(|e| broken(&e)) {
        Ok(reply) => Ok(reply),
        Err(Broken::Gone) => Ok(None),
        Err(Broken::Failed(failure)) => Err(failure),
    }
}

/// The same of one that may be gone already, which says nothing.
async fn next_of(connection: &mut Option<Connection>) -> Option<Reply> {
    match connection {
        Some(connection) => connection.next().await.ok().flatten(),
        None => std::future::pending().await,
    }
}

/// The stack belongs to this command for as long as it runs.
struct Foreground<'a> {
    layout: &'a StackLayout,
    /// Milliseconds that each may take to stop in the end, instead of what the file says.
    timeout_ms: Option<u64>,
    project: &'a Project,
    wanted: Wanted<'a>,
    /// How many supervisors have died meanwhile.
    deaths: u32,
    progress: Progress,
    follower: LogFollower,
    logs: LogPrinter,
    /// Services whose output is shown.
    attached: BTreeSet<String>,
    ends: Ends,
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
        // Who stops a service may be about to start it again.
        let mut busy = false;
        let mut taken = Vec::new();
        loop {
            tokio::select! {
                reply = heard(&mut owner) => match reply? {
                    Some(Reply::Event(event)) => {
                        match &event {
                            Event::Container(service, state) if state.is_up() => {
                                if !state.is_alive() {
                                    self.print_logs();
                                }
                                self.running.insert(service.clone());
                            }
                            Event::Container(service, _) | Event::Removed(service) => {
                                // What it wrote comes before the news of its end.
                                self.print_logs();
                                self.running.remove(service);
                                if let Event::Container(service, ContainerState::Exited(code)) = &event {
                                    self.ends.ended(service, *code);
                                }
                            }
                            Event::PortTaken(port) => taken.push(port.clone()),
                            Event::PlanBegan => busy = true,
                            Event::PlanEnded => busy = false,
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
                        // What was begun has been undone, unless it is to be looked at, which is over with this command.
                        self.down(owner, &mut interrupt, &mut terminate).await?;
                        return Err(name_owners(failure, &taken));
                    }
                    Some(_) => {}
                    None => match self.come_back(up).await? {
                        Some(connection) => owner = connection,
                        // Somebody else has taken it down.
                        None if up && self.running.is_empty() => break,
                        None => return Err(went_away(self.layout)),
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
            if interrupted || self.ends.first.is_some() || up && !busy && self.running.is_empty() {
                break;
            }
        }
        if interrupted {
            self.progress.printer.progress(self.project.name.as_str(), "is going down; again to kill it");
        } else if let Some((service, code)) = &self.ends.first {
            let why = format!("is going down, since {service} has exited with code {code}");
            self.progress.printer.progress(self.project.name.as_str(), &why);
        }
        self.down(owner, &mut interrupt, &mut terminate).await?;
        Ok(if interrupted { INTERRUPTED } else { self.ends.exit_code() })
    }

    /// Hands the plan to a supervisor, or to the one after it; none when there is none any more.
    async fn hand_over(
        &mut self,
        mut connection: Connection,
        mut snapshot: Snapshot,
    ) -> Result<Option<Connection>, Failure> {
        loop {
            match self.wanted.submit(&mut connection, snapshot, &mut self.progress).await {
                Ok((snapshot, _)) => {
                    let containers = snapshot.observed.containers.into_iter();
                    let alive = containers.filter(|(_, container)| container.state.is_up());
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
            let alive = containers.filter(|(_, container)| container.state.is_up());
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
    async fn down(&mut self, owner: Connection, interrupt: &mut Signal, terminate: &mut Signal) -> Result<(), Failure> {
        let mut owner = Some(owner);
        // What is undone first is told to `owner` alone, and from then on the same to both.
        let mut undoing = true;
        loop {
            let Ok(stream) = self.layout.connect() else { return Ok(()) };
            let mut ending = connection(stream)?;
            let request = Request::Down { timeout_ms: self.timeout_ms, volumes: BTreeMap::new() };
            let sent = ending.send(&request, &[]).await;
            let result = loop {
                if sent.is_err() {
                    break Err(Broken::Gone);
                }
                tokio::select! {
                    reply = ending.next() => match reply.map_err(|e| broken(&e)) {
                        Ok(Some(Reply::Done)) => break Ok(()),
                        Ok(None) => break Err(Broken::Gone),
                        Err(broken) => break Err(broken),
                        Ok(Some(Reply::Failed(failure))) => break Err(Broken::Failed(failure)),
                        Ok(Some(Reply::Event(event))) => {
                            if let Event::Container(service, ContainerState::Exited(code)) = &event {
                                self.ends.ended(service, *code);
                            }
                            self.progress.show(&event);
                        }
                        Ok(Some(_)) => {}
                    },
                    reply = next_of(&mut owner) => match reply {
                        Some(reply) => {
                            undoing &= !matches!(reply, Reply::Event(Event::PlanBegan));
                            if undoing && let Reply::Event(event) = &reply {
                                self.print_logs();
                                self.progress.show(event);
                            }
                            self.notice_end(&reply);
                        }
                        None => owner = None,
                    },
                    () = self.follower.changed() => self.print_logs(),
                    _ = interrupt.recv() => self.kill().await?,
                    _ = terminate.recv() => self.kill().await?,
                }
            };
            self.print_logs();
            match result {
                Ok(()) => {
                    self.print_last();
                    if let Some(owner) = owner {
                        self.let_go(owner).await;
                    }
                    wait_for_end(&mut ending).await;
                    return Ok(());
                }
                Err(Broken::Failed(failure)) => return Err(failure),
                // Either it has gone with all of the stack, or another one takes its place.
                Err(Broken::Gone) => {
                    owner = None;
                    if self.another().await?.is_none() {
                        self.print_last();
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Shows lines that have not been ended. As with all, nobody reading them is no reason for anything.
    fn print_last(&mut self) {
        for (service, line) in self.follower.unended() {
            if self.attached.contains(&service) {
                let _ = self.logs.print(&service, &line);
            }
        }
        let _ = self.logs.flush();
    }

    /// Takes note of the end of a service.
    fn notice_end(&mut self, reply: &Reply) {
        if let Reply::Event(Event::Container(service, ContainerState::Exited(code))) = reply {
            self.ends.ended(service, *code);
        }
    }

    /// Lets the supervisor go, and waits until it has.
    async fn let_go(&mut self, mut owner: Connection) {
        owner.hang_up().await;
        while let Ok(Some(reply)) = owner.next().await {
            self.notice_end(&reply);
        }
    }

    async fn kill(&self) -> Result<(), Failure> {
        self.progress.printer.progress(self.project.name.as_str(), "is killed");
        let mut connection = connection(self.layout.connect().map_err(|e| talk(&e))?)?;
        Ok(carry_out(&mut connection, &Request::Kill, |_| {}).await?)
    }

    fn print_logs(&mut self) {
        self.follower.look_again();
        // Nobody reading any more is no reason to leave the stack alone; a full disk is one to say so.
        let Self { project, follower, logs, attached, progress, .. } = self;
        // What the file does not have any more is shown as before.
        let shown =
            |service: &str| attached.contains(service) || !project.services.keys().any(|name| name.as_str() == service);
        let printed = progress.waits.suspended(|| {
            while let Some((service, line)) = follower.next_line()? {
                if shown(service) {
                    if line.after_gap {
                        logs.flush()?;
                        progress.printer.warning(&gap(service));
                    }
                    logs.print(service, &line)?;
                }
            }
            logs.flush()
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
