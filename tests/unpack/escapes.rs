//! Names and links that lead out of the folder, and what stands in the way.

use std::{fs, os::unix::fs::FileTypeExt};

use nscompose::image::unpack::UnpackError;

use super::{archive::Archive, place::Place};

#[test]
fn names_that_lead_out_are_refused() {
    for name in ["../outside/new", "/../outside/new", "a/../../outside/new", "..", "", "a/b/../../../x"] {
        for archive in [
            Archive::new().pax("path", name).file("x", "data"),
            Archive::new().file(name, "data"),
            Archive::new().folder(name),
            Archive::new().symlink(name, "x"),
            Archive::new().fifo(name),
            Archive::new().file("f", "").link(name, "f"),
        ] {
            let archive = archive.end();
            // An empty record of an extended header takes back what was said.
            if name.is_empty() && archive[156] == b'x' {
                continue;
            }
            let result = Place::new().unpack(&archive);
            assert!(matches!(result, Err(UnpackError::Name { .. })), "{name}: {result:?}");
        }
    }
    let place = Place::new();
    place.unpack(&Archive::new().file("/etc/passwd", "x").file("a/../b", "y").end()).expect("inside");
    assert_eq!((place.text("etc/passwd"), place.text("b")), ("x".to_owned(), "y".to_owned()));
}

#[test]
fn links_are_followed_with_the_layer_as_root() {
    let place = Place::new();
    let outside = place.outside().display().to_string();
    let up = "../".repeat(20);
    let archive = Archive::new()
        .symlink("absolute", &outside)
        .file("absolute/secret", "mine")
        .symlink("relative", "../outside")
        .file("relative/secret", "mine")
        .symlink("up", &format!("{up}{}", outside.trim_start_matches('/')))
        .folder("up/deep")
        .symlink("chain", "relative")
        .fifo("chain/fifo")
        .symlink("chain/link", "x")
        .file("chain/.wh.secret2", "")
        .file("chain/deep/.wh..wh..opq", "")
        .link("hard", "absolute/secret")
        .symlink("sub/absolute", "/from-root")
        .file("sub/absolute/file", "there")
        .end();
    place.unpack(&archive).expect("unpacked");
    let inside = place.folder().join(outside.trim_start_matches('/'));
    assert_eq!(fs::read_to_string(inside.join("secret")).expect("inside"), "mine");
    assert!(inside.join("deep").is_dir());
    assert_eq!(place.text("outside/secret"), "mine");
    assert!(place.path("outside/fifo").symlink_metadata().expect("there").file_type().is_fifo());
    assert!(place.is_whiteout("outside/secret2"));
    assert!(place.is_opaque("outside/deep"));
    assert_eq!(place.text("hard"), "mine");
    assert_eq!(place.text("from-root/file"), "there");
}

#[test]
fn the_last_part_of_a_name_is_never_followed() {
    let place = Place::new();
    let secret = place.outside().join("secret").display().to_string();
    let outside = place.outside().display().to_string();
    let archive = Archive::new()
        .symlink("a", &secret)
        .file("a", "mine")
        .symlink("b", &outside)
        .mode(0o700)
        .folder("b")
        .file("b/new", "")
        .symlink("c", &secret)
        .fifo("c")
        .symlink("d", &outside)
        .file(".wh.d", "")
        .symlink("e", &secret)
        .symlink("e", "elsewhere")
        .symlink("f", &secret)
        .link("g", "f")
        .symlink("h", &secret)
        .pax("SCHILY.xattr.user.x", "y")
        .mtime(7)
        .symlink("h", &secret)
        .end();
    place.unpack(&archive).expect("unpacked");
    assert_eq!(place.text("a"), "mine");
    assert!(place.path("b").symlink_metadata().expect("there").is_dir());
    assert!(place.path("c").symlink_metadata().expect("there").file_type().is_fifo());
    assert!(place.path("d").is_symlink(), "a mark does not delete what the layer itself has");
    assert_eq!(fs::read_link(place.path("e")).expect("a link").to_str(), Some("elsewhere"));
    assert!(place.path("g").is_symlink());
}

