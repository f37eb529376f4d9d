//! From the specification of a container to a running one.
//!
//! ```text
//! material.rs: folder, layers, volumes ──┐
//! grouped.rs: control group, limits ─────┼──▶ launch.rs, to the keeper ──▶ way.rs, to the gate ──▶ Began, to the facts ──▶ program ──▶ watch
//! streamed.rs: pipes, log ───────────────┘                                                         ports.rs, picture.rs: what others see
//! ```

mod grouped;
mod launch;
mod material;
mod picture;
mod ports;
mod streamed;
mod way;

use std::{
    fs::File,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use tokio::sync::{mpsc::UnboundedSender, watch};

use grouped::Grouped;
pub(super) use launch::process;
use launch::{launch, namespaces};
pub(super) use material::create;
use material::{Material, locks};
pub(super) use picture::made;
use picture::observed;
use ports::{is_led_to_by_uplink, publish};
use streamed::{Streamed, streamed};
pub(super) use streamed::{log_writer, written_of};
use way::Way;

use super::{
    Change, ExecutorError, Stack, devices,
    exit::{Kills, tell_exit},
    facts::{self, Began, GATE, of_service},
    family::Family,
    freeze::Freezer,
    life::{Attempt, EndTeller},
    logs, mounts,
    run::Claims,
    stack::Running,
    stop::{end, forget, take_back},
    streams::Streams,
    uplink,
    volume::VolumeFolder,
};
use crate::{
    cgroup,
    image::store::InUse,
    life::{Memory, Past, Remembered},
    model::{Container, ContainerState, PublishedPort, ServiceName},
    plan::{ContainerSpec, Source},
    sandbox::{Forget, Gate, LaunchFds, Process, Started},
    sys::ExitStatus,
};

/// What Docker says of a container that does not come up.
pub(super) const NOT_STARTED: i32 = 128;

/// A start of a container.
struct Start<'a> {
    spec: &'a ContainerSpec,
    stack: &'a Stack,
    attempt: &'a Attempt,
    changes: &'a UnboundedSender<Change>,
}

