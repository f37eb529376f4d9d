//! The task that owns the picture of the stack.

use std::{
    collections::{BTreeMap, VecDeque},
    future::pending,
    path::PathBuf,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use tokio::{
    net::UnixListener,
    signal::unix::{SignalKind, signal},
    sync::{
        mpsc::{self, UnboundedReceiver, UnboundedSender},
        oneshot, watch,
    },
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep_until, timeout},
};

use super::{Event, Reply, Snapshot, connection, host};
use crate::{
    diagnostics::Failure,
    executor::{self, Change, ExecutorError, Stack},
    model::{ContainerState, Observed, StopSignal, Volume, VolumeName},
    plan::{self, Plan, StepId},
    state::Past,
};

/// What a connection asks of the dispatcher.
pub(super) enum Ask {
    Observe(oneshot::Sender<Snapshot>),
    Apply(Apply),
    Own(ConnectionId, UnboundedSender<Reply>),
    Down { timeout_ms: Option<u64>, volumes: BTreeMap<VolumeName, Volume>, replies: UnboundedSender<Reply> },
    Kill,
    Closed(ConnectionId),
}

/// A plan to carry out.
pub(super) struct Apply {
    pub(super) plan: Plan,
    pub(super) generation: u64,
    pub(super) files: Vec<PathBuf>,
    pub(super) owner: Option<ConnectionId>,
    pub(super) replies: UnboundedSender<Reply>,
}

/// Tells connections apart.
pub(super) type ConnectionId = u64;

/// How long a supervisor with nothing to do waits for whoever started it.
const FIRST_CLIENT: Duration = Duration::from_secs(10);

/// How long the owner of a stack that has gone down may take to read the last of the logs.
const LAST_READ: Duration = Duration::from_secs(5);

/// How long a supervisor that has taken over a stack of which nothing is left waits for those whom the last one's death has cut
/// off.
const CLIENT_RETURNS: Duration = Duration::from_secs(3);

/// How long the owner of a stack may take to come back to a new supervisor.
const OWNER_RETURNS: Duration = Duration::from_secs(10);

/// What the dispatcher has the journal say, and a later one reads there.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// A supervisor has died.
    succeeds: bool,
    files: Vec<PathBuf>,
    owned: bool,
    down: Option<Ending>,
}

/// A `down` that was under way.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Ending {
    timeout_ms: Option<u64>,
    volumes: BTreeMap<VolumeName, Volume>,
}

const FILES: &str = "files";
const OWNED: &str = "owned";
const DOWN: &str = "down";

impl Memory {
    pub(super) fn of(past: &Past) -> Self {
        let fact = |name: &str| past.facts.get(name).cloned();
        Self {
            succeeds: true,
            files: fact(FILES).and_then(|files| serde_json::from_value(files).ok()).unwrap_or_default(),
            owned: fact(OWNED).is_some(),
            down: fact(DOWN).and_then(|down| serde_json::from_value(down).ok()),
        }
    }
}

