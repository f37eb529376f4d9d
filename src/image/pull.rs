//! From a name in a registry to an image that can be run.
//!
//! ```text
//! manifest ─ index? choose ─▶ configuration ─▶ for each layer, several at a time:
//!                                 registry ──download──▶ blob of the store
//!                                               └──────▶ unpack, in a thread: it ends when the last byte has come
//! ```
//!
//! A layer has its final name only when both its digests are right: that of the blob, which the manifest promises, and that
//! of the content, which the configuration promises.

use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use oci_spec::image::{Descriptor, ImageManifest};
use tokio::sync::mpsc;

use super::{
    ImageEvent, LayerState,
    document::{self, Configuration, Document, DocumentError, MAX_DOCUMENT, MAX_NESTED},
    install::{InstallError, Installer, warn, warn_of_platform},
    registry::{Fetched, Registry, RegistryError, download},
    store::{Begun, Entry, StoreError, Stored, StoredLayer},
    unpack::Lost,
};
use crate::model::{ImageName, Platform};

/// So many layers come at a time; as many as Docker's daemon fetches (`max-concurrent-downloads`).
const LAYERS: usize = 3;

/// So many pieces of a layer may wait for being unpacked.
const PIECES: usize = 32;

/// So long nobody wonders what is being waited for.
const UNNOTICED: Duration = Duration::from_secs(1);

/// Why an image does not come.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// What the registry gives is not what can be run.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// It cannot be unpacked or kept.
    #[error(transparent)]
    Install(#[from] InstallError),
}

impl From<StoreError> for PullError {
    fn from(error: StoreError) -> Self {
        Self::Install(error.into())
    }
}

/// Brings images from registries. Whoever has it holds [`super::store::Store::share`].
#[derive(Clone)]
pub struct Puller {
    installer: Installer,
    registry: Registry,
    event: Arc<dyn Fn(ImageEvent) + Send + Sync>,
}

impl Puller {
    /// With what tells of each step.
    pub fn new(installer: Installer, registry: Registry, event: Arc<dyn Fn(ImageEvent) + Send + Sync>) -> Self {
        Self { installer, registry, event }
    }

    /// Brings an image, or finds that the one that is here is still the registry's.
    ///
    /// # Errors
    /// When it does not come. What has come of it stays, for the next time.
    pub async fn pull(&self, name: &ImageName, platform: Option<&Platform>) -> Result<Stored, PullError> {
        let image = name.to_string();
        (self.event)(ImageEvent::Looking(image.clone()));
        let wanted = platform.cloned().unwrap_or_else(Platform::host);
        let store = self.installer.store();
        let had = store.find(name, platform).ok().flatten().filter(|had| is_complete(&self.installer, had));
        if let Some(had) = had
            && self.is_unchanged(name, &had).await?
        {
            let entry = Entry { name: Some(name.clone()), checked: now(), ..had.entry };
            store.name(&entry)?;
            (self.event)(ImageEvent::Ready { image, unchanged: true });
            return Ok(store.open(entry)?);
        }
        let top = self.registry.manifest(name).await?;
        let (manifest, bytes) = self.chosen(name, &top, &wanted).await?;
        let config = self.small(name, manifest.config()).await?;
        let configuration = Configuration::parse(&config)?;
        let found = configuration.platform.as_ref().ok_or(InstallError::Foreign { found: None })?;
        if platform.is_some() && wanted.rates(found).is_none() {
            return Err(DocumentError::NoPlatform { wanted, offered: found.to_string() }.into());
        }
        warn_of_platform(&image, found, &*self.event);
        let layers = document::layers(&manifest, &configuration)?;

        let all = stream::iter(layers.iter().map(|layer| self.layer(name, &image, layer)));
        let mut lost = Lost::default();
        let mut all = all.buffer_unordered(LAYERS);
        while let Some(one) = all.try_next().await? {
            lost += one;
        }
        drop(all);
        warn(&image, lost, &*self.event);

        // The manifest last: an image that has one is whole.
        let id = store.write_blob(&config)?;
        let manifest = store.write_blob(&bytes)?;
        let entry = Entry {
            name: None,
            platform: platform.cloned(),
            manifest,
            id,
            registry_digest: Some(top.digest),
            unpacked: 0,
            checked: now(),
        };
        let stored = self.installer.name(entry, &layers, std::slice::from_ref(name))?;
        (self.event)(ImageEvent::Ready { image, unchanged: false });
        Ok(stored)
    }

    /// The manifest for a platform that a name leads to, through indexes if need be, and its bytes.
    async fn chosen(
        &self,
        name: &ImageName,
        top: &Fetched,
        wanted: &Platform,
    ) -> Result<(ImageManifest, Bytes), PullError> {
        let mut fetched = top.clone();
        for _ in 0..MAX_NESTED {
            let index = match Document::parse(&fetched.bytes, fetched.media_type.as_deref())? {
                Document::Manifest(manifest) => return Ok((manifest, fetched.bytes)),
                Document::Index(index) => index,
            };
            let digest = document::digest_of(document::choose(&index, wanted)?)?;
            fetched = self.registry.manifest(&name.at(digest)).await?;
        }
        let why = format!("more than {MAX_NESTED} indexes lead to each other");
        Err(DocumentError::Invalid { what: "index", why }.into())
    }

