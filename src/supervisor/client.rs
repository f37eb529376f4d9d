//! The client's side of the control socket.

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream as StdUnixStream,
    },
};

use tokio::{
    io::{AsyncBufReadExt, BufReader, Interest},
    net::UnixStream,
};

use super::{Reply, Request};
use crate::sys;

/// A connection to a supervisor.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<UnixStream>,
}

impl Connection {
    /// Takes a connected socket, on the current runtime.
    ///
    /// # Errors
    /// When it cannot be used without blocking.
    pub fn new(stream: StdUnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream: BufReader::new(UnixStream::from_std(stream)?) })
    }

    /// Sends a request, with descriptors if it needs any.
    ///
    /// # Errors
    /// EPIPE when the supervisor has gone.
    pub async fn send(&mut self, request: &Request, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(request)?;
        bytes.push(b'\n');
        let stream = self.stream.get_ref();
        let mut sent = 0;
        while sent < bytes.len() {
            let fds = if sent == 0 { fds } else { &[] };
            sent += stream.async_io(Interest::WRITABLE, || sys::fds::send(stream.as_fd(), &bytes[sent..], fds)).await?;
        }
        Ok(())
    }

    /// The next reply; none when the supervisor has gone. Dropping the future between two replies loses nothing only if no
    /// part of a reply has come, so use it in a loop of its own or until it is done.
    ///
    /// # Errors
    /// What read(2) says, or that the reply is not one.
    pub async fn next(&mut self) -> io::Result<Option<Reply>> {
        let mut line = String::new();
        match self.stream.read_line(&mut line).await {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(serde_json::from_str(&line)?)),
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            Err(e) => Err(e),
        }
    }
}
