//! A stack that belongs to the command that has brought it up.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, IsTerminal},
};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Progress, Wanted, ends::Ends};
use crate::{
    cli::{
        logs::gap,
        stack::{
            Broken, DEATHS, broken, carry_out, connection, gone, name_owners, reconnect, talk, wait_for_end, went_away,
        },
        terminal,
    },
    diagnostics::Failure,
    image::store::StoreLock,
    model::{ContainerState, Project, ServiceName},
    state::StackLayout,
    supervisor::{Connection, Event, Reply, Request, Snapshot},
    ui::{FilterBrokenPipe, LogFollower, LogPrinter},
};

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
pub(super) struct Foreground<'a> {
    pub(super) layout: &'a StackLayout,
    /// Milliseconds that each may take to stop in the end, instead of what the file says.
    pub(super) timeout_ms: Option<u64>,
    /// For how long the stack belongs to this command, once it is known.
    pub(super) tenure: Option<u64>,
    pub(super) project: &'a Project,
    pub(super) wanted: Wanted<'a>,
    /// How many supervisors have died meanwhile.
    pub(super) deaths: u32,
    pub(super) progress: Progress,
    pub(super) follower: LogFollower,
    pub(super) logs: LogPrinter,
    /// Services whose output is shown.
    pub(super) attached: BTreeSet<String>,
    pub(super) ends: Ends,
    pub(super) log_lost: bool,
    /// Keeps what the stack runs on from being removed until it is up: then its containers do that themselves.
    pub(super) images: Option<StoreLock>,
    pub(super) running: BTreeSet<ServiceName>,
}

/// As a shell has it for a program ended by SIGINT.
const INTERRUPTED: u8 = 130;

impl Foreground<'_> {
    pub(super) async fn run(mut self, mut owner: Connection) -> Result<u8, Failure> {
        let (mut interrupt, mut terminate) = signals()?;
        let resized = signal(SignalKind::window_change());
        let mut resized = resized.map_err(|e| Failure::host("cannot catch signals").caused_by(&e))?;
        // What was written before somebody watched brings no news.
        self.print_logs();
        let mut up = false;
        let mut interrupted = false;
        // Who stops a service may be about to start it again.
        let mut busy = false;
        let mut disowned = false;
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
                            Event::Owned(tenure) => self.tenure = Some(*tenure),
                            Event::Disowned => disowned = true,
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
            if disowned {
                // What there may be by now is somebody else's.
                self.print_logs();
                self.print_last();
                return Ok(self.ends.exit_code());
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
    pub(super) async fn hand_over(
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
        let mut disowned = false;
        // What is undone first is told to `owner` alone, and from then on the same to both.
        let mut undoing = true;
        loop {
            let Ok(stream) = self.layout.connect() else { return Ok(()) };
            let mut ending = connection(stream)?;
            let request = Request::Down { timeout_ms: self.timeout_ms, volumes: BTreeMap::new(), tenure: self.tenure };
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
                            disowned |= matches!(reply, Reply::Event(Event::Disowned));
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
                    if let Some(owner) = owner.filter(|_| !disowned) {
                        self.hear_last(owner).await;
                    }
                    wait_for_end(&mut ending).await;
                    return Ok(());
                }
                Err(Broken::Failed(failure)) => return Err(failure),
                // Either it has gone with all of the stack, or another one takes its place.
                Err(Broken::Gone) => {
                    owner = None;
                    if disowned || self.another().await?.is_none() {
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

    /// Takes note of the last that is told to the owner of a stack that has gone.
    async fn hear_last(&mut self, mut owner: Connection) {
        // Nothing more is wanted, so that the end comes whatever comes first.
        owner.hang_up().await;
        while let Ok(Some(reply)) = owner.next().await
            && !matches!(reply, Reply::Event(Event::Disowned))
        {
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
