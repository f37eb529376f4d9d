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

/// A copy-on-write view of the host's files: what it consists of, `/` first, each layer before what lies below it.
///
/// An overlay does not see through to what is mounted inside its lower layer, hence several of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostView {
    pub(super) layers: Vec<HostLayer>,
    /// Files are shown with the ids of the container.
    pub(super) mapped: bool,
}

/// One overlay of a view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HostLayer {
    /// Where it is in the container.
    pub(super) path: PathBuf,
    /// What it shows, the uppermost first.
    pub(super) lower: Vec<PathBuf>,
}

/// Folders of a host's root that are hidden from containers: people's files, what runs now, and what is temporary.
pub(super) const HIDDEN: [(&str, u32); 5] =
    [("/home", 0o755), ("/root", 0o700), ("/tmp", 0o1777), ("/run", 0o755), ("/var/tmp", 0o1777)];

/// Folders that a container has of its own.
const OWN: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Places whose mounts are part of a system rather than of what it is used for.
const SYSTEM_FOLDERS: [&str; 11] =
    ["/usr", "/var", "/opt", "/srv", "/etc", "/bin", "/sbin", "/lib", "/lib64", "/nix", "/gnu"];

/// File systems that hold files of a system.
const SYSTEM_TYPES: [&str; 12] =
    ["ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "bcachefs", "erofs", "squashfs", "overlay", "tmpfs"];

/// Folders in which services write, and how far down they get twins (see [`Skeleton`]).
const TWINS: [(&str, usize); 5] = [("/etc", 3), ("/var", 3), ("/opt", 1), ("/srv", 1), ("/usr/local", 2)];

impl HostView {
    /// Looks at what is mounted. With the user namespace of a container, the files are shown with its ids if their file
    /// systems can do that; else, and for an ordinary user, root's files are nobody's in it, and folders in which services
    /// write get twins in `skeleton`, an empty folder in memory.
    ///
    /// # Errors
    /// When /proc/self/mountinfo (proc_pid_mountinfo(5)) cannot be read, or the twins not be made.
    pub fn make(id_map: Option<BorrowedFd<'_>>, skeleton: &Path) -> io::Result<Self> {
        let mounts = parse_mounts(&fs::read_to_string("/proc/self/mountinfo")?);
        if let Some(id_map) = id_map {
            let layers: Vec<HostLayer> = system_mounts(&mounts)
                .into_iter()
                .map(|path| HostLayer { path: path.clone(), lower: vec![path] })
                .collect();
            if layers.iter().all(|layer| can_map_ids(&layer.path, id_map)) {
                return Ok(Self { layers, mapped: true });
            }
        }
        let mut skeleton = Skeleton { root: skeleton.to_owned(), mounts, layers: Vec::new() };
        skeleton.add_folder(Path::new("/"))?;
        for (folder, depth) in TWINS {
            let folder = Path::new(folder);
            // Not through a link: its target is shown as what it is.
            let is_folder = |path: &Path| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
            let parent = skeleton.inside(folder.parent().unwrap_or(folder));
            if is_folder(folder) && is_folder(&parent) {
                skeleton.twins(folder, depth)?;
            }
        }
        let root = HostLayer { path: "/".into(), lower: vec![skeleton.root.clone()] };
        Ok(Self { layers: [root].into_iter().chain(skeleton.layers).collect(), mapped: false })
    }
}

/// A mount by its place and the type of its file system.
#[derive(Debug, PartialEq, Eq)]
struct MountEntry {
    path: PathBuf,
    kind: String,
}

fn parse_mounts(mountinfo: &str) -> Vec<MountEntry> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let kind = after.split(' ').next()?.to_owned();
        Some(MountEntry { path: unescape(before.split(' ').nth(4)?), kind })
    });
    mounts.collect()
}

/// `/` and the mounts that belong to it, such as a /usr of its own.
fn system_mounts(mounts: &[MountEntry]) -> Vec<PathBuf> {
    let mut paths = vec![PathBuf::from("/")];
    for mount in mounts {
        let system = SYSTEM_FOLDERS.iter().any(|folder| mount.path.starts_with(folder));
        if system && !is_hidden(&mount.path) && is_system_type(mount) && !paths.contains(&mount.path) {
            paths.push(mount.path.clone());
        }
    }
    paths.sort_by_key(|path| path.components().count());
    paths
}

