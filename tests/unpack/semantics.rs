//! What becomes of each kind of member.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use nscompose::image::unpack::{Limits, OWNER_ATTRIBUTE, OverlayAttributes, Ownership, UnpackError, UnpackOptions};

use super::{archive::Archive, place::Place};
use crate::support::{Need, is_root, needs};

fn single() -> UnpackOptions {
    UnpackOptions { ownership: Ownership::Single, attributes: OverlayAttributes::User, limits: Limits::default() }
}

#[test]
fn whiteouts_become_what_overlayfs_takes() {
    let place = Place::new();
    let archive = Archive::new()
        .folder("d")
        .file("d/.wh.gone", "")
        .file("e/.wh..wh..opq", "")
        .file("e/kept", "1")
        .file(".wh..wh.aufs", "")
        .file(".wh..wh.plnk/1.2", "")
        .end();
    let unpacked = place.unpack(&archive).expect("unpacked");
    assert!(place.is_whiteout("d/gone"));
    assert!(place.is_opaque("e") && !place.is_opaque("d"));
    assert_eq!(place.text("e/kept"), "1");
    assert_eq!((unpacked.implied_folders, unpacked.opaque_root), (1, false));
    let names = std::fs::read_dir(place.folder()).expect("there").count();
    assert_eq!(names, 2, "what AUFS notes is nothing");
    let place = Place::new();
    assert!(place.unpack(&Archive::new().file(".wh..wh..opq", "").end()).expect("unpacked").opaque_root);
    assert!(place.is_opaque(""));
}

#[test]
fn a_mark_does_not_delete_what_the_same_layer_has() {
    let place = Place::new();
    let archive = Archive::new()
        .file("before", "1")
        .file(".wh.before", "")
        .file(".wh.after", "")
        .file("after", "2")
        .folder("folder-before")
        .file("folder-before/x", "3")
        .file(".wh.folder-before", "")
        .file(".wh.folder-after", "")
        .folder("folder-after")
        .file(".wh.implied", "")
        .file("implied/x", "4")
        .file(".wh.twice", "")
        .file(".wh.twice", "")
        .end();
    place.unpack(&archive).expect("unpacked");
    assert_eq!((place.text("before"), place.text("after")), ("1".to_owned(), "2".to_owned()));
    assert_eq!((place.text("folder-before/x"), place.text("implied/x")), ("3".to_owned(), "4".to_owned()));
    // What lower layers have in them is gone all the same.
    for folder in ["folder-before", "folder-after", "implied"] {
        assert!(place.is_opaque(folder), "{folder}");
    }
    assert!(place.is_whiteout("twice"));
}

#[test]
fn the_later_member_wins() {
    let place = Place::new();
    let archive = Archive::new()
        .file("f", "long content")
        .mode(0o600)
        .file("f", "short")
        .mtime(5)
        .folder("d")
        .file("d/x", "1")
        .mtime(9)
        .mode(0o711)
        .folder("d")
        .folder("gone")
        .file("gone/a/b/c", "")
        .folder("gone/e")
        .file("gone", "now a file")
        .symlink("s", "x")
        .folder("s")
        .fifo("s")
        .file("s", "1")
        .file("h", "linked")
        .link("s", "h")
        .end();
    place.unpack(&archive).expect("unpacked");
    assert_eq!((place.text("f"), place.mode("f")), ("short".to_owned(), 0o600));
    assert_eq!((place.text("d/x"), place.mode("d")), ("1".to_owned(), 0o711));
    assert_eq!(place.path("d").metadata().expect("there").mtime(), 9);
    assert_eq!(place.text("gone"), "now a file");
    assert_eq!(place.text("s"), "linked");
}

