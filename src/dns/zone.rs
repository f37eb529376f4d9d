//! Who finds what: a pure lookup in a value that is never changed.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use ipnet::IpNet;

use crate::model::{NetworkName, ServiceName};

/// All names of a stack at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Zone {
    /// The names on each network.
    pub networks: BTreeMap<NetworkName, NetworkNames>,
    /// What each owner of a network namespace sees.
    pub clients: BTreeMap<ServiceName, Client>,
}

/// The names on one network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkNames {
    /// What the network is called outside of the file, such as `shop_front`: every name is found with it as a domain, too.
    pub domain: String,
    /// The addresses on it.
    pub subnets: Vec<IpNet>,
    /// Those of other stacks, where stacks share it.
    pub neighbours: Option<Neighbours>,
    names: HashMap<String, Vec<IpAddr>>,
    reverse: HashMap<IpAddr, String>,
}

impl NetworkNames {
    /// A network without names.
    pub fn new(domain: String, subnets: Vec<IpNet>) -> Self {
        Self { domain: domain.to_ascii_lowercase(), subnets, ..Self::default() }
    }

    /// Adds an address of a name, which may have others: replicas share the name of their service. The first name that an
    /// address is given is the one that it is found back by.
    pub fn insert(&mut self, name: &str, address: IpAddr) {
        let addresses = self.names.entry(name.to_ascii_lowercase()).or_default();
        if !addresses.contains(&address) {
            addresses.push(address);
        }
        self.reverse.entry(address).or_insert_with(|| name.to_ascii_lowercase());
    }

    fn find(&self, name: &str) -> &[IpAddr] {
        let own = self.names.get(name).or_else(|| self.names.get(self.without_domain(name)?));
        own.map_or(&[], Vec::as_slice)
    }

    fn without_domain<'a>(&self, name: &'a str) -> Option<&'a str> {
        name.strip_suffix(&self.domain)?.strip_suffix('.')
    }

    fn name_of(&self, address: &IpAddr) -> Option<String> {
        let neighbours = || self.neighbours.as_ref()?.look().reverse.get(address).cloned();
        self.reverse.get(address).cloned().or_else(neighbours)
    }
}

/// Who of other stacks is on a network that stacks share. Nobody tells when one comes or goes, so it is looked for
/// each question that the stack's own names have no answer to.
#[derive(Clone)]
pub struct Neighbours(Arc<dyn Fn() -> Arc<NetworkNames> + Send + Sync>);

impl Neighbours {
    /// `look` says who is there at that moment.
    pub fn new(look: impl Fn() -> Arc<NetworkNames> + Send + Sync + 'static) -> Self {
        Self(Arc::new(look))
    }

    fn look(&self) -> Arc<NetworkNames> {
        self.0()
    }
}

impl fmt::Debug for Neighbours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Neighbours")
    }
}

impl PartialEq for Neighbours {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Neighbours {}

/// What one network namespace sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Client {
    /// The networks that it is on, the one to be preferred first.
    pub networks: Vec<NetworkName>,
    /// Names that only it knows (`extra_hosts`, `links`), which go before all others.
    pub own: BTreeMap<String, Vec<IpAddr>>,
    /// Who is asked for everything else.
    pub upstreams: Upstreams,
}

/// Who is asked for what is not the stack's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Upstreams {
    /// Nobody: there is nothing else.
    #[default]
    Nobody,
    /// The name servers that the host has at that moment.
    Host,
    /// These, in their order.
    These(Vec<SocketAddr>),
}

/// What a name, or an address, comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The name has these addresses, of either family and never none.
    Addresses(Vec<IpAddr>),
    /// The address has this name.
    Name(String),
    /// It is the stack's business, and there is no such name.
    Nothing,
    /// It is not the stack's business.
    Elsewhere,
}

