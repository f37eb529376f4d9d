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
mod messages;
mod transport;

use std::{
    io,
    net::IpAddr,
    os::fd::{AsFd, AsRawFd},
    sync::{Arc, Mutex, PoisonError},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rtnetlink::packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkExtentMask, LinkMessage},
    route::{RouteHeader, RouteMessage},
    rule::RuleMessage,
};

pub use error::{NetlinkError, Refusal};
use messages::{
    address_family, address_message, bridge_message, cable_message, deletion, isolated_message, link_index, link_query,
    link_status, main_route, no_forwarding_message, refusal_message, route_message, up_message, veth_message,
};
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
