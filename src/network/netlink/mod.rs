//! Netlink as verbs on one socket: bridges, veth pairs, addresses and routes (rtnetlink(7)).
//!
//! ```text
//! verb ──▶ blocking thread ──▶ one send(2) with a batch of requests ──▶ the kernel does them, in order
//!                          ◀── one answer for each, all of them there when send(2) returns
//! ```
//!
//! The kernel carries a route request out inside send(2), under the rtnl lock, and that can take tens of milliseconds
//! when somebody else's deletion waits for a grace period. An asynchronous socket would hide that wait in the runtime's
//! own thread; so a verb runs on a blocking thread, which costs 25 µs, and its requests go in one batch, which wins them
//! back (N = 50 on one bridge, µs per container: 310 for the link, 60 to open a socket, 155 to configure). Packet types
//! do not leave this module.

mod error;
mod transport;

use std::{
    io,
    net::IpAddr,
    os::fd::{AsFd, AsRawFd},
    sync::{Arc, Mutex, PoisonError},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
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

pub use error::{NetlinkError, Refusal};
use transport::{Answer, Request, Transport};

use crate::{model::Family, sys::Netns};

/// The index of loopback, the first device of every network namespace.
const LOOPBACK: u32 = 1;

/// The index of an interface in its network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkIndex(pub u32);

/// A bridge to make: one network of a stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// The name of the device, at most 15 bytes.
    pub name: String,
    /// Its addresses with their prefixes: the gateways of the network's subnets.
    pub addresses: Vec<IpNet>,
    /// The largest packet; none leaves it to the kernel (1500, or the smallest of its ports).
    pub mtu: Option<u32>,
}

/// A veth pair to make between a bridge and a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The bridge that its outer end joins.
    pub bridge: LinkIndex,
    /// The name of the outer end, in the namespace of the bridge.
    pub host_name: String,
    /// The name of the inner end, in the container.
    pub peer_name: String,
    /// The hardware address of the inner end; none lets the kernel choose one at random.
    pub mac: Option<[u8; 6]>,
    /// The largest packet, for both ends; a bridge with an MTU wants its links to have the same.
    pub mtu: Option<u32>,
    /// Its port of the bridge forwards nothing from and to others that are isolated too (bridge(8), `isolated`).
    pub isolated: bool,
}

/// A veth pair without a bridge: the way from one namespace to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cable {
    /// The name of the end in this namespace.
    pub name: String,
    /// What it is there for (IFLA_IFALIAS): `ip link` shows it to people.
    pub alias: String,
    /// The hardware address of the end in this namespace; none lets the kernel choose one at random, which udev then
    /// replaces on a host that has it (systemd.link(5), `MACAddressPolicy=persistent`).
    pub mac: Option<[u8; 6]>,
    /// The name of the end in the other namespace.
    pub peer_name: String,
}

/// What an interface that exists shall be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its addresses with their prefixes.
    pub addresses: Vec<IpNet>,
    /// Where everything else goes: at most one gateway for IPv4 and one for IPv6, of all interfaces together.
    pub gateways: Vec<IpAddr>,
    /// Single addresses with the gateway that leads to them, for those that the addresses of an interface would have it look for
    /// next door.
    pub routes: Vec<(IpAddr, IpAddr)>,
}

/// An interface as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkStatus {
    /// Its index.
    pub index: LinkIndex,
    /// Its name.
    pub name: String,
    /// The bridge that it is a port of.
    pub bridge: Option<LinkIndex>,
    /// Whether it has been brought up.
    pub up: bool,
}

/// A netlink socket in one network namespace, where all its verbs act.
#[derive(Debug, Clone)]
pub struct Netlink {
    transport: Arc<Mutex<Transport>>,
}

impl Netlink {
    /// Opens a socket inside `netns`; the namespace lives at least as long as it.
    ///
    /// # Errors
    /// [`NetlinkError::Open`] when the namespace cannot be entered or no socket can be made.
    pub fn open(netns: &Netns) -> Result<Self, NetlinkError> {
        Self::from_transport(netns.run(Transport::open))
    }

    /// Opens a socket in the network namespace that the calling thread is in. Asking ([`Netlink::routes`],
    /// [`Netlink::links`]) needs no privilege there.
    ///
    /// # Errors
    /// [`NetlinkError::Open`] when no socket can be made.
    pub fn open_here() -> Result<Self, NetlinkError> {
        Self::from_transport(Transport::open())
    }

