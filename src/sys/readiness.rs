//! Waiting for a descriptor on the runtime.

use std::{io, os::fd::OwnedFd};

use tokio::io::unix::AsyncFd;

/// A non-blocking descriptor that the current runtime waits for.
///
/// # Errors
/// EPERM for one that cannot be waited for, such as a regular file (epoll_ctl(2)).
pub fn wait_on(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` gives the same number every time and keeps it open until it is dropped, which `AsyncFd` does
    // only after it has taken it off the runtime.
    Ok(unsafe { AsyncFd::register(fd) }?)
}
