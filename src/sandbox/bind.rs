//! Clones of what is mounted somewhere, to be mounted in a container.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use nix::sched::{CloneFlags, setns};
use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags},
    mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags},
};

use super::{
    error::{BringUpError, BringUpStep},
    keeper::helper,
};
use crate::{
    model::{Propagation, Submounts},
    sys::mount::{MountAttributes, NODEV, PRIVATE, RDONLY, set_attributes},
};

/// How something is cloned.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Binding<'a> {
    /// Only this part of it, looked up inside of it.
    pub(super) subpath: Option<&'a Path>,
    /// Nothing can be written through it.
    pub(super) read_only: bool,
    /// What becomes of the mounts below it.
    pub(super) submounts: Submounts,
    /// Whether mounts that are made below later are seen on the other side.
    pub(super) propagation: Propagation,
    /// Its files have the ids of this user namespace where their file system can do that; what cannot shows them as they are.
    pub(super) id_map: Option<BorrowedFd<'a>>,
    /// The mount namespace whose mounts are meant, if it is not our own.
    pub(super) of: Option<BorrowedFd<'a>>,
}

/// A clone of whatever is at `path`, with everything mounted below it, attached nowhere, for nobody else to see into.
pub(super) fn bind(path: &Path) -> io::Result<OwnedFd> {
    bind_as(path, Binding::default())
}

/// A clone of whatever is at `path`, attached nowhere.
///
/// # Errors
/// EINVAL where mounts below are to be left out that the machine's root has made: what they cover is not for others.
pub(super) fn bind_as(path: &Path, binding: Binding<'_>) -> io::Result<OwnedFd> {
    let tree = match binding.of {
        None => clone(path, &binding)?,
        // In a process of its own: setns(2) takes root and working directory along.
        Some(namespace) => {
            let failed = |e: io::Error| BringUpStep::MountSource(path.to_owned()).failed(e);
            let work = || {
                setns(namespace, CloneFlags::CLONE_NEWNS).map_err(|e| failed(e.into()))?;
                Ok(((), vec![clone(path, &binding).map_err(failed)?]))
            };
            let raw = |error: BringUpError| io::Error::from_raw_os_error(error.errno);
            let ((), trees) = helper(CloneFlags::empty(), None, |_| Ok(()), work).map_err(raw)?;
            trees.into_iter().next().ok_or(io::ErrorKind::NotFound)?
        }
    };
    if let Some(id_map) = binding.id_map {
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
    let propagation = if binding.propagation == Propagation::Private { PRIVATE } else { 0 };
    let all = MountAttributes { set: NODEV, propagation, recursive: true, ..MountAttributes::default() };
    set_attributes(tree.as_fd(), all)?;
    if binding.read_only {
        read_only(tree.as_fd(), binding.submounts)?;
    }
    Ok(tree)
}

/// From here on nothing can be written through `mount`, nor through what is mounted below it, unless that is to stay as it is.
pub(super) fn read_only(mount: BorrowedFd<'_>, submounts: Submounts) -> io::Result<()> {
    let recursive = submounts != Submounts::Writable;
    set_attributes(mount, MountAttributes { set: RDONLY, recursive, ..MountAttributes::default() })
}

fn clone(path: &Path, binding: &Binding<'_>) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if binding.submounts != Submounts::Left {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let Some(subpath) = binding.subpath else { return Ok(rustix::mount::open_tree(CWD, path, flags)?) };
    // Whoever writes to the volume can put links there: they are resolved as if the volume were the root.
    let flags_of_whole = OFlags::PATH | OFlags::CLOEXEC | OFlags::DIRECTORY;
    let part = within(&rustix::fs::open(path, flags_of_whole, Mode::empty())?, subpath)?;
    Ok(rustix::mount::open_tree(&part, "", flags | OpenTreeFlags::AT_EMPTY_PATH)?)
}

/// A path in a folder, as if that were the root.
fn within(whole: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(whole, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // Something has been renamed or mounted, anywhere, while it was on its way up a `..` (openat2(2)).
            Err(rustix::io::Errno::AGAIN) => {}
            other => return Ok(other?),
        }
    }
}

/// A clone of a part of a mount that is attached nowhere, or of all of it, through which nothing can be written. It is on
/// `stage` for as long as that takes: before Linux 6.15, what is attached nowhere cannot be cloned.
pub(super) fn part_of(whole: &OwnedFd, part: Option<&Path>, stage: &Path) -> io::Result<OwnedFd> {
    std::fs::create_dir_all(stage)?;
    rustix::mount::move_mount(whole, "", CWD, stage, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    let cloned = bind_as(stage, Binding { subpath: part, read_only: true, ..Binding::default() });
    rustix::mount::unmount(stage, UnmountFlags::DETACH)?;
    cloned
}

/// A clone of the node of a device, which can be opened through it. `ours`: it is one of nscompose's own, on a file system
/// that shows no devices otherwise.
pub(super) fn device(path: &Path, ours: bool) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let node = rustix::mount::open_tree(CWD, path, flags)?;
    let clear = if ours { NODEV } else { 0 };
    set_attributes(node.as_fd(), MountAttributes { clear, propagation: PRIVATE, ..MountAttributes::default() })?;
    Ok(node)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        sync::atomic::{AtomicBool, Ordering},
    };

    use super::*;

    #[test]
    fn a_way_up_is_found_while_others_rename() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(dir.path().join("a/b")).expect("folders");
        fs::write(dir.path().join("a/file"), "").expect("a file");
        let whole = OwnedFd::from(fs::File::open(dir.path()).expect("there"));
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        fs::create_dir(&one).expect("a folder");
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let _ = fs::rename(&one, &other).and_then(|()| fs::rename(&other, &one));
                }
            });
            for _ in 0..20_000 {
                let found = within(&whole, Path::new("a/b/../../../a/b/../file"));
                over.fetch_or(found.is_err(), Ordering::Relaxed);
                found.expect("it is there");
            }
            over.store(true, Ordering::Relaxed);
        });
    }
}
