//! From the specification of a container to a running one.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use tokio::{io::AsyncReadExt, net::unix::pipe, sync::mpsc::UnboundedSender, task::JoinHandle};

use super::{
    Change, ExecutorError, Stack, logs, mounts,
    operation::create_folder,
    run::Claims,
    stack::Running,
    stop::{remove, stop},
    volume::VolumeFolder,
};
use crate::{
    cgroup,
    image::{
        store::{InUse, Store},
        unpack::{self, Limits, OverlayAttributes, Ownership, UnpackOptions},
    },
    model::{Container, ContainerState, PublishedPort, Rootfs},
    network::ports::serve,
    plan::{ContainerSpec, Source},
    sandbox::{
        BringUpError, HostView, Launch, LaunchFds, Process, Root, SandboxError, SharedFiles, in_initial_user_namespace,
    },
    state::Stream,
    sys::NamespaceKind,
};

/// Makes the container of `spec` and waits until its program runs.
pub(super) async fn start(
    spec: &ContainerSpec,
    stack: &Stack,
    claims: &Claims,
    changes: &UnboundedSender<Change>,
) -> Result<(), ExecutorError> {
    let files = |what, path: &Path| {
        let path = path.to_owned();
        move |source| ExecutorError::Files { service: spec.service.clone(), what, path, source }
    };
    let folder = stack.layout.container(&spec.service);
    let mut unfinished = Unfinished { folder: (!folder.exists()).then(|| folder.clone()), group: None };
    create_folder(&folder).map_err(files("make the folder", &folder))?;
    let image = hold_image(spec, stack)?;
    let root = root(spec, stack, &folder).await?;
    let volumes = mounts::volumes(spec, stack, &folder);
    let filling = mounts::wait_for_volumes(spec, stack, &volumes).await;
    let mounts = mounts::mounts(spec, stack, &volumes, changes)?;
    let (join, namespaces) = namespaces(spec, stack)?;
    let group = stack.group.as_ref().map(|group| group.create(&spec.service)).transpose();
    let group = group.map_err(files("make the control group of", Path::new(spec.name.as_str())))?;
    unfinished.group = group.as_ref().map(|group| group.path().to_owned());
    let journal = stack.layout.journal();
    if let Some(group) = &group {
        stack.note_group(group).map_err(files("write to", &journal))?;
    }
    let cgroup = group.as_ref().map(cgroup::Group::open).transpose();
    let cgroup = cgroup.map_err(files("open the control group of", Path::new(spec.name.as_str())))?;

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
                Source::Of(owner) if spec.files.shm => Some(owner.to_string()),
                Source::Of(_) | Source::New | Source::Host => None,
            },
            host_shm: spec.files.shm && spec.namespaces.ipc == Source::Host,
            cgroup2: stack.hierarchy.is_pure_v2(),
        },
        outside: spec.ids.outside,
        new_pid: spec.namespaces.pid == Source::New,
        init: spec.init,
        join,
        cgroup: cgroup.is_some(),
        process: process.clone(),
    };

    let log = stack.layout.log(&spec.service);
    let pumped = || -> io::Result<_> {
        let file = logs::open(&log)?;
        Ok((logs::pump(file.clone(), Stream::Stdout)?, logs::pump(file, Stream::Stderr)?))
    };
    let ((stdout, out_pump), (stderr, err_pump)) = pumped().map_err(files("keep the log", &log))?;
    let (status_reader, status) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|e| files("start", Path::new(spec.name.as_str()))(e.into()))?;
    let stdin: OwnedFd = File::open("/dev/null").map_err(files("open", Path::new("/dev/null")))?.into();
    let fds = LaunchFds { stdin, stdout, stderr, status, namespaces, cgroup };

    let failed = |source| ExecutorError::Start { service: spec.service.clone(), source };
    let started = stack.keeper.launch(launch, fds).await.map_err(failed)?;
    let (pid, exit) = (started.pid, started.exit.clone());
    let running = Running {
        pid,
        pidfd: started.pidfd,
        exit: started.exit,
        is_init: spec.namespaces.pid == Source::New,
        stop_signal: spec.stop_signal,
        stop_grace_ms: spec.stop_grace_ms,
        process,
        group,
        folder,
        _image: image,
        forwarders: Vec::new(),
        told: None,
    };
    stack.objects().containers.insert(spec.service.clone(), running);
    unfinished.keep();

    let noted = stack.note_process(pid).map_err(files("write to", &journal));
    let runs = match noted {
        Ok(()) => program_runs(status_reader).await.map_err(failed),
        Err(error) => Err(error),
    };
    volumes.values().for_each(VolumeFolder::settle);
    drop(filling);
    let ports = match runs.and_then(|()| publish(spec, stack, claims)) {
        Ok(ports) => ports,
        Err(error) => {
            stop(&spec.service, stack).await?;
            remove(&spec.service, stack).await?;
            // One that is started again was known before.
            let _ = changes.send(Change::ContainerRemoved(spec.service.clone()));
            return Err(error);
        }
    };
    let observed = Container {
        name: spec.name.clone(),
        state: ContainerState::Running,
        pid: Some(pid),
        config: spec.config.clone(),
        image: match &spec.files.rootfs {
            Rootfs::Layers(image) => Some(image.id.clone()),
            _ => None,
        },
        dependencies: spec.dependencies.clone(),
        command: spec.argv.clone(),
        ports,
        stop_signal: spec.stop_signal,
        stop_grace_ms: spec.stop_grace_ms,
        started_ms: jiff::Timestamp::now().as_millisecond(),
    };
    let _ = changes.send(Change::Container(spec.service.clone(), Box::new(observed)));
    let told = tokio::spawn(tell_exit(spec.service.clone(), pid, exit, [out_pump, err_pump], changes.clone()));
    if let Some(container) = stack.objects().containers.get_mut(&spec.service) {
        container.told = Some(told);
    }
    Ok(())
}

