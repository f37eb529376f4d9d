//! A published port that is being served.

use std::{io, net::SocketAddr, sync::Arc};

use nix::sys::socket::SockType;
use tokio::{sync::watch, task::JoinSet};

use super::{
    claim::{Claimed, Sockets},
    stack_sockets::StackSockets,
    tcp, udp,
};
use crate::{model::Port, sys::Netns};

/// A published port in service. Dropping it ends it at the runtime's next turn; [`Forwarder::stop`] waits for that.
#[derive(Debug)]
#[must_use = "dropping a forwarder ends it"]
pub struct Forwarder {
    /// The sockets, to be handed over.
    claimed: Claimed,
    target: SocketAddr,
    /// Its end is what the tasks wait for.
    stop: watch::Sender<()>,
    tasks: JoinSet<()>,
}

/// Begins to carry a claimed port to `target`, an address inside the network namespace of the stack. To be called on the
/// runtime that shall do it, which may have a single thread.
///
/// # Errors
/// When the runtime cannot watch a socket.
pub fn serve(claimed: Claimed, target: SocketAddr, stack: Arc<Netns>) -> io::Result<Forwarder> {
    let served = claimed.try_clone()?;
    let (stop, stopped) = watch::channel(());
    let mut tasks = JoinSet::new();
    match served.sockets {
        Sockets::Tcp(listeners) => {
            let inside = Arc::new(StackSockets::new(stack, target, SockType::Stream));
            for listener in listeners {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                tasks.spawn(tcp::forward(listener, target, Arc::clone(&inside), stopped.clone()));
            }
        }
        Sockets::Udp(sockets) => {
            let inside = Arc::new(StackSockets::new(stack, target, SockType::Datagram));
            for socket in sockets {
                let socket = tokio::net::UdpSocket::from_std(socket)?;
                tasks.spawn(udp::forward(socket, target, Arc::clone(&inside), stopped.clone()));
            }
        }
    }
    Ok(Forwarder { claimed, target, stop, tasks })
}

impl Forwarder {
    /// What was asked for.
    pub fn port(&self) -> &Port {
        self.claimed.port()
    }

    pub(super) fn claimed(&self) -> &Claimed {
        &self.claimed
    }

    /// The addresses on the host that it serves.
    pub fn addresses(&self) -> &[SocketAddr] {
        self.claimed.addresses()
    }

    /// Where it leads.
    pub fn target(&self) -> SocketAddr {
        self.target
    }

    /// Ends it: when this returns the port is free and every connection closed.
    pub async fn stop(self) {
        let Self { stop, mut tasks, claimed, .. } = self;
        drop(claimed);
        drop(stop);
        while tasks.join_next().await.is_some() {}
    }
}
