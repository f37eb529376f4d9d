//! Binds every published port before anything starts, and says all that is wrong with them at once.

use std::{
    fmt, fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, getsockname, listen, setsockopt, socket, sockopt,
};

use super::{
    forwarder::Forwarder,
    owner::{PortOwner, owner_of},
    relay::notice_the_dead,
};
use crate::model::{Port, Protocol};

/// How often the kernel may choose a port for IPv4 that turns out to be taken for IPv6.
const CHOICES: usize = 16;

/// Where ports begin that need no privilege; one below it is EACCES for an ordinary user (ip(7)).
const UNPRIVILEGED_START: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";

/// A port that is ours: bound, for TCP listening, and not served yet. Connections wait in its queue.
#[derive(Debug)]
pub struct Claimed {
    pub(super) port: Port,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) sockets: Sockets,
}

/// One socket, or one for IPv4 and one for IPv6.
#[derive(Debug)]
pub(super) enum Sockets {
    Tcp(Vec<TcpListener>),
    Udp(Vec<UdpSocket>),
}

impl Claimed {
    /// What was asked for.
    pub fn port(&self) -> &Port {
        &self.port
    }

    /// The port on the host, also when the kernel chose it.
    pub fn published(&self) -> u16 {
        self.addresses.first().map_or(0, SocketAddr::port)
    }

    /// Its sockets, in the order of the addresses, to be kept by somebody else too.
    pub fn sockets(&self) -> Vec<BorrowedFd<'_>> {
        match &self.sockets {
            Sockets::Tcp(sockets) => sockets.iter().map(AsFd::as_fd).collect(),
            Sockets::Udp(sockets) => sockets.iter().map(AsFd::as_fd).collect(),
        }
    }

    /// One that was claimed by a process that has ended, of the sockets that somebody has kept.
    pub fn kept(port: Port, addresses: Vec<SocketAddr>, sockets: Vec<OwnedFd>) -> Self {
        let sockets = match port.protocol {
            Protocol::Tcp => Sockets::Tcp(sockets.into_iter().map(TcpListener::from).collect()),
            Protocol::Udp => Sockets::Udp(sockets.into_iter().map(UdpSocket::from).collect()),
        };
        Self { port, addresses, sockets }
    }

    /// The addresses that it is bound to: one, or the unspecified ones of IPv4 and IPv6.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

/// A port that somebody else has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortConflict {
    /// The port.
    pub port: Port,
    /// Who has it, as far as we may know.
    pub owner: Option<PortOwner>,
}

impl fmt::Display for PortConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "port {} is taken", OnHost(&self.port))?;
        match &self.owner {
            Some(owner) => write!(f, " by {owner}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for PortConflict {}

/// A port that cannot be published.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Somebody else has it.
    #[error(transparent)]
    Taken(#[from] PortConflict),
    /// It is for the privileged, and we are not.
    #[error("port {} needs privileges: net.ipv4.ip_unprivileged_port_start is {start} on this host", OnHost(port))]
    Privileged {
        /// The port.
        port: Port,
        /// The first port that needs none.
        start: u16,
    },
    /// The host has no such address.
    #[error("port {} cannot be published: this host has no address {address}", OnHost(port))]
    NoSuchAddress {
        /// The port.
        port: Port,
        /// The address.
        address: IpAddr,
    },
    /// Anything else.
    #[error("port {} cannot be published", OnHost(port))]
    Bind {
        /// The port.
        port: Port,
        /// What the kernel said.
        source: io::Error,
    },
}

impl ClaimError {
    /// The port that it is about.
    pub fn port(&self) -> &Port {
        match self {
            Self::Taken(conflict) => &conflict.port,
            Self::Privileged { port, .. } | Self::NoSuchAddress { port, .. } | Self::Bind { port, .. } => port,
        }
    }

    /// What can be done about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Privileged { port, start } => Some(format!(
                "publish a port from {start} on, or allow this one: sysctl net.ipv4.ip_unprivileged_port_start={}",
                port.published.unwrap_or_default()
            )),
            _ => None,
        }
    }
}

/// `127.0.0.1:8080/tcp`: the outer half of a port.
struct OnHost<'a>(&'a Port);

