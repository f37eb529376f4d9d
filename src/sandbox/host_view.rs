//! The host's files as the root of a container: what they consist of, and a skeleton for those who cannot map ids.

use std::{
    ffi::OsStr,
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::{ffi::OsStrExt, fs::MetadataExt, fs::PermissionsExt},
    },
    path::{Path, PathBuf},
};

use rustix::{fs::Access, mount::OpenTreeFlags};
use serde::{Deserialize, Serialize};

use crate::sys::mount::{MountAttributes, set_attributes};

/// A copy-on-write view of the host's files: what it consists of, `/` first, each layer before what lies below it.
///
/// An overlay does not see through to what is mounted inside its lower layer, hence several of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostView {
    pub(super) layers: Vec<HostLayer>,
    /// Single files, which are shown as they are and cannot be written to.
    pub(super) files: Vec<PathBuf>,
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
    /// Looks at what is mounted, for containers whose ids are those of the files: they have the users of the machine.
    ///
    /// # Errors
    /// When /proc/self/mountinfo (proc_pid_mountinfo(5)) cannot be read.
    pub fn as_it_is() -> io::Result<Self> {
        let mounts = parse_mounts(&fs::read_to_string("/proc/self/mountinfo")?);
        Ok(Self { layers: plain(&mounts), files: Vec::new(), mapped: false })
    }

    /// Looks at what is mounted. With the user namespace of a container, the files are shown with its ids if their file
    /// systems can do that; else, and for an ordinary user, root's files are nobody's in it, and folders in which services
    /// write get twins in `skeleton`, an empty folder in memory.
    ///
    /// # Errors
    /// When /proc/self/mountinfo (proc_pid_mountinfo(5)) cannot be read, or the twins not be made.
    pub fn make(id_map: Option<BorrowedFd<'_>>, skeleton: &Path) -> io::Result<Self> {
        let mounts = parse_mounts(&fs::read_to_string("/proc/self/mountinfo")?);
        if let Some(id_map) = id_map {
            let layers = plain(&mounts);
            if layers.iter().all(|layer| can_map_ids(&layer.path, id_map)) {
                return Ok(Self { layers, files: Vec::new(), mapped: true });
            }
        }
        let mut skeleton = Skeleton { root: skeleton.to_owned(), mounts, layers: Vec::new(), files: Vec::new() };
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
        let layers = [root].into_iter().chain(skeleton.layers).collect();
        Ok(Self { layers, files: skeleton.files, mapped: false })
    }
}

/// A layer for each mount of the system.
fn plain(mounts: &[MountEntry]) -> Vec<HostLayer> {
    let paths = system_mounts(mounts).into_iter();
    paths.map(|path| HostLayer { path: path.clone(), lower: vec![path] }).collect()
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
    files: Vec<PathBuf>,
}

/// A file that is copied into the skeleton may be this large; memory is what it is made of.
const COPIED: u64 = 64 << 10;

impl Skeleton {
    fn inside(&self, host: &Path) -> PathBuf {
        self.root.join(host.strip_prefix("/").unwrap_or(host))
    }

    /// Adds an empty folder, and a layer over it for each folder in it; where something is mounted further down, that
    /// folder is added in the same way. No layer shows the files that are in it, such as those of /etc in a container of
    /// Docker, which mounts /etc/hosts: small ones are copied.
    fn add_folder(&mut self, host: &Path) -> io::Result<()> {
        self.twin(host)?;
        for entry in fs::read_dir(host)?.flatten() {
            let path = entry.path();
            let (Ok(kind), inside) = (entry.file_type(), self.inside(&path)) else { continue };
            if kind.is_symlink() {
                std::os::unix::fs::symlink(fs::read_link(&path)?, inside)?;
            } else if kind.is_file() {
                let small = fs::metadata(&path).is_ok_and(|meta| meta.len() <= COPIED);
                if !(small && copy(&path, &inside).is_ok()) {
                    self.files.push(path);
                }
            } else if kind.is_dir() {
                let foreign = self.mounts.iter().any(|mount| mount.path == path && !is_system_type(mount));
                let readable = rustix::fs::access(&path, Access::READ_OK | Access::EXEC_OK).is_ok();
                // A layer must not show the skeleton, which is a layer itself.
                let private = self.root.parent() == Some(&path);
                if is_hidden(&path) || foreign || !readable || private {
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

/// Copies a file with its mode, but for what only its owner could give.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mode = fs::metadata(from)?.mode() & 0o777;
    fs::write(to, fs::read(from)?)?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode))
}

/// Whether a copy-on-write view of `path` can show its files with other ids.
fn can_map_ids(path: &Path, id_map: BorrowedFd<'_>) -> bool {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    rustix::mount::open_tree(rustix::fs::CWD, path, flags).is_ok_and(|tree| {
        set_attributes(tree.as_fd(), MountAttributes { id_map: Some(id_map), ..MountAttributes::default() }).is_ok()
    })
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
