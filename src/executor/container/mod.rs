//! From the specification of a container to a running one.
//!
//! ```text
//! material.rs: folder, layers, volumes ──┐
//! streamed.rs: pipes, log ───────────────┼──▶ start ──▶ Launch, to the keeper ──▶ Began, to the facts ──▶ gate ──▶ watch
//! ports.rs: sockets that were claimed ───┘                                        picture.rs: what others see
//! ```

mod material;
mod picture;
mod ports;
mod streamed;

use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::Arc,
    time::Instant,
};

use tokio::sync::{mpsc::UnboundedSender, watch};

pub(super) use material::create;
use material::{Material, locks};
pub(super) use picture::made;
use picture::observed;
use ports::{is_led_to_by_uplink, publish};
use streamed::{Streamed, streamed};
pub(super) use streamed::{log_writer, written_of};

use super::{
    Change, ExecutorError, Stack, devices,
    exit::{Kills, bytes, tell_exit},
    facts::{self, Began, GATE, MOUNTS, TERMINAL, of_service},
    family::Family,
    freeze::Freezer,
    life::{Attempt, EndTeller},
    logs, mounts,
    root::layers,
    run::Claims,
    stack::Running,
    stop::{end, forget, take_back},
    streams::waited_for,
    uplink,
    volume::VolumeFolder,
};
use crate::{
    cgroup,
    life::{Memory, Past, Remembered},
    model::{ContainerState, ServiceName},
    plan::{ContainerSpec, Source},
    sandbox::{Forget, Gate, Launch, LaunchFds, Process, SandboxError, SharedFiles},
    state::Stream,
    sys::{ExitStatus, NamespaceKind},
};

/// What Docker says of a container that does not come up.
pub(super) const NOT_STARTED: i32 = 128;

