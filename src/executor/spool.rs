//! Where the output of a container is between its pipe and its log: a file in memory that outlives the supervisor.
//!
//! ```text
//! pipe ──splice──▶ [ledger | logged ... | not logged yet ...] ──▶ log
//! ```
//!
//! What has been read from a pipe and not yet written to the log is nowhere else, and half a line may be there for long. So
//! nothing is read into memory of this process alone: splice(2) takes bytes out of the pipe and puts them into the file, and no
//! signal comes between. The ledger says how far the log has come; it is written before the log, with how long that is, and
//! after it. Who comes after a supervisor that was killed in between sees by the log's length whether it was written.
//! The keeper keeps the file.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::FileExt,
    },
};

use rustix::{
    fs::{FallocateFlags, MemfdFlags, fallocate},
    pipe::{SpliceFlags, splice},
};
use tokio::io::{Interest, unix::AsyncFd};

/// The ledger has a page of its own, so that those behind it can be given back.
const LEDGER: u64 = 4096;

/// The most that is read at a time.
const PIECE: usize = 64 * 1024;

/// So much may have been logged before its memory is given back.
const GIVE_BACK: u64 = 1024 * 1024;

/// What a container has written and its log has not.
#[derive(Debug)]
pub(super) struct Spool {
    file: File,
    /// How far the log has come.
    logged: u64,
    /// Up to here memory has been given back.
    given_back: u64,
    /// How far it has been filled.
    filled: u64,
    /// The source is no pipe.
    copies: bool,
}

/// What stands in the ledger, as four numbers.
struct Ledger {
    logged: u64,
    /// Length of the log before it is written to.
    before: u64,
    /// How much is written to it; nothing is under way when it is 0.
    length: u64,
    /// How far the log has come when that is done.
    then: u64,
}

impl Ledger {
    fn write(&self, file: &File) -> io::Result<()> {
        let numbers = [self.logged, self.before, self.length, self.then];
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        file.write_all_at(&bytes, 0)
    }

    fn read(file: &File) -> io::Result<Self> {
        let mut bytes = [0; 32];
        file.read_exact_at(&mut bytes, 0)?;
        let number = |i: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[8 * i..8 * (i + 1)]);
            u64::from_le_bytes(number)
        };
        Ok(Self { logged: number(0), before: number(1), length: number(2), then: number(3) })
    }
}

impl Spool {
    /// An empty one.
    ///
    /// # Errors
    /// What memfd_create(2) says.
    pub(super) fn new() -> io::Result<Self> {
        // Since Linux 6.3 a file in memory is to say whether it may be executed.
        let file = match rustix::fs::memfd_create("nscompose-log", MemfdFlags::CLOEXEC | MemfdFlags::NOEXEC_SEAL) {
            Err(rustix::io::Errno::INVAL) => rustix::fs::memfd_create("nscompose-log", MemfdFlags::CLOEXEC)?,
            other => other?,
        };
        let file = File::from(file);
        Ledger { logged: LEDGER, before: 0, length: 0, then: 0 }.write(&file)?;
        file.set_len(LEDGER)?;
        Ok(Self { file, logged: LEDGER, given_back: LEDGER, filled: LEDGER, copies: false })
    }

    /// That of a supervisor that has died, which wrote to this log; and what the log lacks of it. To be called for all that
    /// write to the same log before any of them does so.
    ///
    /// # Errors
    /// What read(2) says.
    pub(super) fn again(file: OwnedFd, log: &File) -> io::Result<(Self, Vec<u8>)> {
        let file = File::from(file);
        let ledger = Ledger::read(&file)?;
        let filled = file.metadata()?.len();
        let mut logged = ledger.logged;
        if ledger.length > 0 {
            let length = log.metadata()?.len();
            if length >= ledger.before + ledger.length {
                logged = ledger.then;
            } else if length > ledger.before {
                // Killed in the middle of it.
                log.set_len(ledger.before)?;
            }
        }
        // Killed while it began anew.
        if logged > filled {
            logged = LEDGER;
        }
        Ledger { logged, before: 0, length: 0, then: 0 }.write(&file)?;
        let mut rest = vec![0; usize::try_from(filled - logged).unwrap_or(0)];
        file.read_exact_at(&mut rest, logged)?;
        Ok((Self { file, logged, given_back: LEDGER, filled, copies: false }, rest))
    }

    /// The file, to be kept.
    ///
    /// # Errors
    /// EMFILE.
    pub(super) fn to_keep(&self) -> io::Result<OwnedFd> {
        Ok(self.file.try_clone()?.into())
    }

