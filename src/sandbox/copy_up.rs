//! The first contents of a volume: what the root has at the place where it is mounted, as in Docker.
//!
//! It is done by the container's first process before anything is mounted on the root. In there both sides show the ids of the
//! container, so what is copied has the right owner on disk, whatever the mounts map. Others may have the volume mounted
//! and move things about in it meanwhile, so nothing is opened but by its name in a folder that is open, and no link is
//! followed.

use std::{
    collections::HashMap,
    ffi::CStr,
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};

use super::in_root::{find, is_directory};

/// How deep folders may be in each other: each takes two descriptors while it is copied.
const MAX_DEPTH: usize = 256;

/// Copies what is in the folder `target` of `root`, with the folder's own owner and mode, to `volume`, which is empty. Says
/// whether there is such a folder.
pub(super) fn copy_up(root: BorrowedFd<'_>, target: &Path, volume: BorrowedFd<'_>) -> io::Result<bool> {
    let Some(from) = find(root, target)? else { return Ok(false) };
    if !is_directory(from.as_fd())? || !is_directory(volume)? {
        return Ok(false);
    }
    let (from, to) = (open_folder(from.as_fd(), c".")?, open_folder(volume, c".")?);
    // Modes are those of the originals from the beginning.
    let before = rustix::process::umask(Mode::empty());
    let copied = Copy { top: to.as_fd(), links: HashMap::new() }.folder(&from, &to, Path::new(""), 0);
    rustix::process::umask(before);
    copied.map(|()| true)
}

struct Copy<'a> {
    top: BorrowedFd<'a>,
    /// Files with several names, by device and inode: where the first of them is, below `top`.
    links: HashMap<(u64, u64), PathBuf>,
}

impl Copy<'_> {
    /// Fills a folder, and makes it look as the original.
    fn folder(&mut self, from: &OwnedFd, to: &OwnedFd, path: &Path, depth: usize) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
        }
        for entry in Dir::read_from(from)? {
            let entry = entry?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                let path = path.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
                self.entry(from, to, name, &path, depth)?;
            }
        }
        // Last of all: what is made in a folder changes its time.
        attributes(from, to, &rustix::fs::fstat(from)?)
    }

    fn entry(&mut self, from: &OwnedFd, to: &OwnedFd, name: &CStr, path: &Path, depth: usize) -> io::Result<()> {
        let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                rustix::fs::mkdirat(to, name, Mode::RWXU)?;
                let (from, to) = (open_folder(from.as_fd(), name)?, open_folder(to.as_fd(), name)?);
                self.folder(&from, &to, path, depth + 1)
            }
            FileType::RegularFile => {
                if stat.st_nlink > 1 {
                    let file = (stat.st_dev as u64, stat.st_ino as u64);
                    if let Some(first) = self.links.get(&file) {
                        return Ok(rustix::fs::linkat(self.top, first, to, name, AtFlags::empty())?);
                    }
                    self.links.insert(file, path.to_owned());
                }
                let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let from = rustix::fs::openat(from, name, flags | OFlags::RDONLY, Mode::empty())?;
                let new = flags | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
                // Without the bits that would give somebody else's rights away before it is somebody else's.
                let to =
                    rustix::fs::openat(to, name, new, Mode::from_raw_mode(stat.st_mode) & !(Mode::SUID | Mode::SGID))?;
                let (mut source, mut target) = (File::from(from), File::from(to));
                io::copy(&mut source, &mut target)?;
                attributes(&source.into(), &target.into(), &stat)
            }
            FileType::Symlink => {
                rustix::fs::symlinkat(rustix::fs::readlinkat(from, name, Vec::new())?, to, name)?;
                own(to.as_fd(), name, &stat)?;
                Ok(rustix::fs::utimensat(to, name, &times(&stat), AtFlags::SYMLINK_NOFOLLOW)?)
            }
            FileType::Fifo => {
                rustix::fs::mknodat(to, name, FileType::Fifo, Mode::from_raw_mode(stat.st_mode), 0)?;
                own(to.as_fd(), name, &stat)
            }
            // Devices cannot be made in a user namespace, and a socket without who made it is of no use.
            _ => Ok(()),
        }
    }
}

/// Owner, mode, extended attributes and times, in this order: a change of the owner takes the set-user-id bit and file
/// capabilities away.
fn attributes(from: &OwnedFd, to: &OwnedFd, stat: &Stat) -> io::Result<()> {
    // Most is as it should be already, and each change is one of the file system's journal.
    let new = rustix::fs::fstat(to)?;
    let owned = (new.st_uid, new.st_gid) != (stat.st_uid, stat.st_gid);
    if owned {
        own(to.as_fd(), c"", stat)?;
    }
    if owned || new.st_mode != stat.st_mode {
        rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode))?;
    }
    extended(from, to)?;
    Ok(rustix::fs::futimens(to, &times(stat))?)
}

