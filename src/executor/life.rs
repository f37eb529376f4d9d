//! The life of containers that have come up: a task for each, which is told what happens to it and does what
//! [`life::step`] says.
//!
//! ```text
//! exit.rs ──Ended──┐
//! steps of plans ──┼──▶ Unit ──▶ life::step ──▶ start again, stop, probe.rs
//! other units ─────┘     │
//!                        └─ Change ──▶ whoever keeps the picture of the stack
//! ```
//!
//! A unit is there from the first start of a container until it is removed or somebody starts it anew. It sleeps until a
//! message comes, and until [`life::Stage::due`] if there is something to be done then.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{
    sync::{
        OnceCell,
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
        oneshot, watch,
    },
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use super::{Change, ExecutorError, Stack, container, facts, hooks, probe, run::Claims, stop::stop, uplink};
use crate::{
    diagnostics::chain,
    life::{self, Action, Happening, Memory, Past, Remembered, Stage, Then},
    model::{ContainerState, LifePolicy, ProbeLog, ProbeResult, ServiceName},
    network::{listening::Listening, ports::claim},
    plan::ContainerSpec,
};

/// How long a probe that is dropped may take to end before what waits for that goes on.
const PROBE_PATIENCE: Duration = Duration::from_secs(2);

/// The hold on the task of a container.
pub(super) struct Unit {
    messages: UnboundedSender<Message>,
    /// Somebody wants it stopped: nothing is begun in it any more that would be waited for.
    stopping: watch::Sender<bool>,
    restart_with: BTreeSet<ServiceName>,
    /// How far it has come since it was begun.
    come_up: watch::Receiver<ComeUp>,
    task: JoinHandle<()>,
}

/// How far a container has come since somebody asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ComeUp {
    /// Its first start is all that there has been.
    First,
    /// It has ended, and is started again.
    Again,
    /// It has been started again, with all that comes with it.
    Is,
    /// It has ended for good, or somebody stops it.
    Not,
}

/// What a unit is told.
enum Message {
    /// Something has happened, or is asked for; dropped when it has been dealt with.
    Happens(Happening, Option<oneshot::Sender<()>>),
    /// All of its processes are frozen, after [`Happening::Paused`] has kept everybody out.
    Frozen(oneshot::Sender<()>),
    /// The container with this first process has ended.
    Ended { pid: i32, code: i32, dealt_with: oneshot::Sender<()> },
    /// There is nothing more to do.
    Leave,
}

/// One start of a container, for who carries it out.
pub(super) struct Attempt {
    messages: UnboundedSender<Message>,
    /// How often it has been started again by itself.
    pub(super) restarts: u32,
    /// It has been there before, and stays there should this not succeed.
    pub(super) again: bool,
    /// Nobody wants it any more.
    is_over: watch::Receiver<bool>,
}

impl Attempt {
    /// Where its end is told.
    pub(super) fn teller(&self) -> EndTeller {
        EndTeller(self.messages.clone())
    }

    /// Waits for what the container does on its way to its program, which may be for a file system that does not answer. Once
    /// nobody wants it any more it has as long as it would have to stop.
    pub(super) async fn wait_for<T>(
        &self,
        way: impl Future<Output = Result<T, ExecutorError>>,
        service: &ServiceName,
        stack: &Stack,
    ) -> Result<T, ExecutorError> {
        let mut is_over = self.is_over.clone();
        let over = async {
            if is_over.wait_for(|over| *over).await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(stack.grace_of(service)).await;
        };
        tokio::select! {
            biased;
            result = way => result,
            () = over => Err(ExecutorError::Interrupted),
        }
    }
}

/// Tells of the end of a container.
pub(super) struct EndTeller(UnboundedSender<Message>);

impl EndTeller {
    /// Comes back when everybody knows of it.
    pub(super) async fn tell(self, pid: i32, code: i32) {
        let (dealt_with, waited_for) = oneshot::channel();
        let _ = self.0.send(Message::Ended { pid, code, dealt_with });
        let _ = waited_for.await;
    }
}

