//! Requests as the kernel reads them, and what its answers say.

use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::{
    packet_core::DefaultNla,
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope},
        link::{
            BridgeStpState, InfoBridge, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkExtentMask, LinkFlags,
            LinkInfo, LinkMessage,
        },
        route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType},
        rule::{RuleAction, RuleAttribute, RuleMessage},
    },
};

use super::{Bridge, Cable, Link, LinkIndex, LinkStatus};
use crate::model::Family;

pub(super) fn bridge_message(bridge: &Bridge) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message.attributes = vec![
        LinkAttribute::IfName(bridge.name.clone()),
        // Without one of its own a bridge takes the lowest address of its ports, and changes it as they come and go,
        // which leaves wrong neighbour entries behind in the containers.
        LinkAttribute::Address(bridge_mac(bridge).to_vec()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Bridge),
            LinkInfo::Data(InfoData::Bridge(vec![
                // No loops can be built, so a new port need not listen for 15 s before it forwards.
                InfoBridge::StpState(BridgeStpState::Disabled),
                InfoBridge::ForwardDelay(0),
                // Nobody queries for groups here, so all snooping could do is to hold multicast back.
                InfoBridge::MulticastSnooping(false),
            ])),
        ]),
    ];
    message.attributes.extend(bridge.mtu.map(LinkAttribute::Mtu));
    RouteNetlinkMessage::NewLink(message)
}

/// A new network namespace inherits the forwarding of the host's (net.core.devconf_inherit_init_net). The library knows
/// the attribute only as the kernel shows it, which is not how it is set: IFLA_AF_SPEC { AF_INET { IFLA_INET_CONF {
/// FORWARDING: 0 } } }.
pub(super) fn no_forwarding_message(name: &str) -> RouteNetlinkMessage {
    const IFLA_AF_SPEC: u16 = 26;
    const AF_INET: u16 = 2;
    const IFLA_INET_CONF: u16 = 1;
    const FORWARDING: u16 = 1;
    let nest = |kind: u16, value: &[u8]| {
        let length = value.len() as u16 + 4;
        [length.to_ne_bytes().as_slice(), &kind.to_ne_bytes(), value].concat()
    };
    let conf = nest(AF_INET, &nest(IFLA_INET_CONF, &nest(FORWARDING, &0_u32.to_ne_bytes())));
    let mut message = LinkMessage::default();
    message.attributes =
        vec![LinkAttribute::IfName(name.to_owned()), LinkAttribute::Other(DefaultNla::new(IFLA_AF_SPEC, conf))];
    RouteNetlinkMessage::SetLink(message)
}

/// A locally administered address, unique among the bridges of a namespace because their gateway addresses are.
fn bridge_mac(bridge: &Bridge) -> [u8; 6] {
    let last = match bridge.addresses.first().map(IpNet::addr) {
        Some(IpAddr::V4(address)) => address.octets(),
        Some(IpAddr::V6(address)) => fold(&address.octets()),
        None => fold(bridge.name.as_bytes()),
    };
    let [a, b, c, d] = last;
    [0x02, 0x6e, a, b, c, d]
}

/// FNV-1a.
fn fold(bytes: &[u8]) -> [u8; 4] {
    bytes.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)).to_be_bytes()
}

pub(super) fn deletion(name: &str) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    RouteNetlinkMessage::DelLink(message)
}

pub(super) fn cable_message(cable: &Cable, peer_netns: i32) -> RouteNetlinkMessage {
    let one_queue = [LinkAttribute::NumTxQueues(1), LinkAttribute::NumRxQueues(1)];
    let mut peer = LinkMessage::default();
    peer.attributes = vec![LinkAttribute::IfName(cable.peer_name.clone()), LinkAttribute::NetNsFd(peer_netns)];
    peer.attributes.extend(one_queue.clone());
    let mut message = LinkMessage::default();
    message.attributes = vec![LinkAttribute::IfName(cable.name.clone())];
    message.attributes.extend(one_queue);
    message.attributes.extend(cable.mac.map(|mac| LinkAttribute::Address(mac.to_vec())));
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    RouteNetlinkMessage::NewLink(message)
}

