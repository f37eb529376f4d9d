//! What operations make and hold: the stack as kernel objects.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::{OwnedMutexGuard, mpsc::UnboundedSender, watch},
    task::JoinHandle,
};

use super::{
    AskForNetwork, Change, ExecutorError,
    facts::{NETNS, PORTS, of_service},
    family::Family,
    freeze::Freezer,
    life::{self, Unit},
    logs::Logs,
    names::{NameServer, Names},
    streams::{Attached, Output, Streams},
    volume::VolumeFolder,
};
use crate::{
    cgroup::{self, CgroupError, Group, Hierarchy, StackGroup},
    diagnostics::chain,
    image::store::InUse,
    life::Happening,
    model::{
        Capabilities, Cgroups, Hook, Life, NetworkName, Rootfs, ServiceName, StopSignal, Usage, Volume, VolumeName,
    },
    network::{
        self,
        netlink::{LinkIndex, Netlink, NetlinkError},
        ports::Forwarder,
        uplink::Uplink,
    },
    plan::ContainerSpec,
    sandbox::{
        self, ExecOrder, Forget, HostView, Keeper, NamespaceOrder, Pinned, Process, SandboxError, StackIds, Started,
    },
    state::{Entry, Journal, ProcessRecord, StackLayout},
    sys::{ExitStatus, Namespace, NamespaceKind, Netns, PidFd},
};

/// Everything there is of a running stack.
pub struct Stack {
    pub(super) layout: StackLayout,
    pub(super) keeper: Keeper,
    pub(super) ids: StackIds,
    pub(super) netns: Arc<Netns>,
    pub(super) netlink: Netlink,
    pub(super) hierarchy: Hierarchy,
    pub(super) names: Names,
    /// The one that is asked for takes the place of the first.
    group: Mutex<Option<StackGroup>>,
    cgroups: Cgroups,
    pub(super) ask_for_network: AskForNetwork,
    pub(super) journal: Arc<Journal>,
    pub(super) logs: Arc<Logs>,
    pub(super) objects: Mutex<Objects>,
    pub(super) host_users: tokio::sync::OnceCell<Pinned>,
    lives: watch::Sender<BTreeMap<ServiceName, Life>>,
}

/// What steps add and remove; locked for a moment at a time, never across an await.
#[derive(Default)]
pub(super) struct Objects {
    /// The bridge of each network.
    pub(super) bridges: BTreeMap<NetworkName, Arc<StackBridge>>,
    pub(super) namespaces: BTreeMap<ServiceName, Arc<OwnedNamespaces>>,
    pub(super) containers: BTreeMap<ServiceName, Running>,
    /// What each was made from, so that it can be started again.
    pub(super) specs: BTreeMap<ServiceName, Arc<ContainerSpec>>,
    /// Containers that have been made and never started.
    pub(super) created: BTreeMap<ServiceName, Created>,
    /// Anonymous volumes that the latest plan to make the container has made with it.
    pub(super) new_volumes: BTreeMap<ServiceName, Vec<VolumeFolder>>,
    /// Who looks after each of them.
    pub(super) units: BTreeMap<ServiceName, Unit>,
    /// What the last look at the health of each wrote, if it went wrong.
    pub(super) last_probes: BTreeMap<ServiceName, String>,
    /// When commands of `pre_start` have been started, whose output is among that of their services.
    pub(super) hooks_began: BTreeMap<ServiceName, jiff::Timestamp>,
    /// Each is locked by who fills it for the first time.
    pub(super) filling: BTreeMap<VolumeName, Arc<tokio::sync::Mutex<()>>>,
    /// How containers see the host's files; the same for all with ids of their own, and for all with those of the machine.
    pub(super) host_views: BTreeMap<bool, HostView>,
    /// Rows and columns of terminals, as far as somebody has told.
    pub(super) terminal_size: Option<(u16, u16)>,
    /// The way out, if there is one.
    pub(super) uplink: Option<Arc<Uplink>>,
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
    /// The hold on the init of its pid namespace, if it owns one.
    pub(super) init: Option<PidFd>,
    /// Those of them that are of containers of other stacks, with their names.
    pub(super) elsewhere: BTreeMap<NamespaceKind, String>,
    /// Its network, to be configured.
    pub(super) net: Option<(Netns, Netlink)>,
    /// Answers in there for as long as this is there.
    pub(super) _resolver: Option<NameServer>,
}

