//! Who is found by name at the moment: what the plan says of names, as far as containers run.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::fd::AsFd,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::{
    dns::{self, Client, HostServers, Neighbours, NetworkNames, Server, Sockets, Upstreams, Zone},
    model::{NetworkName, ProjectName, RESOLVER, ServiceName},
    network::local_port::LocalPort,
    plan,
    state::{self, ProcessRecord, SharedNetworks, StackLayout},
    sys::Netns,
};

/// Where a name server really listens, so that port 53 is for a name server that the service may be. Nobody has been assigned it (IANA),
/// and no connection goes out from it by itself, since it is below 1024 (net.ipv4.ip_local_port_range).
const BESIDE: u16 = 60;

/// The names of a stack, from which its name servers answer.
pub(super) struct Names {
    state: Mutex<State>,
    zone: watch::Sender<Arc<Zone>>,
    host: Arc<HostServers>,
    shared: SharedNetworks,
    stack: ProjectName,
    /// None if it has ended already.
    keeper: Option<ProcessRecord>,
}

#[derive(Default)]
struct State {
    planned: plan::Names,
    found: BTreeSet<ServiceName>,
    /// What other stacks have on networks that they share with this one.
    neighbours: BTreeMap<NetworkName, Neighbours>,
    /// What they have been told, on each of these networks, of what runs here.
    told: BTreeMap<NetworkName, BTreeSet<ServiceName>>,
    resolver_files: BTreeMap<ServiceName, ResolverFile>,
}

/// The /etc/resolv.conf of a container.
struct ResolverFile {
    path: PathBuf,
    /// Whose network the container is in.
    owner: ServiceName,
    /// What it was made with.
    text: String,
}

/// The name server of a network namespace, there until it is dropped.
pub(super) struct NameServer {
    _server: Server,
    _port: Option<LocalPort>,
}

impl Names {
    /// The names of a stack with this keeper.
    pub(super) fn new(layout: &StackLayout, keeper: i32) -> Self {
        Self {
            state: Mutex::default(),
            zone: watch::Sender::new(Arc::default()),
            host: Arc::default(),
            shared: SharedNetworks::new(layout.layout()),
            stack: layout.project().clone(),
            keeper: ProcessRecord::of(keeper),
        }
    }

    /// A name server for whoever is in a network namespace.
    pub(super) fn serve(&self, netns: &Netns, owner: &ServiceName) -> io::Result<NameServer> {
        let (sockets, port) = netns.run(|| match LocalPort::lead(RESOLVER, dns::PORT, BESIDE) {
            Ok(port) => Ok((Sockets::listen(BESIDE)?, Some(port))),
            Err(error) => {
                tracing::debug!(%error, %owner, "no nftables: a service cannot have port 53 of all addresses over TCP");
                Ok((Sockets::listen(dns::PORT)?, None))
            }
        })?;
        let netns = Arc::new(Netns::from_fd(netns.as_fd().try_clone_to_owned()?));
        let server = Server::start(sockets, owner.clone(), self.zone.subscribe(), self.host.clone(), netns)?;
        Ok(NameServer { _server: server, _port: port })
    }

    /// Writes what a container in the network of `owner` sees as /etc/resolv.conf. Each has a file of its own: its root may
    /// write to it, and what it says is who is asked for addresses.
    pub(super) fn write_resolver_file(
        &self,
        container: &ServiceName,
        owner: &ServiceName,
        path: PathBuf,
    ) -> io::Result<()> {
        let mut state = self.state();
        let text = state.planned.resolver_file(owner).unwrap_or_default().to_owned();
        super::mounts::write_readable(&path, &text)?;
        state.resolver_files.insert(container.clone(), ResolverFile { path, owner: owner.clone(), text });
        Ok(())
    }

    /// The same file, which another supervisor has written.
    pub(super) fn know_resolver_file(&self, container: &ServiceName, owner: &ServiceName, path: PathBuf) {
        let mut state = self.state();
        let text = state.planned.resolver_file(owner).unwrap_or_default().to_owned();
        state.resolver_files.insert(container.clone(), ResolverFile { path, owner: owner.clone(), text });
    }

