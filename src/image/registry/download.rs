//! A blob from a registry into the store, and to whoever works on it meanwhile.

use std::io;

use bytes::Bytes;

use super::{Registry, RegistryError, RegistryEvent};
use crate::{image::store::BlobWriter, model::ImageName};

/// Bytes that were there already are handed on in pieces of this size.
const PIECE: usize = 256 << 10;

/// A download that has come this far forward since it last broke has all its attempts again.
const PROGRESS: u64 = 1 << 20;

/// Fetches the blob of `writer`, which has `size` bytes, from the repository of `name`. `sink` gets each byte once, in order,
/// beginning with those that a writer before has left; it may wait, and then so does the download.
///
/// What breaks off goes on where it was; a server that cannot do that sends all of it again, and what is known already is
/// passed over. The digest is for [`BlobWriter::finish`] to check, which is left to the caller, as only then is anything
/// known to be what it should be.
///
/// Hashing and writing happen in between, in the thread of the runtime.
///
/// # Errors
/// When it is larger than it should be or may be, when no server gives it, when attempts are used up, and when the bytes can
/// neither be written nor worked on. What has come stays, to be gone on with.
pub async fn download(
    registry: &Registry,
    name: &ImageName,
    size: u64,
    writer: &mut BlobWriter,
    mut sink: impl AsyncFnMut(Bytes) -> io::Result<()>,
) -> Result<(), RegistryError> {
    let access = registry.access();
    let limit = access.settings.max_layer_size();
    if size > limit {
        return Err(RegistryError::LayerTooLarge { digest: Box::new(writer.digest().clone()), size, limit });
    }
    if writer.written() > size {
        writer.restart()?;
    }
    feed_what_is_there(writer, &mut sink).await?;

    let of = access.patience.attempts;
    let (mut failures, mut mark) = (0, writer.written());
    while writer.written() < size {
        let Err(error) = go_on(registry, name, size, writer, &mut sink).await else { continue };
        if writer.written() - mark >= PROGRESS {
            (failures, mark) = (0, writer.written());
        }
        failures += 1;
        // A registry that was there a moment ago may be starting again.
        let comes_back = matches!(error, RegistryError::Connect { .. }) && writer.written() > 0;
        if failures >= of || !(error.is_transient() || comes_back) {
            return Err(error);
        }
        let after = registry.pause(failures, &error);
        let (what, why) = (format!("layer {}", writer.digest().short()), error.to_string());
        registry.tell(RegistryEvent::Retry { what, why, after, attempt: failures + 1, of });
        tokio::time::sleep(after).await;
    }
    Ok(())
}

async fn feed_what_is_there(
    writer: &BlobWriter,
    sink: &mut impl AsyncFnMut(Bytes) -> io::Result<()>,
) -> Result<(), RegistryError> {
    let mut at = 0;
    while at < writer.written() {
        let piece = Bytes::from(writer.read_at(at, PIECE)?);
        at += piece.len() as u64;
        sink(piece).await.map_err(RegistryError::Sink)?;
    }
    Ok(())
}

/// One request, as far as it gets.
async fn go_on(
    registry: &Registry,
    name: &ImageName,
    size: u64,
    writer: &mut BlobWriter,
    sink: &mut impl AsyncFnMut(Bytes) -> io::Result<()>,
) -> Result<(), RegistryError> {
    let mut blob = registry.blob(name, writer.digest(), writer.written()).await?;
    let too_long =
        |writer: &BlobWriter| RegistryError::TooLong { what: format!("layer {}", writer.digest()), limit: size };
    if blob.length().is_some_and(|length| blob.start().saturating_add(length) > size) {
        return Err(too_long(writer));
    }
    // Zero, but for servers that know no ranges.
    let mut known = writer.written() - blob.start();
    while let Some(mut chunk) = blob.next().await? {
        let over = known.min(chunk.len() as u64);
        known -= over;
        let piece = chunk.split_off(usize::try_from(over).unwrap_or(chunk.len()));
        if piece.is_empty() {
            continue;
        }
        if writer.written() + piece.len() as u64 > size {
            return Err(too_long(writer));
        }
        writer.write(&piece)?;
        sink(piece).await.map_err(RegistryError::Sink)?;
    }
    if writer.written() < size {
        let why = format!("it ended after {} of {size} bytes", writer.written());
        return Err(RegistryError::Broken { url: Box::new(blob.url().clone()), why });
    }
    Ok(())
}
