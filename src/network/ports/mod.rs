//! Published ports: claimed on the host, forwarded into the stack.

mod claim;
mod owner;
mod tcp;
mod udp;

use std::{io, net::SocketAddr, sync::Arc};

use tokio::task::JoinHandle;

use claim::HostSocket;
pub use claim::{Claimed, PortConflict, claim};
pub use owner::PortOwner;

use crate::sys::Netns;

/// Leads the connections to a claimed port into the stack until it is dropped, which closes them all.
#[derive(Debug)]
pub struct Forwarder {
    /// The port with its sockets, so that it can be handed over without being let go.
    claimed: Claimed,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Leads everything that comes to `claimed` to `target`, an address inside the network namespace `stack`. To be called on a
/// runtime.
///
/// # Errors
/// EMFILE when there are no descriptors left.
pub fn serve(claimed: Claimed, target: SocketAddr, stack: Arc<Netns>) -> io::Result<Forwarder> {
    let start = |socket| match socket {
        HostSocket::Tcp(listener) => tokio::spawn(tcp::forward(listener, target, stack.clone())),
        HostSocket::Udp(socket) => tokio::spawn(udp::forward(socket, target, stack.clone())),
    };
    let tasks = claimed.try_clone()?.into_sockets().into_iter().map(start).collect();
    Ok(Forwarder { claimed, tasks })
}
