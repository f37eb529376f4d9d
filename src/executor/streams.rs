//! The standard streams of a running container, for those who attach to it.
//!
//! ```text
//! program ══ pipes or terminal ══▶ pump (logs.rs) ──▶ log file
//!    ▲                               └─ Listeners ──▶ one queue for each who is attached
//!    └──── pipe or terminal ◀── Input ◀── what they type
//! ```

use std::{
    collections::VecDeque,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use rustix::termios::{Winsize, tcsetwinsize};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{mpsc, watch},
};

use crate::{
    state::Stream,
    sys::{self, ExitStatus, PidFd},
};

/// How much may wait for somebody who is attached and does not read. Neither the service nor its log waits for him.
const LONGEST_QUEUE: usize = 8 * 1024 * 1024;

/// Who hears what a container writes. The pumps hold it: when they end, so do all queues.
#[derive(Default)]
pub(super) struct Listeners(Mutex<Vec<Listener>>);

struct Listener {
    queue: mpsc::UnboundedSender<(Stream, Vec<u8>)>,
    state: Arc<QueueState>,
}

/// What both ends of a queue know.
#[derive(Default)]
struct QueueState {
    bytes: AtomicUsize,
    overrun: AtomicBool,
}

impl Listeners {
    /// Hands on what was written.
    pub(super) fn tell(&self, stream: Stream, bytes: &[u8]) {
        let mut listeners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| {
            let waiting = listener.state.bytes.fetch_add(bytes.len(), Ordering::Relaxed);
            if waiting > LONGEST_QUEUE {
                listener.state.overrun.store(true, Ordering::Relaxed);
                return false;
            }
            listener.queue.send((stream, bytes.to_vec())).is_ok()
        });
    }

    fn listen(&self) -> Output {
        let (queue, output) = mpsc::unbounded_channel();
        let state = Arc::new(QueueState::default());
        let listener = Listener { queue, state: state.clone() };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(listener);
        Output { queue: Some(output), state }
    }
}

/// What a container writes from some moment on.
pub struct Output {
    queue: Option<mpsc::UnboundedReceiver<(Stream, Vec<u8>)>>,
    state: Arc<QueueState>,
}

impl Output {
    /// What it writes next; none when there will be no more.
    pub async fn next(&mut self) -> Option<(Stream, Vec<u8>)> {
        let next = self.queue.as_mut()?.recv().await;
        if let Some((_, bytes)) = &next {
            self.state.bytes.fetch_sub(bytes.len(), Ordering::Relaxed);
        }
        next
    }

    /// Whether more came than was read in time, and the rest was left out.
    pub fn was_overrun(&self) -> bool {
        self.state.overrun.load(Ordering::Relaxed)
    }
}

/// What there is to attach to.
#[derive(Clone, Default)]
pub(super) struct Streams {
    pub(super) listeners: Weak<Listeners>,
    /// Where its standard input comes from, if it stays open.
    pub(super) input: Option<Arc<AsyncFd<OwnedFd>>>,
    /// The controlling side of its terminal.
    pub(super) terminal: Option<Arc<AsyncFd<OwnedFd>>>,
}

impl Streams {
    /// Tells the programs on the terminal, if there is one, how large it is.
    pub(super) fn resize(&self, (rows, columns): (u16, u16)) {
        if let Some(terminal) = &self.terminal {
            let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
            let _ = tcsetwinsize(terminal.get_ref(), size);
        }
    }
}

/// A hold on a running container for somebody who is attached.
pub struct Attached {
    /// Its first process.
    pub pidfd: Arc<PidFd>,
    /// How it ended, once it has.
    pub exit: watch::Receiver<Option<ExitStatus>>,
    /// Whether that has been told, so that whoever asks next hears of it.
    pub told: watch::Receiver<bool>,
    streams: Streams,
}

impl Attached {
    /// What comes from now on is in the output.
    pub(super) fn new(
        streams: Streams,
        pidfd: Arc<PidFd>,
        exit: watch::Receiver<Option<ExitStatus>>,
        told: watch::Receiver<bool>,
    ) -> (Self, Output) {
        let none = || Output { queue: None, state: Arc::default() };
        let output = streams.listeners.upgrade().map_or_else(none, |listeners| listeners.listen());
        (Self { pidfd, exit, told, streams }, output)
    }

    /// Whether its streams are a terminal.
    pub fn has_terminal(&self) -> bool {
        self.streams.terminal.is_some()
    }

    /// Its standard input, if it stays open.
    pub fn input(&self) -> Option<Input> {
        self.streams.input.clone().map(Input)
    }

    /// Tells it how large its terminal is. The size in between makes it draw anew even if it was this large before.
    pub fn resize(&self, (rows, columns): (u16, u16), redraw: bool) {
        if redraw {
            self.streams.resize((rows.saturating_add(1), columns));
        }
        self.streams.resize((rows, columns));
    }
}

/// The standard input of a container.
pub struct Input(Arc<AsyncFd<OwnedFd>>);

impl Input {
    /// Writes all of it, as fast as it is read.
    ///
    /// # Errors
    /// EPIPE or EIO when nobody will read it any more.
    pub async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = self.0.async_io(Interest::WRITABLE, |fd| Ok(rustix::io::write(fd, bytes)?)).await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }
}

/// A descriptor that the runtime waits for.
pub(super) fn waited_for(fd: OwnedFd) -> io::Result<Arc<AsyncFd<OwnedFd>>> {
    rustix::io::ioctl_fionbio(&fd, true)?;
    Ok(Arc::new(sys::wait_on(fd)?))
}

/// What a container hands out on its way: its mount namespace, then the controlling side of its terminal.
pub(super) struct HandedOut {
    socket: AsyncFd<OwnedFd>,
    descriptors: VecDeque<OwnedFd>,
}

impl HandedOut {
    pub(super) fn through(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket: sys::wait_on(socket.into())?, descriptors: VecDeque::new() })
    }

    /// Waits for the next descriptor; none if the other side has gone, that is, something went wrong, or the program runs.
    pub(super) async fn next(&mut self) -> io::Result<Option<OwnedFd>> {
        // The messages themselves say nothing.
        let mut buffer = [0; 64];
        loop {
            if let Some(fd) = self.descriptors.pop_front() {
                return Ok(Some(fd));
            }
            let received =
                self.socket.async_io(Interest::READABLE, |s| sys::fds::receive(s.as_fd(), &mut buffer)).await?;
            match received {
                (0, fds) if fds.is_empty() => return Ok(None),
                (_, fds) => self.descriptors.extend(fds),
            }
        }
    }
}
