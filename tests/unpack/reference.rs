//! The same as other programs make of it, and there and back again.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use nscompose::{
    image::{
        pack::{PackOptions, Packing, pack},
        unpack::OverlayAttributes,
    },
    model::Digest,
};
use rustix::fs::{FileType, Mode, XattrFlags};

use super::{
    archive::Archive,
    place::{Place, Tree, tree},
};
use crate::support::{Need, Run, needs};

/// A folder with all that is awkward, but for what a layer deletes.
fn awkward(folder: &Path) {
    let at = |name: &str| folder.join(name);
    fs::create_dir_all(at("d/e/f")).expect("made");
    fs::write(at("plain"), "content").expect("made");
    fs::write(at("empty"), "").expect("made");
    fs::write(at("big"), (0..300_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>()).expect("made");
    fs::write(at("d/program"), "x").expect("made");
    std::os::unix::fs::chown(at("d/program"), Some(12), Some(34)).expect("root");
    fs::set_permissions(at("d/program"), fs::Permissions::from_mode(0o6711)).expect("mode");
    let capability: Vec<u8> = [1_u32 << 25, 1 << 13, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect();
    fs::write(at("d/able"), "x").expect("made");
    rustix::fs::setxattr(at("d/able"), "security.capability", &capability, XattrFlags::empty()).expect("root");
    rustix::fs::setxattr(at("d/e"), "user.note", b"a\0b\n=", XattrFlags::empty()).expect("attributes");
    fs::hard_link(at("plain"), at("d/hard")).expect("linked");
    fs::hard_link(at("plain"), at("zhard")).expect("linked");
    symlink("../outside", at("d/link")).expect("linked");
    symlink("x".repeat(200), at("long-link")).expect("linked");
    fs::hard_link(at("d/link"), at("d/link-too")).expect("linked");
    std::os::unix::fs::lchown(at("d/link"), Some(5), Some(6)).expect("root");
    let long = format!("{}/{}", "l".repeat(120), "m".repeat(255));
    fs::create_dir(at(&"l".repeat(120))).expect("made");
    fs::write(at(&long), "").expect("made");
    fs::write(at("umlaut-\u{e4} \n\\"), "").expect("made");
    std::os::unix::fs::chown(at("empty"), Some(3_000_000_000), Some(2_097_152)).expect("root");
    let node = |name: &str, kind, device| {
        rustix::fs::mknodat(rustix::fs::CWD, at(name), kind, Mode::from_raw_mode(0o640), device).expect("root");
    };
    node("fifo", FileType::Fifo, 0);
    node("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3));
    node("disk", FileType::BlockDevice, rustix::fs::makedev(259, 70_000));
    let sparse = fs::File::create(at("sparse")).expect("made");
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"middle", 1 << 20).expect("written");
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", 5 << 20).expect("written");
    sparse.set_len(9_000_001).expect("a hole");
    fs::set_permissions(at("d/e/f"), fs::Permissions::from_mode(0o3000)).expect("mode");
    for (name, time) in [("d/e", 1_000_000_000), ("plain", 12), ("d", 77), ("fifo", 99)] {
        let time = rustix::fs::Timespec { tv_sec: time, tv_nsec: 123_456_789 };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(rustix::fs::CWD, at(name), &times, rustix::fs::AtFlags::empty()).expect("times");
    }
}

#[track_caller]
fn same(what: &str, ours: &Tree, theirs: &Tree) {
    for (path, line) in theirs {
        assert_eq!(ours.get(path), Some(line), "{what}: {}", path.display());
    }
    assert_eq!(ours.len(), theirs.len(), "{what}");
}

#[test]
fn gnu_tar_makes_the_same_of_its_archives() {
    needs!(Need::Root, Need::Program("tar"));
    let place = Place::new();
    let (source, theirs) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    awkward(source.path());
    let path = |dir: &tempfile::TempDir| dir.path().display().to_string();
    let formats: [&[&str]; 7] = [
        &["--format=gnu"],
        &["--format=gnu", "--sparse"],
        &["--format=pax", "--xattrs", "--xattrs-include=*"],
        &["--format=pax", "--xattrs", "--xattrs-include=*", "--sparse", "--sparse-version=0.0"],
        &["--format=pax", "--xattrs", "--xattrs-include=*", "--sparse", "--sparse-version=0.1"],
        &["--format=pax", "--xattrs", "--xattrs-include=*", "--sparse", "--sparse-version=1.0"],
        &["--format=pax", "--xattrs", "--xattrs-include=*", "-z", "--sort=name"],
    ];
    for format in formats {
        let file = place.outside().with_extension("tar");
        let name = file.display().to_string();
        Run::new("tar").args(format).args(["-cf", &name, "-C", &path(&source), "."]).run().success();
        let archive = fs::read(&file).expect("made");
        fs::remove_file(&file).expect("removed");
        let unpacked = place.unpack(&archive).unwrap_or_else(|e| panic!("{format:?}: {e:?}"));
        assert_eq!(unpacked.lost, nscompose::image::unpack::Lost::default(), "{format:?}");
        let packed = theirs.path().join("archive.tar");
        fs::write(&packed, &archive).expect("written");
        let into = theirs.path().join("into");
        fs::create_dir(&into).expect("made");
        let options = ["--numeric-owner", "-p", "--same-owner", "--xattrs", "--xattrs-include=*"];
        let (from, to) = (packed.display().to_string(), into.display().to_string());
        Run::new("tar").args(options).args(["-xf", &from, "-C", &to]).run().success();
        same(&format!("{format:?}"), &tree(&place.folder()), &tree(&into));
        if format.contains(&"--sparse") {
            let blocks = std::os::unix::fs::MetadataExt::blocks(&place.path("sparse").metadata().expect("there"));
            assert!(blocks < 100, "{format:?}: {blocks}");
        }
        fs::remove_dir_all(&into).expect("removed");
        place.clear();
    }
}

#[test]
fn umoci_makes_the_same_of_a_layer() {
    needs!(Need::Root, Need::Program("umoci"));
    let (source, layout) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    awkward(source.path());
    let mut archive = Vec::new();
    let packed =
        pack(source.path(), &mut archive, &PackOptions { packing: Packing::Whole, first_id: 0 }).expect("packed");
    let blobs = layout.path().join("image/blobs/sha256");
    fs::create_dir_all(&blobs).expect("made");
    let blob = |bytes: &[u8]| {
        let digest = Digest::of(bytes);
        fs::write(blobs.join(digest.hex()), bytes).expect("written");
        format!(r#""digest":"{digest}","size":{}"#, bytes.len())
    };
    let layer = blob(&archive);
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        packed.diff_id
    );
    let config = blob(config.as_bytes());
    let kind = "application/vnd.oci.image";
    let manifest = blob(
        format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"{kind}.config.v1+json",{config}}},"layers":[{{"mediaType":"{kind}.layer.v1.tar",{layer}}}]}}"#
        )
        .as_bytes(),
    );
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{kind}.manifest.v1+json",{manifest},"annotations":{{"org.opencontainers.image.ref.name":"x"}}}}]}}"#
    );
    fs::write(layout.path().join("image/index.json"), index).expect("written");
    fs::write(layout.path().join("image/oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("written");
    let image = format!("{}:x", layout.path().join("image").display());
    let into = layout.path().join("into");
    Run::new("umoci").args(["raw", "unpack", "--image", &image, &into.display().to_string()]).run().success();
    let place = Place::new();
    let unpacked = place.unpack(&archive).expect("unpacked");
    assert_eq!(unpacked.diff_id, packed.diff_id);
    same("umoci", &tree(&place.folder()), &tree(&into));
}

#[test]
fn a_file_system_comes_back_as_it_was() {
    needs!(Need::Root);
    let source = tempfile::tempdir().expect("a folder");
    awkward(source.path());
    let _socket = std::os::unix::net::UnixListener::bind(source.path().join("socket")).expect("bound");
    let options = PackOptions { packing: Packing::Whole, first_id: 0 };
    let (mut first, mut second) = (Vec::new(), Vec::new());
    let packed = pack(source.path(), &mut first, &options).expect("packed");
    assert_eq!(pack(source.path(), &mut second, &options).expect("packed"), packed);
    assert!(first == second, "the same folder gives the same bytes");
    assert_eq!((packed.diff_id.clone(), packed.bytes), (Digest::of(&first), first.len() as u64));
    assert_eq!((packed.sockets, packed.changed), (1, 0));
    let place = Place::new();
    let unpacked = place.unpack(&first).expect("unpacked");
    assert_eq!((unpacked.diff_id, unpacked.entries), (packed.diff_id, packed.entries));
    fs::remove_file(source.path().join("socket")).expect("removed");
    let mut expected = tree(source.path());
    // Taking the socket away changed the time of the folder.
    let root = tree(&place.folder()).remove(Path::new("")).expect("there");
    expected.insert("".into(), root);
    same("there and back", &tree(&place.folder()), &expected);
}

#[test]
fn an_upper_layer_becomes_a_layer_again() {
    let attributes = super::place::options().attributes;
    let layer = Archive::new()
        .mode(0o755)
        .folder("./")
        .mode(0o700)
        .folder("d")
        .file("d/.wh..wh..opq", "")
        .file("d/.wh.gone", "")
        .file("d/kept", "1")
        .link("d/linked", "d/kept")
        .owner(12, 34)
        .mode(0o400)
        .file("noted", "")
        .end();
    let (first, second) = (Place::new(), Place::new());
    first.unpack(&layer).expect("unpacked");
    let mut archive = Vec::new();
    // Outside of a user namespace, an ordinary user's files are not root's.
    let options = PackOptions { packing: Packing::Layer(attributes), first_id: nix::unistd::geteuid().as_raw() };
    let packed = pack(&first.folder(), &mut archive, &options).expect("packed");
    assert_eq!(packed.entries, 7);
    second.unpack(&archive).expect("unpacked");
    assert!(second.is_whiteout("d/gone") && second.is_opaque("d"));
    same("a layer", &tree(&second.folder()), &tree(&first.folder()));
    // The owner is in the archive, also where this account could only note it.
    let mut entries = tar::Archive::new(archive.as_slice());
    let noted = entries
        .entries()
        .expect("an archive")
        .flatten()
        .find(|entry| entry.path_bytes().as_ref() == b"noted")
        .map(|entry| (entry.header().uid().expect("a number"), entry.header().mode().expect("a number")));
    assert_eq!(noted, Some((12, 0o400)));
}

#[test]
fn what_overlayfs_moved_cannot_be_packed() {
    needs!(Need::Root);
    let place = Place::new();
    fs::create_dir(place.path("moved")).expect("made");
    rustix::fs::setxattr(place.path("moved"), "trusted.overlay.redirect", b"/old", XattrFlags::empty()).expect("root");
    let options = PackOptions { packing: Packing::Layer(OverlayAttributes::Trusted), first_id: 0 };
    let result = pack(&place.folder(), std::io::sink(), &options);
    assert!(matches!(result, Err(nscompose::image::pack::PackError::Redirected(_))), "{result:?}");
}

#[test]
fn ids_of_containers_are_counted_from_their_first() {
    needs!(Need::Root);
    let place = Place::new();
    for (name, id) in [("root", 0x4000_0000), ("user", 0x4000_03e8), ("other", 5)] {
        fs::write(place.path(name), "").expect("made");
        std::os::unix::fs::chown(place.path(name), Some(id), Some(id)).expect("root");
    }
    let mut archive = Vec::new();
    pack(&place.folder(), &mut archive, &PackOptions { packing: Packing::Whole, first_id: 0x4000_0000 })
        .expect("packed");
    let mut entries = tar::Archive::new(archive.as_slice());
    let ids: Vec<u64> =
        entries.entries().expect("valid").flatten().map(|e| e.header().uid().expect("a number")).collect();
    assert_eq!(ids[1..], [5, 0, 1000]);
}