impl fmt::Display for OnHost<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Port { host_ip, published, protocol, .. } = self.0;
        match (host_ip, published.unwrap_or(0)) {
            (Some(ip), published) => write!(f, "{}", SocketAddr::new(*ip, published))?,
            (None, published) => write!(f, "{published}")?,
        }
        if let Some(last) = self.0.last {
            write!(f, "-{last}")?;
        }
        write!(f, "/{protocol}")
    }
}

/// Binds all `ports` in the network namespace of the calling thread; the answers stand in the order of the questions. A port
/// that one of `held` has is taken over from it instead: both have it until that one is dropped.
///
/// # Errors
/// Everything that is wrong, one entry per port, and then none is bound.
pub fn claim(ports: &[Port], held: &[&Forwarder]) -> Result<Vec<Claimed>, Vec<ClaimError>> {
    // Those with a number first, and then ranges: what is chosen, by us or by the kernel, must not be one of them.
    let mut in_turn: Vec<_> = ports.iter().enumerate().collect();
    in_turn.sort_by_key(|(_, port)| (port.published.is_none(), port.last.is_some()));
    let mut outcomes: Vec<_> = in_turn.into_iter().map(|(place, port)| (place, take(port, held))).collect();
    outcomes.sort_by_key(|(place, _)| *place);
    let (mut claimed, mut errors) = (Vec::new(), Vec::new());
    for (_, outcome) in outcomes {
        match outcome {
            Ok(port) => claimed.push(port),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(claimed) } else { Err(errors) }
}

fn take(port: &Port, held: &[&Forwarder]) -> Result<Claimed, ClaimError> {
    // What it leads to may have changed; where it listens counts. One that the kernel chose stays with its service.
    let place = |port: &Port| (port.host_ip, port.published, port.protocol);
    let same = |forwarder: &&&Forwarder| match (port.published, port.last) {
        (Some(_), None) => place(forwarder.port()) == place(port) && forwarder.port().last.is_none(),
        _ => forwarder.port() == port,
    };
    match held.iter().find(same).map(|forwarder| forwarder.hand_over()) {
        Some(claimed) => {
            let claimed = claimed.map_err(|source| ClaimError::Bind { port: port.clone(), source })?;
            Ok(Claimed { port: port.clone(), ..claimed })
        }
        None => claim_first(port),
    }
}

/// The first of a range that nobody has; or the one that is wanted, or any.
fn claim_first(port: &Port) -> Result<Claimed, ClaimError> {
    let first = port.published.unwrap_or(0);
    let mut taken = None;
    for wanted in first..=port.last.unwrap_or(first) {
        match claim_one(port, wanted) {
            Err((address, error)) if is_taken(&error) => taken = taken.or(Some((address, error))),
            outcome => return outcome.map_err(|(address, error)| explain(port, address, error)),
        }
    }
    // Who has one is looked for once, and not for each of a range: all processes are looked through for it.
    Err(match taken {
        Some((address, error)) => explain(port, address, error),
        None => PortConflict { port: port.clone(), owner: None }.into(),
    })
}

/// What the kernel said, and of which address.
type Unbound = (SocketAddr, io::Error);

fn claim_one(port: &Port, wanted: u16) -> Result<Claimed, Unbound> {
    let sockets = match port.host_ip {
        Some(ip) => vec![bound(port.protocol, SocketAddr::new(ip, wanted))?],
        None => bound_everywhere(port.protocol, wanted)?,
    };
    let addresses = sockets.iter().map(|(_, address)| *address).collect();
    let sockets = sockets.into_iter().map(|(socket, _)| socket);
    let sockets = match port.protocol {
        Protocol::Tcp => Sockets::Tcp(sockets.map(TcpListener::from).collect()),
        Protocol::Udp => Sockets::Udp(sockets.map(UdpSocket::from).collect()),
    };
    Ok(Claimed { port: port.clone(), addresses, sockets })
}

/// The same port for IPv4 and, on a host that has it, IPv6.
fn bound_everywhere(protocol: Protocol, wanted: u16) -> Result<Vec<(OwnedFd, SocketAddr)>, Unbound> {
    // Choices that did not do are kept until the end, so that the kernel makes another one.
    let mut unfit = Vec::new();
    loop {
        let (v4, address) = bound(protocol, SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), wanted))?;
        let beside = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), address.port());
        match bind_socket(beside, protocol) {
            Ok(v6) => return Ok(vec![(v4, address), (v6, beside)]),
            Err(error) if lacks_ipv6(&error) => return Ok(vec![(v4, address)]),
            Err(error) if is_taken(&error) && wanted == 0 && unfit.len() < CHOICES => unfit.push(v4),
            Err(error) => return Err((beside, error)),
        }
    }
}

