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
use jiff::Timestamp;
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
    model::{ContainerState, Health, Observed, ServiceName, StopSignal, Volume, VolumeName},
    plan::{self, Plan, StepId},
    state::{EventLog, Happening, Past, StackLayout},
};

/// What a connection asks of the dispatcher.
pub(super) enum Ask {
    Observe(oneshot::Sender<Snapshot>),
    Apply(Apply),
    Own(ConnectionId, UnboundedSender<Reply>),
    Down {
        client: ConnectionId,
        timeout_ms: Option<u64>,
        volumes: BTreeMap<VolumeName, Volume>,
        tenure: Option<u64>,
        replies: UnboundedSender<Reply>,
    },
    Kill,
    Events {
        id: ConnectionId,
        since: Option<Timestamp>,
        replies: UnboundedSender<Reply>,
    },
    Closed(ConnectionId),
}

/// A plan to carry out.
pub(super) struct Apply {
    pub(super) plan: Plan,
    pub(super) generation: u64,
    pub(super) files: Vec<PathBuf>,
    /// Who asked.
    pub(super) client: ConnectionId,
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

/// What the dispatcher has the facts say, and a later one reads there.
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

/// How long a supervisor with nothing to do waits for its first client.
fn patience(memory: &Memory, layout: &StackLayout) -> Duration {
    match memory.succeeds {
        false => FIRST_CLIENT,
        true if layout.is_reachable() => CLIENT_RETURNS,
        // The last one died while it removed what there was, and nobody can come any more.
        true => Duration::ZERO,
    }
}

/// Serves until nothing is left of the stack. Changes that are told already are what there is.
pub(super) async fn run(
    listener: UnixListener,
    stack: Arc<Stack>,
    routes: Vec<Ipv4Net>,
    (changes, mut changed): (UnboundedSender<Change>, UnboundedReceiver<Change>),
    memory: Memory,
) {
    let (asks, mut asked) = mpsc::unbounded_channel();
    let last_used = Instant::now() + patience(&memory, stack.layout());
    let host = host::of_machine(stack.ids(), routes, stack.cgroups().clone());
    let mut dispatcher = Dispatcher {
        stack: stack.clone(),
        observed: Observed { host, ..Observed::default() },
        // A plan that was made for another supervisor is for none that there is now.
        generation: if memory.succeeds { u64::from(std::process::id()) << 32 } else { 0 },
        files: memory.files,
        changes,
        keeper_gone: false,
        owner: None,
        // No other supervisor's.
        tenure: u64::from(std::process::id()) << 32,
        reader: None,
        job: None,
        waiting: VecDeque::new(),
        events: EventLog::open(stack.layout()),
        bystanders: Vec::new(),
        listeners: Vec::new(),
        connections: 0,
        last_used,
        owner_until: memory.owned.then(|| Instant::now() + OWNER_RETURNS),
    };
    while let Ok(change) = changed.try_recv() {
        // It has been there, which is no event.
        dispatcher.take_note(change);
    }
    if let Some(Ending { timeout_ms, volumes }) = memory.down {
        let cause = "down was asked for before the supervisor died";
        dispatcher.down(Down { timeout_ms, volumes, ..Down::because(cause) });
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
        let waits_until = dispatcher.waits_until();
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
            () = stack.keeper_gone(), if !dispatcher.keeper_gone => {
                dispatcher.keeper_gone = true;
                dispatcher.waiting.retain(|next| matches!(next, Waiting::Down(_)));
                tracing::error!("the keeper has ended");
                dispatcher.down(Down::because("the process that keeps the containers has ended"));
            }
            () = asked_to_end(&mut ends) => dispatcher.down(Down::because("the supervisor is asked to end")),
            () = sleep_until(waits_until), if Instant::now() < waits_until => {}
            () = sleep_until(dispatcher.owner_until.unwrap_or_else(Instant::now)), if dispatcher.owner_until.is_some() => {
                dispatcher.owner_until = None;
                dispatcher.down(Down::because("the `up` that the stack belongs to has not come back"));
            }
        }
    }
    stack.remove_group();
    stack.close_logs();
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
    /// Nothing can be started any more, and what there is goes down.
    keeper_gone: bool,
    /// The connection that the stack goes down with, and where it hears of events.
    owner: Option<(ConnectionId, UnboundedSender<Reply>)>,
    /// Grows when everything has been removed: whose stack it was has no say about what comes after.
    tenure: u64,
    /// Whose stack has gone, and until when he may read the last of its logs.
    reader: Option<(ConnectionId, Instant)>,
    job: Option<Job>,
    waiting: VecDeque<Waiting>,
    events: EventLog,
    /// Whose jobs are done, and who may be waiting for the end of all of it.
    bystanders: Vec<(ConnectionId, UnboundedSender<Reply>)>,
    /// Connections that hear of everything that happens to containers.
    listeners: Vec<(ConnectionId, UnboundedSender<Reply>)>,
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
    /// Who asked for it, and how it is told that he has gone.
    client: Option<ConnectionId>,
    abandon: watch::Sender<bool>,
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
    /// Nothing is to be done when this is over.
    tenure: Option<u64>,
    client: Option<ConnectionId>,
    replies: Option<UnboundedSender<Reply>>,
}

