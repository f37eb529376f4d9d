//! Root file systems: overlays over the host, or over a folder, made detached with the rights of the keeper.

use std::{
    ffi::OsStr,
    fs, io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::DirBuilderExt, fs::MetadataExt, fs::PermissionsExt},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Access, Mode, OFlags},
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags},
};
use serde::{Deserialize, Serialize};

use super::error::{BringUpError, BringUpStep};
use crate::sys::mount::{MountAttributes, NODEV, RDONLY, set_attributes};

/// A file system of the host that belongs to its root, such as a /usr of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostMount {
    /// Where it is mounted.
    pub path: PathBuf,
}

/// Folders of a host's root that are hidden from containers: people's files, what runs now, and what is temporary.
pub(super) const HIDDEN: [(&str, u32); 5] =
    [("home", 0o755), ("root", 0o700), ("tmp", 0o1777), ("run", 0o755), ("var/tmp", 0o1777)];

/// Places whose mounts are part of a system rather than of what it is used for.
const SYSTEM_FOLDERS: [&str; 11] =
    ["/usr", "/var", "/opt", "/srv", "/etc", "/bin", "/sbin", "/lib", "/lib64", "/nix", "/gnu"];

/// File systems that hold files of a system.
const SYSTEM_TYPES: [&str; 11] =
    ["ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "bcachefs", "erofs", "squashfs", "overlay"];

/// The mounts that a copy-on-write view of the host consists of, `/` first, each before what lies below it. An overlay does
/// not see through to what is mounted inside its lower layer, hence one overlay for each.
///
/// # Errors
/// When /proc/self/mountinfo (proc_pid_mountinfo(5)) cannot be read.
pub fn host_mounts() -> io::Result<Vec<HostMount>> {
    Ok(parse_mounts(&fs::read_to_string("/proc/self/mountinfo")?))
}

fn parse_mounts(mountinfo: &str) -> Vec<HostMount> {
    let mut paths = vec![PathBuf::from("/")];
    for line in mountinfo.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let (Some(path), Some(kind)) = (before.split(' ').nth(4), after.split(' ').next()) else { continue };
        let path = unescape(path);
        let system = SYSTEM_FOLDERS.iter().any(|folder| path.starts_with(folder));
        let hidden = HIDDEN.iter().any(|(folder, _)| path.starts_with(Path::new("/").join(folder)));
        if system && !hidden && SYSTEM_TYPES.contains(&kind) && !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths.sort_by_key(|path| path.components().count());
    paths.into_iter().map(|path| HostMount { path }).collect()
}

/// Octal escapes of mountinfo: space, tab, newline and backslash.
fn unescape(text: &str) -> PathBuf {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let octal = (bytes[i] == b'\\').then(|| text.get(i + 1..i + 4)).flatten();
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(byte);
                i += 4;
            }
            None => {
                plain.push(bytes[i]);
                i += 1;
            }
        }
    }
    PathBuf::from(OsStr::from_bytes(&plain))
}

/// A layer of empty folders over the host's own, owned by root of the containers.
///
/// Without id-mapped mounts the host's root is nobody in a container, and nobody's folders cannot be written to, not even
/// their copies. The upper of two merged folders decides over owner and mode, so the folders in which services write get
/// a twin here. It is a file system of its own: an overlay refuses one of its layers inside another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skeleton {
    /// Where it is.
    pub path: PathBuf,
}

/// Folders that get twins, and how far down.
const TWINS: [(&str, usize); 6] = [("etc", 3), ("var", 3), ("opt", 1), ("srv", 1), ("usr/local", 2), ("mnt", 0)];

