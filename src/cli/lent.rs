//! Our standard streams as a program in a container gets them: as they are, unless they are our terminal.
//!
//! Who has a terminal open can read what is typed on it, by whoever and for as long as it likes: a container that keeps a
//! descriptor of it, of however short a command, would read the passwords of the next one. So a terminal is never lent.

use std::{
    io::{self, IsTerminal},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe,
    task::JoinSet,
};

use super::{
    terminal::write_all,
    typed::{InBackground, typed},
};

/// What is lent, and the pipes in the place of our terminal.
pub(super) struct Lent {
    streams: Vec<OwnedFd>,
    typed: Option<pipe::Sender>,
    shown: JoinSet<()>,
}

impl Lent {
    /// Prepares the three streams. To be called on a runtime.
    ///
    /// # Errors
    /// What pipe(2) says.
    pub(super) fn new() -> io::Result<Self> {
        let mut lent = Self { streams: Vec::new(), typed: None, shown: JoinSet::new() };
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        let input = if stdin.is_terminal() {
            let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
            rustix::io::ioctl_fionbio(&ours, true)?;
            lent.typed = Some(pipe::Sender::from_owned_fd(ours)?);
            theirs
        } else {
            stdin.as_fd().try_clone_to_owned()?
        };
        lent.streams.push(input);
        lent.output(stdout.as_fd(), stdout.is_terminal())?;
        lent.output(stderr.as_fd(), stderr.is_terminal())?;
        Ok(lent)
    }

    fn output(&mut self, stream: BorrowedFd<'_>, is_terminal: bool) -> io::Result<()> {
        let to = stream.try_clone_to_owned()?;
        if !is_terminal {
            self.streams.push(to);
            return Ok(());
        }
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        let mut from = pipe::Receiver::from_owned_fd(ours)?;
        self.streams.push(theirs);
        self.shown.spawn(async move {
            let mut buffer = vec![0; 16 * 1024];
            while let Ok(n @ 1..) = from.read(&mut buffer).await {
                if write_all(to.as_fd(), &buffer[..n]).is_err() {
                    return;
                }
            }
        });
        Ok(())
    }

    /// What to hand on.
    pub(super) fn streams(&self) -> Vec<BorrowedFd<'_>> {
        self.streams.iter().map(AsFd::as_fd).collect()
    }

    /// Lets go of what has been handed on, and passes on what is typed.
    pub(super) fn handed_on(&mut self) {
        self.streams.clear();
        if let Some(typed) = self.typed.take() {
            pass_on(typed);
        }
    }

    /// Waits for the last of the output. Something that the command has left behind may keep the pipes open; it is not waited
    /// for.
    pub(super) async fn finish(mut self) {
        let all = async { while self.shown.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(Duration::from_millis(500), all).await;
    }
}

/// Passes on what is typed.
fn pass_on(mut to: pipe::Sender) {
    let mut queue = typed(InBackground::Ends);
    tokio::spawn(async move {
        while let Some(bytes) = queue.recv().await {
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
}
