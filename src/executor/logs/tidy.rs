//! What becomes of files that are not written to any more.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    sync::atomic::{AtomicBool, Ordering},
};

use flate2::{Compression, write::GzEncoder};

use crate::state::LogFolder;

/// Removes files below this number.
pub(super) fn remove_below(folder: &LogFolder, first: u64) {
    let files = folder.files().unwrap_or_default();
    for file in files.iter().filter(|file| file.number < first) {
        for path in [folder.plain(file.number), folder.compressed(file.number), folder.unfinished(file.number)] {
            if let Err(error) = fs::remove_file(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), %error, "an old file of a log is left");
            }
        }
    }
}

/// Compresses the oldest file below this number that is not; false if there is none, or it could not be done.
pub(super) fn compress_one(folder: &LogFolder, current: u64, closing: &AtomicBool) -> bool {
    let files = folder.files().unwrap_or_default();
    let Some(file) = files.iter().find(|file| file.plain && file.number < current) else { return false };
    match compress(folder, file.number, closing) {
        Ok(()) => true,
        Err(error) => {
            let _ = fs::remove_file(folder.unfinished(file.number));
            // It is read as it is.
            if !closing.load(Ordering::SeqCst) && error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(folder = %folder.path().display(), %error, "a file of a log cannot be compressed");
            }
            // One that has been removed meanwhile is no reason to leave the others.
            error.kind() == io::ErrorKind::NotFound
        }
    }
}

/// A reader finds it in one form or the other at any moment, whole.
fn compress(folder: &LogFolder, number: u64, closing: &AtomicBool) -> io::Result<()> {
    let plain = folder.plain(number);
    let mut source = File::open(&plain)?;
    let unfinished = folder.unfinished(number);
    let target = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    let mut encoder = GzEncoder::new(target, Compression::default());
    let mut block = vec![0; 256 * 1024];
    loop {
        if closing.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        match source.read(&mut block)? {
            0 => break,
            n => encoder.write_all(&block[..n])?,
        }
    }
    let target = encoder.finish()?;
    // Who looks for later lines passes over it by its time.
    target.set_modified(source.metadata()?.modified()?)?;
    fs::rename(&unfinished, folder.compressed(number))?;
    fs::remove_file(&plain)
}