/// Serves until nothing is left of the stack. Changes that are told already are what there is.
pub(super) async fn run(
    listener: UnixListener,
    stack: Stack,
    routes: Vec<Ipv4Net>,
    (changes, mut changed): (UnboundedSender<Change>, UnboundedReceiver<Change>),
    memory: Memory,
) {
    let (asks, mut asked) = mpsc::unbounded_channel();
    let host = host::of_machine(stack.ids(), routes, stack.cgroups().clone());
    let stack = Arc::new(stack);
    let mut keeper_gone = false;
    let mut dispatcher = Dispatcher {
        stack: stack.clone(),
        observed: Observed { host, ..Observed::default() },
        // A plan that was made for another supervisor is for none that there is now.
        generation: if memory.succeeds { u64::from(std::process::id()) << 32 } else { 0 },
        files: memory.files,
        changes,
        owner: None,
        job: None,
        waiting: VecDeque::new(),
        connections: 0,
        last_used: Instant::now() + if memory.succeeds { CLIENT_RETURNS } else { FIRST_CLIENT },
        owner_until: memory.owned.then(|| Instant::now() + OWNER_RETURNS),
    };
    dispatcher.changes_so_far(&mut changed);
    if let Some(Ending { timeout_ms, volumes }) = memory.down {
        let cause = "down was asked for before the supervisor died";
        dispatcher.down(Down { cause, timeout_ms, volumes, replies: None });
    }
    // Each would end it anyway, and leave everything to whoever looks next.
    let ends = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup(), SignalKind::quit()];
    let mut ends = ends.map(|kind| signal(kind).ok());
    let mut next_id: ConnectionId = 0;
    let (mut readers, mut writers) = (JoinSet::new(), JoinSet::new());
    loop {
        if dispatcher.is_finished() {
            break;
        }
        tokio::select! {
            biased;
            Some(change) = changed.recv() => {
                dispatcher.change(change);
                dispatcher.changes_so_far(&mut changed);
            }
            result = job_end(&mut dispatcher.job) => dispatcher.job_ended(result, &mut changed),
            Some(ask) = asked.recv() => dispatcher.ask(ask),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if connection::is_owner(&stream) => {
                    next_id += 1;
                    dispatcher.connections += 1;
                    let (reader, writer) = stream.into_split();
                    let (replies, queue) = mpsc::unbounded_channel();
                    readers.spawn(connection::serve(next_id, reader, replies, dispatcher.stack.clone(), asks.clone()));
                    writers.spawn(connection::write_replies(writer, queue));
                }
                Ok(_) => {}
                Err(error) => {
                    // Out of descriptors, most likely: a moment later there may be some.
                    tracing::warn!(%error, "a client cannot be heard");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = readers.join_next() => {}
            Some(_) = writers.join_next() => {}
            () = stack.keeper_gone(), if !keeper_gone => {
                keeper_gone = true;
                tracing::error!("the keeper has ended");
                dispatcher.down(Down::because("the process that keeps the containers has ended"));
            }
            () = asked_to_end(&mut ends) => dispatcher.down(Down::because("the supervisor is asked to end")),
            () = sleep_until(dispatcher.last_used), if Instant::now() < dispatcher.last_used => {}
            () = sleep_until(dispatcher.owner_until.unwrap_or_else(Instant::now)), if dispatcher.owner_until.is_some() => {
                dispatcher.owner_until = None;
                dispatcher.down(Down::because("the `up` that the stack belongs to has not come back"));
            }
        }
    }
    stack.remove_group();
    // The last replies have to be out; the sockets stay open until this process ends, which tells clients that it has.
    readers.shutdown().await;
    drop(dispatcher);
    let flush = async {
        while let Some(writer) = writers.join_next().await {
            std::mem::forget(writer);
        }
    };
    let _ = timeout(LAST_READ, flush).await;
    std::mem::forget(writers);
}

async fn job_end(job: &mut Option<Job>) -> Result<(), ExecutorError> {
    match job {
        None => pending().await,
        Some(job) => (&mut job.task).await.unwrap_or_else(|e| Err(ExecutorError::Missing(e.to_string()))),
    }
}