#[test]
fn modes_and_times_are_as_the_archive_says() {
    let place = Place::new();
    let archive = Archive::new()
        .mode(0o1777)
        .mtime(1)
        .folder("./")
        .mode(0o2755)
        .mtime(2)
        .folder("setgid")
        .mode(0o4666)
        .pax("mtime", "1234567890.123456789")
        .file("setgid/program", "x")
        .mode(0o777)
        .folder("setgid/plain")
        .file("setgid/implied/x", "")
        .pax("mtime", "-1.25")
        .file("old", "")
        .mtime(3)
        .symlink("link", "x")
        .mode(0o602)
        .mtime(4)
        .fifo("fifo")
        .end();
    place.unpack(&archive).expect("unpacked");
    let modes = ["", "setgid", "setgid/program", "setgid/plain", "setgid/implied", "fifo"].map(|name| place.mode(name));
    assert_eq!(modes, [0o1777, 0o2755, 0o4666, 0o777, 0o755, 0o602]);
    let time = |name: &str| {
        let there = place.path(name).symlink_metadata().expect("there");
        (there.mtime(), there.mtime_nsec())
    };
    assert_eq!(["", "setgid", "link", "fifo"].map(time), [(1, 0), (2, 0), (3, 0), (4, 0)]);
    assert_eq!((time("setgid/program"), time("old")), ((1_234_567_890, 123_456_789), (-2, 750_000_000)));
}

#[test]
fn names_come_from_where_they_are_longest() {
    let place = Place::new();
    let long = format!("{}/{}", "d".repeat(90), "f".repeat(90));
    let mut archive = Archive::new()
        .file(&long, "1")
        .pax("path", "from/pax")
        .pax("linkpath", "ignored")
        .file("x", "2")
        .symlink("l", &"t".repeat(150))
        .pax("linkpath", "pax-target")
        .symlink("m", "x")
        .file("name", "3")
        .end();
    // The last member before the two blocks of the end and one of data gets a prefix.
    let at = archive.len() - 1024 - 1024;
    archive[at + 345..at + 351].copy_from_slice(b"prefix");
    super::archive::sum(&mut archive[at..at + 512]);
    place.unpack(&archive).expect("unpacked");
    assert_eq!(place.text(&long), "1");
    assert_eq!((place.text("from/pax"), place.text("prefix/name")), ("2".to_owned(), "3".to_owned()));
    assert_eq!(std::fs::read_link(place.path("l")).expect("link").as_os_str().len(), 150);
    assert_eq!(std::fs::read_link(place.path("m")).expect("link").to_str(), Some("pax-target"));
}

#[test]
fn only_plain_files_have_data() {
    let place = Place::new();
    let archive = Archive::new()
        .file("f", "1")
        .member("l", b'1', "f", 5000, b"")
        .member("s", b'2', "f", 5000, b"")
        .member("d", b'5', "", 5000, b"")
        .member("old/", b'0', "", 3, b"abc")
        .member("contiguous", b'7', "", 3, b"abc")
        .member("v7", 0, "", 3, b"abc")
        .end();
    assert_eq!(place.unpack(&archive).expect("unpacked").entries, 7);
    assert!(place.path("old").is_dir() && place.path("d").is_dir());
    assert_eq!((place.text("contiguous"), place.text("v7")), ("abc".to_owned(), "abc".to_owned()));
}

#[test]
fn attributes_that_mean_something_here_have_no_effect() {
    let place = Place::new();
    let archive = Archive::new()
        .pax("SCHILY.xattr.user.kept", b"\0\xff")
        .pax("SCHILY.xattr.trusted.overlay.opaque", "y")
        .pax("SCHILY.xattr.user.overlay.opaque", "y")
        .pax("SCHILY.xattr.trusted.overlay.redirect", "/etc")
        .pax("SCHILY.xattr.user.nscompose.owner", "0:0:4755")
        .folder("d")
        .pax("SCHILY.xattr.user.overlay.metacopy", "")
        .file("f", "")
        .pax("SCHILY.xattr.no-such-kind", "x")
        .pax("SCHILY.acl.access", "user::rwx")
        .file("g", "")
        .end();
    let lost = place.unpack(&archive).expect("unpacked").lost;
    assert_eq!(place.xattr("d", "user.kept").as_deref(), Some(&b"\0\xff"[..]));
    assert_eq!((lost.reserved_attributes, lost.attributes), (5, 2));
    for name in ["trusted.overlay.opaque", "user.overlay.opaque", "trusted.overlay.redirect", OWNER_ATTRIBUTE] {
        assert_eq!(place.xattr("d", name), None, "{name}");
    }
    assert_eq!(place.xattr("f", "user.overlay.metacopy"), None);
}

