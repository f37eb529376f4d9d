//! What has been taken from a program and is not in its log yet, in a file in memory that outlives the supervisor.
//!
//! ```text
//! 0        HEADER                                                   size of the file
//! │ Mark ──│── logged, given back to the kernel ──│── not logged ──│
//! ```
//!
//! A supervisor that is killed between taking something from a pipe and writing it to a file would lose it, and one killed
//! between writing it and noting that would write it twice. So it is taken with splice(2), which moves pages from the pipe
//! to this file without coming by us: what has left the pipe is in the file and counted in its size, at any moment. (The
//! kernel looks for fatal signals between pages, and gives back only what it has written: `iter_file_splice_write`.) And
//! before anything is written to the log, where that will be, and with which time, is noted in the header, so that whoever
//! goes on makes the same records of it again and writes what is missing of them.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::{FileExt, OpenOptionsExt},
    },
    path::Path,
};

use jiff::Timestamp;
use rustix::{
    fs::{FallocateFlags, fallocate},
    pipe::{SpliceFlags, splice},
};

/// The header has a page for itself: what is behind it can be given back.
const HEADER: u64 = 4096;

/// How much may have been logged before it is given back.
const GIVEN_BACK: u64 = 256 * 1024;

/// How far a stream has got into its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// Where in the spool what is not logged begins.
    pub(super) from: u64,
    /// Where what is being logged ends; `from` if nothing is.
    pub(super) to: u64,
    /// The line that begins at `from` has parts before it.
    pub(super) is_rest: bool,
    /// There is nothing behind `to`, and no line break needs to be waited for.
    pub(super) at_end: bool,
    /// The time that the records have.
    pub(super) time: Timestamp,
    /// The file that they go to.
    pub(super) file: u64,
    /// How long that was before.
    pub(super) length: u64,
}

const MARK: usize = 8 * 6 + 2;

impl Mark {
    fn to_bytes(self) -> [u8; MARK] {
        let mut bytes = [0; MARK];
        let numbers = [self.from, self.to, self.file, self.length, self.time.as_second() as u64];
        for (number, place) in numbers.iter().zip(bytes.chunks_exact_mut(8)) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes[40..44].copy_from_slice(&self.time.subsec_nanosecond().to_le_bytes());
        bytes[48] = self.is_rest.into();
        bytes[49] = self.at_end.into();
        bytes
    }

    fn from_bytes(bytes: &[u8; MARK]) -> Option<Self> {
        let number = |i: usize| Some(u64::from_le_bytes(bytes[i * 8..i * 8 + 8].try_into().ok()?));
        let nanosecond = i32::from_le_bytes(bytes[40..44].try_into().ok()?);
        Some(Self {
            from: number(0)?,
            to: number(1)?,
            file: number(2)?,
            length: number(3)?,
            time: Timestamp::new(number(4)? as i64, nanosecond).ok()?,
            is_rest: bytes[48] != 0,
            at_end: bytes[49] != 0,
        })
    }
}

/// The spool of one stream.
pub(super) struct Spool {
    file: File,
    /// Its length.
    size: u64,
    given_back: u64,
}

