//! Going on with the stack of a supervisor that has died.
//!
//! ```text
//! facts: what there is ────┐
//!                          ├──▶ Stack, and a Change for each thing, from which the picture of it comes
//! keeper: descriptors ─────┘
//! ```
//!
//! What the facts say and the keeper has is taken over. What only the keeper has, or only the kernel, was made by a step
//! that was not done when the supervisor died, and is removed; what only the facts have was on its way out, and is forgotten.

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
    AskForNetwork, Change, ExecutorError, Stack,
    container::{NOT_STARTED, Watched, log_writer, made, process, watch},
    facts::{self, Began, GATE, INPUT, LOCKS, MOUNTS, NETNS, PORTS, TERMINAL, of_service, piped, socket_of_port},
    family::Family,
    freeze::Freezer,
    life::Heir,
    logs,
    operation::{forget_namespaces, held_key, kill, observed_network, open_network, own},
    root::HOST_VIEWS,
    stack::{Created, Running, StackBridge},
    stop,
    streams::{Listeners, Streams, waited_for},
    uplink,
};
use crate::{
    cgroup,
    diagnostics::chain,
    life::{Memory, Past as LifePast, Remembered},
    model::{Container, ContainerState, Health, ServiceName},
    network::{
        netlink::{Netlink, NetlinkError},
        ports::{Claimed, Forwarder, serve},
        uplink::{INNER, Published},
    },
    plan::{self, ContainerSpec, Source},
    sandbox::{Forget, Gate, Keeper, Kept, SandboxError, StackIds, Started, forget_shared_memory},
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
    /// The journal and the facts, to be gone on with.
    pub journal: Journal,
    /// What they say.
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
    ) -> Result<Arc<Self>, NetlinkError> {
        let Inherited { keeper, kept: Kept { mut descriptors, namespaces, .. }, processes, journal, past } = inherited;
        let Some(netns) = descriptors.remove(NETNS) else {
            // It had not come to anything.
            return Self::create(layout, keeper, ids, journal, ask_for_network).await.map(Arc::new);
        };
        let asked = past.facts.contains_key(facts::GROUP);
        let netns = Netns::from_fd(netns);
        let stack = Arc::new(Self::around(layout, keeper, ids, journal, ask_for_network, netns, asked)?);
        if asked {
            let _ = changes.send(Change::GroupGiven);
        }
        let mut adoption = Adoption { stack: &stack, changes, past: &past, descriptors, namespaces, processes };
        let found = adoption.end_what_was_half_done();
        // Before anybody answers: what is not known yet would be said not to exist.
        adoption.names(&found);
        adoption.networks().await?;
        adoption.namespaces();
        adoption.links().await?;
        for of_machine in [false, true] {
            if let Some(view) = adoption.fact(&format!("{HOST_VIEWS}{of_machine}")) {
                stack.objects().host_views.insert(of_machine, view);
            }
        }
        adoption.created();
        let (mut ports, mut heirs) = (Vec::new(), Vec::new());
        for found in found {
            let spec = found.spec.clone();
            if let Some(adopted) = adoption.container(found).await {
                ports.extend(adopted.ports);
                heirs.push((spec, adopted.heir));
            }
        }
        if let Some(way) = adoption.fact::<uplink::Way>(facts::UPLINK) {
            let _ = changes.send(Change::Uplink(way.wish.fingerprint.clone()));
            uplink::adopt(&way, ports, &stack, changes).await;
        }
        // They may start containers at once, which need all of the rest.
        for (spec, heir) in heirs {
            heir.go_on(&spec, &stack, changes);
        }
        Ok(stack)
    }
}

/// A container that is there, or was about to be.
struct Found {
    spec: Arc<ContainerSpec>,
    began: Began,
    memory: Memory,
}

impl Found {
    /// Its program ran when that was written down last.
    fn is_there(&self) -> bool {
        matches!(self.memory.stage, Remembered::Running(_) | Remembered::Paused(_) | Remembered::Stopping(_))
    }
}

/// What is still to be done for a container that has been taken over.
struct Adopted {
    heir: Heir,
    /// The ports that the uplink leads to it, with their owner.
    ports: Option<(String, Vec<Published>)>,
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

