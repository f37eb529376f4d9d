//! The folder that a layer becomes: finding the way in it without ever leaving it.
//!
//! ```text
//! clean path ──▶ parent(): one openat2 that follows no link ──▶ Parent: descriptor, real path
//!                     └─ there is a link, or a folder is missing: walk(), component by component
//! ```
//!
//! Names of an archive are a stranger's, and so are the symbolic links that are there already. No call gets a path of more
//! than one component that could hold a link: parents are opened with RESOLVE_NO_SYMLINKS, and where there are links, they
//! are read and followed here, with the layer as root, as chroot(2) would. The last component is never followed.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::{Arc, OnceLock},
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Timestamps},
    io::Errno,
};

use super::{
    OverlayAttributes, UnpackError,
    name::{MAX_PATH, check, join, split},
};

/// So many links may be on the way to a file, as in the kernel (MAXSYMLINKS).
const MAX_LINKS: u32 = 40;
/// So many components, those of links among them, may be on the way to a file.
const MAX_STEPS: u32 = 4096;
/// So many bytes names of folders may have in all: they are kept in memory to the end.
const MAX_FOLDER_NAMES: u64 = 512 << 20;

const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A folder of the layer, open.
#[derive(Debug)]
pub(super) struct Parent {
    /// With O_PATH.
    pub(super) fd: OwnedFd,
    /// From the root of the layer, without links.
    pub(super) path: Vec<u8>,
    group: OnceLock<Option<u32>>,
}

impl Parent {
    fn new(fd: OwnedFd, path: Vec<u8>) -> Self {
        Self { fd, path, group: OnceLock::new() }
    }

    /// The group of the folder, which what is made in it gets if that is how the folder or the file system is set up.
    pub(super) fn group(&self) -> Option<u32> {
        *self.group.get_or_init(|| rustix::fs::fstat(&self.fd).ok().map(|there| there.st_gid))
    }
}

/// What is done to a folder when nothing is made in it any more.
#[derive(Debug, Default)]
pub(super) struct Later {
    pub(super) times: Option<Timestamps>,
    /// A list of rights that would be passed on to what is made in it.
    pub(super) default_acl: Option<Vec<u8>>,
}

/// The folder that a layer becomes.
#[derive(Debug)]
pub(super) struct Tree {
    root: OwnedFd,
    opaque: &'static str,
    /// The parent that was asked for last, under the name it was asked for.
    last: Option<(Vec<u8>, Arc<Parent>)>,
    later: BTreeMap<Vec<u8>, Later>,
    later_bytes: u64,
    /// Folders that no member describes.
    pub(super) implied: u64,
    /// Whether the root was made opaque.
    pub(super) opaque_root: bool,
}

impl Tree {
    pub(super) fn open(folder: &Path, attributes: OverlayAttributes) -> Result<Self, UnpackError> {
        let failed = UnpackError::folder(folder);
        let root = rustix::fs::open(folder, FOLDER, Mode::empty()).map_err(failed)?;
        // Rights that are passed on would come to files of the layer.
        let _ = rustix::fs::fremovexattr(&root, "system.posix_acl_default");
        let opaque = match attributes {
            OverlayAttributes::Trusted => "trusted.overlay.opaque",
            OverlayAttributes::User => "user.overlay.opaque",
        };
        let (last, later) = (None, BTreeMap::new());
        Ok(Self { root, opaque, last, later, later_bytes: 0, implied: 0, opaque_root: false })
    }

    /// The root of the layer, open for reading.
    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The folder with this clean path; what is missing of it is made.
    pub(super) fn parent(&mut self, path: &[u8]) -> Result<Arc<Parent>, UnpackError> {
        if let Some((asked, parent)) = &self.last
            && asked == path
        {
            return Ok(parent.clone());
        }
        let parent = match self.open_real(path) {
            Ok(fd) => Parent::new(fd, path.to_vec()),
            // There are links on the way, or something is missing or no folder; or the kernel has no openat2.
            Err(_) => self.walk(path)?,
        };
        let parent = Arc::new(parent);
        self.last = Some((path.to_vec(), parent.clone()));
        Ok(parent)
    }

    /// Forgets the parent that was used last: its owner is to be changed.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }

