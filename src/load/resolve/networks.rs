//! `networks:` of the file, and of a service.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;

use super::{Context, Cursor, valid};
use crate::{
    compose::{self, Flag, Networking},
    diagnostics::{Diagnostic, Span, suggest},
    model::{
        Addressing, BridgeOptions, Family, HOST_GATEWAY, MacAddress, NamespaceMode, Network, NetworkAttachment,
        NetworkName, ServiceName, UPLINK_INTERFACE, is_interface_name,
    },
};

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
        let outside = super::said(said.name.as_ref()).unwrap_or(name.as_str());
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
    if let Some(driver) = super::said(said.driver.as_ref())
        && !matches!(driver, "bridge" | "default")
        && crate::compose::refused("networks.*.driver", driver).is_none()
    {
        let wrong = Diagnostic::error(format!("there is no network driver `{driver}`"));
        cx.push(at.at("driver").here(wrong).hint("use `bridge`"));
    }
    let mut network = Network { internal: said.internal.is_some_and(|flag| flag.0), ..Network::default() };
    if let Some(place) = at.get("name").filter(|name| !name.is_implied())
        && let Some(whole) = super::said(said.name.as_ref())
    {
        match whole.parse() {
            Ok(whole) => network.name = Some(whole),
            Err(error) => cx.push(place.here(Diagnostic::error(format!("{error}")))),
        }
    }
    let (mut four, mut six) = (None, None);
    if let Some(ipam) = &said.ipam {
        let at = at.at("ipam");
        if let Some(driver) = super::said(ipam.driver.as_ref())
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

/// One item of `ipam.config`.
fn addressing(
    cx: &mut Context<'_>,
    name: &NetworkName,
    config: &compose::IpamConfig,
    at: Cursor<'_>,
) -> Option<(Family, Addressing)> {
    let Some(text) = super::said(config.subnet.as_ref()) else {
        if at.entries().any(|(key, at)| key != "subnet" && !at.node.is_null()) {
            let wrong = Diagnostic::error("an item of `config` has no `subnet`");
            cx.push(at.here(wrong).hint("name it, as in `subnet: 172.28.0.0/16`"));
        }
        return None;
    };
    let place = at.at("subnet");
    let Ok(subnet) = text.parse::<IpNet>() else {
        let wrong = Diagnostic::error(format!("`{text}` is not a subnet"));
        cx.push(place.here(wrong).hint("write an address and the length of its prefix, such as `172.28.0.0/16`"));
        return None;
    };
    let family = Family::of(subnet.addr());
    if subnet.trunc() != subnet {
        let wrong = Diagnostic::error(format!("`{text}` is an address in a subnet, and not the subnet"));
        cx.push(place.here(wrong).hint(format!("write `{}`", subnet.trunc())));
        return None;
    }
    // The bridge and one service; of IPv4 the first and the last address are nobody's.
    let longest = if family == Family::V4 { 30 } else { 126 };
    if subnet.prefix_len() > longest || !is_for_hosts(subnet) {
        let (wrong, hint) = if subnet.prefix_len() > longest {
            (format!("subnet {subnet} has no room for services"), format!("the longest prefix is /{longest}"))
        } else {
            (
                format!("subnet {subnet} is not for hosts"),
                "use one of 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 or fd00::/8".to_owned(),
            )
        };
        cx.push(place.here(Diagnostic::error(wrong)).hint(hint));
        return None;
    }
    if subnet.contains(&IpAddr::V4(HOST_GATEWAY)) {
        let wrong = format!("subnet {subnet} has {HOST_GATEWAY}, at which services reach the host");
        cx.push(
            place.here(Diagnostic::error(wrong)).hint("use a part of 169.254.0.0/16 without it, or another subnet"),
        );
        return None;
    }
    let mut addressing = Addressing { subnet: Some(subnet), ..Addressing::default() };
    if let Some(text) = super::said(config.ip_range.as_ref()) {
        let place = at.at("ip_range");
        match text.parse::<IpNet>() {
            Ok(range) if subnet.contains(&range) => addressing.range = Some(range.trunc()),
            Ok(range) => {
                let wrong = Diagnostic::error(format!("range {range} is not in subnet {subnet}"));
                cx.push(place.here(wrong).label(at.at("subnet").span(), "the subnet"));
            }
            Err(_) => {
                let wrong = Diagnostic::error(format!("`{text}` is not a range of addresses"));
                cx.push(place.here(wrong).hint("write it like a subnet, such as `172.28.5.0/24`"));
            }
        }
    }
    if let Some(text) = super::said(config.gateway.as_ref()) {
        let place = at.at("gateway");
        addressing.gateway = in_subnet(cx, name, text, subnet, place, at.at("subnet").span());
        if let Some(gateway) = addressing.gateway {
            cx.taken.address(name, gateway, "the gateway".to_owned(), place.span());
        }
    } else if let Some(first) = first_address(subnet) {
        cx.taken.address(name, first, "the gateway".to_owned(), at.at("subnet").span());
    }
    if let Some(aux) = &config.aux_addresses {
        for (host, place) in at.at("aux_addresses").entries() {
            let Some(text) = aux.0.get(host) else { continue };
            let Some(address) = in_subnet(cx, name, &text.0, subnet, place, at.at("subnet").span()) else { continue };
            claim(cx, name, address, format!("`{host}` of `aux_addresses`"), place);
            addressing.reserved.insert(host.to_owned(), address);
        }
    }
    Some((family, addressing))
}

/// Whether hosts can have addresses of it, in a network of their own.
fn is_for_hosts(subnet: IpNet) -> bool {
    match subnet {
        IpNet::V4(net) => {
            let first = net.network();
            !(first.octets()[0] == 0 || first.is_loopback() || first.is_multicast() || first.octets()[0] >= 240)
        }
        IpNet::V6(net) => {
            let first = net.network();
            !(first.is_loopback() || first.is_unspecified() || first.is_multicast() || first.is_unicast_link_local())
        }
    }
}

/// The address of the bridge if nobody says another.
fn first_address(subnet: IpNet) -> Option<IpAddr> {
    subnet.hosts().find(|address| *address != subnet.network())
}

/// An address that a host of this subnet can have.
fn in_subnet(
    cx: &mut Context<'_>,
    network: &NetworkName,
    text: &str,
    subnet: IpNet,
    place: Cursor<'_>,
    written: &Span,
) -> Option<IpAddr> {
    let Ok(address) = text.parse::<IpAddr>() else {
        cx.push(place.here(Diagnostic::error(format!("`{text}` is not an address"))));
        return None;
    };
    let wrong = if !subnet.contains(&address) {
        format!("{address} is not in subnet {subnet} of network `{network}`")
    } else if address == subnet.network() || (address.is_ipv4() && address == subnet.broadcast()) {
        format!("{address} is not an address that a host can have in subnet {subnet}")
    } else {
        return Some(address);
    };
    cx.push(place.here(Diagnostic::error(wrong)).label(written, "the subnet"));
    None
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

/// Options of a bridge that are understood.
const OPTIONS: [&str; 6] = [
    "com.docker.network.bridge.name",
    "com.docker.network.bridge.enable_icc",
    "com.docker.network.bridge.enable_ip_masquerade",
    "com.docker.network.bridge.host_binding_ipv4",
    "com.docker.network.driver.mtu",
    "com.docker.network.container_iface_prefix",
];

fn is_plain(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

fn bridge_options(cx: &mut Context<'_>, said: &compose::Network, network: &Network, at: Cursor<'_>) -> BridgeOptions {
    let mut options = BridgeOptions::default();
    let Some(written) = &said.driver_opts else { return options };
    for (key, place) in at.at("driver_opts").entries() {
        let Some(text) = written.0.get(key).map(|text| text.0.as_str()) else { continue };
        let mut wrong = |what: String, hint: &str| cx.push(place.here(Diagnostic::error(what)).hint(hint));
        let flag = |wrong: &mut dyn FnMut(String, &str), default| match Flag::parse(text).or(match text {
            "1" => Some(true),
            "0" => Some(false),
            _ => None,
        }) {
            Some(flag) => flag,
            None => {
                wrong(format!("`{text}` is neither `true` nor `false`"), "write one of the two");
                default
            }
        };
        match key {
            // That of the uplink is taken, and rules of nftables could take some others for a pattern.
            "com.docker.network.bridge.name" if text == UPLINK_INTERFACE => {
                wrong(format!("the interface `{UPLINK_INTERFACE}` is the way out of the stack"), "choose another name");
            }
            "com.docker.network.bridge.name" if is_interface_name(text) && is_plain(text) => {
                options.name = Some(text.to_owned());
            }
            "com.docker.network.bridge.name" => wrong(format!("`{text}` is not a name of an interface"), INTERFACE),
            "com.docker.network.bridge.enable_icc" => options.icc = flag(&mut wrong, true),
            "com.docker.network.bridge.enable_ip_masquerade" => {
                options.masquerade = flag(&mut wrong, true);
                // What leaves a stack has the address of its uplink: the host has no way back to any other.
                if !options.masquerade && !network.internal {
                    let option = format!("driver_opts.{key}: {text}");
                    cx.refusals.option(&option, |diagnostic| place.here(diagnostic));
                    options.masquerade = true;
                }
            }
            "com.docker.network.bridge.host_binding_ipv4" => match text.parse::<Ipv4Addr>() {
                Ok(address) => options.host_binding = (!address.is_unspecified()).then_some(address),
                Err(_) => wrong(
                    format!("`{text}` is not an IPv4 address"),
                    "name an address of the host, such as `127.0.0.1`",
                ),
            },
            "com.docker.network.driver.mtu" => {
                // What each family needs at least: RFC 791 and RFC 8200, 5; what the kernel takes at most of a veth.
                let least = if network.ipv6.is_some() { 1280 } else { 68 };
                match text.parse::<u32>() {
                    Ok(0) => {}
                    Ok(mtu) if (least..=65_535).contains(&mtu) => options.mtu = Some(mtu),
                    _ => wrong(
                        format!("`{text}` is not a size of packets"),
                        &format!("it has from {least} to 65535 bytes"),
                    ),
                }
            }
            // Room for the number behind it.
            "com.docker.network.container_iface_prefix" if is_interface_name(text) && text.len() <= 12 => {
                options.interface_prefix = Some(text.to_owned());
            }
            "com.docker.network.container_iface_prefix" => {
                wrong(
                    format!("`{text}` cannot begin names of interfaces"),
                    "at most 12 letters, digits and signs, without `/`, `:` and `%`",
                );
            }
            _ => {
                let meant = suggest(key, OPTIONS);
                cx.refusals
                    .option(&format!("driver_opts.{key}"), |diagnostic| place.at_key(diagnostic).did_you_mean(meant));
            }
        }
    }
    options
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

/// The networks it is on: the highest priority first, else as they are listed.
pub(super) fn lower(
    cx: &mut Context<'_>,
    service: &ServiceName,
    networking: &Networking,
    mode: &NamespaceMode,
    at: Cursor<'_>,
) -> Vec<NetworkAttachment> {
    let mut attachments: Vec<(i64, NetworkAttachment, Cursor<'_>)> = Vec::new();
    if *mode == NamespaceMode::Private {
        for (name, at) in at.get("networks").into_iter().flat_map(Cursor::entries) {
            let said = networking.networks.as_ref().and_then(|networks| networks.0.0.get(name)?.0.as_ref());
            let Ok(network) = name.parse() else { continue };
            let priority = said.and_then(|said| said.priority).map_or(0, |priority| priority.0.0);
            // Also of one that is not declared, which has been said, other mistakes are looked for.
            let attachment = match said {
                None => NetworkAttachment::to(network),
                Some(said) => attachment(cx, service, network, said, at),
            };
            if name == DEFAULT || cx.declares_network(name) {
                attachments.push((priority, attachment, at));
            }
        }
        if attachments.is_empty()
            && let Ok(network) = DEFAULT.parse()
        {
            attachments.push((0, NetworkAttachment::to(network), at));
        }
        attachments.sort_by_key(|(priority, ..)| std::cmp::Reverse(*priority));
    }
    own_mac(cx, service, networking, &mut attachments, at);
    let mut interfaces: HashMap<String, &Span> = HashMap::new();
    for (_, attachment, at) in &attachments {
        if let Some(interface) = &attachment.interface
            && let Some(first) = interfaces.insert(interface.clone(), at.at("interface_name").span())
        {
            let twice = Diagnostic::error(format!("service `{service}` has two interfaces `{interface}`"));
            cx.push(at.at("interface_name").here(twice).label(first, "the first one"));
        }
    }
    for (_, attachment, at) in &attachments {
        if let Some(mac) = attachment.mac {
            let place = if at.get("mac_address").is_some() { at.at("mac_address") } else { *at };
            let who = format!("service `{service}`");
            if let Some((first, span)) = cx.taken.hardware(&attachment.network, mac, who.clone(), place.span()) {
                let twice = format!("{first} and {who} both have {mac} on network `{}`", attachment.network);
                cx.push(place.here(Diagnostic::error(twice)).label(&span, "taken here"));
            }
        }
    }
    attachments.into_iter().map(|(_, attachment, _)| attachment).collect()
}

/// `mac_address` of the service itself is that of its first interface.
fn own_mac(
    cx: &mut Context<'_>,
    service: &ServiceName,
    networking: &Networking,
    attachments: &mut [(i64, NetworkAttachment, Cursor<'_>)],
    at: Cursor<'_>,
) {
    let Some(text) = super::said(networking.mac_address.as_ref()) else { return };
    let place = at.at("mac_address");
    let Some(mac) = mac(cx, text, place) else { return };
    match attachments.first_mut() {
        None => {
            let none = Diagnostic::error(format!(
                "service `{service}` has no network of its own to have a hardware address on"
            ));
            let none = match at.get("network_mode") {
                Some(mode) => place.at_key(none).label(mode.key_span(), "with its network chosen here"),
                None => place.at_key(none),
            };
            cx.push(none.hint("remove one of the two"));
        }
        Some((_, first, on)) => match first.mac {
            Some(other) if other != mac => {
                let two = Diagnostic::error(format!(
                    "service `{service}` has two hardware addresses on network `{}`",
                    first.network
                ));
                cx.push(place.here(two).label(on.at("mac_address").span(), "the other one"));
            }
            _ => first.mac = Some(mac),
        },
    }
}

fn mac(cx: &mut Context<'_>, text: &str, place: Cursor<'_>) -> Option<MacAddress> {
    text.parse().map_err(|error| cx.push(place.here(Diagnostic::error(format!("{error}"))))).ok()
}

/// How a service joins one network.
fn attachment(
    cx: &mut Context<'_>,
    service: &ServiceName,
    network: NetworkName,
    said: &compose::NetworkAttachment,
    at: Cursor<'_>,
) -> NetworkAttachment {
    let who = format!("service `{service}`");
    let aliases = said.aliases.as_ref().map_or(Vec::new(), |aliases| {
        let items = at.at("aliases").items(&aliases.0);
        items.filter_map(|(alias, at)| host_name(cx, &alias.0, at)).collect()
    });
    let mut lowered = NetworkAttachment { aliases, ..NetworkAttachment::to(network.clone()) };
    let texts = [
        ("ipv4_address", said.ipv4_address.as_ref(), Family::V4),
        ("ipv6_address", said.ipv6_address.as_ref(), Family::V6),
    ];
    for (key, text, family) in texts {
        let Some(text) = super::said(text) else { continue };
        let place = at.at(key);
        match chosen(cx, &network, text, family, place) {
            Some(IpAddr::V4(address)) => lowered.ipv4 = Some(address),
            Some(IpAddr::V6(address)) => lowered.ipv6 = Some(address),
            None => continue,
        }
        if let Some(address) = lowered.address(family) {
            claim(cx, &network, address, who.clone(), place);
        }
    }
    if let Some(addresses) = &said.link_local_ips {
        for (text, place) in at.at("link_local_ips").items(&addresses.0) {
            match text.0.parse::<IpAddr>() {
                Ok(IpAddr::V4(HOST_GATEWAY)) => {
                    let wrong = Diagnostic::error(format!("services reach the host at {HOST_GATEWAY}"));
                    cx.push(place.here(wrong).hint("choose another address"));
                }
                Ok(address) if is_link_local(address) => {
                    claim(cx, &network, address, who.clone(), place);
                    lowered.link_local.push(address);
                }
                _ => {
                    let wrong = Diagnostic::error(format!("`{}` is not a link-local address", text.0));
                    cx.push(place.here(wrong).hint("those are 169.254.1.0 to 169.254.254.255 and fe80::/64"));
                }
            }
        }
    }
    lowered.mac = super::said(said.mac_address.as_ref()).and_then(|text| mac(cx, text, at.at("mac_address")));
    lowered.interface =
        super::said(said.interface_name.as_ref()).and_then(|text| interface(cx, text, at.at("interface_name")));
    lowered.gateway_priority = said.gw_priority.map_or(0, |priority| priority.0.0);
    endpoint_options(cx, said, &mut lowered, at);
    lowered
}

/// RFC 3927, 2.1 leaves out the first and the last 256; RFC 4291, 2.5.6 has 54 bits of zero behind the prefix.
fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local() && (1..=254).contains(&address.octets()[2]),
        IpAddr::V6(address) => address.segments()[..4] == [0xfe80, 0, 0, 0] && address.segments()[4..] != [0; 4],
    }
}

fn interface(cx: &mut Context<'_>, text: &str, place: Cursor<'_>) -> Option<String> {
    if is_interface_name(text) {
        return Some(text.to_owned());
    }
    let wrong = Diagnostic::error(format!("`{text}` is not a name of an interface"));
    cx.push(place.here(wrong).hint(INTERFACE));
    None
}

/// An address that a service has chosen, in the subnet of its network as far as that is known here.
fn chosen(
    cx: &mut Context<'_>,
    network: &NetworkName,
    text: &str,
    family: Family,
    place: Cursor<'_>,
) -> Option<IpAddr> {
    let address = match family {
        Family::V4 => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        Family::V6 => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
    };
    let Some(address) = address else {
        cx.push(place.here(Diagnostic::error(format!("`{text}` is not an {family} address"))));
        return None;
    };
    let known = match cx.networks.get(network) {
        Some(known) => known.clone(),
        None if network.as_str() == DEFAULT => Network::default(),
        None => return None,
    };
    if known.external.is_some() {
        // What it is like is known when there is a plan.
        return Some(address);
    }
    let addressing = if family == Family::V4 { known.ipv4 } else { known.ipv6 };
    let (wrong, hint) = match addressing.map(|addressing| addressing.subnet) {
        Some(Some(subnet)) => {
            let written = subnet_span(cx, network, subnet).unwrap_or_else(|| place.span().clone());
            return in_subnet(cx, network, text, subnet, place, &written);
        }
        // One that is chosen for it may be another one tomorrow.
        Some(None) => (
            format!("{address} is of no subnet that network `{network}` is sure to have"),
            format!(
                "name one under `networks:`, as in `{network}: {{ipam: {{config: [{{subnet: {}}}]}}}}`",
                around(address)
            ),
        ),
        None => (
            format!("network `{network}` has no {family} addresses"),
            format!("set `enable_ip{}: true` for it", if family == Family::V4 { "v4" } else { "v6" }),
        ),
    };
    cx.push(place.here(Diagnostic::error(wrong)).hint(hint));
    None
}

fn around(address: IpAddr) -> IpNet {
    let prefix = if address.is_ipv4() { 24 } else { 64 };
    IpNet::new(address, prefix).map_or_else(|_| IpNet::from(address), |net| net.trunc())
}

/// Where the subnet of a network is written.
fn subnet_span(cx: &Context<'_>, network: &NetworkName, subnet: IpNet) -> Option<Span> {
    let config = Cursor::root(cx.tree).get("networks")?.get(network.as_str())?.get("ipam")?.get("config")?;
    let crate::load::tree::Value::Sequence(nodes) = &config.node.value else { return None };
    nodes.iter().find_map(|node| {
        let place = Cursor::root(node).get("subnet")?;
        (place.node.scalar()?.text.parse() == Ok(subnet)).then(|| place.span().clone())
    })
}

/// Options of how a service joins a network that are understood.
const ENDPOINT: [&str; 2] = ["com.docker.network.endpoint.ifname", "com.docker.network.endpoint.sysctls"];

fn endpoint_options(
    cx: &mut Context<'_>,
    said: &compose::NetworkAttachment,
    lowered: &mut NetworkAttachment,
    at: Cursor<'_>,
) {
    let Some(written) = &said.driver_opts else { return };
    for (key, place) in at.at("driver_opts").entries() {
        let Some(text) = written.0.get(key).map(|text| text.0.as_str()) else { continue };
        match key {
            "com.docker.network.endpoint.ifname" => {
                let Some(name) = interface(cx, text, place) else { continue };
                match &lowered.interface {
                    Some(other) if *other != name => {
                        let two = Diagnostic::error(format!("the interface has two names, `{other}` and `{name}`"));
                        cx.push(place.here(two).label(at.at("interface_name").span(), "the other one"));
                    }
                    _ => lowered.interface = Some(name),
                }
            }
            "com.docker.network.endpoint.sysctls" => {
                for part in text.split(',').filter(|part| !part.is_empty()) {
                    match sysctl(part) {
                        Some((name, value)) => {
                            lowered.sysctls.insert(name, value);
                        }
                        None => {
                            let wrong =
                                Diagnostic::error(format!("`{part}` is not a kernel parameter of an interface"));
                            cx.push(place.here(wrong).hint("write `net.ipv4.conf.IFNAME.KEY=VALUE`, with `IFNAME` as it stands here, and `,` between them"));
                        }
                    }
                }
            }
            _ => {
                let meant = suggest(key, ENDPOINT);
                cx.refusals
                    .option(&format!("driver_opts.{key}"), |diagnostic| place.at_key(diagnostic).did_you_mean(meant));
            }
        }
    }
}

/// `net.ipv4.conf.IFNAME.KEY=VALUE` as the path below /proc/sys and the value: those that are of one interface.
fn sysctl(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    let parts: Vec<&str> = name.trim().split(['.', '/']).collect();
    let of_interface = match parts[..] {
        ["net", "ipv4" | "ipv6", "conf" | "neigh", "IFNAME", key] | ["net", "mpls", "conf", "IFNAME", key] => key,
        _ => return None,
    };
    let known = !of_interface.is_empty() && of_interface.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    known.then(|| (parts.join("/"), value.trim().to_owned()))
}

/// Networks that no service can be on, since they are no bridges.
pub(super) fn drop_predefined(networks: &mut BTreeMap<NetworkName, Network>, used: &BTreeSet<NetworkName>) {
    let predefined = |network: &Network| {
        network.external.as_ref().is_some_and(|external| matches!(external.as_str(), "host" | "none" | "bridge"))
    };
    networks.retain(|name, network| used.contains(name) || !predefined(network));
}

/// What a name server could answer for (RFC 1035, 2.3.4), without control characters or dots at the ends.
/// A name that can be asked for: RFC 1035, 2.3.4, with `_`, which many write. An address is never asked for, since it is one already.
pub(super) fn host_name(cx: &mut Context<'_>, alias: &str, at: Cursor<'_>) -> Option<String> {
    let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let is_label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(valid);
    let (what, hint) = if alias.parse::<IpAddr>().is_ok() {
        ("is an address and not a host name", "use a name that has a letter")
    } else if alias.len() <= 253 && !alias.starts_with('-') && alias.split('.').all(is_label) {
        return Some(alias.to_owned());
    } else {
        ("is not a host name", "use letters, digits, `-` and `_`, up to 63 between dots")
    };
    cx.push(at.here(Diagnostic::error(format!("`{alias}` {what}"))).hint(hint));
    None
}