#[test]
fn the_way_to_a_folder_is_found_anew_after_it_was_replaced() {
    let place = Place::new();
    let archive = Archive::new()
        .folder("a")
        .file("a/one", "1")
        .symlink("a", "../outside")
        .file("a/two", "2")
        .folder("real")
        .symlink("l", "real")
        .file("l/three", "3")
        .symlink("l", "other")
        .file("l/four", "4")
        .folder("l")
        .file("l/five", "5")
        .end();
    place.unpack(&archive).expect("unpacked");
    assert_eq!(place.text("outside/two"), "2");
    assert!(place.path("a").is_symlink());
    assert_eq!((place.text("real/three"), place.text("other/four")), ("3".to_owned(), "4".to_owned()));
    assert_eq!(place.text("l/five"), "5");
    assert!(place.path("l").symlink_metadata().expect("there").is_dir());
}

#[test]
fn a_folder_may_take_itself_away_through_a_link() {
    let place = Place::new();
    let archive = Archive::new()
        .symlink("a/up", "..")
        .file("a/up/one", "1")
        .symlink("a/up/a", "elsewhere")
        .file("a/up/two", "2")
        .end();
    place.unpack(&archive).expect("unpacked");
    assert_eq!((place.text("one"), place.text("elsewhere/up/two")), ("1".to_owned(), "2".to_owned()));
}

#[test]
fn links_in_a_circle_are_an_error() {
    let chain = (0..45)
        .fold(Archive::new(), |archive, number| archive.symlink(&format!("l{number}"), &format!("l{}", number + 1)));
    // So many links the kernel follows, and one more is too many.
    Place::new().unpack(&chain.clone().file("l6/x", "").end()).expect("forty");
    for archive in [
        chain.file("l4/x", ""),
        Archive::new().symlink("a", "a").file("a/x", ""),
        Archive::new().symlink("a", "b").symlink("b", "a").file("a/x", ""),
        Archive::new().symlink("a", "a/a").file("a/x", ""),
        Archive::new().symlink("a", "b/../b/../b/..").symlink("b", "a").link("c", "a/x"),
    ] {
        let error = Place::new().unpack(&archive.end()).expect_err("a circle");
        let UnpackError::Member { source, .. } = &error else { panic!("{error:?}") };
        assert_eq!(source.raw_os_error(), Some(libc::ELOOP), "{error:?}");
    }
}

#[test]
fn a_hard_link_leads_to_a_file_of_the_same_layer() {
    let outside = Place::new().outside().join("secret").display().to_string();
    for target in
        [outside.as_str(), "../outside/secret", "/etc/passwd", "gone", "gone/too", "folder", ".", "", "deleted"]
    {
        let archive = Archive::new().folder("folder").file(".wh.deleted", "").link("a", target).end();
        let result = Place::new().unpack(&archive);
        assert!(matches!(result, Err(UnpackError::HardLink { .. })), "{target}: {result:?}");
    }
    let place = Place::new();
    let own = Archive::new().file("a", "1").link("a", "a").link("./b", "/a").link("b", "a").file("d/f", "").end();
    place.unpack(&own).expect("unpacked");
    assert_eq!((place.text("a"), place.text("b")), ("1".to_owned(), "1".to_owned()));
    let inside = Archive::new().file("d/f", "").link("d", "d/f").end();
    assert!(matches!(Place::new().unpack(&inside), Err(UnpackError::HardLink { .. })));
}

#[test]
fn what_is_no_folder_is_not_gone_through() {
    for archive in [
        Archive::new().file("a", "").file("a/b", ""),
        Archive::new().fifo("a").file("a/b", ""),
        Archive::new().file("f", "").symlink("a", "f").file("a/b", ""),
    ] {
        let error = Place::new().unpack(&archive.end()).expect_err("no folder");
        assert!(matches!(error, UnpackError::Member { .. }), "{error:?}");
    }
}

#[test]
fn writing_to_a_fifo_replaces_it() {
    let place = Place::new();
    place.unpack(&Archive::new().fifo("a").file("a", "data").end()).expect("unpacked");
    assert_eq!(place.text("a"), "data");
}

#[test]
fn depth_counts_what_links_add() {
    let deep = "d/".repeat(200);
    let archive = Archive::new().folder(&deep).symlink("l", &deep).folder(&format!("l/{deep}")).end();
    let result = Place::new().unpack(&archive);
    assert!(matches!(result, Err(UnpackError::Name { .. })), "{result:?}");
    let result = Place::new().unpack(&Archive::new().file(&"d/".repeat(300), "").end());
    assert!(matches!(result, Err(UnpackError::Name { .. })), "{result:?}");
}