    /// Waits for more, and appends it to `pending`, what has come before and is not logged yet. How much it is comes back,
    /// nothing at the end.
    ///
    /// # Errors
    /// What splice(2) says.
    pub(super) async fn fill(&mut self, source: &AsyncFd<OwnedFd>, pending: &mut Vec<u8>) -> io::Result<usize> {
        let n = match source.async_io(Interest::READABLE, |fd| self.take(fd)).await {
            // The last process has closed the terminal (pty(7)).
            Err(e) if e.raw_os_error() == Some(libc::EIO) => 0,
            other => other?,
        };
        let start = pending.len();
        pending.resize(start + n, 0);
        self.file.read_exact_at(&mut pending[start..], self.filled)?;
        self.filled += n as u64;
        Ok(n)
    }

    fn take(&mut self, source: &OwnedFd) -> io::Result<usize> {
        if !self.copies {
            let mut at = self.filled;
            match splice(source, None, &self.file, Some(&mut at), PIECE, SpliceFlags::NONBLOCK) {
                // A terminal cannot be spliced into a file.
                Err(rustix::io::Errno::INVAL) => self.copies = true,
                other => return Ok(other?),
            }
        }
        let mut buffer = [0; 4096];
        let n = rustix::io::read(source, &mut buffer)?;
        self.file.write_all_at(&buffer[..n], self.filled)?;
        Ok(n)
    }

    /// The log, which has so many bytes, is about to get `length` more, for the next `bytes` of what is pending.
    ///
    /// # Errors
    /// What write(2) says.
    pub(super) fn begin(&self, before: u64, length: usize, bytes: usize) -> io::Result<()> {
        let then = self.logged + bytes as u64;
        Ledger { logged: self.logged, before, length: length as u64, then }.write(&self.file)
    }

    /// The log has the next `bytes` of what is pending, or they are lost.
    ///
    /// # Errors
    /// What write(2) says.
    pub(super) fn done(&mut self, bytes: usize) -> io::Result<()> {
        self.logged += bytes as u64;
        if self.logged == self.filled && self.filled > GIVE_BACK {
            self.file.set_len(LEDGER)?;
            (self.logged, self.filled, self.given_back) = (LEDGER, LEDGER, LEDGER);
        }
        Ledger { logged: self.logged, before: 0, length: 0, then: 0 }.write(&self.file)?;
        if self.logged - self.given_back > GIVE_BACK {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            fallocate(self.file.as_fd(), flags, self.given_back, self.logged - self.given_back)?;
            self.given_back = self.logged;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn log() -> File {
        tempfile::tempfile().expect("file")
    }

    async fn filled(text: &[u8]) -> (Spool, Vec<u8>) {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("pipe");
        let reader = super::super::streams::waited_for(reader).expect("reader");
        File::from(writer).write_all(text).expect("written");
        let (mut spool, mut pending) = (Spool::new().expect("spool"), Vec::new());
        assert_eq!(spool.fill(&reader, &mut pending).await.expect("filled"), text.len());
        assert_eq!(spool.fill(&reader, &mut pending).await.expect("the end"), 0);
        (spool, pending)
    }

    #[tokio::test]
    async fn what_was_read_and_not_logged_is_there_again() {
        let (mut spool, pending) = filled(b"one\ntwo").await;
        assert_eq!(pending, b"one\ntwo");
        let mut log = log();
        spool.begin(0, 4, 4).expect("begun");
        log.write_all(b"ONE\n").expect("written");
        spool.done(4).expect("done");
        let (_, rest) = Spool::again(spool.to_keep().expect("kept"), &log).expect("again");
        assert_eq!(rest, b"two");
    }

    #[tokio::test]
    async fn who_is_killed_beside_the_write_neither_loses_nor_repeats_it() {
        for (written, rest) in [(0, "one\n"), (2, "one\n"), (4, "")] {
            let (spool, _) = filled(b"one\n").await;
            let mut log = log();
            log.write_all(b"before").expect("written");
            spool.begin(6, 4, 4).expect("begun");
            log.write_all(&b"ONE\n"[..written]).expect("written");
            let (_, left) = Spool::again(spool.to_keep().expect("kept"), &log).expect("again");
            assert_eq!(String::from_utf8_lossy(&left), rest, "{written}");
            assert_eq!(log.metadata().expect("log").len(), if written == 4 { 10 } else { 6 });
        }
    }

    #[tokio::test]
    async fn memory_is_given_back() {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("pipe");
        let reader = super::super::streams::waited_for(reader).expect("reader");
        let mut writer = File::from(writer);
        let (mut spool, mut pending) = (Spool::new().expect("spool"), Vec::new());
        for _ in 0..100 {
            writer.write_all(&[b'x'; PIECE]).expect("written");
            spool.fill(&reader, &mut pending).await.expect("filled");
            // Half a line is always left.
            let n = pending.len() - 1;
            pending.drain(..n);
            spool.done(n).expect("done");
        }
        use std::os::unix::fs::MetadataExt;
        let held = spool.file.metadata().expect("file").blocks() * 512;
        assert!(held < 2 * GIVE_BACK, "{held}");
        let (_, rest) = Spool::again(spool.to_keep().expect("kept"), &log()).expect("again");
        assert_eq!(rest, b"x");
    }
}