/// Makes the container of `spec` and waits until its program runs. One that does not come up is gone, unless it was there
/// before: then it still is.
pub(super) async fn start(
    spec: &ContainerSpec,
    stack: &Stack,
    claims: &Claims,
    changes: &UnboundedSender<Change>,
    attempt: &Attempt,
) -> Result<(), ExecutorError> {
    let start = Start { spec, stack, attempt, changes };
    let Material { folder, images, root, volumes, mut unfinished } = Material::of(spec, stack, attempt.again).await?;
    let filling = mounts::wait_for_volumes(spec, stack, &volumes).await;
    let mut mounts = mounts::mounts(spec, stack, &volumes, changes)?;
    mounts.extend(devices::mounts(spec, stack)?);
    let held: Vec<File> = volumes.values().filter_map(VolumeFolder::hold).collect();
    let (join, namespaces) = namespaces(spec, stack).await?;
    let (grouped, cgroup) = Grouped::of(spec, stack, &mut unfinished)?;
    let launch = launch(spec, stack, root, &folder, mounts, join, &cgroup);

    let log = stack.layout.log(&written_of(&spec.service));
    let writer = log_writer(spec, stack).await.map_err(files(spec, "keep the log", log.path()))?;
    let Streamed { stdin, stdout, stderr, socket, handed_out, pump, streams, listeners, mut keep } =
        streamed(spec, stack, writer.clone()).map_err(files(spec, "keep the log", log.path()))?;
    keep.extend(locks(spec, &held, &images)?);
    let gated = |e| files(spec, "start", Path::new(spec.name.as_str()))(e);
    let (gate, theirs) = Gate::new().map_err(gated)?;
    keep.push((of_service(&spec.service, GATE), gate.to_keep().map_err(gated)?));
    let (cgroup, older_cgroups) = (cgroup.v2, cgroup.v1);
    let fds = LaunchFds { stdin, stdout, stderr, gate: theirs, socket, namespaces, cgroup, older_cgroups };

    // Before it runs, so that it finds itself.
    stack.names.appears(&spec.service);
    let process = launch.process.clone();
    let started = stack.keeper.launch(launch, fds, spec.service.as_str(), keep).await.map_err(|source| {
        stack.names.disappears(&spec.service);
        if !attempt.again && !stack.has(&spec.service) {
            // What the keeper may have of it.
            forget(&spec.service, stack);
        }
        grouped.blame(spec, source)
    })?;
    let family = Arc::new(Family::new(grouped.group.clone().filter(|_| spec.namespaces.pid != Source::New)));
    let (pid, exit) = (started.pid, started.exit.clone());
    let (tell_end, end_told) = watch::channel(false);
    let of_start = OfStart { folder, process, held, images, streams, end_told, family: family.clone() };
    let before = start.take_note(of_start.running(&start, started, grouped.group.clone()));
    let new = unfinished.keep();
    if !attempt.again {
        stack.objects().new_volumes.insert(spec.service.clone(), new);
    }

    let mut way = Way { gate, handed_out, writer, listeners, pump, family: family.clone() };
    let ready = way.reach_gate(&start, pid, &grouped).await;
    let Way { gate, pump, listeners, writer, .. } = way;
    // From here on the pump alone holds them.
    drop((listeners, writer));
    volumes.values().for_each(VolumeFolder::settle);
    drop(filling);
    let runs = match ready {
        Ok(()) => start.let_in(pid, gate, claims, &grouped, before.known).await,
        Err(error) => Err(error),
    };
    stack.keeper.forget(vec![Forget::Descriptors(of_service(&spec.service, GATE))]);
    let (observed, led_ports) = match runs {
        Ok(runs) => runs,
        Err(error) => {
            start.undo(pid, before.known, &family).await?;
            return Err(error);
        }
    };
    if let Some(container) = stack.objects().containers.get_mut(&spec.service) {
        container.runs = true;
    }
    if let Some(ports) = led_ports {
        uplink::publish(&spec.service, pid, &ports, spec.address_v6, stack).await;
    }
    if before.made {
        stack.strike(&facts::created(&spec.service));
    }
    let limited = observed.limits.memory.is_some();
    let _ = changes.send(Change::Container(spec.service.clone(), Box::new(observed)));
    let Grouped { group, killed_before, .. } = grouped;
    let teller = attempt.teller();
    let watched = Watched { service: &spec.service, pid, exit, family, pump, group, limited, killed_before, teller };
    watch(watched, tell_end, stack, changes);
    Ok(())
}

/// What there was of a container before a start.
struct Before {
    /// It was there, and stays should the start not succeed.
    known: bool,
    /// It was made, and had not been started.
    made: bool,
}

/// What a container that is on its way has from its start.
struct OfStart {
    folder: PathBuf,
    process: Process,
    held: Vec<File>,
    images: Vec<InUse>,
    streams: Streams,
    end_told: watch::Receiver<bool>,
    family: Arc<Family>,
}

impl OfStart {
    fn running(self, start: &Start<'_>, started: Started, group: Option<Arc<cgroup::Group>>) -> Running {
        let Self { folder, process, held, images, streams, end_told, family } = self;
        let spec = start.spec;
        let new_pid = spec.namespaces.pid == Source::New;
        let freezer = Freezer::new(started.pid, started.pidfd.clone(), group.clone(), new_pid, family.clone());
        Running {
            pid: started.pid,
            pidfd: started.pidfd,
            exit: started.exit,
            is_init: new_pid,
            runs: false,
            stop_signal: spec.stop_signal,
            stop_grace_ms: spec.stop_grace_ms,
            process,
            group,
            own_network: spec.namespaces.net != Source::Host,
            folder,
            _volumes: held,
            _images: images,
            forwarders: Vec::new(),
            told: None,
            end_told,
            streams,
            family,
            since: Instant::now(),
            freezer: Arc::new(freezer),
            changes: start.changes.clone(),
            pre_stop: Vec::new(),
        }
    }
}

