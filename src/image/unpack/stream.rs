//! The uncompressed archive, as it comes from the thread that decompresses it.

use std::sync::mpsc::{Receiver, Sender};

use sha2::{Digest as _, Sha256};

use super::{UnpackError, header::BLOCK};
use crate::model::Digest;

/// A buffer, and how much of it is filled.
pub(super) type Piece = (Vec<u8>, usize);

/// Pieces that come from another thread, read as one. Buffers go back to be filled again. The digest is made here, as
/// decompressing takes longer than writing files.
pub(super) struct Stream {
    pieces: Receiver<Result<Piece, UnpackError>>,
    spare: Sender<Vec<u8>>,
    buffer: Vec<u8>,
    at: usize,
    end: usize,
    position: u64,
    hasher: Sha256,
    total: u64,
}

impl Stream {
    pub(super) fn new(pieces: Receiver<Result<Piece, UnpackError>>, spare: Sender<Vec<u8>>) -> Self {
        let (buffer, hasher) = (Vec::new(), Sha256::new());
        Self { pieces, spare, buffer, at: 0, end: 0, position: 0, hasher, total: 0 }
    }

    /// How many bytes were read.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// What is at hand, of which the caller says with [`Stream::consume`] how much it used; empty at the end.
    pub(super) fn fill(&mut self) -> Result<&[u8], UnpackError> {
        if self.at == self.end {
            match self.pieces.recv() {
                Ok(piece) => {
                    let (next, filled) = piece?;
                    let used = std::mem::replace(&mut self.buffer, next);
                    if !used.is_empty() {
                        let _ = self.spare.send(used);
                    }
                    (self.at, self.end) = (0, filled);
                    self.hasher.update(&self.buffer[..filled]);
                    self.total += filled as u64;
                }
                // The other thread has read it to its end.
                Err(_) => (self.at, self.end) = (0, 0),
            }
        }
        Ok(&self.buffer[self.at..self.end])
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.at += count;
        self.position += count as u64;
    }

    /// Reads a block; false if there is nothing any more.
    pub(super) fn block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, UnpackError> {
        if self.fill()?.is_empty() {
            return Ok(false);
        }
        self.read(block)?;
        Ok(true)
    }

    /// Fills all of `bytes`.
    pub(super) fn read(&mut self, mut bytes: &mut [u8]) -> Result<(), UnpackError> {
        while !bytes.is_empty() {
            let position = self.position;
            let there = self.fill()?;
            if there.is_empty() {
                return Err(UnpackError::Truncated(position));
            }
            let count = there.len().min(bytes.len());
            let (now, later) = bytes.split_at_mut(count);
            now.copy_from_slice(&there[..count]);
            bytes = later;
            self.consume(count);
        }
        Ok(())
    }

    /// Leaves bytes out.
    pub(super) fn skip(&mut self, mut count: u64) -> Result<(), UnpackError> {
        while count > 0 {
            let position = self.position;
            let there = self.fill()?.len();
            if there == 0 {
                return Err(UnpackError::Truncated(position));
            }
            let now = usize::try_from(count).unwrap_or(usize::MAX).min(there);
            self.consume(now);
            count -= now as u64;
        }
        Ok(())
    }

    /// Reads what follows the end of the archive, which counts for its digest, to its end.
    pub(super) fn drain(&mut self) -> Result<(), UnpackError> {
        loop {
            let there = self.fill()?.len();
            if there == 0 {
                return Ok(());
            }
            self.consume(there);
        }
    }
    /// Digest and size of all that came.
    pub(super) fn finish(self) -> (Digest, u64) {
        (Digest::finish(self.hasher), self.total)
    }
}
