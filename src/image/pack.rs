//! Packing a folder into a layer, or a whole file system into an archive: the inverse of [`super::unpack`].
//!
//! What is packed may be a running container's. So everything is opened relative to the folder it is in and no link is
//! followed, and the same content gives the same bytes: names are in order of their bytes, and nothing says when or by
//! whom it was packed.
//!
//! Holes of files are written as the zeros that they read as.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsStr,
    io::{self, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat},
    io::Errno,
};
use sha2::{Digest as _, Sha256};

use super::unpack::{OWNER_ATTRIBUTE, OverlayAttributes, Owner, Ownership};
use crate::model::Digest;

/// So many folders may be inside each other, as for unpacking; each takes descriptors and stack.
const MAX_DEPTH: usize = 256;
/// Attributes have at most so many bytes, and so have lists of their names (XATTR_SIZE_MAX, XATTR_LIST_MAX).
const MAX_ATTRIBUTE: usize = 64 * 1024;
const BUFFER: usize = 256 * 1024;
const BLOCK: u64 = 512;

/// What a folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// The upper layer of an overlay with these attributes: what it deletes is packed as `.wh.` members.
    Layer(OverlayAttributes),
    /// A whole file system.
    Whole,
}

/// How to pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackOptions {
    /// What the folder is.
    pub packing: Packing,
    /// Id 0 of the archive is this one on disk, 1 the next, and so on for 65536 ids; others are as they are.
    pub first_id: u32,
}

/// What was packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// Digest of the archive.
    pub diff_id: Digest,
    /// Bytes of the archive.
    pub bytes: u64,
    /// Members.
    pub entries: u64,
    /// Sockets, which archives cannot have.
    pub sockets: u64,
    /// Files that became shorter while they were read, and were filled up with zeros.
    pub changed: u64,
}

/// Why a folder is not packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The archive cannot be written.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
    /// A file or folder.
    #[error("cannot {step} `{}`", path.display())]
    File {
        /// What could not be done.
        step: &'static str,
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Folders are too deep inside each other.
    #[error("`{}` is more than 256 folders deep", .0.display())]
    Deep(PathBuf),
    /// A layer whose content is in part somewhere else.
    #[error("`{}` was moved or changed in a way that only overlayfs can read (redirect_dir or metacopy)", .0.display())]
    Redirected(PathBuf),
}

/// Writes a folder as a tar archive: ustar, with extended headers where that is not enough.
///
/// # Errors
/// When something cannot be read or written.
pub fn pack(folder: &Path, archive: impl Write, options: &PackOptions) -> Result<Packed, PackError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(folder, flags, Mode::empty()).map_err(|e| failed("open", folder.as_os_str())(e))?;
    let mut packer = Packer {
        archive,
        options: *options,
        hasher: Sha256::new(),
        bytes: 0,
        entries: 0,
        sockets: 0,
        changed: 0,
        links: HashMap::new(),
        buffer: vec![0; BUFFER],
    };
    let stat = rustix::fs::fstat(&root).map_err(|e| failed("open", folder.as_os_str())(e))?;
    packer.folder(&root, b"./", &stat, 0)?;
    packer.write(&[0; 2 * BLOCK as usize])?;
    packer.archive.flush().map_err(PackError::Write)?;
    Ok(Packed {
        diff_id: Digest::finish(packer.hasher),
        bytes: packer.bytes,
        entries: packer.entries,
        sockets: packer.sockets,
        changed: packer.changed,
    })
}

fn failed(step: &'static str, path: &OsStr) -> impl Fn(Errno) -> PackError {
    let path = PathBuf::from(path);
    move |source| PackError::File { step, path: path.clone(), source: source.into() }
}

type Attributes = BTreeMap<Vec<u8>, Vec<u8>>;

struct Packer<W> {
    archive: W,
    options: PackOptions,
    hasher: Sha256,
    bytes: u64,
    entries: u64,
    sockets: u64,
    changed: u64,
    /// Where a file with several names was packed, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
}