pub(super) fn veth_message(link: &Link, peer_netns: i32) -> RouteNetlinkMessage {
    // A veth gets a queue in each direction for every CPU of the machine, each with a sysfs directory, and uses no more
    // than the first unless XDP is attached.
    let one_queue = [LinkAttribute::NumTxQueues(1), LinkAttribute::NumRxQueues(1)];

    let mut peer = LinkMessage::default();
    peer.attributes = vec![LinkAttribute::IfName(link.peer_name.clone()), LinkAttribute::NetNsFd(peer_netns)];
    peer.attributes.extend(one_queue.clone());
    peer.attributes.extend(link.mac.map(|mac| LinkAttribute::Address(mac.to_vec())));
    peer.attributes.extend(link.mtu.map(LinkAttribute::Mtu));

    let mut message = LinkMessage::default();
    // Only this end: a message that asks for both ends up is ENOTCONN, the peer is opened before the pair is linked.
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message.attributes = vec![LinkAttribute::IfName(link.host_name.clone()), LinkAttribute::Controller(link.bridge.0)];
    message.attributes.extend(one_queue);
    message.attributes.extend(link.mtu.map(LinkAttribute::Mtu));
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    RouteNetlinkMessage::NewLink(message)
}

/// What is of a port and not of a device goes to the family of bridges: IFLA_PROTINFO { IFLA_BRPORT_ISOLATED: 1 }. The library
/// knows that only as the kernel shows it.
pub(super) fn isolated_message(index: u32) -> RouteNetlinkMessage {
    const IFLA_PROTINFO: u16 = 12;
    const NLA_F_NESTED: u16 = 1 << 15;
    const IFLA_BRPORT_ISOLATED: u16 = 33;
    // Four bytes of header, one of value, three to fill up.
    let port = [&5_u16.to_ne_bytes(), &IFLA_BRPORT_ISOLATED.to_ne_bytes(), &[1_u8, 0][..], &[0, 0][..]].concat();
    let mut message = LinkMessage::default();
    message.header.interface_family = AddressFamily::Bridge;
    message.header.index = index;
    message.attributes = vec![LinkAttribute::Other(DefaultNla::new(IFLA_PROTINFO | NLA_F_NESTED, port))];
    RouteNetlinkMessage::SetLink(message)
}

pub(super) fn up_message(index: u32) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    RouteNetlinkMessage::SetLink(message)
}

pub(super) fn address_message(index: u32, net: IpNet) -> RouteNetlinkMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.prefix_len = net.prefix_len();
    message.header.scope = AddressScope::Universe;
    match net {
        IpNet::V4(net) => {
            message.header.family = AddressFamily::Inet;
            message.attributes.push(AddressAttribute::Local(net.addr().into()));
            if net.prefix_len() <= 30 {
                message.attributes.push(AddressAttribute::Broadcast(net.broadcast()));
            }
        }
        IpNet::V6(_) => {
            message.header.family = AddressFamily::Inet6;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
    }
    message.attributes.push(AddressAttribute::Address(net.addr()));
    RouteNetlinkMessage::NewAddress(message)
}

/// The route to one address, or to all that have no other.
pub(super) fn route_message(index: u32, to: Option<IpAddr>, gateway: IpAddr) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = match gateway {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![RouteAttribute::Gateway(RouteAddress::from(gateway)), RouteAttribute::Oif(index)];
    if let Some(to) = to {
        message.header.destination_prefix_length = if to.is_ipv4() { 32 } else { 128 };
        message.attributes.push(RouteAttribute::Destination(RouteAddress::from(to)));
    }
    RouteNetlinkMessage::NewRoute(message)
}

/// Before all routes but those to the namespace itself, `ip rule add iif NAME unreachable priority 1`.
pub(super) fn refusal_message(name: &str) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.action = RuleAction::Unreachable;
    message.attributes = vec![RuleAttribute::Iifname(name.to_owned()), RuleAttribute::Priority(1)];
    message
}

pub(super) fn link_query(name: &str) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.attributes =
        vec![LinkAttribute::IfName(name.to_owned()), LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])];
    RouteNetlinkMessage::GetLink(message)
}

pub(super) fn link_index(answer: Option<RouteNetlinkMessage>) -> Option<u32> {
    match answer {
        Some(RouteNetlinkMessage::NewLink(link)) => Some(link.header.index),
        _ => None,
    }
}

pub(super) fn link_status(message: &RouteNetlinkMessage) -> Option<LinkStatus> {
    let RouteNetlinkMessage::NewLink(link) = message else { return None };
    let name = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })?;
    let bridge = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Controller(index) => Some(LinkIndex(*index)),
        _ => None,
    });
    Some(LinkStatus {
        index: LinkIndex(link.header.index),
        name,
        bridge,
        up: link.header.flags.contains(LinkFlags::Up),
    })
}

pub(super) fn main_route(message: &RouteNetlinkMessage) -> Option<IpNet> {
    let RouteNetlinkMessage::NewRoute(route) = message else { return None };
    let prefix = route.header.destination_prefix_length;
    if route.header.table != RouteHeader::RT_TABLE_MAIN || prefix == 0 {
        return None;
    }
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => IpNet::new((*address).into(), prefix).ok(),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => IpNet::new((*address).into(), prefix).ok(),
        _ => None,
    })
}

pub(super) fn address_family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}
