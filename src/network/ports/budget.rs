//! How many descriptors published ports may hold at a time: connections of strangers must not take those that the supervisor needs
//! to restart a service or to answer a command.

use std::sync::{
    LazyLock, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};
use std::{io, os::fd::OwnedFd};

use rustix::{
    pipe::{PipeFlags, fcntl_setpipe_size, pipe_with},
    process::{Resource, getrlimit},
};
use tokio::sync::{Semaphore, SemaphorePermit};
use tracing::warn;

/// So many descriptors are for everything else, if there are twice as many.
const RESERVE: usize = 1024;
/// More is never asked for: what a semaphore can count is less than what a limit can say.
const MOST: usize = 1 << 20;
/// Empty pipes that are kept for whoever needs one next.
const SPARE: usize = 16;
/// What a pipe shall hold, in bytes. A user's pipes together hold 64 MiB (`pipe-user-pages-soft`, pipe(7)); beyond that they stay as
/// they are made.
pub(super) const PIPE: usize = 256 * 1024;

/// How many connections, and how many pipes, so many descriptors are enough for. A connection is two of them, and each of its
/// directions has a pipe, two more, while bytes are on their way.
fn shares(descriptors: usize) -> (usize, usize) {
    let rest = descriptors.min(MOST) - RESERVE.min(descriptors / 2);
    ((rest / 3).max(1), rest / 6)
}

static SHARES: LazyLock<(usize, usize)> =
    LazyLock::new(|| shares(getrlimit(Resource::Nofile).current.map_or(MOST, |n| n.try_into().unwrap_or(MOST))));
static CONNECTIONS: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(SHARES.0));
/// It has been said that no place is left.
static FULL: AtomicBool = AtomicBool::new(false);
static PIPES: AtomicUsize = AtomicUsize::new(0);
static SPARES: Mutex<Vec<Pipe>> = Mutex::new(Vec::new());

/// The right to hold a connection or a session, until it is dropped.
pub(super) type Place = SemaphorePermit<'static>;

/// Waits for a place for a connection; who waits does not accept, and clients wait in the queue of the kernel.
pub(super) async fn place() -> io::Result<Place> {
    if let Some(place) = place_now() {
        FULL.store(false, Ordering::Relaxed);
        return Ok(place);
    }
    if !FULL.swap(true, Ordering::Relaxed) {
        warn!(connections = SHARES.0, "published ports have no place for more connections, which wait");
    }
    CONNECTIONS.acquire().await.map_err(io::Error::other)
}

/// A place, if there is one.
pub(super) fn place_now() -> Option<Place> {
    CONNECTIONS.try_acquire().ok()
}

/// The two ends of a pipe.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) read: OwnedFd,
    pub(super) write: OwnedFd,
}

impl Pipe {
    /// An empty one, if there are descriptors left for it.
    pub(super) fn take() -> Option<Self> {
        if let Some(pipe) = SPARES.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Some(pipe);
        }
        let more = |pipes| (pipes < SHARES.1).then_some(pipes + 1);
        PIPES.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        let Ok((read, write)) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK) else {
            PIPES.fetch_sub(1, Ordering::Relaxed);
            return None;
        };
        // A smaller one does as well.
        let _ = fcntl_setpipe_size(&write, PIPE);
        Some(Self { read, write })
    }

    /// Gives it back. It has to be empty.
    pub(super) fn give_back(self) {
        let mut spares = SPARES.lock().unwrap_or_else(PoisonError::into_inner);
        if spares.len() < SPARE {
            spares.push(self);
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        PIPES.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_is_left_for_everything_else() {
        for descriptors in [0, 1, 64, 1024, 4096, 524_288, usize::MAX] {
            let (connections, pipes) = shares(descriptors);
            let used = 2 * (connections + pipes);
            assert!(used <= descriptors.max(2), "{descriptors}: {connections} and {pipes}");
            assert!(descriptors < 4096 || descriptors - used >= RESERVE, "{descriptors}: {connections} and {pipes}");
        }
        assert!(shares(524_288).0 >= 100_000);
    }
}
