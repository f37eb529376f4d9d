//! The names that each service knows: what the stack's name servers answer, and the files of a container beside them.

use std::{collections::BTreeMap, fmt::Write, net::IpAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Source, address::Addresses, group::Groups, uplink};
use crate::model::{
    Family, HOST_GATEWAY, Host, HostAddress, NamespaceMode, NetworkName, Project, Service, ServiceName,
};

/// Options of resolv.conf(5) unless the file says others, as in Docker: a name is asked for as it is before domains are tried.
const OPTIONS: &str = "ndots:0";

/// The host itself, as Docker calls it and by a name of our own.
const HOST_NAMES: [&str; 2] = ["host.docker.internal", "host.nscompose.internal"];

/// All names of a stack, whether their containers run or not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// The networks that names are on.
    pub networks: Vec<NamedNetwork>,
    /// Where each service is found, while it runs.
    pub services: Vec<NamedService>,
    /// What each owner of a network namespace sees.
    pub clients: Vec<NameClient>,
}

impl Names {
    /// What containers in the network of `owner` see as /etc/resolv.conf; none when there is no such owner.
    pub fn resolver_file(&self, owner: &ServiceName) -> Option<&str> {
        self.clients.iter().find(|client| client.service == *owner).map(|client| client.resolver_file.as_str())
    }
}

/// A network that names are on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedNetwork {
    /// The network of the file.
    pub network: NetworkName,
    /// What it is called outside of it, which names have as a domain.
    pub domain: String,
    /// The addresses on it.
    pub subnets: Vec<IpNet>,
    /// The network that stacks share which it is: names of theirs are found there too.
    #[serde(default)]
    pub shared: Option<NetworkName>,
}

/// Where a service is found on one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedService {
    /// The service.
    pub service: ServiceName,
    /// The network.
    pub network: NetworkName,
    /// Its addresses there, at most one of each family: IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// Its names there: the first is what its address is called.
    pub names: Vec<String>,
}

/// What an owner of a network namespace sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameClient {
    /// The owner.
    pub service: ServiceName,
    /// The networks that it is on, in its order.
    pub networks: Vec<NetworkName>,
    /// Names for it alone, at these addresses.
    pub hosts: BTreeMap<String, Vec<IpAddr>>,
    /// Names for it alone, of all replicas of these services.
    pub links: BTreeMap<String, ServiceName>,
    /// Name servers for what is not the stack's; none are those of the host.
    pub servers: Vec<IpAddr>,
    /// The text of /etc/hosts (hosts(5)).
    pub hosts_file: String,
    /// The text of /etc/resolv.conf (resolv.conf(5)).
    pub resolver_file: String,
}

/// The names of a project.
pub(super) fn names(project: &Project, groups: &Groups, addresses: &Addresses, host: &Host) -> Names {
    let networks = project.networks.iter().map(|(network, said)| NamedNetwork {
        network: network.clone(),
        shared: said.external.clone(),
        domain: whole_name(project, network),
        subnets: addresses.gateways(network).iter().map(IpNet::trunc).collect(),
    });
    let services = project.services.iter().flat_map(|(name, service)| {
        // A service that shares somebody's network is found where that one is.
        let Source::Of(at) = &groups.sources(name).net else { return Vec::new() };
        let on = project.services[at].networks.iter().filter_map(|attachment| {
            let network = &attachment.network;
            let addresses = addresses.of(at, network).to_vec();
            if addresses.is_empty() {
                return None;
            }
            // Replicas share the name of their service.
            let mut names = vec![container_name(project, name), name.service().to_owned()];
            let aliases = service.networks.iter().filter(|a| a.network == *network).flat_map(|a| &a.aliases);
            names.extend(aliases.cloned());
            Some(NamedService { service: name.clone(), network: network.clone(), addresses, names })
        });
        on.collect::<Vec<_>>()
    });
    let owners = project.services.keys().filter(|name| groups.sources(name).net == Source::Of((*name).clone()));
    Names {
        networks: networks.collect(),
        services: services.collect(),
        clients: owners.map(|owner| client(project, addresses, host, owner)).collect(),
    }
}

