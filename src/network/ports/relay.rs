//! Moves bytes between the two connections of a published TCP port, by splice(2): from socket to socket through a pipe,
//! without their coming by here.

use std::{io, os::fd::OwnedFd};

use nix::sys::socket::{setsockopt, sockopt};
use rustix::{
    net::{Shutdown, shutdown},
    pipe::{SpliceFlags, splice},
};
use tokio::{io::Interest, net::TcpStream};

use super::budget::{PIPE, Pipe};

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
    let mut buffer = Vec::new();
    loop {
        // A connection that is silent this way, as many are most of the time, needs neither a pipe nor a buffer.
        from.readable().await?;
        let open = match Pipe::take() {
            Some(pipe) => through_pipe(from, to, pipe).await?,
            None => through_buffer(from, to, &mut buffer).await?,
        };
        if !open {
            break;
        }
    }
    match shutdown(to, Shutdown::Write) {
        // It has been reset meanwhile, which whoever reads from it hears.
        Ok(()) | Err(rustix::io::Errno::NOTCONN) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Passes on what has come, until there is no more for now; whether more can come. The pipe is empty whenever it is filled, and has
/// something whenever it is emptied: so if the call would block, it is for the socket.
async fn through_pipe(from: &TcpStream, to: &TcpStream, pipe: Pipe) -> io::Result<bool> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    loop {
        let fill = || Ok(splice(from, None, &pipe.write, None, PIPE, flags)?);
        let mut left = match from.try_io(Interest::READABLE, fill) {
            Ok(left) => left,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                pipe.give_back();
                return Ok(true);
            }
            Err(error) => return Err(error),
        };
        if left == 0 {
            pipe.give_back();
            return Ok(false);
        }
        while left > 0 {
            let empty = || Ok(splice(&pipe.read, None, to, None, left, flags)?);
            left -= deliver(from, to, empty).await?;
        }
        // A connection that is never silent lets others have their turn.
        tokio::task::consume_budget().await;
    }
}

/// The same without a pipe, for which there are no descriptors.
async fn through_buffer(from: &TcpStream, to: &TcpStream, buffer: &mut Vec<u8>) -> io::Result<bool> {
    buffer.resize(BUFFER, 0);
    loop {
        let length = match from.try_read(buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        };
        if length == 0 {
            return Ok(false);
        }
        let mut rest = &buffer[..length];
        while !rest.is_empty() {
            let written = deliver(from, to, || to.try_write(rest)).await?;
            rest = &rest[written..];
        }
        tokio::task::consume_budget().await;
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
