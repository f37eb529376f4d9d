//! From the specification of a container to a running one.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use tokio::{io::AsyncReadExt, net::unix::pipe, sync::mpsc::UnboundedSender};

use super::{
    Change, ExecutorError, Stack, devices,
    exit::{Kills, bytes, tell_exit},
    family::Family,
    freeze::Freezer,
    life::Attempt,
    logs, mounts,
    operation::create_folder,
    root::{hold_images, root},
    run::Claims,
    stack::{Created, Running},
    stop::{stop, take_back},
    streams::{HandedOut, Listeners, Streams, waited_for},
    uplink,
    volume::VolumeFolder,
};
use crate::{
    cgroup,
    model::{Container, ContainerState, Effective, Health, ProbeLog, PublishedPort, Rootfs},
    network::ports::serve,
    plan::{ContainerSpec, Source},
    sandbox::{BringUpError, Launch, LaunchFds, Process, SandboxError, SharedFiles},
    state::Stream,
    sys::NamespaceKind,
};

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
    let folder = stack.layout.container(&spec.service);
    let mut unfinished =
        Unfinished { folder: (!folder.exists()).then(|| folder.clone()), group: None, volumes: Vec::new() };
    create_folder(&folder).map_err(files("make the folder", &folder))?;
    mounts::forget_volumes(spec, &folder).map_err(files("remove old volumes in", &folder))?;
    let images = hold_images(spec, stack)?;
    let root = root(spec, stack, &folder).await?;
    let volumes = mounts::volumes(spec, stack, &folder);
    if !attempt.again {
        unfinished.volumes = mounts::new_anonymous(spec, &volumes);
    }
    let filling = mounts::wait_for_volumes(spec, stack, &volumes).await;
    let mut mounts = mounts::mounts(spec, stack, &volumes, changes)?;
    mounts.extend(devices::mounts(spec, stack)?);
    let held = volumes.values().filter_map(VolumeFolder::hold).collect();
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

    let log = stack.layout.log(&spec.service);
    let writer = log_writer(spec, stack).await.map_err(files("keep the log", log.path()))?;
    let Streamed { stdin, stdout, stderr, socket, mut handed_out, mut pump, streams, listeners } =
        streamed(spec, stack, writer.clone()).map_err(files("keep the log", log.path()))?;
    let (status_reader, status) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|e| files("start", Path::new(spec.name.as_str()))(e.into()))?;
    let fds =
        LaunchFds { stdin, stdout, stderr, status, socket, namespaces, cgroup: cgroup.v2, older_cgroups: cgroup.v1 };

    // Before it runs, so that it finds itself.
    stack.names.appears(&spec.service);
    let failed = |source| match &group {
        Some(group) if group.oom_kills().is_some_and(|kills| kills > killed_before) => ExecutorError::OutOfMemory {
            service: spec.service.clone(),
            limit: effective.memory.map(bytes).unwrap_or_default(),
        },
        _ => ExecutorError::Start { service: spec.service.clone(), source },
    };
    let started = stack.keeper.launch(launch, fds).await.map_err(|source| {
        stack.names.disappears(&spec.service);
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
        stop_signal: spec.stop_signal,
        stop_grace_ms: spec.stop_grace_ms,
        process,
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
    let known_before = {
        let mut objects = stack.objects();
        objects.specs.insert(spec.service.clone(), Arc::new(spec.clone()));
        // What one that was only made has held it holds by itself from now on.
        let made_before = objects.created.remove(&spec.service).is_some();
        objects.containers.insert(spec.service.clone(), running).is_some() || made_before
    };
    let new = unfinished.keep();
    if !attempt.again {
        stack.objects().new_volumes.insert(spec.service.clone(), new);
    }

    let noted = stack.note_process(pid).map_err(files("write to", &journal));
    let runs = match noted {
        Ok(()) => {
            // None comes if something goes wrong before, which the status pipe will tell.
            let lost = |error: io::Error| tracing::error!(%error, "what a container handed out is lost");
            let mounts = handed_out.next().await.map_err(lost).unwrap_or(None);
            family.know(mounts.filter(|_| spec.namespaces.pid != Source::New));
            if spec.process.terminal {
                let side = handed_out.next().await.and_then(|side| side.map(waited_for).transpose());
                if let Some(side) = side.map_err(lost).unwrap_or(None) {
                    let spool = stack.layout.spool(&spec.service, Stream::Stdout);
                    let sources = vec![(Stream::Stdout, logs::Source::Terminal(side.clone()), spool)];
                    pump = logs::pump(sources, writer, listeners.clone(), false).map_err(lost).ok();
                    if let Some(container) = stack.objects().containers.get_mut(&spec.service) {
                        container.streams.input = spec.process.stdin_open.then(|| side.clone());
                        container.streams.terminal = Some(side);
                    }
                }
            }
            program_runs(status_reader).await.map_err(failed)
        }
        Err(error) => Err(error),
    };
    // From here on the pump alone holds it.
    drop(listeners);
    volumes.values().for_each(VolumeFolder::settle);
    drop(filling);
    let ports = match runs.and_then(|()| publish(spec, stack, claims)) {
        Ok(ports) => {
            if is_led_to_by_uplink(spec, stack).await {
                uplink::publish(&spec.service, pid, &ports, spec.address_v6, stack).await;
            }
            ports.into_iter().map(|(port, _)| port).collect()
        }
        Err(error) => {
            stop(&spec.service, stack).await?;
            if known_before {
                // One that is started again, or was made before, stays as it was, with its files.
                family.end();
                if !attempt.again {
                    stack.ended(&spec.service);
                }
                return Err(error);
            }
            take_back(&spec.service, stack).await?;
            let _ = changes.send(Change::ContainerRemoved(spec.service.clone()));
            return Err(error);
        }
    };
    let observed = Container {
        name: spec.name.clone(),
        state: ContainerState::Running,
        health: spec.life.health.as_ref().map(|_| Health::Starting),
        probes: ProbeLog::default(),
        restarts: attempt.restarts,
        pid: Some(pid),
        config: spec.config.clone(),
        origin: spec.origin.clone(),
        image: match &spec.files.rootfs {
            Rootfs::Layers(image) => Some(image.id.clone()),
            _ => None,
        },
        dependencies: spec.dependencies.clone(),
        depends_on: spec.depends_on.clone(),
        private_ipc: spec.files.private_ipc,
        command: spec.argv.clone(),
        ports,
        stop_signal: spec.stop_signal,
        stop_grace_ms: spec.stop_grace_ms,
        started_ms: jiff::Timestamp::now().as_millisecond(),
        limits: effective.clone(),
        oom_kills: 0,
    };
    let _ = changes.send(Change::Container(spec.service.clone(), Box::new(observed)));
    if effective.memory.is_some()
        && let Some(group) = &group
    {
        let kills = Kills { service: spec.service.clone(), pid, group: group.clone(), before: killed_before };
        tokio::spawn(kills.tell(exit.clone(), changes.clone()));
    }
    let memory = group.map(|group| Kills { service: spec.service.clone(), pid, group, before: killed_before });
    let told = tell_exit(pid, exit, family, pump, memory, changes.clone(), attempt.teller());
    let told = tokio::spawn(async move {
        told.await;
        tell_end.send_replace(true);
    });
    if let Some(container) = stack.objects().containers.get_mut(&spec.service) {
        container.told = Some(told);
    }
    Ok(())
}

/// Makes ready all that the container of `spec` is made of: its folder, the files of its root, its volumes, and what keeps
/// others from removing them. Its namespaces and its addresses are there already; its control group, its ports and what it
/// has mounted come when it is started.
pub(super) async fn create(
    spec: &ContainerSpec,
    stack: &Stack,
    changes: &UnboundedSender<Change>,
) -> Result<(), ExecutorError> {
    let files = |what, path: &Path| {
        let path = path.to_owned();
        move |source| ExecutorError::Files { service: spec.service.clone(), what, path, source }
    };
    let folder = stack.layout.container(&spec.service);
    let mut unfinished =
        Unfinished { folder: (!folder.exists()).then(|| folder.clone()), group: None, volumes: Vec::new() };
    create_folder(&folder).map_err(files("make the folder", &folder))?;
    mounts::forget_volumes(spec, &folder).map_err(files("remove old volumes in", &folder))?;
    let images = hold_images(spec, stack)?;
    root(spec, stack, &folder).await?;
    let volumes = mounts::volumes(spec, stack, &folder);
    unfinished.volumes = mounts::new_anonymous(spec, &volumes);
    for volume in volumes.values() {
        // What they begin with they get from the container that is started first.
        create_folder(&volume.path).map_err(files("make the folder", &volume.path))?;
    }
    let held = volumes.values().filter_map(VolumeFolder::hold).collect();
    let created = Created { folder, _volumes: held, _images: images };
    {
        let mut objects = stack.objects();
        objects.specs.insert(spec.service.clone(), Arc::new(spec.clone()));
        objects.created.insert(spec.service.clone(), created);
    }
    let new = unfinished.keep();
    stack.objects().new_volumes.insert(spec.service.clone(), new);
    let _ = changes.send(Change::Container(spec.service.clone(), Box::new(made(spec))));
    Ok(())
}

/// The container of `spec` that has not been started.
fn made(spec: &ContainerSpec) -> Container {
    Container {
        name: spec.name.clone(),
        state: ContainerState::Created,
        health: None,
        probes: ProbeLog::default(),
        restarts: 0,
        pid: None,
        config: spec.config.clone(),
        origin: spec.origin.clone(),
        image: match &spec.files.rootfs {
            Rootfs::Layers(image) => Some(image.id.clone()),
            _ => None,
        },
        dependencies: spec.dependencies.clone(),
        depends_on: spec.depends_on.clone(),
        private_ipc: spec.files.private_ipc,
        command: spec.argv.clone(),
        ports: Vec::new(),
        stop_signal: spec.stop_signal,
        stop_grace_ms: spec.stop_grace_ms,
        started_ms: jiff::Timestamp::now().as_millisecond(),
        limits: Effective::default(),
        oom_kills: 0,
    }
}

/// Rows and columns of a terminal that nobody looks at.
const DEFAULT_TERMINAL: (u16, u16) = (24, 80);

/// The streams of a container that is still to be made.
struct Streamed {
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
    /// The socket for what it hands out, and our end of it.
    socket: OwnedFd,
    handed_out: HandedOut,
    /// None while there is a terminal to be made.
    pump: Option<logs::Pump>,
    streams: Streams,
    listeners: Arc<Listeners>,
}

/// Who writes the log, if one is kept.
pub(super) async fn log_writer(spec: &ContainerSpec, stack: &Stack) -> io::Result<Option<Arc<logs::Writer>>> {
    let (logs, layout) = (stack.logs.clone(), stack.layout.clone());
    let (service, settings) = (spec.service.clone(), spec.logging.clone());
    let writer = tokio::task::spawn_blocking(move || logs.writer(&layout, &service, &settings));
    writer.await.map_err(io::Error::other)?
}

fn streamed(spec: &ContainerSpec, stack: &Stack, writer: Option<Arc<logs::Writer>>) -> io::Result<Streamed> {
    let null = || File::open("/dev/null").map(OwnedFd::from);
    let listeners = Arc::new(Listeners::default());
    let mut streams = Streams { listeners: Arc::downgrade(&listeners), ..Streams::default() };
    let (handed_out, socket) = UnixStream::pair()?;
    let (handed_out, socket) = (HandedOut::through(handed_out)?, socket.into());
    if spec.process.terminal {
        let (stdin, stdout, stderr) = (null()?, null()?, null()?);
        return Ok(Streamed { stdin, stdout, stderr, socket, handed_out, pump: None, streams, listeners });
    }
    let stdin = if spec.process.stdin_open {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        // Held for as long as the container is there: its input never ends.
        streams.input = Some(waited_for(writer)?);
        reader
    } else {
        null()?
    };
    let mut sources = Vec::new();
    let mut piped = |stream| -> io::Result<OwnedFd> {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        sources.push((stream, logs::Source::Pipe(reader), stack.layout.spool(&spec.service, stream)));
        Ok(writer)
    };
    let (stdout, stderr) = (piped(Stream::Stdout)?, piped(Stream::Stderr)?);
    let pump = Some(logs::pump(sources, writer, listeners.clone(), false)?);
    Ok(Streamed { stdin, stdout, stderr, socket, handed_out, pump, streams, listeners })
}

/// What a container that does not come about leaves; removed when this is dropped, unless the container is there.
struct Unfinished {
    folder: Option<PathBuf>,
    group: Option<Arc<cgroup::Group>>,
    /// Its anonymous volumes that were not there before.
    volumes: Vec<VolumeFolder>,
}

impl Unfinished {
    /// It stands; its new volumes come back, which go with it if the plan is taken back.
    fn keep(mut self) -> Vec<VolumeFolder> {
        (self.folder, self.group) = (None, None);
        std::mem::take(&mut self.volumes)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            let _ = fs::remove_dir_all(folder);
        }
        for volume in &self.volumes {
            let _ = volume.remove();
        }
        if let Some(group) = &self.group {
            let _ = group.remove();
        }
    }
}

