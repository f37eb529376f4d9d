//! From what comes to the uncompressed archive.

use std::{
    io::{self, Cursor, Read},
    sync::mpsc::{Receiver, SyncSender},
};

use super::{
    UnpackError,
    header::{BLOCK, Header},
    stream::Piece,
};
use crate::image::decompress::{Compression, decompressed, fill};

/// Size of the buffers that pass between the threads. So large that a system call per buffer does not count, and so small
/// that a few of them stay in the processor's cache.
const BUFFER: usize = 256 * 1024;

/// Decompresses all of `archive` into buffers and sends them, or the error that comes up, until the other side does not
/// take them any more.
pub(super) fn decompress(
    archive: impl Read,
    limit: u64,
    pieces: &SyncSender<Result<Piece, UnpackError>>,
    spare: &Receiver<Vec<u8>>,
) {
    if let Err(error) = pump(archive, limit, pieces, spare) {
        let _ = pieces.send(Err(error));
    }
}

fn pump(
    archive: impl Read,
    limit: u64,
    pieces: &SyncSender<Result<Piece, UnpackError>>,
    spare: &Receiver<Vec<u8>>,
) -> Result<(), UnpackError> {
    let (compression, mut plain) = open(archive)?;
    let mut total = 0_u64;
    loop {
        let mut buffer = spare.try_recv().unwrap_or_else(|_| vec![0; BUFFER]);
        let filled = fill(&mut plain, &mut buffer).map_err(|source| UnpackError::Read { compression, source })?;
        total += filled as u64;
        if total > limit {
            return Err(UnpackError::Limit { what: "bytes", limit });
        }
        if filled == 0 || pieces.send(Ok((buffer, filled))).is_err() {
            return Ok(());
        }
    }
}

/// Finds out how it is compressed, by its first bytes: what a media type says is wrong often enough.
fn open<'r>(mut archive: impl Read + 'r) -> Result<(&'static str, Box<dyn Read + 'r>), UnpackError> {
    let mut head = vec![0; BLOCK];
    let there =
        fill(&mut archive, &mut head).map_err(|source| UnpackError::Read { compression: "not compressed", source })?;
    head.truncate(there);
    let compression = Compression::of(&head);
    let first = <[u8; BLOCK]>::try_from(head.as_slice()).map(Header);
    let empty = head.is_empty();
    let all = Cursor::new(head).chain(archive);
    Ok(match compression {
        Compression::Gzip => ("gzip", decompressed(all, compression)),
        Compression::Zstd => ("zstd", decompressed(all, compression)),
        Compression::Unknown(how) => return Err(UnpackError::Compression(how)),
        // Some old images have layers of no bytes at all, which Docker takes for empty ones.
        Compression::None if empty => ("not compressed", Box::new(io::empty())),
        Compression::None if first.is_ok_and(|header| header.is_zero() || header.is_valid()) => {
            ("not compressed", Box::new(all))
        }
        Compression::None => return Err(UnpackError::NoArchive),
    })
}