    /// The services that there are facts of with this prefix.
    fn services(&self, prefix: &str) -> BTreeSet<ServiceName> {
        let names = self.past.facts.keys().filter_map(|name| name.strip_prefix(prefix));
        names.filter_map(|name| name.to_owned().try_into().ok()).collect()
    }

    /// Whether a container is to go, and may be there by half.
    fn is_being_removed(&self, service: &ServiceName) -> bool {
        self.past.facts.contains_key(&facts::removing(service))
    }

    /// What there is of a container; none for one that nobody would miss.
    fn found(&self, service: &ServiceName, stay: &mut BTreeSet<i32>) -> Option<Found> {
        let began: Began = self.fact(&facts::container(service)).filter(|_| !self.is_being_removed(service))?;
        let spec: Arc<ContainerSpec> = Arc::new(self.fact(&facts::spec(service))?);
        // One that the keeper does not have was removed, all but for the last word.
        let pid = self.processes.get(service.as_str())?.pid;
        let known: Option<Memory> = self.fact(&facts::life(service));
        let hooked = spec.hooks.post_start.is_empty() || self.fact(&facts::hooked(service)) == Some(pid);
        // One that was being started again has never run, or has not come up. What is known is of an earlier one then, or says that
        // there was one.
        let is_known = began.container.pid == Some(pid);
        let is_up = is_known && hooked;
        if !is_up && is_known && !began.known_before {
            return None;
        }
        if is_up {
            stay.insert(pid);
        }
        let was_starting = known.as_ref().is_some_and(|known| known.stage == Remembered::Starting);
        let stage = match (is_up, was_starting) {
            (true, _) => Remembered::Running(None),
            (false, true) => Remembered::BackingOff(NOT_STARTED),
            (false, false) => Remembered::Ended(NOT_STARTED),
        };
        let memory = match known {
            Some(known) if known.pid == pid && !was_starting => known,
            Some(known) if was_starting => Memory { pid, past: known.past, stage },
            _ => Memory { pid, past: LifePast::default(), stage },
        };
        Some(Found { spec, began, memory })
    }

