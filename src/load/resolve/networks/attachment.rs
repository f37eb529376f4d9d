//! How a service joins the networks that it is on.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;

use super::{DEFAULT, INTERFACE, addressing::in_subnet, claim, endpoint_options::endpoint_options};
use crate::{
    compose::{self, Networking},
    diagnostics::{Diagnostic, Span},
    load::resolve::{self, Context, Cursor},
    model::{
        Family, HOST_GATEWAY, MacAddress, NamespaceMode, Network, NetworkAttachment, NetworkName, ServiceName,
        is_interface_name,
    },
};

/// The networks it is on: the highest priority first, else as they are listed.
pub(in crate::load::resolve) fn lower(
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
    let Some(text) = resolve::said(networking.mac_address.as_ref()) else { return };
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
        let Some(text) = resolve::said(text) else { continue };
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
    lowered.mac = resolve::said(said.mac_address.as_ref()).and_then(|text| mac(cx, text, at.at("mac_address")));
    lowered.interface =
        resolve::said(said.interface_name.as_ref()).and_then(|text| interface(cx, text, at.at("interface_name")));
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

pub(super) fn interface(cx: &mut Context<'_>, text: &str, place: Cursor<'_>) -> Option<String> {
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

/// A name that can be asked for: RFC 1035, 2.3.4, with `_`, which many write. An address is never asked for, since it is one already.
pub(in crate::load::resolve) fn host_name(cx: &mut Context<'_>, alias: &str, at: Cursor<'_>) -> Option<String> {
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
