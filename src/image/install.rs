//! From blobs to an image that can be run: layers unpacked, and a name that leads to it.

use std::{
    fs::File,
    io::{self, Read},
    thread,
};

use super::{
    ImageEvent, LayerState,
    archive::{ArchiveError, Imported},
    store::{Begun, Entry, Store, StoreError, Stored, StoredLayer, size_on_disk},
    unpack::{Lost, UnpackError, UnpackOptions, unpack},
};
use crate::model::{Digest, ImageName, Platform};

/// Why an image is not made available.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The archive it is in.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A layer cannot be unpacked.
    #[error("cannot unpack layer {}", layer.short())]
    Unpack {
        /// Digest of its blob.
        layer: Digest,
        /// Why.
        source: UnpackError,
    },
    /// A layer is not what the configuration of its image promises.
    #[error("layer {} has content with digest {actual}, but the image promises {expected}", layer.short())]
    Content {
        /// Digest of its blob.
        layer: Digest,
        /// What is promised.
        expected: Digest,
        /// What is there.
        actual: Digest,
    },
    /// The image is for another kind of machine.
    #[error("it is for {}, not for Linux", found.as_deref().unwrap_or("something else"))]
    Foreign {
        /// What it is for, as far as it says.
        found: Option<String>,
    },
}

/// Unpacks layers into a store. Whoever has it holds [`Store::share`].
#[derive(Debug, Clone)]
pub struct Installer {
    store: Store,
    options: UnpackOptions,
}

