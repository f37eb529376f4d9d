//! `networks:` of the file, and of a service.

mod addressing;
mod attachment;
mod bridge_options;
mod endpoint_options;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use ipnet::IpNet;

use super::{Context, Cursor, valid};
use crate::{
    compose::{self, Flag, Networking},
    diagnostics::{Diagnostic, Span},
    load::resolve,
    model::{Addressing, Family, MacAddress, NamespaceMode, Network, NetworkName},
};

use addressing::addressing;
pub(super) use attachment::{host_name, lower};
use bridge_options::bridge_options;

/// The network of services that name none (Compose Specification, "networks").
const DEFAULT: &str = "default";

/// Who has which address on which network: of the file's own words only.
#[derive(Default)]
pub(super) struct Taken {
    addresses: HashMap<(NetworkName, IpAddr), (String, Span)>,
    hardware: HashMap<(NetworkName, MacAddress), (String, Span)>,
}

impl Taken {
    /// Takes an address; gives back who has it if somebody does.
    fn address(&mut self, network: &NetworkName, address: IpAddr, who: String, span: &Span) -> Option<(String, Span)> {
        let key = (network.clone(), address);
        match self.addresses.get(&key) {
            Some(first) => Some(first.clone()),
            None => {
                self.addresses.insert(key, (who, span.clone()));
                None
            }
        }
    }

    fn hardware(&mut self, network: &NetworkName, mac: MacAddress, who: String, span: &Span) -> Option<(String, Span)> {
        let key = (network.clone(), mac);
        match self.hardware.get(&key) {
            Some(first) => Some(first.clone()),
            None => {
                self.hardware.insert(key, (who, span.clone()));
                None
            }
        }
    }
}

/// All networks that the file declares.
pub(super) fn declared(cx: &mut Context<'_>, at: Option<Cursor<'_>>) -> BTreeMap<NetworkName, Network> {
    let mut networks = BTreeMap::new();
    let mut subnets: Vec<(IpNet, NetworkName, Span)> = Vec::new();
    let mut bridges: HashMap<String, Span> = HashMap::new();
    for (name, at) in at.into_iter().flat_map(Cursor::entries) {
        let Some(key) = valid::<NetworkName>(cx, name, at) else { continue };
        let said = cx.project.networks.as_ref().and_then(|networks| networks.0.get(name));
        let network = said.map_or_else(Network::default, |said| network(cx, &key, said, at, &mut subnets));
        if let Some(bridge) = &network.bridge.name {
            let option = at.at("driver_opts").at("com.docker.network.bridge.name");
            if let Some(first) = bridges.insert(bridge.clone(), option.span().clone()) {
                let twice = Diagnostic::error(format!("two networks have the bridge `{bridge}`"));
                cx.push(option.here(twice).label(&first, "the first one"));
            }
        }
        networks.insert(key, network);
    }
    networks
}

