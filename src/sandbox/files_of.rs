//! The files of a running container, as it sees them but for what is mounted on them.

use std::{io, os::fd::OwnedFd};

use rustix::mount::OpenTreeFlags;

use crate::sys::{Namespace, NamespaceKind, process};

/// Enters the user and mount namespaces of process `pid` and opens its root without the mounts on it: volumes, /proc and
/// the like. What stat(2) says of owners from then on is what the container sees. The calling process stays there, and has
/// to be single-threaded. Nobody in there can look into it (`sys::process::hide`).
///
/// An ordinary user may do that to containers of its own: it owns the user namespace that theirs is in
/// (user_namespaces(7), "Capabilities").
///
/// # Errors
/// ESRCH or ENOENT when the process has ended; EPERM when it is somebody else's.
pub fn enter_files_of(pid: i32) -> io::Result<OwnedFd> {
    // From inside, a container with rights over its user namespace and the host's processes before its eyes could take this
    // one over, with whatever it has open of the host.
    process::hide()?;
    let mount = Namespace::of_process(pid, NamespaceKind::Mnt)?;
    // The program may be in a further one, which has no rights over its mounts (`inner_ids.rs`).
    let user = mount.owner().or_else(|_| Namespace::of_process(pid, NamespaceKind::User))?;
    // A process cannot enter the user namespace that it is in (setns(2), EINVAL): one that the container shares with us.
    match user.enter() {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {}
        other => other?,
    }
    mount.enter()?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    Ok(rustix::mount::open_tree(rustix::fs::CWD, "/", flags)?)
}