impl<W: Write> Packer<W> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), PackError> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.archive.write_all(bytes).map_err(PackError::Write)
    }

    /// A folder, whose name ends in a slash, and what is in it.
    fn folder(&mut self, fd: &OwnedFd, path: &[u8], stat: &Stat, depth: usize) -> Result<(), PackError> {
        let shown = OsStr::from_bytes(path);
        if depth > MAX_DEPTH {
            return Err(PackError::Deep(shown.into()));
        }
        let mut attributes = attributes_of(fd.as_fd()).map_err(failed("read attributes of", shown))?;
        let opaque = self.take_overlay(&mut attributes, path)?;
        self.member(path, stat, b'5', &[], attributes)?;
        let prefix = path.strip_prefix(b"./").unwrap_or(path);
        if opaque {
            self.mark(&[prefix, b".wh..wh..opq"].concat(), stat)?;
        }
        let mut names = Vec::new();
        for entry in Dir::read_from(fd).map_err(failed("read", shown))? {
            let entry = entry.map_err(failed("read", shown))?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(name.to_vec());
            }
        }
        names.sort_unstable();
        for name in names {
            self.entry(fd.as_fd(), prefix, &name, depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, parent: BorrowedFd<'_>, prefix: &[u8], name: &[u8], depth: usize) -> Result<(), PackError> {
        let path = [prefix, name].concat();
        let shown = OsStr::from_bytes(&path);
        let stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            // Gone in the meantime.
            Err(Errno::NOENT) => return Ok(()),
            other => other.map_err(failed("open", shown))?,
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let open = |flags| {
            let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = rustix::fs::openat(parent, name, flags, Mode::empty())?;
            // Another thing may have taken its place.
            let stat = rustix::fs::fstat(&fd)?;
            if FileType::from_raw_mode(stat.st_mode) == kind { Ok((fd, stat)) } else { Err(Errno::STALE) }
        };
        if kind == FileType::Directory {
            let (fd, stat) = open(OFlags::DIRECTORY).map_err(failed("open", shown))?;
            return self.folder(&fd, &[path.as_slice(), b"/"].concat(), &stat, depth + 1);
        }
        if kind == FileType::CharacterDevice && stat.st_rdev == 0 && self.options.packing != Packing::Whole {
            return self.mark(&[prefix, b".wh.", name].concat(), &stat);
        }
        if kind == FileType::Socket {
            self.sockets += 1;
            return Ok(());
        }
        if stat.st_nlink > 1 {
            let file = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&file).cloned() {
                return self.member(&path, &stat, b'1', &first, Attributes::new());
            }
            self.links.insert(file, path.clone());
        }
        if kind == FileType::RegularFile {
            let (fd, stat) = open(OFlags::NONBLOCK | OFlags::NOCTTY).map_err(failed("open", shown))?;
            let mut attributes = attributes_of(fd.as_fd()).map_err(failed("read attributes of", shown))?;
            self.take_overlay(&mut attributes, &path)?;
            self.member(&path, &stat, b'0', &[], attributes)?;
            return self.content(&fd, &path, stat.st_size.try_into().unwrap_or_default());
        }
        // Those can only be opened by what they are; the last component of this path is not followed.
        let mut at = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
        at.extend_from_slice(name);
        let mut attributes = attributes_with(
            |list| rustix::fs::llistxattr(at.as_slice(), list),
            |attribute, value| rustix::fs::lgetxattr(at.as_slice(), attribute, value),
        )
        .map_err(failed("read attributes of", shown))?;
        self.take_overlay(&mut attributes, &path)?;
        match kind {
            FileType::Symlink => {
                let target =
                    rustix::fs::readlinkat(parent, name, Vec::new()).map_err(failed("read the link", shown))?;
                self.member(&path, &stat, b'2', target.as_bytes(), attributes)
            }
            FileType::CharacterDevice => self.member(&path, &stat, b'3', &[], attributes),
            FileType::BlockDevice => self.member(&path, &stat, b'4', &[], attributes),
            _ => self.member(&path, &stat, b'6', &[], attributes),
        }
    }

    /// Takes what is overlayfs's own out of the attributes, and says whether a folder is opaque.
    fn take_overlay(&self, attributes: &mut Attributes, path: &[u8]) -> Result<bool, PackError> {
        let mut opaque = false;
        if let Packing::Layer(kind) = self.options.packing {
            let prefix = match kind {
                OverlayAttributes::Trusted => "trusted.overlay.",
                OverlayAttributes::User => "user.overlay.",
            };
            let has = |name: &str| attributes.get(format!("{prefix}{name}").as_bytes());
            opaque = has("opaque").is_some_and(|value| value == b"y");
            if has("redirect").is_some() || has("metacopy").is_some() {
                return Err(PackError::Redirected(OsStr::from_bytes(path).into()));
            }
        }
        attributes.retain(|name, _| !name.starts_with(b"trusted.overlay.") && !name.starts_with(b"user.overlay."));
        Ok(opaque)
    }

    /// An empty file that says something is deleted.
    fn mark(&mut self, path: &[u8], stat: &Stat) -> Result<(), PackError> {
        let mut extended = Vec::new();
        let header = header(path, &[], b'0', 0, (0, 0), 0, time_of(stat), &mut extended);
        self.header(&header, &extended)
    }

    fn member(
        &mut self,
        path: &[u8],
        stat: &Stat,
        kind: u8,
        link: &[u8],
        mut attributes: Attributes,
    ) -> Result<(), PackError> {
        let id = |id: u32| match id.checked_sub(self.options.first_id) {
            Some(inner) if inner < 65_536 => u64::from(inner),
            _ => u64::from(id),
        };
        let mut ids = (id(stat.st_uid), id(stat.st_gid));
        let mut mode = stat.st_mode & 0o7777;
        let noted = attributes.remove(OWNER_ATTRIBUTE.as_bytes()).and_then(|note| Owner::noted(&note, kind == b'5'));
        if let Some((owner, real_mode)) = noted {
            ids = (owner.uid, owner.gid);
            // Whoever changed the mode since meant it.
            if real_mode && [Ownership::Kept, Ownership::Single].iter().any(|of| owner.mode(*of, false) == mode) {
                mode = owner.mode;
            }
        }
        let size = if kind == b'0' { stat.st_size.try_into().unwrap_or_default() } else { 0 };
        let mut extended = Vec::new();
        let mut header = header(path, link, kind, mode, ids, size, time_of(stat), &mut extended);
        if matches!(kind, b'3' | b'4') {
            let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
            let bytes = header.as_mut_bytes();
            bytes[329..337].copy_from_slice(&octal::<8>(major.into()));
            bytes[337..345].copy_from_slice(&octal::<8>(minor.into()));
            header.set_cksum();
        }
        for (name, value) in attributes {
            record(&mut extended, &[b"SCHILY.xattr.", name.as_slice()].concat(), &value);
        }
        self.header(&header, &extended)
    }

    fn header(&mut self, header: &tar::Header, extended: &[u8]) -> Result<(), PackError> {
        self.entries += 1;
        if !extended.is_empty() {
            let size = extended.len() as u64;
            let before = self::header(b"././@PaxHeader", &[], b'x', 0o644, (0, 0), size, (0, 0), &mut Vec::new());
            self.write(before.as_bytes())?;
            self.write(extended)?;
            self.pad(size)?;
        }
        self.write(header.as_bytes())
    }

    fn pad(&mut self, size: u64) -> Result<(), PackError> {
        let padding = usize::try_from(size.wrapping_neg() % BLOCK).unwrap_or_default();
        self.write(&[0; BLOCK as usize][..padding])
    }

    /// Exactly so many bytes, as the header says.
    fn content(&mut self, fd: &OwnedFd, path: &[u8], size: u64) -> Result<(), PackError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut left = size;
        let mut ended = false;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let count = if ended {
                buffer[..most].fill(0);
                most
            } else {
                match rustix::io::read(fd, &mut buffer[..most]) {
                    Err(Errno::INTR) => continue,
                    other => other.map_err(failed("read", OsStr::from_bytes(path)))?,
                }
            };
            if count == 0 {
                ended = true;
                self.changed += 1;
            }
            self.write(&buffer[..count])?;
            left -= count as u64;
        }
        self.buffer = buffer;
        self.pad(size)
    }
}