fn client(project: &Project, addresses: &Addresses, host: &Host, owner: &ServiceName) -> NameClient {
    let service = &project.services[owner];
    let networks: Vec<NetworkName> = service.networks.iter().map(|attachment| attachment.network.clone()).collect();
    let settings = &service.names;
    // The host is reached by the way out.
    let way_out = uplink::way_out(project, addresses, owner, Family::V4).filter(|_| host.uplink.is_there());
    let gateway = way_out.map(|_| IpAddr::from(HOST_GATEWAY));
    let mut hosts: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    for name in HOST_NAMES.iter().filter(|_| gateway.is_some()) {
        hosts.insert((*name).to_owned(), gateway.into_iter().collect());
    }
    for (name, addresses) in &settings.hosts {
        let addresses = addresses.iter().filter_map(|address| match address {
            HostAddress::Address(address) => Some(*address),
            HostAddress::Gateway => gateway,
        });
        let addresses: Vec<IpAddr> = addresses.collect();
        if !addresses.is_empty() {
            hosts.insert(name.clone(), addresses);
        }
    }

    let mut hosts_file = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for (name, addresses) in &hosts {
        for address in addresses {
            let _ = writeln!(hosts_file, "{address}\t{name}");
        }
    }
    // A program that asks for its own host name finds itself without asking anybody.
    let own_names = own_names(project, owner).join(" ");
    let own: Vec<_> = networks.iter().flat_map(|network| addresses.of(owner, network)).collect();
    for address in &own {
        let _ = writeln!(hosts_file, "{address}\t{own_names}");
    }
    if own.is_empty() {
        let _ = writeln!(hosts_file, "127.0.0.1\t{own_names}");
    }

    let search: Vec<&str> = match &settings.search[..] {
        [] => host.resolver.search.iter().map(String::as_str).collect(),
        said => said.iter().map(String::as_str).filter(|domain| *domain != ".").collect(),
    };
    let mut resolver_file = String::new();
    // That of a container of another stack has its own name server in there.
    if networks.is_empty() && service.network_mode.container().is_none() {
        resolver_file.push_str("# this container is on no network\n");
    } else {
        let _ = writeln!(resolver_file, "nameserver {}", crate::model::RESOLVER);
        if !search.is_empty() {
            let _ = writeln!(resolver_file, "search {}", search.join(" "));
        }
        let options = if settings.options.is_empty() { OPTIONS.to_owned() } else { settings.options.join(" ") };
        let _ = writeln!(resolver_file, "options {options}");
    }
    NameClient {
        service: owner.clone(),
        networks,
        hosts,
        links: settings.links.clone(),
        servers: settings.servers.clone(),
        hosts_file,
        resolver_file,
    }
}

/// Lines for a service that sees the names of the host, whose way to the host is loopback.
pub(super) fn besides_the_hosts(service: &Service) -> String {
    let mut text = String::new();
    for (name, addresses) in service.names.hosts.iter().filter(|_| service.network_mode == NamespaceMode::Host) {
        for address in addresses {
            let _ = match address {
                HostAddress::Address(address) => writeln!(text, "{address}\t{name}"),
                HostAddress::Gateway => writeln!(text, "127.0.0.1\t{name}"),
            };
        }
    }
    text
}

/// What a network is called outside of the file.
fn whole_name(project: &Project, network: &NetworkName) -> String {
    let said = &project.networks[network];
    match said.external.as_ref().or(said.name.as_ref()) {
        Some(name) => name.to_string(),
        None => format!("{}_{network}", project.name),
    }
}

/// What a service itself is called, as in Docker: its full name comes first, which is the one that `hostname --fqdn` finds, and
/// the bare one is there too, unless it is that of another service.
fn own_names(project: &Project, service: &ServiceName) -> Vec<String> {
    let hostname = hostname(project, service);
    let bare = hostname.split('.').next().unwrap_or_default().to_owned();
    let full = project.services[service].domainname.as_ref().map(|domain| format!("{hostname}.{domain}"));
    let foreign = project.services.keys().any(|other| !other.is_replica_of(service) && other.as_str() == bare);
    let names = full.into_iter().chain([hostname]);
    let given = names.clone().any(|name| name == bare);
    names.chain((!bare.is_empty() && !foreign && !given).then_some(bare)).collect()
}

/// What the container of a service is called.
pub(super) fn container_name(project: &Project, service: &ServiceName) -> String {
    match project.services[service].container_name.as_ref() {
        Some(name) => name.to_string(),
        None => format!("{}-{}-{}", project.name, service.service(), service.number()),
    }
}

/// The host name of a service: its own, or the name of its container, cut to what the kernel takes (uname(2): 64 bytes).
pub(super) fn hostname(project: &Project, service: &ServiceName) -> String {
    let mut name = project.services[service].hostname.clone().unwrap_or_else(|| container_name(project, service));
    name.truncate(64);
    name
}
