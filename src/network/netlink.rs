//! Links, addresses and routes (rtnetlink(7)).

use std::{
    io,
    net::IpAddr,
    os::fd::{AsFd, AsRawFd},
};

use futures_util::TryStreamExt;
use ipnet::{IpNet, Ipv4Net};
use rtnetlink::{
    Handle, LinkBridge, LinkUnspec, LinkVeth, RouteMessageBuilder,
    packet_route::{
        link::{InfoData, InfoVeth, LinkMessage},
        route::{RouteAddress, RouteAttribute},
    },
};

use crate::sys::Netns;

/// A bridge to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// Name of the interface, at most 15 bytes.
    pub name: String,
    /// Addresses of the stack on it, each with its prefix length.
    pub addresses: Vec<IpNet>,
    /// Largest packet in bytes; none leaves it to the kernel.
    pub mtu: Option<u32>,
}

/// Something about the network did not work.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// There can be no network namespace.
    #[error("cannot make a network namespace")]
    Namespace(#[source] io::Error),
    /// The kernel cannot be talked to.
    #[error("cannot open a netlink socket")]
    Socket(#[source] io::Error),
    /// A request was refused.
    #[error("cannot {what} `{name}`")]
    Request {
        /// What was asked for.
        what: &'static str,
        /// Of which interface.
        name: String,
        /// What the kernel said.
        source: Box<rtnetlink::Error>,
    },
    /// An interface that was just made is not there.
    #[error("there is no interface `{0}`")]
    NoInterface(String),
}

fn refused(what: &'static str, name: &str) -> impl Fn(rtnetlink::Error) -> NetworkError {
    move |source| NetworkError::Request { what, name: name.to_owned(), source: Box::new(source) }
}

/// A netlink socket inside a network namespace.
#[derive(Debug, Clone)]
pub struct Netlink {
    handle: Handle,
}

impl Netlink {
    /// Opens a socket inside `netns`, served by the current runtime. It keeps the namespace alive.
    ///
    /// # Errors
    /// When the namespace cannot be entered or the socket not be made.
    pub fn open(netns: &Netns) -> Result<Self, NetworkError> {
        let runtime = tokio::runtime::Handle::current();
        let opened = netns.run(|| {
            let _guard = runtime.enter();
            rtnetlink::new_connection()
        });
        let (connection, handle, _) = opened.map_err(NetworkError::Socket)?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// Opens a socket where the calling thread is.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn here() -> Result<Self, NetworkError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(NetworkError::Socket)?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// Makes a bridge with its addresses, up and forwarding at once; its index comes back.
    ///
    /// # Errors
    /// EEXIST when there is an interface of that name.
    pub async fn add_bridge(&self, bridge: &Bridge) -> Result<u32, NetworkError> {
        let failed = |what| refused(what, &bridge.name);
        // Without the spanning tree protocol, which is off unless asked for, a port forwards as soon as it is up.
        let mut message = LinkBridge::new(&bridge.name);
        if let Some(mtu) = bridge.mtu {
            message = message.mtu(mtu);
        }
        self.handle.link().add(message.build()).execute().await.map_err(failed("make the bridge"))?;
        let index = self.index(&bridge.name).await?;
        for address in &bridge.addresses {
            let request = self.handle.address().add(index, address.addr(), address.prefix_len());
            request.execute().await.map_err(failed("give an address to"))?;
        }
        Ok(index)
    }

    /// Makes a cable: `peer_name` in `peer`, and `name` here, up, on the bridge with index `bridge`. One message.
    ///
    /// The far end is left down: with both up the kernel opens the peer before the pair is joined and says ENOTCONN.
    ///
    /// # Errors
    /// EEXIST when either name is taken.
    pub async fn add_link(&self, bridge: u32, name: &str, peer: &Netns, peer_name: &str) -> Result<(), NetworkError> {
        let far = LinkUnspec::new_with_name(peer_name).setns_by_fd(peer.as_fd().as_raw_fd());
        let message = LinkVeth::new(name, peer_name)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(far.build())))
            .controller(bridge)
            .up();
        let added = self.handle.link().add(message.build()).execute().await;
        added.map_err(refused("make the cable", name))
    }

    /// Brings an interface up with its addresses, and sends everything else to `gateway`.
    ///
    /// # Errors
    /// When there is no such interface, or the kernel refuses an address or the route.
    pub async fn configure(
        &self,
        name: &str,
        addresses: &[IpNet],
        gateway: Option<IpAddr>,
    ) -> Result<(), NetworkError> {
        let failed = |what| refused(what, name);
        let index = self.index(name).await?;
        for address in addresses {
            let request = self.handle.address().add(index, address.addr(), address.prefix_len());
            request.execute().await.map_err(failed("give an address to"))?;
        }
        self.up(index).await.map_err(failed("bring up"))?;
        match gateway {
            None => Ok(()),
            Some(IpAddr::V4(gateway)) => {
                let route = RouteMessageBuilder::<std::net::Ipv4Addr>::new().gateway(gateway).build();
                self.handle.route().add(route).execute().await.map_err(failed("route through"))
            }
            Some(IpAddr::V6(gateway)) => {
                let route = RouteMessageBuilder::<std::net::Ipv6Addr>::new().gateway(gateway).build();
                self.handle.route().add(route).execute().await.map_err(failed("route through"))
            }
        }
    }

    /// Brings the loopback interface up, which is the first of every network namespace.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn loopback_up(&self) -> Result<(), NetworkError> {
        self.up(1).await.map_err(refused("bring up", "lo"))
    }

    /// Deletes an interface; one that is gone is fine.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn delete_link(&self, name: &str) -> Result<(), NetworkError> {
        let Ok(index) = self.index(name).await else { return Ok(()) };
        let deleted = self.handle.link().del(index).execute().await;
        deleted.map_err(refused("delete", name))
    }

    /// IPv4 destinations that there is a route for, in any table.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn routes(&self) -> Result<Vec<Ipv4Net>, NetworkError> {
        let message = RouteMessageBuilder::<std::net::Ipv4Addr>::new().build();
        let routes: Result<Vec<_>, _> = self.handle.route().get(message).execute().try_collect().await;
        let routes = routes.map_err(refused("list the routes of", "the host"))?;
        let nets = routes.into_iter().filter_map(|route| {
            let destination = route.attributes.iter().find_map(|attribute| match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(*address),
                _ => None,
            })?;
            Ipv4Net::new(destination, route.header.destination_prefix_length).ok()
        });
        Ok(nets.collect())
    }

    async fn up(&self, index: u32) -> Result<(), rtnetlink::Error> {
        let message = LinkUnspec::new_with_index(index).up().build();
        self.handle.link().set(message).execute().await
    }

    async fn index(&self, name: &str) -> Result<u32, NetworkError> {
        let mut found = self.handle.link().get().match_name(name.to_owned()).execute();
        let link: Option<LinkMessage> = found.try_next().await.map_err(refused("find", name))?;
        link.map(|link| link.header.index).ok_or_else(|| NetworkError::NoInterface(name.to_owned()))
    }
}

/// Keeps the interfaces of a new namespace, which are bridges and their ports, from giving themselves IPv6 addresses: each
/// would join multicast groups and probe for duplicates, for an address that nobody talks to.
///
/// # Errors
/// What open(2) and write(2) say; a kernel without IPv6 is fine.
pub fn quiet(netns: &Netns) -> io::Result<()> {
    // IN6_ADDR_GEN_MODE_NONE, ip-sysctl of the kernel's documentation.
    netns.run(|| match std::fs::write("/proc/sys/net/ipv6/conf/default/addr_gen_mode", "1") {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    })
}

/// IPv4 destinations that the host has a route for.
///
/// # Errors
/// When the kernel cannot be asked.
pub async fn host_routes() -> Result<Vec<Ipv4Net>, NetworkError> {
    Netlink::here()?.routes().await
}
