//! Handing descriptors to another process over a Unix socket (unix(7), SCM_RIGHTS), and having some left.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::socket::{ControlMessage, MsgFlags, sendmsg},
};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};

/// How many descriptors one message can carry: SCM_MAX_FD of the kernel.
pub const MAX_FDS: usize = 253;

/// So many numbers are kept for what this process does for itself, or a quarter of all where there are few.
const KEPT: u64 = 256;

/// Whether a descriptor that somebody else has made this process open, such as a connection that came in, may stay open:
/// EMFILE when it may not, since the rest is kept for what the process does for itself.
///
/// A new descriptor has the lowest number that is free (open(2)). So as long as those of others have to be below a line, what
/// is above it is there for us, however many they want.
///
/// # Errors
/// EMFILE.
pub fn may_stay<T: AsFd>(fd: T) -> io::Result<T> {
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let line = most - KEPT.min(most / 4);
    match u64::try_from(fd.as_fd().as_raw_fd()) {
        Ok(number) if number < line => Ok(fd),
        _ => Err(io::Error::from_raw_os_error(libc::EMFILE)),
    }
}

/// Sends `bytes`, with `fds` attached to the first of them; how many bytes were taken comes back.
///
/// # Errors
/// What sendmsg(2) says; EAGAIN on a non-blocking socket whose buffer is full (nothing was sent then), EPIPE when the
/// other side is gone. EMFILE when more descriptors are under way between processes of this user than this one may have open, which the
/// kernel has another word for (unix(7), ETOOMANYREFS), that tells nobody what to mend.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    let sent = sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None);
    Ok(sent.map_err(|e| if e == Errno::ETOOMANYREFS { Errno::EMFILE } else { e })?)
}

/// Waiting for room for descriptors that are to be sent.
///
/// The kernel counts those under way of all processes of a user, and lets nobody send one who may not have so many open. They
/// are under way for microseconds, unless somebody does not take what he is sent; nothing tells when one has arrived. So what
/// could not be sent is tried again, for a second in all.
#[derive(Debug, Default)]
pub struct Patience(u32);

impl Patience {
    const ATTEMPTS: u32 = 10;

    /// How long to wait before sending is tried again; none when `error` is another one, or it has been tried often enough.
    pub fn after(&mut self, error: &io::Error) -> Option<Duration> {
        if error.raw_os_error() != Some(libc::EMFILE) || self.0 >= Self::ATTEMPTS {
            return None;
        }
        self.0 += 1;
        Some(Duration::from_millis(1 << (self.0 - 1)))
    }
}

/// A descriptor that this program was started with, by its number. The caller answers for nobody else in this process having
/// it: it is for `main`.
///
/// # Errors
/// EBADF when there is none of this number.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    if number < 3 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: looking at the flags of a number changes nothing, whether it is open or not.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, is no standard stream, and was so before this program began, hence nothing in here owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Receives bytes into `buffer` and the descriptors that came with them, closed on exec; 0 bytes is the end.
///
/// # Errors
/// What recvmsg(2) says; `InvalidData` when descriptors were lost because this process cannot open more.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    match receive_what_fits(socket, buffer)? {
        (n, fds, true) => Ok((n, fds)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "descriptors were lost: too many open files")),
    }
}

/// The same; whether all descriptors have come is the last word, and those that have are there.
///
/// # Errors
/// What recvmsg(2) says.
pub fn receive_what_fits(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>, bool)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    Ok((message.bytes, rights.flatten().collect(), !message.flags.contains(ReturnFlags::CTRUNC)))
}
