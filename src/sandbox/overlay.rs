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
        self.mount_by(private, |found| match self.create(found, Way::OneByOne, private) {
            // The kernel does not know the option; before 6.5 it said so at the very end. If it means something else, it
            // says that again.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
                self.create(found, Way::Joined, private).or_else(|e| match e.raw_os_error() {
                    Some(libc::E2BIG) => self.create(found, Way::Page, private),
                    _ => Err(e),
                })
            }
            other => other,
        })
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

    /// For messages.
    fn shown(&self) -> PathBuf {
        match self.lower {
            Lower::Folders(folders) => folders.last().cloned().unwrap_or_default(),
            Lower::Layers { store, names } => names.first().map_or_else(|| store.to_owned(), |name| store.join(name)),
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
        let upper = self.folder.join(self.name);
        match fs::create_dir(&upper) {
            // A container that is started again goes on with what it wrote.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            other => other?,
        }
        fs::DirBuilder::new().mode(0o700).create(self.folder.join(format!("{}.work", self.name)))?;
        // The root of the writable layer decides how the root of the container looks.
        let lower = match self.lower {
            Lower::Folders(folders) => fs::metadata(folders.first().ok_or(io::ErrorKind::InvalidInput)?)?,
            Lower::Layers { store, names: [first, ..] } => fs::metadata(store.join(first))?,
            Lower::Layers { names: [], .. } => fs::metadata(found.path(&(0, "")))?,
        };
        let (uid, gid) = match self.id_map {
            // Ids beyond the mapping are nobody's in the container.
            Some(_) => [lower.uid(), lower.gid()].map(|id| self.outside + if id < 65_536 { id } else { 0 }).into(),
            None => (self.outside, self.outside),
        };
        std::os::unix::fs::chown(&upper, Some(uid), Some(gid))?;
        fs::set_permissions(&upper, fs::Permissions::from_mode(lower.mode() & 0o7777))
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
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => return Self::plain(path),
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
mod tests {
    use std::{env, process::Command};

    use super::*;

    /// Runs a test of this module once more, in namespaces of its own in which the account is root.
    fn in_namespaces(test: &str) {
        if env::var_os(INNER).is_some() {
            return;
        }
        let root = nix::unistd::geteuid().is_root();
        let ours = env::current_exe().expect("ours");
        let mut command = Command::new("unshare");
        command.args(if root { ["-m"].iter() } else { ["-U", "-r", "-m"].iter() }).arg(ours).env(INNER, "1");
        command.args(["--exact", "--nocapture", &format!("sandbox::overlay::tests::{test}")]);
        let output = command.output().expect("unshare");
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }

    const INNER: &str = "NSCOMPOSE_TEST_IN_NAMESPACES";

    fn is_inner() -> bool {
        env::var_os(INNER).is_some()
    }

    /// A store with so many layers, each with a file of its own and one that all have, the uppermost first; a folder for
    /// what is written; and a private one.
    struct Case {
        names: Vec<String>,
        store: PathBuf,
        folder: PathBuf,
        private: PathBuf,
        _dir: tempfile::TempDir,
    }

    impl Case {
        fn new(layers: usize) -> Self {
            let dir = tempfile::tempdir().expect("folder");
            // Not every file system can be the writable layer; a tmpfs of our own can.
            nix::mount::mount(Some("none"), dir.path(), Some("tmpfs"), MsFlags::empty(), None::<&str>)
                .expect("a tmpfs");
            let [store, folder, private] = ["store", "folder", "private"].map(|name| dir.path().join(name));
            for folder in [&store, &folder, &private] {
                fs::create_dir(folder).expect("a folder");
            }
            // A mount that nobody shares, as the keeper's.
            nix::mount::mount(Some("none"), &private, Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("a tmpfs");
            let names: Vec<String> = (0..layers).map(|i| format!("{i:064x}")).collect();
            for (i, name) in names.iter().enumerate() {
                fs::create_dir(store.join(name)).expect("a folder");
                fs::write(store.join(name).join("who"), i.to_string()).expect("a file");
                fs::write(store.join(name).join(format!("only-{i}")), "").expect("a file");
            }
            Self { names, store, folder, private, _dir: dir }
        }

        fn overlay<'a>(&'a self, id_map: Option<BorrowedFd<'a>>) -> Overlay<'a> {
            let outside = if id_map.is_some() { 1000 } else { 0 };
            let lower = Lower::Layers { store: &self.store, names: &self.names };
            Overlay { lower, folder: &self.folder, name: "upper", id_map, outside }
        }
    }

    fn read(mount: &OwnedFd, name: &str) -> String {
        fs::read_to_string(format!("{}/{name}", by_fd(mount.as_fd()))).expect("there")
    }

    /// A user namespace in which 0 and so on are 1000 and so on of ours.
    fn other_ids() -> (std::process::Child, fs::File) {
        let child = Command::new("unshare").args(["-U", "sleep", "60"]).spawn().expect("unshare");
        let proc = PathBuf::from(format!("/proc/{}", child.id()));
        let ours = fs::read_link("/proc/self/ns/user").expect("ours");
        while fs::read_link(proc.join("ns/user")).is_ok_and(|theirs| theirs == ours) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        for map in ["uid_map", "gid_map"] {
            fs::write(proc.join(map), "0 1000 65536").expect("a map");
        }
        let user = fs::File::open(proc.join("ns/user")).expect("a namespace");
        (child, user)
    }

    fn nothing_is_attached(private: &Path) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        let stage = private.join(STAGE).display().to_string();
        assert!(!mounts.contains(&stage), "{mounts}");
        assert!(!mounts.contains(" - overlay nscompose"), "{mounts}");
    }

    #[test]
    fn each_way_shows_any_number_of_layers() {
        in_namespaces("each_way_shows_any_number_of_layers");
        if !is_inner() {
            return;
        }
        let root = in_initial_user_namespace();
        let ids = root.then(other_ids);
        let before = env::current_dir().expect("a folder");
        for id_map in [None, ids.as_ref().map(|(_, user)| user.as_fd())] {
            for layers in [1, 3, 130, 300] {
                for way in [Way::OneByOne, Way::Joined, Way::Page] {
                    let case = Case::new(layers);
                    let made = case
                        .overlay(id_map)
                        .mount_by(&case.private, |found| case.overlay(id_map).create(found, way, &case.private));
                    if way == Way::Joined && layers > 100 {
                        assert_eq!(made.map(drop).expect_err("too long").errno, libc::E2BIG);
                        continue;
                    }
                    let mount = made.unwrap_or_else(|e| panic!("{way:?} {layers}: {e}"));
                    assert_eq!(read(&mount, "who"), "0", "{way:?} {layers}");
                    assert_eq!(read(&mount, &format!("only-{}", layers - 1)), "", "{way:?} {layers}");
                    let meta = fs::metadata(format!("{}/who", by_fd(mount.as_fd()))).expect("there");
                    assert_eq!(meta.uid(), if id_map.is_some() { 1000 } else { 0 }, "{way:?} {layers}");
                    if id_map.is_none() {
                        fs::write(format!("{}/who", by_fd(mount.as_fd())), "me").expect("written");
                        assert_eq!(fs::read(case.folder.join("upper/who")).expect("there"), b"me");
                    }
                    nothing_is_attached(&case.private);
                }
            }
        }
        assert_eq!(env::current_dir().expect("a folder"), before);
        if let Some((mut child, _)) = ids {
            child.kill().expect("ours");
            child.wait().expect("ours");
        }
    }

    #[test]
    fn no_layers_and_the_same_one_twice_are_no_obstacle() {
        in_namespaces("no_layers_and_the_same_one_twice_are_no_obstacle");
        if !is_inner() {
            return;
        }
        let case = Case::new(0);
        let mount = case.overlay(None).mount(&case.private).expect("mounted");
        let root = by_fd(mount.as_fd());
        assert_eq!(fs::read_dir(&root).expect("a folder").count(), 0);
        assert_eq!(fs::metadata(&root).expect("a folder").mode() & 0o7777, 0o755);

        let mut case = Case::new(2);
        let again = case.names.clone();
        case.names.extend(again);
        let mount = case.overlay(None).mount(&case.private).expect("mounted");
        assert_eq!(read(&mount, "who"), "0");
        assert_eq!(read(&mount, "only-1"), "");
    }

    #[test]
    fn more_layers_than_the_kernel_takes_are_said_to_be() {
        in_namespaces("more_layers_than_the_kernel_takes_are_said_to_be");
        if !is_inner() {
            return;
        }
        let case = Case::new(500);
        let mount = case.overlay(None).mount(&case.private).expect("mounted");
        assert_eq!(read(&mount, "only-499"), "");
        let case = Case::new(501);
        let error = case.overlay(None).mount(&case.private).map(drop).expect_err("too many");
        assert_eq!(error.step, BringUpStep::TooManyLayers(501));
        nothing_is_attached(&case.private);
    }

    /// Not a test but a measurement: `cargo test --release --lib -- --ignored --nocapture how_long_an_overlay_takes`.
    #[test]
    #[ignore = "a measurement"]
    fn how_long_an_overlay_takes() {
        if !is_inner() {
            let ours = env::current_exe().expect("ours");
            let root = nix::unistd::geteuid().is_root();
            let mut command = Command::new("unshare");
            command.args(if root { ["-m"].iter() } else { ["-U", "-r", "-m"].iter() }).arg(ours).env(INNER, "1");
            command.args(["--exact", "--ignored", "--nocapture", "sandbox::overlay::tests::how_long_an_overlay_takes"]);
            assert!(command.status().expect("unshare").success());
            return;
        }
        let ids = in_initial_user_namespace().then(other_ids);
        for (shown, id_map) in [("as they are", None), ("mapped ids", ids.as_ref().map(|(_, user)| user.as_fd()))] {
            for layers in [1, 20, 100] {
                for way in [Way::OneByOne, Way::Joined, Way::Page] {
                    let case = Case::new(layers);
                    let folders: Vec<PathBuf> = case.names.iter().map(|name| case.store.join(name)).collect();
                    for (from, lower) in [
                        ("one clone", Lower::Layers { store: &case.store, names: &case.names }),
                        ("clone each", Lower::Folders(&folders)),
                    ] {
                        let overlay = Overlay { lower, ..case.overlay(id_map) };
                        let mut times = Vec::new();
                        for _ in 0..51 {
                            let started = std::time::Instant::now();
                            let made =
                                overlay.mount_by(&case.private, |found| overlay.create(found, way, &case.private));
                            times.push(started.elapsed());
                            if made.is_err() {
                                break;
                            }
                        }
                        times.sort();
                        let line =
                            format!("{shown:12} {from:10} {way:9?} {layers:4} layers: {:?}\n", times[times.len() / 2]);
                        io::Write::write_all(&mut io::stderr(), line.as_bytes()).expect("written");
                    }
                }
            }
        }
        if let Some((mut child, _)) = ids {
            child.kill().expect("ours");
            child.wait().expect("ours");
        }
    }
}