impl Down {
    fn because(cause: &'static str) -> Self {
        Self { cause, timeout_ms: None, volumes: BTreeMap::new(), tenure: None, client: None, replies: None }
    }

    /// Tells that it is done, and that the end of the supervisor is not to be waited for.
    fn answer_needless(&self) {
        if let Some(replies) = &self.replies {
            let _ = replies.send(Reply::Done);
            let _ = replies.send(Reply::Event(Event::PlanBegan));
        }
    }
}

impl Dispatcher {
    fn is_finished(&self) -> bool {
        if self.keeper_gone && self.job.is_none() && self.waiting.is_empty() {
            return true;
        }
        let idle = self.job.is_none() && self.waiting.is_empty() && self.observed.containers.is_empty();
        idle && Instant::now() >= self.waits_until()
    }

    /// Until then nothing being left is no reason to end.
    fn waits_until(&self) -> Instant {
        self.reader.map_or(self.last_used, |(_, until)| until.max(self.last_used))
    }

    fn ask(&mut self, ask: Ask) {
        match ask {
            Ask::Observe(answer) => {
                let supervisor = std::process::id() as i32;
                let (observed, files, generation) = (self.observed.clone(), self.files.clone(), self.generation);
                let keeper = self.stack.keeper_pid();
                let _ = answer.send(Snapshot { observed, files, generation, supervisor, keeper });
            }
            Ask::Apply(apply) if apply.plan.only_signals() => self.send_signals(apply),
            Ask::Apply(apply) => self.begin_or_wait(Waiting::Apply(apply)),
            Ask::Events { id, since, replies } => {
                // What is written down and what is still to come meet here, and nothing falls between.
                let known = since.map(|since| {
                    EventLog::read(self.stack.layout()).into_iter().filter(move |happening| happening.time >= since)
                });
                known.into_iter().flatten().for_each(|happening| {
                    let _ = replies.send(Reply::Happened(happening));
                });
                self.listeners.push((id, replies));
            }
            Ask::Own(id, replies) => {
                if self.owner_until.take().is_some() {
                    let _ = replies.send(Reply::Done);
                    let _ = replies.send(Reply::Event(Event::Owned(self.tenure)));
                    self.owner = Some((id, replies));
                } else {
                    let failure = Failure::operation("the stack does not belong to an `up` that has lost it");
                    let _ = replies.send(Reply::Failed(failure));
                }
            }
            Ask::Down { client, timeout_ms, volumes, tenure, replies } => {
                let (cause, client) = ("down was asked for", Some(client));
                self.down(Down { cause, timeout_ms, volumes, tenure, client, replies: Some(replies) });
            }
            Ask::Kill => self.stack.signal_all(StopSignal::KILL),
            Ask::Closed(id) => {
                self.connections -= 1;
                self.listeners.retain(|(listener, _)| *listener != id);
                self.bystanders.retain(|(bystander, _)| *bystander != id);
                if let Some(job) = self.job.as_mut().filter(|job| job.client == Some(id)) {
                    job.client = None;
                    if !job.is_down {
                        job.abandon.send_replace(true);
                    }
                }
                self.reader = self.reader.filter(|(reader, _)| *reader != id);
                // Nobody wants any more what it still waits for.
                self.waiting.retain(|next| !matches!(next, Waiting::Apply(apply) if apply.owner == Some(id)));
                if self.owner.as_ref().is_some_and(|(owner, _)| *owner == id) {
                    self.owner = None;
                    self.last_used = Instant::now();
                    let down = Down::because("the `up` that the stack belongs to has ended");
                    if self.job.as_ref().is_some_and(|job| job.is_down) {
                        // Should that not succeed. What has been asked for since comes after.
                        self.waiting.push_front(Waiting::Down(down));
                    } else if self.job.is_some() || !self.observed.containers.is_empty() {
                        self.down(down);
                    } else {
                        self.stack.no_longer(OWNED);
                    }
                } else if self.connections == 0 {
                    self.last_used = self.last_used.min(Instant::now());
                }
            }
        }
    }

