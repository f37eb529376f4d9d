//! Handing descriptors to another process over a Unix socket (unix(7), SCM_RIGHTS).

use std::{
    io::{self, IoSlice, IoSliceMut},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// How many descriptors one message can carry: SCM_MAX_FD of the kernel.
pub const MAX_FDS: usize = 253;

/// Sends `bytes`, with `fds` attached to the first of them; how many bytes were taken comes back.
///
/// # Errors
/// What sendmsg(2) says; EAGAIN on a non-blocking socket whose buffer is full (nothing was sent then), EPIPE when the
/// other side is gone.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    Ok(sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None)?)
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
    let mut space = nix::cmsg_space!([RawFd; MAX_FDS]);
    let mut iov = [IoSliceMut::new(buffer)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut iov, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = control {
            // SAFETY: the kernel has just opened these for this process, and nobody else has seen their numbers.
            fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    if message.flags.contains(MsgFlags::MSG_CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "descriptors were lost: too many open files"));
    }
    Ok((message.bytes, fds))
}