impl Start<'_> {
    fn take_note(&self, running: Running) -> Before {
        let service = &self.spec.service;
        let mut objects = self.stack.objects();
        objects.specs.insert(service.clone(), Arc::new(self.spec.clone()));
        // What one that was only made has held it holds by itself from now on.
        let made = objects.created.remove(service).is_some();
        Before { known: objects.containers.insert(service.clone(), running).is_some() || made, made }
    }

    /// Lets a container that waits at its gate run its program. All that the next supervisor needs to know is written down before:
    /// whether it has done something is then never in doubt. What others see of it comes back, with the ports that an uplink leads to it.
    async fn let_in(
        &self,
        pid: i32,
        gate: Gate,
        claims: &Claims,
        grouped: &Grouped,
        known_before: bool,
    ) -> Result<(Container, Option<Vec<(PublishedPort, SocketAddr)>>), ExecutorError> {
        let Self { spec, stack, attempt, .. } = self;
        let ports = publish(spec, stack, claims).await?;
        let led_by_uplink = is_led_to_by_uplink(spec, stack).await;
        let (published, targets) = ports.iter().cloned().unzip();
        if !attempt.again {
            stack.record(&facts::spec(&spec.service), spec)?;
        }
        let began = Began {
            group: grouped.group.as_deref().cloned(),
            targets,
            led_by_uplink,
            killed_before: grouped.killed_before,
            known_before,
            container: observed(spec, pid, published, grouped.effective.clone(), attempt),
        };
        stack.record(&facts::container(&spec.service), &began)?;
        let open = async { gate.open().await.map_err(|source| grouped.blame(spec, source)) };
        attempt.wait_for(open, &spec.service, stack).await?;
        Ok((began.container, led_by_uplink.then_some(ports)))
    }

    /// Ends a container that has not come to its program. One that is started again, or was made before, stays as it was, with
    /// its files; any other is gone.
    async fn undo(&self, pid: i32, known_before: bool, family: &Family) -> Result<(), ExecutorError> {
        let (service, stack) = (&self.spec.service, self.stack);
        end(service, stack).await?;
        if known_before {
            family.end();
            if !self.attempt.again {
                stack.ended(service);
                remains_as_before(service, pid, stack);
            }
            return Ok(());
        }
        take_back(service, stack).await?;
        let _ = self.changes.send(Change::ContainerRemoved(service.clone()));
        Ok(())
    }
}

/// What to say of a file that is in the way of a container.
fn files(spec: &ContainerSpec, what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ExecutorError + use<> {
    let (service, path) = (spec.service.clone(), path.to_owned());
    move |source| ExecutorError::Files { service, what, path, source }
}

/// Has the facts say of a container that a plan could not start again what they said before. By what is written down so far its
/// program ran, and the next supervisor would do by it what is done by one that ends.
fn remains_as_before(service: &ServiceName, pid: i32, stack: &Stack) {
    let before = stack.lives().borrow().get(service).map(|life| life.state);
    if before == Some(ContainerState::Created) {
        return stack.strike(&facts::container(service));
    }
    let code = before.and_then(ContainerState::exit_code).unwrap_or(NOT_STARTED);
    let memory = Memory { pid, past: Past::default(), stage: Remembered::Ended(code) };
    if let Err(error) = stack.record(&facts::life(service), &memory) {
        tracing::warn!(%service, %error, "that it did not start is not written down");
    }
}

/// A container whose end is waited for.
pub(super) struct Watched<'a> {
    pub(super) service: &'a ServiceName,
    pub(super) pid: i32,
    pub(super) exit: watch::Receiver<Option<ExitStatus>>,
    pub(super) family: Arc<Family>,
    pub(super) pump: Option<logs::Pump>,
    pub(super) group: Option<Arc<cgroup::Group>>,
    /// Its memory is limited.
    pub(super) limited: bool,
    pub(super) killed_before: u64,
    /// Who is told of it.
    pub(super) teller: EndTeller,
}

/// Tells of the end of a container, and of what is killed of it.
pub(super) fn watch(
    watched: Watched<'_>,
    tell_end: watch::Sender<bool>,
    stack: &Stack,
    changes: &UnboundedSender<Change>,
) {
    let Watched { service, pid, exit, family, pump, group, limited, killed_before, teller } = watched;
    if limited && let Some(group) = &group {
        let kills = Kills { service: service.clone(), pid, group: group.clone(), before: killed_before };
        tokio::spawn(kills.tell(exit.clone(), changes.clone()));
    }
    let memory = group.map(|group| Kills { service: service.clone(), pid, group, before: killed_before });
    let told = tell_exit(pid, exit, family, pump, memory, changes.clone(), teller);
    let told = tokio::spawn(async move {
        told.await;
        tell_end.send_replace(true);
    });
    if let Some(container) = stack.objects().containers.get_mut(service) {
        container.told = Some(told);
    }
}
