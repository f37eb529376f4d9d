//! The gate between a container that is ready and its program.
//!
//! ```text
//! container                       supervisor
//! mounts, user, descriptors done
//!        ──────── READY ────────▶ writes down that there is this container
//!        ◀─────── OPEN ────────── or the next supervisor, who finds that written down
//! program: the socket closes ───▶ it runs
//!      or an error ─────────────▶ it does not
//! ```
//!
//! So a program has run if, and only if, it is written down that it has, whenever the supervisor dies. Its end of the
//! socket is kept by the keeper: who waits at the gate goes on waiting. When the keeper dies too it closes, and the
//! container ends without having run.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    os::unix::net::UnixStream as StdUnixStream,
};

use rustix::net::{RecvFlags, SendFlags};
use tokio::{
    io::AsyncReadExt,
    net::{UnixStream, unix::pipe},
};

use super::{BringUpError, BringUpStep, SandboxError};

/// The container says it. White space, so that it can stand before an error in JSON for whoever comes later.
const READY: u8 = b'\n';

/// The container hears it; again it means nothing.
const OPEN: u8 = b'\n';

/// The supervisor's side.
#[derive(Debug)]
pub struct Gate {
    socket: UnixStream,
    /// What has been read of an error.
    said: Vec<u8>,
}

impl Gate {
    /// A gate, and the end of its socket that the container gets.
    ///
    /// # Errors
    /// EMFILE, most likely.
    pub fn new() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = StdUnixStream::pair()?;
        Ok((Self::kept(ours.into())?, theirs.into()))
    }

    /// The gate whose end a keeper has kept.
    ///
    /// # Errors
    /// When the runtime cannot wait for it.
    pub fn kept(socket: OwnedFd) -> io::Result<Self> {
        let socket = StdUnixStream::from(socket);
        socket.set_nonblocking(true)?;
        Ok(Self { socket: UnixStream::from_std(socket)?, said: Vec::new() })
    }

    /// Our end once more, to be kept.
    ///
    /// # Errors
    /// EMFILE.
    pub fn to_keep(&self) -> io::Result<OwnedFd> {
        self.socket.as_fd().try_clone_to_owned()
    }

    /// Waits until the container is ready for its program.
    ///
    /// # Errors
    /// What went wrong on the way, or that it has ended.
    pub async fn ready(&mut self) -> Result<(), SandboxError> {
        let mut first = [0];
        let read = self.socket.read(&mut first).await.map_err(SandboxError::Talk)?;
        if first[..read] == [READY] {
            return Ok(());
        }
        self.said.extend(&first[..read]);
        self.rest().await?;
        Err(SandboxError::Ended)
    }

    /// Lets it run its program, and waits until it does.
    ///
    /// # Errors
    /// Why it does not; that it has ended also of one that has been let in before, and runs its program.
    pub async fn open(mut self) -> Result<(), SandboxError> {
        let sent = rustix::net::send(&self.socket, &[OPEN], SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        self.rest().await?;
        // EPIPE: it had ended by then.
        sent.map(drop).map_err(|_| SandboxError::Ended)
    }

    async fn rest(&mut self) -> Result<(), SandboxError> {
        match self.socket.read_to_end(&mut self.said).await {
            // It ended without having read what it was told (unix(7)).
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => {
                told(&self.said)?;
                Err(SandboxError::Ended)
            }
            read => read.map_err(SandboxError::Talk).and_then(|_| told(&self.said)),
        }
    }
}

/// Waits until the program runs of a process that has no gate: reads its status pipe, which closes without a word then.
///
/// # Errors
/// Why it does not run.
pub async fn runs(status: OwnedFd) -> Result<(), SandboxError> {
    let read = async {
        rustix::io::ioctl_fionbio(&status, true)?;
        let mut said = Vec::new();
        pipe::Receiver::from_owned_fd(status)?.read_to_end(&mut said).await?;
        Ok(said)
    };
    told(&read.await.map_err(SandboxError::Talk)?)
}

/// What a process has said on the way to its program: nothing if that runs.
fn told(said: &[u8]) -> Result<(), SandboxError> {
    if said.trim_ascii().is_empty() {
        return Ok(());
    }
    let error: BringUpError = serde_json::from_slice(said).map_err(|e| SandboxError::Talk(e.into()))?;
    Err(error.into())
}

/// The container's side: says that it is ready, and comes back when the gate has been opened.
pub(super) fn pass(socket: BorrowedFd<'_>) -> Result<(), BringUpError> {
    let failed = |e: rustix::io::Errno| BringUpStep::Internal("wait for its turn".into()).failed(e);
    rustix::net::send(socket, &[READY], SendFlags::NOSIGNAL).map_err(failed)?;
    let mut word = [0];
    loop {
        match rustix::net::recv(socket, &mut word[..], RecvFlags::empty()) {
            Ok((0, _)) => return Err(failed(rustix::io::Errno::PIPE)),
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(failed(e)),
        }
    }
}

/// The container's side: why it does not come to its program. With write(2), which its filter of system calls may be the last to forbid.
pub(super) fn tell(socket: BorrowedFd<'_>, error: &BringUpError) {
    let said = serde_json::to_vec(error).unwrap_or_default();
    let mut rest = &said[..];
    while !rest.is_empty() {
        match rustix::io::write(socket, rest) {
            Ok(sent) => rest = &rest[sent..],
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}
