//! Taking ports of the host, all or none.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    os::fd::OwnedFd,
};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};

use super::{
    Forwarder,
    owner::{PortOwner, find},
};
use crate::model::{Port, Protocol};

/// A port of the host that is ours.
#[derive(Debug)]
pub struct Claimed {
    port: Port,
    sockets: Vec<HostSocket>,
}

#[derive(Debug)]
pub(super) enum HostSocket {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

impl Claimed {
    /// What was asked for.
    pub fn port(&self) -> &Port {
        &self.port
    }

    /// Where it listens; the port is the real one where any free one was asked for.
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        let address = |socket: &HostSocket| match socket {
            HostSocket::Tcp(listener) => listener.local_addr().ok(),
            HostSocket::Udp(socket) => socket.local_addr().ok(),
        };
        self.sockets.iter().filter_map(address).collect()
    }

    pub(super) fn try_clone(&self) -> io::Result<Self> {
        let clone = |socket: &HostSocket| {
            Ok(match socket {
                HostSocket::Tcp(listener) => HostSocket::Tcp(listener.try_clone()?),
                HostSocket::Udp(socket) => HostSocket::Udp(socket.try_clone()?),
            })
        };
        Ok(Self { port: self.port.clone(), sockets: self.sockets.iter().map(clone).collect::<io::Result<_>>()? })
    }

    pub(super) fn into_sockets(self) -> Vec<HostSocket> {
        self.sockets
    }
}

/// A port of the host that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.describe())]
pub struct PortConflict {
    /// Where it was to listen.
    pub address: SocketAddr,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Who has it, if that can be seen.
    pub owner: Option<PortOwner>,
    /// First port that an ordinary user may take, where that is the reason.
    pub first_allowed: Option<u16>,
    /// What the kernel said.
    pub error: io::ErrorKind,
}

impl PortConflict {
    fn describe(&self) -> String {
        let port = format!("port {}/{} of the host", self.address, self.protocol);
        match (self.first_allowed, &self.owner, self.error) {
            (Some(first), _, _) => format!(
                "{port} is for root only: use a port from {first} on, or allow it with \
                 `sudo sysctl net.ipv4.ip_unprivileged_port_start={}`",
                self.address.port()
            ),
            (None, Some(owner), _) => format!("{port} is taken by {owner}"),
            (None, None, io::ErrorKind::AddrInUse) => format!("{port} is taken"),
            (None, None, io::ErrorKind::AddrNotAvailable) => format!("{port}: this host does not have the address"),
            (None, None, error) => format!("{port} cannot be listened on: {error}"),
        }
    }
}

/// Listens on every port, or on none and says what is wrong with each of those that cannot be had. A port that one of
/// `held` has is taken over from it: both listen until the forwarder is dropped.
///
/// # Errors
/// One conflict for each port that is taken or not allowed.
pub fn claim(ports: &[Port], held: &[Forwarder]) -> Result<Vec<Claimed>, Vec<PortConflict>> {
    let mut claimed = Vec::new();
    let mut conflicts = Vec::new();
    for port in ports {
        let ours = held.iter().find(|forwarder| forwarder.claimed.port == *port);
        match ours.and_then(|forwarder| forwarder.claimed.try_clone().ok()).map_or_else(|| claim_one(port), Ok) {
            Ok(one) => claimed.push(one),
            Err(conflict) => conflicts.push(conflict),
        }
    }
    if conflicts.is_empty() { Ok(claimed) } else { Err(conflicts) }
}

fn claim_one(port: &Port) -> Result<Claimed, PortConflict> {
    let both = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    let addresses: &[IpAddr] = port.host_ip.as_ref().map_or(&both, std::slice::from_ref);
    let mut number = port.published.unwrap_or(0);
    let mut sockets = Vec::new();
    for ip in addresses {
        let address = SocketAddr::new(*ip, number);
        match open(address, port.protocol) {
            Ok(socket) => {
                if number == 0 {
                    // The kernel has chosen one; it is to be the same for IPv6.
                    let chosen = match &socket {
                        HostSocket::Tcp(listener) => listener.local_addr(),
                        HostSocket::Udp(socket) => socket.local_addr(),
                    };
                    number = chosen.map_or(0, |address| address.port());
                }
                sockets.push(socket);
            }
            // A host without IPv6 is reached by IPv4 alone, unless somebody asked for just this address.
            Err(e) if port.host_ip.is_none() && ip.is_ipv6() && no_ipv6(&e) => {}
            Err(e) => return Err(conflict(address, port.protocol, &e)),
        }
    }
    Ok(Claimed { port: port.clone(), sockets })
}

fn no_ipv6(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(libc::EAFNOSUPPORT)
}

fn open(address: SocketAddr, protocol: Protocol) -> io::Result<HostSocket> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let kind = match protocol {
        Protocol::Tcp => SockType::Stream,
        Protocol::Udp => SockType::Datagram,
    };
    let fd: OwnedFd = socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    if protocol == Protocol::Tcp {
        // As servers do: connections of before that linger in TIME_WAIT do not keep the port.
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    }
    if address.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    bind(std::os::fd::AsRawFd::as_raw_fd(&fd), &SockaddrStorage::from(address))?;
    match protocol {
        Protocol::Tcp => {
            listen(&fd, Backlog::new(4096)?)?;
            Ok(HostSocket::Tcp(fd.into()))
        }
        Protocol::Udp => Ok(HostSocket::Udp(fd.into())),
    }
}

fn conflict(address: SocketAddr, protocol: Protocol, error: &io::Error) -> PortConflict {
    let denied = error.kind() == io::ErrorKind::PermissionDenied;
    PortConflict {
        address,
        protocol,
        owner: if error.kind() == io::ErrorKind::AddrInUse { find(address, protocol) } else { None },
        first_allowed: denied.then(first_unprivileged_port),
        error: error.kind(),
    }
}

fn first_unprivileged_port() -> u16 {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024)
}