#[test]
fn devices_are_made_by_root_and_counted_by_others() {
    let place = Place::new();
    let archive = Archive::new()
        .device("null", b'3', 1, 3)
        .mode(0o640)
        .device("disk", b'4', 8, 1)
        .device("mark", b'3', 0, 0)
        .end();
    let lost = place.unpack(&archive).expect("unpacked").lost;
    assert!(!place.path("mark").exists(), "it would delete something");
    if is_root() {
        let there = ["null", "disk"].map(|name| place.path(name).symlink_metadata().expect("there"));
        assert!(there[0].file_type().is_char_device() && there[1].file_type().is_block_device());
        assert_eq!(there.map(|there| (libc::major(there.rdev()), libc::minor(there.rdev()))), [(1, 3), (8, 1)]);
        assert_eq!((lost.devices, place.mode("disk")), (1, 0o640));
    } else {
        assert_eq!(lost.devices, 3);
    }
}

#[test]
fn owners_are_kept_by_root() {
    needs!(Need::Root);
    let place = Place::new();
    // A capability as setcap writes it: cap_net_raw+ep.
    let capability: Vec<u8> = [0x0200_0001_u32, 1 << 13, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect();
    let archive = Archive::new()
        .owner(12, 34)
        .mode(0o6755)
        .pax("SCHILY.xattr.security.capability", &capability)
        .file("program", "x")
        .owner(56, 78)
        .symlink("link", "x")
        .pax("uid", "4000000000")
        .file("high", "")
        .owner(9_000_000, 5)
        .file("bytes", "")
        .pax("uid", "4294967295")
        .mode(0o4755)
        .file("none", "")
        .pax("uid", "99999999999")
        .symlink("none-link", "x")
        .owner(4, 4)
        .file("again", "")
        .owner(5, 5)
        .link("again-too", "again")
        .end();
    let lost = place.unpack(&archive).expect("unpacked").lost;
    let owner = |name: &str| {
        let there = place.path(name).symlink_metadata().expect("there");
        (there.uid(), there.gid())
    };
    assert_eq!(owner("program"), (12, 34));
    assert_eq!(place.mode("program"), 0o6755);
    assert_eq!(place.xattr("program", "security.capability"), Some(capability));
    assert_eq!(["link", "high", "bytes"].map(owner), [(56, 78), (4_000_000_000, 0), (9_000_000, 5)]);
    assert_eq!(owner("again-too"), (4, 4));
    // No rights of an owner that it does not have.
    assert_eq!((owner("none"), place.mode("none")), ((0, 0), 0o755));
    assert_eq!(place.xattr("none", OWNER_ATTRIBUTE).as_deref(), Some(&b"4294967295:0:4755"[..]));
    assert_eq!((lost.ids_out_of_range, lost.owners_noted, lost.owners), (2, 1, 1));
}

#[test]
fn groups_of_folders_do_not_come_to_files() {
    needs!(Need::Root);
    let place = Place::new();
    let archive = Archive::new()
        .file("first", "")
        .owner(0, 5)
        .mode(0o2775)
        .folder("./")
        .file("second", "")
        .folder("d")
        .file("d/before", "")
        .owner(0, 5)
        .mode(0o2775)
        .folder("d")
        .file("d/after", "")
        .folder("d/e")
        .file("d/e/file", "")
        .file("d/implied/file", "")
        .end();
    place.unpack(&archive).expect("unpacked");
    for name in ["first", "second", "d/before", "d/after", "d/e", "d/e/file", "d/implied", "d/implied/file"] {
        let there = place.path(name).metadata().expect("there");
        assert_eq!((there.gid(), place.mode(name) & 0o2000), (0, 0), "{name}");
    }
}

#[test]
fn with_a_single_id_owners_are_noted() {
    let place = Place::new();
    let archive = Archive::new()
        .owner(12, 34)
        .file("theirs", "x")
        .mode(0o444)
        .file("mine", "x")
        .owner(0, 5)
        .mode(0o4511)
        .file("program", "x")
        .mode(0o55)
        .owner(7, 0)
        .folder("d")
        .file("d/x", "")
        .owner(1, 1)
        .symlink("link", "x")
        .symlink("own-link", "x")
        .owner(1, 1)
        .fifo("fifo")
        .end();
    let lost = place.unpack_with(&archive, &single()).expect("unpacked").lost;
    let uid = nix::unistd::geteuid().as_raw();
    let noted = |name: &str| place.xattr(name, OWNER_ATTRIBUTE).map(|note| String::from_utf8(note).expect("text"));
    for name in ["theirs", "mine", "program", "d", "link", "fifo"] {
        assert_eq!(place.path(name).symlink_metadata().expect("there").uid(), uid, "{name}");
    }
    assert_eq!(["theirs", "mine", "program", "d"].map(|name| place.mode(name)), [0o644, 0o644, 0o711, 0o755]);
    let notes = ["12:34", "0:0:444", "0:5:4511", "7:0:55"].map(|note| Some(note.to_owned()));
    assert_eq!(["theirs", "mine", "program", "d"].map(noted), notes);
    assert_eq!(noted("d/x"), None);
    assert_eq!((lost.owners_noted, lost.owners, lost.ids_out_of_range), (4, 2, 0));
}

#[test]
fn inherited_rights_do_not_come_to_files() {
    // A list of rights for what is made in a folder: owner rwx, user 1 rwx, group r-x, mask rwx, others ---.
    let entries: [(u16, u16, u32); 5] =
        [(1, 7, u32::MAX), (2, 7, 1), (4, 5, u32::MAX), (0x10, 7, u32::MAX), (0x20, 0, u32::MAX)];
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        acl.extend_from_slice(&tag.to_le_bytes());
        acl.extend_from_slice(&rights.to_le_bytes());
        acl.extend_from_slice(&id.to_le_bytes());
    }
    let place = Place::new();
    if rustix::fs::setxattr(place.folder(), "system.posix_acl_default", &acl, rustix::fs::XattrFlags::empty()).is_err()
    {
        // Not with every file system of every account: what follows needs it.
        needs!(Need::Root);
    }
    let archive = Archive::new()
        .pax("SCHILY.xattr.system.posix_acl_default", &acl)
        .folder("d")
        .mode(0o604)
        .file("d/f", "")
        .file("g", "")
        .end();
    place.unpack(&archive).expect("unpacked");
    assert_eq!((place.mode("d/f"), place.mode("g"), place.mode("d")), (0o604, 0o644, 0o755));
    assert_eq!(place.xattr("d/f", "system.posix_acl_access"), None);
    assert_eq!(place.xattr("d", "system.posix_acl_default").map(|acl| acl.len()), Some(acl.len()));
}

#[test]
fn the_mask_of_the_process_is_left_alone() {
    let before = std::fs::read_to_string("/proc/thread-self/status").expect("there");
    let umask = |text: &str| text.lines().find(|line| line.starts_with("Umask")).map(str::to_owned);
    let place = Place::new();
    place.unpack(&Archive::new().mode(0o666).file("f", "").end()).expect("unpacked");
    assert_eq!(place.mode("f"), 0o666);
    let after = std::fs::read_to_string("/proc/thread-self/status").expect("there");
    assert!(umask(&before).is_some());
    assert_eq!(umask(&before), umask(&after));
}

#[test]
fn a_folder_that_is_not_there_is_said() {
    let place = Place::new();
    let gone = place.path("gone");
    let result = nscompose::image::unpack::unpack(&b""[..], &gone, &super::place::options());
    assert!(matches!(result, Err(UnpackError::Folder { path, .. }) if path == gone));
}
