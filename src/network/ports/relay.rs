//! Moves bytes between the two connections of a published TCP port, by splice(2): from socket to socket through a pipe,
//! without their coming by here.

use std::{io, os::fd::OwnedFd};

use nix::sys::socket::{setsockopt, sockopt};
use rustix::{
    net::{Shutdown, shutdown},
    pipe::{PipeFlags, SpliceFlags, pipe_with, splice},
};
use tokio::{io::Interest, net::TcpStream};

use crate::sys::fds::may_stay;

/// At most so much at a time: what a pipe holds unless it is told otherwise (pipe(7)).
const TURN: usize = 64 * 1024;

/// For a direction without a pipe: small, since there may be thousands.
const BUFFER: usize = 16 * 1024;

/// Moves bytes both ways until both are done. The end of one direction is passed on as such, with the other still open; a
/// side that reads slowly slows the other one down; a connection that breaks takes the other with it, by a reset.
///
/// # Errors
/// What the kernel said on either.
pub(super) async fn relay(outside: TcpStream, inside: TcpStream) -> io::Result<()> {
    let outcome = tokio::try_join!(one_way(&outside, &inside), one_way(&inside, &outside));
    if let Err(error) = outcome {
        reset(&outside);
        reset(&inside);
        return Err(error);
    }
    Ok(())
}

async fn one_way(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    // A connection that is silent this way, as many are, needs no pipe.
    from.readable().await?;
    let pipe = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(io::Error::from);
    match pipe.and_then(|(read, write)| Ok((may_stay(read)?, may_stay(write)?))) {
        Ok((read, write)) => through_pipe(from, to, &read, &write).await?,
        // No descriptors are left; what there is has to do.
        Err(_) => through_buffer(from, to).await?,
    }
    match shutdown(to, Shutdown::Write) {
        // It has been reset meanwhile, which whoever reads from it hears.
        Ok(()) | Err(rustix::io::Errno::NOTCONN) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// The pipe is empty whenever it is filled, and has something whenever it is emptied: so if the call would block, it is for the socket.
async fn through_pipe(from: &TcpStream, to: &TcpStream, read: &OwnedFd, write: &OwnedFd) -> io::Result<()> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    loop {
        let fill = || Ok(splice(from, None, write, None, TURN, flags)?);
        let mut left = from.async_io(Interest::READABLE, fill).await?;
        if left == 0 {
            return Ok(());
        }
        while left > 0 {
            let empty = || Ok(splice(read, None, to, None, left, flags)?);
            left -= deliver(from, to, empty).await?;
        }
    }
}

async fn through_buffer(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = from.async_io(Interest::READABLE, || from.try_read(&mut buffer)).await?;
        if length == 0 {
            return Ok(());
        }
        let mut rest = &buffer[..length];
        while !rest.is_empty() {
            let written = deliver(from, to, || to.try_write(rest)).await?;
            rest = &rest[written..];
        }
    }
}

/// Waits until `write` has written something to `to`, but not for longer than the connection that it came from is there:
/// somebody who does not read would hold what the one who has gone has left for ever.
async fn deliver(from: &TcpStream, to: &TcpStream, write: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    tokio::select! {
        biased;
        written = to.async_io(Interest::WRITABLE, write) => written,
        broken = from.ready(Interest::ERROR) => {
            broken?;
            Err(from.take_error()?.unwrap_or_else(|| io::ErrorKind::ConnectionReset.into()))
        }
    }
}

/// Seconds of silence before the kernel asks whether the peer is still there.
const SILENCE: u32 = 60;
/// Seconds between questions that stay without an answer.
const BETWEEN: u32 = 15;
/// How many of them there are before the connection is broken.
const QUESTIONS: u32 = 4;

/// Has the kernel find out when a peer has gone without a word (tcp(7), SO_KEEPALIVE), as a machine that is switched off or
/// a network that is left does. Who holds a connection only to pass it on has nothing of his own to notice it by.
///
/// # Errors
/// What setsockopt(2) says.
pub(super) fn notice_the_dead(socket: &OwnedFd) -> io::Result<()> {
    setsockopt(socket, sockopt::KeepAlive, &true)?;
    setsockopt(socket, sockopt::TcpKeepIdle, &SILENCE)?;
    setsockopt(socket, sockopt::TcpKeepInterval, &BETWEEN)?;
    Ok(setsockopt(socket, sockopt::TcpKeepCount, &QUESTIONS)?)
}

/// Makes the peer see a reset when the connection is dropped, and not an orderly end.
pub(super) fn reset(connection: &TcpStream) {
    // It is being given up either way.
    let _ = connection.set_zero_linger();
}