/// Makes the container of `spec` and waits until its program runs. One that does not come up is gone, unless it was there
/// before: then it still is.
pub(super) async fn start(
    spec: &ContainerSpec,
    stack: &Stack,
    claims: &Claims,
    changes: &UnboundedSender<Change>,
    attempt: &Attempt,
) -> Result<(), ExecutorError> {
    let files = |what, path: &Path| {
        let path = path.to_owned();
        move |source| ExecutorError::Files { service: spec.service.clone(), what, path, source }
    };
    let Material { folder, images, root, volumes, mut unfinished } = Material::of(spec, stack, attempt.again).await?;
    let filling = mounts::wait_for_volumes(spec, stack, &volumes).await;
    let mut mounts = mounts::mounts(spec, stack, &volumes, changes)?;
    mounts.extend(devices::mounts(spec, stack)?);
    let held: Vec<File> = volumes.values().filter_map(VolumeFolder::hold).collect();
    let (join, namespaces) = namespaces(spec, stack).await?;
    let limits = |source| ExecutorError::Limits { service: spec.service.clone(), source };
    let group = stack.group().map(|group| group.create(&spec.service, &spec.limits)).transpose();
    let group = group.map_err(limits)?.map(Arc::new);
    unfinished.group.clone_from(&group);
    if let Some(group) = &group {
        // It may be one that was frozen when what was in it ended.
        group.thaw();
    }
    let journal = stack.layout.journal();
    if let Some(group) = &group {
        stack.note_group(group).map_err(files("write to", &journal))?;
    }
    // Devices that it is given are known by their numbers only now.
    let devices = spec.devices.clone().map(|rules| devices::rules(rules, spec)).transpose();
    let devices = devices.map_err(|source| ExecutorError::Devices { service: spec.service.clone(), source })?;
    // Before anything is in the group.
    let effective = group.as_ref().map(|group| group.apply(&spec.limits, devices.as_deref())).transpose();
    let effective = effective.map_err(limits)?.unwrap_or_default();
    let killed_before = group.as_ref().and_then(|group| group.oom_kills()).unwrap_or(0);
    let cgroup = group.as_ref().map(|group| group.open()).transpose();
    let cgroup = cgroup.map_err(files("open the control group of", Path::new(spec.name.as_str())))?.unwrap_or_default();

    let process = process(spec);
    let launch = Launch {
        root,
        read_only: spec.files.read_only,
        folder: folder.clone(),
        volumes_image: spec.files.volumes_image.as_ref().map(|image| layers(image, stack)),
        mounts,
        shared: SharedFiles {
            proc: spec.namespaces.pid != Source::Host,
            sys: spec.namespaces.net != Source::Host,
            mqueue: spec.namespaces.ipc != Source::Host,
            shm_of: match &spec.namespaces.ipc {
                Source::Of(owner) if spec.files.shm => Some(owner.file_name()),
                Source::Of(_) | Source::New | Source::Host => None,
            },
            host_shm: spec.files.shm && spec.namespaces.ipc == Source::Host,
            cgroup2: stack.hierarchy.is_pure_v2(),
            host_cgroups: spec.namespaces.cgroup == Source::Host,
        },
        outside: spec.ids.outside,
        new_pid: spec.namespaces.pid == Source::New,
        new_cgroup: spec.namespaces.cgroup == Source::New,
        init: spec.init,
        join,
        cgroup: cgroup.v2.is_some(),
        older_cgroups: cgroup.v1.len(),
        terminal: spec.process.terminal.then(|| stack.objects().terminal_size.unwrap_or(DEFAULT_TERMINAL)),
        process: process.clone(),
    };

    let log = stack.layout.log(&written_of(&spec.service));
    let writer = log_writer(spec, stack).await.map_err(files("keep the log", log.path()))?;
    let Streamed { stdin, stdout, stderr, socket, mut handed_out, mut pump, streams, listeners, mut keep } =
        streamed(spec, stack, writer.clone()).map_err(files("keep the log", log.path()))?;
    keep.extend(locks(spec, &held, &images)?);
    let gated = |e| files("start", Path::new(spec.name.as_str()))(e);
    let (mut gate, theirs) = Gate::new().map_err(gated)?;
    keep.push((of_service(&spec.service, GATE), gate.to_keep().map_err(gated)?));
    let (cgroup, older_cgroups) = (cgroup.v2, cgroup.v1);
    let fds = LaunchFds { stdin, stdout, stderr, gate: theirs, socket, namespaces, cgroup, older_cgroups };

    // Before it runs, so that it finds itself.
    stack.names.appears(&spec.service);
    let memory = effective.memory;
    let failed = |source| match &group {
        Some(group) if group.oom_kills().is_some_and(|kills| kills > killed_before) => {
            ExecutorError::OutOfMemory { service: spec.service.clone(), limit: memory.map(bytes).unwrap_or_default() }
        }
        _ => ExecutorError::Start { service: spec.service.clone(), source },
    };
    let started = stack.keeper.launch(launch, fds, spec.service.as_str(), keep).await.map_err(|source| {
        stack.names.disappears(&spec.service);
        if !attempt.again && !stack.has(&spec.service) {
            // What the keeper may have of it.
            forget(&spec.service, stack);
        }
        failed(source)
    })?;
    let family = Arc::new(Family::new(group.clone().filter(|_| spec.namespaces.pid != Source::New)));
    let (pid, exit) = (started.pid, started.exit.clone());
    let (tell_end, end_told) = tokio::sync::watch::channel(false);
    let pidfd = started.pidfd;
    let new_pid = spec.namespaces.pid == Source::New;
    let freezer = Freezer::new(pid, pidfd.clone(), group.clone(), new_pid, family.clone());
    let running = Running {
        pid,
        pidfd,
        exit: started.exit,
        is_init: spec.namespaces.pid == Source::New,
        runs: false,
        stop_signal: spec.stop_signal,
        stop_grace_ms: spec.stop_grace_ms,
        process: process.clone(),
        group: group.clone(),
        own_network: spec.namespaces.net != Source::Host,
        folder,
        _volumes: held,
        _images: images,
        forwarders: Vec::new(),
        told: None,
        end_told,
        streams,
        family: family.clone(),
        since: Instant::now(),
        freezer: Arc::new(freezer),
        changes: changes.clone(),
        pre_stop: Vec::new(),
    };
    let (known_before, made_before) = {
        let mut objects = stack.objects();
        objects.specs.insert(spec.service.clone(), Arc::new(spec.clone()));
        // What one that was only made has held it holds by itself from now on.
        let made_before = objects.created.remove(&spec.service).is_some();
        (objects.containers.insert(spec.service.clone(), running).is_some() || made_before, made_before)
    };
    let new = unfinished.keep();
    if !attempt.again {
        stack.objects().new_volumes.insert(spec.service.clone(), new);
    }

    let noted = stack.note_process(pid).map_err(files("write to", &journal));
    let ready = match noted {
        Ok(()) => {
            let way = async {
                // None comes if something goes wrong before, which is told at the gate.
                let lost = |error: io::Error| tracing::error!(%error, "what a container handed out is lost");
                let mounts = handed_out.next().await.map_err(lost).unwrap_or(None);
                let mounts = mounts.filter(|_| spec.namespaces.pid != Source::New);
                let mut keep = Vec::new();
                let kept = |what: &str, fd: std::os::fd::BorrowedFd<'_>| {
                    Some((of_service(&spec.service, what), fd.try_clone_to_owned().ok()?))
                };
                keep.extend(mounts.as_ref().and_then(|mounts| kept(MOUNTS, mounts.as_fd())));
                family.know(mounts);
                if spec.process.terminal {
                    let side = handed_out.next().await.and_then(|side| side.map(waited_for).transpose());
                    if let Some(side) = side.map_err(lost).unwrap_or(None) {
                        keep.extend(kept(TERMINAL, side.get_ref().as_fd()));
                        let spool = stack.layout.spool(&spec.service, Stream::Stdout);
                        let sources = vec![(Stream::Stdout, logs::Source::Terminal(side.clone()), spool)];
                        pump = logs::pump(sources, writer, listeners.clone(), false).map_err(lost).ok();
                        if let Some(container) = stack.objects().containers.get_mut(&spec.service) {
                            container.streams.input = spec.process.stdin_open.then(|| side.clone());
                            container.streams.terminal = Some(side);
                        }
                    }
                }
                let ready = gate.ready().await.map_err(failed);
                // Answers come in their order, so this one is there by the time anything is written down.
                match ready {
                    Ok(()) if !keep.is_empty() => {
                        let failed = |source| ExecutorError::Keep { service: spec.service.clone(), source };
                        stack.keeper.keep(keep).await.map_err(failed)
                    }
                    ready => ready,
                }
            };
            attempt.wait_for(way, &spec.service, stack).await
        }
        Err(error) => Err(error),
    };
    // From here on the pump alone holds it.
    drop(listeners);
    volumes.values().for_each(VolumeFolder::settle);
    drop(filling);
    // All that the next supervisor needs to know is written down before the program runs: whether it has done something is then
    // never in doubt.
    let began = match ready {
        Ok(()) => publish(spec, stack, claims).await,
        Err(error) => Err(error),
    };
    let written = match began {
        Ok(ports) => {
            let led = is_led_to_by_uplink(spec, stack).await;
            let (published, targets) = ports.iter().cloned().unzip();
            let container = observed(spec, pid, published, effective, attempt);
            let group = group.as_deref().cloned();
            let made_from = match attempt.again {
                true => Ok(()),
                false => stack.record(&facts::spec(&spec.service), spec),
            };
            let began = Began { group, targets, led_by_uplink: led, killed_before, known_before, container };
            let written = made_from.and_then(|()| stack.record(&facts::container(&spec.service), &began));
            written.map(|()| (began.container, led.then_some(ports)))
        }
        Err(error) => Err(error),
    };
    let runs = match written {
        Ok(written) => {
            let open = async { gate.open().await.map_err(failed) };
            attempt.wait_for(open, &spec.service, stack).await.map(|()| written)
        }
        Err(error) => Err(error),
    };
    stack.keeper.forget(vec![Forget::Descriptors(of_service(&spec.service, GATE))]);
    let (observed, led_ports) = match runs {
        Ok(runs) => runs,
        Err(error) => {
            end(&spec.service, stack).await?;
            if known_before {
                // One that is started again, or was made before, stays as it was, with its files.
                family.end();
                if !attempt.again {
                    stack.ended(&spec.service);
                    remains_as_before(&spec.service, pid, stack);
                }
                return Err(error);
            }
            take_back(&spec.service, stack).await?;
            let _ = changes.send(Change::ContainerRemoved(spec.service.clone()));
            return Err(error);
        }
    };
    if let Some(container) = stack.objects().containers.get_mut(&spec.service) {
        container.runs = true;
    }
    if let Some(ports) = led_ports {
        uplink::publish(&spec.service, pid, &ports, spec.address_v6, stack).await;
    }
    if made_before {
        stack.strike(&facts::created(&spec.service));
    }
    let limited = observed.limits.memory.is_some();
    let _ = changes.send(Change::Container(spec.service.clone(), Box::new(observed)));
    let teller = attempt.teller();
    let watched = Watched { service: &spec.service, pid, exit, family, pump, group, limited, killed_before, teller };
    watch(watched, tell_end, stack, changes);
    Ok(())
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

