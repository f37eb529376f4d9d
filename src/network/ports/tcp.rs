//! A published TCP port: accept outside, connect inside, copy.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinSet,
    time::sleep,
};
use tracing::{debug, warn};

use super::{
    budget::{self, Place},
    relay::{relay, reset},
    stack_sockets::StackSockets,
};

/// How long to leave the queue alone when descriptors or memory have run out: twice as long each time.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Serves `listener` until `stop` changes or its sender is dropped, and then closes every connection.
pub(super) async fn forward(
    listener: Arc<TcpListener>,
    target: SocketAddr,
    inside: Arc<StackSockets>,
    mut stop: watch::Receiver<()>,
) {
    let mut connections = JoinSet::new();
    let (mut pause, mut failures) = (None, 0_u32);
    loop {
        let accept = async {
            if let Some(pause) = pause {
                sleep(pause).await;
            }
            // Before a connection is accepted: in the queue it waits, once taken from there it could only be ended.
            let place = budget::place().await?;
            Ok((listener.accept().await?.0, place))
        };
        tokio::select! {
            _ = stop.changed() => break,
            accepted = accept => match accepted {
                Ok((client, place)) => {
                    (pause, failures) = (None, 0);
                    connections.spawn(carry(client, place, target, Arc::clone(&inside)));
                }
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    // The connection stays in the queue, so that asking again at once would be a busy loop.
                    if failures == 0 {
                        warn!(%target, %error, "cannot accept connections, waiting");
                    }
                    pause = Some(PAUSE.1.min(PAUSE.0 * 2_u32.pow(failures.min(10))));
                    failures = failures.saturating_add(1);
                }
            },
            // What it held may be what was missing.
            Some(_) = connections.join_next() => pause = None,
        }
    }
    drop(listener);
    connections.shutdown().await;
}

/// accept(2) reports what became of a connection in the queue as an error of its own.
fn concerns_one_connection(error: &io::Error) -> bool {
    !matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EBADF | libc::EINVAL) | None
    )
}

async fn carry(client: TcpStream, _place: Place, target: SocketAddr, inside: Arc<StackSockets>) {
    match connect(target, &inside).await {
        Ok(server) => {
            // We pass on what we get when we get it; whether to wait for more is for the two ends to say.
            let _ = client.set_nodelay(true).and_then(|()| server.set_nodelay(true));
            if let Err(error) = relay(client, server).await {
                debug!(%target, %error, "connection broke");
            }
        }
        Err(error) => {
            debug!(%target, %error, "nobody answers, resetting the connection");
            reset(&client);
        }
    }
}

async fn connect(target: SocketAddr, inside: &StackSockets) -> io::Result<TcpStream> {
    TcpSocket::from_std_stream(inside.take()?.into()).connect(target).await
}