impl Installer {
    /// For this store.
    pub fn new(store: Store, options: UnpackOptions) -> Self {
        Self { store, options }
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// How layers are unpacked.
    pub(super) fn options(&self) -> &UnpackOptions {
        &self.options
    }

    /// Unpacks one layer out of `archive`, unless it is there: then `archive` is read to its end for nothing but its own
    /// checks. What could not be kept comes back.
    ///
    /// # Errors
    /// When the archive is not what it should be, or files cannot be made. Nothing is left then.
    pub fn layer(&self, layer: &StoredLayer, mut archive: impl Read) -> Result<Lost, InstallError> {
        let writer = match self.store.begin_layer(&layer.diff_id)? {
            Begun::Present => {
                let read = io::copy(&mut archive, &mut io::sink());
                let failed = |source| StoreError::Io { path: self.store.blob(&layer.digest), source };
                return read.map(|_| Lost::default()).map_err(|e| failed(e).into());
            }
            Begun::Writer(writer) => writer,
        };
        let unpacked = unpack(archive, writer.folder(), &self.options)
            .map_err(|source| InstallError::Unpack { layer: layer.digest.clone(), source })?;
        if unpacked.diff_id != layer.diff_id {
            return Err(InstallError::Content {
                layer: layer.digest.clone(),
                expected: layer.diff_id.clone(),
                actual: unpacked.diff_id,
            });
        }
        writer.finish(unpacked.opaque_root)?;
        Ok(unpacked.lost)
    }

    /// The same out of the layer's blob in the store; one that is there is not read.
    ///
    /// # Errors
    /// As [`Self::layer`].
    pub fn blob(&self, layer: &StoredLayer) -> Result<Lost, InstallError> {
        if self.store.has_layer(&layer.diff_id) {
            return Ok(Lost::default());
        }
        let path = self.store.blob(&layer.digest);
        let file = File::open(&path).map_err(|source| StoreError::Io { path, source })?;
        self.layer(layer, file)
    }

    /// Makes an image whose blobs are there available: unpacks its layers, several at a time, and lets `names` lead to it;
    /// without any it is kept nameless.
    ///
    /// # Errors
    /// When it is not for Linux, or as [`Self::layer`].
    pub fn install(
        &self,
        imported: &Imported,
        names: &[ImageName],
        event: &(dyn Fn(ImageEvent) + Sync),
    ) -> Result<Stored, InstallError> {
        let image = names.first().map_or_else(|| imported.id.short().to_owned(), ToString::to_string);
        let platform = imported.platform.clone().ok_or(InstallError::Foreign { found: None })?;
        warn_of_platform(&image, &platform, event);
        let workers = thread::available_parallelism().map_or(1, usize::from).min(imported.layers.len().max(1));
        let next = std::sync::atomic::AtomicUsize::new(0);
        let losses = thread::scope(|scope| {
            let work = || {
                let mut lost = Lost::default();
                loop {
                    let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some(layer) = imported.layers.get(number) else { return Ok(lost) };
                    let told = |state| {
                        event(ImageEvent::Layer { image: image.clone(), layer: layer.digest.clone(), state });
                    };
                    told(LayerState::Unpacking);
                    let result = self.blob(layer);
                    if result.is_err() {
                        // The others need not begin anything any more.
                        next.store(imported.layers.len(), std::sync::atomic::Ordering::Relaxed);
                    }
                    lost += result?;
                    told(LayerState::Done);
                }
            };
            let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            let joined = threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            joined.collect::<Vec<Result<Lost, InstallError>>>()
        });
        let mut lost = Lost::default();
        for one in losses {
            lost += one?;
        }
        warn(&image, lost, event);
        let entry = Entry {
            name: None,
            // What runs here is what who asks for no platform gets, whatever variant it says.
            platform: Platform::host().rates(&platform).is_none().then_some(platform),
            manifest: imported.manifest.clone(),
            id: imported.id.clone(),
            registry_digest: None,
            unpacked: 0,
            checked: jiff::Timestamp::now().as_second(),
        };
        Ok(self.name(entry, &imported.layers, names)?)
    }

    /// Lets names lead to an image that is there; the first of them comes back with it.
    pub(super) fn name(&self, entry: Entry, layers: &[StoredLayer], names: &[ImageName]) -> Result<Stored, StoreError> {
        let entry = Entry {
            unpacked: layers.iter().map(|layer| size_on_disk(&self.store.layer(&layer.diff_id))).sum(),
            ..entry
        };
        let mut named = names.iter().map(|name| Entry { name: Some(name.clone()), ..entry.clone() }).peekable();
        let first = named.peek().cloned().unwrap_or_else(|| entry.clone());
        if names.is_empty() {
            self.store.name(&entry)?;
        }
        named.try_for_each(|entry| self.store.name(&entry))?;
        self.store.open(first)
    }
}

impl std::ops::AddAssign for Lost {
    fn add_assign(&mut self, other: Self) {
        let Self { devices, owners_noted, owners, ids_out_of_range, attributes, reserved_attributes } = other;
        self.devices += devices;
        self.owners_noted += owners_noted;
        self.owners += owners;
        self.ids_out_of_range += ids_out_of_range;
        self.attributes += attributes;
        self.reserved_attributes += reserved_attributes;
    }
}

/// Says that an image is for another machine: all that people see otherwise is that its programs are in a wrong format. It
/// may be meant so, as the kernel may know how to run them (binfmt_misc).
pub(super) fn warn_of_platform(image: &str, platform: &Platform, event: &(dyn Fn(ImageEvent) + Sync)) {
    let host = Platform::host();
    if host.rates(platform).is_none() {
        event(ImageEvent::Warning(format!("image {image}: it is for {platform}, and this machine is {host}")));
    }
}

/// Says what could not be kept. What was noted, and does no harm, is for who looks closely.
pub(super) fn warn(image: &str, lost: Lost, event: &(dyn Fn(ImageEvent) + Sync)) {
    let say = |text: String| event(ImageEvent::Warning(format!("image {image}: {text}")));
    if lost.ids_out_of_range > 0 {
        say(format!(
            "{} files belong to ids that your account does not have, and are yours; a larger range in /etc/subuid and \
             /etc/subgid has them",
            lost.ids_out_of_range
        ));
    } else if lost.owners_noted + lost.owners > 0 {
        say(format!(
            "{} files belong to others than root, and are yours, since your account has a single id; services that run as \
             somebody else need a range in /etc/subuid and /etc/subgid (subuid(5))",
            lost.owners_noted + lost.owners
        ));
    }
    if lost.devices > 0 {
        say(format!("{} device nodes are left out, which your account cannot make", lost.devices));
    }
    if lost.attributes > 0 {
        say(format!("{} extended attributes could not be set", lost.attributes));
    }
}
