//! Archives that are nearly right, and such as nobody would make.
//!
//! Whatever comes, unpacking ends soon and without a panic, and nothing beside the folder has changed.
//!
//! `NSCOMPOSE_FUZZ_CASES` says how many are made, `NSCOMPOSE_FUZZ_SEED` where the numbers begin; a failure names the case,
//! and with `NSCOMPOSE_FUZZ_ONLY` it alone is made again.

use std::{
    env,
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use flate2::{Compression, write::GzEncoder};
use nscompose::image::unpack::{Limits, OverlayAttributes, Ownership, UnpackOptions};

use super::{
    archive::{Archive, sum},
    place::{Place, options},
};

const CASES: u64 = 3000;
const PATIENCE: Duration = Duration::from_secs(20);

/// Numbers that look random and are the same in each run (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as usize % bound.max(1)
    }

    fn of<'t, T>(&mut self, all: &'t [T]) -> &'t T {
        &all[self.below(all.len())]
    }
}

const NAMES: [&str; 30] = [
    "a",
    "b",
    "c",
    "d",
    "a/b",
    "b/a",
    "a/b/c",
    "c/secret",
    "d/deep",
    "d/deep/file",
    "./",
    ".",
    "..",
    "../outside/secret",
    "../outside",
    "/etc/passwd",
    "a/../b",
    "a/../../outside/x",
    ".wh.a",
    ".wh.b",
    "a/.wh.b",
    ".wh..wh..opq",
    "a/.wh..wh..opq",
    ".wh..wh.x",
    "c/../d",
    "b/c/d/e/f",
    "l",
    "l/secret",
    "l/deep/new",
    "a/l",
];

/// Links, `OUTSIDE` standing for the folder that has to stay.
const TARGETS: [&str; 16] = [
    "OUTSIDE",
    "OUTSIDE/secret",
    "../outside",
    "../../outside",
    "../outside/secret",
    "a",
    "b",
    "c",
    ".",
    "..",
    "/",
    "a/b",
    "l",
    "/etc",
    "/proc/self/root",
    "../../../../../../../../../../etc/passwd",
];

const VALUES: [(&str, &str); 16] = [
    ("path", "../outside/secret"),
    ("path", "a"),
    ("linkpath", "OUTSIDE/secret"),
    ("linkpath", "../outside"),
    ("size", "0"),
    ("size", "3"),
    ("size", "18446744073709551615"),
    ("uid", "4294967295"),
    ("mtime", "-1.5"),
    ("mtime", "99999999999999999"),
    ("SCHILY.xattr.trusted.overlay.opaque", "y"),
    ("SCHILY.xattr.user.x", "y"),
    ("GNU.sparse.name", "../outside/secret"),
    ("GNU.sparse.size", "1099511627776"),
    ("GNU.sparse.map", "0,1,1024,3"),
    ("GNU.sparse.major", "1"),
];

fn members(random: &mut Random, outside: &str) -> Archive {
    let mut archive = Archive::new();
    for _ in 0..1 + random.below(12) {
        let target = random.of(&TARGETS).replace("OUTSIDE", outside);
        let name = *random.of(&NAMES);
        if random.below(8) == 0 {
            let (key, value) = *random.of(&VALUES);
            archive = archive.pax(key, value.replace("OUTSIDE", outside));
        }
        if random.below(4) == 0 {
            archive = archive.owner(random.below(3) as u64, random.below(3) as u64);
        }
        if random.below(4) == 0 {
            archive = archive.mode(random.below(0o10000) as u64);
        }
        archive = match random.below(9) {
            0..3 => archive.file(name, "data"),
            3 => archive.folder(name),
            4 | 5 => archive.symlink(name, &target),
            6 if random.below(2) == 0 => archive.link(name, random.of::<&str>(&NAMES)),
            6 => archive.link(name, &target),
            7 => archive.fifo(name),
            _ => {
                let (major, minor) = (random.below(2) as u64, random.below(2) as u64 * 3);
                archive.device(name, *random.of(b"34"), major, minor)
            }
        };
    }
    archive
}