    /// Whether it is meant for a stack that has gone. Who has lost it to a supervisor's death, and has not come back, owns it still.
    fn is_past(&self, down: &Down) -> bool {
        down.tenure.is_some_and(|tenure| tenure != self.tenure) && self.owner_until.is_none()
    }

    fn down(&mut self, down: Down) {
        if self.is_past(&down) {
            return down.answer_needless();
        }
        match &self.job {
            Some(job) if !job.is_down => {
                job.interrupt.send_replace(true);
            }
            _ => {}
        }
        if let (Some(job), Some(timeout_ms)) = (&self.job, down.timeout_ms) {
            // Less patience than the one that is under way has, which may be stopping something, too.
            let (stack, patience) = (self.stack.clone(), Duration::from_millis(timeout_ms));
            let under_way = job.task.abort_handle();
            tokio::spawn(async move {
                tokio::time::sleep(patience).await;
                if !under_way.is_finished() {
                    stack.signal_all(StopSignal::KILL);
                }
            });
        }
        self.begin_or_wait(Waiting::Down(down));
    }

    /// A signal waits for nobody: what is under way may be waiting for just that.
    fn send_signals(&mut self, Apply { plan, generation, replies, .. }: Apply) {
        if generation != self.generation {
            let _ = replies.send(Reply::Stale);
            return;
        }
        let _ = replies.send(Reply::Accepted);
        let stack = self.stack.clone();
        tokio::spawn(async move {
            // Its steps are not those of the job.
            let (steps, _) = mpsc::unbounded_channel();
            let (_never, interrupted) = watch::channel(false);
            let (_stays, abandoned) = watch::channel(false);
            let sent = executor::run(&plan, &stack, &steps, interrupted, abandoned).await;
            let _ = replies.send(match sent {
                Ok(()) => Reply::Done,
                Err(error) => Reply::Failed(error.into_failure()),
            });
        });
    }

    fn begin_or_wait(&mut self, next: Waiting) {
        if self.keeper_gone && matches!(next, Waiting::Apply(_)) {
            // No answer: whoever asks hears this process end, and asks the next one.
            return;
        }
        if let (Waiting::Apply(apply), Some(_)) = (&next, &self.job) {
            let _ = apply.replies.send(Reply::Event(Event::Queued));
        }
        self.waiting.push_back(next);
        if self.job.is_none() {
            self.begin_next();
        }
    }

