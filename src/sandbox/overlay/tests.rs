//! Overlays made in each way, in namespaces of their own in which the account is root.

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
        nix::mount::mount(Some("none"), dir.path(), Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("a tmpfs");
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
fn a_kernel_without_an_option_per_layer_gets_them_in_one_as_long_as_they_fit() {
    in_namespaces("a_kernel_without_an_option_per_layer_gets_them_in_one_as_long_as_they_fit");
    if !is_inner() {
        return;
    }
    for (layers, ways) in [
        (3, &[Way::OneByOne, Way::Joined][..]),
        (40, &[Way::OneByOne, Way::Joined]),
        (130, &[Way::OneByOne, Way::Joined, Way::Page]),
    ] {
        let case = Case::new(layers);
        let mut tried = Vec::new();
        let mount = case.overlay(None).mount_by(&case.private, |found| {
            first_that_works(|way| {
                tried.push(way);
                if way == Way::OneByOne {
                    return Err(io::Error::from_raw_os_error(libc::EINVAL));
                }
                case.overlay(None).create(found, way, &case.private)
            })
        });
        assert_eq!(read(&mount.expect("mounted"), &format!("only-{}", layers - 1)), "");
        assert_eq!(tried, ways);
    }
}

#[test]
fn a_layer_that_is_missing_is_named() {
    in_namespaces("a_layer_that_is_missing_is_named");
    if !is_inner() {
        return;
    }
    let case = Case::new(3);
    let missing = case.store.join(&case.names[1]);
    fs::remove_dir_all(&missing).expect("there");
    let error = case.overlay(None).mount(&case.private).map(drop).expect_err("one is missing");
    assert_eq!(error, BringUpStep::Root(missing).failed(io::Error::from_raw_os_error(libc::ENOENT)));
    nothing_is_attached(&case.private);
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

#[test]
fn the_root_belongs_to_whom_the_uppermost_layer_says() {
    in_namespaces("the_root_belongs_to_whom_the_uppermost_layer_says");
    if !is_inner() {
        return;
    }
    let root = in_initial_user_namespace();
    let ids = root.then(other_ids);
    // An account that is root in a namespace of its own has no other id here.
    let (uid, gid) = if root { (1234, 5678) } else { (0, 0) };
    for id_map in [None, ids.as_ref().map(|(_, user)| user.as_fd())] {
        let case = Case::new(2);
        let top = case.store.join(&case.names[0]);
        std::os::unix::fs::chown(&top, Some(uid), Some(gid)).expect("an owner");
        fs::set_permissions(&top, fs::Permissions::from_mode(0o710)).expect("a mode");
        case.overlay(id_map).mount(&case.private).expect("mounted");
        let upper = fs::metadata(case.folder.join("upper")).expect("there");
        let first = case.overlay(id_map).outside;
        assert_eq!((upper.uid(), upper.gid(), upper.mode() & 0o7777), (first + uid, first + gid, 0o710));
        // A folder that is somebody's here says nothing of who is who in the container.
        let case = Case::new(2);
        let folders = [case.store.join(&case.names[0])];
        std::os::unix::fs::chown(&folders[0], Some(uid), Some(gid)).expect("an owner");
        if id_map.is_none() {
            Overlay { lower: Lower::Folders(&folders), ..case.overlay(None) }.mount(&case.private).expect("mounted");
            assert_eq!(fs::metadata(case.folder.join("upper")).expect("there").uid(), 0);
        }
    }
    if let Some((mut child, _)) = ids {
        child.kill().expect("ours");
        child.wait().expect("ours");
    }
}
