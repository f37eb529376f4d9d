//! A published UDP port: a session for each client, with a socket of its own inside the stack.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    os::fd::AsRawFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nix::sys::socket::{MsgFlags, SockaddrStorage, connect, send};
use tokio::{
    net::UdpSocket,
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, sleep_until},
};
use tracing::debug;

use super::{
    budget::{self, Place},
    datagram::{self, Peer},
    stack_sockets::StackSockets,
};

/// How long a session outlives its last datagram, either way.
const IDLE: Duration = Duration::from_secs(60);
/// More clients than this at a time push out the one that has been silent longest, of those that have never been answered if
/// there are any.
const SESSIONS: usize = 1024;
/// How many answers one session may pass on before another gets its turn.
const TURN: usize = 64;
/// After an error on the published socket that is not about a datagram.
const PAUSE: Duration = Duration::from_millis(100);

/// The published socket and who uses it.
struct Outside {
    socket: Arc<UdpSocket>,
    sessions: Mutex<HashMap<Peer, Session>>,
}

/// A client's way in.
struct Session {
    inside: Arc<UdpSocket>,
    used: Arc<Mutex<Use>>,
    answers: AbortHandle,
    _place: Place,
}

/// What a session has been good for: the one that counts for least comes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Use {
    /// Whether the container has ever answered. Where nobody speaks to whoever asks, the client may not even be there:
    /// addresses of datagrams are easily forged.
    answered: bool,
    /// When the last datagram came by, either way.
    last: Instant,
}

/// Serves `socket` until `stop` changes or its sender is dropped, and then closes every session.
pub(super) async fn forward(
    socket: Arc<UdpSocket>,
    target: SocketAddr,
    inside: Arc<StackSockets>,
    mut stop: watch::Receiver<()>,
) {
    let outside = Arc::new(Outside { socket, sessions: Mutex::new(HashMap::new()) });
    let mut tasks = JoinSet::new();
    loop {
        let pass = |peer, data: &[u8]| pass_in(&outside, &mut tasks, target, &inside, peer, data);
        tokio::select! {
            _ = stop.changed() => break,
            received = datagram::receive(&outside.socket, pass) => match received {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!(%target, %error, "datagram dropped"),
                Err(error) => {
                    debug!(%target, %error, "cannot receive, waiting");
                    sleep(PAUSE).await;
                }
            },
        }
        // Whatever has ended: a session tells nobody else.
        while tasks.try_join_next().is_some() {}
    }
    tasks.shutdown().await;
}

/// Hands a datagram to the client's session, which begins with its first one.
fn pass_in(
    outside: &Arc<Outside>,
    tasks: &mut JoinSet<()>,
    target: SocketAddr,
    inside: &StackSockets,
    peer: Peer,
    data: &[u8],
) -> io::Result<()> {
    let mut sessions = lock(&outside.sessions);
    if !sessions.contains_key(&peer) {
        if sessions.len() >= SESSIONS {
            evict(&mut sessions);
        }
        let place = budget::place_now().or_else(|| {
            evict(&mut sessions);
            budget::place_now()
        });
        let place = place.ok_or(rustix::io::Errno::MFILE)?;
        let socket = inside.take()?;
        connect(socket.as_raw_fd(), &SockaddrStorage::from(target))?;
        let socket = Arc::new(UdpSocket::from_std(socket.into())?);
        let used = Arc::new(Mutex::new(Use { answered: false, last: Instant::now() }));
        let answers = tasks.spawn(pass_out(Arc::clone(outside), peer, Arc::clone(&socket), Arc::clone(&used)));
        sessions.insert(peer, Session { inside: socket, used, answers, _place: place });
    }
    if let Some(session) = sessions.get(&peer) {
        lock(&session.used).last = Instant::now();
        // Past the runtime, which would have to be told first that the socket is writable: it always is, or the
        // datagram is lost. A refusal is of an earlier datagram, when nobody listened yet.
        match send(session.inside.as_raw_fd(), data, MsgFlags::MSG_DONTWAIT) {
            Err(nix::Error::ECONNREFUSED) => {
                send(session.inside.as_raw_fd(), data, MsgFlags::MSG_DONTWAIT)?;
            }
            sent => {
                sent?;
            }
        }
    }
    Ok(())
}

fn evict(sessions: &mut HashMap<Peer, Session>) {
    let oldest = sessions.iter().min_by_key(|(_, session)| *lock(&session.used)).map(|(peer, _)| *peer);
    if let Some(session) = oldest.and_then(|peer| sessions.remove(&peer)) {
        session.answers.abort();
    }
}

/// Brings the answers of one session out, until it has been silent for long enough.
async fn pass_out(outside: Arc<Outside>, peer: Peer, inside: Arc<UdpSocket>, used: Arc<Mutex<Use>>) {
    loop {
        let end = lock(&used).last + IDLE;
        tokio::select! {
            _ = inside.readable() => {
                lock(&used).last = Instant::now();
                datagram::with_buffer(|buffer| {
                    for _ in 0..TURN {
                        match inside.try_recv(buffer) {
                            Ok(length) => {
                                lock(&used).answered = true;
                                // A client that has gone is none of the container's business.
                                let _ = datagram::answer(&outside.socket, &buffer[..length], &peer);
                            }
                            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                            // Nobody listens there, or not yet: what the client would be told by ICMP, if it asked.
                            Err(_) => {}
                        }
                    }
                });
            }
            () = sleep_until(end) => {
                let mut sessions = lock(&outside.sessions);
                if lock(&used).last + IDLE <= Instant::now() {
                    if sessions.get(&peer).is_some_and(|session| Arc::ptr_eq(&session.used, &used)) {
                        sessions.remove(&peer);
                    }
                    return;
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