/// What is held of a container that has been made and never started.
pub(super) struct Created {
    pub(super) folder: PathBuf,
    /// Keep its volumes from being removed by other stacks.
    pub(super) _volumes: Vec<std::fs::File>,
    /// Keep its layers from being removed, and those that it will have mounted.
    pub(super) _images: Vec<InUse>,
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
    pub(super) group: Option<Arc<Group>>,
    /// Its network is not the host's.
    pub(super) own_network: bool,
    pub(super) folder: PathBuf,
    /// Keep its volumes from being removed by other stacks.
    pub(super) _volumes: Vec<std::fs::File>,
    /// Keep its layers from being removed, and those that it has mounted.
    pub(super) _images: Vec<InUse>,
    /// Dropped with it: from then on nobody listens on its ports.
    pub(super) forwarders: Vec<Forwarder>,
    /// Takes down the last of its log and tells of its end; done a moment after it has ended.
    pub(super) told: Option<JoinHandle<()>>,
    /// Whether its end has been told.
    pub(super) end_told: watch::Receiver<bool>,
    /// Its standard streams.
    pub(super) streams: Streams,
    /// All that it has left when it has ended.
    pub(super) family: Arc<Family>,
    /// When it was made.
    pub(super) since: Instant,
    /// Freezes its processes.
    pub(super) freezer: Arc<Freezer>,
    /// Its program has been run. Before that nobody enters it: it may see the host's files still.
    pub(super) runs: bool,
    /// Where it is told what happens to it.
    pub(super) changes: UnboundedSender<Change>,
    /// What is run in it before it is asked to stop, once it is up.
    pub(super) pre_stop: Vec<Hook>,
}

impl Running {
    /// Its program runs.
    fn has_program(&self) -> bool {
        self.runs && self.exit.borrow().is_none()
    }
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
    /// It has every capability of the container's user namespace.
    pub privileged: bool,
    /// It goes on when the supervisor dies, as it does when its client goes.
    pub stays: bool,
}

/// A program on its way.
pub struct Starting {
    /// Its process.
    pub started: Started,
    status: OwnedFd,
}

impl Starting {
    /// Waits until the program runs.
    ///
    /// # Errors
    /// When it cannot be run.
    pub async fn runs(self) -> Result<(), ExecError> {
        Ok(sandbox::runs(self.status).await?)
    }
}

