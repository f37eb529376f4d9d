//! A terminal of a container's own: made in its devpts, its controlling side sent out.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, ResolveFlags, Uid},
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
        let master = multiplexer()?;
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
        // By what is open and not by its name, which could have come to mean something else (CVE-2025-52565).
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        let tree = rustix::mount::open_tree(&self.slave, "", flags)?;
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

/// Opens the multiplexer of the container's devpts, and nothing else: root of a container that may mount can have anything at
/// its place, such as a file of a FUSE server, which answers as it likes to the ioctls by which a terminal is opened. One of
/// them gives back the number of a descriptor, and this process has more of them than the container may.
fn multiplexer() -> io::Result<OwnedFd> {
    /// statfs(2) of devpts (linux/magic.h).
    const DEVPTS_SUPER_MAGIC: u32 = 0x1cd1;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let terminals = rustix::fs::open("/dev/pts", flags, Mode::empty())?;
    // The type differs among architectures, the numbers have 32 bits.
    if rustix::fs::fstatfs(&terminals)?.f_type as u32 != DEVPTS_SUPER_MAGIC {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    Ok(rustix::fs::openat2(&terminals, "ptmx", flags, Mode::empty(), resolve)?)
}

/// Makes the terminal on standard input the controlling one of the calling process, which leads a session.
pub(super) fn control() -> io::Result<()> {
    Ok(rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?)
}