impl Skeleton {
    /// Makes the layer for the host's root in an empty folder, which should be in memory.
    ///
    /// # Errors
    /// What the kernel says about making folders there.
    pub fn make(path: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(path)?;
        for entry in fs::read_dir("/")?.flatten() {
            if entry.file_type()?.is_dir() {
                twin(&entry.path(), &path.join(entry.file_name()), 0)?;
            }
        }
        for (folder, depth) in TWINS {
            let host = Path::new("/").join(folder);
            if fs::symlink_metadata(&host).is_ok_and(|meta| meta.is_dir()) {
                fs::create_dir_all(path.join(folder))?;
                twin(&host, &path.join(folder), depth)?;
            }
        }
        Ok(Self { path: path.to_owned() })
    }
}

fn twin(host: &Path, twin_path: &Path, depth: usize) -> io::Result<()> {
    // What we cannot list stays as it is: merging it would make it unreadable as a whole.
    if rustix::fs::access(host, Access::READ_OK | Access::EXEC_OK).is_err() {
        return Ok(());
    }
    let meta = fs::metadata(host)?;
    match fs::create_dir(twin_path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => fs::set_permissions(twin_path, fs::Permissions::from_mode(meta.mode() & 0o7777 | 0o700))?,
    }
    if depth > 0 {
        for entry in fs::read_dir(host)?.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                twin(&entry.path(), &twin_path.join(entry.file_name()), depth - 1)?;
            }
        }
    }
    Ok(())
}

/// One overlay to make.
pub(super) struct Overlay<'a> {
    /// The folder that is shown.
    pub(super) lower: &'a Path,
    /// A layer over it.
    pub(super) skeleton: Option<&'a Skeleton>,
    /// Folder of the container that gets the writable layer, as `NAME` and `NAME.work`.
    pub(super) folder: &'a Path,
    pub(super) name: &'a str,
    /// Show the lower files with the ids of this user namespace; the writable layer has them as they are.
    pub(super) id_map: Option<BorrowedFd<'a>>,
    /// Who owns a new root of the writable layer, here.
    pub(super) owner: u32,
}

/// Folder of the keeper's private mount on which lower layers are attached for a moment.
const STAGE: &str = "stage";

impl Overlay<'_> {
    /// Makes the overlay, attached nowhere.
    pub(super) fn mount(&self, private: &Path) -> Result<OwnedFd, BringUpError> {
        let failed = |e: io::Error| BringUpStep::Root(self.lower.to_owned()).failed(e);
        self.make_upper().map_err(failed)?;
        let staged = match self.id_map {
            Some(id_map) => Staged::attach(self.lower, id_map, &private.join(STAGE)).map_err(failed)?,
            None => None,
        };
        let lower = match &staged {
            Some(staged) => staged.descriptor.as_fd().try_clone_to_owned(),
            None => open_path(self.lower),
        };
        let mount = lower.and_then(|lower| self.make(lower.as_fd()));
        drop(staged);
        mount.map_err(failed)
    }

    fn make(&self, lower: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        let folder = open_path(self.folder)?;
        // Short names through descriptors: an option may have 255 bytes only (fsconfig(2)), and no character in them needs
        // escaping.
        let lower = match self.skeleton {
            Some(skeleton) => {
                let skeleton = open_path(&skeleton.path)?;
                let both = format!("{}:{}", by_fd(skeleton.as_fd()), by_fd(lower));
                return self.create(&both, folder.as_fd());
            }
            None => by_fd(lower),
        };
        self.create(&lower, folder.as_fd())
    }

    fn create(&self, lower: &str, folder: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        let fs = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let folder = by_fd(folder);
        rustix::mount::fsconfig_set_string(&fs, "source", "nscompose")?;
        rustix::mount::fsconfig_set_string(&fs, "lowerdir", lower)?;
        rustix::mount::fsconfig_set_string(&fs, "upperdir", format!("{folder}/{}", self.name))?;
        rustix::mount::fsconfig_set_string(&fs, "workdir", format!("{folder}/{}.work", self.name))?;
        if !in_initial_user_namespace() {
            // trusted.* attributes, which overlayfs marks deletions with, are root's alone (Linux 5.11 has these instead).
            rustix::mount::fsconfig_set_flag(&fs, "userxattr")?;
        }
        rustix::mount::fsconfig_create(&fs)?;
        Ok(rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_NODEV)?)
    }

    fn make_upper(&self) -> io::Result<()> {
        let upper = self.folder.join(self.name);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(self.folder.join(format!("{}.work", self.name)))?;
        match fs::create_dir(&upper) {
            // A container that is started again goes on with what it wrote.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            other => other?,
        }
        // The root of the writable layer decides how the root of the container looks.
        let lower = fs::metadata(self.lower)?;
        let (uid, gid) = match self.id_map {
            // Ids beyond the mapping are nobody's in the container.
            Some(_) => [lower.uid(), lower.gid()].map(|id| self.owner + if id < 65_536 { id } else { 0 }).into(),
            None => (self.owner, self.owner),
        };
        std::os::unix::fs::chown(&upper, Some(uid), Some(gid))?;
        fs::set_permissions(&upper, fs::Permissions::from_mode(lower.mode() & 0o7777))
    }
}

