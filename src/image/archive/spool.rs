//! A temporary copy of what cannot be read at any place: a stream, or a compressed archive.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    sync::atomic::{AtomicU64, Ordering},
};

use super::ArchiveError;
use crate::image::store::Store;

/// Bytes that an uncompressed archive may have, if it is copied: a few kilobytes can be compressed terabytes.
const MAX_SPOOLED: u64 = 64 << 30;

/// Copies all of `input` into a file without a name, in the folder of the store for what is under way. There is room for
/// an image there if anywhere, while a /tmp is often memory.
pub(super) fn spool(
    store: &Store,
    mut input: impl Read,
    failed: impl Fn(io::Error) -> ArchiveError,
) -> Result<File, ArchiveError> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let folder = store.folder().join("partial");
    let at = |source| ArchiveError::Spool { folder: folder.clone(), source };
    let mut file = loop {
        let name = format!("archive-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = folder.join(name);
        match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path) {
            // Gone as soon as nobody has it open, whatever becomes of us.
            Ok(file) => break std::fs::remove_file(&path).map(|()| file).map_err(at)?,
            // Of a process that had our number and was killed in between.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(at(e)),
        }
    };
    let mut buffer = vec![0; 256 * 1024];
    let mut copied = 0;
    loop {
        let count = match input.read(&mut buffer) {
            Ok(0) => return Ok(file),
            Ok(count) => count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(failed(e)),
        };
        copied += count as u64;
        if copied > MAX_SPOOLED {
            return Err(ArchiveError::TooMuch { what: "bytes", limit: MAX_SPOOLED });
        }
        file.write_all(&buffer[..count]).map_err(at)?;
    }
}
