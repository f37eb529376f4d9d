//! Overlays: layers that are only read, and one to write to, as a mount that is attached nowhere.
//!
//! ```text
//! Lower ──▶ Found: what the kernel can be given names of ──▶ one of the ways of telling it ──▶ detached mount
//!            └─ with other ids: a clone of their mount, on the stage for as long as that takes
//! ```

use std::{
    fs, io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use nix::mount::MsFlags;
use rustix::{
    fs::{CWD, Mode, OFlags},
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags},
};

use super::{
    error::{BringUpError, BringUpStep},
    user_namespace::in_initial_user_namespace,
};
use crate::sys::mount::{MountAttributes, set_attributes};

/// What an overlay shows below its writable layer, the uppermost first.
#[derive(Debug, Clone, Copy)]
pub(super) enum Lower<'a> {
    /// Folders from anywhere; at least one.
    Folders(&'a [PathBuf]),
    /// Folders that are all in one, by their names in it; there may be none.
    Layers { store: &'a Path, names: &'a [String] },
}

/// One overlay to make.
pub(super) struct Overlay<'a> {
    /// What is shown.
    pub(super) lower: Lower<'a>,
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

/// Folder of it that is the only layer of what has none: overlayfs wants one.
const EMPTY: &str = "empty";

/// How many lower layers the kernel takes (OVL_MAX_STACK).
const MAX_LAYERS: usize = 500;

/// How long the value of an option may be (fsconfig(2), FSCONFIG_SET_STRING).
const MAX_OPTION: usize = 255;

/// How long all options of mount(2) together may be: a page with a zero at its end.
const MAX_OPTIONS: usize = 4095;

/// How the kernel is told of the lower layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Each with an option of its own, `lowerdir+` (Linux 6.7). No descriptor per layer is needed.
    OneByOne,
    /// All in the one option `lowerdir`, which has room for some sixty.
    Joined,
    /// The same in the page of options that mount(2) takes; the mount is made attached and cloned.
    Page,
}