/// Reads the status pipe: closed without a word when the program runs.
pub(super) async fn program_runs(status: OwnedFd) -> Result<(), SandboxError> {
    let read = async {
        rustix::io::ioctl_fionbio(&status, true)?;
        let mut text = Vec::new();
        pipe::Receiver::from_owned_fd(status)?.read_to_end(&mut text).await?;
        Ok(text)
    };
    let text = read.await.map_err(SandboxError::Talk)?;
    if text.is_empty() {
        return Ok(());
    }
    let error: BringUpError = serde_json::from_slice(&text).map_err(|e| SandboxError::Talk(e.into()))?;
    Err(error.into())
}

/// Whether what comes in by the uplink gets to a container and back. The uplink ends in the stack's own namespace, from where
/// networks that stacks share are not reached, and on an internal network there is no way back: there the forwarder, which speaks from the
/// bridge's own address, is the only one.
async fn is_led_to_by_uplink(spec: &ContainerSpec, stack: &Stack) -> bool {
    let bridge = spec.address_on.as_ref().and_then(|network| stack.objects().bridges.get(network).cloned());
    match (bridge, stack.uplink()) {
        (Some(bridge), Some(uplink)) => bridge.shared.is_none() && uplink.is_on(&bridge.interface).await,
        _ => false,
    }
}