    /// Whether the registry still has the image that is here under its name. Its digest alone is asked for: that is what
    /// Docker Hub, for one, does not count as a pull.
    async fn is_unchanged(&self, name: &ImageName, had: &Stored) -> Result<bool, RegistryError> {
        let Some(before) = &had.entry.registry_digest else { return Ok(false) };
        match self.registry.manifest_digest(name).await {
            Ok(digest) => Ok(digest == *before),
            // It may not take the question.
            Err(RegistryError::Status { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A configuration, kept in memory.
    async fn small(&self, name: &ImageName, descriptor: &Descriptor) -> Result<Bytes, PullError> {
        let digest = document::digest_of(descriptor)?;
        if let Ok(bytes) = self.installer.store().read_blob(&digest) {
            return Ok(bytes.into());
        }
        if descriptor.size() > MAX_DOCUMENT {
            let why = format!("it has {} bytes", descriptor.size());
            return Err(DocumentError::Invalid { what: "configuration", why }.into());
        }
        Ok(self.registry.document(name, &digest).await?)
    }

    async fn layer(&self, name: &ImageName, image: &str, layer: &StoredLayer) -> Result<Lost, PullError> {
        let told = |state| {
            (self.event)(ImageEvent::Layer { image: image.to_owned(), layer: layer.digest.clone(), state });
        };
        let store = self.installer.store().clone();
        let digest = layer.digest.clone();
        // Another process may be at the same layer, and is waited for.
        let mut begun = std::pin::pin!(blocking(move || store.begin_blob(&digest)));
        let begun = match tokio::time::timeout(UNNOTICED, &mut begun).await {
            Ok(begun) => begun?,
            Err(_) => {
                told(LayerState::Waiting);
                begun.await?
            }
        };
        let mut writer = match begun {
            Begun::Present => {
                if self.installer.store().has_layer(&layer.diff_id) {
                    told(LayerState::Present);
                    return Ok(Lost::default());
                }
                told(LayerState::Unpacking);
                let (installer, layer) = (self.installer.clone(), layer.clone());
                let lost = blocking(move || installer.blob(&layer)).await?;
                told(LayerState::Done);
                return Ok(lost);
            }
            Begun::Writer(writer) => writer,
        };

        let (pieces, taken) = mpsc::channel::<Bytes>(PIECES);
        let (installer, of_layer) = (self.installer.clone(), layer.clone());
        let mut unpacking = tokio::task::spawn_blocking(move || {
            installer.layer(&of_layer, Pieces { taken, piece: Bytes::new(), whole: false })
        });
        let mut come = 0;
        let downloading = download(&self.registry, name, layer.size, &mut writer, async |piece: Bytes| {
            come += piece.len() as u64;
            told(LayerState::Moving(come, layer.size));
            pieces.send(piece).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
        });
        let downloaded = downloading.await;
        match downloaded {
            // Its own failure is the cause, and says more.
            Err(RegistryError::Sink(_)) => {
                drop(pieces);
                flatten((&mut unpacking).await)?;
                return Err(RegistryError::Sink(io::ErrorKind::BrokenPipe.into()).into());
            }
            Err(error) => {
                drop(pieces);
                let _ = unpacking.await;
                return Err(error.into());
            }
            Ok(()) => {}
        }
        told(LayerState::Unpacking);
        // Only what has the right digest counts as whole for who unpacks it.
        let finished = writer.finish(Some(layer.size));
        if finished.is_ok() {
            let _ = pieces.send(Bytes::new()).await;
        }
        drop(pieces);
        let unpacked = flatten(unpacking.await);
        finished?;
        let lost = unpacked?;
        told(LayerState::Done);
        Ok(lost)
    }
}

fn is_complete(installer: &Installer, stored: &Stored) -> bool {
    let store = installer.store();
    stored.layers.iter().all(|layer| store.has_layer(&layer.diff_id) && store.has_blob(&layer.digest))
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// Work on files, off the thread of the runtime.
async fn blocking<T: Send + 'static, E: From<StoreError> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    flatten(tokio::task::spawn_blocking(work).await)
}

fn flatten<T, E>(joined: Result<Result<T, E>, tokio::task::JoinError>) -> Result<T, E> {
    match joined {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// The pieces of a download as something that is read: it ends with an empty piece, and what ends without one was broken
/// off.
struct Pieces {
    taken: mpsc::Receiver<Bytes>,
    piece: Bytes,
    whole: bool,
}

impl io::Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            if self.whole {
                return Ok(0);
            }
            match self.taken.blocking_recv() {
                Some(piece) if piece.is_empty() => self.whole = true,
                Some(piece) => self.piece = piece,
                None => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the download was broken off")),
            }
        }
        let count = buffer.len().min(self.piece.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}