fn network(
    cx: &mut Context<'_>,
    name: &NetworkName,
    said: &compose::Network,
    at: Cursor<'_>,
    subnets: &mut Vec<(IpNet, NetworkName, Span)>,
) -> Network {
    if said.external.is_some_and(|external| external.0) {
        let outside = resolve::said(said.name.as_ref()).unwrap_or(name.as_str());
        let at = at.get("name").filter(|name| !name.is_implied()).unwrap_or(at);
        if outside == "bridge" {
            let none = Diagnostic::error("there is no network `bridge` of all stacks");
            cx.push(
                at.here(none)
                    .hint("leave the service without `networks:`, or make one with `nscompose network create`"),
            );
        }
        let external = match outside.parse() {
            Ok(external) => Some(external),
            Err(error) => {
                cx.push(at.here(Diagnostic::error(format!("{error}"))));
                // Whatever else is said of it is not of one of the stack's own.
                Some(name.clone())
            }
        };
        return Network { external, ..Network::default() };
    }
    if let Some(driver) = resolve::said(said.driver.as_ref())
        && !matches!(driver, "bridge" | "default")
        && crate::compose::refused("networks.*.driver", driver).is_none()
    {
        let wrong = Diagnostic::error(format!("there is no network driver `{driver}`"));
        cx.push(at.at("driver").here(wrong).hint("use `bridge`"));
    }
    let mut network = Network { internal: said.internal.is_some_and(|flag| flag.0), ..Network::default() };
    if let Some(place) = at.get("name").filter(|name| !name.is_implied())
        && let Some(whole) = resolve::said(said.name.as_ref())
    {
        match whole.parse() {
            Ok(whole) => network.name = Some(whole),
            Err(error) => cx.push(place.here(Diagnostic::error(format!("{error}")))),
        }
    }
    let (mut four, mut six) = (None, None);
    if let Some(ipam) = &said.ipam {
        let at = at.at("ipam");
        if let Some(driver) = resolve::said(ipam.driver.as_ref())
            && driver != "default"
        {
            let wrong = Diagnostic::error(format!("there is no driver `{driver}` that gives addresses out"));
            cx.push(at.at("driver").here(wrong).hint("use `default`, or leave it out"));
        }
        for (config, at) in at.at("config").items(ipam.config.as_ref().map_or(&[], |ranges| &ranges.0.0)) {
            let Some((family, addressing)) = addressing(cx, name, config, at) else { continue };
            let slot = if family == Family::V4 { &mut four } else { &mut six };
            match slot {
                None => *slot = Some((addressing, at)),
                Some((_, first)) => {
                    let second = Diagnostic::error(format!("network `{name}` has a second {family} subnet"));
                    let second = at.here(second).label(first.span(), "the first one");
                    cx.push(
                        second.hint(
                            "one of each family is what a network can have; make it larger, or make two networks",
                        ),
                    );
                }
            }
        }
        for (addressing, at) in [&four, &six].into_iter().flatten() {
            let Some(subnet) = addressing.subnet else { continue };
            let overlap = |other: &IpNet| other.contains(&subnet) || subnet.contains(other);
            if let Some((other, of, span)) = subnets.iter().find(|(other, ..)| overlap(other)) {
                let wrong =
                    Diagnostic::error(format!("subnet {subnet} of network `{name}` overlaps {other} of `{of}`"));
                cx.push(at.at("subnet").here(wrong).label(span, "the other one"));
            }
            subnets.push((subnet, name.clone(), at.at("subnet").span().clone()));
        }
    }
    let enabled = |flag: Option<compose::Kept<Flag>>| flag.map(|flag| flag.0.0);
    for (family, key, flag, slot, into) in [
        (Family::V4, "enable_ipv4", enabled(said.enable_ipv4), four, &mut network.ipv4),
        (Family::V6, "enable_ipv6", enabled(said.enable_ipv6), six, &mut network.ipv6),
    ] {
        *into = match (flag, slot) {
            (Some(false), Some((_, config))) => {
                let wrong =
                    Diagnostic::error(format!("network `{name}` has an {family} subnet and no {family} addresses"));
                let wrong = config.here(wrong).label(at.at(key).span(), "turned off here");
                cx.push(wrong.hint(format!("remove the subnet or `{key}: false`")));
                None
            }
            (Some(false), None) => None,
            // Who names a subnet wants addresses of it.
            (_, Some((addressing, _))) => Some(addressing),
            (Some(true), None) => Some(Addressing::default()),
            (None, None) => (family == Family::V4).then(Addressing::default),
        };
    }
    if network.ipv4.is_none() && network.ipv6.is_none() {
        let key = if at.get("enable_ipv4").is_some() { "enable_ipv4" } else { "enable_ipv6" };
        let wrong = Diagnostic::error(format!("network `{name}` has neither IPv4 nor IPv6 addresses"));
        cx.push(at.at(key).here(wrong).hint("leave `enable_ipv4` out, or set `enable_ipv6: true`"));
    }
    network.bridge = bridge_options(cx, said, &network, at);
    network
}

/// Takes an address for somebody, or says who has it.
fn claim(cx: &mut Context<'_>, network: &NetworkName, address: IpAddr, who: String, place: Cursor<'_>) {
    if let Some((first, span)) = cx.taken.address(network, address, who.clone(), place.span()) {
        let twice = if first == who {
            format!("{first} has {address} on network `{network}` twice")
        } else {
            format!("{first} and {who} both have {address} on network `{network}`")
        };
        cx.push(place.here(Diagnostic::error(twice)).label(&span, "taken here"));
    }
}

const INTERFACE: &str = "it has at most 15 letters, digits and signs, without blanks, `/`, `:` and `%`, and is not `lo`, `all` or `default`";

/// `host` and `none`, which are there without being made (Compose Specification, "networks", "external"): a service on one of
/// them has its network mode.
pub(super) fn predefined(
    cx: &mut Context<'_>,
    networking: &Networking,
    mode: NamespaceMode,
    at: Cursor<'_>,
) -> NamespaceMode {
    let names = networking.networks.as_ref().map_or(0, |networks| networks.0.0.len());
    for (name, at) in at.get("networks").into_iter().flat_map(Cursor::entries) {
        let external = name.parse().ok().and_then(|name: NetworkName| cx.networks.get(&name)?.external.clone());
        let special = match external.as_ref().map(NetworkName::as_str) {
            Some("host") => NamespaceMode::Host,
            Some("none") => NamespaceMode::None,
            _ => continue,
        };
        if names > 1 {
            let wrong = Diagnostic::error(format!(
                "`{name}` is the network `{}` and goes with no other one",
                external.as_ref().map_or("", NetworkName::as_str)
            ));
            cx.push(at.at_key(wrong).hint("leave the service on this one alone, or on the others"));
        } else if at.entries().next().is_some() {
            let wrong = Diagnostic::error(format!("nothing can be said of how a service joins `{name}`"));
            cx.push(at.at_key(wrong).hint("remove what stands below it"));
        }
        return special;
    }
    mode
}

/// Networks that no service can be on, since they are no bridges.
pub(super) fn drop_predefined(networks: &mut BTreeMap<NetworkName, Network>, used: &BTreeSet<NetworkName>) {
    let predefined = |network: &Network| {
        network.external.as_ref().is_some_and(|external| matches!(external.as_str(), "host" | "none" | "bridge"))
    };
    networks.retain(|name, network| used.contains(name) || !predefined(network));
}