impl Zone {
    /// Looks a name up as `client` sees it. Names have no difference between large and small letters, and no dot at the end.
    ///
    /// A name without a dot is nobody's outside: whatever the host's search domains make of it, the client's own resolver
    /// asks for with the domain. So it is known at once whether there is such a name.
    pub fn name(&self, client: &ServiceName, name: &str) -> Found {
        let name = name.to_ascii_lowercase();
        if name == "localhost" || name.ends_with(".localhost") {
            // RFC 6761, 6.3: never asked outside.
            return Found::Addresses(vec![[127, 0, 0, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()]);
        }
        let Some(client) = self.clients.get(client) else { return Found::Nothing };
        if let Some(own) = client.own.get(&name) {
            return Found::Addresses(own.clone());
        }
        let mut found: Vec<IpAddr> = Vec::new();
        let networks = || client.networks.iter().filter_map(|network| self.networks.get(network));
        for network in networks() {
            let there = network.find(&name);
            found.extend(there.iter().filter(|address| !found.contains(address)).copied().collect::<Vec<_>>());
        }
        // What the stack itself has under a name nobody else takes away.
        if found.is_empty() {
            for neighbours in networks().filter_map(|network| network.neighbours.as_ref()) {
                found.extend(neighbours.look().find(&name));
            }
        }
        match (found.is_empty(), name.contains('.')) {
            (false, _) => Found::Addresses(found),
            (true, true) if client.upstreams != Upstreams::Nobody => Found::Elsewhere,
            (true, _) => Found::Nothing,
        }
    }

    /// Looks up whose an address is as `client` sees it.
    pub fn address(&self, client: &ServiceName, address: IpAddr) -> Found {
        let Some(client) = self.clients.get(client) else { return Found::Nothing };
        for network in client.networks.iter().filter_map(|network| self.networks.get(network)) {
            if let Some(name) = network.name_of(&address) {
                return Found::Name(format!("{name}.{}", network.domain));
            }
        }
        let ours = self.networks.values().flat_map(|network| &network.subnets).any(|subnet| subnet.contains(&address));
        if ours || client.upstreams == Upstreams::Nobody { Found::Nothing } else { Found::Elsewhere }
    }

    /// Whether an address is one that only `client`'s own network namespace leads to: on one of its networks. The host may have
    /// somebody else of the same address.
    pub fn is_within(&self, client: &ServiceName, address: IpAddr) -> bool {
        let networks = self.clients.get(client).into_iter().flat_map(|client| &client.networks);
        let mut subnets =
            networks.filter_map(|network| self.networks.get(network)).flat_map(|network| &network.subnets);
        subnets.any(|subnet| subnet.contains(&address))
    }

    /// Where `client` asks for what is not the stack's.
    pub fn upstreams(&self, client: &ServiceName) -> &Upstreams {
        self.clients.get(client).map_or(&Upstreams::Nobody, |client| &client.upstreams)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("address")
    }

    fn service(name: &str) -> ServiceName {
        name.parse().expect("name")
    }

    fn network(name: &str) -> NetworkName {
        name.parse().expect("name")
    }

    /// web is on front and back, db on back, two replicas of app on front.
    fn zone() -> Zone {
        let mut front = NetworkNames::new("shop_front".into(), vec!["10.1.0.0/24".parse().expect("subnet")]);
        let mut back = NetworkNames::new("shop_back".into(), vec!["10.2.0.0/24".parse().expect("subnet")]);
        front.insert("shop-web-1", ip("10.1.0.2"));
        front.insert("Web", ip("10.1.0.2"));
        front.insert("app", ip("10.1.0.3"));
        front.insert("app", ip("10.1.0.4"));
        front.insert("cdn.example.com", ip("10.1.0.2"));
        back.insert("web", ip("10.2.0.2"));
        back.insert("db", ip("10.2.0.3"));
        back.insert("db", ip("fd00::3"));
        let client = |networks: &[&str], upstreams: Upstreams| Client {
            networks: networks.iter().map(|name| network(name)).collect(),
            upstreams,
            ..Client::default()
        };
        let mut web = client(&["back", "front"], Upstreams::Host);
        web.own.insert("cache".into(), vec![ip("192.0.2.1")]);
        Zone {
            networks: [(network("front"), front), (network("back"), back)].into(),
            clients: [
                (service("web"), web),
                (service("app"), client(&["front"], Upstreams::Host)),
                (service("db"), client(&["back"], Upstreams::Nobody)),
            ]
            .into(),
        }
    }

    #[test]
    fn names_are_those_of_networks_that_both_are_on() {
        let zone = zone();
        for (client, name, expected) in [
            ("web", "db", vec!["10.2.0.3", "fd00::3"]),
            ("web", "DB", vec!["10.2.0.3", "fd00::3"]),
            ("web", "db.shop_back", vec!["10.2.0.3", "fd00::3"]),
            ("web", "web", vec!["10.2.0.2", "10.1.0.2"]),
            ("web", "cache", vec!["192.0.2.1"]),
            ("app", "app", vec!["10.1.0.3", "10.1.0.4"]),
            ("app", "web", vec!["10.1.0.2"]),
            ("app", "shop-web-1", vec!["10.1.0.2"]),
            ("app", "cdn.example.com", vec!["10.1.0.2"]),
            ("app", "localhost", vec!["127.0.0.1", "::1"]),
        ] {
            let expected = expected.into_iter().map(ip).collect();
            assert_eq!(zone.name(&service(client), name), Found::Addresses(expected), "{client} asks for {name}");
        }
    }

    #[test]
    fn neighbours_are_found_where_the_stack_has_no_such_name() {
        let mut zone = zone();
        let mut all = NetworkNames::new("shop_front".into(), Vec::new());
        for (name, address) in [("Shared-DB", "10.1.0.20"), ("app", "10.1.0.21"), ("db", "10.1.0.22")] {
            all.insert(name, ip(address));
        }
        let all = Arc::new(all);
        zone.networks.get_mut(&network("front")).expect("front").neighbours =
            Some(Neighbours::new(move || all.clone()));
        let name = |client: &str, name: &str| zone.name(&service(client), name);
        let found = |addresses: &[&str]| Found::Addresses(addresses.iter().map(|address| ip(address)).collect());
        assert_eq!(name("app", "shared-db"), found(&["10.1.0.20"]));
        assert_eq!(name("app", "shared-db.shop_front"), found(&["10.1.0.20"]));
        assert_eq!(name("app", "app"), found(&["10.1.0.3", "10.1.0.4"]));
        assert_eq!(name("web", "db"), found(&["10.2.0.3", "fd00::3"]), "on another network, but its own");
        assert_eq!(name("web", "db.shop_front"), found(&["10.1.0.22"]));
        assert_eq!(name("db", "shared-db"), Found::Nothing, "it is not on that network");
        assert_eq!(zone.address(&service("app"), ip("10.1.0.20")), Found::Name("shared-db.shop_front".into()));
    }

    #[test]
    fn what_cannot_exist_is_known_at_once() {
        let zone = zone();
        for (client, name, expected) in [
            ("app", "db", Found::Nothing),
            ("app", "nobody", Found::Nothing),
            ("app", "cache", Found::Nothing),
            ("app", "db.shop_back", Found::Elsewhere),
            ("app", "example.com", Found::Elsewhere),
            ("db", "cdn.example.com", Found::Nothing),
            ("stranger", "web", Found::Nothing),
        ] {
            assert_eq!(zone.name(&service(client), name), expected, "{client} asks for {name}");
        }
    }

    #[test]
    fn addresses_lead_back_to_names() {
        let zone = zone();
        for (client, address, expected) in [
            ("app", "10.1.0.2", Found::Name("shop-web-1.shop_front".into())),
            ("app", "10.2.0.3", Found::Nothing),
            ("app", "10.1.0.99", Found::Nothing),
            ("app", "8.8.8.8", Found::Elsewhere),
            ("db", "8.8.8.8", Found::Nothing),
            ("web", "fd00::3", Found::Name("db.shop_back".into())),
        ] {
            assert_eq!(zone.address(&service(client), ip(address)), expected, "{client} asks for {address}");
        }
    }
}
