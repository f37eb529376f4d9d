//! The uplink of root: a veth pair into the host's network namespace.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{INNER, UplinkError, outer, outer_v6};
use crate::{
    network::netlink::{Cable, Interface, Netlink},
    sys::Netns,
};

/// Makes the pair with the first of `addresses` that no route of the host overlaps, both ends up, and the default route
/// inside. The inner address comes back.
pub(super) async fn connect(
    link: &str,
    alias: &str,
    addresses: &[Ipv4Net],
    stack: &Netns,
    inside: &Netlink,
) -> Result<Ipv4Net, UplinkError> {
    let host = Netlink::open_here()?;
    // One of that name is left of a stack that has gone; its route must not be in the way.
    host.delete_link(link).await?;
    let routes = host.routes().await?;
    let free = |net: &&Ipv4Net| {
        let net = IpNet::V4(net.trunc());
        !routes.iter().any(|route| route.contains(&net) || net.contains(route))
    };
    let inner = *addresses.iter().find(free).ok_or(UplinkError::NoAddress)?;
    let mac = Some(mac_of(outer(inner)));
    let cable = Cable { name: link.to_owned(), alias: alias.to_owned(), mac, peer_name: INNER.to_owned() };
    host.add_cable(&cable, stack).await?;
    let made = configure(link, inner, &host, inside).await;
    if made.is_err() {
        let _ = host.delete_link(link).await;
    }
    made.map(|()| inner)
}

async fn configure(link: &str, inner: Ipv4Net, host: &Netlink, inside: &Netlink) -> Result<(), UplinkError> {
    // Containers reach servers on the host's loopback at the outer address (rules.rs). Only on this one interface, whose other end is ours.
    let path = PathBuf::from(format!("/proc/sys/net/ipv4/conf/{link}/route_localnet"));
    fs::write(&path, "1").map_err(|source| UplinkError::Setting { path, source })?;
    // Nobody but the two ends is there: who would be a router of the host, or have its address? As nobody is asked, what is sent first by
    // IPv6 does not wait for that. Without IPv6 there are no such files.
    for name in ["accept_ra", "accept_dad"] {
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{link}/{name}"), "0");
    }
    address(link, outer(inner).into(), inner.into(), host, inside).await?;
    // As for containers: what is sent before the link is noticed to be up is lost.
    host.settle(&[link]).await?;
    inside.settle(&[INNER]).await?;
    Ok(())
}

/// Gives both ends their addresses, and the stack its default route by the outer one.
async fn address(link: &str, outer: IpAddr, inner: IpNet, host: &Netlink, inside: &Netlink) -> Result<(), UplinkError> {
    let end = |name: &str, address: IpAddr, gateways| Interface {
        name: name.to_owned(),
        addresses: vec![IpNet::new_assert(address, inner.prefix_len())],
        gateways,
        routes: Vec::new(),
    };
    host.configure(&[end(link, outer, Vec::new())]).await?;
    Ok(inside.configure(&[end(INNER, inner.addr(), vec![outer])]).await?)
}

/// The hardware address of the outer end. It is given when the link is made: one that is random would be replaced by udev, at any moment
/// after the stack has learned it (`MACAddressPolicy=persistent` of systemd.link(5) leaves alone only what has
/// been set, `addr_assign_type` 3). From its address, of which there is one on the host; locally administered.
fn mac_of(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x6e, a, b, c, d]
}

/// Gives both ends an IPv6 address, the first of `addresses` that is free on the host, and the stack a default route. The inner address comes
/// back; none on a host that has no IPv6 or has it turned off.
pub(super) async fn add_ipv6(
    link: &str,
    addresses: &[Ipv6Net],
    inside: &Netlink,
) -> Result<Option<Ipv6Net>, UplinkError> {
    let path = PathBuf::from(format!("/proc/sys/net/ipv6/conf/{link}/disable_ipv6"));
    match fs::read_to_string(&path) {
        Ok(text) if text.trim() == "0" => {}
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(UplinkError::Setting { path, source }),
    }
    let host = Netlink::open_here()?;
    let routes = host.routes_v6().await?;
    // A route to more than our whole prefix, such as fd00::/8 of a private network, is no sign of anybody using these.
    let taken = |net: &Ipv6Net, route: &Ipv6Net| net.contains(route) || route.contains(net) && route.prefix_len() >= 48;
    let free = |net: &&Ipv6Net| !routes.iter().any(|route| taken(&net.trunc(), route));
    let inner = *addresses.iter().find(free).ok_or(UplinkError::NoAddress)?;
    address(link, outer_v6(inner).into(), inner.into(), &host, inside).await?;
    Ok(Some(inner))
}
