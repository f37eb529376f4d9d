//! Files of an archive or of a layout's folder, by name.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::{ArchiveError, index::Index};
use crate::image::document::MAX_DOCUMENT;

/// Where files are read from.
#[derive(Debug)]
pub(super) enum Members {
    /// A folder.
    Folder(PathBuf),
    /// An uncompressed tar archive.
    Tar(File, Index),
}

/// One file, read from its beginning.
#[derive(Debug)]
pub(super) struct Member {
    name: String,
    file: File,
    next: u64,
    end: u64,
    size: u64,
}

impl Members {
    /// Whether there is a file of this name. Names in folders are those of the layout alone, and never from a document.
    pub(super) fn has(&self, name: &str) -> bool {
        match self {
            Self::Folder(folder) => folder.join(name).is_file(),
            Self::Tar(_, index) => index.contains(name),
        }
    }

    /// Opens a file.
    ///
    /// # Errors
    /// When it is not there, or is no file.
    pub(super) fn open(&self, name: &str) -> Result<Member, ArchiveError> {
        let failed = |source| ArchiveError::Member { member: name.to_owned(), source };
        let (file, begin, size) = match self {
            Self::Folder(folder) => {
                let file = match plain_file(&folder.join(name)) {
                    Ok(file) => file,
                    Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                        return Err(ArchiveError::Missing { member: name.to_owned() });
                    }
                    Err(e) => return Err(failed(e)),
                };
                let meta = file.metadata().map_err(failed)?;
                if !meta.is_file() {
                    return Err(ArchiveError::NotAFile { member: name.to_owned() });
                }
                (file, 0, meta.len())
            }
            Self::Tar(file, index) => {
                let (begin, size) = index.find(name)?;
                (file.try_clone().map_err(failed)?, begin, size)
            }
        };
        Ok(Member { name: name.to_owned(), file, next: begin, end: begin + size, size })
    }

    /// The whole of a document.
    ///
    /// # Errors
    /// When it is not there, or is too large to be one.
    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>, ArchiveError> {
        let mut member = self.open(name)?;
        let size = member.size;
        if size > MAX_DOCUMENT {
            return Err(ArchiveError::TooLarge { member: name.to_owned(), size, limit: MAX_DOCUMENT });
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
        let mut filled = 0;
        while filled < bytes.len() {
            filled += member.read(&mut bytes[filled..])?;
        }
        Ok(bytes)
    }

    /// A document as a value.
    ///
    /// # Errors
    /// When it is not there, or is another one.
    pub(super) fn json<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T, ArchiveError> {
        serde_json::from_slice(&self.read(name)?)
            .map_err(|e| ArchiveError::Broken { member: name.to_owned(), why: e.to_string() })
    }
}

impl Member {
    /// Bytes that it has.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The next bytes, at least one but at its end.
    ///
    /// # Errors
    /// When the file cannot be read or has become shorter.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
        let left = usize::try_from(self.end - self.next).unwrap_or(usize::MAX).min(buffer.len());
        if left == 0 {
            return Ok(0);
        }
        loop {
            match self.file.read_at(&mut buffer[..left], self.next) {
                Ok(0) => return Err(ArchiveError::Truncated { member: self.name.clone() }),
                Ok(count) => {
                    self.next += count as u64;
                    return Ok(count);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(ArchiveError::Member { member: self.name.clone(), source }),
            }
        }
    }

    /// All bytes that are left, in pieces.
    ///
    /// # Errors
    /// When they cannot be read, or `each` fails.
    pub(super) fn for_each(
        &mut self,
        mut each: impl FnMut(&[u8]) -> Result<(), ArchiveError>,
    ) -> Result<(), ArchiveError> {
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match self.read(&mut buffer)? {
                0 => return Ok(()),
                count => each(&buffer[..count])?,
            }
        }
    }
}

/// Opens without waiting for the other end of what turns out to be a pipe.
fn plain_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)
}
