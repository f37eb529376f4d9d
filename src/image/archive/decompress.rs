//! What a stream is compressed with, and the way back.

use std::io::{self, Chain, Cursor, Read};

use flate2::read::MultiGzDecoder;
use ruzstd::decoding::{
    FrameDecoder, StreamingDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};

/// How something is compressed, as its first bytes tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    /// Not at all.
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
    /// Something that cannot be read here, by its name.
    Unknown(&'static str),
}

/// Bytes that have to be looked at to tell.
pub(super) const MAGIC: usize = 6;

impl Compression {
    /// What begins with these bytes.
    pub(super) fn of(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // The second is a frame to be skipped, which some writers begin with.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [b'B', b'Z', b'h', ..] => Self::Unknown("bzip2"),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Unknown("xz"),
            _ => Self::None,
        }
    }
}

/// Reads as many bytes as there are, up to all of `buffer`.
pub(super) fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// The bytes that `input`, compressed like this, stands for.
pub(super) fn decompress<'a>(input: impl Read + 'a, compression: Compression) -> Box<dyn Read + 'a> {
    match compression {
        Compression::Gzip => Box::new(MultiGzDecoder::new(io::BufReader::with_capacity(64 * 1024, input))),
        Compression::Zstd => {
            Box::new(Frames { input: Some(io::BufReader::with_capacity(64 * 1024, input)), frame: None })
        }
        Compression::None | Compression::Unknown(_) => Box::new(input),
    }
}

/// Input of which four bytes had to be looked at.
type Begun<R> = Chain<Cursor<[u8; 4]>, io::BufReader<R>>;

/// Zstandard frames one behind the other, as parallel compressors write them; the decoder knows only one.
struct Frames<R: Read> {
    /// Between two frames.
    input: Option<io::BufReader<R>>,
    /// In one.
    frame: Option<StreamingDecoder<Begun<R>, FrameDecoder>>,
}

impl<R: Read> Frames<R> {
    /// Goes to the next frame; false at the end.
    fn next(&mut self) -> io::Result<bool> {
        let Some(mut input) = self.input.take() else { return Ok(false) };
        loop {
            let mut magic = [0; 4];
            match fill(&mut input, &mut magic)? {
                0 => return Ok(false),
                4 => {}
                _ => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
            if let [0x50..=0x5f, 0x2a, 0x4d, 0x18] = magic {
                let mut length = [0; 4];
                input.read_exact(&mut length)?;
                let length = u64::from(u32::from_le_bytes(length));
                if io::copy(&mut (&mut input).take(length), &mut io::sink())? < length {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                continue;
            }
            let frame = StreamingDecoder::new(Cursor::new(magic).chain(input)).map_err(|error| match error {
                FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::BadMagicNumber(_)) => {
                    io::Error::new(io::ErrorKind::InvalidData, "there is something else behind it")
                }
                other => io::Error::new(io::ErrorKind::InvalidData, other),
            })?;
            self.frame = Some(frame);
            return Ok(true);
        }
    }
}

impl<R: Read> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if let Some(frame) = &mut self.frame {
                let count = frame.read(buffer)?;
                if count > 0 {
                    return Ok(count);
                }
            }
            if let Some(frame) = self.frame.take() {
                self.input = Some(frame.into_inner().into_inner().1);
            }
            if !self.next()? {
                return Ok(0);
            }
        }
    }
}