impl Spool {
    /// Begins an empty one.
    ///
    /// # Errors
    /// What open(2) and write(2) say.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let _ = fs::remove_file(path);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        let mut spool = Self { file, size: HEADER, given_back: HEADER };
        spool.file.set_len(HEADER)?;
        spool.note(&Mark {
            from: HEADER,
            to: HEADER,
            is_rest: false,
            at_end: false,
            time: Timestamp::UNIX_EPOCH,
            file: 0,
            length: 0,
        })?;
        Ok(spool)
    }

    /// Goes on with one; with it come how far it had got, and what it has that is not logged.
    ///
    /// # Errors
    /// What open(2) and read(2) say; `InvalidData` for what is none.
    pub(super) fn resume(path: &Path) -> io::Result<(Self, Mark, Vec<u8>)> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut header = [0; MARK];
        file.read_exact_at(&mut header, 0)?;
        let size = file.metadata()?.len();
        let mark =
            Mark::from_bytes(&header).filter(|mark| HEADER <= mark.from && mark.from <= mark.to && mark.to <= size);
        let mark = mark.ok_or(io::ErrorKind::InvalidData)?;
        let mut rest = vec![0; (size - mark.from) as usize];
        file.read_exact_at(&mut rest, mark.from)?;
        Ok((Self { file, size, given_back: HEADER }, mark, rest))
    }

    /// Where what is taken next will be.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Takes at most so much of what there is in a pipe, and adds it to `taken`; nothing at its end.
    ///
    /// # Errors
    /// What splice(2) says; `WouldBlock` when there is nothing.
    pub(super) fn take(&mut self, pipe: BorrowedFd<'_>, most: usize, taken: &mut Vec<u8>) -> io::Result<usize> {
        let mut at = self.size;
        let n = splice(pipe, None, self.file.as_fd(), Some(&mut at), most, SpliceFlags::NONBLOCK)?;
        let had = taken.len();
        taken.resize(had + n, 0);
        let read = self.file.read_exact_at(&mut taken[had..], self.size);
        self.size += n as u64;
        if let Err(error) = read {
            taken.truncate(had);
            return Err(error);
        }
        Ok(n)
    }

    /// Adds what has been taken otherwise.
    ///
    /// # Errors
    /// What write(2) says.
    pub(super) fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.size)?;
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Notes how far its stream has got. It is one write within a page, so it is there or not.
    ///
    /// # Errors
    /// What write(2) says.
    pub(super) fn note(&mut self, mark: &Mark) -> io::Result<()> {
        self.file.write_all_at(&mark.to_bytes(), 0)?;
        let pages = mark.from / HEADER * HEADER;
        if mark.from == mark.to && pages.saturating_sub(self.given_back) >= GIVEN_BACK {
            let length = pages - self.given_back;
            // Where that cannot be, it goes with the file.
            let _ =
                fallocate(&self.file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, self.given_back, length);
            self.given_back = pages;
        }
        Ok(())
    }
}

/// Takes at most so much of what there is, past a spool.
pub(super) fn read(source: BorrowedFd<'_>, most: usize, taken: &mut Vec<u8>) -> io::Result<usize> {
    let had = taken.len();
    taken.resize(had + most, 0);
    let read = rustix::io::read(source, &mut taken[had..]);
    taken.truncate(had + read.unwrap_or(0));
    Ok(read?)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_has_left_a_pipe_is_in_the_spool() {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("spool/stdout");
        // Whatever other tests start meanwhile does not keep it open.
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("pipe");
        let mut writer = File::from(writer);
        let mut spool = Spool::create(&path).expect("spool");
        let mut taken = Vec::new();
        let error = spool.take(reader.as_fd(), 100, &mut taken).expect_err("nothing");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        for round in 0..100_u8 {
            writer.write_all(&[round; 10_000]).expect("written");
            while taken.len() < (usize::from(round) + 1) * 10_000 {
                spool.take(reader.as_fd(), 64 * 1024, &mut taken).expect("taken");
            }
        }
        let mark = Mark {
            from: HEADER + 500_000,
            to: HEADER + 500_000,
            is_rest: true,
            at_end: false,
            time: "2026-01-02T03:04:05.000000006Z".parse().expect("a time"),
            file: 7,
            length: 8,
        };
        spool.note(&mark).expect("noted");
        drop(spool);
        let (mut spool, again, rest) = Spool::resume(&path).expect("spool");
        assert_eq!(again, mark);
        assert!(rest == taken[500_000..]);
        drop(writer);
        // What they have forked may have it still, until it executes something.
        let mut end = [rustix::event::PollFd::new(&reader, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut end, None).expect("the end");
        assert_eq!(spool.take(reader.as_fd(), 100, &mut taken).expect("the end"), 0);
        fs::write(&path, "x").expect("written");
        assert!(Spool::resume(&path).is_err());
    }
}
