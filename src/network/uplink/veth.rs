//! The uplink of root: a veth pair into the host's network namespace.

use std::{fs, net::Ipv4Addr, path::PathBuf};

use ipnet::{IpNet, Ipv4Net};

use super::{INNER, UplinkError, outer};
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
    let address = |address| IpNet::V4(Ipv4Net::new_assert(address, inner.prefix_len()));
    let gateway = outer(inner);
    let end = Interface {
        name: link.to_owned(),
        addresses: vec![address(gateway)],
        gateways: Vec::new(),
        routes: Vec::new(),
    };
    host.configure(&[end]).await?;
    let end = Interface {
        name: INNER.to_owned(),
        addresses: vec![address(inner.addr())],
        gateways: vec![gateway.into()],
        routes: Vec::new(),
    };
    inside.configure(&[end]).await?;
    // As for containers: what is sent before the link is noticed to be up is lost.
    host.settle(&[link]).await?;
    inside.settle(&[INNER]).await?;
    Ok(())
}

/// The hardware address of the outer end. It is given when the link is made: one that is random would be replaced by udev, at any moment
/// after the stack has learned it (`MACAddressPolicy=persistent` of systemd.link(5) leaves alone only what has
/// been set, `addr_assign_type` 3). From its address, of which there is one on the host; locally administered.
fn mac_of(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x6e, a, b, c, d]
}
