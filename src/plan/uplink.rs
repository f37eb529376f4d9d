//! The way out of a stack: whether there is one, at which addresses, and for whom.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sha2::{Digest, Sha256};

use super::{Uplink, UplinkBridge, address::Addresses};
use crate::model::{Family, HOST_GATEWAY, Host, NetworkName, Observed, Project, ServiceName, UplinkMeans, UplinkWish};

/// The largest packet where pasta carries it on: it reads each with a system call of its own, and hands only its contents
/// to a socket, so that no network outside sees how large it was.
const PASTA_MTU: u32 = 65_520;

/// What uplinks of root take their pairs of addresses from: little used parts of the private networks, the next only where a route
/// of the host covers the one before.
const POOLS: [Ipv4Net; 3] = [
    Ipv4Net::new_assert(Ipv4Addr::new(10, 213, 0, 0), 16),
    Ipv4Net::new_assert(Ipv4Addr::new(172, 16, 128, 0), 17),
    Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 213, 0), 24),
];

/// Two addresses and those around them.
const PREFIX: u8 = 30;

/// How many pairs a plan names: other stacks that start at the same moment may have taken the first ones.
const CANDIDATES: usize = 16;

/// Where uplinks take their pairs of IPv6 addresses from: unique local ones (RFC 4193) that do not leave the host, where each stack is at a
/// place of its own.
const POOL_V6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfd6e, 0x7363, 0, 0, 0, 0, 0, 0), 48);

/// Two addresses and those around them, of which the first belongs to all routers (RFC 4291).
const PREFIX_V6: u8 = 126;

/// How many pairs of IPv6 a plan names: there are so many that two stacks hardly want the same.
const CANDIDATES_V6: u64 = 4;

/// Whether what is on a network of the project may go out of the stack: what stacks share is not in the stack.
pub(super) fn leads_out(project: &Project, network: &NetworkName) -> bool {
    let network = project.networks.get(network);
    project.uplink == UplinkWish::Auto && network.is_some_and(|it| !it.internal && it.external.is_none())
}

/// The network through which a service goes out with addresses of this family, and its gateway there, if there is an uplink:
/// of those that lead out the one with the highest `gw_priority`, of equals the first.
pub(super) fn way_out<'a>(
    project: &'a Project,
    addresses: &Addresses,
    service: &ServiceName,
    family: Family,
) -> Option<(&'a NetworkName, IpAddr)> {
    let ways = project.services[service].networks.iter().filter_map(|attachment| {
        let gateways = addresses.gateways(&attachment.network);
        let gateway = gateways.iter().map(IpNet::addr).find(|gateway| Family::of(*gateway) == family)?;
        leads_out(project, &attachment.network).then_some((attachment, gateway))
    });
    // Of equals `max_by_key` takes the last.
    let ways: Vec<_> = ways.collect();
    let best = ways.into_iter().rev().max_by_key(|(attachment, _)| attachment.gateway_priority);
    best.map(|(attachment, gateway)| (&attachment.network, gateway))
}

/// The largest packet on a network; none leaves it to the kernel.
pub(super) fn mtu(project: &Project, host: &Host, network: &NetworkName) -> Option<u32> {
    (matches!(host.uplink, UplinkMeans::Pasta { .. }) && leads_out(project, network)).then_some(PASTA_MTU)
}

/// What is to be done about the uplink; none if nothing is. `bridges` are those that there will be.
pub(super) fn wish(
    project: &Project,
    observed: &Observed,
    bridges: Vec<UplinkBridge>,
    fingerprint: impl Fn(&Uplink) -> String,
) -> Option<Uplink> {
    let means = &observed.host.uplink;
    let needed = bridges.iter().any(|bridge| bridge.leads_out) || observed.uplink.is_some();
    if *means == UplinkMeans::None || !needed {
        return None;
    }
    let addresses = match means {
        UplinkMeans::Veth { .. } => addresses(project, &observed.host),
        // It is seen in the stack only.
        UplinkMeans::Pasta { .. } => vec![pair(POOLS[0], 0)],
        UplinkMeans::None | UplinkMeans::Missing { .. } => Vec::new(),
    };
    let has_ipv6 = project.networks.iter().any(|(name, network)| network.ipv6.is_some() && leads_out(project, name));
    let addresses_v6 = match means {
        UplinkMeans::Veth { .. } if has_ipv6 => addresses_v6(project),
        // From the beginning: it cannot be told later. What has no IPv6 sends none.
        UplinkMeans::Pasta { .. } => vec![pair_v6(0)],
        _ => Vec::new(),
    };
    let mut wish = Uplink {
        means: means.clone(),
        addresses,
        addresses_v6,
        host_gateway: HOST_GATEWAY,
        bridges,
        fingerprint: String::new(),
    };
    // Which addresses were free once makes no difference.
    wish.fingerprint = fingerprint(&Uplink { addresses: Vec::new(), ..wish.clone() });
    (observed.uplink.as_ref() != Some(&wish.fingerprint)).then_some(wish)
}

