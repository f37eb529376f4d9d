//! Sockets of the stack's network namespace, for a process that does not live there.

use std::{
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::relay::notice_the_dead;
use crate::sys::{Netns, fds::may_stay};

/// How many are made at a time: entering the namespace takes a thread and some 50 µs, a socket 2 µs.
const BATCH: usize = 16;

/// Unconnected, non-blocking sockets, made in the namespace and kept here until they are needed.
///
/// A thread that stays inside would do as well, but it would be there for every stack at rest, and each connection would
/// wait for two threads to take turns.
#[derive(Debug)]
pub(super) struct StackSockets {
    stack: Arc<Netns>,
    family: AddressFamily,
    kind: SockType,
    spare: Mutex<Vec<OwnedFd>>,
}

impl StackSockets {
    pub(super) fn new(stack: Arc<Netns>, target: SocketAddr, kind: SockType) -> Self {
        let family = if target.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        Self { stack, family, kind, spare: Mutex::new(Vec::new()) }
    }

    /// A socket of the stack's.
    ///
    /// # Errors
    /// When not even one can be made, or the namespace not be entered.
    pub(super) fn take(&self) -> io::Result<OwnedFd> {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(socket) = spare.pop() {
            return Ok(socket);
        }
        let (socket, more) = self.stack.run(|| {
            let first = self.make()?;
            // The rest only spares the next one the way; without descriptors it fails there if it must.
            Ok((first, (1..BATCH).map_while(|_| self.make().ok()).collect()))
        })?;
        *spare = more;
        Ok(socket)
    }

    fn make(&self) -> io::Result<OwnedFd> {
        let socket = may_stay(socket(self.family, self.kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?)?;
        if self.kind == SockType::Stream {
            notice_the_dead(&socket)?;
        }
        Ok(socket)
    }
}