/// Something valid of each kind that has a form of its own.
fn valid() -> Archive {
    Archive::new()
        .folder("d")
        .pax("mtime", "1.5")
        .pax("SCHILY.xattr.user.x", "y")
        .file("d/f", "data")
        .file(&"n".repeat(150), "long")
        .symlink("l", &"t".repeat(150))
        .pax("GNU.sparse.size", "100000")
        .pax("GNU.sparse.map", "0,4,50000,4")
        .file("holes", "12345678")
        .pax("GNU.sparse.major", "1")
        .pax("GNU.sparse.minor", "0")
        .pax("GNU.sparse.realsize", "4096")
        .file("more", [b"2\n0\n4\n1000\n4\n".as_slice(), &[0; 498], b"abcdefgh"].concat())
        .link("h", "d/f")
        .device("null", b'3', 1, 3)
        .file("d/.wh.x", "")
}

fn mutate(random: &mut Random, mut bytes: Vec<u8>) -> Vec<u8> {
    for _ in 0..1 + random.below(4) {
        let at = random.below(bytes.len());
        let block = at / 512 * 512;
        match random.below(8) {
            0..4 => {
                bytes[at] = match random.below(4) {
                    0 => bytes[at] ^ (1 << random.below(8)),
                    1 => *random.of(b"\0/.79\xff\x80 \n="),
                    2 => *random.of(b"0123456xgLKSDVM"),
                    _ => random.below(256) as u8,
                };
                // Most of what is behind the checksum would not be reached otherwise.
                if bytes.len() >= block + 512 && bytes[block + 257..].starts_with(b"ustar") && random.below(8) > 0 {
                    sum(&mut bytes[block..block + 512]);
                }
            }
            4 => bytes.truncate(at.max(1)),
            5 if bytes.len() >= block + 512 => {
                let copy = bytes[block..block + 512].to_vec();
                let to = random.below(bytes.len()) / 512 * 512;
                bytes.splice(to..to, copy);
            }
            6 if bytes.len() >= block + 1024 => {
                bytes.drain(block..block + 512);
            }
            _ => bytes.insert(at, random.below(256) as u8),
        }
    }
    bytes
}

fn archive(random: &mut Random, outside: &str) -> Vec<u8> {
    let plain = match random.below(4) {
        0 => mutate(random, valid().end()),
        1 => {
            let all = members(random, outside).end();
            mutate(random, all)
        }
        _ => members(random, outside).end(),
    };
    let compressed = match random.below(12) {
        0 => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&plain).expect("memory");
            encoder.finish().expect("memory")
        }
        1 => ruzstd::encoding::compress_to_vec(plain.as_slice(), ruzstd::encoding::CompressionLevel::Fastest),
        _ => return plain,
    };
    if random.below(2) == 0 { mutate(random, compressed) } else { compressed }
}

#[test]
fn whatever_comes_nothing_outside_is_changed() {
    let number = |name: &str| env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let cases = number("NSCOMPOSE_FUZZ_CASES").unwrap_or(CASES);
    let seed = number("NSCOMPOSE_FUZZ_SEED").unwrap_or(1);
    let only = number("NSCOMPOSE_FUZZ_ONLY");
    let place = Place::fast();
    let outside = place.outside().display().to_string();
    let (mut unpacked, mut refused) = (0_u64, 0_u64);
    for case in only.map_or(0..cases, |only| only..only + 1) {
        let mut random = Random(seed ^ case.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let archive = archive(&mut random, &outside);
        let limits = Limits { bytes: 16 << 20, ..Limits::default() };
        let options = if random.below(4) == 0 {
            UnpackOptions { ownership: Ownership::Single, attributes: OverlayAttributes::User, limits }
        } else {
            UnpackOptions { limits, ..options() }
        };
        let started = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| place.unpack_with(&archive, &options)));
        let Ok(result) = result else { panic!("case {case} of seed {seed} fails") };
        assert!(started.elapsed() < PATIENCE, "case {case} of seed {seed} took {:?}", started.elapsed());
        if result.is_ok() {
            unpacked += 1
        } else {
            refused += 1
        }
        place.clear();
    }
    // Both have to be there, or the cases are too tame or too wild to find anything.
    assert!(
        only.is_some() || (unpacked > cases / 20 && refused > cases / 20),
        "{unpacked} unpacked, {refused} refused"
    );
}