/// Starts a container, and looks after it from then on. Those that restart with it do, unless it is `alone`. When `is_over` becomes
/// true nobody wants it any more.
pub(super) async fn begin(
    spec: &ContainerSpec,
    alone: bool,
    stack: &Arc<Stack>,
    claims: &Claims,
    changes: &UnboundedSender<Change>,
    is_over: &watch::Receiver<bool>,
) -> Result<(), ExecutorError> {
    // One that was there before and may be about to be started again.
    hands_off(&spec.service, stack).await;
    leave(&spec.service, stack).await;
    let (messages, queue) = unbounded_channel();
    let attempt = Attempt { messages: messages.clone(), restarts: 0, again: false, is_over: is_over.clone() };
    container::start(spec, stack, claims, changes, &attempt).await?;
    let stage = Stage::Starting { past: Past::default() };
    let written = Memory { pid: 0, past: Past::default(), stage: Remembered::Starting };
    look_after(spec, stack, changes, (messages, queue), (stage, written), Instant::now());
    if !alone {
        tell_dependents(&spec.service, stack);
    }
    Ok(())
}

/// Makes the unit of a container that is there, in this stage, of which the facts say this; its moments are reckoned from
/// `epoch`.
fn look_after(
    spec: &ContainerSpec,
    stack: &Arc<Stack>,
    changes: &UnboundedSender<Change>,
    (messages, queue): (UnboundedSender<Message>, UnboundedReceiver<Message>),
    (stage, written): (Stage, Memory),
    epoch: Instant,
) {
    let (stopping, is_stopping) = watch::channel(matches!(stage, Stage::Stopping { .. }));
    let (come_up, has_come_up) = watch::channel(ComeUp::First);
    let driver = Driver {
        is_stopping,
        spec: spec.clone(),
        policy: spec.life.clone(),
        stack: stack.clone(),
        changes: changes.clone(),
        messages: messages.clone(),
        is_frozen: matches!(stage, Stage::Paused { .. }),
        stage,
        written,
        epoch,
        pid: pid_of(stack, &spec.service),
        listening: Arc::default(),
        probe: None,
        log: ProbeLog::default(),
        said: None,
        come_up,
    };
    let task = tokio::spawn(driver.run(queue));
    let unit =
        Unit { messages, stopping, restart_with: spec.restart_with().cloned().collect(), come_up: has_come_up, task };
    stack.objects().units.insert(spec.service.clone(), unit);
}

/// A unit that is to go on with the container of a supervisor that has died.
pub(super) struct Heir {
    messages: UnboundedSender<Message>,
    queue: UnboundedReceiver<Message>,
    memory: Memory,
    /// How long the container has run.
    ran: Duration,
}

impl Heir {
    pub(super) fn new(memory: Memory, ran: Duration) -> Self {
        let (messages, queue) = unbounded_channel();
        Self { messages, queue, memory, ran }
    }

    /// Where its end is told.
    pub(super) fn teller(&self) -> EndTeller {
        EndTeller(self.messages.clone())
    }

    /// Goes on. All that it may need has to be there.
    pub(super) fn go_on(self, spec: &ContainerSpec, stack: &Arc<Stack>, changes: &UnboundedSender<Change>) {
        let Self { messages, queue, memory, ran } = self;
        // No moment is before the one that all are reckoned from, and the container has begun before this supervisor has.
        let epoch = Instant::now().checked_sub(ran).unwrap_or_else(Instant::now);
        let stage = memory.recall(&spec.life, ran, epoch.elapsed());
        look_after(spec, stack, changes, (messages, queue), (stage, memory), epoch);
    }
}

/// From now on a container is not started again by itself: somebody wants it stopped. When this comes back no start is
/// under way. False if nobody looks after it.
pub(super) async fn hands_off(service: &ServiceName, stack: &Stack) -> bool {
    tell(service, stack, Happening::StopAsked).await
}

/// How long a container that ends again and again before it has come up is waited for.
const COMING_UP: Duration = Duration::from_secs(5 * 60);

/// Waits until a container that has ended before it had come up has done so after all, as its policy has it; `again` hears that it
/// is going to be tried. False if it has not, or nobody wants to know any more, since `is_over` has become true.
pub(super) async fn comes_up_after_all(
    service: &ServiceName,
    stack: &Stack,
    mut is_over: watch::Receiver<bool>,
    again: impl FnOnce(),
) -> bool {
    let come_up = stack.objects().units.get(service).map(|unit| unit.come_up.clone());
    let Some(mut come_up) = come_up else { return false };
    let comes = async {
        let Ok(far) = come_up.wait_for(|far| *far != ComeUp::First).await.map(|far| *far) else { return false };
        if far == ComeUp::Again {
            again();
        }
        let end = come_up.wait_for(|far| matches!(far, ComeUp::Is | ComeUp::Not)).await;
        end.is_ok_and(|far| *far == ComeUp::Is)
    };
    tokio::select! {
        comes = tokio::time::timeout(COMING_UP, comes) => comes.unwrap_or(false),
        _ = is_over.wait_for(|over| *over) => false,
    }
}

