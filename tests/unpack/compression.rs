//! How an archive is compressed, and that all of it is read.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use nscompose::{image::unpack::UnpackError, model::Digest};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::{archive::Archive, place::Place};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    compress_to_vec(bytes, CompressionLevel::Fastest)
}

fn sample() -> Vec<u8> {
    let big: Vec<u8> = (0..700_000_u32).flat_map(|number| (number / 7).to_le_bytes()).collect();
    Archive::new().file("a", "one").file("big", big).file("z", "two").end()
}

#[test]
fn each_compression_gives_the_same_layer() {
    let plain = sample();
    let (head, tail) = plain.split_at(100_000);
    let skipped = [&[0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &zstd(head), &zstd(b""), &zstd(tail)].concat();
    let all = [
        ("plain", plain.clone()),
        ("gzip", gzip(&plain)),
        ("gzip, two members", [gzip(head), gzip(tail)].concat()),
        ("zstd", zstd(&plain)),
        ("zstd, several frames", skipped),
    ];
    for (what, archive) in all {
        let place = Place::new();
        let unpacked = place.unpack(&archive).unwrap_or_else(|e| panic!("{what}: {e:?}"));
        assert_eq!(unpacked.diff_id, Digest::of(&plain), "{what}");
        assert_eq!((unpacked.bytes, unpacked.entries), (plain.len() as u64, 3), "{what}");
        assert_eq!((place.text("a"), place.text("z")), ("one".to_owned(), "two".to_owned()));
        assert_eq!(place.path("big").metadata().expect("there").len(), 2_800_000);
    }
}

#[test]
fn what_follows_the_end_counts_for_the_digest_only() {
    let mut archive = Archive::new().file("a", "one").end();
    archive.extend_from_slice(&[7; 300_000]);
    archive.extend_from_slice(&Archive::new().file("b", "two").end());
    let place = Place::new();
    let unpacked = place.unpack(&gzip(&archive)).expect("unpacked");
    assert_eq!(unpacked.diff_id, Digest::of(&archive));
    assert!(!place.path("b").exists());
}

#[test]
fn other_compressions_are_named() {
    let place = Place::new();
    let error = place.unpack(b"\xfd7zXZ\0\0\x04").expect_err("xz");
    assert_eq!(error.to_string(), "the archive is compressed with xz; gzip and zstd can be read");
    assert!(matches!(place.unpack(b"BZh91AY&SY"), Err(UnpackError::Compression("bzip2"))));
    assert!(matches!(place.unpack(&[b'x'; 2000]), Err(UnpackError::NoArchive)));
    assert!(matches!(place.unpack(b"{}"), Err(UnpackError::NoArchive)));
}

#[test]
fn an_empty_layer_is_a_layer() {
    for archive in [vec![], vec![0; 1024], vec![0; 512], gzip(&[0; 10_240])] {
        let place = Place::new();
        assert_eq!(place.unpack(&archive).expect("empty").entries, 0);
    }
}

#[test]
fn what_is_broken_off_is_never_a_layer() {
    let plain = sample();
    for (what, whole) in [("gzip", gzip(&plain)), ("zstd", zstd(&plain))] {
        for length in [20, whole.len() / 2, whole.len() - 1] {
            let result = Place::new().unpack(&whole[..length]);
            assert!(matches!(result, Err(UnpackError::Read { .. })), "{what} {length}: {result:?}");
        }
        let mut changed = whole.clone();
        let middle = whole.len() / 2;
        changed[middle..middle + 4].fill(0xff);
        assert!(Place::new().unpack(&changed).is_err(), "{what}");
        let trailing = [whole.as_slice(), b"garbage"].concat();
        assert!(Place::new().unpack(&trailing).is_err(), "{what}");
    }
    for length in [600, 2000, 1_000_000] {
        let result = Place::new().unpack(&plain[..length]);
        assert!(matches!(result, Err(UnpackError::Truncated(_))), "{length}: {result:?}");
    }
}

#[test]
fn the_last_block_need_not_be_filled_up() {
    let whole = Archive::new().file("a", "first").file("b", "last").end();
    let end = 3 * 512 + 4;
    let place = Place::new();
    place.unpack(&whole[..end]).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((place.text("a"), place.text("b")), ("first".to_owned(), "last".to_owned()));
    for length in [end - 1, end + 1] {
        let result = Place::new().unpack(&whole[..length]);
        assert!(matches!(result, Err(UnpackError::Truncated(_))), "{length}: {result:?}");
    }
}
