//! Who listens in a network namespace, as the kernel shows it (sock_diag(7)).
//!
//! /proc/PID/net/tcp says the same, and goes through the table of all connections of the host to find none in a namespace that has
//! none, which takes two milliseconds. Here the kernel is asked for sockets that listen, and looks at no others.

use std::{
    io,
    net::Ipv4Addr,
    os::fd::{AsFd, OwnedFd},
};

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use crate::{
    model::{ListeningPort, Protocol},
    sys::{Namespace, NamespaceKind, Netns, inode_of},
};

/// A socket to ask the kernel about one network namespace, which lasts as long as it does.
#[derive(Debug)]
pub struct Listening(OwnedFd);

/// Type of a request (linux/sock_diag.h).
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// Types of answers and flags of requests (linux/netlink.h).
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const HEADER: usize = 16;
/// Size of `struct inet_diag_req_v2` and of `struct inet_diag_msg` (linux/inet_diag.h).
const REQUEST: usize = 56;
const ANSWER: usize = 72;
/// States of sockets, as bits (include/net/tcp_states.h): a TCP one that listens, a UDP one that is connected to nobody.
const TCP_LISTEN: u32 = 1 << 10;
const UDP_UNCONNECTED: u32 = 1 << 7;

impl Listening {
    /// For the network namespace of a process.
    ///
    /// # Errors
    /// When the namespace cannot be entered, or the kernel has no sock_diag.
    pub fn of_process(pid: i32) -> io::Result<Self> {
        // The host's is not entered: an ordinary user has no right to, and is there anyway.
        if inode_of(Some(pid), NamespaceKind::Net)? == inode_of(None, NamespaceKind::Net)? {
            return Self::open();
        }
        let fd = Namespace::of_process(pid, NamespaceKind::Net)?.as_fd().try_clone_to_owned()?;
        Netns::from_fd(fd).run(Self::open)
    }

    fn open() -> io::Result<Self> {
        let protocol = SockProtocol::NetlinkSockDiag;
        Ok(Self(socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?))
    }

    /// The first of `ports` that nobody listens on; none is what everybody listens on. Who does at `ours` does not count.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn missing(&self, ports: &[ListeningPort], ours: Ipv4Addr) -> io::Result<Option<ListeningPort>> {
        let mut missing = ports.to_vec();
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for family in [libc::AF_INET, libc::AF_INET6] {
                if missing.iter().any(|port| port.protocol == protocol) {
                    self.ask(family as u8, protocol, |address, port| {
                        if address != Some(ours) {
                            missing.retain(|wanted| (wanted.port, wanted.protocol) != (port, protocol));
                        }
                    })?;
                }
            }
        }
        Ok(missing.first().copied())
    }

    /// Tells of each socket its address, if it is one of IPv4, and its port.
    fn ask(&self, family: u8, protocol: Protocol, mut tell: impl FnMut(Option<Ipv4Addr>, u16)) -> io::Result<()> {
        rustix::io::write(&self.0, &request(family, protocol))?;
        let mut buffer = vec![0_u8; 32 * 1024];
        loop {
            // The kernel has answered by now, or writes the next part when this one is taken: nothing is waited for.
            let n = rustix::io::retry_on_intr(|| rustix::io::read(&self.0, &mut buffer[..]))?;
            let mut rest = &buffer[..n];
            if rest.len() < HEADER {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            while rest.len() >= HEADER {
                let (length, kind) = (u32_at(rest, 0) as usize, u16_at(rest, 4));
                if length < HEADER || length > rest.len() {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                let body = &rest[HEADER..length];
                match kind {
                    NLMSG_DONE => return Ok(()),
                    // A kernel without this protocol or family has nobody who listens on it.
                    NLMSG_ERROR => match body.len() {
                        4.. if u32_at(body, 0).cast_signed() == -libc::ENOENT => return Ok(()),
                        4.. => return Err(io::Error::from_raw_os_error(-u32_at(body, 0).cast_signed())),
                        _ => return Err(io::ErrorKind::InvalidData.into()),
                    },
                    SOCK_DIAG_BY_FAMILY if body.len() >= ANSWER => {
                        let port = u16::from_be_bytes([body[4], body[5]]);
                        let address = [body[8], body[9], body[10], body[11]];
                        tell((i32::from(body[0]) == libc::AF_INET).then_some(address.into()), port);
                    }
                    _ => {}
                }
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }
}

/// A request for all sockets of a family and protocol that listen.
fn request(family: u8, protocol: Protocol) -> [u8; HEADER + REQUEST] {
    let (number, states) = match protocol {
        Protocol::Tcp => (libc::IPPROTO_TCP, TCP_LISTEN),
        Protocol::Udp => (libc::IPPROTO_UDP, UDP_UNCONNECTED),
    };
    let mut bytes = [0; HEADER + REQUEST];
    bytes[..4].copy_from_slice(&((HEADER + REQUEST) as u32).to_ne_bytes());
    bytes[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes[6..8].copy_from_slice(&NLM_F_REQUEST_DUMP.to_ne_bytes());
    bytes[HEADER] = family;
    bytes[HEADER + 1] = number as u8;
    bytes[HEADER + 4..HEADER + 8].copy_from_slice(&states.to_ne_bytes());
    bytes
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    #[test]
    fn who_listens_here_is_seen() {
        let here = Listening::of_process(std::process::id() as i32).expect("sock_diag");
        let missing = |port: u16, protocol, ours: &str| {
            here.missing(&[ListeningPort { port, protocol }], ours.parse().expect("an address")).expect("an answer")
        };
        let nobody = "127.9.9.9";
        for address in ["127.0.0.2:0", "0.0.0.0:0", "[::]:0"] {
            let Ok(tcp) = TcpListener::bind(address) else { continue };
            let port = tcp.local_addr().expect("an address").port();
            assert_eq!(missing(port, Protocol::Tcp, nobody), None, "{address}");
            assert_eq!(missing(port, Protocol::Tcp, "127.0.0.2").is_some(), address.starts_with("127"));
            drop(tcp);
            assert!(missing(port, Protocol::Tcp, nobody).is_some(), "{address}");

            let udp = UdpSocket::bind(address).expect("a socket");
            let port = udp.local_addr().expect("an address").port();
            assert_eq!(missing(port, Protocol::Udp, nobody), None, "{address}");
        }
        // A connection is nobody who listens.
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let client = TcpStream::connect(tcp.local_addr().expect("an address")).expect("a connection");
        let port = client.local_addr().expect("an address").port();
        assert_eq!(missing(port, Protocol::Tcp, nobody), Some(ListeningPort { port, protocol: Protocol::Tcp }));
    }
}