/// Tells the unit of a container, and waits until that has been dealt with. False if there is none.
pub(super) async fn tell(service: &ServiceName, stack: &Stack, happening: Happening) -> bool {
    let (dealt_with, waited_for) = oneshot::channel();
    let sent = stack.objects().units.get(service).map(|unit| {
        match happening {
            Happening::StopAsked => _ = unit.stopping.send_replace(true),
            Happening::StartAsked => _ = unit.stopping.send_replace(false),
            _ => {}
        }
        let _ = unit.messages.send(Message::Happens(happening, Some(dealt_with)));
    });
    if sent.is_some() {
        let _ = waited_for.await;
    }
    sent.is_some()
}

/// Tells the unit of a container that what [`Happening::Paused`] has made ready for has come: only now others hear of it.
pub(super) async fn frozen(service: &ServiceName, stack: &Stack) {
    let (dealt_with, waited_for) = oneshot::channel();
    let sent = stack.objects().units.get(service).map(|unit| unit.messages.send(Message::Frozen(dealt_with)));
    if sent.is_some() {
        let _ = waited_for.await;
    }
}

/// Ends the unit of a container, once it has dealt with all that it has been told.
pub(super) async fn leave(service: &ServiceName, stack: &Stack) {
    let unit = stack.objects().units.remove(service);
    if let Some(unit) = unit {
        let _ = unit.messages.send(Message::Leave);
        let _ = unit.task.await;
    }
}

/// No container is started again by itself: all are about to be killed.
pub(super) fn hands_off_all(stack: &Stack) {
    for unit in stack.objects().units.values() {
        unit.stopping.send_replace(true);
        let _ = unit.messages.send(Message::Happens(Happening::StopAsked, None));
    }
}

/// Tells those that restart with a service that it has been started.
fn tell_dependents(service: &ServiceName, stack: &Stack) {
    for unit in stack.objects().units.values().filter(|unit| unit.restart_with.contains(service)) {
        let _ = unit.messages.send(Message::Happens(Happening::NeededStarted, None));
    }
}

fn pid_of(stack: &Stack, service: &ServiceName) -> i32 {
    stack.objects().containers.get(service).map_or(0, |container| container.pid)
}

struct Driver {
    spec: ContainerSpec,
    policy: LifePolicy,
    stack: Arc<Stack>,
    changes: UnboundedSender<Change>,
    /// Somebody wants it stopped.
    is_stopping: watch::Receiver<bool>,
    /// To itself.
    messages: UnboundedSender<Message>,
    stage: Stage,
    /// What the facts say of it.
    written: Memory,
    /// What `now` is reckoned from.
    epoch: Instant,
    /// The first process of the latest one.
    pid: i32,
    /// Its network namespace, which stays, once somebody has asked who listens there.
    listening: Arc<OnceCell<Listening>>,
    probe: Option<Probe>,
    log: ProbeLog,
    /// It is paused, and that has been told.
    is_frozen: bool,
    /// Why it could not be started the last time, so that it is said once.
    said: Option<String>,
    come_up: watch::Sender<ComeUp>,
}

/// A look under way.
struct Probe {
    result: JoinHandle<Option<ProbeResult>>,
    drop: oneshot::Sender<()>,
}

impl Driver {
    async fn run(mut self, mut queue: UnboundedReceiver<Message>) {
        // Nobody has told yet that it is up; or it was asked to stop by somebody who may not have come to it.
        if matches!(self.stage, Stage::Starting { .. } | Stage::Stopping { .. }) {
            self.happens(Happening::Runs).await;
        }
        loop {
            let due = self.stage.due().map(|due| self.epoch + due);
            tokio::select! {
                biased;
                message = queue.recv() => match message {
                    Some(Message::Happens(happening, dealt_with)) => {
                        self.happens(happening).await;
                        drop(dealt_with);
                    }
                    Some(Message::Frozen(dealt_with)) => {
                        self.frozen();
                        drop(dealt_with);
                    }
                    Some(Message::Ended { pid, code, dealt_with }) => {
                        // One that has been replaced since is no news.
                        if pid == self.pid {
                            self.happens(Happening::Ended(code)).await;
                        }
                        drop(dealt_with);
                    }
                    Some(Message::Leave) | None => {
                        self.drop_probe().await;
                        return;
                    }
                },
                result = looked(&mut self.probe) => {
                    self.probe = None;
                    self.probed(result).await;
                }
                () = sleep_until(due.unwrap_or(self.epoch)), if due.is_some() => self.happens(Happening::Due).await,
            }
        }
    }

