//! What operations make and hold: the stack as kernel objects.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::{OwnedMutexGuard, watch},
    task::JoinHandle,
};

use super::{AskForNetwork, ExecutorError, container::program_runs, volume::VolumeFolder};
use crate::{
    cgroup::{Group, Hierarchy, StackGroup},
    image::store::InUse,
    model::{NetworkName, ServiceName, StopSignal, VolumeName},
    network::{
        netlink::{LinkIndex, Netlink, NetlinkError},
        ports::Forwarder,
    },
    sandbox::{ExecOrder, HostView, Keeper, Pinned, Process, SandboxError, StackIds, Started},
    state::{Entry, Journal, ProcessRecord, StackLayout},
    sys::{ExitStatus, NamespaceKind, Netns, PidFd},
};

/// Everything there is of a running stack.
pub struct Stack {
    pub(super) layout: StackLayout,
    pub(super) keeper: Keeper,
    pub(super) ids: StackIds,
    pub(super) netns: Arc<Netns>,
    pub(super) netlink: Netlink,
    pub(super) hierarchy: Hierarchy,
    pub(super) group: Option<StackGroup>,
    pub(super) ask_for_network: AskForNetwork,
    journal: Journal,
    objects: Mutex<Objects>,
}

/// What steps add and remove; locked for a moment at a time, never across an await.
#[derive(Default)]
pub(super) struct Objects {
    /// The bridge of each network.
    pub(super) bridges: BTreeMap<NetworkName, Arc<StackBridge>>,
    pub(super) namespaces: BTreeMap<ServiceName, Arc<OwnedNamespaces>>,
    pub(super) containers: BTreeMap<ServiceName, Running>,
    /// Each is locked by who fills it for the first time.
    pub(super) filling: BTreeMap<VolumeName, Arc<tokio::sync::Mutex<()>>>,
    /// How containers see the host's files; the same for all.
    pub(super) host_view: Option<HostView>,
}

/// A bridge that services are connected to.
pub(super) struct StackBridge {
    pub(super) index: LinkIndex,
    pub(super) interface: String,
    /// Where it is: the namespace of the stack, or that of a network that stacks share.
    pub(super) netns: Arc<Netns>,
    pub(super) netlink: Netlink,
    /// The network that stacks share which it is of.
    pub(super) shared: Option<NetworkName>,
}

/// The namespaces that a service owns.
pub(super) struct OwnedNamespaces {
    pub(super) pinned: Pinned,
    /// Its network, to be configured.
    pub(super) net: Option<(Netns, Netlink)>,
}

/// A container.
pub(super) struct Running {
    pub(super) pid: i32,
    pub(super) pidfd: Arc<PidFd>,
    pub(super) exit: watch::Receiver<Option<ExitStatus>>,
    /// Its first process is pid 1 of a namespace, which gets no signal that it does not handle.
    pub(super) is_init: bool,
    pub(super) stop_signal: StopSignal,
    pub(super) stop_grace_ms: u64,
    pub(super) process: Process,
    pub(super) group: Option<Group>,
    pub(super) folder: PathBuf,
    /// Keeps its layers from being removed.
    pub(super) _image: Option<InUse>,
    /// Dropped with it: from then on nobody listens on its ports.
    pub(super) forwarders: Vec<Forwarder>,
    /// Takes down the last of its log and tells of its end; done a moment after it has ended.
    pub(super) told: Option<JoinHandle<()>>,
}

/// A program to run in a container.
#[derive(Debug, Clone)]
pub struct Exec {
    /// Where.
    pub service: ServiceName,
    /// Command line.
    pub argv: Vec<String>,
    /// Added to the environment of the container.
    pub environment: Vec<(String, String)>,
    /// Who it runs as; none is whoever the container runs as.
    pub user: Option<crate::model::UserSpec>,
    /// Where it runs; none is the working directory of the container.
    pub working_dir: Option<PathBuf>,
    /// Rows and columns of its terminal.
    pub terminal: Option<(u16, u16)>,
}

