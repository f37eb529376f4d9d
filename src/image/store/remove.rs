//! Taking images away: names first, then what no name leads to any more.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::fd::OwnedFd,
    path::Path,
};

use rustix::fs::FlockOperation;

use super::{Entry, Store, StoreError, layers::remove_tree};
use crate::model::Digest;

/// What was taken away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names, as people write them.
    pub names: Vec<String>,
    /// Images of which nothing is left.
    pub images: Vec<Digest>,
    /// Bytes of blobs and unpacked layers.
    pub bytes: u64,
}

/// Keeps an image from being removed for as long as it is held.
#[derive(Debug)]
pub struct InUse {
    _lock: OwnedFd,
}

impl Store {
    /// Says that an image is in use, until what comes back is dropped or the process ends.
    ///
    /// # Errors
    /// When it is not there (any more).
    pub fn hold(&self, id: &Digest) -> Result<InUse, StoreError> {
        let path = self.blob(id);
        let file = File::open(&path).map_err(StoreError::at(&path))?;
        super::flock(&file, FlockOperation::LockShared).map_err(StoreError::at(&path))?;
        // Whoever removed it meanwhile did so before our lock.
        fs::metadata(&path).map_err(StoreError::at(&path))?;
        Ok(InUse { _lock: file.into() })
    }

    /// Whether anybody holds an image.
    pub fn is_in_use(&self, id: &Digest) -> bool {
        let Ok(file) = File::open(self.blob(id)) else { return false };
        super::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err()
    }

    /// Takes these entries away, and all that nothing leads to then. The caller has made sure that none of them is in use.
    ///
    /// # Errors
    /// When something cannot be removed; what has been stays removed.
    pub fn remove(&self, entries: &[Entry]) -> Result<Removed, StoreError> {
        let _alone = self.own()?;
        let mut removed = Removed::default();
        for entry in entries {
            self.remove_entry(entry)?;
            removed.names.extend(entry.name.as_ref().map(ToString::to_string));
        }
        self.sweep(&mut removed)?;
        let left: BTreeSet<Digest> = self.entries()?.into_iter().map(|entry| entry.id).collect();
        let gone: BTreeSet<&Digest> = entries.iter().map(|entry| &entry.id).filter(|id| !left.contains(id)).collect();
        removed.images = gone.into_iter().cloned().collect();
        Ok(removed)
    }

    /// Removes blobs and layers that no entry leads to, and what was broken off. The store is the caller's own.
    fn sweep(&self, removed: &mut Removed) -> Result<(), StoreError> {
        let (mut blobs, mut layers, mut unknown) = (BTreeSet::new(), BTreeSet::new(), false);
        for entry in self.entries()? {
            blobs.extend([entry.manifest.hex().to_owned(), entry.id.hex().to_owned()]);
            blobs.extend(entry.registry_digest.as_ref().map(|digest| digest.hex().to_owned()));
            let id = entry.id.clone();
            match self.open(entry) {
                Ok(stored) => {
                    blobs.extend(stored.layers.iter().map(|layer| layer.digest.hex().to_owned()));
                    layers.extend(stored.layers.iter().map(|layer| layer.diff_id.hex().to_owned()));
                }
                // Nobody can say which layers a container runs on that goes on meanwhile.
                Err(_) if self.is_in_use(&id) => unknown = true,
                // One that is damaged keeps what it is known to have, which is nothing more.
                Err(_) => {}
            }
        }
        // Entries that were never completed.
        let names = self.folder.join("names");
        for file in fs::read_dir(&names).map_err(StoreError::at(&names))? {
            let path = file.map_err(StoreError::at(&names))?.path();
            if path.extension().is_some() {
                fs::remove_file(&path).map_err(StoreError::at(&path))?;
            }
        }
        let nothing = BTreeSet::new();
        let all = [("partial", &nothing), ("unpacking", &nothing), ("blobs", &blobs), ("layers", &layers)];
        for (name, kept) in all.into_iter().take(if unknown { 2 } else { 4 }) {
            let folder = self.folder.join(name);
            for file in fs::read_dir(&folder).map_err(StoreError::at(&folder))? {
                let file = file.map_err(StoreError::at(&folder))?;
                if file.file_name().to_str().is_some_and(|name| kept.contains(name)) {
                    continue;
                }
                let path = file.path();
                removed.bytes += size_on_disk(&path);
                if file.file_type().is_ok_and(|kind| kind.is_dir()) {
                    // Not under its name: a layer that is half removed would be taken for a whole one.
                    let doomed = self.folder.join("unpacking").join(file.file_name());
                    if name == "layers" {
                        fs::rename(&path, &doomed).map_err(StoreError::at(&path))?;
                    }
                    remove_tree(&doomed)?;
                } else {
                    fs::remove_file(&path).map_err(StoreError::at(&path))?;
                }
            }
        }
        Ok(())
    }
}

/// Bytes that a file, or a folder with all that is in it, takes on disk; a hard-linked file counts once.
pub fn size_on_disk(path: &Path) -> u64 {
    fn add(path: &Path, seen: &mut BTreeSet<(u64, u64)>) -> u64 {
        use std::os::unix::fs::MetadataExt;
        let Ok(meta) = fs::symlink_metadata(path) else { return 0 };
        if meta.nlink() > 1 && !meta.is_dir() && !seen.insert((meta.dev(), meta.ino())) {
            return 0;
        }
        let below = if meta.is_dir() {
            fs::read_dir(path).into_iter().flatten().flatten()
        } else {
            return meta.blocks() * 512;
        };
        meta.blocks() * 512 + below.map(|entry| add(&entry.path(), seen)).sum::<u64>()
    }
    add(path, &mut BTreeSet::new())
}