    /// Kills what had not become a container, and removes what it would leave. The containers that there are come back.
    fn end_what_was_half_done(&mut self) -> Vec<Found> {
        let mut stay: BTreeSet<i32> = self.namespaces.values().filter_map(|pinned| pinned.init()).collect();
        let known = self.services(facts::CONTAINERS);
        let there: Vec<Found> = known.iter().filter_map(|service| self.found(service, &mut stay)).collect();
        let found: BTreeSet<&ServiceName> = there.iter().map(|found| &found.spec.service).collect();
        let gone: Vec<ServiceName> = known.into_iter().filter(|service| !found.contains(service)).collect();
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
            .filter_map(|found| found.began.group.as_ref())
            .flat_map(|group| group.paths().map(PathBuf::from))
            .chain(own)
            .collect();
        let groups = self.past.entries.iter().filter_map(|entry| match entry {
            // What is in a group that contains one of those is not to die, whatever else it is.
            Entry::Cgroup(path) if !kept.iter().any(|kept| kept.starts_with(path)) && path.exists() => {
                Some(path.as_path())
            }
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
        let mut known: BTreeSet<ServiceName> = there.iter().map(|found| found.spec.service.clone()).collect();
        known.extend(self.services(facts::CREATED).into_iter().filter(|service| !self.is_being_removed(service)));
        let all = self.processes.keys().filter_map(|name| name.clone().try_into().ok());
        let removed = self.services(facts::REMOVING).into_iter();
        let undone: BTreeSet<ServiceName> =
            all.chain(gone).chain(removed).filter(|service| !known.contains(service)).collect();
        for service in undone {
            tracing::info!(%service, "what was begun and not done is undone");
            self.processes.remove(service.as_str());
            stop::forget(&service, self.stack);
        }
        self.remove_folders(&known.iter().map(ServiceName::file_name).collect());
        there
    }

    fn remove_folders(&self, known: &BTreeSet<String>) {
        let layout = &self.stack.layout;
        let Ok(any) = "x".parse::<ServiceName>() else { return };
        let (containers, grants, devices) = (layout.container(&any), layout.grants(&any), layout.devices(&any));
        for (of_one, may_have_volumes) in [(containers, true), (grants, false), (devices, false)] {
            let entries = of_one.parent().map(fs::read_dir).into_iter().flatten().flatten().flatten();
            for entry in entries.filter(|entry| entry.file_name().to_str().is_none_or(|name| !known.contains(name))) {
                let of = entry.file_name().to_str().and_then(ServiceName::from_file_name);
                let go = of.is_some_and(|service| self.fact(&facts::removing(&service)) == Some(false));
                // What one that was to be made anew has left in its volumes is for the next one.
                let removed = match may_have_volumes && !go {
                    true => stop::remove_but_volumes(&entry.path()),
                    false => fs::remove_dir_all(entry.path()),
                };
                if let Err(error) = removed {
                    tracing::warn!(path = %entry.path().display(), %error, "a folder is left");
                }
            }
        }
    }

    /// Takes over what has been made and never started.
    fn created(&mut self) {
        for service in self.services(facts::CREATED) {
            if self.is_being_removed(&service) {
                continue;
            }
            let spec: Option<ContainerSpec> = self.fact(&facts::spec(&service));
            // It has been started since.
            let started = self.stack.objects().containers.contains_key(&service)
                || self.past.facts.contains_key(&facts::container(&service));
            let Some(spec) = spec.filter(|_| !started) else { continue };
            // What a start that was under way has had the keeper keep.
            for what in [GATE, PORTS, MOUNTS, TERMINAL, INPUT, piped(Stream::Stdout), piped(Stream::Stderr)] {
                self.forget(&service, what);
            }
            self.stack.keeper.forget(vec![Forget::Process(service.to_string())]);
            let folder = self.stack.layout.container(&service);
            let created = Created { folder, _volumes: self.locks(&service), _images: Vec::new() };
            self.tell(Change::Container(service.clone(), Box::new(made(&spec))));
            let mut objects = self.stack.objects();
            objects.specs.insert(service.clone(), Arc::new(spec));
            objects.created.insert(service, created);
        }
    }

    /// Who is found under which names, and which files say who is to be asked.
    fn names(&self, found: &[Found]) {
        let names = &self.stack.names;
        let runs =
            |found: &&Found| found.is_there() && self.processes[found.spec.service.as_str()].exit.borrow().is_none();
        for Found { spec, .. } in found.iter().filter(runs) {
            names.appears(&spec.service);
        }
        if let Some(planned) = self.fact::<plan::Names>(facts::NAMES)
            && let Err((service, path, error)) = names.plan(planned)
        {
            tracing::error!(%service, path = %path.display(), %error, "names of the stack are lost");
        }
        for Found { spec, .. } in found.iter().filter(runs) {
            if let Some(owner) = &spec.files.names_of {
                names.know_resolver_file(&spec.service, owner, self.stack.layout.resolver(&spec.service));
            }
        }
    }

    async fn networks(&mut self) -> Result<(), NetlinkError> {
        for bridge in self.facts::<plan::Bridge>(facts::NETWORKS) {
            let (netns, netlink) = match &bridge.shared {
                None => (self.stack.netns.clone(), self.stack.netlink.clone()),
                Some(_) => match self.descriptors.remove(&facts::shared(&bridge.network)) {
                    Some(fd) => {
                        let netns = Netns::from_fd(fd);
                        let netlink = Netlink::open(&netns)?;
                        (Arc::new(netns), netlink)
                    }
                    None => {
                        self.stack.strike(&facts::network(&bridge.network));
                        continue;
                    }
                },
            };
            let there = netlink.links().await?.into_iter().find(|link| link.name == bridge.interface);
            let Some(link) = there else {
                self.stack.strike(&facts::network(&bridge.network));
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
        for set in self.facts::<plan::NamespaceSet>(facts::NAMESPACES) {
            let pinned = self.namespaces.remove(&set.service.file_name());
            // Without its init, of which the keeper has heard, nobody can enter a pid namespace any more.
            let whole = |pinned: &crate::sandbox::Pinned| !set.pid || pinned.init().is_some();
            let Some(mut pinned) = pinned.filter(whole) else {
                self.stack.strike(&facts::namespaces(&set.service));
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
            let Some(service) = ServiceName::from_file_name(&owner) else {
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
        for link in self.facts::<plan::Link>(facts::LINKS) {
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

    /// Takes a container over.
    async fn container(&mut self, found: Found) -> Option<Adopted> {
        let lives = found.is_there();
        let Found { spec, began, memory } = found;
        let service = &spec.service;
        let Started { pid, pidfd, exit } = self.processes.remove(service.as_str())?;
        let is_init = spec.namespaces.pid == Source::New;
        let group = began.group.clone().map(Arc::new);
        let family = Arc::new(Family::new(group.clone().filter(|_| !is_init)));
        family.know(self.take(service, MOUNTS));
        let (tell_end, end_told) = watch::channel(false);
        let age = jiff::Timestamp::now().as_millisecond() - began.container.started_ms;
        let age = Duration::from_millis(u64::try_from(age).unwrap_or(0));
        let ended = matches!(memory.stage, Remembered::Ended(_));
        let forwarders = if ended {
            // The last supervisor may not have come to that.
            self.forget(service, PORTS);
            Vec::new()
        } else {
            self.forwarders(&spec, &began)
        };
        let (streams, pump) = self.streams(&spec).await;
        let hooked = spec.hooks.post_start.is_empty() || self.fact(&facts::hooked(service)) == Some(pid);
        let freezer = Arc::new(Freezer::new(pid, pidfd.clone(), group.clone(), is_init, family.clone()));
        let running = Running {
            pid,
            pidfd,
            exit: exit.clone(),
            is_init,
            stop_signal: spec.stop_signal,
            stop_grace_ms: spec.stop_grace_ms,
            process: process(&spec),
            group: group.clone(),
            runs: true,
            own_network: spec.namespaces.net != Source::Host,
            folder: self.stack.layout.container(service),
            _volumes: self.locks(service),
            _images: Vec::new(),
            forwarders,
            told: None,
            end_told,
            streams,
            family: family.clone(),
            since: Instant::now().checked_sub(age).unwrap_or_else(Instant::now),
            freezer: freezer.clone(),
            changes: self.changes.clone(),
            pre_stop: if hooked { spec.hooks.pre_stop.clone() } else { Vec::new() },
        };
        {
            let mut objects = self.stack.objects();
            objects.specs.insert(service.clone(), spec.clone());
            objects.containers.insert(service.clone(), running);
        }
        let heir = Heir::new(memory.clone(), age);
        if matches!(memory.stage, Remembered::Paused(_)) && exit.borrow().is_none() {
            // It may have been on its way.
            if let Err(error) = freezer.freeze().await {
                tracing::error!(%service, %error, "a container that was paused is not");
            }
        }
        if matches!(memory.stage, Remembered::Stopping(_)) {
            // One that was paused is thawed after it has been written down that it is stopping.
            freezer.may_be_frozen();
        }
        let ports: Vec<_> = began.container.ports.iter().cloned().zip(began.targets).collect();
        let mut container = goes_on(began.container, &memory);
        if exit.borrow().is_none() || ended {
            // One that has ended since has this told with its end.
            let kills = group.as_ref().and_then(|group| group.oom_kills()).unwrap_or(0);
            container.oom_kills = kills.saturating_sub(began.killed_before);
        }
        let limited = container.limits.memory.is_some();
        self.tell(Change::Container(service.clone(), Box::new(container)));
        let (killed_before, teller) = (began.killed_before, heir.teller());
        let watched = Watched { service, pid, exit, family, pump, group, limited, killed_before, teller };
        watch(watched, tell_end, self.stack, self.changes);
        self.let_in(service);
        let led = lives && began.led_by_uplink;
        let ports = led.then(|| (uplink::owner(service, pid), uplink::led_to(&ports, spec.address_v6)));
        Some(Adopted { heir, ports })
    }

    /// A container that is written down may run its program, and may still wait for that.
    fn let_in(&mut self, service: &ServiceName) {
        let Some(gate) = self.take(service, GATE) else { return };
        let (service, keeper, changes) = (service.clone(), self.stack.keeper.clone(), self.changes.clone());
        tokio::spawn(async move {
            let opened = match Gate::kept(gate) {
                Ok(gate) => gate.open().await,
                Err(error) => Err(SandboxError::Talk(error)),
            };
            keeper.forget(vec![Forget::Descriptors(of_service(&service, GATE))]);
            // That it has ended is told by the keeper; or it had been let in already.
            if let Err(source) = opened
                && !matches!(source, SandboxError::Ended)
            {
                let _ = changes.send(Change::Warning(chain(&ExecutorError::Start { service, source })));
            }
        });
    }

    /// Has nobody hold any more what the keeper has of a service under names that begin so.
    fn forget(&mut self, service: &ServiceName, what: &str) {
        let prefix = of_service(service, what);
        self.descriptors.retain(|name, _| !name.starts_with(&prefix));
        self.stack.keeper.forget(vec![Forget::Descriptors(prefix)]);
    }

    fn take(&mut self, service: &ServiceName, what: &str) -> Option<OwnedFd> {
        self.descriptors.remove(&of_service(service, what))
    }

    fn locks(&mut self, service: &ServiceName) -> Vec<fs::File> {
        let prefix = of_service(service, LOCKS);
        let names: Vec<String> = self.descriptors.keys().filter(|name| name.starts_with(&prefix)).cloned().collect();
        names.iter().filter_map(|name| self.descriptors.remove(name)).map(fs::File::from).collect()
    }

    async fn streams(&mut self, spec: &ContainerSpec) -> (Streams, Option<logs::Pump>) {
        let listeners = Arc::new(Listeners::default());
        let mut streams = Streams { listeners: Arc::downgrade(&listeners), ..Streams::default() };
        let pump = self.pump(spec, &mut streams, listeners).await;
        let pump = pump.inspect_err(|error| {
            tracing::error!(service = %spec.service, %error, "the log of a service breaks off");
        });
        (streams, pump.ok())
    }

    async fn pump(
        &mut self,
        spec: &ContainerSpec,
        streams: &mut Streams,
        listeners: Arc<Listeners>,
    ) -> io::Result<logs::Pump> {
        let service = &spec.service;
        let mut sources = Vec::new();
        if spec.process.terminal {
            if let Some(side) = self.take(service, TERMINAL).map(waited_for).transpose()? {
                streams.input = spec.process.stdin_open.then(|| side.clone());
                streams.terminal = Some(side.clone());
                let spool = self.stack.layout.spool(service, Stream::Stdout);
                sources.push((Stream::Stdout, logs::Source::Terminal(side), spool));
            }
        } else {
            streams.input = self.take(service, INPUT).map(waited_for).transpose()?;
            for stream in [Stream::Stdout, Stream::Stderr] {
                if let Some(pipe) = self.take(service, piped(stream)) {
                    sources.push((stream, logs::Source::Pipe(pipe), self.stack.layout.spool(service, stream)));
                }
            }
        }
        logs::pump(sources, log_writer(spec, self.stack).await?, listeners, true)
    }

    fn forwarders(&mut self, spec: &ContainerSpec, began: &Began) -> Vec<Forwarder> {
        let service = &spec.service;
        let bridge = spec.address_on.as_ref().and_then(|network| self.stack.objects().bridges.get(network).cloned());
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

/// The picture of a container in the stage that is remembered of it.
fn goes_on(mut container: Container, memory: &Memory) -> Container {
    let looked_after = container.health.is_some();
    let (state, health) = match memory.stage {
        Remembered::Starting => (ContainerState::Starting, Some(Health::Starting)),
        Remembered::Running(health) => (ContainerState::Running, health.or(Some(Health::Starting))),
        Remembered::Paused(health) => (ContainerState::Paused, health.or(Some(Health::Starting))),
        Remembered::Stopping(_) => (ContainerState::Stopping, container.health),
        Remembered::BackingOff(code) => (ContainerState::Restarting(code), Some(Health::Starting)),
        Remembered::Ended(code) => (ContainerState::Exited(code), Some(Health::Unhealthy)),
    };
    (container.state, container.health) = (state, health.filter(|_| looked_after));
    container.restarts = memory.past.restarts;
    container.pid = Some(memory.pid).filter(|_| !matches!(state, ContainerState::Exited(_)));
    if container.pid.is_none() {
        container.ports.clear();
    }
    container
}