    /// Goes from stage to stage until nothing more is to be done at once.
    async fn happens(&mut self, happening: Happening) {
        let mut next = Some(happening);
        while let Some(happening) = next.take() {
            let before = self.stage.state();
            let (stage, actions) = life::step(&self.policy, self.stage.clone(), happening, self.epoch.elapsed());
            self.stage = stage;
            self.write_down();
            let state = self.stage.state();
            let tells = match state {
                // That it runs has been told with all the rest of it, unless it was there all the time.
                ContainerState::Running => before == ContainerState::Paused && self.is_frozen,
                // It is not yet: nobody is to come in any more who would be frozen on his way.
                ContainerState::Paused => false,
                _ => state != before,
            };
            if tells {
                let _ = self.changes.send(Change::State(self.spec.service.clone(), self.pid, state));
            }
            self.is_frozen &= state == ContainerState::Paused;
            for action in actions {
                match action {
                    Action::Start => next = Some(self.start().await),
                    Action::Stop => self.stop(),
                    Action::Probe => self.begin_probe(),
                    Action::DropProbe => self.drop_probe().await,
                }
            }
            self.note_how_far(next);
        }
    }

    /// Notes how far it has come, for who waits for its first coming up.
    fn note_how_far(&self, next: Option<Happening>) {
        let far = match (&self.stage, next) {
            (Stage::Starting { .. }, Some(Happening::Runs)) => ComeUp::Is,
            (Stage::Ended { .. } | Stage::Stopping { then: Then::Stay, .. }, _) => ComeUp::Not,
            (Stage::BackingOff { .. } | Stage::Stopping { .. }, _) => ComeUp::Again,
            _ => return,
        };
        self.come_up.send_if_modified(|known| {
            let goes_on = matches!(known, ComeUp::First | ComeUp::Again) && *known != far;
            if goes_on {
                *known = far;
            }
            goes_on
        });
    }

    /// Tells that it is paused, once that is so; it may have ended on the way.
    fn frozen(&mut self) {
        if self.stage.state() == ContainerState::Paused && !self.is_frozen {
            self.is_frozen = true;
            let _ = self.changes.send(Change::State(self.spec.service.clone(), self.pid, ContainerState::Paused));
        }
    }

    /// Has the facts say where it is, for the next supervisor.
    fn write_down(&mut self) {
        // A start that has failed has left a process with the keeper, which nobody else has been told of.
        let memory = Memory::of(&self.stage, pid_of(&self.stack, &self.spec.service));
        // Of one that has just come up nothing is said: the next supervisor finds it running.
        let is_news = self.written != memory && !(memory.is_plain() && self.written.pid == 0);
        if !is_news {
            return;
        }
        match self.stack.record(&facts::life(&self.spec.service), &memory) {
            Ok(()) => self.written = memory,
            // What it says stays true of a while ago; the container is not to suffer from a full disk.
            Err(error) => tracing::warn!(service = %self.spec.service, %error, "its life is not written down"),
        }
    }

    /// Brings it up again, in the same namespaces and with the same ports, which nobody has had meanwhile.
    async fn start(&mut self) -> Happening {
        let service = &self.spec.service.clone();
        self.log = ProbeLog::default();
        let restarts = self.stage.past().restarts;
        let (messages, is_over) = (self.messages.clone(), self.is_stopping.clone());
        let attempt = Attempt { messages, restarts, again: true, is_over };
        let started = match self.claims() {
            Ok(claims) => container::start(&self.spec, &self.stack, &claims, &self.changes, &attempt).await,
            Err(error) => Err(error),
        };
        match started {
            Ok(()) => {
                let before = std::mem::replace(&mut self.pid, pid_of(&self.stack, service));
                if !self.spec.ports.is_empty() {
                    uplink::publish(service, before, &[], None, &self.stack).await;
                }
                if let Err(error) = hooks::after_start(&self.spec, &self.stack, self.is_stopping.clone()).await {
                    self.say(&error);
                    // It has not come up, and whoever asks for something else meanwhile is not kept waiting.
                    self.stack.set_grace_of(service, 0);
                    if let Err(error) = stop(service, &self.stack).await {
                        let _ = self.changes.send(Change::Warning(chain(&error)));
                    }
                    return Happening::Ended(container::NOT_STARTED);
                }
                self.said = None;
                tell_dependents(service, &self.stack);
                Happening::Runs
            }
            Err(error) => {
                // Who stops it knows.
                if !matches!(error, ExecutorError::Interrupted) {
                    self.say(&error);
                }
                Happening::Ended(container::NOT_STARTED)
            }
        }
    }

