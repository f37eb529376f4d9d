//! The sockets of one client.

use std::{
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{Semaphore, watch},
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};

use super::{
    HostServers, Zone,
    answer::{Transport, Verdict, answer, unanswered},
    upstream::Upstream,
};
use crate::{
    model::{RESOLVER, ServiceName},
    sys::{Netns, fds::may_stay},
};

/// Questions of one client that wait for a resolver at a time. Whoever asks more is told at once that it fails.
const PENDING: usize = 256;

/// Connections of one client at a time; more wait in the kernel.
const CONNECTIONS: usize = 64;

/// How long a connection may be silent (RFC 7766, 6.2.3: of the order of seconds).
const IDLE: Duration = Duration::from_secs(10);

/// The largest question that is taken over UDP: one larger than that is no question.
const QUESTION: usize = 4096;

/// After an error on a socket that is not about a packet, such as no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// Where servers find the zone of the moment.
pub type Directory = watch::Receiver<Arc<Zone>>;

/// The resolver of one network namespace; ends when it is dropped.
#[derive(Debug)]
pub struct Server {
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// What the tasks of a server share.
struct Shared {
    client: ServiceName,
    directory: Directory,
    host: Arc<HostServers>,
    turn: AtomicUsize,
    pending: Arc<Semaphore>,
    /// Where the client is.
    netns: Arc<Netns>,
}

impl Server {
    /// Answers at `sockets` whoever reaches them, which the zone knows as `client` and whose network namespace is `netns`.
    ///
    /// # Errors
    /// What epoll_ctl(2) says.
    pub fn start(
        sockets: Sockets,
        client: ServiceName,
        directory: Directory,
        host: Arc<HostServers>,
        netns: Arc<Netns>,
    ) -> io::Result<Self> {
        let udp = tokio::net::UdpSocket::from_std(UdpSocket::from(sockets.udp))?;
        let tcp = tokio::net::TcpListener::from_std(TcpListener::from(sockets.tcp))?;
        let pending = Arc::new(Semaphore::new(PENDING));
        let shared = Arc::new(Shared { client, directory, host, turn: AtomicUsize::new(0), pending, netns });
        let tasks = [tokio::spawn(datagrams(udp, shared.clone())), tokio::spawn(connections(tcp, shared))];
        Ok(Self { tasks })
    }
}

/// Where a server is asked: they belong to the network namespace of the thread that made them.
#[derive(Debug)]
pub struct Sockets {
    udp: OwnedFd,
    tcp: OwnedFd,
}

impl Sockets {
    /// Listens at [`RESOLVER`].
    ///
    /// # Errors
    /// What socket(2), bind(2) and listen(2) say: EADDRINUSE when somebody serves the port already.
    pub fn listen(port: u16) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let address = SockaddrStorage::from(SocketAddr::from((RESOLVER, port)));
        let open = |kind| -> io::Result<OwnedFd> {
            let socket = socket(AddressFamily::Inet, kind, flags, None)?;
            // Somebody in the container who uses the port of all addresses over UDP, and says the same, can have it.
            setsockopt(&socket, sockopt::ReuseAddr, &true)?;
            bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &address)?;
            Ok(socket)
        };
        let (udp, tcp) = (open(SockType::Datagram)?, open(SockType::Stream)?);
        listen(&tcp, Backlog::MAXCONN)?;
        Ok(Self { udp, tcp })
    }
}

impl Shared {
    fn answer(&self, packet: &[u8], transport: Transport) -> Verdict {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        answer(packet, &self.directory.borrow(), &self.client, turn, transport)
    }

    fn upstream(&self) -> Upstream {
        Upstream::of(&self.directory.borrow(), &self.client, &self.host, &self.netns)
    }
}

async fn datagrams(socket: tokio::net::UdpSocket, shared: Arc<Shared>) {
    let socket = Arc::new(socket);
    let mut waiting = JoinSet::new();
    let mut buffer = vec![0; QUESTION];
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received,
            Some(_) = waiting.join_next() => continue,
        };
        let (length, from) = match received {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, client = %shared.client, "cannot receive a question");
                sleep(PAUSE).await;
                continue;
            }
        };
        let question = &buffer[..length];
        match shared.answer(question, Transport::Udp) {
            Verdict::Ignore => {}
            Verdict::Reply(reply) => drop(socket.try_send_to(&reply, from)),
            Verdict::Forward => match shared.pending.clone().try_acquire_owned() {
                Err(_) => drop(unanswered(question).map(|reply| socket.try_send_to(&reply, from))),
                Ok(permit) => {
                    let (socket, question, upstream) = (socket.clone(), question.to_vec(), shared.upstream());
                    waiting.spawn(async move {
                        let reply = upstream.ask(&question, Transport::Udp).await;
                        if let Some(reply) = reply.or_else(|| unanswered(&question)) {
                            let _ = socket.send_to(&reply, from).await;
                        }
                        drop(permit);
                    });
                }
            },
        }
    }
}

async fn connections(listener: tokio::net::TcpListener, shared: Arc<Shared>) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if open.len() < CONNECTIONS => match accepted {
                // What is in there must not take what the stack itself needs.
                Ok((stream, _)) if may_stay(&stream).is_ok() => drop(open.spawn(connection(stream, shared.clone()))),
                Ok(_) => sleep(PAUSE).await,
                Err(error) => {
                    tracing::debug!(%error, client = %shared.client, "cannot accept a connection");
                    sleep(PAUSE).await;
                }
            },
            Some(_) = open.join_next() => {}
        }
    }
}

/// Questions of one connection, one after the other; it ends with the first thing that is none.
async fn connection(mut stream: tokio::net::TcpStream, shared: Arc<Shared>) -> io::Result<()> {
    loop {
        let mut question = Vec::new();
        let read = async {
            let length = stream.read_u16().await?;
            question.resize(usize::from(length), 0);
            stream.read_exact(&mut question).await
        };
        timeout(IDLE, read).await??;
        let reply = match shared.answer(&question, Transport::Tcp) {
            Verdict::Ignore => return Ok(()),
            Verdict::Reply(reply) => Some(reply),
            Verdict::Forward => match shared.pending.clone().try_acquire_owned() {
                Err(_) => unanswered(&question),
                Ok(_permit) => {
                    let reply = shared.upstream().ask(&question, Transport::Tcp).await;
                    reply.or_else(|| unanswered(&question))
                }
            },
        };
        let Some(reply) = reply else { return Ok(()) };
        let Ok(length) = u16::try_from(reply.len()) else { return Ok(()) };
        timeout(IDLE, stream.write_all(&[&length.to_be_bytes(), &reply[..]].concat())).await??;
    }
}
