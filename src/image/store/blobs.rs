//! Content under its digest.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::PathBuf,
};

use rustix::fs::FlockOperation;
use sha2::{Digest as _, Sha256};

use super::{Store, StoreError, flock};
use crate::model::Digest;

/// Whether something has to be made, or is there.
#[derive(Debug)]
pub enum Begun<W> {
    /// It is there, complete.
    Present,
    /// It is the caller's to make.
    Writer(W),
}

/// A blob under way. What is dropped unfinished stays, to be gone on with.
#[derive(Debug)]
pub struct BlobWriter {
    file: File,
    partial: PathBuf,
    target: PathBuf,
    digest: Digest,
    hasher: Sha256,
    written: u64,
}

impl Store {
    /// Whether a blob is there.
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.blob(digest).is_file()
    }

    /// The whole of a small blob, such as a manifest, verified.
    ///
    /// # Errors
    /// When it is not there, or not what it should be.
    pub fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let path = self.blob(digest);
        let bytes = fs::read(&path).map_err(StoreError::at(&path))?;
        let actual = Digest::of(&bytes);
        if actual != *digest {
            return Err(StoreError::Mismatch { expected: digest.clone(), actual });
        }
        Ok(bytes)
    }

    /// Keeps the bytes of a document, and says their digest. One that is there and damaged becomes right again.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write_blob(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        match self.begin_blob(&digest)? {
            Begun::Writer(mut writer) => {
                writer.restart()?;
                writer.write(bytes)?;
                writer.finish(Some(bytes.len() as u64))?;
            }
            // It was damaged. In place, as whoever runs the image has a lock on this very file.
            Begun::Present if self.read_blob(&digest).is_err() => {
                let path = self.blob(&digest);
                fs::write(&path, bytes).map_err(StoreError::at(&path))?;
            }
            Begun::Present => {}
        }
        Ok(digest)
    }

    /// Begins to write a blob, or goes on where a writer before was broken off: [`BlobWriter::written`] says where. Waits
    /// for another writer of the same blob, who in general leaves it complete.
    ///
    /// # Errors
    /// When the file cannot be had.
    pub fn begin_blob(&self, digest: &Digest) -> Result<Begun<BlobWriter>, StoreError> {
        let partial = self.folder.join("partial").join(digest.hex());
        loop {
            let target = self.blob(digest);
            if target.is_file() {
                return Ok(Begun::Present);
            }
            let failed = StoreError::at(&partial);
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW)
                .open(&partial)
                .and_then(|file| flock(&file, FlockOperation::LockExclusive).map(|()| file))
                .map_err(failed)?;
            // Whoever had it may have renamed it between our open and our lock.
            let same = fs::metadata(&partial).is_ok_and(|there| {
                file.metadata().is_ok_and(|ours| (there.dev(), there.ino()) == (ours.dev(), ours.ino()))
            });
            if same && self.has_blob(digest) {
                // It was completed between our look and our open, which has made the file anew.
                fs::remove_file(&partial).map_err(StoreError::at(&partial))?;
            } else if same {
                let mut writer =
                    BlobWriter { file, partial, target, digest: digest.clone(), hasher: Sha256::new(), written: 0 };
                writer.take_over(|_| Ok(()))?;
                return Ok(Begun::Writer(writer));
            }
        }
    }
}