impl Overlay<'_> {
    /// Makes the overlay, attached nowhere.
    pub(super) fn mount(&self, private: &Path) -> Result<OwnedFd, BringUpError> {
        self.mount_by(private, |found| first_that_works(|way| self.create(found, way, private)))
    }

    fn mount_by(
        &self,
        private: &Path,
        create: impl FnOnce(&Found<'_>) -> io::Result<OwnedFd>,
    ) -> Result<OwnedFd, BringUpError> {
        let failed = |e: io::Error| BringUpStep::Root(self.shown()).failed(e);
        let found = self.find(private).map_err(failed)?;
        if found.layers.len() > MAX_LAYERS {
            let too_many = io::Error::from_raw_os_error(libc::E2BIG);
            return Err(BringUpStep::TooManyLayers(found.layers.len()).failed(too_many));
        }
        self.make_upper(&found).map_err(failed)?;
        create(&found).map_err(failed)
    }

    /// For messages: what is not there, if that is why.
    fn shown(&self) -> PathBuf {
        match self.lower {
            Lower::Folders(folders) => folders.last().cloned().unwrap_or_default(),
            Lower::Layers { store, names } => {
                let missing = names.iter().find(|name| !store.join(name).is_dir()).or(names.first());
                missing.map_or_else(|| store.to_owned(), |name| store.join(name))
            }
        }
    }

    /// Opens what is shown, with other ids where that is asked for and the file system can do it.
    fn find(&self, private: &Path) -> io::Result<Found<'_>> {
        let open = |path: &Path| match self.id_map {
            Some(id_map) => Place::staged(path, id_map, &private.join(STAGE)),
            None => Place::plain(path),
        };
        match self.lower {
            Lower::Folders(folders) => {
                let places = folders.iter().map(|path| open(path)).collect::<io::Result<Vec<_>>>()?;
                Ok(Found { layers: (0..places.len()).map(|i| (i, "")).collect(), places })
            }
            Lower::Layers { names: [], .. } => {
                let empty = private.join(EMPTY);
                fs::create_dir_all(&empty)?;
                fs::set_permissions(&empty, fs::Permissions::from_mode(0o755))?;
                Ok(Found { places: vec![Place::plain(&empty)?], layers: vec![(0, "")] })
            }
            // One clone for all of them: the kernel makes one of its own for each layer anyway, with the ids of this one.
            Lower::Layers { store, names } => {
                let mut layers: Vec<(usize, &str)> = Vec::with_capacity(names.len());
                for name in names {
                    // An image may have the same layer twice, which overlayfs takes for a loop. What the lower one shows is
                    // what the upper one does, so it is not missed.
                    if !layers.iter().any(|(_, same)| same == name) {
                        layers.push((0, name));
                    }
                }
                Ok(Found { places: vec![open(store)?], layers })
            }
        }
    }

    fn create(&self, found: &Found<'_>, way: Way, private: &Path) -> io::Result<OwnedFd> {
        let folder = open_path(self.folder)?;
        // trusted.* attributes, which overlayfs marks deletions with, are for root alone (Linux 5.11 has others instead).
        let userxattr = !in_initial_user_namespace();
        if way == Way::OneByOne {
            let folder = by_fd(folder.as_fd());
            return make(
                found.layers.iter().map(|layer| ("lowerdir+", found.path(layer))).chain([
                    ("upperdir", format!("{folder}/{}", self.name)),
                    ("workdir", format!("{folder}/{}.work", self.name)),
                ]),
                userxattr,
            );
        }
        // The shortest names that there are: numbers of descriptors, in the folder that has them all. No character in them
        // needs escaping.
        let opened = found.layers.iter().map(|layer| found.open(layer)).collect::<io::Result<Vec<_>>>()?;
        let lower: Vec<String> = opened.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
        let options = [
            ("lowerdir", lower.join(":")),
            ("upperdir", format!("{}/{}", folder.as_raw_fd(), self.name)),
            ("workdir", format!("{}/{}.work", folder.as_raw_fd(), self.name)),
        ];
        let _there = WorkingDir::enter("/proc/self/fd")?;
        match way {
            Way::Page => mount_page(&options, userxattr, &private.join(STAGE)),
            Way::OneByOne | Way::Joined => {
                if options.iter().any(|(_, value)| value.len() > MAX_OPTION) {
                    return Err(io::Error::from_raw_os_error(libc::E2BIG));
                }
                make(options.into_iter(), userxattr)
            }
        }
    }

    fn make_upper(&self, found: &Found<'_>) -> io::Result<()> {
        let whole = self.folder.join(self.name);
        match fs::DirBuilder::new().mode(0o700).create(self.folder.join(format!("{}.work", self.name))) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        if whole.is_dir() {
            // A container that is started again goes on with what it wrote.
            return Ok(());
        }
        // In its place only once it is as it has to be: whoever makes it may be killed on the way.
        let upper = self.folder.join(format!("{}.new", self.name));
        match fs::remove_dir(&upper) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => fs::create_dir(&upper)?,
        }
        // The root of the writable layer decides how the root of the container looks.
        let lower = match self.lower {
            Lower::Folders(folders) => fs::metadata(folders.first().ok_or(io::ErrorKind::InvalidInput)?)?,
            Lower::Layers { store, names: [first, ..] } => fs::metadata(store.join(first))?,
            Lower::Layers { names: [], .. } => fs::metadata(found.path(&(0, "")))?,
        };
        let (uid, gid) = match self.id_map {
            // Ids beyond the mapping are nobody's in the container.
            Some(_) => [lower.uid(), lower.gid()].map(|id| self.outside + if id < 65_536 { id } else { 0 }).into(),
            // Layers of images are unpacked with the container's ids, and seen here with those.
            None if matches!(self.lower, Lower::Layers { .. }) => (lower.uid(), lower.gid()),
            None => (self.outside, self.outside),
        };
        match std::os::unix::fs::chown(&upper, Some(uid), Some(gid)) {
            // An account whose range has become smaller does not have it any more: it is nobody's, which is no id.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
                std::os::unix::fs::chown(&upper, Some(self.outside), Some(self.outside))?;
            }
            other => other?,
        }
        fs::set_permissions(&upper, fs::Permissions::from_mode(lower.mode() & 0o7777))?;
        fs::rename(&upper, &whole)
    }
}

