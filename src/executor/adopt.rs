//! Going on with the stack of a supervisor that has died.
//!
//! ```text
//! journal: what there is ──┐
//!                          ├──▶ Stack, and a Change for each thing, from which the picture of it comes
//! keeper: descriptors ─────┘
//! ```
//!
//! What the journal says and the keeper has is taken over. What only the keeper has, or only the kernel, was made by a step
//! that was not done when the supervisor died, and is removed; what only the journal has was on its way out, and is forgotten.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::de::DeserializeOwned;
use tokio::sync::{mpsc::UnboundedSender, watch};

use super::{
    AskForNetwork, Change, Stack,
    container::{Began, CONTAINERS, INPUT, LOCKS, MOUNTS, TERMINAL, Watched, piped, socket_of_port, spooled, watch},
    family::Family,
    logs,
    operation::{
        GROUP, NAMES, UPLINK, forget_namespaces, held_key, kill, namespaces_fact, network_fact, observed_network,
        open_network, own, shared_key,
    },
    root::HOST_VIEWS,
    spool::Spool,
    stack::{NETNS, Running, StackBridge, of_service},
    stop,
    streams::{Listeners, Streams, waited_for},
    uplink,
};
use crate::{
    cgroup,
    model::{ContainerState, ServiceName},
    network::{
        netlink::{Netlink, NetlinkError},
        ports::{Claimed, Forwarder, serve},
        uplink::{INNER, Ports},
    },
    plan,
    sandbox::{Keeper, Kept, StackIds, Started, forget_shared_memory},
    state::{Entry, Journal, Past, StackLayout, Stream},
    sys::{Namespace, NamespaceKind, Netns, PidFd},
};

/// How long what was killed may take to be gone.
const KILL_PATIENCE: Duration = Duration::from_secs(20);

/// What a supervisor that has died has left.
pub struct Inherited {
    /// The keeper.
    pub keeper: Keeper,
    /// What it has kept.
    pub kept: Kept,
    /// Processes that it is the parent of, by name.
    pub processes: BTreeMap<String, Started>,
    /// The journal, to be gone on with.
    pub journal: Journal,
    /// What it says.
    pub past: Past,
}

impl Stack {
    /// Goes on with the stack of a supervisor that has died. What there is of it is told as changes. To be called on the runtime
    /// that it will live on.
    ///
    /// # Errors
    /// When the kernel does not say what there is.
    pub async fn adopt(
        layout: StackLayout,
        ids: StackIds,
        inherited: Inherited,
        ask_for_network: AskForNetwork,
        changes: &UnboundedSender<Change>,
    ) -> Result<Self, NetlinkError> {
        let Inherited { keeper, kept: Kept { mut descriptors, namespaces, .. }, processes, journal, past } = inherited;
        let Some(netns) = descriptors.remove(NETNS) else {
            // It had not come to anything.
            return Self::create(layout, keeper, ids, journal, ask_for_network).await;
        };
        let asked = past.facts.contains_key(GROUP);
        let netns = Netns::from_fd(netns);
        let stack = Self::around(layout, keeper, ids, journal, ask_for_network, netns, asked)?;
        if asked {
            let _ = changes.send(Change::GroupGiven);
        }
        let mut adoption = Adoption { stack: &stack, changes, past: &past, descriptors, namespaces, processes };
        let began = adoption.end_what_was_half_done();
        adoption.networks().await?;
        adoption.namespaces();
        adoption.links().await?;
        if let Some(names) = adoption.fact::<plan::Names>(NAMES) {
            stack.names.plan(names);
        }
        for of_machine in [false, true] {
            if let Some(view) = adoption.fact(&format!("{HOST_VIEWS}{of_machine}")) {
                stack.objects().host_views.insert(of_machine, view);
            }
        }
        let mut ports = Vec::new();
        for (service, began) in began {
            ports.extend(adoption.container(&service, began));
        }
        if let Some(way) = adoption.fact::<uplink::Way>(UPLINK) {
            let _ = changes.send(Change::Uplink(way.wish.fingerprint.clone()));
            uplink::adopt(&way, ports, &stack, changes).await;
        }
        Ok(stack)
    }
}

struct Adoption<'a> {
    stack: &'a Stack,
    changes: &'a UnboundedSender<Change>,
    past: &'a Past,
    descriptors: BTreeMap<String, OwnedFd>,
    namespaces: BTreeMap<String, crate::sandbox::Pinned>,
    processes: BTreeMap<String, Started>,
}