impl Stack {
    /// A stack with nothing in it but its network namespace. To be called on the runtime that it will live on.
    ///
    /// # Errors
    /// When there can be no network namespace, or no socket in it.
    pub async fn create(
        layout: StackLayout,
        keeper: Keeper,
        ids: StackIds,
        journal: Journal,
        ask_for_network: AskForNetwork,
    ) -> Result<Self, NetlinkError> {
        let netns = Netns::create().map_err(|source| NetlinkError::Open { source })?;
        let kept = netns.as_fd().try_clone_to_owned().map_err(|source| NetlinkError::Open { source })?;
        let kept = keeper.keep(vec![(NETNS.to_owned(), kept)]).await;
        kept.map_err(|error| NetlinkError::Open { source: io::Error::other(error) })?;
        // What the host forwards by IPv6 a new namespace may take over (net.core.devconf_inherit_init_net), and networks of a
        // stack are apart. There is nothing to be set where there is no IPv6.
        let _ = netns.run(|| std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "0"));
        network::keep_bridges_from_netfilter(&netns);
        // No service is a router of the stack. And addresses of bridges, which nobody else can have, are there at once, or the first client
        // from outside would wait for a second.
        for name in ["accept_ra", "accept_dad"] {
            let _ = netns.run(|| std::fs::write(format!("/proc/sys/net/ipv6/conf/default/{name}"), "0"));
        }
        Self::around(layout, keeper, ids, journal, ask_for_network, netns, false)
    }

    /// A stack around its network namespace. With `asked` it has a control group that was asked for.
    pub(super) fn around(
        layout: StackLayout,
        keeper: Keeper,
        ids: StackIds,
        journal: Journal,
        ask_for_network: AskForNetwork,
        netns: Netns,
        asked: bool,
    ) -> Result<Self, NetlinkError> {
        let netlink = Netlink::open(&netns)?;
        let hierarchy = Hierarchy::detect();
        let group = match asked {
            true => hierarchy.stack_beside(keeper.pid(), layout.project(), &layout.runtime()),
            false => hierarchy.stack(layout.project(), &layout.runtime(), ids == StackIds::Root),
        };
        let cgroups = hierarchy.offers(ids == StackIds::Root);
        let stack = Self {
            names: Names::new(&layout, keeper.pid()),
            layout,
            keeper,
            ids,
            netns: Arc::new(netns),
            netlink,
            hierarchy,
            group: Mutex::new(None),
            cgroups,
            ask_for_network,
            journal: Arc::new(journal),
            logs: Arc::default(),
            objects: Mutex::new(Objects::default()),
            host_users: tokio::sync::OnceCell::new(),
            lives: watch::Sender::default(),
        };
        if let Some(group) = group {
            stack.set_group(group);
        }
        Ok(stack)
    }

    /// The user namespace of containers with `userns_mode: host`; none is that of the machine, for its root.
    ///
    /// For others it is one below the stack's own with the same ids, made when it is first wanted. In that itself are the
    /// keeper and its helpers, whose memory belongs to it: a container in there that has rights over it and sees the host's
    /// processes could take them over, and with them all that the account may do (ptrace(2)).
    pub(super) async fn users_of_host(&self) -> Result<Option<&Namespace>, SandboxError> {
        if self.ids == StackIds::Root {
            return Ok(None);
        }
        // As many as there are.
        let order = NamespaceOrder { ids: Some((0, u32::MAX)), ..NamespaceOrder::default() };
        let made = self.host_users.get_or_try_init(|| self.keeper.namespaces(order, None, Vec::new())).await?;
        Ok(made.get(NamespaceKind::User))
    }

    /// The same, if it has been made.
    pub(super) fn known_users_of_host(&self) -> Option<&Namespace> {
        self.host_users.get()?.get(NamespaceKind::User)
    }

    /// The number of the keeper: it is there for as long as the stack is, whatever becomes of supervisors.
    pub fn keeper_pid(&self) -> i32 {
        self.keeper.pid()
    }

    /// Waits until the keeper has ended, which it never does by itself.
    pub async fn keeper_gone(&self) {
        self.keeper.gone().await;
    }

    /// Whether all of it is about to go, and what leads to it from outside along with it.
    pub async fn leaves(&self, leaves: bool) {
        let Some(uplink) = self.uplink() else { return };
        if let Err(error) = uplink.leaves(leaves).await {
            tracing::warn!(error = chain(&error), "rules on the host lead to what is not there any more");
        }
    }

    /// Says where a container is in its life, or that it is gone, to all who wait for it.
    pub fn set_life(&self, service: &ServiceName, life: Option<Life>) {
        self.lives.send_if_modified(|lives| match life {
            Some(life) => lives.insert(service.clone(), life) != Some(life),
            None => lives.remove(service).is_some(),
        });
    }

    /// Where all containers are in their lives, to be waited for. It changes after [`Change`](super::Change)s have been taken
    /// note of.
    pub fn lives(&self) -> watch::Receiver<BTreeMap<ServiceName, Life>> {
        self.lives.subscribe()
    }

    /// What the last probe of a service wrote that failed, for people who wait for it.
    pub fn last_probe(&self, service: &ServiceName) -> Option<String> {
        self.objects().last_probes.get(service).cloned()
    }

    /// What its control groups cannot do.
    pub fn cgroups(&self) -> &Cgroups {
        &self.cgroups
    }

    /// The group that those of containers are made in.
    pub(super) fn group(&self) -> Option<StackGroup> {
        self.group.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_group(&self, group: StackGroup) {
        for path in group.paths() {
            if let Err(error) = self.journal.add(&Entry::Cgroup(path)) {
                tracing::error!(%error, "the control group of the stack is not written down");
            }
        }
        *self.group.lock().unwrap_or_else(PoisonError::into_inner) = Some(group);
    }

    /// Asks the service manager of the account for a control group, and has the keeper in it, from which all containers come.
    pub(super) async fn ask_for_group(&self) -> Result<(), CgroupError> {
        let keeper = self.keeper.pid();
        let name = format!("nscompose-{}-{keeper}.scope", self.layout.project());
        cgroup::ask_for_scope(&name, keeper).await?;
        let before = self.group();
        let group = self.hierarchy.stack_beside(keeper, self.layout.project(), &self.layout.runtime());
        self.set_group(group.ok_or(CgroupError::NotMoved { pid: keeper })?);
        // Containers that are there stay in theirs.
        if let Some(before) = before {
            let _ = before.remove();
        }
        Ok(())
    }

    /// What each container uses, as far as it is counted.
    pub fn usage(&self) -> BTreeMap<ServiceName, Usage> {
        let objects = self.objects();
        let running = objects.containers.iter().filter(|(_, container)| container.exit.borrow().is_none());
        let usage = running.map(|(name, container)| {
            let mut usage = container.group.as_ref().map(|group| group.usage()).unwrap_or_default();
            if container.own_network && container.pidfd.is_alive() {
                (usage.received, usage.sent) = traffic(container.pid).unzip();
            }
            (name.clone(), usage)
        });
        usage.collect()
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

    /// Tells whoever looks after a container what happens to it from outside: that it is frozen or thawed, that somebody wants
    /// it stopped or started. When this comes back that has been dealt with: no start and no probe is under way that should
    /// not be. So one that is to be frozen is [`Happening::Paused`] before it is: nothing may be on its way into it then. False
    /// if nobody looks after it.
    pub async fn tell(&self, service: &ServiceName, happening: Happening) -> bool {
        life::tell(service, self, happening).await
    }

    /// Sends a signal to the first process of every container, none of which is started again by itself.
    pub fn signal_all(&self, signal: StopSignal) {
        life::hands_off_all(self);
        for container in self.objects().containers.values() {
            let _ = container.pidfd.signal(signal.number());
            container.freezer.thaw();
        }
    }

    /// Sends a signal to the first process of a container, as far as it has one, and tells of it. One whose program does not run yet
    /// hears of SIGKILL only. True if it was frozen, and goes on to take it.
    pub(super) fn signal(&self, service: &ServiceName, signal: StopSignal) -> bool {
        let objects = self.objects();
        let hears = |c: &&Running| c.exit.borrow().is_none() && (c.runs || signal == StopSignal::KILL);
        let Some(container) = objects.containers.get(service).filter(hears) else { return false };
        let _ = container.changes.send(Change::Signalled(service.clone(), container.pid, signal));
        // ESRCH: it ended just now.
        let _ = container.pidfd.signal(signal.number());
        // As in Docker: what is to end it is not for later. Any other waits with it.
        if signal == StopSignal::KILL || signal == container.stop_signal {
            let was_frozen = container.freezer.is_frozen();
            container.freezer.thaw();
            return was_frozen;
        }
        false
    }

    /// Waits until whoever keeps the picture of the stack has taken note that a container has no processes any more.
    pub(super) async fn settled(&self, service: &ServiceName) {
        let mut lives = self.lives();
        let ended = lives.wait_for(|lives| lives.get(service).is_none_or(|life| !life.state.is_alive()));
        // The last of its log may be kept back by something that cannot be killed.
        let _ = tokio::time::timeout(SETTLING, ended).await;
    }

    /// What a container was made from.
    pub(super) fn spec(&self, service: &ServiceName) -> Result<Arc<ContainerSpec>, ExecutorError> {
        let found = self.objects().specs.get(service).cloned();
        found.ok_or_else(|| ExecutorError::Missing(format!("what the container of `{service}` was made from")))
    }

    /// The image that a container was made from, as its file calls it.
    pub fn image_of(&self, service: &ServiceName) -> Option<String> {
        match &self.objects().specs.get(service)?.files.rootfs {
            Rootfs::Layers(image) => Some(image.name.clone()),
            Rootfs::Image(image) => Some(image.source.to_string()),
            Rootfs::Host | Rootfs::Directory(_) | Rootfs::Tar(_) => None,
        }
    }

    /// Whether there is such a container, if only a made one.
    pub(super) fn has(&self, service: &ServiceName) -> bool {
        let objects = self.objects();
        objects.containers.contains_key(service) || objects.created.contains_key(service)
    }

    /// Forgets what a container was made from that is gone.
    pub fn forget(&self, service: &ServiceName) {
        let mut objects = self.objects();
        if !objects.containers.contains_key(service) && !objects.created.contains_key(service) {
            objects.specs.remove(service);
            objects.last_probes.remove(service);
            objects.hooks_began.remove(service);
        }
    }

    /// The processes of each container that runs.
    pub async fn processes(&self) -> BTreeMap<ServiceName, Vec<ProcessRecord>> {
        let freezers: Vec<(ServiceName, Arc<Freezer>)> = {
            let objects = self.objects();
            let running = objects.containers.iter().filter(|(_, container)| container.exit.borrow().is_none());
            running.map(|(name, container)| (name.clone(), container.freezer.clone())).collect()
        };
        let list = move || {
            let listed = freezers.into_iter().map(|(name, freezer)| {
                let members = freezer.members().unwrap_or_default();
                // Held while it is looked at, so that its number means nobody else.
                let record = |(pid, held): &(i32, PidFd)| ProcessRecord::of(*pid).filter(|_| held.is_alive());
                (name, members.iter().filter_map(record).collect())
            });
            listed.collect()
        };
        // Of a large stack on a large machine it takes a moment.
        tokio::task::spawn_blocking(list).await.unwrap_or_default()
    }

    /// Nobody reaches or finds a container that has ended.
    pub fn ended(&self, service: &ServiceName) {
        let mut objects = self.objects();
        let Some(container) = objects.containers.get_mut(service).filter(|c| c.exit.borrow().is_some()) else { return };
        container.forwarders.clear();
        container.freezer.thaw();
        self.keeper.forget(vec![Forget::Descriptors(of_service(service, PORTS))]);
        self.names.disappears(service);
        let owner = super::uplink::owner(service, container.pid);
        if let Some(uplink) = objects.uplink.clone() {
            // What is refused now is refused again, and said, with the next change.
            tokio::spawn(async move { uplink.publish(&owner, Vec::new()).await });
        }
    }

    /// The way out, if there is one.
    pub(super) fn uplink(&self) -> Option<Arc<Uplink>> {
        self.objects().uplink.clone()
    }

    /// Gives every container this many milliseconds to stop, instead of what the file says.
    pub fn set_grace(&self, grace_ms: u64) {
        for container in self.objects().containers.values_mut() {
            container.stop_grace_ms = grace_ms;
        }
    }

    /// How long a container has to stop.
    pub(super) fn grace_of(&self, service: &ServiceName) -> Duration {
        let grace_ms = self.objects().containers.get(service).map_or(0, |container| container.stop_grace_ms);
        Duration::from_millis(grace_ms)
    }

    /// Gives one container this many milliseconds to stop, instead of what its file says.
    pub(super) fn set_grace_of(&self, service: &ServiceName, grace_ms: u64) {
        if let Some(container) = self.objects().containers.get_mut(service) {
            container.stop_grace_ms = grace_ms;
        }
    }

    /// Tells all terminals of the stack, and those that are still to come, how large they are.
    pub fn resize(&self, size: (u16, u16)) {
        let mut objects = self.objects();
        objects.terminal_size = Some(size);
        objects.containers.values().for_each(|container| container.streams.resize(size));
    }

    /// Attaches to a running container; what it writes from now on comes along.
    ///
    /// # Errors
    /// When it does not run.
    pub fn attach(&self, service: &ServiceName) -> Result<(Attached, Output), ExecError> {
        let objects = self.objects();
        let container = objects.containers.get(service).filter(|container| container.has_program());
        let container = container.ok_or_else(|| ExecError::NotRunning(service.clone()))?;
        let (exit, told) = (container.exit.clone(), container.end_told.clone());
        Ok(Attached::new(container.streams.clone(), container.pidfd.clone(), exit, told))
    }

    /// Runs a program in a container, with `fds` as its standard streams and, for one with a terminal, the socket that the
    /// terminal's other side is sent through. Its process is there when this comes back, and may not have come to the
    /// program yet.
    ///
    /// # Errors
    /// When the container does not run, or the program cannot be run.
    pub async fn exec(&self, exec: Exec, mut fds: Vec<OwnedFd>) -> Result<Starting, ExecError> {
        let wanted = 3 + usize::from(exec.terminal.is_some());
        if fds.len() != wanted {
            return Err(ExecError::Descriptors { wanted, came: fds.len() });
        }
        let (order, group, target, freezer) = {
            let objects = self.objects();
            let container = objects.containers.get(&exec.service).filter(|container| container.has_program());
            let container = container.ok_or_else(|| ExecError::NotRunning(exec.service.clone()))?;
            let mut process = container.process.clone();
            process.argv = exec.argv;
            process.make_working_dir = false;
            process.user = exec.user.or(process.user);
            if exec.privileged {
                process.privileges.capabilities = Capabilities::ALL;
            }
            process.working_dir = exec.working_dir.unwrap_or(process.working_dir);
            for (name, value) in exec.environment {
                process.environment.retain(|(known, _)| *known != name);
                process.environment.push((name, value));
            }
            let group = container.group.as_ref().map(|group| group.open()).transpose().map_err(ExecError::Group)?;
            let group = group.unwrap_or_default();
            let order = ExecOrder {
                pid: container.pid,
                process,
                terminal: exec.terminal,
                cgroup: group.v2.is_some(),
                older_cgroups: group.v1.len(),
            };
            let target = container.pidfd.as_fd().try_clone_to_owned();
            (order, group, target.map_err(SandboxError::Talk)?, container.freezer.clone())
        };
        // A helper goes into the container's control group, and the keeper waits for it.
        let _inside = freezer.enter().ok_or_else(|| ExecError::Paused(exec.service.clone()))?;
        let (status_reader, status) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|errno| SandboxError::Talk(errno.into()))?;
        fds.insert(3, status);
        fds.extend(group.v2.into_iter().chain(group.v1));
        fds.push(target);
        let started = self.keeper.exec(order, fds, exec.stays).await?;
        Ok(Starting { started, status: status_reader })
    }

    /// Writes down a process that would be left if the supervisor were killed.
    pub(super) fn note_process(&self, pid: i32) -> io::Result<()> {
        // One that has gone already leaves nothing.
        ProcessRecord::of(pid).map_or(Ok(()), |process| self.journal.add(&Entry::Process(process)))
    }

    /// Writes down what there is, for the next supervisor.
    pub(super) fn record(&self, name: &str, fact: &impl serde::Serialize) -> Result<(), ExecutorError> {
        let failed = |source| ExecutorError::Facts { path: self.layout.facts(), source };
        self.journal.put(name, fact).map_err(failed)
    }

    /// Writes down that it is there no more. Where that cannot be, the next supervisor sees it by itself.
    pub(super) fn strike(&self, name: &str) {
        if let Err(error) = self.journal.strike(name) {
            tracing::warn!(name, %error, "the facts do not say that it has gone");
        }
    }

    /// Writes down what the supervisor wants the next one to know.
    ///
    /// # Errors
    /// What write(2) says.
    pub fn remember(&self, name: &str, fact: &impl serde::Serialize) -> io::Result<()> {
        self.journal.put(name, fact)
    }

    /// Takes that back.
    pub fn no_longer(&self, name: &str) {
        self.strike(name);
    }

    /// Writes down something else likewise.
    pub(super) fn note(&self, entry: &Entry) -> io::Result<()> {
        self.journal.add(entry)
    }

    /// Writes down a control group likewise.
    pub(super) fn note_group(&self, group: &Group) -> io::Result<()> {
        group.parents().try_for_each(|path| self.journal.add(&Entry::SharedCgroup(path.to_owned())))?;
        group.paths().try_for_each(|path| self.journal.add(&Entry::Cgroup(path.to_owned())))
    }

    /// Makes no more files of logs; what is in them stays.
    pub fn close_logs(&self) {
        self.logs.close();
    }

    /// Removes the control group of the stack, once its containers have gone.
    pub fn remove_group(&self) {
        if let Some(Err(error)) = self.group().map(|group| group.remove()) {
            tracing::warn!(%error, "the control group of the stack is left");
        }
    }

    /// Where a named volume is.
    pub(super) fn volume(&self, name: &VolumeName, volume: &Volume) -> VolumeFolder {
        VolumeFolder { path: self.layout.volume(name, volume), marker: self.layout.volume_marker(name, volume) }
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

/// How long the news of the end of a container may take after it.
const SETTLING: Duration = Duration::from_secs(5);

/// Bytes that the interfaces of a process's network have received and sent, but for the loopback one (proc_pid_net(5)).
fn traffic(pid: i32) -> Option<(u64, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).ok()?;
    let interfaces = text.lines().skip(2).filter_map(|line| line.split_once(':'));
    let counted = interfaces.filter(|(name, _)| name.trim() != "lo").filter_map(|(_, numbers)| {
        let mut numbers = numbers.split_whitespace();
        Some((numbers.next()?.parse::<u64>().ok()?, numbers.nth(7)?.parse::<u64>().ok()?))
    });
    Some(counted.fold((0, 0), |(received, sent), (r, s)| (received + r, sent + s)))
}

/// Why a program was not run in a container.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// There is nothing to run it in.
    #[error("service `{0}` does not run")]
    NotRunning(ServiceName),
    /// Nothing runs in it for now.
    #[error("service `{0}` is paused")]
    Paused(ServiceName),
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