fn is_system_type(mount: &MountEntry) -> bool {
    SYSTEM_TYPES.contains(&mount.kind.as_str())
}

fn is_hidden(path: &Path) -> bool {
    HIDDEN.iter().map(|(folder, _)| folder).chain(&OWN).any(|folder| path.starts_with(folder))
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

/// The folders and links of the host's root, empty, and twins of the folders in which services write.
///
/// Two rules of the kernel make it necessary. Nobody's folders cannot be written to, not even their copies; but the upper
/// of two merged folders decides over owner and mode. And in the mount namespace of an ordinary user, what was mounted
/// before is locked in place: `/` without its mounts would show what they cover, so an overlay over it is refused
/// (EINVAL), while a folder without mounts below it can be had. It is a file system of its own, since an overlay refuses
/// one of its layers inside another.
struct Skeleton {
    root: PathBuf,
    mounts: Vec<MountEntry>,
    layers: Vec<HostLayer>,
}

impl Skeleton {
    fn inside(&self, host: &Path) -> PathBuf {
        self.root.join(host.strip_prefix("/").unwrap_or(host))
    }

    /// Adds an empty folder, and a layer over it for each folder in it; where something is mounted further down, that
    /// folder is added in the same way.
    fn add_folder(&mut self, host: &Path) -> io::Result<()> {
        self.twin(host)?;
        for entry in fs::read_dir(host)?.flatten() {
            let path = entry.path();
            let (Ok(kind), inside) = (entry.file_type(), self.inside(&path)) else { continue };
            if kind.is_symlink() {
                std::os::unix::fs::symlink(fs::read_link(&path)?, inside)?;
            } else if kind.is_dir() {
                let foreign = self.mounts.iter().any(|mount| mount.path == path && !is_system_type(mount));
                let readable = rustix::fs::access(&path, Access::READ_OK | Access::EXEC_OK).is_ok();
                if is_hidden(&path) || foreign || !readable {
                    fs::create_dir(inside)?;
                } else if self.mounts.iter().any(|mount| mount.path != path && mount.path.starts_with(&path)) {
                    self.add_folder(&path)?;
                } else {
                    self.twin(&path)?;
                    // What is empty needs no layer to show it.
                    if fs::read_dir(&path)?.next().is_some() {
                        self.layers.push(HostLayer { lower: vec![inside, path.clone()], path });
                    }
                }
            }
        }
        Ok(())
    }

    fn twins(&self, host: &Path, depth: usize) -> io::Result<()> {
        // What we cannot list stays as it is: merging it would make it unreadable as a whole.
        if rustix::fs::access(host, Access::READ_OK | Access::EXEC_OK).is_err() {
            return Ok(());
        }
        self.twin(host)?;
        if depth > 0 {
            for entry in fs::read_dir(host)?.flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) && !is_hidden(&entry.path()) {
                    self.twins(&entry.path(), depth - 1)?;
                }
            }
        }
        Ok(())
    }

    fn twin(&self, host: &Path) -> io::Result<()> {
        let inside = self.inside(host);
        let mode = fs::metadata(host)?.mode() & 0o7777 | 0o700;
        match fs::create_dir_all(&inside) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
            _ => fs::set_permissions(inside, fs::Permissions::from_mode(mode)),
        }
    }
}

/// One overlay to make.
pub(super) struct Overlay<'a> {
    /// The folders that are shown, the uppermost first.
    pub(super) lower: &'a [PathBuf],
    /// Folder of the container that gets the writable layer, as `NAME` and `NAME.work`.
    pub(super) folder: &'a Path,
    pub(super) name: &'a str,
    /// Show the lower files with the ids of this user namespace; the writable layer has them as they are.
    pub(super) id_map: Option<BorrowedFd<'a>>,
    /// First of the container's ids, here.
    pub(super) outside: u32,
}

/// Folder of the keeper's private mount on which lower layers are attached for a moment.
const STAGE: &str = "stage";