/// Gives it the same owner. An id that does not exist in the container, as most with a single one, is left as it is.
fn own(folder: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> io::Result<()> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | if name.is_empty() { AtFlags::EMPTY_PATH } else { AtFlags::empty() };
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    match rustix::fs::chownat(folder, name, Some(uid), Some(gid), flags) {
        Err(Errno::INVAL) => Ok(()),
        other => Ok(other?),
    }
}

/// Extended attributes, as far as they can be had here: the volume's file system may have none, and some are for root of the
/// machine alone.
fn extended(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    let mut names = vec![0; rustix::fs::flistxattr_query(from).unwrap_or(0)];
    if names.is_empty() {
        return Ok(());
    }
    let length = rustix::fs::flistxattr(from, &mut names[..])?;
    for name in names[..length].split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        let copied = rustix::fs::fgetxattr_query(from, name).and_then(|size| {
            let mut value = vec![0; size];
            let length = if size == 0 { 0 } else { rustix::fs::fgetxattr(from, name, &mut value[..])? };
            rustix::fs::fsetxattr(to, name, &value[..length], XattrFlags::empty())
        });
        if let Err(e @ (Errno::NOSPC | Errno::DQUOT | Errno::IO)) = copied {
            return Err(e.into());
        }
    }
    Ok(())
}

fn times(stat: &Stat) -> Timestamps {
    let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    Timestamps {
        last_access: time(stat.st_atime as _, stat.st_atime_nsec as _),
        last_modification: time(stat.st_mtime as _, stat.st_mtime_nsec as _),
    }
}

fn open_folder(at: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(at, name, flags, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    };

    use super::*;

    #[test]
    fn a_folder_is_copied_as_it_is() {
        let dir = tempfile::tempdir().expect("folder");
        let (root, volume) = (dir.path().join("root"), dir.path().join("volume"));
        fs::create_dir_all(root.join("data/deep")).expect("folders");
        fs::create_dir(&volume).expect("folder");
        fs::write(root.join("data/deep/file"), "text").expect("file");
        fs::set_permissions(root.join("data/deep/file"), fs::Permissions::from_mode(0o4751)).expect("mode");
        fs::hard_link(root.join("data/deep/file"), root.join("data/same")).expect("link");
        symlink("/etc/passwd", root.join("data/link")).expect("link");
        symlink("data", root.join("short")).expect("link");
        fs::set_permissions(root.join("data"), fs::Permissions::from_mode(0o1730)).expect("mode");
        let past = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        fs::File::open(root.join("data")).expect("folder").set_modified(past).expect("time");

        let open = |path: &Path| fs::File::open(path).expect("folder");
        assert!(copy_up(open(&root).as_fd(), Path::new("/short"), open(&volume).as_fd()).expect("copied"));
        let meta = fs::metadata(&volume).expect("there");
        assert_eq!((meta.mode() & 0o7777, meta.mtime()), (0o1730, 1_000_000));
        let file = fs::metadata(volume.join("deep/file")).expect("there");
        assert_eq!((file.mode() & 0o7777, file.nlink()), (0o4751, 2));
        assert_eq!(file.ino(), fs::metadata(volume.join("same")).expect("there").ino());
        assert_eq!(fs::read_link(volume.join("link")).expect("a link"), Path::new("/etc/passwd"));
        assert_eq!(fs::read(volume.join("same")).expect("there"), b"text");
    }

    #[test]
    fn what_is_no_folder_of_the_root_is_not_copied() {
        let dir = tempfile::tempdir().expect("folder");
        let (root, volume) = (dir.path().join("root"), dir.path().join("volume"));
        fs::create_dir_all(&root).expect("folders");
        fs::create_dir_all(dir.path().join("outside")).expect("folders");
        fs::write(dir.path().join("outside/secret"), "").expect("file");
        fs::create_dir(&volume).expect("folder");
        fs::write(root.join("file"), "").expect("file");
        symlink("../outside", root.join("up")).expect("link");
        symlink(dir.path().join("outside"), root.join("away")).expect("link");
        let open = |path: &Path| fs::File::open(path).expect("folder");
        for target in ["/missing", "/file", "/up", "/away", "/../outside"] {
            let copied = copy_up(open(&root).as_fd(), Path::new(target), open(&volume).as_fd());
            assert!(!copied.expect("resolved"), "{target}");
        }
        assert_eq!(fs::read_dir(&volume).expect("folder").count(), 0);
        assert!(!root.join("missing").exists(), "looking makes nothing");
    }
}