    /// What the latest plan says. Running containers see the change, but for what they have written themselves.
    ///
    /// # Errors
    /// The file that cannot be written, and why.
    pub(super) fn plan(&self, planned: plan::Names) -> Result<(), (ServiceName, PathBuf, io::Error)> {
        let mut state = self.state();
        let State { neighbours, told, resolver_files, .. } = &mut *state;
        let shared: BTreeSet<&NetworkName> =
            planned.networks.iter().filter_map(|network| network.shared.as_ref()).collect();
        neighbours.retain(|network, _| shared.contains(network));
        told.retain(|network, _| shared.contains(network));
        let mut outcome = Ok(());
        for (container, file) in resolver_files {
            let Some(text) = planned.resolver_file(&file.owner).filter(|text| *text != file.text) else { continue };
            let replaced = || match fs::read_to_string(&file.path)? == file.text {
                // In place: a bind mount shows the file that was there when it was made.
                true => fs::write(&file.path, text),
                false => Ok(()),
            };
            match replaced() {
                Ok(()) => text.clone_into(&mut file.text),
                Err(error) => outcome = Err((container.clone(), file.path.clone(), error)),
            }
        }
        state.planned = planned;
        self.publish(&mut state);
        outcome
    }

    /// A container is about to run: it is found, by itself too.
    pub(super) fn appears(&self, service: &ServiceName) {
        let mut state = self.state();
        if state.found.insert(service.clone()) {
            self.publish(&mut state);
        }
    }

    /// A container runs no more.
    pub(super) fn disappears(&self, service: &ServiceName) {
        let mut state = self.state();
        state.resolver_files.remove(service);
        if state.found.remove(service) {
            self.publish(&mut state);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, state: &mut State) {
        let State { planned, found, neighbours, told, .. } = state;
        let shared = planned.networks.iter().filter_map(|network| network.shared.as_ref());
        for network in shared {
            neighbours.entry(network.clone()).or_insert_with(|| self.neighbours(network));
            if told.get(network) == Some(found) {
                continue;
            }
            match self.shared.say_running(network, (&self.stack, self.keeper), found) {
                Ok(()) => drop(told.insert(network.clone(), found.clone())),
                Err(error) => tracing::warn!(%error, %network, "other stacks do not find what runs here"),
            }
        }
        self.zone.send_replace(Arc::new(zone(state)));
    }

    fn neighbours(&self, network: &NetworkName) -> Neighbours {
        let domain = network.to_string();
        let names = move |places: Vec<state::Place>| {
            let mut names = NetworkNames::new(domain.clone(), Vec::new());
            for place in &places {
                for name in &place.names {
                    place.addresses.iter().for_each(|address| names.insert(name, *address));
                }
            }
            names
        };
        let others = state::Neighbours::new(self.shared.clone(), network.clone(), self.stack.clone(), names);
        Neighbours::new(move || others.look())
    }
}

fn zone(State { planned, found, neighbours, .. }: &State) -> Zone {
    let networks = planned.networks.iter().map(|network| {
        let mut names = NetworkNames::new(network.domain.clone(), network.subnets.clone());
        names.neighbours = network.shared.as_ref().and_then(|shared| neighbours.get(shared).cloned());
        (network.network.clone(), names)
    });
    let mut networks: BTreeMap<_, NetworkNames> = networks.collect();
    let there = || planned.services.iter().filter(|service| found.contains(&service.service));
    for service in there() {
        if let Some(network) = networks.get_mut(&service.network) {
            for name in &service.names {
                service.addresses.iter().for_each(|address| network.insert(name, *address));
            }
        }
    }
    let clients = planned.clients.iter().map(|client| {
        let mut own = client.hosts.clone();
        for (alias, target) in &client.links {
            let addresses = there().filter(|s| s.service.is_replica_of(target) && client.networks.contains(&s.network));
            let addresses: Vec<_> = addresses.flat_map(|service| service.addresses.iter().copied()).collect();
            if !addresses.is_empty() {
                own.insert(alias.clone(), addresses);
            }
        }
        let upstreams = match &client.servers[..] {
            [] => Upstreams::Host,
            said => Upstreams::These(said.iter().map(|address| (*address, dns::PORT).into()).collect()),
        };
        (client.service.clone(), Client { networks: client.networks.clone(), own, upstreams })
    });
    let clients = clients.collect();
    Zone { networks, clients }
}