impl Overlay<'_> {
    /// Makes the overlay, attached nowhere.
    pub(super) fn mount(&self, private: &Path) -> Result<OwnedFd, BringUpError> {
        let failed = |e: io::Error| {
            let shown = self.lower.last().cloned().unwrap_or_default();
            BringUpStep::Root(shown).failed(e)
        };
        self.make_upper().map_err(failed)?;
        let mut staged = Vec::new();
        let mut lower = Vec::new();
        for path in self.lower {
            let attached = match self.id_map {
                Some(id_map) => Staged::attach(path, id_map, &private.join(STAGE)).map_err(failed)?,
                None => None,
            };
            match attached {
                Some(attached) => {
                    lower.push(attached.descriptor.try_clone().map_err(failed)?);
                    staged.push(attached);
                }
                None => lower.push(open_path(path).map_err(failed)?),
            }
        }
        self.create(&lower).map_err(failed)
    }

    fn create(&self, lower: &[OwnedFd]) -> io::Result<OwnedFd> {
        // Short names through descriptors: an option may have 255 bytes only (fsconfig(2)), and no character in them needs
        // escaping.
        let lower: Vec<String> = lower.iter().map(|fd| by_fd(fd.as_fd())).collect();
        let folder = open_path(self.folder)?;
        let folder = by_fd(folder.as_fd());
        let fs = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        rustix::mount::fsconfig_set_string(&fs, "source", "nscompose")?;
        rustix::mount::fsconfig_set_string(&fs, "lowerdir", lower.join(":"))?;
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
        match fs::create_dir(&upper) {
            // A container that is started again goes on with what it wrote.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            other => other?,
        }
        fs::DirBuilder::new().mode(0o700).create(self.folder.join(format!("{}.work", self.name)))?;
        // The root of the writable layer decides how the root of the container looks.
        let lower = fs::metadata(self.lower.first().ok_or(io::ErrorKind::InvalidInput)?)?;
        let (uid, gid) = match self.id_map {
            // Ids beyond the mapping are nobody's in the container.
            Some(_) => [lower.uid(), lower.gid()].map(|id| self.outside + if id < 65_536 { id } else { 0 }).into(),
            None => (self.outside, self.outside),
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
pub fn in_initial_user_namespace() -> bool {
    fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| map.split_whitespace().eq(["0", "0", "4294967295"]))
}

/// Whether a copy-on-write view of `path` can show its files with other ids.
fn can_map_ids(path: &Path, id_map: BorrowedFd<'_>) -> bool {
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

    const INFO: &str = "1 0 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n\
        2 1 8:2 / /usr ro - ext4 /dev/sda2 rw\n\
        3 1 8:3 / /home rw - ext4 /dev/sda3 rw\n\
        4 1 0:1 / /proc rw - proc proc rw\n\
        5 1 0:2 / /var/tmp rw - tmpfs tmpfs rw\n\
        6 2 8:4 / /usr/my\\040share rw - xfs /dev/sda4 rw\n\
        7 1 0:5 / /boot rw - vfat /dev/sda5 rw\n";

    #[test]
    fn mounts_of_the_system_are_told_from_the_rest() {
        let paths = system_mounts(&parse_mounts(INFO));
        assert_eq!(paths, [Path::new("/"), Path::new("/usr"), Path::new("/usr/my share")]);
    }

    #[test]
    fn without_mapped_ids_every_layer_has_no_mount_below_it() {
        let dir = tempfile::tempdir().expect("folder");
        let view = HostView::make(None, dir.path()).expect("view");
        assert!(!view.mapped);
        assert_eq!(view.layers[0], HostLayer { path: "/".into(), lower: vec![dir.path().to_owned()] });
        let mounts = parse_mounts(&fs::read_to_string("/proc/self/mountinfo").expect("mountinfo"));
        for layer in &view.layers[1..] {
            assert!(!is_hidden(&layer.path), "{}", layer.path.display());
            let below = mounts.iter().find(|mount| mount.path != layer.path && mount.path.starts_with(&layer.path));
            assert_eq!(below, None, "{}", layer.path.display());
        }
        assert!(view.layers.iter().any(|layer| layer.path == Path::new("/etc")));
        assert!(
            dir.path().join("etc").is_dir() && fs::read_dir(dir.path().join("home")).expect("home").next().is_none()
        );
    }
}
