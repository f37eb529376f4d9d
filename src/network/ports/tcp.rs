//! TCP: each connection of the host is joined to one into the stack.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
};

use crate::sys::Netns;

/// How long to wait when there are no descriptors left for another connection.
const BREATH: Duration = Duration::from_millis(20);

pub(super) async fn forward(listener: std::net::TcpListener, target: SocketAddr, stack: Arc<Netns>) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "a port cannot be served"),
    };
    // Dropped with this task, and all connections with it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    connections.spawn(join(client, target, stack.clone()));
                }
                Err(error) => {
                    // ECONNABORTED passes by itself; EMFILE does when a connection ends.
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(BREATH).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn join(mut client: TcpStream, target: SocketAddr, stack: Arc<Netns>) {
    let mut server = match connect(target, &stack).await {
        Ok(server) => server,
        Err(error) => {
            tracing::debug!(%error, %target, "nobody there");
            // Closed with a reset, as a port that nobody listens on answers.
            let _ = client.set_zero_linger();
            return;
        }
    };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    // Ends when both directions have; one that ends alone is passed on as such (half-close).
    let _ = copy_bidirectional(&mut client, &mut server).await;
}

/// Connects from inside the stack. The socket belongs to the namespace that it is made in, wherever it is used.
async fn connect(target: SocketAddr, stack: &Netns) -> io::Result<TcpStream> {
    let socket = stack.run(|| if target.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() })?;
    socket.connect(target).await
}