/// A clone of a mount with mapped ids, attached where overlayfs finds it and taken away when dropped: a layer has to be
/// attached when the overlay is made, which then has a clone of its own.
struct Staged {
    descriptor: OwnedFd,
}

impl Staged {
    /// None when the file system does not do id-mapped mounts.
    fn attach(lower: &Path, id_map: BorrowedFd<'_>, stage: &Path) -> io::Result<Option<Self>> {
        fs::create_dir_all(stage)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = rustix::mount::open_tree(rustix::fs::CWD, lower, flags)?;
        match set_attributes(tree.as_fd(), MountAttributes { id_map: Some(id_map), ..MountAttributes::default() }) {
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => return Ok(None),
            other => other?,
        }
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(&tree, "", rustix::fs::CWD, stage, flags)?;
        Ok(Some(Self { descriptor: tree }))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(by_fd(self.descriptor.as_fd()), UnmountFlags::DETACH);
    }
}

fn open_path(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn by_fd(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Whether ids are those of the machine: the initial user namespace maps all of them onto themselves.
pub(super) fn in_initial_user_namespace() -> bool {
    fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| map.split_whitespace().eq(["0", "0", "4294967295"]))
}

/// Whether a copy-on-write view of `path` can show its files with other ids.
pub(super) fn can_map_ids(path: &Path, id_map: BorrowedFd<'_>) -> bool {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    rustix::mount::open_tree(rustix::fs::CWD, path, flags).is_ok_and(|tree| {
        set_attributes(tree.as_fd(), MountAttributes { id_map: Some(id_map), ..MountAttributes::default() }).is_ok()
    })
}

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
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
                tracing::warn!(path = %path.display(), "its file system cannot show files with other owners");
            }
            other => other?,
        }
    }
    let set = NODEV | if read_only { RDONLY } else { 0 };
    set_attributes(tree.as_fd(), MountAttributes { set, recursive: true, ..MountAttributes::default() })?;
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_the_system_are_told_from_the_rest() {
        let info = "1 0 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n\
            2 1 8:2 / /usr ro - ext4 /dev/sda2 rw\n\
            3 1 8:3 / /home rw - ext4 /dev/sda3 rw\n\
            4 1 0:1 / /proc rw - proc proc rw\n\
            5 1 0:2 / /var/tmp rw - tmpfs tmpfs rw\n\
            6 2 8:4 / /usr/my\\040share rw - xfs /dev/sda4 rw\n\
            7 1 0:5 / /boot rw - vfat /dev/sda5 rw\n";
        let paths: Vec<PathBuf> = parse_mounts(info).into_iter().map(|mount| mount.path).collect();
        assert_eq!(paths, [Path::new("/"), Path::new("/usr"), Path::new("/usr/my share")]);
    }
}
