//! What a user namespace of its own keeps from a container, kept from one without (`userns_mode: host`).
//!
//! In a user namespace, files of /proc that root of the machine may write to belong to nobody. Without, root of the container
//! is that root, and needs no capability for /proc/sys (proc_sys(5)) or /proc/sysrq-trigger. Hence these become read-only, and
//! what shows the kernel's memory or keys is covered, as Docker and runc do it for all their containers (moby
//! `oci/defaults.go`).
//!
//! These are mounts over a part of /proc: a user namespace that the container makes for itself cannot take them away, as they
//! are locked in it (mount_namespaces(7)), and cannot mount another /proc either, since the one that it sees is not whole.
//!
//! What holds without this file, for any container: /sys is read-only; every mount but those of single devices is `nodev`, so
//! that what mknod(2) makes opens nothing; and CAP_SYS_ADMIN, with which all of this could be undone, is not given.
//! **Whoever gives it (`cap_add`, `privileged`) has to know that a container with the host's users is root of the machine.**

use std::{io, os::fd::AsFd, path::Path};

use rustix::{
    fs::CWD,
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags},
};

use super::error::{BringUpError, BringUpStep};
use crate::sys::mount::{MountAttributes, RDONLY, set_attributes};

/// What can be looked at, and not changed.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What is covered, if it is there.
const COVERED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Protects the /proc and the /sys of the calling process, which is root in its new root.
pub(super) fn protect() -> Result<(), BringUpError> {
    for path in READ_ONLY {
        read_only(path).or_else(missing).map_err(|e| BringUpStep::Mount(path.into()).failed(e))?;
    }
    for path in COVERED {
        cover(path).or_else(missing).map_err(|e| BringUpStep::Mount(path.into()).failed(e))?;
    }
    Ok(())
}

fn missing(error: io::Error) -> io::Result<()> {
    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) { Ok(()) } else { Err(error) }
}

fn read_only(path: &str) -> io::Result<()> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    let tree = rustix::mount::open_tree(CWD, path, flags)?;
    set_attributes(tree.as_fd(), MountAttributes { set: RDONLY, recursive: true, ..MountAttributes::default() })?;
    Ok(rustix::mount::move_mount(&tree, "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

fn cover(path: &str) -> io::Result<()> {
    let cover = if std::fs::symlink_metadata(Path::new(path))?.is_dir() {
        let fs = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        rustix::mount::fsconfig_set_string(&fs, "mode", "755")?;
        rustix::mount::fsconfig_create(&fs)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?
    } else {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        rustix::mount::open_tree(CWD, "/dev/null", flags)?
    };
    Ok(rustix::mount::move_mount(&cover, "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}
