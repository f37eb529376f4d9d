//! Subnets of a network, and addresses in them.

use std::net::IpAddr;

use ipnet::IpNet;

use super::claim;
use crate::{
    compose,
    diagnostics::{Diagnostic, Span},
    load::resolve::{self, Context, Cursor},
    model::{Addressing, Family, HOST_GATEWAY, NetworkName},
};

/// One item of `ipam.config`.
pub(super) fn addressing(
    cx: &mut Context<'_>,
    name: &NetworkName,
    config: &compose::IpamConfig,
    at: Cursor<'_>,
) -> Option<(Family, Addressing)> {
    let Some(text) = resolve::said(config.subnet.as_ref()) else {
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
    if let Some(text) = resolve::said(config.ip_range.as_ref()) {
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
    if let Some(text) = resolve::said(config.gateway.as_ref()) {
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
pub(super) fn in_subnet(
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
