//! Our terminal and one in a container, joined.

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::Arc,
    time::Duration,
};

use rustix::termios::{OptionalActions, Termios, Winsize, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};
use tokio::{
    io::{Interest, unix::AsyncFd},
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
};

use super::typed::{InBackground, typed};
use crate::sys;

/// Rows and columns of our terminal.
pub(super) fn size() -> (u16, u16) {
    let size = tcgetwinsize(io::stdout()).map(|size| (size.ws_row, size.ws_col)).unwrap_or_default();
    if size == (0, 0) { (24, 80) } else { size }
}

/// Our terminal passes everything on as it is until this is dropped.
pub(super) struct Raw(Termios);

impl Raw {
    pub(super) fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// Two terminals being joined.
pub(super) struct Relay {
    task: JoinHandle<io::Result<()>>,
}

impl Relay {
    /// Waits for the last of the output.
    pub(super) async fn finish(mut self) {
        // Something that the command has left behind may keep the terminal open; it is not waited for.
        if tokio::time::timeout(Duration::from_millis(500), &mut self.task).await.is_err() {
            self.task.abort();
            let _ = self.task.await;
        }
    }
}

/// Waits on `socket` for the other side of the container's terminal and joins it to ours.
pub(super) fn relay(socket: UnixStream) -> Relay {
    Relay { task: tokio::spawn(run(socket)) }
}

async fn run(socket: UnixStream) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let socket = sys::wait_on(socket.into())?;
    let mut buffer = [0; 64];
    let master: OwnedFd = loop {
        let received = socket.async_io(Interest::READABLE, |s| sys::fds::receive(s.as_fd(), &mut buffer)).await?;
        match received {
            (0, _) => return Ok(()),
            (_, fds) => {
                if let Some(fd) = fds.into_iter().next() {
                    break fd;
                }
            }
        }
    };
    let raw = Raw::begin()?;
    rustix::io::ioctl_fionbio(&master, true)?;
    let master = Arc::new(sys::wait_on(master)?);
    let input = spawn_input(master.clone());
    let mut resized = signal(SignalKind::window_change())?;
    let mut buffer = vec![0; 16 * 1024];
    let result = loop {
        tokio::select! {
            read = master.async_io(Interest::READABLE, |fd| Ok(rustix::io::read(fd, &mut buffer)?)) => match read {
                // EIO: the last process has closed the terminal (pty(7)).
                Ok(0) | Err(_) => break Ok(()),
                Ok(n) => write_all(io::stdout().as_fd(), &buffer[..n])?,
            },
            _ = resized.recv() => {
                let (rows, columns) = size();
                let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
                let _ = tcsetwinsize(master.get_ref(), size);
            }
        }
    };
    input.abort();
    drop(raw);
    result
}

/// Writes all of it to one of our streams, which may have been made not to wait by whoever shares it.
pub(super) fn write_all(stream: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(stream, bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => std::thread::sleep(Duration::from_millis(1)),
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Hands on what is typed.
fn spawn_input(master: Arc<AsyncFd<OwnedFd>>) -> JoinHandle<()> {
    let mut queue = typed(InBackground::Stops);
    tokio::spawn(async move {
        while let Some(bytes) = queue.recv().await {
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let written = master.async_io(Interest::WRITABLE, |fd| Ok(rustix::io::write(fd, rest)?)).await;
                let Ok(n) = written else { return };
                rest = &rest[n..];
            }
        }
    })
}
