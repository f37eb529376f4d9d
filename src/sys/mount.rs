//! The part of the mount API that no library offers: mount_setattr(2).

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

/// What [`set_attributes`] changes.
#[derive(Debug, Clone, Copy, Default)]
pub struct MountAttributes<'a> {
    /// MOUNT_ATTR_* bits to set.
    pub set: u64,
    /// MOUNT_ATTR_* bits to clear.
    pub clear: u64,
    /// How mounts propagate from now on, or 0: [`PRIVATE`].
    pub propagation: u64,
    /// The user namespace whose id mapping the mount gets; only a detached mount takes one (Linux 5.12).
    pub id_map: Option<BorrowedFd<'a>>,
    /// Reach every mount below it too.
    pub recursive: bool,
}

/// Nothing can be written through the mount.
pub const RDONLY: u64 = libc::MOUNT_ATTR_RDONLY;
/// Nothing that is mounted below is seen on other mounts, nor the other way round (mount_namespaces(7)).
pub const PRIVATE: u64 = libc::MS_PRIVATE;
/// Device nodes cannot be opened through the mount.
pub const NODEV: u64 = libc::MOUNT_ATTR_NODEV;

/// Changes the mount whose root `mount` is (mount_setattr(2), Linux 5.12).
///
/// # Errors
/// EINVAL when the file system has no id-mapped mounts, or the mount has one already or is attached; EPERM when a
/// locked flag would be taken away or the caller lacks CAP_SYS_ADMIN over the file system.
pub fn set_attributes(mount: BorrowedFd<'_>, attributes: MountAttributes<'_>) -> io::Result<()> {
    let mut attr_set = attributes.set;
    if attributes.id_map.is_some() {
        attr_set |= libc::MOUNT_ATTR_IDMAP;
    }
    let attr = libc::mount_attr {
        attr_set,
        attr_clr: attributes.clear,
        propagation: attributes.propagation,
        userns_fd: attributes.id_map.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let flags = libc::AT_EMPTY_PATH | if attributes.recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a valid C string, `attr` outlives the call and has the size that is passed with it.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
