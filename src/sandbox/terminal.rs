//! A terminal of a container's own: made in its devpts, its controlling side sent out.

use std::{
    ffi::OsStr,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, Uid},
    mount::{MoveMountFlags, OpenTreeFlags},
    pty::OpenptFlags,
    termios::Winsize,
};

use super::keeper::wire;

/// Both sides of a pseudo terminal (pty(7)).
pub(super) struct Terminal {
    master: OwnedFd,
    slave: OwnedFd,
}

impl Terminal {
    /// Opens one with so many rows and columns, with the container's root as root. It becomes that of `uid`, who can open
    /// /dev/stdout and the like through it.
    pub(super) fn open((rows, columns): (u16, u16), uid: u32) -> io::Result<Self> {
        let master = rustix::fs::open("/dev/pts/ptmx", OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::pty::unlockpt(&master)?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&slave, size)?;
        rustix::fs::chownat(&slave, "", Some(Uid::from_raw(uid)), None, AtFlags::EMPTY_PATH)?;
        Ok(Self { master, slave })
    }

    /// Shows it as /dev/console, too.
    pub(super) fn be_console(&self) -> io::Result<()> {
        let name = rustix::pty::ptsname(&self.master, Vec::new())?;
        let name = Path::new(OsStr::from_bytes(name.to_bytes()));
        let tree =
            rustix::mount::open_tree(CWD, name, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
        let create = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let place = rustix::fs::open("/dev/console", create, Mode::from_raw_mode(0o600))?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        Ok(rustix::mount::move_mount(&tree, "", &place, "", flags)?)
    }

    /// Makes it the standard streams of the calling process, and sends its other side through `socket`.
    pub(super) fn take(self, socket: BorrowedFd<'_>) -> io::Result<()> {
        rustix::stdio::dup2_stdin(&self.slave)?;
        rustix::stdio::dup2_stdout(&self.slave)?;
        rustix::stdio::dup2_stderr(&self.slave)?;
        wire::send(socket, &(), &[self.master.as_fd()])
    }
}

/// Makes the terminal on standard input the controlling one of the calling process, which leads a session.
pub(super) fn control() -> io::Result<()> {
    Ok(rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?)
}
