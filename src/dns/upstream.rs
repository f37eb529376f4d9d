//! Questions that are not the stack's business, asked of the host's resolvers as they came.

use std::{
    io,
    net::{SocketAddr, SocketAddrV6},
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, UdpSocket},
    time::timeout,
};

use super::{
    PORT, Upstreams, Zone,
    answer::{Transport, belongs_to},
};
use crate::{
    model::{HostResolver, ServiceName},
    sys::{Netns, fds::may_stay},
};

/// How long one resolver may take before the next is asked. Resolvers of the C library give up after five seconds.
const PATIENCE: Duration = Duration::from_millis(1500);

/// How many resolvers are asked, as in resolv.conf(5).
const RESOLVERS: usize = 3;

/// What the host says of resolvers.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// How the host finds names at this moment: resolv.conf(5). What cannot be read of it is left out.
pub fn host_resolver() -> HostResolver {
    let text = std::fs::read(RESOLV_CONF).unwrap_or_default();
    let Ok(config) = resolv_conf::Config::parse(&text) else { return HostResolver::default() };
    let servers = config.nameservers.iter().map(|server| {
        let address = std::net::IpAddr::from(server);
        match server {
            // An address of a link means nothing without it.
            resolv_conf::ScopedIp::V6(v6, Some(scope)) => {
                let scope = scope.parse().ok().or_else(|| nix::net::if_::if_nametoindex(scope.as_str()).ok());
                SocketAddr::V6(SocketAddrV6::new(*v6, PORT, 0, scope.unwrap_or(0)))
            }
            _ => (address, PORT).into(),
        }
    });
    let search = config.get_last_search_or_domain().filter(|domain| *domain != ".").map(|domain| domain.to_owned());
    HostResolver { servers: servers.collect(), search: search.collect() }
}

/// The name servers of the host, looked up anew when its file has changed: a laptop goes from network to network.
#[derive(Debug, Default)]
pub struct HostServers {
    known: Mutex<Option<(FileState, Vec<SocketAddr>)>>,
}

/// What tells one state of a file from the next: device, inode, seconds and nanoseconds of its last change.
type FileState = (u64, u64, i64, i64);

impl HostServers {
    fn current(&self) -> Vec<SocketAddr> {
        let state =
            std::fs::metadata(RESOLV_CONF).map(|m| (m.dev(), m.ino(), m.ctime(), m.ctime_nsec())).unwrap_or_default();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((seen, servers)) if *seen == state => servers.clone(),
            _ => {
                let servers = host_resolver().servers;
                *known = Some((state, servers.clone()));
                servers
            }
        }
    }
}

/// Asks resolvers in their order until one answers.
#[derive(Debug, Clone)]
pub(super) struct Upstream {
    resolvers: Vec<Resolver>,
}

/// Whom to ask.
#[derive(Debug, Clone)]
struct Resolver {
    address: SocketAddr,
    /// From where; none is the host.
    within: Option<Arc<Netns>>,
}

impl Upstream {
    /// The resolvers to ask; of more than three, the first three.
    ///
    /// What the file names is asked from where the client is if it is there: a service of the stack is a name server. On the
    /// host, the same address may be somebody else's, who would hear all that is asked.
    pub(super) fn of(zone: &Zone, client: &ServiceName, host: &HostServers, netns: &Arc<Netns>) -> Self {
        let resolvers = match zone.upstreams(client) {
            Upstreams::Nobody => Vec::new(),
            Upstreams::Host => {
                host.current().into_iter().map(|address| Resolver { address, within: None }).take(RESOLVERS).collect()
            }
            Upstreams::These(all) => {
                let within = |ip| zone.is_within(client, ip).then(|| netns.clone());
                let first = all.iter().take(RESOLVERS);
                first.map(|address| Resolver { address: *address, within: within(address.ip()) }).collect()
            }
        };
        Self { resolvers }
    }

    /// Passes `question` on and gives back the answer, its id the client's. None when nobody answers.
    ///
    /// Each question goes out from a socket, and so a port, of its own and with an id of its own: whoever wants to forge an
    /// answer has to guess both (RFC 5452).
    pub(super) async fn ask(&self, question: &[u8], transport: Transport) -> Option<Vec<u8>> {
        for resolver in &self.resolvers {
            let mut asked = question.to_vec();
            let id: [u8; 2] = fresh_id();
            asked.get_mut(..2)?.copy_from_slice(&id);
            let answer = async {
                match transport {
                    Transport::Udp => over_udp(resolver, &asked).await,
                    Transport::Tcp => over_tcp(resolver, &asked).await,
                }
            };
            match timeout(PATIENCE, answer).await {
                Ok(Ok(mut answer)) => {
                    answer[..2].copy_from_slice(&question[..2]);
                    return Some(answer);
                }
                Ok(Err(error)) => tracing::debug!(resolver = %resolver.address, %error, "a resolver cannot be asked"),
                Err(_) => tracing::debug!(resolver = %resolver.address, "a resolver does not answer"),
            }
        }
        None
    }
}

/// An id that cannot be guessed, from the kernel (getrandom(2)).
fn fresh_id() -> [u8; 2] {
    let mut id = [0; 2];
    // Two bytes come at once or not at all; zeros still have the random port.
    let _ = rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty());
    id
}

impl Resolver {
    /// A socket from which it can be asked. It gets a port that cannot be guessed when it is connected.
    fn socket(&self, kind: SockType) -> io::Result<OwnedFd> {
        let family = if self.address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let make = || Ok(socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?);
        may_stay(self.within.as_ref().map_or_else(make, |netns| netns.run(make))?)
    }
}

async fn over_udp(resolver: &Resolver, question: &[u8]) -> io::Result<Vec<u8>> {
    let socket = UdpSocket::from_std(resolver.socket(SockType::Datagram)?.into())?;
    // From then on the kernel takes packets of that resolver only, and tells when nobody listens there.
    socket.connect(resolver.address).await?;
    socket.send(question).await?;
    let mut answer = Vec::with_capacity(usize::from(u16::MAX));
    loop {
        answer.clear();
        socket.recv_buf(&mut answer).await?;
        if belongs_to(&answer, question) {
            return Ok(answer);
        }
    }
}

async fn over_tcp(resolver: &Resolver, question: &[u8]) -> io::Result<Vec<u8>> {
    let socket = TcpSocket::from_std_stream(resolver.socket(SockType::Stream)?.into());
    let mut stream = socket.connect(resolver.address).await?;
    let length = u16::try_from(question.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    if belongs_to(&answer, question) { Ok(answer) } else { Err(io::ErrorKind::InvalidData.into()) }
}
