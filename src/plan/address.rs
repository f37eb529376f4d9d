//! Subnets, addresses and interface names.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use ipnet::Ipv4Net;
use sha2::{Digest, Sha256};

use crate::model::{NetworkName, Observed, Project, ServiceName};

/// Addresses of every network and service of a project.
pub(super) struct Addresses {
    pub(super) subnets: BTreeMap<NetworkName, Ipv4Net>,
    pub(super) services: BTreeMap<ServiceName, BTreeMap<NetworkName, Ipv4Addr>>,
}

/// Where a subnet would be if the host had no routes: Docker's own default pools, which people keep clear in their
/// networks already, then the rest of 10.0.0.0/8.
fn pools() -> impl Iterator<Item = Ipv4Net> {
    let docker = (18..32).map(|b| Ipv4Net::new_assert(Ipv4Addr::new(172, b, 0, 0), 16));
    let small = (0..=240).step_by(16).map(|c| Ipv4Net::new_assert(Ipv4Addr::new(192, 168, c, 0), 20));
    let large = (0..=255).rev().map(|b| Ipv4Net::new_assert(Ipv4Addr::new(10, b, 0, 0), 16));
    docker.chain(small).chain(large)
}

fn overlap(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(b) || b.contains(a)
}

/// Why there are no addresses.
pub(super) enum NoAddress {
    /// Every pool overlaps a route of the host or another network.
    Subnet(NetworkName),
    /// The subnet of the network is full.
    Host(NetworkName),
}

impl Addresses {
    /// Keeps what is given out already, and gives the rest in the order of names, so that the same file has the same
    /// addresses every time. Services that are not started now have theirs reserved too: names resolve before they come.
    pub(super) fn choose(project: &Project, observed: &Observed) -> Result<Self, NoAddress> {
        let mut subnets: BTreeMap<NetworkName, Ipv4Net> = observed.networks.clone();
        for network in project.networks.keys() {
            if subnets.contains_key(network) {
                continue;
            }
            let free = pools().find(|pool| {
                // A default route says nothing about which addresses are in use.
                let routes = observed.host.routes.iter().filter(|route| route.prefix_len() > 0);
                !routes.chain(subnets.values()).any(|taken| overlap(pool, taken))
            });
            subnets.insert(network.clone(), free.ok_or_else(|| NoAddress::Subnet(network.clone()))?);
        }
        let mut services: BTreeMap<ServiceName, BTreeMap<NetworkName, Ipv4Addr>> = BTreeMap::new();
        let mut taken: BTreeMap<NetworkName, BTreeSet<Ipv4Addr>> = BTreeMap::new();
        for (service, addresses) in &observed.addresses {
            for (network, address) in addresses {
                if let IpAddr::V4(address) = address {
                    taken.entry(network.clone()).or_default().insert(*address);
                    services.entry(service.clone()).or_default().insert(network.clone(), *address);
                }
            }
        }
        let mut next: BTreeMap<&NetworkName, u32> = BTreeMap::new();
        for (name, service) in &project.services {
            for attachment in &service.networks {
                let network = &attachment.network;
                let own = services.entry(name.clone()).or_default();
                if own.contains_key(network) {
                    continue;
                }
                let subnet = subnets[network];
                let used = taken.entry(network.clone()).or_default();
                let next = next.entry(network).or_insert(2); // .1 is the bridge itself
                let address = loop {
                    let address = Ipv4Addr::from_bits(subnet.network().to_bits() + *next);
                    if address >= subnet.broadcast() {
                        return Err(NoAddress::Host(network.clone()));
                    }
                    *next += 1;
                    if used.insert(address) {
                        break address;
                    }
                };
                own.insert(network.clone(), address);
            }
        }
        Ok(Self { subnets, services })
    }

    /// The address that the stack itself has on a network, with the prefix length.
    pub(super) fn gateway(&self, network: &NetworkName) -> Ipv4Net {
        let subnet = self.subnets[network];
        Ipv4Net::new_assert(Ipv4Addr::from_bits(subnet.network().to_bits() + 1), subnet.prefix_len())
    }

    /// The address of a service on a network, if it is on it.
    pub(super) fn of(&self, service: &ServiceName, network: &NetworkName) -> Option<Ipv4Addr> {
        self.services.get(service)?.get(network).copied()
    }
}

/// A name for an interface, at most 15 bytes (IFNAMSIZ less the NUL): the start of `name` for people, and a digest that
/// keeps it apart from others with the same start.
pub(super) fn interface_name(name: &str, whole: &str) -> String {
    let start: String = name.chars().take(8).collect();
    let digest = Sha256::digest(whole);
    format!("{start}-{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_fit_and_differ() {
        let a = interface_name("a-very-long-network", "a-very-long-network");
        let b = interface_name("a-very-long-network", "a-very-long-network2");
        assert_eq!(a.len(), 15);
        assert_ne!(a, b);
    }

    #[test]
    fn pools_do_not_overlap() {
        let all: Vec<Ipv4Net> = pools().collect();
        for (i, a) in all.iter().enumerate() {
            assert!(!all[i + 1..].iter().any(|b| overlap(a, b)), "{a}");
        }
    }
}