fn publish(
    spec: &ContainerSpec,
    stack: &Stack,
    claims: &Claims,
) -> Result<Vec<(PublishedPort, std::net::SocketAddr)>, ExecutorError> {
    let claimed = claims.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&spec.service);
    let Some(claimed) = claimed else { return Ok(Vec::new()) };
    let address = spec.address.ok_or_else(|| ExecutorError::Missing(format!("an address of `{}`", spec.service)))?;
    let bridge = spec.address_on.as_ref().and_then(|network| stack.objects().bridges.get(network).cloned());
    let netns = bridge.map_or_else(|| stack.netns.clone(), |bridge| bridge.netns.clone());
    let mut ports = Vec::new();
    let mut forwarders = Vec::new();
    for claimed in claimed {
        let port = claimed.port().clone();
        let target = std::net::SocketAddr::new(address, port.target);
        ports.push((PublishedPort { port, listens_on: claimed.addresses().to_vec() }, target));
        let forwarder = serve(claimed, target, netns.clone());
        forwarders.push(forwarder.map_err(|source| ExecutorError::Files {
            service: spec.service.clone(),
            what: "listen on the ports of",
            path: spec.name.as_str().into(),
            source,
        })?);
    }
    if let Some(container) = stack.objects().containers.get_mut(&spec.service) {
        container.forwarders = forwarders;
    }
    Ok(ports)
}

fn process(spec: &ContainerSpec) -> Process {
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
