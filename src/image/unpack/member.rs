//! The members of a tar archive, one after the other.
//!
//! Not with the `tar` crate: it takes extended headers of any size into memory, gives holes as zeros to be read one by one
//! (an exbibyte of them, if the archive says so), does not know the holes of POSIX archives, and would copy all data once
//! more. Where archives can be read in several ways, this is Go's, with which Docker, containerd and podman read them.

use std::collections::BTreeMap;

use rustix::fs::Timespec;

use super::{
    UnpackError,
    header::{BLOCK, Header, number},
    name::shown,
    pax::{MAX_EXTENDED, Pax, decimal},
    stream::Stream,
};
use crate::model::Digest;

/// A file may have so many pieces between its holes.
const MAX_SEGMENTS: usize = 1 << 20;

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Link,
    Symlink,
    Character(u32, u32),
    Block(u32, u32),
    Folder,
    Fifo,
}

/// Where the data of a file with holes belong.
#[derive(Debug)]
pub(super) struct Holes {
    /// Offset and length of each piece of data, in order.
    pub(super) segments: Vec<(u64, u64)>,
    /// Size of the file, with its holes.
    pub(super) size: u64,
}

/// A member, without its data.
#[derive(Debug)]
pub(super) struct Member {
    /// As it is written.
    pub(super) name: Vec<u8>,
    /// What a link leads to.
    pub(super) link: Vec<u8>,
    pub(super) kind: Kind,
    /// Permission bits, with set-user-ID and the like.
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) mtime: Timespec,
    pub(super) atime: Timespec,
    pub(super) holes: Option<Holes>,
    pub(super) attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Attributes in a form that is not read here.
    pub(super) unread: u64,
}

/// Reads members.
pub(super) struct Members {
    stream: Stream,
    /// Bytes of data of the member at hand that were not read yet.
    left: u64,
    /// Bytes that fill its last block up.
    padding: u64,
}

