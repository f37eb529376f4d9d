//! The program that the keeper runs: ours, on a mount of its own that nobody can write through.
//!
//! ```text
//! supervisor ──fork──▶ execveat(a detached, read-only clone of our own executable) ──▶ main ──▶ keeper_main
//! ```
//!
//! A program of a container can make the process that becomes it run /proc/self/exe once more, by being a script for that
//! interpreter, and so gets hold of the executable of whoever started it: written to, that would be run by the next who
//! calls it, outside (CVE-2019-5736). Whatever the keeper forks has the keeper's executable. On a mount that is read-only,
//! and in no mount namespace once its descriptor is closed, nobody can open it for writing or make it writable; root of the
//! machine would have to look for the file itself.
//!
//! What is more, the memory of a program belongs to the user namespace that it was executed in (ptrace(2), dumpable), here
//! that of the stack. So a keeper, its helpers and inits, which hide themselves, can be looked into from the stack's
//! namespace and above, and from no container, whatever capabilities that has.

use std::{
    env,
    ffi::{CStr, CString},
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::{
    fs::{MemfdFlags, Mode, OFlags, SealFlags},
    mount::OpenTreeFlags,
};

use super::{process, wire};
use crate::sys::{
    self,
    mount::{MountAttributes, RDONLY, set_attributes},
};

/// What the keeper is called as. It is no word of the command line: people call programs by other names.
pub(super) const NAME: &CStr = c"nsc-keeper";

/// This program calls [`keeper_main`] before it does anything else.
static ABLE: AtomicBool = AtomicBool::new(false);

/// Becomes the keeper if the process was started as one; otherwise remembers that this program can, and does nothing. To be
/// called first in `main`.
pub fn keeper_main() -> Option<ExitCode> {
    let mut arguments = env::args_os();
    if arguments.next().is_none_or(|name| name.as_encoded_bytes() != NAME.to_bytes()) {
        ABLE.store(true, Ordering::Relaxed);
        return None;
    }
    let number = arguments.next().and_then(|text| text.to_str()?.parse().ok());
    let Some(socket) = number.and_then(|number| sys::fds::inherited(number).ok()) else {
        return Some(ExitCode::from(2));
    };
    let Ok(Some((first, descriptors))) = wire::receive(socket.as_fd()) else { return Some(ExitCode::from(2)) };
    Some(process::keep(socket, first, descriptors))
}

/// Our own program as a descriptor to execute, through which nobody can write to it.
///
/// # Errors
/// When this is another program that only has ours in it, and when neither a mount nor a copy could be made.
pub(super) fn own_program() -> io::Result<OwnedFd> {
    if !ABLE.load(Ordering::Relaxed) {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "this program does not know how to become the keeper"));
    }
    mounted().or_else(|_| copied())
}

/// A clone of the mount that it is on, just of the one file, attached nowhere and read-only.
fn mounted() -> io::Result<OwnedFd> {
    // By its name, since /proc/self/exe leads to a mount of the namespace that this process has just left; but it has to be
    // the same file.
    let path = fs::read_link("/proc/self/exe")?;
    let file = rustix::fs::open(&path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let (named, running) = (File::from(file.try_clone()?).metadata()?, fs::metadata("/proc/self/exe")?);
    if (named.dev(), named.ino()) != (running.dev(), running.ino()) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let clone = rustix::mount::open_tree(&file, "", flags)?;
    set_attributes(clone.as_fd(), MountAttributes { set: RDONLY, ..MountAttributes::default() })?;
    Ok(clone)
}

/// A copy in memory that nobody can change any more: for one whose file is gone, as after an upgrade, or is mounted where this
/// process may not clone it.
fn copied() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Since Linux 6.3 the machine may want to be told that it is to be executed; before, it knows no such flag.
    let copy = match rustix::fs::memfd_create("nscompose", flags | MemfdFlags::EXEC) {
        Err(rustix::io::Errno::INVAL) => rustix::fs::memfd_create("nscompose", flags)?,
        other => other?,
    };
    let mut file = File::from(copy);
    io::copy(&mut File::open("/proc/self/exe")?, &mut file)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    // What is open for writing cannot be executed (ETXTBSY).
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(format!("/proc/self/fd/{}", file.as_raw_fd()), flags, Mode::empty())?;
    Ok(file)
}

/// The program that this process runs, to be executed once more: on the same mount, whatever has become of its file.
///
/// # Errors
/// What open(2) says.
pub(super) fn running() -> io::Result<OwnedFd> {
    // A link of its own kind, which leads to the file itself and asks no path (proc_pid_exe(5)).
    Ok(rustix::fs::open("/proc/self/exe", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

/// Executes `program` as `name`, such as that of the keeper, which is spoken to through `socket`; comes back only if that fails.
///
/// Inits in containers are forks of it, and everybody in there can read their command lines (proc_pid_cmdline(5)): where
/// things are on the host comes through the socket.
pub(super) fn execute(
    program: &OwnedFd,
    name: &CStr,
    socket: BorrowedFd<'_>,
    more: &[CString],
    environment: &[CString],
) -> io::Error {
    let run = || -> io::Result<std::convert::Infallible> {
        rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::empty())?;
        let mut arguments = vec![name.to_owned(), CString::new(socket.as_raw_fd().to_string())?];
        arguments.extend_from_slice(more);
        let flags = nix::fcntl::AtFlags::AT_EMPTY_PATH;
        Ok(nix::unistd::execveat(program, c"", &arguments, environment, flags)?)
    };
    match run() {
        Ok(never) => match never {},
        Err(error) => error,
    }
}
