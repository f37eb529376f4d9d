//! From what comes to the uncompressed archive.

use std::{
    io::{self, BufRead, BufReader, Cursor, Read},
    sync::mpsc::{Receiver, SyncSender},
};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::{
    BlockDecodingStrategy, FrameDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};

use super::{
    UnpackError,
    header::{BLOCK, Header},
    stream::Piece,
};

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

/// Reads until the buffer is full or there is no more.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// Finds out how it is compressed, by its first bytes: what a media type says is wrong often enough.
fn open<'r>(mut archive: impl Read + 'r) -> Result<(&'static str, Box<dyn Read + 'r>), UnpackError> {
    let mut head = vec![0; BLOCK];
    let there =
        fill(&mut archive, &mut head).map_err(|source| UnpackError::Read { compression: "not compressed", source })?;
    head.truncate(there);
    let first = <[u8; BLOCK]>::try_from(head.as_slice()).map(Header);
    let all = |head: Vec<u8>| Cursor::new(head).chain(archive);
    Ok(match head.as_slice() {
        [0x1f, 0x8b, ..] => {
            ("gzip", Box::new(MultiGzDecoder::new(BufReader::with_capacity(BUFFER, all(head)))) as Box<dyn Read>)
        }
        // A frame, or one to be skipped, which may come first.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            ("zstd", Box::new(Zstd::new(BufReader::with_capacity(BUFFER, all(head)))))
        }
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => return Err(UnpackError::Compression("xz")),
        [b'B', b'Z', b'h', ..] => return Err(UnpackError::Compression("bzip2")),
        // Some old images have layers of no bytes at all, which Docker takes for empty ones.
        [] => ("not compressed", Box::new(io::empty())),
        _ if first.is_ok_and(|header| header.is_zero() || header.is_valid()) => ("not compressed", Box::new(all(head))),
        _ => return Err(UnpackError::NoArchive),
    })
}

/// A zstd stream of any number of frames (RFC 8878).
struct Zstd<R> {
    source: R,
    decoder: FrameDecoder,
    /// Whether it is inside of a frame.
    inside: bool,
}

impl<R: BufRead> Zstd<R> {
    fn new(source: R) -> Self {
        Self { source, decoder: FrameDecoder::new(), inside: false }
    }

    /// Begins the next frame; false if there is none.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.source) {
                Ok(()) => {
                    self.inside = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    let skipped = io::copy(&mut (&mut self.source).take(length.into()), &mut io::sink())?;
                    if skipped < u64::from(length) {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(e) => return Err(io::Error::other(e)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while !into.is_empty() {
            if !self.inside && !self.begin()? {
                break;
            }
            if self.decoder.can_collect() > 0 {
                return self.decoder.read(into);
            }
            if self.decoder.is_finished() {
                self.inside = false;
                let promised = self.decoder.get_checksum_from_data();
                if promised.is_some() && promised != self.decoder.get_calculated_checksum() {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "the checksum of a frame is wrong"));
                }
                continue;
            }
            // Not more at once than what fits into a buffer: a block has up to 128 KiB.
            let step = BlockDecodingStrategy::UptoBlocks(1);
            self.decoder.decode_blocks(&mut self.source, step).map_err(io::Error::other)?;
        }
        Ok(0)
    }
}