impl Members {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, left: 0, padding: 0 }
    }

    /// The next one; none at the end of the archive, after which everything up to the end of the stream was read.
    pub(super) fn next(&mut self) -> Result<Option<Member>, UnpackError> {
        let (mut long_name, mut long_link, mut pax) = (None, None, None);
        loop {
            self.stream.skip(self.left)?;
            // umoci 0.4.7 does not fill the last block up, and what Docker reads with (archive/tar of Go) takes that for
            // the end.
            let ended = self.padding > 0 && self.stream.fill()?.is_empty();
            if !ended {
                self.stream.skip(self.padding)?;
            }
            (self.left, self.padding) = (0, 0);
            let mut header = Header([0; BLOCK]);
            if ended || !self.stream.block(&mut header.0)? || self.is_end(&mut header)? {
                // Extended headers that belong to no member are nothing.
                if long_name.is_some() || long_link.is_some() || pax.is_some() {
                    return Err(UnpackError::Truncated(self.stream.position()));
                }
                self.stream.drain()?;
                return Ok(None);
            }
            if !header.is_valid() {
                return Err(self.broken("the checksum of a header is wrong"));
            }
            match header.kind() {
                b'x' | b'X' => {
                    let data = self.extended(&header)?;
                    pax = Some(Pax::parse(&data).map_err(|why| self.broken(why))?);
                }
                b'L' => long_name = Some(before_nul(self.extended(&header)?)),
                b'K' => long_link = Some(before_nul(self.extended(&header)?)),
                // What holds for all that follow, and the name of the whole. Docker leaves both out, too.
                b'g' | b'V' => drop(self.extended(&header)?),
                _ => return self.member(&header, long_name, long_link, pax.unwrap_or_default()).map(Some),
            }
        }
    }

    /// What is at hand of the data of the current member, at most so many bytes; empty if there is no more.
    /// [`Members::used`] has to be told how much was used.
    pub(super) fn data(&mut self, most: u64) -> Result<&[u8], UnpackError> {
        let most = usize::try_from(most.min(self.left)).unwrap_or(usize::MAX);
        if most == 0 {
            return Ok(&[]);
        }
        let position = self.stream.position();
        let there = self.stream.fill()?;
        if there.is_empty() {
            return Err(UnpackError::Truncated(position));
        }
        Ok(&there[..there.len().min(most)])
    }

    /// Goes on in the data of the current member.
    pub(super) fn used(&mut self, count: usize) {
        self.stream.consume(count);
        self.left -= count as u64;
    }

    /// Digest and size of the whole archive, once there is no member any more.
    pub(super) fn finish(self) -> (Digest, u64) {
        self.stream.finish()
    }

    fn broken(&self, why: &'static str) -> UnpackError {
        UnpackError::Broken { at: self.stream.position(), why }
    }

    /// Two blocks of zeros, or one and the end of the stream.
    fn is_end(&mut self, header: &mut Header) -> Result<bool, UnpackError> {
        if !header.is_zero() {
            return Ok(false);
        }
        if self.stream.block(&mut header.0)? && !header.is_zero() {
            return Err(self.broken("there is a block of zeros in the middle"));
        }
        Ok(true)
    }

    fn set_size(&mut self, size: u64) {
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    /// The data of something that describes the next member.
    fn extended(&mut self, header: &Header) -> Result<Vec<u8>, UnpackError> {
        let size = header.size().ok_or_else(|| self.broken("the size of an extended header is no number"))?;
        if size > MAX_EXTENDED {
            return Err(UnpackError::Limit { what: "bytes in an extended header", limit: MAX_EXTENDED });
        }
        let mut data = vec![0; usize::try_from(size).unwrap_or_default()];
        self.stream.read(&mut data)?;
        self.set_size(size);
        self.left = 0;
        Ok(data)
    }

    fn member(
        &mut self,
        header: &Header,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
        pax: Pax,
    ) -> Result<Member, UnpackError> {
        let name = pax.path.or(long_name).unwrap_or_else(|| header.name());
        let name = pax.sparse.name.clone().unwrap_or(name);
        let link = pax.link.or(long_link).unwrap_or_else(|| header.link().to_vec());
        let letter = header.kind();
        let folder = name.ends_with(b"/");
        let kind = match letter {
            // Before there was a letter for folders, a slash told them.
            b'0' | b'7' | 0 if folder => Kind::Folder,
            b'0' | b'7' | b'S' | 0 => Kind::File,
            b'1' => Kind::Link,
            b'2' => Kind::Symlink,
            b'3' | b'4' => {
                let device = header.device().and_then(|(major, minor)| Some((u32::try_from(major).ok()?, minor)));
                let device = device.and_then(|(major, minor)| Some((major, u32::try_from(minor).ok()?)));
                let (major, minor) = device.ok_or_else(|| self.broken("the number of a device is no number"))?;
                if letter == b'3' { Kind::Character(major, minor) } else { Kind::Block(major, minor) }
            }
            b'5' | b'D' => Kind::Folder,
            b'6' => Kind::Fifo,
            other => return Err(UnpackError::Kind { name: shown(&name), kind: char::from(other) }),
        };
        let size =
            pax.size.or_else(|| header.size()).ok_or_else(|| self.broken("the size of a member is no number"))?;
        if size > i64::MAX.cast_unsigned() {
            return Err(self.broken("the size of a member is more than a file can have"));
        }
        // Other kinds have no data whatever their size says, as Go's archive/tar has it, and so all that makes images;
        // but for those that are folders by their slash, or lists of folders.
        let has_data = matches!(letter, b'0' | b'7' | b'S' | 0 | b'D');
        self.set_size(if has_data { size } else { 0 });
        let holes = match letter {
            b'S' => Some(self.old_holes(header)?),
            _ if kind == Kind::File => self.pax_holes(&pax.sparse)?,
            _ => None,
        };
        let number = |said: Option<u64>, plain: Option<u64>| said.or(plain);
        let wrong = |what| move || what;
        let mode = header.mode().ok_or_else(wrong("the mode of a member is no number"));
        let uid = number(pax.uid, header.uid()).ok_or_else(wrong("the owner of a member is no number"));
        let gid = number(pax.gid, header.gid()).ok_or_else(wrong("the group of a member is no number"));
        let plain = header.mtime().map(|seconds| Timespec { tv_sec: seconds, tv_nsec: 0 });
        let mtime = pax.mtime.or(plain).ok_or_else(wrong("the time of a member is no number"));
        let broken = |why| self.broken(why);
        let mtime = mtime.map_err(broken)?;
        Ok(Member {
            mode: u32::try_from(mode.map_err(broken)? & 0o7777).unwrap_or_default(),
            uid: uid.map_err(broken)?,
            gid: gid.map_err(broken)?,
            mtime,
            atime: pax.atime.unwrap_or(mtime),
            name,
            link,
            kind,
            holes,
            attributes: pax.attributes,
            unread: pax.unread,
        })
    }

    /// GNU tar's own format: pieces in the header and in blocks after it.
    fn old_holes(&mut self, header: &Header) -> Result<Holes, UnpackError> {
        const WRONG: &str = "the map of a file with holes is not valid";
        let (first, mut more, size) = header.sparse().ok_or_else(|| self.broken(WRONG))?;
        let mut segments = Vec::new();
        let mut take = |field: &[u8]| {
            for pair in field.chunks_exact(24).take_while(|pair| pair[0] != 0) {
                segments.push((number(&pair[..12])?, number(&pair[12..])?));
            }
            Some(segments.len())
        };
        take(first).ok_or_else(|| self.broken(WRONG))?;
        while more {
            let mut block = [0; BLOCK];
            self.stream.read(&mut block)?;
            let count = take(&block[..504]).ok_or_else(|| self.broken(WRONG))?;
            more = block[504] != 0;
            // Without one in it, there could be blocks without end.
            if count > MAX_SEGMENTS || (more && block[0] == 0) {
                return Err(self.broken(WRONG));
            }
        }
        self.checked(segments, size)
    }

    /// POSIX formats 0.0, 0.1 (the map is in the extended header) and 1.0 (it is at the beginning of the data).
    fn pax_holes(&mut self, records: &super::pax::SparseRecords) -> Result<Option<Holes>, UnpackError> {
        const WRONG: &str = "the map of a file with holes is not valid";
        let version = (records.major.unwrap_or_default(), records.minor.unwrap_or_default());
        let Some(size) = records.size else {
            let plain = records.map.is_empty() && version == (0, 0);
            return if plain { Ok(None) } else { Err(self.broken("a file with holes does not say its size")) };
        };
        let numbers = match version {
            (0, 0 | 1) => records.map.clone(),
            (1, 0) => {
                let count = self.line()?;
                if count > MAX_SEGMENTS as u64 {
                    return Err(self.broken(WRONG));
                }
                let numbers = (0..2 * count).map(|_| self.line()).collect::<Result<Vec<u64>, _>>()?;
                // The map fills blocks up, and the data follow.
                let rest = ((self.left + self.padding) % BLOCK as u64).min(self.left);
                self.stream.skip(rest)?;
                self.left -= rest;
                numbers
            }
            _ => return Err(self.broken("a file with holes is in a format that is not known")),
        };
        if !numbers.len().is_multiple_of(2) {
            return Err(self.broken(WRONG));
        }
        let segments = numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
        self.checked(segments, size).map(Some)
    }

    /// A number on a line of its own, in the data.
    fn line(&mut self) -> Result<u64, UnpackError> {
        const WRONG: &str = "the map of a file with holes is not valid";
        let mut digits = Vec::new();
        loop {
            let byte = self.data(1)?.first().copied();
            let byte = byte.ok_or_else(|| self.broken(WRONG))?;
            self.used(1);
            match byte {
                b'\n' => return decimal(&digits).ok_or_else(|| self.broken(WRONG)),
                _ if digits.len() < 20 => digits.push(byte),
                _ => return Err(self.broken(WRONG)),
            }
        }
    }

    /// Pieces have to be in order, inside the file, and as much as there are data.
    fn checked(&self, segments: Vec<(u64, u64)>, size: u64) -> Result<Holes, UnpackError> {
        let mut end = 0_u64;
        let mut sum = 0_u64;
        for (offset, length) in &segments {
            let next = offset.checked_add(*length).filter(|next| *offset >= end && *next <= size);
            end = next.ok_or_else(|| self.broken("pieces of a file with holes overlap or are beyond its end"))?;
            sum += length;
        }
        if sum != self.left {
            return Err(self.broken("a file with holes has more or less data than its map says"));
        }
        Ok(Holes { segments, size })
    }
}

fn before_nul(mut data: Vec<u8>) -> Vec<u8> {
    if let Some(end) = data.iter().position(|byte| *byte == 0) {
        data.truncate(end);
    }
    data
}
