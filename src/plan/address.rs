//! Subnets, addresses and interface names.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sha2::{Digest, Sha256};

use crate::model::{AddressPool, Addressing, Family, Network, NetworkName, Observed, Project, ServiceName};

/// Addresses of every network and service of a project.
pub(super) struct Addresses {
    subnets: BTreeMap<NetworkName, Vec<Subnet>>,
    services: BTreeMap<ServiceName, BTreeMap<NetworkName, Vec<IpAddr>>>,
}

/// The addresses of one family on a network.
struct Subnet {
    net: IpNet,
    gateway: IpAddr,
    /// Where those come from that nobody has chosen.
    range: IpNet,
    /// What no service gets, with who has it.
    reserved: BTreeMap<IpAddr, String>,
}

/// Where a subnet would be if the host had no routes: Docker's own default pools, which people keep clear in their
/// networks already, then the rest of 10.0.0.0/8.
fn pools() -> impl Iterator<Item = Ipv4Net> {
    let docker = (18..32).map(|b| Ipv4Net::new_assert(Ipv4Addr::new(172, b, 0, 0), 16));
    let small = (0..=240).step_by(16).map(|c| Ipv4Net::new_assert(Ipv4Addr::new(192, 168, c, 0), 20));
    let large = (0..=255).rev().map(|b| Ipv4Net::new_assert(Ipv4Addr::new(10, b, 0, 0), 16));
    docker.chain(small).chain(large)
}

/// The first subnet of pools that somebody has set which overlaps none of these.
fn free_of(pools: &[AddressPool], family: Family, taken: &[IpNet]) -> Option<IpNet> {
    pools.iter().filter(|pool| Family::of(pool.base().addr()) == family).find_map(|pool| free_of_pool(*pool, taken))
}

/// What is taken is stepped over as a whole: a pool of IPv6 may have more subnets than can be gone through.
fn free_of_pool(pool: AddressPool, taken: &[IpNet]) -> Option<IpNet> {
    let last = |net: &IpNet| match net {
        IpNet::V4(net) => u128::from(net.broadcast().to_bits()),
        IpNet::V6(net) => net.broadcast().to_bits(),
    };
    let mut first = match pool.base() {
        IpNet::V4(base) => u128::from(base.network().to_bits()),
        IpNet::V6(base) => base.network().to_bits(),
    };
    while first <= last(&pool.base()) {
        let address = match pool.base() {
            IpNet::V4(_) => Ipv4Addr::from_bits(first as u32).into(),
            IpNet::V6(_) => Ipv6Addr::from_bits(first).into(),
        };
        let subnet = IpNet::new(address, pool.size()).ok()?;
        match taken.iter().filter(|taken| overlap(&subnet, taken)).map(last).max() {
            None => return Some(subnet),
            Some(end) => first = end.max(last(&subnet)).checked_add(1)?,
        }
    }
    None
}

