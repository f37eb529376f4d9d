//! Archives that are too much, or that lie.

use nscompose::image::unpack::{Limits, UnpackError, UnpackOptions};

use super::{
    archive::{Archive, sum},
    place::{Place, options},
};

fn limited(limits: Limits) -> UnpackOptions {
    UnpackOptions { limits, ..options() }
}

#[test]
fn a_bomb_is_stopped() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let header = Archive::new().member("zeros", b'0', "", 1 << 32, b"").bytes;
    std::io::Write::write_all(&mut encoder, &header).expect("memory");
    for _ in 0..64 {
        std::io::Write::write_all(&mut encoder, &[0; 1 << 20]).expect("memory");
    }
    let bomb = encoder.finish().expect("memory");
    assert!(bomb.len() < 200_000);
    let limits = Limits { bytes: 8 << 20, ..Limits::default() };
    let place = Place::new();
    let result = place.unpack_with(&bomb, &limited(limits));
    assert!(matches!(result, Err(UnpackError::Limit { what: "bytes", .. })), "{result:?}");
    assert!(place.path("zeros").metadata().expect("there").len() <= 8 << 20);
    // The limit holds for what is after the end, too.
    let trailing = [Archive::new().end(), vec![0; 9 << 20]].concat();
    let result = Place::new().unpack_with(&trailing, &limited(limits));
    assert!(matches!(result, Err(UnpackError::Limit { what: "bytes", .. })), "{result:?}");
}

#[test]
fn members_are_counted() {
    let mut archive = Archive::new();
    for number in 0..20 {
        archive = archive.file(&number.to_string(), "");
    }
    let archive = archive.end();
    let of = |entries| Place::new().unpack_with(&archive, &limited(Limits { entries, ..Limits::default() }));
    assert_eq!(of(20).expect("just so many").entries, 20);
    assert!(matches!(of(19), Err(UnpackError::Limit { what: "members", limit: 19 })));
}

#[test]
fn extended_headers_are_bounded() {
    for kind in [b'x', b'g', b'L', b'K'] {
        for size in [(1 << 20) + 1, 1 << 40, i64::MAX as u64] {
            let archive = Archive::new().member("x", kind, "", size, b"").file("a", "").end();
            let result = Place::new().unpack(&archive);
            assert!(matches!(result, Err(UnpackError::Limit { .. })), "{kind} {size}: {result:?}");
        }
    }
}

#[test]
fn sizes_that_lie_are_found_out() {
    let long = Archive::new().member("a", b'0', "", 5000, b"short").end();
    assert!(matches!(Place::new().unpack(&long), Err(UnpackError::Truncated(_))));
    for size in [1 << 62, i64::MAX as u64] {
        let huge = Archive::new().member("a", b'0', "", size, b"short").end();
        assert!(matches!(Place::new().unpack(&huge), Err(UnpackError::Truncated(_))));
    }
    let beyond = Archive::new().pax("size", u64::MAX.to_string()).file("a", "").end();
    assert!(matches!(Place::new().unpack(&beyond), Err(UnpackError::Broken { .. })));
    let alone = Archive::new().member("x", b'L', "", 3, b"abc").end();
    assert!(matches!(Place::new().unpack(&alone), Err(UnpackError::Truncated(_))));
}

#[test]
fn headers_are_checked() {
    let mut archive = Archive::new().file("a", "").file("b", "").end();
    archive[513] = b'x';
    assert!(matches!(Place::new().unpack(&archive), Err(UnpackError::Broken { .. })));
    let hole = [Archive::new().file("a", "").bytes, vec![0; 512], Archive::new().file("b", "").bytes].concat();
    assert!(matches!(Place::new().unpack(&hole), Err(UnpackError::Broken { .. })));
    for (at, what) in [(100, "mode"), (108, "owner"), (116, "group"), (124, "size"), (136, "time")] {
        let mut archive = Archive::new().file("a", "").end();
        archive[at..at + 7].copy_from_slice(b"00no000");
        sum(&mut archive);
        assert!(matches!(Place::new().unpack(&archive), Err(UnpackError::Broken { .. })), "{what}");
    }
    for kind in [b'M', b'8', b'?'] {
        let archive = Archive::new().member("a", kind, "", 0, b"").end();
        assert!(matches!(Place::new().unpack(&archive), Err(UnpackError::Kind { .. })), "{kind}");
    }
}