    /// Says once why it could not be started.
    fn say(&mut self, error: &ExecutorError) {
        let text = format!("service `{}` cannot be started again: {}", self.spec.service, chain(error));
        if self.said.as_ref() != Some(&text) {
            let _ = self.changes.send(Change::Warning(text.clone()));
        }
        self.said = Some(text);
    }

    /// Its ports once more: those that it still has are taken over from itself.
    fn claims(&self) -> Result<Claims, ExecutorError> {
        let mut claims = std::collections::BTreeMap::new();
        if !self.spec.ports.is_empty() {
            let objects = self.stack.objects();
            let held = objects.containers.get(&self.spec.service).into_iter();
            let held: Vec<_> = held.flat_map(|container| &container.forwarders).collect();
            let claimed = claim(&self.spec.ports, &held).map_err(|conflicts| ExecutorError::Ports { conflicts })?;
            claims.insert(self.spec.service.clone(), claimed);
        }
        Ok(Claims::new(claims))
    }

    /// Asks it to stop; its end comes as a message.
    fn stop(&self) {
        let (service, stack, changes) = (self.spec.service.clone(), self.stack.clone(), self.changes.clone());
        tokio::spawn(async move {
            hooks::before_stop(&service, &stack, &changes).await;
            if let Err(error) = stop(&service, &stack).await {
                let _ = changes.send(Change::Warning(chain(&error)));
            }
        });
    }

    fn begin_probe(&mut self) {
        let Some(check) = self.policy.health.clone() else { return };
        let (drop, dropped) = oneshot::channel();
        let look = probe::look(self.spec.service.clone(), check, self.stack.clone(), self.listening.clone(), dropped);
        self.probe = Some(Probe { result: tokio::spawn(look), drop });
    }

    /// Ends the look under way. Whoever freezes a container waits for this: nothing may be on its way into it then.
    async fn drop_probe(&mut self) {
        let Some(probe) = self.probe.take() else { return };
        let _ = probe.drop.send(());
        let _ = tokio::time::timeout(PROBE_PATIENCE, probe.result).await;
    }

    async fn probed(&mut self, result: Option<ProbeResult>) {
        // It has ended meanwhile, which is about to be told.
        let Some(result) = result else { return };
        let well = result.exit_code == 0;
        match result.output.trim() {
            said if well || said.is_empty() => _ = self.stack.objects().last_probes.remove(&self.spec.service),
            said => _ = self.stack.objects().last_probes.insert(self.spec.service.clone(), said.to_owned()),
        }
        self.log.add(result);
        let before = self.stage.state();
        let (stage, actions) =
            life::step(&self.policy, self.stage.clone(), Happening::Probed(well), self.epoch.elapsed());
        if let Some(checks) = stage.checks() {
            self.log.failing = checks.failing();
            let health = (checks.health(), self.log.clone());
            let _ = self.changes.send(Change::Health(self.spec.service.clone(), self.pid, health.0, health.1));
        } else if stage.state() == ContainerState::Stopping && before == ContainerState::Running {
            // For its health: it is stopped for it.
            self.log.failing = self.policy.health.as_ref().map_or(0, |check| check.retries);
            let health = (crate::model::Health::Unhealthy, self.log.clone());
            let _ = self.changes.send(Change::Health(self.spec.service.clone(), self.pid, health.0, health.1));
        }
        self.stage = stage;
        self.write_down();
        if self.stage.state() != before {
            let _ = self.changes.send(Change::State(self.spec.service.clone(), self.pid, self.stage.state()));
        }
        if actions.contains(&Action::Stop) {
            self.stop();
        }
    }
}

async fn looked(probe: &mut Option<Probe>) -> Option<ProbeResult> {
    match probe {
        None => std::future::pending().await,
        Some(probe) => (&mut probe.result).await.unwrap_or(None),
    }
}