/// Rows and columns of a terminal that nobody looks at.
const DEFAULT_TERMINAL: (u16, u16) = (24, 80);

pub(super) fn process(spec: &ContainerSpec) -> Process {
    let mut environment: Vec<(String, String)> =
        spec.environment.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let is_free = |name: &str| !spec.environment.contains_key(name) && !spec.unset.contains(name);
    if is_free("HOSTNAME") {
        environment.push(("HOSTNAME".to_owned(), spec.hostname.clone()));
    }
    // As in Docker.
    if spec.process.terminal && is_free("TERM") {
        environment.push(("TERM".to_owned(), "xterm".to_owned()));
    }
    Process {
        argv: spec.argv.clone(),
        environment,
        working_dir: spec.working_dir.clone(),
        make_working_dir: true,
        user: spec.user.clone(),
        single_id: spec.ids.count == 1,
        invoker: spec.invoker,
        options: spec.process.clone(),
        privileges: spec.privileges.clone(),
    }
}

/// The namespaces that the container joins, each with its descriptor.
async fn namespaces(spec: &ContainerSpec, stack: &Stack) -> Result<(Vec<NamespaceKind>, Vec<OwnedFd>), ExecutorError> {
    let sources = &spec.namespaces;
    let (mut join, mut fds) = (Vec::new(), Vec::new());
    if sources.user == Source::Host {
        let failed = |source| ExecutorError::Namespaces { service: spec.service.clone(), source };
        if let Some(users) = stack.users_of_host().await.map_err(failed)? {
            join.push(NamespaceKind::User);
            fds.push(users.as_fd().try_clone_to_owned().map_err(|e| failed(SandboxError::Talk(e)))?);
        }
    }
    for (source, kind) in [
        (&sources.user, NamespaceKind::User),
        (&sources.net, NamespaceKind::Net),
        (&sources.ipc, NamespaceKind::Ipc),
        (&sources.uts, NamespaceKind::Uts),
        (&sources.pid, NamespaceKind::Pid),
    ] {
        if let Source::Of(owner) = source {
            join.push(kind);
            fds.push(stack.pinned(owner, kind)?);
        }
    }
    Ok((join, fds))
}
