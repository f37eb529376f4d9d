//! Names, and what they lead to.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use super::{Entry, Store, StoreError, Stored};
use crate::{
    image::document::{self, Configuration, Document},
    model::{Digest, Image, ImageName, Platform},
};

impl Store {
    /// What a name leads to for a platform. One with a digest may be that which the registry knows another name of the same
    /// repository by.
    ///
    /// # Errors
    /// When the store is damaged; that there is nothing is none.
    pub fn find(&self, name: &ImageName, platform: Option<&Platform>) -> Result<Option<Stored>, StoreError> {
        let named = self.entry(&self.place(&key(name, platform)))?;
        let found = match (named, name.digest()) {
            (None, Some(digest)) => self.entries()?.into_iter().find(|entry| {
                let of = |other: &ImageName| key(&other.at(digest.clone()), entry.platform.as_ref());
                entry.registry_digest.as_ref() == Some(digest)
                    && entry.name.as_ref().map(of) == Some(key(&name.at(digest.clone()), platform))
            }),
            (named, _) => named,
        };
        found.map(|entry| self.open(entry)).transpose()
    }

    /// Every entry that there is, named ones first, by name.
    ///
    /// # Errors
    /// When the store cannot be read. A broken entry is an error too.
    pub fn entries(&self) -> Result<Vec<Entry>, StoreError> {
        let (entries, mut broken) = self.readable_entries()?;
        broken.pop().map_or(Ok(entries), Err)
    }

    /// Every entry that can be read, and why others cannot.
    ///
    /// # Errors
    /// When the store cannot be read at all.
    pub(in crate::image) fn readable_entries(&self) -> Result<(Vec<Entry>, Vec<StoreError>), StoreError> {
        let folder = self.folder.join("names");
        let listed = match fs::read_dir(&folder) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), Vec::new())),
            other => other.map_err(StoreError::at(&folder))?,
        };
        let (mut entries, mut broken) = (Vec::new(), Vec::new());
        for file in listed {
            let path = file.map_err(StoreError::at(&folder))?.path();
            if path.extension().is_none() {
                match self.entry(&path) {
                    Ok(entry) => entries.extend(entry),
                    Err(error) => broken.push(error),
                }
            }
        }
        entries.sort_by(|a, b| {
            (a.name.is_none(), &a.name, &a.platform, &a.id).cmp(&(b.name.is_none(), &b.name, &b.platform, &b.id))
        });
        Ok((entries, broken))
    }

    /// The image of an entry.
    ///
    /// # Errors
    /// When its manifest or its configuration is missing or damaged.
    pub fn open(&self, entry: Entry) -> Result<Stored, StoreError> {
        let broken = |digest: &Digest, why: String| StoreError::Broken { path: self.blob(digest), why };
        let manifest = match Document::parse(&self.read_blob(&entry.manifest)?, None) {
            Ok(Document::Manifest(manifest)) => manifest,
            Ok(Document::Index(_)) => return Err(broken(&entry.manifest, "it is an index".to_owned())),
            Err(error) => return Err(broken(&entry.manifest, error.to_string())),
        };
        let configuration =
            Configuration::parse(&self.read_blob(&entry.id)?).map_err(|e| broken(&entry.id, e.to_string()))?;
        let layers = document::layers(&manifest, &configuration).map_err(|e| broken(&entry.manifest, e.to_string()))?;
        let name = entry.name.as_ref().map_or_else(|| entry.id.short().to_owned(), ToString::to_string);
        Ok(Stored {
            layers,
            platform: configuration.platform,
            created: configuration.created,
            image: Image {
                name,
                id: entry.id.clone(),
                layers: self.visible(&configuration.diff_ids),
                config: configuration.config,
            },
            entry,
        })
    }

    /// Lets a name lead to an image whose blobs and layers are all there. The image that it led to before stays, nameless,
    /// until it is pruned.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn name(&self, entry: &Entry) -> Result<(), StoreError> {
        let place = match &entry.name {
            Some(name) => self.place(&key(name, entry.platform.as_ref())),
            None => self.place(&nameless(entry)),
        };
        if let Some(before) = self.entry(&place)?
            && before.manifest != entry.manifest
        {
            self.forget_name(before)?;
        }
        write(&place, entry)?;
        // Its own nameless entry, should it have been one.
        if entry.name.is_some() {
            let _ = fs::remove_file(self.place(&nameless(entry)));
        }
        Ok(())
    }

    /// Keeps an image that has lost its name, unless another name leads to it.
    pub(super) fn forget_name(&self, entry: Entry) -> Result<(), StoreError> {
        let named =
            self.entries()?.into_iter().filter(|other| other.name.is_some() && other.manifest == entry.manifest);
        if named.count() > 1 {
            return Ok(());
        }
        let entry = Entry { name: None, ..entry };
        write(&self.place(&nameless(&entry)), &entry)
    }

    /// Takes the entry away, and nothing else.
    pub(in crate::image) fn remove_entry(&self, entry: &Entry) -> Result<(), StoreError> {
        let key = entry.name.as_ref().map_or_else(|| nameless(entry), |name| key(name, entry.platform.as_ref()));
        let place = self.place(&key);
        fs::remove_file(&place).map_err(StoreError::at(&place))
    }

    fn place(&self, key: &str) -> PathBuf {
        self.folder.join("names").join(key)
    }

    fn entry(&self, path: &Path) -> Result<Option<Entry>, StoreError> {
        let bytes = match fs::read(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(StoreError::at(path))?,
        };
        let broken = |e: serde_json::Error| StoreError::Broken { path: path.to_owned(), why: e.to_string() };
        serde_json::from_slice(&bytes).map(Some).map_err(broken)
    }
}

/// File of a name: a digest, since a name may be longer than a file's may be, and has slashes.
fn key(name: &ImageName, platform: Option<&Platform>) -> String {
    let platform = platform.filter(|platform| **platform != Platform::host());
    let text = match platform {
        Some(platform) => format!("{} {platform}", name.canonical()),
        None => name.canonical(),
    };
    Digest::of(text.as_bytes()).hex().to_owned()
}

fn nameless(entry: &Entry) -> String {
    format!("nameless-{}", entry.manifest.hex())
}

/// Replaces a file as a whole; the name of the new one has an extension until it is complete.
fn write(path: &Path, entry: &Entry) -> Result<(), StoreError> {
    // Threads may write the same one at the same time, as processes may.
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let new = path.with_extension(format!("{}-{count}.new", std::process::id()));
    let bytes =
        serde_json::to_vec(entry).map_err(|e| StoreError::Broken { path: path.to_owned(), why: e.to_string() })?;
    let written = fs::File::create(&new).and_then(|mut file| {
        io::Write::write_all(&mut file, &bytes)?;
        // A name that leads to nothing after a crash would be worse than none.
        file.sync_all()
    });
    written.and_then(|()| fs::rename(&new, path)).map_err(|e| {
        let _ = fs::remove_file(&new);
        StoreError::at(path)(e)
    })
}
