//! Clones of what is mounted somewhere, to be mounted in a container.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::mount::OpenTreeFlags;

use crate::sys::mount::{MountAttributes, NODEV, RDONLY, set_attributes};

/// A clone of whatever is at `path`, with everything mounted below it, attached nowhere. Its files have the ids of
/// `id_map` where their file system can do that; what cannot shows them as they are.
pub(super) fn bind(path: &Path, read_only: bool, id_map: Option<BorrowedFd<'_>>) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let tree = rustix::mount::open_tree(rustix::fs::CWD, path, flags)?;
    if let Some(id_map) = id_map {
        let all = MountAttributes { id_map: Some(id_map), recursive: true, ..MountAttributes::default() };
        let mapped = set_attributes(tree.as_fd(), all)
            .or_else(|_| set_attributes(tree.as_fd(), MountAttributes { recursive: false, ..all }));
        match mapped {
            // EPERM: it is a mount that has a map already, and shows other owners than its files have.
            Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EPERM)) => {
                tracing::warn!(path = %path.display(), "its file system cannot show files with other owners");
            }
            other => other?,
        }
    }
    let set = NODEV | if read_only { RDONLY } else { 0 };
    set_attributes(tree.as_fd(), MountAttributes { set, recursive: true, ..MountAttributes::default() })?;
    Ok(tree)
}