#[test]
fn names_no_file_can_have_are_refused() {
    let long = "x".repeat(256);
    let longer = format!("{}x", "y/".repeat(2100));
    for name in [long.as_str(), longer.as_str(), ".wh.", ".wh..", ".wh...", ".wh.x/y"] {
        let result = Place::new().unpack(&Archive::new().file(name, "").end());
        assert!(matches!(result, Err(UnpackError::Name { .. })), "{name}: {result:?}");
    }
    for archive in [Archive::new().file(".", ""), Archive::new().symlink("/", "x"), Archive::new().link("./", "x")] {
        assert!(matches!(Place::new().unpack(&archive.end()), Err(UnpackError::Name { .. })));
    }
    let empty = Archive::new().symlink("a", "").end();
    assert!(matches!(Place::new().unpack(&empty), Err(UnpackError::Member { .. })));
}

/// A file with so many bytes, and `data` somewhere in it.
fn sparse(size: u64, offset: u64, data: &str) -> Vec<u8> {
    Archive::new()
        .pax("GNU.sparse.name", "holes")
        .pax("GNU.sparse.size", size.to_string())
        .pax("GNU.sparse.map", format!("{offset},{}", data.len()))
        .file("other", data)
        .end()
}

#[test]
fn a_hole_costs_nothing() {
    use std::os::unix::fs::{FileExt, MetadataExt};
    let place = Place::new();
    let terabyte = 1 << 40;
    place.unpack(&sparse(terabyte, terabyte - 4096, "data")).expect("a hole");
    let there = place.path("holes").metadata().expect("there");
    assert_eq!(there.len(), terabyte);
    assert!(there.blocks() < 100, "{}", there.blocks());
    let mut data = [0; 5];
    let file = std::fs::File::open(place.path("holes")).expect("there");
    file.read_exact_at(&mut data, terabyte - 4096).expect("read");
    assert_eq!(&data, b"data\0");
    // An exbibyte is more than most file systems take, which say so at once.
    match Place::new().unpack(&sparse(1 << 60, 0, "data")) {
        Ok(_) => {}
        Err(UnpackError::Member { source, .. }) => assert_eq!(source.raw_os_error(), Some(libc::EFBIG)),
        other => panic!("{other:?}"),
    }
    let limits = Limits { file_size: 1 << 20, ..Limits::default() };
    let result = Place::new().unpack_with(&sparse(1 << 30, 0, "data"), &limited(limits));
    assert!(matches!(result, Err(UnpackError::Limit { .. })), "{result:?}");
}

#[test]
fn maps_of_holes_are_checked() {
    let of = |size: u64, map: &str| {
        let archive = Archive::new().pax("GNU.sparse.size", size.to_string()).pax("GNU.sparse.map", map);
        Place::new().unpack(&archive.file("a", "12345678").end())
    };
    assert!(of(100, "0,4,50,4").is_ok());
    for (size, map) in [
        (100, "0,4"),
        (100, "0,8,8"),
        (100, "50,4,0,4"),
        (100, "0,5,4,3"),
        (7, "0,8"),
        (100, "96,8"),
        (u64::MAX, "18446744073709551615,8"),
        (100, "x"),
        (100, "0,9"),
        (100, "0,,8"),
    ] {
        assert!(matches!(of(size, map), Err(UnpackError::Broken { .. })), "{size} {map}");
    }
    for map in ["99999999999\n", "1\n0\n", "1\nx\n8\n", "000000000000000000000000000000000001\n", ""] {
        let archive = Archive::new().pax("GNU.sparse.major", "1").pax("GNU.sparse.minor", "0");
        let archive = archive.pax("GNU.sparse.realsize", "100").file("a", map).end();
        let result = Place::new().unpack(&archive);
        assert!(matches!(result, Err(UnpackError::Broken { .. })), "{map}: {result:?}");
    }
    let future = Archive::new().pax("GNU.sparse.major", "2").pax("GNU.sparse.realsize", "0").file("a", "").end();
    assert!(matches!(Place::new().unpack(&future), Err(UnpackError::Broken { .. })));
}