/// Pairs that no route of the host covers, beginning at a place that depends on the name of the project.
fn addresses(project: &Project, host: &Host) -> Vec<Ipv4Net> {
    let digest = Sha256::digest(project.name.as_str());
    let start = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    let all = POOLS.into_iter().flat_map(|pool| {
        let count = 1_u32 << (PREFIX - pool.prefix_len());
        (0..count).map(move |i| pair(pool, (start.wrapping_add(i)) % count))
    });
    let free = all.filter(|pair| {
        let pair = pair.trunc();
        let overlaps = |route: &&Ipv4Net| route.prefix_len() > 0 && (route.contains(&pair) || pair.contains(*route));
        !host.routes.iter().any(|route| overlaps(&route))
    });
    free.take(CANDIDATES).collect()
}

/// The inner address of a pair of the pool.
fn pair(pool: Ipv4Net, place: u32) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::from_bits(pool.network().to_bits() + place * 4 + 2), PREFIX)
}

/// Pairs of IPv6 at places that depend on the name of the project. Which of them are free is seen when the link is made.
fn addresses_v6(project: &Project) -> Vec<Ipv6Net> {
    let digest = Sha256::digest(project.name.as_str());
    let start = digest[..8].iter().fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
    (0..CANDIDATES_V6).map(|i| pair_v6(start.wrapping_add(i))).collect()
}

/// The inner address of a pair of IPv6.
fn pair_v6(place: u64) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::from_bits(POOL_V6.network().to_bits() + u128::from(place) * 4 + 2), PREFIX_V6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(name: &str) -> Project {
        Project {
            name: name.parse().expect("a name"),
            directory: "/".into(),
            files: Vec::new(),
            services: Default::default(),
            replicas: Default::default(),
            networks: Default::default(),
            volumes: Default::default(),
            uplink: UplinkWish::Auto,
        }
    }

    #[test]
    fn addresses_depend_on_the_name_and_keep_clear_of_routes() {
        let mut host = Host::default();
        let first = addresses(&project("a"), &host);
        assert_eq!(first, addresses(&project("a"), &host));
        assert_ne!(first, addresses(&project("b"), &host));
        assert_eq!(first.len(), CANDIDATES);
        // Another stack's, or a network that covers the whole pool.
        host.routes.insert(first[0].trunc());
        assert_eq!(addresses(&project("a"), &host)[0], first[1]);
        host.routes.insert("10.0.0.0/8".parse().expect("a network"));
        host.routes.insert("0.0.0.0/0".parse().expect("a network"));
        assert!(addresses(&project("a"), &host).iter().all(|pair| POOLS[1].contains(pair)));
    }

    #[test]
    fn pairs_of_ipv6_depend_on_the_name_and_lie_in_the_pool() {
        let first = addresses_v6(&project("a"));
        assert_eq!(first, addresses_v6(&project("a")));
        assert_ne!(first, addresses_v6(&project("b")));
        assert!(first.iter().all(|pair| POOL_V6.contains(pair) && pair.addr().to_bits() % 4 == 2), "{first:?}");
        assert!(POOL_V6.contains(&pair_v6(u64::MAX)));
    }

    #[test]
    fn an_internal_network_leads_nowhere() {
        let mut project = project("a");
        let network = |name: &str| name.parse::<NetworkName>().expect("a name");
        let internal = crate::model::Network { internal: true, ..Default::default() };
        project.networks.insert(network("in"), internal);
        let host = Host { uplink: UplinkMeans::Veth { nft: "/usr/sbin/nft".into() }, ..Host::default() };
        let observed = Observed { host, ..Observed::default() };
        let wish = |project: &Project| {
            let bridges = project.networks.keys().map(|network| UplinkBridge {
                interface: network.to_string(),
                leads_out: leads_out(project, network),
                config: String::new(),
            });
            super::wish(project, &observed, bridges.collect(), |_| String::new())
        };
        assert_eq!(wish(&project), None);
        let shared = crate::model::Network { external: Some(network("all")), ..Default::default() };
        project.networks.insert(network("all"), shared);
        assert_eq!(wish(&project), None);
        project.networks.insert(network("out"), crate::model::Network::default());
        let bridges = wish(&project).expect("a way out").bridges;
        let leading: Vec<bool> = bridges.iter().map(|bridge| bridge.leads_out).collect();
        assert_eq!(leading, [false, false, true]);
        project.uplink = UplinkWish::None;
        assert_eq!(wish(&project), None);
    }
}