    fn from_transport(transport: io::Result<Transport>) -> Result<Self, NetlinkError> {
        let transport = transport.map_err(|source| NetlinkError::Open { source })?;
        Ok(Self { transport: Arc::new(Mutex::new(transport)) })
    }

    /// Makes a bridge that forwards between its ports at once, with its addresses, and brings it up. Packets are not
    /// routed from it to other interfaces, whatever the host's settings: networks of a stack are apart until whoever
    /// adds a way out turns forwarding on, with rules that keep them so.
    ///
    /// # Errors
    /// [`NetlinkError::AddBridge`] or [`NetlinkError::AddAddress`]; a bridge that was made before an address failed
    /// stays.
    pub async fn add_bridge(&self, bridge: &Bridge) -> Result<LinkIndex, NetlinkError> {
        let bridge = bridge.clone();
        self.blocking(move |transport| {
            let fail = |source| NetlinkError::AddBridge { name: bridge.name.clone(), source };
            let [made, closed, found] = transport.exchange([
                Request::create(bridge_message(&bridge)),
                Request::change(no_forwarding_message(&bridge.name)),
                Request::get(link_query(&bridge.name)),
            ]);
            made.and(closed).map_err(fail)?;
            let index = link_index(found.map_err(fail)?).ok_or_else(|| fail(Refusal::unreadable()))?;
            add_addresses(transport, &bridge.name, index, &bridge.addresses)?;
            Ok(LinkIndex(index))
        })
        .await
    }

    /// Makes a veth pair: the outer end here, a port of the bridge and up; the inner end straight in `peer`, still down,
    /// for [`Netlink::configure`] of a socket in there. One that has the name already is left of a container that has gone, and is
    /// replaced.
    ///
    /// # Errors
    /// [`NetlinkError::AddLink`]; nothing is left of the pair.
    pub async fn add_link(&self, link: &Link, peer: &Netns) -> Result<(), NetlinkError> {
        let fail =
            |source| NetlinkError::AddLink { name: link.host_name.clone(), peer: link.peer_name.clone(), source };
        // A descriptor of our own: the caller's may be closed while the request waits for its thread.
        let peer = peer.as_fd().try_clone_to_owned().map_err(|error| fail(error.into()))?;
        let message = veth_message(link, peer.as_raw_fd());
        let (name, is_isolated) = (link.host_name.clone(), link.isolated);
        let answer = self
            .blocking(move |transport| {
                let answer = create_anew(transport, &name, message);
                drop(peer);
                if answer.is_err() || !is_isolated {
                    return answer;
                }
                // Nothing comes through yet: the inner end is down.
                let [found] = transport.exchange([Request::get(link_query(&name))]);
                let index = link_index(found?).ok_or_else(Refusal::unreadable)?;
                let [isolated] = transport.exchange([Request::change(isolated_message(index))]);
                if isolated.is_err() {
                    let _ = transport.exchange([Request::change(deletion(&name))]);
                }
                isolated
            })
            .await;
        answer.map(drop).map_err(fail)
    }

    /// Makes a veth pair between this namespace and `peer`, both ends still down, for [`Netlink::configure`] on either side.
    /// One that has the name already is what an earlier stack of the same name has left, and is replaced.
    ///
    /// # Errors
    /// [`NetlinkError::AddLink`]; nothing is left of the pair.
    pub async fn add_cable(&self, cable: &Cable, peer: &Netns) -> Result<(), NetlinkError> {
        let fail = |source| NetlinkError::AddLink { name: cable.name.clone(), peer: cable.peer_name.clone(), source };
        let peer = peer.as_fd().try_clone_to_owned().map_err(|error| fail(error.into()))?;
        let (message, cable) = (cable_message(cable, peer.as_raw_fd()), cable.clone());
        let answer = self
            .blocking(move |transport| {
                let answer = create_anew(transport, &cable.name, message);
                drop(peer);
                answer?;
                let mut named = LinkMessage::default();
                named.attributes = vec![LinkAttribute::IfName(cable.name), LinkAttribute::IfAlias(cable.alias)];
                let [named] = transport.exchange([Request::change(RouteNetlinkMessage::SetLink(named))]);
                named
            })
            .await;
        answer.map(drop).map_err(fail)
    }