fn bound(protocol: Protocol, address: SocketAddr) -> Result<(OwnedFd, SocketAddr), Unbound> {
    let socket = bind_socket(address, protocol).and_then(|socket| {
        let address = local_address(&socket)?;
        Ok((socket, address))
    });
    socket.map_err(|error| (address, error))
}

fn bind_socket(address: SocketAddr, protocol: Protocol) -> io::Result<OwnedFd> {
    let (family, kind) = (
        if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 },
        match protocol {
            Protocol::Tcp => SockType::Stream,
            Protocol::Udp => SockType::Datagram,
        },
    );
    let fd = socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    if address.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    match protocol {
        // As every server does: connections of the last one that linger in TIME_WAIT are no obstacle.
        Protocol::Tcp => {
            setsockopt(&fd, sockopt::ReuseAddr, &true)?;
            // Connections that come in have what their listener has.
            notice_the_dead(&fd)?;
        }
        // Here it would let two share the port. But answers have to come from the address that was asked.
        Protocol::Udp if address.is_ipv4() => setsockopt(&fd, sockopt::Ipv4PacketInfo, &true)?,
        Protocol::Udp => setsockopt(&fd, sockopt::Ipv6RecvPacketInfo, &true)?,
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    if protocol == Protocol::Tcp {
        // Only this takes the port for good: two that have merely bound it are told by the slower one's listen(2).
        listen(&fd, Backlog::MAXALLOWABLE)?;
    }
    Ok(fd)
}

fn local_address(socket: &OwnedFd) -> io::Result<SocketAddr> {
    let address: SockaddrStorage = getsockname(socket.as_raw_fd())?;
    super::datagram::to_std(&address).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn is_taken(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EADDRINUSE)
}

fn lacks_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL | libc::EPROTONOSUPPORT))
}

fn explain(port: &Port, address: SocketAddr, source: io::Error) -> ClaimError {
    let port = port.clone();
    match source.raw_os_error() {
        Some(libc::EADDRINUSE) => PortConflict { owner: owner_of(address, port.protocol), port }.into(),
        Some(libc::EADDRNOTAVAIL) => ClaimError::NoSuchAddress { port, address: address.ip() },
        Some(libc::EACCES) => match unprivileged_start() {
            Some(start) if address.port() < start => ClaimError::Privileged { port, start },
            _ => ClaimError::Bind { port, source },
        },
        _ => ClaimError::Bind { port, source },
    }
}

fn unprivileged_start() -> Option<u16> {
    fs::read_to_string(UNPRIVILEGED_START).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(text: &str) -> Port {
        Port::parse_short(text).expect("a port").remove(0)
    }

    #[test]
    fn conflicts_name_their_owner() {
        let conflict = |text, owner| PortConflict { port: port(text), owner }.to_string();
        let nginx = PortOwner::Process { pid: 1234, command: "nginx".into(), user: Some("www".into()) };
        assert_eq!(conflict("8080:80", Some(nginx)), "port 8080/tcp is taken by nginx (pid 1234)");
        assert_eq!(
            conflict("127.0.0.1:53:53/udp", Some(PortOwner::User("root".into()))),
            "port 127.0.0.1:53/udp is taken by a process of user `root`"
        );
        assert_eq!(conflict("80:80", None), "port 80/tcp is taken");
    }

    #[test]
    fn a_privileged_port_says_how_to_get_it() {
        let error = ClaimError::Privileged { port: port("80:8080"), start: 1024 };
        assert_eq!(
            error.to_string(),
            "port 80/tcp needs privileges: net.ipv4.ip_unprivileged_port_start is 1024 on this host"
        );
        assert_eq!(
            error.hint().as_deref(),
            Some("publish a port from 1024 on, or allow this one: sysctl net.ipv4.ip_unprivileged_port_start=80")
        );
    }
}