async fn asked_to_end(signals: &mut [Option<tokio::signal::unix::Signal>]) {
    std::future::poll_fn(|cx| {
        let came = signals.iter_mut().flatten().any(|signal| signal.poll_recv(cx).is_ready());
        if came { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

struct Dispatcher {
    stack: Arc<Stack>,
    observed: Observed,
    /// Grows with every change of `observed`.
    generation: u64,
    files: Vec<PathBuf>,
    changes: UnboundedSender<Change>,
    /// The connection that the stack goes down with, and where it hears of events.
    owner: Option<(ConnectionId, UnboundedSender<Reply>)>,
    job: Option<Job>,
    waiting: VecDeque<Waiting>,
    connections: usize,
    /// Until then nothing being left is no reason to end.
    last_used: Instant,
    /// Until then the owner of the stack may come back, whose connection a supervisor's death has broken.
    owner_until: Option<Instant>,
}

/// A plan under way.
struct Job {
    task: JoinHandle<Result<(), ExecutorError>>,
    interrupt: watch::Sender<bool>,
    /// It takes the stack down, which nothing interrupts.
    is_down: bool,
    /// The text of each step, for events.
    steps: Vec<String>,
    replies: Option<UnboundedSender<Reply>>,
}

/// A job that begins when the one under way has ended.
enum Waiting {
    Apply(Apply),
    Down(Down),
}

/// The end of the stack.
struct Down {
    cause: &'static str,
    timeout_ms: Option<u64>,
    volumes: BTreeMap<VolumeName, Volume>,
    replies: Option<UnboundedSender<Reply>>,
}

impl Down {
    fn because(cause: &'static str) -> Self {
        Self { cause, timeout_ms: None, volumes: BTreeMap::new(), replies: None }
    }
}

impl Dispatcher {
    fn is_finished(&self) -> bool {
        let idle = self.job.is_none() && self.waiting.is_empty() && self.observed.containers.is_empty();
        idle && Instant::now() >= self.last_used
    }

    fn ask(&mut self, ask: Ask) {
        match ask {
            Ask::Observe(answer) => {
                let supervisor = std::process::id() as i32;
                let (observed, files, generation) = (self.observed.clone(), self.files.clone(), self.generation);
                let keeper = self.stack.keeper_pid();
                let _ = answer.send(Snapshot { observed, files, generation, supervisor, keeper });
            }
            Ask::Apply(apply) => self.begin_or_wait(Waiting::Apply(apply)),
            Ask::Own(id, replies) => {
                if self.owner_until.take().is_some() {
                    let _ = replies.send(Reply::Done);
                    self.owner = Some((id, replies));
                } else {
                    let failure = Failure::operation("the stack does not belong to an `up` that has lost it");
                    let _ = replies.send(Reply::Failed(failure));
                }
            }
            Ask::Down { timeout_ms, volumes, replies } => {
                self.down(Down { cause: "down was asked for", timeout_ms, volumes, replies: Some(replies) });
            }
            Ask::Kill => self.stack.signal_all(StopSignal::KILL),
            Ask::Closed(id) => {
                self.connections -= 1;
                // Nobody wants any more what it still waits for.
                self.waiting.retain(|next| !matches!(next, Waiting::Apply(apply) if apply.owner == Some(id)));
                if self.owner.as_ref().is_some_and(|(owner, _)| *owner == id) {
                    self.owner = None;
                    self.last_used = Instant::now();
                    if self.job.is_some() || !self.observed.containers.is_empty() {
                        self.down(Down::because("the `up` that the stack belongs to has ended"));
                    }
                } else if self.connections == 0 {
                    self.last_used = self.last_used.min(Instant::now());
                }
            }
        }
    }

    fn down(&mut self, down: Down) {
        match &self.job {
            Some(job) if !job.is_down => {
                job.interrupt.send_replace(true);
            }
            // Less patience than the one that is under way has.
            Some(_) if down.timeout_ms.is_some() => {
                let (stack, patience) = (self.stack.clone(), Duration::from_millis(down.timeout_ms.unwrap_or(0)));
                tokio::spawn(async move {
                    tokio::time::sleep(patience).await;
                    stack.signal_all(StopSignal::KILL);
                });
            }
            _ => {}
        }
        self.begin_or_wait(Waiting::Down(down));
    }

    fn begin_or_wait(&mut self, next: Waiting) {
        self.waiting.push_back(next);
        if self.job.is_none() {
            self.begin_next();
        }
    }

    fn begin_next(&mut self) {
        let Some(next) = self.waiting.pop_front() else { return };
        let is_down = matches!(next, Waiting::Down(_));
        let (plan, replies) = match next {
            Waiting::Apply(Apply { generation, replies, .. }) if generation != self.generation => {
                // Somebody was faster.
                let _ = replies.send(Reply::Stale);
                // It will look again and come back.
                self.last_used = Instant::now() + FIRST_CLIENT;
                return self.begin_next();
            }
            Waiting::Apply(Apply { plan, files, owner, replies, .. }) => {
                let mut written = self.stack.remember(FILES, &files);
                if owner.is_some() {
                    written = written.and_then(|()| self.stack.remember(OWNED, &true));
                }
                if let Err(error) = written {
                    let failure = Failure::operation("cannot write to the journal of the stack").caused_by(&error);
                    let _ = replies.send(Reply::Failed(failure));
                    return self.begin_next();
                }
                let _ = replies.send(Reply::Accepted);
                self.files = files;
                if let Some(id) = owner {
                    self.owner = Some((id, replies.clone()));
                    self.owner_until = None;
                }
                (plan, Some(replies))
            }
            Waiting::Down(Down { cause, timeout_ms, volumes, replies }) => {
                if let Some(timeout_ms) = timeout_ms {
                    self.stack.set_grace(timeout_ms);
                }
                // On a full disk it goes down all the same.
                let _ = self.stack.remember(DOWN, &Ending { timeout_ms, volumes: volumes.clone() });
                (plan::down(&self.observed, &volumes, cause), replies)
            }
        };
        let (interrupt, interrupted) = watch::channel(false);
        let steps = plan.steps().map(|(_, step)| step.operation.to_string()).collect();
        let (stack, changes) = (self.stack.clone(), self.changes.clone());
        let task = tokio::spawn(async move { executor::run(&plan, &stack, &changes, interrupted).await });
        self.job = Some(Job { task, interrupt, is_down, steps, replies });
    }

    fn job_ended(&mut self, result: Result<(), ExecutorError>, changed: &mut UnboundedReceiver<Change>) {
        // What the job changed comes before its end.
        self.changes_so_far(changed);
        let Some(job) = self.job.take() else { return };
        if let Err(error) = &result {
            tracing::warn!(%error, "a plan was not carried out");
        }
        if job.is_down {
            self.stack.forget(DOWN);
        }
        if let Some(replies) = job.replies {
            for port in result.as_ref().err().map(ExecutorError::taken_by_strangers).unwrap_or_default() {
                let _ = replies.send(Reply::Event(Event::PortTaken(port)));
            }
            let _ = replies.send(match result {
                Ok(()) => Reply::Done,
                Err(error) => Reply::Failed(error.into_failure()),
            });
        }
        // Time for the owner to read the logs, if nothing is left; it hangs up when it has.
        self.last_used = Instant::now() + if self.owner.is_some() { LAST_READ } else { Duration::ZERO };
        self.begin_next();
    }

    fn change(&mut self, change: Change) {
        if !matches!(
            change,
            Change::Began(_) | Change::Done(_) | Change::Undoing(_) | Change::Notice(_) | Change::Warning(_)
        ) {
            self.generation += 1;
        }
        let observed = &mut self.observed;
        let event = match change {
            Change::Began(id) => self.step(id).map(Event::Began),
            Change::Done(id) => self.step(id).map(Event::Done),
            Change::Undoing(id) => self.step(id).map(Event::Undoing),
            Change::Network(network, there) => {
                observed.networks.insert(network, there);
                None
            }
            Change::NetworkRemoved(network) => {
                observed.networks.remove(&network);
                None
            }
            Change::Namespaces(service, fingerprint) => {
                observed.namespaces.insert(service, fingerprint);
                None
            }
            Change::NamespacesRemoved(service) => {
                observed.namespaces.remove(&service);
                observed.addresses.remove(&service);
                None
            }
            Change::Addresses(service, network, addresses) => {
                observed.addresses.entry(service).or_default().insert(network, addresses);
                None
            }
            Change::Detached(service, network) => {
                observed.addresses.get_mut(&service).and_then(|networks| networks.remove(&network));
                None
            }
            Change::Container(service, container) => {
                let state = container.state;
                self.stack.set_life(&service, Some(container.life()));
                observed.containers.insert(service.clone(), *container);
                Some(Event::Container(service, state))
            }
            // News of one that has been replaced since is none.
            Change::State(service, pid, _) if observed.containers.get(&service).is_some_and(|c| c.pid != Some(pid)) => {
                None
            }
            Change::State(service, _, state) => observed.containers.get_mut(&service).map(|container| {
                container.state = state;
                self.stack.set_life(&service, Some(container.life()));
                if let ContainerState::Exited(_) = state {
                    container.pid = None;
                    container.ports.clear();
                    self.stack.ended(&service);
                }
                Event::Container(service, state)
            }),
            Change::ContainerRemoved(service) => {
                observed.containers.remove(&service);
                self.stack.set_life(&service, None);
                Some(Event::Removed(service))
            }
            Change::GroupGiven => {
                observed.host.cgroups.ask = false;
                None
            }
            Change::OutOfMemory(service, pid, kills) => {
                let container = observed.containers.get_mut(&service).filter(|container| container.pid == Some(pid));
                container.filter(|container| container.oom_kills < kills).map(|container| {
                    container.oom_kills = kills;
                    Event::OutOfMemory { service, kills, limit: container.limits.memory }
                })
            }
            Change::Uplink(fingerprint) => {
                observed.uplink = Some(fingerprint);
                None
            }
            Change::Notice(text) => Some(Event::Notice(text)),
            Change::Warning(text) => Some(Event::Warning(text)),
        };
        let Some(event) = event else { return };
        let job = self.job.as_ref().and_then(|job| job.replies.as_ref());
        let owner = self.owner.as_ref().map(|(_, replies)| replies);
        for replies in [job, owner.filter(|owner| job.is_none_or(|job| !job.same_channel(owner)))].into_iter().flatten()
        {
            let _ = replies.send(Reply::Event(event.clone()));
        }
    }

    /// Takes all that has been told.
    fn changes_so_far(&mut self, changed: &mut UnboundedReceiver<Change>) {
        while let Ok(change) = changed.try_recv() {
            self.change(change);
        }
    }

    fn step(&self, id: StepId) -> Option<String> {
        self.job.as_ref()?.steps.get(id).cloned()
    }
}