/// The ways in their order, as far as the kernel needs them.
fn first_that_works<T>(mut make: impl FnMut(Way) -> io::Result<T>) -> io::Result<T> {
    match make(Way::OneByOne) {
        // It does not know the option; before 6.5 it said so at the very end. If it means something else, it says that again.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => make(Way::Joined).or_else(|e| match e.raw_os_error() {
            Some(libc::E2BIG) => make(Way::Page),
            _ => Err(e),
        }),
        other => other,
    }
}

/// A new overlay, by fsopen(2) and fsconfig(2).
fn make(options: impl Iterator<Item = (&'static str, String)>, userxattr: bool) -> io::Result<OwnedFd> {
    let fs = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&fs, "source", "nscompose")?;
    for (key, value) in options {
        rustix::mount::fsconfig_set_string(&fs, key, value)?;
    }
    if userxattr {
        rustix::mount::fsconfig_set_flag(&fs, "userxattr")?;
    }
    rustix::mount::fsconfig_create(&fs)?;
    Ok(rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_NODEV)?)
}

/// A new overlay, by mount(2), which can only make it attached.
fn mount_page(options: &[(&str, String)], userxattr: bool, stage: &Path) -> io::Result<OwnedFd> {
    let mut page = options.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",");
    if userxattr {
        page.push_str(",userxattr");
    }
    if page.len() > MAX_OPTIONS {
        return Err(io::Error::from_raw_os_error(libc::E2BIG));
    }
    fs::create_dir_all(stage)?;
    nix::mount::mount(Some("nscompose"), stage, Some("overlay"), MsFlags::MS_NODEV, Some(page.as_str()))?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let cloned = rustix::mount::open_tree(CWD, stage, flags);
    // It is the last that was mounted there, so it is the one that goes.
    rustix::mount::unmount(stage, UnmountFlags::DETACH)?;
    Ok(cloned?)
}

/// What an overlay is made over, opened.
struct Found<'a> {
    places: Vec<Place>,
    /// Each as one of the places and a name in it, which is empty for the place itself.
    layers: Vec<(usize, &'a str)>,
}

impl Found<'_> {
    fn path(&self, (place, name): &(usize, &str)) -> String {
        let place = by_fd(self.places[*place].descriptor.as_fd());
        if name.is_empty() { place } else { format!("{place}/{name}") }
    }

    fn open(&self, (place, name): &(usize, &str)) -> io::Result<OwnedFd> {
        let name = if name.is_empty() { "." } else { name };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.places[*place].descriptor, name, flags, Mode::empty())?)
    }
}

/// A folder that layers are in, or that is one. A clone of its mount with mapped ids is attached where overlayfs finds it and
/// taken away when this is dropped: a layer has to be attached when the overlay is made, which then has a clone of its own.
struct Place {
    descriptor: OwnedFd,
    staged: bool,
}

impl Place {
    fn plain(path: &Path) -> io::Result<Self> {
        Ok(Self { descriptor: open_path(path)?, staged: false })
    }

    /// A plain one when the file system does not do id-mapped mounts.
    fn staged(path: &Path, id_map: BorrowedFd<'_>, stage: &Path) -> io::Result<Self> {
        fs::create_dir_all(stage)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = rustix::mount::open_tree(CWD, path, flags)?;
        match set_attributes(tree.as_fd(), MountAttributes { id_map: Some(id_map), ..MountAttributes::default() }) {
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
                tracing::warn!(path = %path.display(), "its file system cannot show files with other owners");
                return Self::plain(path);
            }
            other => other?,
        }
        rustix::mount::move_mount(&tree, "", CWD, stage, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        Ok(Self { descriptor: tree, staged: true })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.staged {
            let _ = rustix::mount::unmount(by_fd(self.descriptor.as_fd()), UnmountFlags::DETACH);
        }
    }
}

/// A working directory for a moment. The process has no other threads that it could surprise.
struct WorkingDir {
    before: OwnedFd,
}

impl WorkingDir {
    fn enter(path: &str) -> io::Result<Self> {
        let before = open_path(Path::new("."))?;
        rustix::process::chdir(path)?;
        Ok(Self { before })
    }
}

impl Drop for WorkingDir {
    fn drop(&mut self) {
        let _ = rustix::process::fchdir(&self.before);
    }
}

fn open_path(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn by_fd(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

#[cfg(test)]
mod tests;
