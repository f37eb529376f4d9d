//! Datagrams together with the local address that they came to, so that an answer can come from there (ip(7)).

use std::{
    cell::RefCell,
    io::{self, IoSlice, IoSliceMut},
    net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::{AsRawFd, RawFd},
};

use nix::{
    cmsg_space,
    sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockaddrLike, SockaddrStorage, recvmsg, sendmsg},
};
use tokio::{io::Interest, net::UdpSocket};

/// A client, and which of our addresses it spoke to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Peer {
    client: SocketAddr,
    local: Option<IpAddr>,
    /// The interface, without which a link-local address means nothing.
    interface: u32,
}

/// The largest datagram there can be.
const LARGEST: usize = 64 * 1024;

thread_local! {
    /// Where a datagram stays between two sockets: one for all of them, of which there may be tens of thousands, since none
    /// is kept for longer than a moment.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; LARGEST]);
}

/// Lends the buffer of the thread, which nobody else has meanwhile: `f` must not ask for it again.
pub(super) fn with_buffer<T>(f: impl FnOnce(&mut [u8]) -> T) -> T {
    BUFFER.with_borrow_mut(|buffer| f(buffer))
}

/// Waits for a datagram and hands it out; what that gives comes back.
pub(super) async fn receive<T>(socket: &UdpSocket, mut take: impl FnMut(Peer, &[u8]) -> T) -> io::Result<T> {
    let receive = || {
        with_buffer(|buffer| {
            let (length, peer) = receive_now(socket.as_raw_fd(), buffer)?;
            Ok(take(peer, &buffer[..length]))
        })
    };
    socket.async_io(Interest::READABLE, receive).await
}

fn receive_now(socket: RawFd, buffer: &mut [u8]) -> io::Result<(usize, Peer)> {
    let mut control = cmsg_space!(libc::in6_pktinfo);
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrStorage>(socket, &mut slices, Some(&mut control), MsgFlags::MSG_DONTWAIT)?;
    let client = message.address.as_ref().and_then(to_std).ok_or(io::ErrorKind::InvalidData)?;
    let mut peer = Peer { client, local: None, interface: 0 };
    for control in message.cmsgs()? {
        match control {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                peer.local = Some(IpAddr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()));
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                peer.local = Some(IpAddr::from(info.ipi6_addr.s6_addr));
                peer.interface = info.ipi6_ifindex;
            }
            _ => {}
        }
    }
    Ok((message.bytes, peer))
}

/// Sends an answer from the address that was asked, or drops it where it would have to wait, as a network may.
pub(super) fn answer(socket: &UdpSocket, data: &[u8], peer: &Peer) -> io::Result<()> {
    let (v4, v6);
    let control: &[ControlMessage<'_>] = match peer.local {
        Some(IpAddr::V4(local)) => {
            let source = libc::in_addr { s_addr: u32::from_ne_bytes(local.octets()) };
            let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: source, ipi_addr: source };
            v4 = info;
            &[ControlMessage::Ipv4PacketInfo(&v4)]
        }
        Some(IpAddr::V6(local)) => {
            v6 = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr { s6_addr: local.octets() },
                ipi6_ifindex: peer.interface,
            };
            &[ControlMessage::Ipv6PacketInfo(&v6)]
        }
        None => &[],
    };
    let to = SockaddrStorage::from(peer.client);
    sendmsg(socket.as_raw_fd(), &[IoSlice::new(data)], control, MsgFlags::MSG_DONTWAIT, Some(&to))?;
    Ok(())
}

/// The internet address that the kernel gave.
pub(super) fn to_std(address: &SockaddrStorage) -> Option<SocketAddr> {
    match address.family()? {
        nix::sys::socket::AddressFamily::Inet => Some(SocketAddrV4::from(*address.as_sockaddr_in()?).into()),
        nix::sys::socket::AddressFamily::Inet6 => Some(SocketAddrV6::from(*address.as_sockaddr_in6()?).into()),
        _ => None,
    }
}