impl BlobWriter {
    /// How many bytes are there.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Which blob it is.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Reads what is there from the beginning, for the digest and for `each`.
    ///
    /// # Errors
    /// When it cannot be read, or `each` fails.
    pub fn take_over(&mut self, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> Result<(), StoreError> {
        let failed = StoreError::at(&self.partial);
        let mut read = || {
            self.hasher = Sha256::new();
            self.written = 0;
            self.file.seek(SeekFrom::Start(0))?;
            let mut buffer = vec![0; 256 * 1024];
            loop {
                match self.file.read(&mut buffer) {
                    Ok(0) => return Ok(()),
                    Ok(count) => {
                        self.hasher.update(&buffer[..count]);
                        self.written += count as u64;
                        each(&buffer[..count])?;
                    }
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(e),
                }
            }
        };
        read().map_err(failed)
    }

    /// Up to `most` of the bytes that are there, from an offset on; at least one of them.
    ///
    /// # Errors
    /// When they cannot be read, or there are none.
    pub fn read_at(&self, offset: u64, most: usize) -> Result<Vec<u8>, StoreError> {
        let left = usize::try_from(self.written.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; most.min(left)];
        self.file.read_exact_at(&mut bytes, offset).map_err(StoreError::at(&self.partial))?;
        if bytes.is_empty() {
            return Err(StoreError::at(&self.partial)(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(bytes)
    }

    /// Throws away what is there.
    ///
    /// # Errors
    /// When it cannot be truncated.
    pub fn restart(&mut self) -> Result<(), StoreError> {
        self.hasher = Sha256::new();
        self.written = 0;
        let done = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        done.map(drop).map_err(StoreError::at(&self.partial))
    }

    /// Appends.
    ///
    /// # Errors
    /// When the disk is full, and the like.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.write_all(bytes).map_err(StoreError::at(&self.partial))?;
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Gives it its name if it is what it should be; throws it away if not.
    ///
    /// # Errors
    /// [`StoreError::Mismatch`] and [`StoreError::Size`].
    pub fn finish(self, size: Option<u64>) -> Result<(), StoreError> {
        let actual = Digest::finish(self.hasher);
        let wrong = if let Some(expected) = size.filter(|size| *size != self.written) {
            Some(StoreError::Size { digest: self.digest.clone(), expected, actual: self.written })
        } else if actual != self.digest {
            Some(StoreError::Mismatch { expected: self.digest.clone(), actual })
        } else {
            None
        };
        if let Some(wrong) = wrong {
            let _ = fs::remove_file(&self.partial);
            return Err(wrong);
        }
        fs::rename(&self.partial, &self.target).map_err(StoreError::at(&self.target))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().expect("folder");
        let store = Store::new(dir.path().join("images"));
        drop(store.share().expect("folders"));
        (dir, store)
    }

    fn writer(store: &Store, digest: &Digest) -> BlobWriter {
        match store.begin_blob(digest).expect("begun") {
            Begun::Writer(writer) => writer,
            Begun::Present => panic!("it should not be there"),
        }
    }

    #[test]
    fn what_was_broken_off_is_gone_on_with() {
        let (_dir, store) = store();
        let digest = Digest::of(b"hello world");
        writer(&store, &digest).write(b"hello").expect("written");
        let mut second = writer(&store, &digest);
        assert_eq!(second.written(), 5);
        let mut seen = Vec::new();
        second
            .take_over(|bytes| {
                seen.extend_from_slice(bytes);
                Ok(())
            })
            .expect("read");
        assert_eq!(seen, b"hello");
        second.write(b" world").expect("written");
        second.finish(Some(11)).expect("right");
        assert_eq!(store.read_blob(&digest).expect("there"), b"hello world");
        assert!(matches!(store.begin_blob(&digest), Ok(Begun::Present)));
    }

    #[test]
    fn what_has_another_digest_or_size_never_gets_its_name() {
        let (_dir, store) = store();
        let digest = Digest::of(b"right");
        let mut wrong = writer(&store, &digest);
        wrong.write(b"wrong").expect("written");
        assert!(matches!(wrong.finish(Some(5)), Err(StoreError::Mismatch { .. })));
        let mut long = writer(&store, &digest);
        assert_eq!(long.written(), 0, "the wrong bytes are gone");
        long.write(b"right").expect("written");
        assert!(matches!(long.finish(Some(6)), Err(StoreError::Size { expected: 6, actual: 5, .. })));
        assert!(!store.has_blob(&digest));
    }

    #[test]
    fn a_damaged_document_becomes_right_when_it_is_written_again() {
        let (_dir, store) = store();
        let digest = store.write_blob(b"manifest").expect("written");
        fs::write(store.blob(&digest), b"").expect("changed");
        let held = store.hold(&digest).expect("there");
        assert_eq!(store.write_blob(b"manifest").expect("written"), digest);
        assert_eq!(store.read_blob(&digest).expect("right"), b"manifest");
        assert!(store.is_in_use(&digest));
        drop(held);
    }

    #[test]
    fn a_blob_changed_on_disk_is_not_read() {
        let (_dir, store) = store();
        let digest = store.write_blob(b"manifest").expect("written");
        fs::write(store.blob(&digest), b"manifesT").expect("changed");
        assert!(matches!(store.read_blob(&digest), Err(StoreError::Mismatch { .. })));
        // It is put right by whoever has it again.
        store.write_blob(b"manifest").expect("written");
        assert_eq!(store.read_blob(&digest).expect("right"), b"manifest");
    }
}