/// Seconds and nanoseconds of the last change.
fn time_of(stat: &Stat) -> (i64, u64) {
    (stat.st_mtime, stat.st_mtime_nsec)
}

/// A header block; what does not fit goes to `extended`, too.
#[expect(clippy::too_many_arguments, reason = "they are the fields of the block")]
fn header(
    path: &[u8],
    link: &[u8],
    kind: u8,
    mode: u32,
    ids: (u64, u64),
    size: u64,
    (seconds, nanoseconds): (i64, u64),
    extended: &mut Vec<u8>,
) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    let bytes = header.as_mut_bytes();
    let mut text = |at: usize, value: &[u8], key: &str| {
        let fits = value.len().min(100);
        bytes[at..at + fits].copy_from_slice(&value[..fits]);
        if value.len() > 100 {
            record(extended, key.as_bytes(), value);
        }
    };
    text(0, path, "path");
    text(157, link, "linkpath");
    let mut number = |value: u64, most: u64, key: &str| {
        if value > most {
            record(extended, key.as_bytes(), value.to_string().as_bytes());
        }
        if value > most { 0 } else { value }
    };
    let uid = number(ids.0, 0o777_7777, "uid");
    let gid = number(ids.1, 0o777_7777, "gid");
    let short_size = number(size, 0o777_7777_7777, "size");
    let plain = u64::try_from(seconds).ok().filter(|seconds| *seconds <= 0o777_7777_7777);
    if plain.is_none() || nanoseconds > 0 {
        record(extended, b"mtime", decimal_time(seconds, nanoseconds).as_bytes());
    }
    bytes[100..108].copy_from_slice(&octal::<8>(mode.into()));
    bytes[108..116].copy_from_slice(&octal::<8>(uid));
    bytes[116..124].copy_from_slice(&octal::<8>(gid));
    bytes[124..136].copy_from_slice(&octal::<12>(short_size));
    bytes[136..148].copy_from_slice(&octal::<12>(plain.unwrap_or_default()));
    bytes[156] = kind;
    header.set_cksum();
    header
}