impl Adoption<'_> {
    fn tell(&self, change: Change) {
        let _ = self.changes.send(change);
    }

    fn fact<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_value(self.past.facts.get(name)?.clone()).ok()
    }

    /// All facts whose name begins so.
    fn facts<T: DeserializeOwned>(&self, prefix: &str) -> Vec<T> {
        let facts = self.past.facts.iter().filter(|(name, _)| name.starts_with(prefix));
        facts.filter_map(|(_, fact)| serde_json::from_value(fact.clone()).ok()).collect()
    }

    /// Kills what had not become a container, and removes what it would leave. The containers that there are come back.
    fn end_what_was_half_done(&mut self) -> Vec<(ServiceName, Began)> {
        let facts = self.past.facts.iter().filter_map(|(name, fact)| {
            let service = name.strip_prefix(CONTAINERS)?.parse().ok()?;
            Some((service, serde_json::from_value::<Began>(fact.clone()).ok()?))
        });
        // One that the keeper does not have was removed, all but for the last word.
        let (there, gone): (Vec<(ServiceName, Began)>, Vec<_>) =
            facts.partition(|(service, _): &(ServiceName, Began)| self.processes.contains_key(service.as_str()));
        let mut stay: BTreeSet<i32> = self.namespaces.values().filter_map(|pinned| pinned.init()).collect();
        for (service, began) in &there {
            let process = &self.processes[service.as_str()];
            // One that was being started again has never run.
            if began.container.pid == Some(process.pid) {
                stay.insert(process.pid);
            }
        }
        let mut dying: Vec<Arc<PidFd>> = Vec::new();
        for process in self.processes.values().filter(|process| !stay.contains(&process.pid)) {
            let _ = process.pidfd.signal(libc::SIGKILL);
            dying.push(process.pidfd.clone());
        }
        for entry in &self.past.entries {
            if let Entry::Process(process) = entry
                && !stay.contains(&process.pid)
                && let Some(found) = process.find()
            {
                let _ = found.signal(libc::SIGKILL);
                dying.push(Arc::new(found));
            }
        }
        let own = self.stack.group().map(|group| group.paths()).unwrap_or_default();
        let kept: BTreeSet<PathBuf> = there
            .iter()
            .filter_map(|(_, began)| began.group.as_ref())
            .flat_map(|group| group.paths().map(PathBuf::from))
            .chain(own)
            .collect();
        let groups = self.past.entries.iter().filter_map(|entry| match entry {
            Entry::Cgroup(path) if !kept.contains(path) && path.exists() => Some(path.as_path()),
            _ => None,
        });
        let groups: BTreeSet<_> = groups.collect();
        groups.iter().for_each(|path| cgroup::kill(path));
        let started = Instant::now();
        while dying.iter().any(|process| process.is_alive()) && started.elapsed() < KILL_PATIENCE {
            std::thread::sleep(Duration::from_millis(1));
        }
        // The innermost first.
        for path in groups.iter().rev() {
            let started = Instant::now();
            while cgroup::remove(path).is_err() && started.elapsed() < Duration::from_secs(2) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let known: BTreeSet<&str> = there.iter().map(|(service, _)| service.as_str()).collect();
        let all =
            self.processes.keys().filter(|name| !known.contains(name.as_str())).filter_map(|name| name.parse().ok());
        for service in all.chain(gone.into_iter().map(|(service, _)| service)).collect::<BTreeSet<ServiceName>>() {
            tracing::info!(%service, "what was begun and not done is undone");
            self.processes.remove(service.as_str());
            stop::forget(&service, self.stack);
        }
        self.remove_folders(&known);
        there
    }

    fn remove_folders(&self, known: &BTreeSet<&str>) {
        let layout = &self.stack.layout;
        let Ok(any) = "x".parse::<ServiceName>() else { return };
        for of_one in [layout.container(&any), layout.grants(&any), layout.devices(&any)] {
            let entries = of_one.parent().map(fs::read_dir).into_iter().flatten().flatten().flatten();
            for entry in entries.filter(|entry| entry.file_name().to_str().is_none_or(|name| !known.contains(name))) {
                if let Err(error) = fs::remove_dir_all(entry.path()) {
                    tracing::warn!(path = %entry.path().display(), %error, "a folder is left");
                }
            }
        }
    }

    async fn networks(&mut self) -> Result<(), NetlinkError> {
        for bridge in self.facts::<plan::Bridge>("network/") {
            let (netns, netlink) = match &bridge.shared {
                None => (self.stack.netns.clone(), self.stack.netlink.clone()),
                Some(_) => match self.descriptors.remove(&shared_key(&bridge.network)) {
                    Some(fd) => {
                        let netns = Netns::from_fd(fd);
                        let netlink = Netlink::open(&netns)?;
                        (Arc::new(netns), netlink)
                    }
                    None => {
                        self.stack.strike(&network_fact(&bridge.network));
                        continue;
                    }
                },
            };
            let there = netlink.links().await?.into_iter().find(|link| link.name == bridge.interface);
            let Some(link) = there else {
                self.stack.strike(&network_fact(&bridge.network));
                continue;
            };
            let interface = bridge.interface.clone();
            let made = StackBridge { index: link.index, interface, netns, netlink, shared: bridge.shared.clone() };
            self.stack.objects().bridges.insert(bridge.network.clone(), Arc::new(made));
            self.tell(Change::Network(bridge.network.clone(), observed_network(&bridge)));
        }
        Ok(())
    }

    fn namespaces(&mut self) {
        let alive: BTreeSet<i32> = self
            .past
            .entries
            .iter()
            .filter_map(|entry| match entry {
                Entry::Process(process) => process.find().map(|_| process.pid),
                _ => None,
            })
            .collect();
        for set in self.facts::<plan::NamespaceSet>("namespaces/") {
            let pinned = self.namespaces.remove(set.service.as_str());
            let whole = |pinned: &crate::sandbox::Pinned| pinned.init().is_none_or(|init| alive.contains(&init));
            let Some(mut pinned) = pinned.filter(whole) else {
                self.stack.strike(&namespaces_fact(&set.service));
                forget_namespaces(&set.service, self.stack);
                continue;
            };
            let prefix = held_key(&set.service);
            let held: Vec<String> = self.descriptors.keys().filter(|name| name.starts_with(&prefix)).cloned().collect();
            for name in held {
                let kind = name[prefix.len()..].split('/').next().and_then(NamespaceKind::of_proc_name);
                if let (Some(kind), Some(fd)) = (kind, self.descriptors.remove(&name)) {
                    pinned.hold(Namespace::from_fd(kind, fd));
                }
            }
            let net = match pinned.get(NamespaceKind::Net).filter(|_| set.net) {
                None => Ok(None),
                Some(net) => open_network(&set, net).map(Some),
            };
            match net.and_then(|net| own(&set, pinned, net, self.stack)) {
                Ok(()) => self.tell(Change::Namespaces(set.service.clone(), set.fingerprint.clone())),
                Err(error) => tracing::error!(%error, service = %set.service, "namespaces are lost"),
            }
        }
        for (owner, pinned) in std::mem::take(&mut self.namespaces) {
            let Ok(service) = owner.parse::<ServiceName>() else {
                // Those of the host's users have no owner.
                let _ = self.stack.host_users.set(pinned);
                continue;
            };
            if let Some(init) = pinned.init() {
                kill(init);
            }
            forget_shared_memory(&self.stack.layout.private(), &owner);
            let elsewhere = self.stack.layout.hosts_elsewhere(&service);
            let _ = rustix::mount::unmount(elsewhere, rustix::mount::UnmountFlags::DETACH);
            forget_namespaces(&service, self.stack);
        }
    }

    /// Takes cables over, and removes what is in the stack's network namespace and nobody has written down.
    async fn links(&self) -> Result<(), NetlinkError> {
        let all = self.stack.netlink.links().await?;
        let mut known: BTreeSet<String> = ["lo", INNER].map(str::to_owned).into();
        known.extend(self.stack.objects().bridges.values().map(|bridge| bridge.interface.clone()));
        for link in self.facts::<plan::Link>("link/") {
            if self.stack.namespaces(&link.service).is_err() {
                continue;
            }
            let bridge = self.stack.objects().bridges.get(&link.network).cloned();
            let shared = bridge.as_ref().is_some_and(|bridge| bridge.shared.is_some());
            if shared || all.iter().any(|there| there.name == link.bridge_end) {
                let addresses = link.addresses.iter().map(ipnet::IpNet::addr).collect();
                self.tell(Change::Addresses(link.service.clone(), link.network.clone(), addresses));
                known.insert(link.bridge_end);
            }
        }
        for link in all.iter().filter(|link| !known.contains(&link.name)) {
            // Those that the kernel puts into every namespace stay.
            let _ = self.stack.netlink.delete_link(&link.name).await;
        }
        Ok(())
    }

    /// Takes a container over; the ports that the uplink leads to it come back.
    fn container(&mut self, service: &ServiceName, began: Began) -> Option<(String, Ports)> {
        let started = self.processes.remove(service.as_str())?;
        let Started { pid, pidfd, exit } = started;
        let ended = exit.borrow().is_some() || began.container.pid != Some(pid);
        let group = began.group.clone().map(Arc::new);
        let family = Arc::new(Family::new(group.clone().filter(|_| !began.is_init)));
        family.know(self.take(service, MOUNTS));
        let (streams, pumps) = self.streams(service, &began);
        let (tell_end, end_told) = watch::channel(false);
        let locks: Vec<String> = self.names(service, LOCKS);
        let locks = locks.iter().filter_map(|name| self.descriptors.remove(name)).map(fs::File::from).collect();
        let age = jiff::Timestamp::now().as_millisecond() - began.container.started_ms;
        let age = Duration::from_millis(u64::try_from(age).unwrap_or(0));
        let forwarders = if ended { Vec::new() } else { self.forwarders(service, &began) };
        let running = Running {
            pid,
            pidfd,
            exit: exit.clone(),
            is_init: began.is_init,
            stop_signal: began.container.stop_signal,
            stop_grace_ms: began.container.stop_grace_ms,
            process: began.process,
            group: group.clone(),
            own_network: began.own_network,
            folder: self.stack.layout.container(service),
            _volumes: locks,
            _images: Vec::new(),
            forwarders,
            told: None,
            end_told,
            streams,
            family: family.clone(),
            since: Instant::now().checked_sub(age).unwrap_or_else(Instant::now),
        };
        self.stack.objects().containers.insert(service.clone(), running);
        if !ended {
            self.stack.names.appears(service);
        }
        let mut container = began.container;
        (container.pid, container.state) = (Some(pid), ContainerState::Running);
        let ports = container.ports.iter().cloned().zip(began.targets).collect::<Vec<_>>();
        let limited = container.limits.memory.is_some();
        self.tell(Change::Container(service.clone(), Box::new(container)));
        let watched = Watched { service, pid, exit, family, pumps, group, limited, killed_before: began.killed_before };
        watch(watched, tell_end, self.stack, self.changes);
        (!ended && began.led_by_uplink).then(|| (uplink::owner(service, pid), uplink::led_to(&ports)))
    }

    fn take(&mut self, service: &ServiceName, what: &str) -> Option<OwnedFd> {
        self.descriptors.remove(&of_service(service, what))
    }

    fn names(&self, service: &ServiceName, what: &str) -> Vec<String> {
        let prefix = of_service(service, what);
        self.descriptors.keys().filter(|name| name.starts_with(&prefix)).cloned().collect()
    }

    fn streams(&mut self, service: &ServiceName, began: &Began) -> (Streams, Vec<tokio::task::JoinHandle<()>>) {
        let listeners = Arc::new(Listeners::default());
        let mut streams = Streams { listeners: Arc::downgrade(&listeners), ..Streams::default() };
        let mut pumps = Vec::new();
        let mut connect = || -> io::Result<()> {
            let options = &began.process.options;
            let file = logs::open(&self.stack.layout.log(service))?;
            let mut sources = Vec::new();
            if options.terminal {
                let Some(side) = self.take(service, TERMINAL).map(waited_for).transpose()? else { return Ok(()) };
                streams.input = options.stdin_open.then(|| side.clone());
                streams.terminal = Some(side.clone());
                sources.push((Stream::Stdout, side));
            } else {
                streams.input = self.take(service, INPUT).map(waited_for).transpose()?;
                for stream in [Stream::Stdout, Stream::Stderr] {
                    if let Some(pipe) = self.take(service, piped(stream)) {
                        sources.push((stream, waited_for(pipe)?));
                    }
                }
            }
            // All of them look at the log before any writes to it.
            let mut spools = Vec::new();
            for (stream, source) in sources {
                let spool = match self.take(service, spooled(stream)) {
                    Some(spool) => Spool::again(spool, &file)?,
                    None => (Spool::new()?, Vec::new()),
                };
                spools.push((stream, source, spool));
            }
            for (stream, source, spool) in spools {
                pumps.push(logs::pump(source, spool, file.clone(), stream, listeners.clone()));
            }
            Ok(())
        };
        if let Err(error) = connect() {
            tracing::error!(%service, %error, "the log of a service breaks off");
        }
        (streams, pumps)
    }

    fn forwarders(&mut self, service: &ServiceName, began: &Began) -> Vec<Forwarder> {
        let bridge = began.address_on.as_ref().and_then(|network| self.stack.objects().bridges.get(network).cloned());
        let netns = bridge.map_or_else(|| self.stack.netns.clone(), |bridge| bridge.netns.clone());
        let mut forwarders = Vec::new();
        for (i, (published, target)) in began.container.ports.iter().zip(&began.targets).enumerate() {
            let sockets = (0..published.listens_on.len()).map_while(|j| {
                let name = socket_of_port(service, i, j);
                self.descriptors.remove(&name)
            });
            let sockets: Vec<OwnedFd> = sockets.collect();
            if sockets.len() != published.listens_on.len() {
                tracing::error!(%service, "a published port is lost");
                continue;
            }
            let claimed = Claimed::kept(published.port.clone(), published.listens_on.clone(), sockets);
            match serve(claimed, *target, netns.clone()) {
                Ok(forwarder) => forwarders.push(forwarder),
                Err(error) => tracing::error!(%service, %error, "a published port is lost"),
            }
        }
        forwarders
    }
}
