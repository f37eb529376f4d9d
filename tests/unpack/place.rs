//! A place to unpack in, and what is in it.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use nscompose::{
    image::unpack::{Limits, OverlayAttributes, Ownership, UnpackError, UnpackOptions, Unpacked, unpack},
    model::Digest,
};
use tempfile::TempDir;

use crate::support::is_root;

/// What files there are, each described in a line.
pub(crate) type Tree = BTreeMap<PathBuf, String>;

/// A folder to unpack into, and one beside it that has to stay as it is.
pub(crate) struct Place {
    dir: TempDir,
    before: Tree,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::of(tempfile::tempdir().expect("a folder"))
    }

    /// In memory if possible, for very many of them.
    pub(crate) fn fast() -> Self {
        Self::of(tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder"))
    }

    fn of(dir: TempDir) -> Self {
        fs::create_dir_all(dir.path().join("outside/deep")).expect("a folder");
        fs::write(dir.path().join("outside/secret"), "secret").expect("a file");
        fs::write(dir.path().join("outside/deep/file"), "").expect("a file");
        fs::create_dir(dir.path().join("layer")).expect("a folder");
        let before = tree(&dir.path().join("outside"));
        Self { dir, before }
    }

    /// Where it unpacks.
    pub(crate) fn folder(&self) -> PathBuf {
        self.dir.path().join("layer")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// What has to stay.
    pub(crate) fn outside(&self) -> PathBuf {
        self.dir.path().join("outside")
    }

    pub(crate) fn unpack(&self, archive: &[u8]) -> Result<Unpacked, UnpackError> {
        self.unpack_with(archive, &options())
    }

    #[track_caller]
    pub(crate) fn unpack_with(&self, archive: &[u8], options: &UnpackOptions) -> Result<Unpacked, UnpackError> {
        let result = unpack(archive, &self.folder(), options);
        assert_eq!(tree(&self.outside()), self.before, "something outside was changed: {result:?}");
        let names: Vec<_> = fs::read_dir(self.dir.path()).expect("there").flatten().map(|e| e.file_name()).collect();
        assert_eq!(names.len(), 2, "something was made outside: {names:?}");
        result
    }

    /// Empties it.
    pub(crate) fn clear(&self) {
        fs::remove_dir_all(self.folder()).expect("removed");
        fs::create_dir(self.folder()).expect("made");
    }

    #[track_caller]
    pub(crate) fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub(crate) fn mode(&self, name: &str) -> u32 {
        self.path(name).symlink_metadata().map(|there| there.mode() & 0o7777).expect("there")
    }

    pub(crate) fn xattr(&self, name: &str, attribute: &str) -> Option<Vec<u8>> {
        let mut value = vec![0; 4096];
        let length = rustix::fs::lgetxattr(self.path(name), attribute, &mut value[..]).ok()?;
        value.truncate(length);
        Some(value)
    }

    pub(crate) fn is_whiteout(&self, name: &str) -> bool {
        self.path(name).symlink_metadata().is_ok_and(|there| there.file_type().is_char_device() && there.rdev() == 0)
    }

    pub(crate) fn is_opaque(&self, name: &str) -> bool {
        let attribute = if is_root() { "trusted.overlay.opaque" } else { "user.overlay.opaque" };
        self.xattr(name, attribute).as_deref() == Some(b"y")
    }
}

/// As this account would unpack.
pub(crate) fn options() -> UnpackOptions {
    if is_root() {
        let (ownership, attributes) = (Ownership::Kept, OverlayAttributes::Trusted);
        UnpackOptions { ownership, attributes, limits: Limits::default() }
    } else {
        let (ownership, attributes) = (Ownership::Single, OverlayAttributes::User);
        UnpackOptions { ownership, attributes, limits: Limits::default() }
    }
}

/// All below a folder, and itself.
pub(crate) fn tree(folder: &Path) -> Tree {
    let mut found = Tree::new();
    let mut inodes = HashMap::new();
    add(folder, Path::new(""), &mut found, &mut inodes);
    found
}

fn add(root: &Path, name: &Path, found: &mut Tree, inodes: &mut HashMap<u64, PathBuf>) {
    let path = root.join(name);
    let there = path.symlink_metadata().expect("there");
    let kind = there.file_type();
    let content = if kind.is_file() {
        let data = fs::read(&path).map(|data| Digest::of(&data).to_string()).unwrap_or_else(|e| e.to_string());
        format!("{} {data}", there.len())
    } else if kind.is_symlink() {
        fs::read_link(&path).expect("a link").display().to_string()
    } else {
        String::new()
    };
    let mut attributes = Vec::new();
    let mut names = vec![0; 65_536];
    let length = rustix::fs::llistxattr(&path, &mut names[..]).unwrap_or_default();
    let mut names: Vec<&[u8]> = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    for name in names {
        let mut value = vec![0; 65_536];
        let length = rustix::fs::lgetxattr(&path, name, &mut value[..]).unwrap_or_default();
        attributes.push(format!("{}={:?}", String::from_utf8_lossy(name), &value[..length]));
    }
    let group = if kind.is_dir() { name } else { &*inodes.entry(there.ino()).or_insert_with(|| name.to_owned()) };
    let line = format!(
        "{:o} {}:{} {}.{:09} {} {content} {attributes:?} {}",
        there.mode(),
        there.uid(),
        there.gid(),
        there.mtime(),
        there.mtime_nsec(),
        there.rdev(),
        group.display()
    );
    found.insert(name.to_owned(), line);
    if kind.is_dir() {
        let mut names: Vec<_> = fs::read_dir(&path).into_iter().flatten().flatten().map(|e| e.file_name()).collect();
        names.sort_unstable();
        for below in names {
            add(root, &name.join(below), found, inodes);
        }
    }
}
