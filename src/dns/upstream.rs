//! Questions that are not the stack's business, asked of the host's resolvers as they came.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use super::answer::{Transport, belongs_to};

/// How long one resolver may take before the next is asked. Resolvers of the C library give up after five seconds.
const PATIENCE: Duration = Duration::from_millis(1500);

/// How many resolvers are asked, as in resolv.conf(5).
const RESOLVERS: usize = 3;

/// Asks resolvers in their order until one answers.
#[derive(Debug, Clone)]
pub struct Upstream {
    resolvers: Vec<SocketAddr>,
}

impl Upstream {
    /// The resolvers to ask; of more than three, the first three.
    pub fn new(resolvers: &[SocketAddr]) -> Self {
        Self { resolvers: resolvers.iter().take(RESOLVERS).copied().collect() }
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
                    Transport::Udp => over_udp(*resolver, &asked).await,
                    Transport::Tcp => over_tcp(*resolver, &asked).await,
                }
            };
            match timeout(PATIENCE, answer).await {
                Ok(Ok(mut answer)) => {
                    answer[..2].copy_from_slice(&question[..2]);
                    return Some(answer);
                }
                Ok(Err(error)) => tracing::debug!(%resolver, %error, "a resolver cannot be asked"),
                Err(_) => tracing::debug!(%resolver, "a resolver does not answer"),
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

async fn over_udp(resolver: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any: SocketAddr =
        if resolver.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { (std::net::Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).await?;
    // From then on the kernel takes packets of that resolver only, and tells when nobody listens there.
    socket.connect(resolver).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if belongs_to(&buffer[..length], question) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn over_tcp(resolver: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(resolver).await?;
    let length = u16::try_from(question.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    if belongs_to(&answer, question) { Ok(answer) } else { Err(io::ErrorKind::InvalidData.into()) }
}