/// A subnet of unique local addresses (RFC 4193): its 40 and 16 bits are a digest and not random, so that the same network
/// of the same stack has the same one every time.
fn unique_local(project: &str, network: &str, attempt: u32) -> IpNet {
    let digest = Sha256::digest(format!("{project}/{network}/{attempt}"));
    let mut octets = [0; 16];
    octets[0] = 0xfd;
    octets[1..8].copy_from_slice(&digest[..7]);
    Ipv6Net::new_assert(Ipv6Addr::from(octets), 64).into()
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

/// Why there are no addresses.
pub(super) enum NoAddress {
    /// There is no shared network of that name.
    Shared { network: NetworkName, external: NetworkName },
    /// Every pool overlaps a route of the host or another network.
    Subnet(NetworkName),
    /// The subnet of the network is full.
    Host(NetworkName),
    /// What a service has chosen is not to be had.
    Chosen { service: ServiceName, network: NetworkName, address: IpAddr, why: String },
}

impl Addresses {
    /// Keeps what is given out already, and gives the rest in the order of names, so that the same file has the same
    /// addresses every time. Services that are not started now have theirs reserved too: names resolve before they come.
    ///
    /// Networks that `wanted` says no to need not be there.
    pub(super) fn choose(
        project: &Project,
        observed: &Observed,
        pools: &[AddressPool],
        wanted: impl Fn(&NetworkName) -> bool,
    ) -> Result<Self, NoAddress> {
        let mut all = Self { subnets: BTreeMap::new(), services: BTreeMap::new() };
        all.choose_subnets(project, observed, pools, wanted)?;
        let mut taken: BTreeMap<NetworkName, BTreeSet<IpAddr>> = BTreeMap::new();
        all.take_chosen(project, &mut taken)?;
        all.keep(project, observed, &mut taken);
        all.fill_up(project, &mut taken)?;
        Ok(all)
    }

    fn choose_subnets(
        &mut self,
        project: &Project,
        observed: &Observed,
        pools: &[AddressPool],
        wanted: impl Fn(&NetworkName) -> bool,
    ) -> Result<(), NoAddress> {
        // What is said or there already comes first, so that what is chosen keeps clear of all of it.
        let mut missing: Vec<(&NetworkName, Family, &Addressing)> = Vec::new();
        let said = project.networks.values().flat_map(|network| definition(network, observed).addressing());
        let said: Vec<IpNet> = said.filter_map(|(_, addressing)| addressing.subnet).collect();
        let mut used: Vec<IpNet> =
            observed.networks.values().flat_map(|network| network.subnets.iter().copied()).collect();
        for (name, network) in &project.networks {
            let (network, others) = match &network.external {
                None => (network, None),
                Some(external) => match observed.shared.get(external) {
                    Some(shared) => (&shared.network, Some(&shared.taken)),
                    None if wanted(name) => {
                        return Err(NoAddress::Shared { network: name.clone(), external: external.clone() });
                    }
                    None => continue,
                },
            };
            let subnets = self.subnets.entry(name.clone()).or_default();
            for (family, addressing) in network.addressing() {
                let there = observed.networks.get(name).into_iter().flat_map(|network| &network.subnets);
                let there = there.copied().find(|net| Family::of(net.addr()) == family);
                let there = there.filter(|net| !said.iter().any(|said| overlap(said, net)));
                match addressing.subnet.or(there) {
                    None => missing.push((name, family, addressing)),
                    Some(net) => {
                        used.push(net);
                        let mut subnet = Subnet::new(net, addressing);
                        subnet
                            .reserved
                            .extend(others.into_iter().flatten().map(|(ip, who)| (*ip, format!("`{who}` has it"))));
                        subnets.push(subnet);
                    }
                }
            }
        }
        for (name, family, addressing) in missing {
            let has_set = pools.iter().any(|pool| Family::of(pool.base().addr()) == family);
            let mut usual: Box<dyn Iterator<Item = IpNet>> = match family {
                _ if has_set => Box::new(std::iter::empty()),
                Family::V4 => Box::new(self::pools().map(IpNet::V4)),
                Family::V6 => {
                    let (project, network) = (project.name.as_str(), name.as_str());
                    Box::new((0..100).map(move |attempt| unique_local(project, network, attempt)))
                }
            };
            // A default route says nothing about which addresses are in use.
            let routes = observed.host.routes.iter().filter(|route| route.prefix_len() > 0);
            let routes = routes.copied().map(IpNet::V4);
            let taken: Vec<IpNet> = routes.chain(used.iter().copied()).collect();
            let free = |pool: &IpNet| !taken.iter().any(|taken| overlap(pool, taken));
            let net = free_of(pools, family, &taken).or_else(|| usual.find(free));
            let net = net.ok_or_else(|| NoAddress::Subnet(name.clone()))?;
            used.push(net);
            let subnets = self.subnets.entry(name.clone()).or_default();
            subnets.push(Subnet::new(net, addressing));
            subnets.sort_by_key(|subnet| Family::of(subnet.gateway));
        }
        Ok(())
    }

    fn subnet(&self, network: &NetworkName, family: Family) -> Option<&Subnet> {
        self.subnets.get(network)?.iter().find(|subnet| Family::of(subnet.gateway) == family)
    }

    /// What the file says; of networks of the stack's own `load` has looked at it.
    fn take_chosen(
        &mut self,
        project: &Project,
        taken: &mut BTreeMap<NetworkName, BTreeSet<IpAddr>>,
    ) -> Result<(), NoAddress> {
        for (name, service) in &project.services {
            for attachment in &service.networks {
                let network = &attachment.network;
                let chosen = [Family::V4, Family::V6].into_iter().filter_map(|family| attachment.address(family));
                for address in chosen.filter(|_| self.subnets.contains_key(network)) {
                    let subnet = self.subnet(network, Family::of(address));
                    let wrong = match subnet {
                        None => Some(format!("the network has no {} addresses", Family::of(address))),
                        Some(subnet) if !subnet.has(address) => Some(format!("its subnet is {}", subnet.net)),
                        Some(subnet) if subnet.gateway == address => Some("it is the gateway's".to_owned()),
                        Some(subnet) => subnet.reserved.get(&address).cloned(),
                    };
                    if let Some(why) = wrong {
                        let (service, network) = (name.clone(), network.clone());
                        return Err(NoAddress::Chosen { service, network, address, why });
                    }
                    taken.entry(network.clone()).or_default().insert(address);
                    let own = self.services.entry(name.clone()).or_default();
                    own.entry(network.clone()).or_default().push(address);
                }
            }
        }
        Ok(())
    }

    /// What is given out stays, as far as it still can be had.
    fn keep(&mut self, project: &Project, observed: &Observed, taken: &mut BTreeMap<NetworkName, BTreeSet<IpAddr>>) {
        for (service, addresses) in &observed.addresses {
            for (network, addresses) in addresses {
                for address in addresses {
                    let family = Family::of(*address);
                    let gone = match (project.networks.contains_key(network), self.subnet(network, family)) {
                        (true, None) => true,
                        (true, Some(subnet)) => !subnet.is_free(*address),
                        // A network that the file does not have any more.
                        (false, _) => false,
                    };
                    let own = self.services.entry(service.clone()).or_default().entry(network.clone()).or_default();
                    let has_one = own.iter().any(|own| Family::of(*own) == family);
                    if !gone && !has_one && taken.entry(network.clone()).or_default().insert(*address) {
                        own.push(*address);
                    }
                }
            }
        }
    }

    fn fill_up(
        &mut self,
        project: &Project,
        taken: &mut BTreeMap<NetworkName, BTreeSet<IpAddr>>,
    ) -> Result<(), NoAddress> {
        let mut next: BTreeMap<(&NetworkName, Family), u128> = BTreeMap::new();
        for (name, service) in &project.services {
            for attachment in &service.networks {
                let network = &attachment.network;
                let own = self.services.entry(name.clone()).or_default().entry(network.clone()).or_default();
                for subnet in self.subnets.get(network).into_iter().flatten() {
                    let family = Family::of(subnet.gateway);
                    if own.iter().any(|own| Family::of(*own) == family) {
                        continue;
                    }
                    let used = taken.entry(network.clone()).or_default();
                    let next = next.entry((network, family)).or_default();
                    let address = loop {
                        let address = subnet.nth(*next).ok_or_else(|| NoAddress::Host(network.clone()))?;
                        *next += 1;
                        if subnet.is_free(address) && used.insert(address) {
                            break address;
                        }
                    };
                    own.push(address);
                }
                own.sort();
            }
        }
        Ok(())
    }

    /// The addresses that the bridge of a network has, with the prefix length: IPv4 first.
    pub(super) fn gateways(&self, network: &NetworkName) -> Vec<IpNet> {
        let subnets = self.subnets.get(network).into_iter().flatten();
        subnets.map(|subnet| with_prefix(subnet.gateway, subnet.net.prefix_len())).collect()
    }

    /// The addresses of a service on a network, at most one of each family, IPv4 first; none if it is not on it.
    pub(super) fn of(&self, service: &ServiceName, network: &NetworkName) -> &[IpAddr] {
        self.services.get(service).and_then(|networks| networks.get(network)).map_or(&[], Vec::as_slice)
    }

    /// The same with the prefix lengths.
    pub(super) fn nets_of(&self, service: &ServiceName, network: &NetworkName) -> Vec<IpNet> {
        let prefix =
            |address: &IpAddr| self.subnet(network, Family::of(*address)).map(|subnet| subnet.net.prefix_len());
        let addresses = self.of(service, network).iter();
        addresses.filter_map(|address| Some(with_prefix(*address, prefix(address)?))).collect()
    }
}

impl Subnet {
    fn new(net: IpNet, addressing: &Addressing) -> Self {
        let gateway = addressing.gateway.unwrap_or_else(|| at(net, 1));
        let reserved = addressing.reserved.iter().map(|(host, address)| (*address, format!("it is that of `{host}`")));
        Self { net, gateway, range: addressing.range.unwrap_or(net), reserved: reserved.collect() }
    }

    /// Whether a host can have it.
    fn has(&self, address: IpAddr) -> bool {
        let edge = address == self.net.network() || address.is_ipv4() && address == self.net.broadcast();
        self.net.contains(&address) && !edge
    }

    fn is_free(&self, address: IpAddr) -> bool {
        self.has(address) && address != self.gateway && !self.reserved.contains_key(&address)
    }

    /// The address at this place of the range.
    fn nth(&self, place: u128) -> Option<IpAddr> {
        let host_bits = u32::from(self.range.max_prefix_len() - self.range.prefix_len());
        let inside = host_bits >= 128 || place < 1 << host_bits;
        inside.then(|| at(self.range, place))
    }
}

fn at(net: IpNet, place: u128) -> IpAddr {
    match net {
        IpNet::V4(net) => Ipv4Addr::from_bits(net.network().to_bits().wrapping_add(place as u32)).into(),
        IpNet::V6(net) => Ipv6Addr::from_bits(net.network().to_bits().wrapping_add(place)).into(),
    }
}

fn with_prefix(address: IpAddr, prefix: u8) -> IpNet {
    IpNet::new(address, prefix).unwrap_or_else(|_| address.into())
}

/// The network as it is: what a shared one is like is said where it was made.
pub(super) fn definition<'a>(network: &'a Network, observed: &'a Observed) -> &'a Network {
    let shared = network.external.as_ref().and_then(|external| observed.shared.get(external));
    shared.map_or(network, |shared| &shared.network)
}

/// The subnets that a shared network gets where its maker names none: clear of these and of the routes of the host.
pub fn subnets_for(
    network: &Network,
    name: &NetworkName,
    routes: &BTreeSet<Ipv4Net>,
    others: &[IpNet],
    pools: &[AddressPool],
) -> Option<Vec<(Family, IpNet)>> {
    let mut chosen: Vec<(Family, IpNet)> = Vec::new();
    for (family, addressing) in network.addressing() {
        let net = match addressing.subnet {
            Some(net) => net,
            None => {
                let routes = routes.iter().filter(|route| route.prefix_len() > 0).copied().map(IpNet::V4);
                let taken: Vec<IpNet> = routes.chain(others.iter().copied()).collect();
                let free = |pool: &IpNet| !taken.iter().any(|taken| overlap(pool, taken));
                let has_set = pools.iter().any(|pool| Family::of(pool.base().addr()) == family);
                match family {
                    _ if has_set => free_of(pools, family, &taken)?,
                    // From the far end, where the first subnets of stacks are not: a service is on both.
                    Family::V4 => {
                        self::pools().map(IpNet::V4).take(30).collect::<Vec<_>>().into_iter().rev().find(free)?
                    }
                    Family::V6 => (0..100).map(|attempt| unique_local("", name.as_str(), attempt)).find(free)?,
                }
            }
        };
        chosen.push((family, net));
    }
    Some(chosen)
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
        let all: Vec<IpNet> = pools().map(IpNet::V4).collect();
        for (i, a) in all.iter().enumerate() {
            assert!(!all[i + 1..].iter().any(|b| overlap(a, b)), "{a}");
        }
    }

    #[test]
    fn subnets_of_pools_that_were_set() {
        let pools = ["10.9.0.0/23:24", "fd00:9::/63:64"].map(|pool| pool.parse().expect("a pool"));
        let free = |family, taken: &[&str]| {
            let taken: Vec<IpNet> = taken.iter().map(|net| net.parse().expect("a network")).collect();
            free_of(&pools, family, &taken).map(|net| net.to_string())
        };
        assert_eq!(free(Family::V4, &["fd00:9::/64"]).as_deref(), Some("10.9.0.0/24"));
        assert_eq!(free(Family::V4, &["10.9.0.7/32"]).as_deref(), Some("10.9.1.0/24"));
        assert_eq!(free(Family::V4, &["10.9.0.0/25", "10.9.1.128/25"]), None);
        assert_eq!(free(Family::V6, &["fd00:9::/64"]).as_deref(), Some("fd00:9:0:1::/64"));
        assert_eq!(free(Family::V6, &["fd00::/16"]), None);
        // Nobody could go through the half of it.
        let large: AddressPool = "fd00::/8:64".parse().expect("a pool");
        let half = "fd00::/9".parse().expect("a network");
        assert_eq!(free_of_pool(large, &[half]).map(|net| net.to_string()).as_deref(), Some("fd80::/64"));
        for wrong in ["10.9.0.0/23", "10.9.0.1/24:24", "10.9.0.0/24:23", "10.9.0.0/24:31", "x:24", "fd00::/64:127"] {
            assert!(wrong.parse::<AddressPool>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn unique_local_subnets_are_of_fd() {
        let net = unique_local("shop", "front", 0);
        assert!(net.to_string().starts_with("fd") && net.prefix_len() == 64 && net.trunc() == net, "{net}");
        assert_ne!(net, unique_local("shop", "back", 0));
        assert_eq!(net, unique_local("shop", "front", 0));
    }
}