/// What a container that does not come about leaves; removed when this is dropped, unless the container is there.
struct Unfinished {
    folder: Option<PathBuf>,
    group: Option<PathBuf>,
}

impl Unfinished {
    fn keep(mut self) {
        (self.folder, self.group) = (None, None);
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            let _ = fs::remove_dir_all(folder);
        }
        if let Some(group) = &self.group {
            let _ = cgroup::remove(group);
        }
    }
}

/// Waits for the end of a container, and for the last of its log, and tells of it.
async fn tell_exit(
    service: crate::model::ServiceName,
    pid: i32,
    mut exit: tokio::sync::watch::Receiver<Option<crate::sys::ExitStatus>>,
    pumps: [JoinHandle<()>; 2],
    changes: UnboundedSender<Change>,
) {
    let Ok(status) = exit.wait_for(Option::is_some).await.map(|status| *status) else { return };
    let code = status.map_or(255, crate::sys::ExitStatus::shell_code);
    // With a pid namespace of its own everything in it has ended, and the pipes are closed. In a shared one something may
    // go on and hold them open, which must not keep the news back.
    let all = async {
        for pump in pumps {
            let _ = pump.await;
        }
    };
    let _ = tokio::time::timeout(std::time::Duration::from_secs(2), all).await;
    let _ = changes.send(Change::State(service, pid, ContainerState::Exited(code)));
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

fn publish(spec: &ContainerSpec, stack: &Stack, claims: &Claims) -> Result<Vec<PublishedPort>, ExecutorError> {
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
        ports.push(PublishedPort { port, listens_on: claimed.addresses().to_vec() });
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
    if !spec.environment.contains_key("HOSTNAME") {
        environment.push(("HOSTNAME".to_owned(), spec.hostname.clone()));
    }
    Process {
        argv: spec.argv.clone(),
        environment,
        working_dir: spec.working_dir.clone(),
        make_working_dir: true,
        user: spec.user.clone(),
        single_id: spec.ids.count == 1,
        options: spec.process.clone(),
        privileges: spec.privileges.clone(),
    }
}

/// The namespaces that the container joins, each with its descriptor.
fn namespaces(spec: &ContainerSpec, stack: &Stack) -> Result<(Vec<NamespaceKind>, Vec<OwnedFd>), ExecutorError> {
    let sources = &spec.namespaces;
    let mut join = vec![NamespaceKind::User];
    let mut fds = vec![stack.pinned(&sources.user, NamespaceKind::User)?];
    for (source, kind) in [
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

/// Keeps the image of a container from being removed.
fn hold_image(spec: &ContainerSpec, stack: &Stack) -> Result<Option<InUse>, ExecutorError> {
    let Rootfs::Layers(image) = &spec.files.rootfs else { return Ok(None) };
    let held = Store::new(stack.layout.layout().images()).hold(&image.id);
    let failed = |source| ExecutorError::Image { service: spec.service.clone(), image: image.name.clone(), source };
    held.map(Some).map_err(failed)
}

async fn root(spec: &ContainerSpec, stack: &Stack, folder: &Path) -> Result<Root, ExecutorError> {
    let files = |what, path: &Path| {
        let path = path.to_owned();
        move |source| ExecutorError::Files { service: spec.service.clone(), what, path, source }
    };
    match &spec.files.rootfs {
        Rootfs::Directory(path) => Ok(Root::Directory(path.clone())),
        Rootfs::Layers(image) => {
            // The manifest has the lowest first.
            let layers = image.layers.iter().rev().map(|layer| layer.hex().to_owned()).collect();
            Ok(Root::Layers { store: Store::new(stack.layout.layout().images()).layers(), layers })
        }
        Rootfs::Image(image) => Err(ExecutorError::Missing(format!("image `{}` in the store", image.source))),
        Rootfs::Host => {
            let hidden = stack.layout.layout().folders().map(Path::to_owned).into();
            Ok(Root::Host { view: host_view(spec, stack)?, hidden })
        }
        Rootfs::Tar(archive) => {
            let unpacked = folder.join("rootfs");
            if !unpacked.is_dir() {
                let (archive, new) = (archive.clone(), folder.join("rootfs.new"));
                let (single, target) = (spec.ids.count == 1, unpacked.clone());
                let task = tokio::task::spawn_blocking(move || {
                    let _ = fs::remove_dir_all(&new);
                    unpack(&archive, &new, single)?;
                    fs::rename(&new, &target)
                });
                let done = task.await.map_err(io::Error::other).and_then(|done| done);
                let Rootfs::Tar(archive) = &spec.files.rootfs else { return Ok(Root::Directory(unpacked)) };
                done.map_err(files("unpack", archive))?;
            }
            Ok(Root::Directory(unpacked))
        }
    }
}

/// How containers of the stack see the host's files, found out once.
fn host_view(spec: &ContainerSpec, stack: &Stack) -> Result<HostView, ExecutorError> {
    if let Some(view) = &stack.objects().host_view {
        return Ok(view.clone());
    }
    let user =
        if spec.ids.outside == 0 { None } else { Some(stack.pinned(&spec.namespaces.user, NamespaceKind::User)?) };
    let path = stack.layout.private().join("skeleton");
    let view = HostView::make(user.as_ref().map(AsFd::as_fd), &path).map_err(|source| ExecutorError::Files {
        service: spec.service.clone(),
        what: "make folders in",
        path,
        source,
    })?;
    stack.objects().host_view = Some(view.clone());
    Ok(view)
}

/// Unpacks an archive into a new folder, which no path or link in it leaves.
fn unpack(archive: &Path, folder: &Path, single_id: bool) -> io::Result<()> {
    create_folder(folder)?;
    let options = UnpackOptions {
        // With one id everything is the user's, which is root of the container.
        ownership: if single_id { Ownership::Single } else { Ownership::Kept },
        attributes: match in_initial_user_namespace() {
            true => OverlayAttributes::Trusted,
            false => OverlayAttributes::User,
        },
        limits: Limits::default(),
    };
    unpack::unpack(File::open(archive)?, folder, &options).map(drop).map_err(io::Error::other)
}
