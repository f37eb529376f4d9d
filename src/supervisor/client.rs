//! The client's side of the control socket.

use std::{
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream as StdUnixStream,
    },
    thread,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Interest},
    net::{UnixStream, unix::OwnedWriteHalf},
    sync::mpsc,
};

use super::{Reply, Request, Snapshot};
use crate::{
    model::NetworkName,
    state::StackLayout,
    sys::{self, Netns},
};

/// How long a supervisor may take to say what there is; it does nothing in between that takes longer than a moment.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks what there is, without a runtime; none when the supervisor has gone.
///
/// # Errors
/// When it says something else, or nothing for a minute.
pub fn observe(mut stream: &StdUnixStream) -> io::Result<Option<Snapshot>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut request = serde_json::to_vec(&Request::Observe)?;
    request.push(b'\n');
    if stream.write_all(&request).is_err() {
        return Ok(None);
    }
    let mut line = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    // One reply is all that comes, so nothing behind it is lost.
    while line.last() != Some(&b'\n') {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(None),
            Ok(n) => line.extend_from_slice(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    match serde_json::from_slice(&line)? {
        Reply::Snapshot(snapshot) => Ok(Some(*snapshot)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "not an answer to what was asked")),
    }
}

/// Asks the supervisor of another stack for the namespace of a network that stacks share; none when it is not on it.
///
/// # Errors
/// When it cannot be reached, or says nothing for a while.
pub(super) fn shared_network(layout: &StackLayout, name: &NetworkName) -> io::Result<Option<Netns>> {
    let mut control = layout.connect()?;
    let (ours, theirs) = StdUnixStream::pair()?;
    ours.set_read_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(&Request::SharedNetwork(name.clone()))?;
    line.push(b'\n');
    let mut patience = sys::fds::Patience::default();
    let sent = loop {
        match sys::fds::send(control.as_fd(), &line, &[theirs.as_fd()]) {
            Ok(sent) => break sent,
            Err(e) => thread::sleep(patience.after(&e).ok_or(e)?),
        }
    };
    control.write_all(&line[sent..])?;
    // The answer to a supervisor that has ended is the end of the socket.
    drop(theirs);
    match sys::fds::receive(ours.as_fd(), &mut [0; 1])? {
        (0, _) => Ok(None),
        // It is on the network, and had no room for it on the way here.
        (_, came) if came.is_empty() => Err(io::Error::from_raw_os_error(libc::EMFILE)),
        (_, mut came) => Ok(came.pop().map(Netns::from_fd)),
    }
}

/// A connection to a supervisor.
#[derive(Debug)]
pub struct Connection {
    writer: OwnedWriteHalf,
    replies: mpsc::UnboundedReceiver<io::Result<Reply>>,
}

impl Connection {
    /// Takes a connected socket, on the current runtime.
    ///
    /// # Errors
    /// When it cannot be used without blocking.
    pub fn new(stream: StdUnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let (reader, writer) = UnixStream::from_std(stream)?.into_split();
        let (sender, replies) = mpsc::unbounded_channel();
        // A task of its own, so that waiting for a reply can be given up at any moment without losing a part of one.
        tokio::spawn(async move {
            let mut lines = BufReader::new(reader).lines();
            loop {
                let reply = match lines.next_line().await {
                    Ok(Some(line)) => serde_json::from_str(&line).map_err(io::Error::from),
                    Ok(None) => return,
                    Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return,
                    Err(e) => Err(e),
                };
                let broken = reply.is_err();
                if sender.send(reply).is_err() || broken {
                    return;
                }
            }
        });
        Ok(Self { writer, replies })
    }

    /// Sends a request, with descriptors if it needs any.
    ///
    /// # Errors
    /// EPIPE when the supervisor has gone, EMFILE when there is no room for descriptors.
    pub async fn send(&mut self, request: &Request, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(request)?;
        bytes.push(b'\n');
        let stream: &UnixStream = self.writer.as_ref();
        let mut patience = sys::fds::Patience::default();
        let mut sent = 0;
        while sent < bytes.len() {
            let fds = if sent == 0 { fds } else { &[] };
            let sending = stream.async_io(Interest::WRITABLE, || sys::fds::send(stream.as_fd(), &bytes[sent..], fds));
            match sending.await {
                Ok(n) => sent += n,
                Err(e) => tokio::time::sleep(patience.after(&e).ok_or(e)?).await,
            }
        }
        Ok(())
    }

    /// Tells the supervisor that no more requests will come; replies still do.
    pub async fn hang_up(&mut self) {
        let _ = self.writer.shutdown().await;
    }

    /// The next reply; none when the supervisor has gone.
    ///
    /// # Errors
    /// What read(2) says, or that the reply is not one.
    pub async fn next(&mut self) -> io::Result<Option<Reply>> {
        self.replies.recv().await.transpose()
    }
}
