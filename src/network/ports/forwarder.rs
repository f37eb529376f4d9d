//! A published port that is being served.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

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
    port: Port,
    addresses: Vec<SocketAddr>,
    /// The same that the tasks have, to be handed over.
    sockets: Served,
    target: SocketAddr,
    /// Its end is what the tasks wait for.
    stop: watch::Sender<()>,
    tasks: JoinSet<()>,
}

/// The sockets of a port, watched by the runtime.
#[derive(Debug)]
enum Served {
    Tcp(Vec<Arc<tokio::net::TcpListener>>),
    Udp(Vec<Arc<tokio::net::UdpSocket>>),
}

/// Begins to carry a claimed port to `target`, an address inside the network namespace of the stack. To be called on the
/// runtime that shall do it, which may have a single thread.
///
/// # Errors
/// When the runtime cannot watch a socket.
pub fn serve(claimed: Claimed, target: SocketAddr, stack: Arc<Netns>) -> io::Result<Forwarder> {
    let Claimed { port, addresses, sockets } = claimed;
    let (stop, stopped) = watch::channel(());
    let mut tasks = JoinSet::new();
    let sockets = match sockets {
        Sockets::Tcp(listeners) => {
            let inside = Arc::new(StackSockets::new(stack, target, SockType::Stream));
            let watch = |listener| tokio::net::TcpListener::from_std(listener).map(Arc::new);
            let listeners: Vec<_> = listeners.into_iter().map(watch).collect::<io::Result<_>>()?;
            for listener in &listeners {
                tasks.spawn(tcp::forward(Arc::clone(listener), target, Arc::clone(&inside), stopped.clone()));
            }
            Served::Tcp(listeners)
        }
        Sockets::Udp(sockets) => {
            let inside = Arc::new(StackSockets::new(stack, target, SockType::Datagram));
            let watch = |socket| tokio::net::UdpSocket::from_std(socket).map(Arc::new);
            let sockets: Vec<_> = sockets.into_iter().map(watch).collect::<io::Result<_>>()?;
            for socket in &sockets {
                tasks.spawn(udp::forward(Arc::clone(socket), target, Arc::clone(&inside), stopped.clone()));
            }
            Served::Udp(sockets)
        }
    };
    Ok(Forwarder { port, addresses, sockets, target, stop, tasks })
}

impl Forwarder {
    /// What was asked for.
    pub fn port(&self) -> &Port {
        &self.port
    }

    /// The same sockets once more: connections go to whoever accepts first, and the port is free when both have gone.
    ///
    /// # Errors
    /// EMFILE when there are no descriptors left.
    pub(super) fn hand_over(&self) -> io::Result<Claimed> {
        fn again<S: AsFd, T: From<OwnedFd>>(sockets: &[Arc<S>]) -> io::Result<Vec<T>> {
            sockets.iter().map(|socket| Ok(socket.as_fd().try_clone_to_owned()?.into())).collect()
        }
        let sockets = match &self.sockets {
            Served::Tcp(listeners) => Sockets::Tcp(again(listeners)?),
            Served::Udp(sockets) => Sockets::Udp(again(sockets)?),
        };
        Ok(Claimed { port: self.port.clone(), addresses: self.addresses.clone(), sockets })
    }

    /// The addresses on the host that it serves.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where it leads.
    pub fn target(&self) -> SocketAddr {
        self.target
    }

    /// Ends it: when this returns the port is free and every connection closed.
    pub async fn stop(self) {
        let Self { stop, mut tasks, sockets, .. } = self;
        drop(sockets);
        drop(stop);
        while tasks.join_next().await.is_some() {}
    }
}