/// A number as a header has it: octal digits, then a NUL.
fn octal<const N: usize>(value: u64) -> [u8; N] {
    let mut field = [b'0'; N];
    field[N - 1] = 0;
    let digits = format!("{value:o}");
    let digits = &digits.as_bytes()[digits.len().saturating_sub(N - 1)..];
    field[N - 1 - digits.len()..N - 1].copy_from_slice(digits);
    field
}

/// Nanoseconds count forward from the second, also before 1970.
fn decimal_time(seconds: i64, nanoseconds: u64) -> String {
    let text = match (seconds, nanoseconds) {
        (_, 0) => return seconds.to_string(),
        (0.., _) => format!("{seconds}.{nanoseconds:09}"),
        _ => format!("-{}.{:09}", seconds.unsigned_abs() - 1, 1_000_000_000 - nanoseconds),
    };
    text.trim_end_matches('0').to_owned()
}

/// A record says its own length, digits of the length included.
fn record(extended: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    extended.extend_from_slice(length.to_string().as_bytes());
    for part in [b" ", key, b"=", value, b"\n"] {
        extended.extend_from_slice(part);
    }
}

fn attributes_of(fd: BorrowedFd<'_>) -> Result<Attributes, Errno> {
    attributes_with(|list| rustix::fs::flistxattr(fd, list), |name, value| rustix::fs::fgetxattr(fd, name, value))
}

fn attributes_with(
    list: impl Fn(&mut [u8]) -> Result<usize, Errno>,
    get: impl Fn(&[u8], &mut [u8]) -> Result<usize, Errno>,
) -> Result<Attributes, Errno> {
    let mut attributes = Attributes::new();
    let mut names = [0; 1024];
    let mut many = Vec::new();
    let names = match list(&mut names) {
        Ok(length) => &names[..length],
        // Without attributes, without /proc.
        Err(Errno::OPNOTSUPP | Errno::NOENT) => return Ok(attributes),
        Err(Errno::RANGE) => {
            many.resize(MAX_ATTRIBUTE, 0);
            let length = list(&mut many)?;
            &many[..length]
        }
        Err(e) => return Err(e),
    };
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; MAX_ATTRIBUTE];
        match get(name, &mut value) {
            Ok(length) => value.truncate(length),
            // Gone in the meantime.
            Err(Errno::NODATA) => continue,
            Err(e) => return Err(e),
        }
        value.shrink_to_fit();
        attributes.insert(name.to_vec(), value);
    }
    Ok(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_digits() {
        for length in [1, 2, 91, 92, 93, 94, 95, 990, 991, 992] {
            let mut extended = Vec::new();
            record(&mut extended, b"key", &vec![b'v'; length]);
            let text = String::from_utf8(extended).expect("text");
            assert_eq!(text.split(' ').next().expect("a number"), text.len().to_string());
        }
    }

    #[test]
    fn times_before_1970_have_fractions_too() {
        assert_eq!(decimal_time(1, 0), "1");
        assert_eq!(decimal_time(1, 500_000_000), "1.5");
        assert_eq!(decimal_time(-2, 750_000_000), "-1.25");
        assert_eq!(decimal_time(-1, 1), "-0.999999999");
        assert_eq!(decimal_time(-3, 0), "-3");
    }
}
