//! Paths inside a container's root, resolved so that no symlink leads out of it.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
    path::{Component, Path},
};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

/// Symlinks followed before a path counts as a loop, as many as the kernel follows (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// What a mount point has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A folder.
    Directory,
    /// Anything else.
    File,
}

/// Opens `path` below `root` as a place to mount on (O_PATH), making what is missing: folders on the way, and at the end
/// what `kind` says.
///
/// Each component is opened by itself without following links, and a link is resolved here: an absolute one starts again
/// at `root`, `..` never goes above it. So the answer lies inside whatever the links say.
///
/// # Errors
/// ELOOP for too many links; ENOTDIR where a folder is needed; what mkdirat(2) and openat(2) say.
pub(super) fn mount_point(root: BorrowedFd<'_>, path: &Path, kind: Kind) -> io::Result<OwnedFd> {
    walk(root, path, Some(kind))?.ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Opens `path` below `root` (O_PATH) if it is there, resolved in the same way.
///
/// # Errors
/// As [`mount_point`], which makes what is missing.
pub(super) fn find(root: BorrowedFd<'_>, path: &Path) -> io::Result<Option<OwnedFd>> {
    walk(root, path, None)
}

fn walk(root: BorrowedFd<'_>, path: &Path, missing: Option<Kind>) -> io::Result<Option<OwnedFd>> {
    let mut todo: Vec<OsString> = components(path.as_os_str());
    // The folders from the root to where we are; `..` takes the last one away.
    let mut stack: Vec<OwnedFd> = Vec::new();
    let mut links = 0;
    while let Some(name) = todo.pop() {
        if name == ".." {
            stack.pop();
            continue;
        }
        let here = stack.last().map_or(root, AsFd::as_fd);
        let last = todo.is_empty();
        let fd = match open(here, &name) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let Some(kind) = missing else { return Ok(None) };
                if last && kind == Kind::File {
                    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::WRONLY;
                    drop(rustix::fs::openat(here, &name, flags, Mode::from_raw_mode(0o644))?);
                } else {
                    rustix::fs::mkdirat(here, &name, Mode::from_raw_mode(0o755))?;
                }
                open(here, &name)?
            }
            other => other?,
        };
        let is = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode);
        if is == FileType::Symlink {
            links += 1;
            if links > MAX_LINKS {
                return Err(io::Error::from_raw_os_error(libc::ELOOP));
            }
            let target = rustix::fs::readlinkat(&fd, "", Vec::new())?;
            let target = OsString::from_vec(target.into_bytes());
            if Path::new(&target).is_absolute() {
                stack.clear();
            }
            todo.extend(components(&target));
            continue;
        }
        if is != FileType::Directory && !last {
            return Err(io::Error::from_raw_os_error(libc::ENOTDIR));
        }
        stack.push(fd);
    }
    match stack.pop() {
        Some(fd) => Ok(Some(fd)),
        None => Ok(Some(rustix::fs::openat(root, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)),
    }
}

fn open(at: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(at, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

/// The names of a path, last first.
fn components(path: &OsStr) -> Vec<OsString> {
    let names = Path::new(path).components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    let mut names: Vec<OsString> = names.collect();
    names.reverse();
    names
}

/// Whether a descriptor is a folder.
pub(super) fn is_directory(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let stat = rustix::fs::statat(fd, "", AtFlags::EMPTY_PATH)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn place(root: &Path, path: &str, kind: Kind) -> io::Result<String> {
        let fd = fs::File::open(root)?;
        let place = mount_point(fd.as_fd(), Path::new(path), kind)?;
        let real = fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&place)))?;
        let real = real.strip_prefix(root.canonicalize()?).map_err(io::Error::other)?;
        Ok(format!("/{}", real.display()))
    }

    #[test]
    fn links_stay_inside_the_root() {
        let dir = tempfile::tempdir().expect("folder");
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("etc")).expect("folders");
        symlink("/etc", root.join("absolute")).expect("link");
        symlink("../../../../etc", root.join("etc/up")).expect("link");
        symlink("/run/made/later", root.join("etc/resolv.conf")).expect("link");
        symlink("loop", root.join("loop")).expect("link");
        assert_eq!(place(&root, "/absolute/x", Kind::Directory).expect("inside"), "/etc/x");
        assert_eq!(place(&root, "/etc/up/y", Kind::Directory).expect("inside"), "/etc/y");
        assert_eq!(place(&root, "/../../z", Kind::Directory).expect("inside"), "/z");
        assert_eq!(place(&root, "/etc/resolv.conf", Kind::File).expect("inside"), "/run/made/later");
        assert!(root.join("run/made/later").is_file());
        assert_eq!(place(&root, "/loop", Kind::File).expect_err("loop").raw_os_error(), Some(libc::ELOOP));
        assert!(!dir.path().join("etc").exists() && !dir.path().join("z").exists());
    }

    #[test]
    fn a_file_on_the_way_is_an_error() {
        let dir = tempfile::tempdir().expect("folder");
        fs::write(dir.path().join("file"), "").expect("file");
        let error = place(dir.path(), "/file/x", Kind::Directory).expect_err("not a folder");
        assert_eq!(error.raw_os_error(), Some(libc::ENOTDIR));
    }
}