    fn begin_next(&mut self) {
        let Some(next) = self.waiting.pop_front() else { return };
        let is_down = matches!(next, Waiting::Down(_));
        let (plan, replies, client) = match next {
            Waiting::Apply(Apply { generation, replies, .. }) if generation != self.generation => {
                // Somebody was faster.
                let _ = replies.send(Reply::Stale);
                // It will look again and come back.
                self.last_used = Instant::now() + FIRST_CLIENT;
                return self.begin_next();
            }
            Waiting::Apply(Apply { plan, files, client, owner, replies, .. }) => {
                let mut written = self.stack.remember(FILES, &files);
                if owner.is_some() {
                    written = written.and_then(|()| self.stack.remember(OWNED, &true));
                }
                if let Err(error) = written {
                    let facts = self.stack.layout().facts();
                    let what =
                        format!("cannot write down for the next supervisor what is asked for, in {}", facts.display());
                    let failure = Failure::operation(what).caused_by(&error);
                    let _ = replies.send(Reply::Failed(failure));
                    return self.begin_next();
                }
                let _ = replies.send(Reply::Accepted);
                self.files = files;
                if let Some(id) = owner {
                    let _ = replies.send(Reply::Event(Event::Owned(self.tenure)));
                    self.owner = Some((id, replies.clone()));
                    self.owner_until = None;
                }
                (plan, Some(replies), Some(client))
            }
            Waiting::Down(down) if self.is_past(&down) => {
                down.answer_needless();
                return self.begin_next();
            }
            Waiting::Down(Down { cause, timeout_ms, volumes, client, replies, .. }) => {
                if let Some(timeout_ms) = timeout_ms {
                    self.stack.set_grace(timeout_ms);
                }
                // On a full disk it goes down all the same.
                let _ = self.stack.remember(DOWN, &Ending { timeout_ms, volumes: volumes.clone() });
                (plan::down(&self.observed, &volumes, cause), replies, client)
            }
        };
        if let Some(owner) = self.owner_besides(replies.as_ref()) {
            let _ = owner.send(Reply::Event(Event::PlanBegan));
        }
        if !is_down {
            // The end that they wait for does not come.
            for (_, bystander) in self.bystanders.drain(..) {
                let _ = bystander.send(Reply::Event(Event::PlanBegan));
            }
        }
        let (interrupt, interrupted) = watch::channel(false);
        let steps = plan.steps().map(|(_, step)| step.operation.to_string()).collect();
        let (stack, changes) = (self.stack.clone(), self.changes.clone());
        let (abandon, abandoned) = watch::channel(false);
        let task = tokio::spawn(async move {
            stack.leaves(is_down).await;
            executor::run(&plan, &stack, &changes, interrupted, abandoned).await
        });
        self.job = Some(Job { task, interrupt, client, abandon, is_down, steps, replies });
    }

    fn job_ended(&mut self, result: Result<(), ExecutorError>, changed: &mut UnboundedReceiver<Change>) {
        // What the job changed comes before its end.
        self.changes_so_far(changed);
        let Some(job) = self.job.take() else { return };
        if let Err(error) = &result {
            tracing::warn!(%error, "a plan was not carried out");
        }
        if job.is_down {
            // Whoever brings it up next does so for himself, whenever it is heard that the last owner has gone.
            if result.is_ok() {
                self.tenure += 1;
                if let Some((id, replies)) = self.owner.take() {
                    let _ = replies.send(Reply::Event(Event::Disowned));
                    self.reader = Some((id, Instant::now() + LAST_READ));
                }
            }
            if self.owner.is_none() {
                self.owner_until = None;
                self.stack.no_longer(OWNED);
            }
            self.stack.no_longer(DOWN);
        }
        if let Some(owner) = self.owner_besides(job.replies.as_ref()) {
            let _ = owner.send(Reply::Event(Event::PlanEnded));
        }
        if let Some(replies) = job.replies {
            for port in result.as_ref().err().map(ExecutorError::taken_by_strangers).unwrap_or_default() {
                let _ = replies.send(Reply::Event(Event::PortTaken(port)));
            }
            let _ = replies.send(match result {
                Ok(()) => Reply::Done,
                Err(error) => Reply::Failed(error.into_failure()),
            });
            let is_owner = self.owner.as_ref().is_some_and(|(_, owner)| owner.same_channel(&replies));
            self.bystanders.extend(job.client.filter(|_| !is_owner).map(|client| (client, replies)));
        }
        // Time for the owner to read the logs, if nothing is left; it hangs up when it has.
        self.last_used = Instant::now() + if self.owner.is_some() { LAST_READ } else { Duration::ZERO };
        self.begin_next();
    }

