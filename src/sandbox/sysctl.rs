//! Settings of the kernel that a namespace has for itself.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::OwnedFd,
};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use super::error::{BringUpError, BringUpStep};

/// Writes them, in order, for the namespaces that the calling process is in: /proc/sys shows each what is its own.
///
/// # Errors
/// When /proc is no procfs, or with what the kernel says to a value.
pub(super) fn write<'a>(sysctls: impl IntoIterator<Item = (&'a String, &'a String)>) -> Result<(), BringUpError> {
    let mut root: Option<OwnedFd> = None;
    for (path, value) in sysctls {
        let failed = |e: io::Error| BringUpStep::Sysctl(path.replace('/', "."), value.clone()).failed(e);
        let root = match &root {
            Some(root) => root,
            None => root.insert(open_root().map_err(failed)?),
        };
        set(root, path, value).map_err(failed)?;
    }
    Ok(())
}

/// The root of the settings. What is written there must not end up in a file that somebody has mounted in its place.
fn open_root() -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat2(CWD, "/proc/sys", flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)?;
    match rustix::fs::fstatfs(&root)?.f_type {
        rustix::fs::PROC_SUPER_MAGIC => Ok(root),
        _ => Err(io::Error::from_raw_os_error(libc::ENOSYS)),
    }
}

fn set(root: &OwnedFd, path: &str, value: &str) -> io::Result<()> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let file = rustix::fs::openat2(root, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    // In one write: the kernel takes each for a value of its own.
    let written = File::from(file).write(value.as_bytes())?;
    if written == value.len() { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EINVAL)) }
}