    /// A folder by its real path.
    fn open_real(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | FOLDER;
        if path.is_empty() {
            return rustix::fs::openat(&self.root, c".", flags, Mode::empty());
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve)
    }

    /// The same, for kernels without openat2, too.
    fn open_steps(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let mut fd = rustix::fs::openat(&self.root, c".", OFlags::PATH | FOLDER, Mode::empty())?;
        for component in path.split(|byte| *byte == b'/').filter(|component| !component.is_empty()) {
            fd = rustix::fs::openat(&fd, component, OFlags::PATH | FOLDER, Mode::empty())?;
        }
        Ok(fd)
    }

    /// Follows a path as chroot(2) would, through links, and makes folders that are missing.
    fn walk(&mut self, asked: &[u8]) -> Result<Parent, UnpackError> {
        let failed = |step| UnpackError::member(step, asked);
        let open = "find the folder";
        let mut todo: Vec<Vec<u8>> = asked.rsplit(|byte| *byte == b'/').map(<[u8]>::to_vec).collect();
        let mut here = Parent::new(self.open_steps(b"").map_err(failed(open))?, Vec::new());
        let (mut links, mut steps) = (0, 0);
        while let Some(component) = todo.pop() {
            steps += 1;
            if steps > MAX_STEPS {
                return Err(failed(open)(Errno::LOOP));
            }
            match component.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    let path = split(&here.path).0.to_vec();
                    here = Parent::new(self.open_steps(&path).map_err(failed(open))?, path);
                    continue;
                }
                _ => {}
            }
            let path = join(&here.path, &component);
            check(&path, asked)?;
            let flags = OFlags::PATH | FOLDER;
            match rustix::fs::openat(&here.fd, component.as_slice(), flags, Mode::empty()) {
                Ok(fd) => here = Parent::new(fd, path),
                Err(Errno::NOENT) => here = self.imply(&here, &component, path, false)?,
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let there = rustix::fs::statat(&here.fd, component.as_slice(), AtFlags::SYMLINK_NOFOLLOW)
                        .map_err(failed(open))?;
                    match FileType::from_raw_mode(there.st_mode) {
                        FileType::Symlink => {
                            links += 1;
                            if links > MAX_LINKS {
                                return Err(failed(open)(Errno::LOOP));
                            }
                            let target = rustix::fs::readlinkat(&here.fd, component.as_slice(), Vec::new())
                                .map_err(failed(open))?;
                            let target = target.as_bytes();
                            if target.starts_with(b"/") {
                                let fd = self.open_steps(b"").map_err(failed(open))?;
                                here = Parent::new(fd, Vec::new());
                            }
                            todo.extend(target.rsplit(|byte| *byte == b'/').map(<[u8]>::to_vec));
                        }
                        // A layer that deletes a folder and makes it anew.
                        FileType::CharacterDevice if there.st_rdev == 0 => {
                            self.remove(&here, &component)?;
                            here = self.imply(&here, &component, path, true)?;
                        }
                        _ => return Err(failed(open)(Errno::NOTDIR)),
                    }
                }
                Err(e) => return Err(failed(open)(e)),
            }
        }
        Ok(here)
    }

    /// Makes a folder that no member has described so far.
    fn imply(&mut self, here: &Parent, name: &[u8], path: Vec<u8>, opaque: bool) -> Result<Parent, UnpackError> {
        let failed = || UnpackError::member("make the folder", &path);
        rustix::fs::mkdirat(&here.fd, name, Mode::from_raw_mode(0o755)).map_err(failed())?;
        let readable = rustix::fs::openat(&here.fd, name, OFlags::RDONLY | FOLDER, Mode::empty()).map_err(failed())?;
        // The set-group-ID bit of the folder it is in is passed on, and so is its group.
        rustix::fs::fchown(&readable, None, Some(rustix::process::getegid())).map_err(failed())?;
        rustix::fs::fchmod(&readable, Mode::from_raw_mode(0o755)).map_err(failed())?;
        if opaque {
            self.make_opaque(readable.as_fd(), &path)?;
        }
        self.implied += 1;
        let fd = rustix::fs::openat(&here.fd, name, OFlags::PATH | FOLDER, Mode::empty()).map_err(failed())?;
        Ok(Parent::new(fd, path))
    }

    /// Where in `parent` a member of this name is; an error if nobody could name it later.
    pub(super) fn place(&self, parent: &Parent, name: &[u8]) -> Result<Vec<u8>, UnpackError> {
        let path = join(&parent.path, name);
        if path.len() > MAX_PATH {
            return Err(UnpackError::name(&path, "through the links on its way it is longer than 4095 bytes"));
        }
        check(&path, &path)?;
        Ok(path)
    }

    /// Lets nothing of a folder be seen that lower layers have in it.
    pub(super) fn make_opaque(&mut self, folder: BorrowedFd<'_>, path: &[u8]) -> Result<(), UnpackError> {
        self.opaque_root |= path.is_empty();
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::fsetxattr(folder, self.opaque, b"y", flags).map_err(UnpackError::member("make opaque", path))
    }

    /// Opens a folder that is open with O_PATH for reading.
    pub(super) fn readable(parent: &Parent) -> Result<OwnedFd, UnpackError> {
        rustix::fs::openat(&parent.fd, c".", OFlags::RDONLY | FOLDER, Mode::empty())
            .map_err(UnpackError::member("open", &parent.path))
    }

    /// Has something done to a folder in the end.
    pub(super) fn later(&mut self, path: Vec<u8>, later: Later) -> Result<(), UnpackError> {
        self.later_bytes += path.len() as u64 + later.default_acl.as_ref().map_or(0, Vec::len) as u64;
        if self.later_bytes > MAX_FOLDER_NAMES {
            return Err(UnpackError::Limit { what: "bytes in names of folders", limit: MAX_FOLDER_NAMES });
        }
        self.later.insert(path, later);
        Ok(())
    }

    /// Removes what is there, a folder with all that is in it.
    pub(super) fn remove(&mut self, parent: &Parent, name: &[u8]) -> Result<(), UnpackError> {
        // It may have been a folder or a link on the way to the one that was used last.
        self.last = None;
        let path = join(&parent.path, name);
        let failed = || UnpackError::member("replace", &path);
        match rustix::fs::unlinkat(&parent.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // EISDIR on Linux, EPERM in POSIX.
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(e) => return Err(failed()(e)),
        }
        remove_folder(parent.fd.as_fd(), name).map_err(failed())?;
        self.later.remove(&path);
        let below = join(&path, b"");
        let gone: Vec<Vec<u8>> = self
            .later
            .range(below.clone()..)
            .map(|(path, _)| path)
            .take_while(|path| path.starts_with(&below))
            .cloned()
            .collect();
        for path in gone {
            self.later.remove(&path);
        }
        Ok(())
    }

    /// Does what is to be done in the end.
    pub(super) fn finish(&mut self) -> Result<u64, UnpackError> {
        let mut lost = 0;
        for (path, later) in std::mem::take(&mut self.later) {
            let failed = |step| UnpackError::member(step, &path);
            let fd = self.open_real(&path).or_else(|_| self.open_steps(&path)).map_err(failed("open"))?;
            let fd = rustix::fs::openat(&fd, c".", OFlags::RDONLY | FOLDER, Mode::empty()).map_err(failed("open"))?;
            if let Some(acl) = later.default_acl {
                let flags = rustix::fs::XattrFlags::empty();
                match rustix::fs::fsetxattr(&fd, DEFAULT_ACL, &acl, flags) {
                    Err(Errno::OPNOTSUPP | Errno::PERM | Errno::INVAL) => lost += 1,
                    other => other.map_err(failed("set attributes of"))?,
                }
            }
            if let Some(times) = later.times {
                rustix::fs::futimens(&fd, &times).map_err(failed("set the times of"))?;
            }
        }
        Ok(lost)
    }
}

/// The extended attribute with rights that are passed on to what is made in a folder.
pub(super) const DEFAULT_ACL: &str = "system.posix_acl_default";

/// Removes a folder that is at most [`super::name::MAX_DEPTH`] deep.
fn remove_folder(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    let folder = rustix::fs::openat(parent, name, OFlags::RDONLY | FOLDER, Mode::empty())?;
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
            Err(Errno::ISDIR | Errno::PERM) => remove_folder(folder.as_fd(), name.to_bytes())?,
            other => other?,
        }
    }
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}