impl Stack {
    /// A stack with nothing in it but its network namespace. To be called on the runtime that it will live on.
    ///
    /// # Errors
    /// When there can be no network namespace, or no socket in it.
    pub fn create(
        layout: StackLayout,
        keeper: Keeper,
        ids: StackIds,
        journal: Journal,
        ask_for_network: AskForNetwork,
    ) -> Result<Self, NetlinkError> {
        let netns = Netns::create().map_err(|source| NetlinkError::Open { source })?;
        // What the host forwards by IPv6 a new namespace may take over (net.core.devconf_inherit_init_net), and networks of a
        // stack are apart. There is nothing to be set where there is no IPv6.
        let _ = netns.run(|| std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "0"));
        let netlink = Netlink::open(&netns)?;
        let hierarchy = Hierarchy::detect();
        let group = hierarchy.stack(layout.project(), &layout.runtime(), ids == StackIds::Root);
        if let Some(Err(error)) = group.as_ref().map(|group| journal.add(&Entry::Cgroup(group.path().to_owned()))) {
            tracing::error!(%error, "the control group of the stack is not written down");
        }
        Ok(Self {
            layout,
            keeper,
            ids,
            netns: Arc::new(netns),
            netlink,
            hierarchy,
            group,
            ask_for_network,
            journal,
            objects: Mutex::new(Objects::default()),
        })
    }

    /// Waits until the keeper has ended, which it never does by itself.
    pub async fn keeper_gone(&self) {
        self.keeper.gone().await;
    }

    /// Its places on disk.
    pub fn layout(&self) -> &StackLayout {
        &self.layout
    }

    /// Whose ids its containers have.
    pub fn ids(&self) -> &StackIds {
        &self.ids
    }

    /// The objects. No step panics while it holds them; should one, they are still whole.
    pub(super) fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The namespaces that `service` owns.
    pub(super) fn namespaces(&self, service: &ServiceName) -> Result<Arc<OwnedNamespaces>, ExecutorError> {
        let found = self.objects().namespaces.get(service).cloned();
        found.ok_or_else(|| ExecutorError::Missing(format!("the namespaces of `{service}`")))
    }

    /// The network namespace of a network that stacks share, if this one is on it.
    pub fn shared_network(&self, name: &NetworkName) -> Option<Arc<Netns>> {
        let objects = self.objects();
        let bridge = objects.bridges.values().find(|bridge| bridge.shared.as_ref() == Some(name));
        bridge.map(|bridge| bridge.netns.clone())
    }

    /// Sends a signal to the first process of every container.
    pub fn signal_all(&self, signal: StopSignal) {
        for container in self.objects().containers.values() {
            let _ = container.pidfd.signal(signal.number());
        }
    }

    /// Stops listening for a container that has ended.
    pub fn release_ports(&self, service: &ServiceName) {
        if let Some(container) = self.objects().containers.get_mut(service).filter(|c| c.exit.borrow().is_some()) {
            container.forwarders.clear();
        }
    }

    /// Gives every container this many milliseconds to stop, instead of what the file says.
    pub fn set_grace(&self, grace_ms: u64) {
        for container in self.objects().containers.values_mut() {
            container.stop_grace_ms = grace_ms;
        }
    }

    /// Runs a program in a container, with `fds` as its standard streams and, for one with a terminal, the socket that the
    /// terminal's other side is sent through. It runs when this comes back.
    ///
    /// # Errors
    /// When the container does not run, or the program cannot be run.
    pub async fn exec(&self, exec: Exec, mut fds: Vec<OwnedFd>) -> Result<Started, ExecError> {
        let wanted = 3 + usize::from(exec.terminal.is_some());
        if fds.len() != wanted {
            return Err(ExecError::Descriptors { wanted, came: fds.len() });
        }
        let (order, group, target) = {
            let objects = self.objects();
            let container = objects.containers.get(&exec.service).filter(|container| container.exit.borrow().is_none());
            let container = container.ok_or_else(|| ExecError::NotRunning(exec.service.clone()))?;
            let mut process = container.process.clone();
            process.argv = exec.argv;
            process.make_working_dir = false;
            process.user = exec.user.or(process.user);
            process.working_dir = exec.working_dir.unwrap_or(process.working_dir);
            for (name, value) in exec.environment {
                process.environment.retain(|(known, _)| *known != name);
                process.environment.push((name, value));
            }
            let group = container.group.as_ref().map(Group::open).transpose().map_err(ExecError::Group)?;
            let order = ExecOrder { pid: container.pid, process, terminal: exec.terminal, cgroup: group.is_some() };
            let target = container.pidfd.as_fd().try_clone_to_owned();
            (order, group, target.map_err(SandboxError::Talk)?)
        };
        let (status_reader, status) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|errno| SandboxError::Talk(errno.into()))?;
        fds.insert(3, status);
        fds.extend(group);
        fds.push(target);
        let started = self.keeper.exec(order, fds).await?;
        program_runs(status_reader).await?;
        Ok(started)
    }

    /// Writes down a process that would be left if the supervisor were killed.
    pub(super) fn note_process(&self, pid: i32) -> io::Result<()> {
        // One that has gone already leaves nothing.
        ProcessRecord::of(pid).map_or(Ok(()), |process| self.journal.add(&Entry::Process(process)))
    }

    /// Writes down a control group likewise.
    pub(super) fn note_group(&self, group: &Group) -> io::Result<()> {
        self.journal.add(&Entry::Cgroup(group.path().to_owned()))
    }

    /// Removes the control group of the stack, once its containers have gone.
    pub fn remove_group(&self) {
        if let Some(Err(error)) = self.group.as_ref().map(StackGroup::remove) {
            tracing::warn!(%error, "the control group of the stack is left");
        }
    }

    /// Where a named volume is.
    pub(super) fn volume(&self, volume: &VolumeName) -> VolumeFolder {
        VolumeFolder { path: self.layout.volume(volume), marker: self.layout.volume_marker(volume) }
    }

    /// Waits until nobody fills this volume, and keeps others from it.
    pub(super) async fn fill(&self, volume: &VolumeName) -> OwnedMutexGuard<()> {
        let lock = self.objects().filling.entry(volume.clone()).or_default().clone();
        lock.lock_owned().await
    }

    /// The descriptor of a namespace that `service` owns.
    pub(super) fn pinned(&self, service: &ServiceName, kind: NamespaceKind) -> Result<OwnedFd, ExecutorError> {
        let owned = self.namespaces(service)?;
        let missing = || ExecutorError::Missing(format!("the {} namespace of `{service}`", kind.proc_name()));
        let namespace = owned.pinned.get(kind).ok_or_else(missing)?;
        std::os::fd::AsFd::as_fd(namespace).try_clone_to_owned().map_err(|source| ExecutorError::Files {
            service: service.clone(),
            what: "hold the namespaces of",
            path: PathBuf::from(kind.proc_name()),
            source,
        })
    }
}

/// Why a program was not run in a container.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// There is nothing to run it in.
    #[error("service `{0}` does not run")]
    NotRunning(ServiceName),
    /// The client sent too few or too many descriptors.
    #[error("{came} descriptors came with the request, which needs {wanted}")]
    Descriptors {
        /// How many a request of this kind has.
        wanted: usize,
        /// How many came.
        came: usize,
    },
    /// Its control group cannot be opened.
    #[error("cannot open the control group of the container")]
    Group(#[source] io::Error),
    /// What the keeper said.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
}
