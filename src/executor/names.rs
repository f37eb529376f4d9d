//! Who is found by name at the moment: what the plan says of names, as far as containers run.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::{
    dns::{self, Client, HostServers, Neighbour, Neighbours, NetworkNames, Server, Upstreams, Zone},
    model::{NetworkName, ProjectName, ServiceName},
    plan,
    state::{SharedNetworks, StackLayout},
    sys::Netns,
};

/// The names of a stack, from which its name servers answer.
pub(super) struct Names {
    state: Mutex<State>,
    zone: watch::Sender<Arc<Zone>>,
    host: Arc<HostServers>,
    shared: SharedNetworks,
    stack: ProjectName,
}

#[derive(Default)]
struct State {
    planned: plan::Names,
    found: BTreeSet<ServiceName>,
}

impl Names {
    pub(super) fn new(layout: &StackLayout) -> Self {
        Self {
            state: Mutex::default(),
            zone: watch::Sender::new(Arc::default()),
            host: Arc::default(),
            shared: SharedNetworks::new(layout.layout()),
            stack: layout.project().clone(),
        }
    }

    /// A name server for whoever is in a network namespace.
    pub(super) fn serve(&self, netns: &Netns, owner: &ServiceName) -> io::Result<Server> {
        Server::start(netns, owner.clone(), self.zone.subscribe(), self.host.clone())
    }

    /// What a container in the network of `owner` sees as /etc/resolv.conf. Each has a file of its own: its root may write to
    /// it, and what it says is who is asked for addresses.
    pub(super) fn resolver_file(&self, owner: &ServiceName) -> String {
        let state = self.state();
        let client = state.planned.clients.iter().find(|client| client.service == *owner);
        client.map(|client| client.resolver_file.clone()).unwrap_or_default()
    }

    /// What the latest plan says.
    pub(super) fn plan(&self, planned: plan::Names) {
        let mut state = self.state();
        state.planned = planned;
        self.publish(&state);
    }

    /// A container is about to run: it is found, by itself too.
    pub(super) fn appears(&self, service: &ServiceName) {
        let mut state = self.state();
        if state.found.insert(service.clone()) {
            self.publish(&state);
        }
    }

    /// A container runs no more.
    pub(super) fn disappears(&self, service: &ServiceName) {
        let mut state = self.state();
        if state.found.remove(service) {
            self.publish(&state);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, state: &State) {
        self.zone.send_replace(Arc::new(zone(state, |network| self.neighbours(network))));
    }

    /// What other stacks have on a network that they share with this one: as it is planned, whether it runs or not.
    fn neighbours(&self, network: &NetworkName) -> Neighbours {
        let (networks, stack, network) = (self.shared.clone(), self.stack.clone(), network.clone());
        Neighbours::new(move || {
            let others = networks.leases(&network).into_iter().filter(|(other, _)| *other != stack);
            let places = others.flat_map(|(_, lease)| lease.services.into_values());
            let places =
                places.map(|place| Neighbour { names: place.names, addresses: place.addresses.into_iter().collect() });
            places.collect()
        })
    }
}

fn zone(State { planned, found }: &State, neighbours: impl Fn(&NetworkName) -> Neighbours) -> Zone {
    let networks = planned.networks.iter().map(|network| {
        let mut names = NetworkNames::new(network.domain.clone(), network.subnets.clone());
        names.neighbours = network.shared.as_ref().map(&neighbours);
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
            let addresses = there().filter(|s| s.service == *target && client.networks.contains(&s.network));
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
