//! UDP: each client has a socket of its own into the stack, so that answers find their way back.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::UdpSocket,
    task::{AbortHandle, JoinSet},
    time::{Instant, timeout_at},
};

use crate::sys::Netns;

/// A client that neither sends nor gets anything for so long is forgotten, as connection tracking does it
/// (nf_conntrack_udp_timeout_stream is twice that).
const IDLE: Duration = Duration::from_secs(60);

/// Clients at a time; a flood of spoofed addresses must not take all descriptors.
const MAX_CLIENTS: usize = 1024;

/// Largest datagram.
const MAX_DATAGRAM: usize = 65_535;

struct Client {
    socket: Arc<UdpSocket>,
    answers: AbortHandle,
    used: Arc<std::sync::Mutex<Instant>>,
}

pub(super) async fn forward(socket: std::net::UdpSocket, target: SocketAddr, stack: Arc<Netns>) {
    let socket = match UdpSocket::from_std(socket) {
        Ok(socket) => Arc::new(socket),
        Err(error) => return tracing::error!(%error, "a port cannot be served"),
    };
    let mut clients: HashMap<SocketAddr, Client> = HashMap::new();
    let mut answers: JoinSet<SocketAddr> = JoinSet::new();
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        tokio::select! {
            received = socket.recv_from(&mut buffer) => {
                // An answer that could not be delivered comes back as an error of the next call.
                let Ok((n, from)) = received else { continue };
                if !clients.contains_key(&from) {
                    if clients.len() >= MAX_CLIENTS {
                        forget_oldest(&mut clients);
                    }
                    let opened = open(target, &stack).await;
                    let Ok(into) = opened.map(Arc::new) else { continue };
                    let used = Arc::new(std::sync::Mutex::new(Instant::now()));
                    let task = answer(socket.clone(), into.clone(), from, used.clone());
                    let client = Client { socket: into, answers: answers.spawn(task), used };
                    clients.insert(from, client);
                }
                if let Some(client) = clients.get(&from) {
                    touch(&client.used);
                    let _ = client.socket.send(&buffer[..n]).await;
                }
            }
            Some(idle) = answers.join_next() => {
                if let Ok(idle) = idle {
                    clients.remove(&idle);
                }
            }
        }
    }
}

fn forget_oldest(clients: &mut HashMap<SocketAddr, Client>) {
    let oldest = clients.iter().min_by_key(|(_, client)| last_used(&client.used)).map(|(address, _)| *address);
    if let Some(client) = oldest.and_then(|address| clients.remove(&address)) {
        client.answers.abort();
    }
}

fn touch(used: &std::sync::Mutex<Instant>) {
    *used.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Instant::now();
}

fn last_used(used: &std::sync::Mutex<Instant>) -> Instant {
    *used.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Hands answers back until there has been nothing for a while.
async fn answer(
    outside: Arc<UdpSocket>,
    inside: Arc<UdpSocket>,
    client: SocketAddr,
    used: Arc<std::sync::Mutex<Instant>>,
) -> SocketAddr {
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        let deadline = last_used(&used) + IDLE;
        match timeout_at(deadline, inside.recv(&mut buffer)).await {
            Ok(Ok(n)) => {
                touch(&used);
                let _ = outside.send_to(&buffer[..n], client).await;
            }
            // Nobody listens in the container yet; the client may try again.
            Ok(Err(_)) => tokio::task::yield_now().await,
            Err(_) if Instant::now() >= last_used(&used) + IDLE => return client,
            Err(_) => {}
        }
    }
}

async fn open(target: SocketAddr, stack: &Netns) -> io::Result<UdpSocket> {
    let any: SocketAddr =
        if target.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = stack.run(|| {
        let socket = std::net::UdpSocket::bind(any)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    })?;
    let socket = UdpSocket::from_std(socket)?;
    socket.connect(target).await?;
    Ok(socket)
}