    /// Brings loopback up, and gives interfaces of this namespace their addresses and routes and brings them up.
    /// An IPv6 address is usable at once: on a bridge of ours nobody else can have it, so it is not probed for.
    ///
    /// # Errors
    /// [`NetlinkError::FindLink`], [`NetlinkError::SetUp`], [`NetlinkError::AddAddress`] or [`NetlinkError::AddRoute`]:
    /// the first thing that failed.
    pub async fn configure(&self, interfaces: &[Interface]) -> Result<(), NetlinkError> {
        let interfaces = interfaces.to_vec();
        self.blocking(move |transport| configure(transport, &interfaces)).await
    }

    /// Brings loopback up.
    ///
    /// # Errors
    /// [`NetlinkError::SetUp`].
    pub async fn loopback_up(&self) -> Result<(), NetlinkError> {
        self.configure(&[]).await
    }

    /// Makes sure that interfaces which have just been brought up carry packets: the kernel notices that a link has come
    /// to life in a work item of its own, and what is sent before that is lost, so that the first connection takes a
    /// second (measured: one in fifteen). To be called in the stack's namespace with the outer ends and then their bridge,
    /// once the inner ends have been configured. Asking for a link makes the kernel look at once (since Linux 6.8; older ones do when they come to it).
    ///
    /// # Errors
    /// [`NetlinkError::FindLink`].
    pub async fn settle(&self, names: &[&str]) -> Result<(), NetlinkError> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        self.blocking(move |transport| {
            let requests = names.iter().map(|name| Request::get(link_query(name))).collect();
            for (answer, name) in transport.exchange_all(requests).into_iter().zip(names) {
                answer.map_err(|source| NetlinkError::FindLink { name, source })?;
            }
            Ok(())
        })
        .await
    }

    /// Removes an interface, and with one end of a veth pair the other; it is no error when there is none of that name.
    /// The kernel takes tens of milliseconds for it (an RCU grace period): to drop many, drop their namespace.
    ///
    /// # Errors
    /// [`NetlinkError::DeleteLink`].
    pub async fn delete_link(&self, name: &str) -> Result<(), NetlinkError> {
        let message = deletion(name);
        let answer = self
            .blocking(move |transport| {
                let [answer] = transport.exchange([Request::change(message)]);
                answer
            })
            .await;
        match answer {
            Err(refusal) if refusal.raw_os_error() != Some(libc::ENODEV) => {
                Err(NetlinkError::DeleteLink { name: name.to_owned(), source: refusal })
            }
            _ => Ok(()),
        }
    }

    /// Nothing that comes in by these interfaces is led anywhere else: whoever sends it hears so at once, provided that the kernel forwards
    /// for them (ip-rule(8), `unreachable`). It is no error when that is so already.
    ///
    /// # Errors
    /// [`NetlinkError::Refuse`].
    pub async fn refuse_from(&self, names: &[&str]) -> Result<(), NetlinkError> {
        self.rules(names, libc::EEXIST, |rule| Request::create(RouteNetlinkMessage::NewRule(rule))).await
    }

    /// Takes [`Netlink::refuse_from`] back; it is no error when it was never said.
    ///
    /// # Errors
    /// [`NetlinkError::Refuse`].
    pub async fn accept_from(&self, names: &[&str]) -> Result<(), NetlinkError> {
        self.rules(names, libc::ENOENT, |rule| Request::change(RouteNetlinkMessage::DelRule(rule))).await
    }

    async fn rules(
        &self,
        names: &[&str],
        already: i32,
        request: impl Fn(RuleMessage) -> Request,
    ) -> Result<(), NetlinkError> {
        let requests = names.iter().map(|name| request(refusal_message(name))).collect();
        let answers = self.blocking(move |transport| transport.exchange_all(requests)).await;
        for (answer, name) in answers.into_iter().zip(names) {
            match answer {
                Err(source) if source.raw_os_error() != Some(already) => {
                    return Err(NetlinkError::Refuse { name: (*name).to_owned(), source });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether the main routing table has a default route for this family.
    ///
    /// # Errors
    /// [`NetlinkError::List`].
    pub async fn has_default_route(&self, family: Family) -> Result<bool, NetlinkError> {
        let is_default = |message: &RouteNetlinkMessage| {
            matches!(message, RouteNetlinkMessage::NewRoute(route)
                if route.header.table == RouteHeader::RT_TABLE_MAIN
                    && route.header.address_family == address_family(family)
                    && route.header.destination_prefix_length == 0)
        };
        Ok(self.all_routes(family).await?.iter().any(is_default))
    }

    /// The IPv4 networks that the main routing table knows a way to, the default route left out: what a new subnet must
    /// stay clear of.
    ///
    /// # Errors
    /// [`NetlinkError::List`].
    pub async fn routes(&self) -> Result<Vec<IpNet>, NetlinkError> {
        let routes = self.all_routes(Family::V4).await?;
        Ok(routes.iter().filter_map(main_route).filter(|route| matches!(route, IpNet::V4(_))).collect())
    }

    /// The same of IPv6.
    ///
    /// # Errors
    /// [`NetlinkError::List`].
    pub async fn routes_v6(&self) -> Result<Vec<Ipv6Net>, NetlinkError> {
        let routes = self.all_routes(Family::V6).await?;
        let of_v6 = |route| match route {
            IpNet::V4(_) => None,
            IpNet::V6(route) => Some(route),
        };
        Ok(routes.iter().filter_map(main_route).filter_map(of_v6).collect())
    }

    /// A kernel without IPv6 answers with the routes of all families that it has.
    async fn all_routes(&self, family: Family) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        let mut query = RouteMessage::default();
        query.header.address_family = address_family(family);
        self.blocking(move |transport| transport.dump(RouteNetlinkMessage::GetRoute(query)))
            .await
            .map_err(|source| NetlinkError::List { what: "routes", source })
    }

    /// Every interface of the namespace.
    ///
    /// # Errors
    /// [`NetlinkError::List`].
    pub async fn links(&self) -> Result<Vec<LinkStatus>, NetlinkError> {
        let mut query = LinkMessage::default();
        query.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let messages = self
            .blocking(move |transport| transport.dump(RouteNetlinkMessage::GetLink(query)))
            .await
            .map_err(|source| NetlinkError::List { what: "interfaces", source })?;
        Ok(messages.iter().filter_map(link_status).collect())
    }

    /// Runs a verb on a thread that may wait for the rtnl lock.
    async fn blocking<T, F>(&self, verb: F) -> T
    where
        T: Send + 'static,
        F: FnOnce(&mut Transport) -> T + Send + 'static,
    {
        let transport = Arc::clone(&self.transport);
        tokio::task::spawn_blocking(move || {
            // A verb that panicked left no half-read answer: each exchange skips what is not its own.
            verb(&mut transport.lock().unwrap_or_else(PoisonError::into_inner))
        })
        .await
        .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }
}

/// Two exchanges: addresses and routes go by index, and only the kernel knows the index of a name.
fn configure(transport: &mut Transport, interfaces: &[Interface]) -> Result<(), NetlinkError> {
    let mut requests = vec![Request::change(up_message(LOOPBACK))];
    requests.extend(interfaces.iter().map(|interface| Request::get(link_query(&interface.name))));
    let mut answers = transport.exchange_all(requests).into_iter();
    if let Some(Err(source)) = answers.next() {
        return Err(NetlinkError::SetUp { name: "lo".to_owned(), source });
    }
    let mut requests = Vec::new();
    let mut steps: Vec<Box<dyn FnOnce(Refusal) -> NetlinkError>> = Vec::new();
    for (interface, answer) in interfaces.iter().zip(answers) {
        let name = &interface.name;
        let missing = |source| NetlinkError::FindLink { name: name.clone(), source };
        let index = link_index(answer.map_err(missing)?).ok_or_else(|| missing(Refusal::unreadable()))?;
        requests.push(Request::change(up_message(index)));
        steps.push(Box::new(|source| NetlinkError::SetUp { name: name.clone(), source }));
        for &address in &interface.addresses {
            requests.push(Request::create(address_message(index, address)));
            steps.push(Box::new(move |source| NetlinkError::AddAddress { address, name: name.clone(), source }));
        }
        for &gateway in &interface.gateways {
            requests.push(Request::create(route_message(index, None, gateway)));
            steps.push(Box::new(move |source| NetlinkError::AddRoute { gateway, name: name.clone(), source }));
        }
        for &(to, gateway) in &interface.routes {
            requests.push(Request::create(route_message(index, Some(to), gateway)));
            steps.push(Box::new(move |source| NetlinkError::AddRouteTo { to, gateway, name: name.clone(), source }));
        }
    }
    // As Netlink::settle does, for this end.
    for Interface { name, .. } in interfaces {
        requests.push(Request::get(link_query(name)));
        steps.push(Box::new(|source| NetlinkError::FindLink { name: name.clone(), source }));
    }
    for (answer, step) in transport.exchange_all(requests).into_iter().zip(steps) {
        answer.map_err(step)?;
    }
    Ok(())
}

fn add_addresses(transport: &mut Transport, name: &str, index: u32, addresses: &[IpNet]) -> Result<(), NetlinkError> {
    let requests = addresses.iter().map(|&address| Request::create(address_message(index, address))).collect();
    for (answer, &address) in transport.exchange_all(requests).into_iter().zip(addresses) {
        answer.map_err(|source| NetlinkError::AddAddress { address, name: name.to_owned(), source })?;
    }
    Ok(())
}

fn bridge_message(bridge: &Bridge) -> RouteNetlinkMessage {
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
fn no_forwarding_message(name: &str) -> RouteNetlinkMessage {
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

/// Makes a pair of which one end has this name here. Another one of that name is left of something that has gone: the kernel
/// takes the links of a network namespace away a while after its last process.
fn create_anew(transport: &mut Transport, name: &str, message: RouteNetlinkMessage) -> Answer {
    let [answer] = transport.exchange([Request::create(message.clone())]);
    if !matches!(&answer, Err(refusal) if refusal.raw_os_error() == Some(libc::EEXIST)) {
        return answer;
    }
    let [_, again] = transport.exchange([Request::change(deletion(name)), Request::create(message)]);
    again
}

fn deletion(name: &str) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    RouteNetlinkMessage::DelLink(message)
}

fn cable_message(cable: &Cable, peer_netns: i32) -> RouteNetlinkMessage {
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

fn veth_message(link: &Link, peer_netns: i32) -> RouteNetlinkMessage {
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
fn isolated_message(index: u32) -> RouteNetlinkMessage {
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

fn up_message(index: u32) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    RouteNetlinkMessage::SetLink(message)
}

fn address_message(index: u32, net: IpNet) -> RouteNetlinkMessage {
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
fn route_message(index: u32, to: Option<IpAddr>, gateway: IpAddr) -> RouteNetlinkMessage {
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
fn refusal_message(name: &str) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.action = RuleAction::Unreachable;
    message.attributes = vec![RuleAttribute::Iifname(name.to_owned()), RuleAttribute::Priority(1)];
    message
}

fn link_query(name: &str) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.attributes =
        vec![LinkAttribute::IfName(name.to_owned()), LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])];
    RouteNetlinkMessage::GetLink(message)
}

fn link_index(answer: Option<RouteNetlinkMessage>) -> Option<u32> {
    match answer {
        Some(RouteNetlinkMessage::NewLink(link)) => Some(link.header.index),
        _ => None,
    }
}

fn link_status(message: &RouteNetlinkMessage) -> Option<LinkStatus> {
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

fn main_route(message: &RouteNetlinkMessage) -> Option<IpNet> {
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

fn address_family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

/// Removes an interface of the namespace that the calling thread is in, without a runtime; it is no error when there is none.
///
/// # Errors
/// [`NetlinkError::Open`] or [`NetlinkError::DeleteLink`].
pub fn delete_link_now(name: &str) -> Result<(), NetlinkError> {
    let mut transport = Transport::open().map_err(|source| NetlinkError::Open { source })?;
    let [answer] = transport.exchange([Request::change(deletion(name))]);
    match answer {
        Err(source) if source.raw_os_error() != Some(libc::ENODEV) => {
            Err(NetlinkError::DeleteLink { name: name.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// The IPv4 networks that the host has a route to: what new subnets must stay clear of.
///
/// # Errors
/// [`NetlinkError::Open`] or [`NetlinkError::List`].
pub async fn host_routes() -> Result<Vec<Ipv4Net>, NetlinkError> {
    let routes = Netlink::open_here()?.routes().await?;
    Ok(routes
        .into_iter()
        .filter_map(|route| match route {
            IpNet::V4(route) => Some(route),
            IpNet::V6(_) => None,
        })
        .collect())
}