    /// Who the stack belongs to, if that is not who has asked for the job.
    fn owner_besides(&self, job: Option<&UnboundedSender<Reply>>) -> Option<&UnboundedSender<Reply>> {
        let owner = self.owner.as_ref().map(|(_, replies)| replies);
        owner.filter(|owner| job.is_none_or(|job| !job.same_channel(owner)))
    }

    /// Writes down what a change means for a container, and tells those who listen. To be called before it is taken note of.
    fn tell_what_happens(&mut self, change: &Change) {
        for happening in happenings(&self.observed, change) {
            let service = ServiceName::try_from(happening.service.clone()).ok();
            let image = service.and_then(|service| self.stack.image_of(&service));
            let happening = match image {
                Some(image) => happening.with("image", image),
                None => happening,
            };
            if let Err(error) = self.events.add(&happening) {
                tracing::warn!(%error, "an event is not written down");
            }
            self.listeners.retain(|(_, replies)| replies.send(Reply::Happened(happening.clone())).is_ok());
        }
    }

    fn change(&mut self, change: Change) {
        self.tell_what_happens(&change);
        self.take_note(change);
    }

    fn take_note(&mut self, change: Change) {
        if !matches!(
            change,
            Change::Began(_)
                | Change::Done(_)
                | Change::Undoing(_)
                | Change::Signalled(..)
                | Change::Stopped(_)
                | Change::Health(..)
                | Change::Waiting(_)
                | Change::Waited(..)
                | Change::Sync(_)
                | Change::Notice(_)
                | Change::Warning(_)
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
            Change::State(service, pid, _)
                if observed.containers.get(&service).is_some_and(|c| c.pid != Some(pid) && !is_between(c.state)) =>
            {
                None
            }
            Change::State(service, _, state) => observed.containers.get_mut(&service).map(|container| {
                let goes_on = container.state == ContainerState::Paused && state == ContainerState::Running;
                container.state = state;
                // What the probes said was of the one that has ended.
                container.health = match (container.health, state) {
                    (Some(_), ContainerState::Restarting(_) | ContainerState::Starting) => Some(Health::Starting),
                    (Some(_), ContainerState::Exited(_)) => Some(Health::Unhealthy),
                    (health, _) => health,
                };
                self.stack.set_life(&service, Some(container.life()));
                match state {
                    ContainerState::Exited(_) => {
                        container.pid = None;
                        container.ports.clear();
                        self.stack.ended(&service);
                    }
                    // Its ports stay its own.
                    ContainerState::Restarting(_) => {
                        container.pid = None;
                        container.restarts += 1;
                    }
                    ContainerState::Starting => container.pid = None,
                    _ => {}
                }
                if goes_on { Event::Unpaused(service) } else { Event::Container(service, state) }
            }),
            Change::Health(service, pid, health, probes) => {
                let container = observed.containers.get_mut(&service).filter(|container| container.pid == Some(pid));
                container.and_then(|container| {
                    container.probes = probes;
                    let changed = container.health.replace(health) != Some(health);
                    // Probes that find what was known make no plan stale.
                    changed.then(|| {
                        self.generation += 1;
                        self.stack.set_life(&service, Some(container.life()));
                        Event::Health(service, health)
                    })
                })
            }
            Change::ContainerRemoved(service) => {
                observed.containers.remove(&service);
                self.stack.set_life(&service, None);
                self.stack.forget(&service);
                Some(Event::Removed(service))
            }
            Change::Signalled(..) | Change::Stopped(_) => None,
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
            Change::Waiting(waiting) => Some(Event::Waiting(waiting)),
            Change::Waited(service, until) => Some(Event::Waited(service, until)),
            Change::Sync(seen) => {
                seen.notify_one();
                None
            }
            Change::Notice(text) => Some(Event::Notice(text)),
            Change::Warning(text) => Some(Event::Warning(text)),
        };
        let Some(event) = event else { return };
        let job = self.job.as_ref().and_then(|job| job.replies.as_ref());
        // Those whose turn has not come wait too, and are told for what.
        let of_all = matches!(event, Event::Waiting(_) | Event::Waited(..));
        let queued = self.waiting.iter().filter_map(|next| match next {
            Waiting::Apply(apply) if of_all => Some(&apply.replies),
            Waiting::Apply(_) | Waiting::Down(_) => None,
        });
        for replies in [job, self.owner_besides(job)].into_iter().flatten().chain(queued) {
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

/// What a change of the stack means for its containers, in Docker's words (moby, `daemon/events.go`).
fn happenings(observed: &Observed, change: &Change) -> Vec<Happening> {
    let known = |service: &ServiceName| observed.containers.get(service);
    let of = |action: &str, service: &ServiceName, name: &str| Happening::now(action, service.as_str(), name);
    match change {
        Change::Container(service, container) => {
            let before = known(service);
            // One that is started again by itself is on its way there before.
            let runs = |state: ContainerState| state.is_alive() && state != ContainerState::Starting;
            let starts = container.state.is_alive() && before.is_none_or(|before| !runs(before.state));
            let (made, starts) = (before.is_none().then_some("create"), starts.then_some("start"));
            made.into_iter().chain(starts).map(|action| of(action, service, &container.name)).collect()
        }
        Change::State(service, pid, state) => {
            let Some(container) = known(service).filter(|container| container.pid == Some(*pid)) else {
                return Vec::new();
            };
            let happening = match (container.state, state) {
                (before, ContainerState::Exited(code) | ContainerState::Restarting(code)) => {
                    let died = before.exit_code().is_none();
                    died.then(|| of("die", service, &container.name).with("exitCode", code))
                }
                (ContainerState::Paused, ContainerState::Running) => Some(of("unpause", service, &container.name)),
                (ContainerState::Paused, _) => None,
                (_, ContainerState::Paused) => Some(of("pause", service, &container.name)),
                _ => None,
            };
            happening.into_iter().collect()
        }
        Change::Health(service, pid, health, _) => {
            let container = known(service).filter(|it| it.pid == Some(*pid) && it.health != Some(*health));
            let action = format!("health_status: {}", health.name());
            container.map(|container| of(&action, service, &container.name)).into_iter().collect()
        }
        Change::Signalled(service, pid, signal) => {
            let container = known(service).filter(|container| container.pid == Some(*pid));
            let sent = container.map(|container| of("kill", service, &container.name).with("signal", signal.number()));
            sent.into_iter().collect()
        }
        Change::Stopped(service) => known(service).map(|it| of("stop", service, &it.name)).into_iter().collect(),
        Change::OutOfMemory(service, pid, kills) => {
            let container = known(service).filter(|it| it.pid == Some(*pid) && it.oom_kills < *kills);
            container.map(|container| of("oom", service, &container.name)).into_iter().collect()
        }
        Change::ContainerRemoved(service) => {
            known(service).map(|container| of("destroy", service, &container.name)).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// Whether a container has ended and is on its way to the next start, so that it has no first process to be known by.
fn is_between(state: ContainerState) -> bool {
    matches!(state, ContainerState::Restarting(_) | ContainerState::Starting)
}
