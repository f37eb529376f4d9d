//! Taking images away: names first, then what no name leads to any more.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::Path,
};

use rustix::fs::FlockOperation;

use super::{Entry, OPAQUE, Store, StoreError};
use crate::{image::document::Configuration, model::Digest, state::remove_tree};

/// What was taken away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names, as people write them.
    pub names: Vec<String>,
    /// Images of which nothing is left.
    pub images: Vec<Digest>,
    /// Bytes of blobs and unpacked layers.
    pub bytes: u64,
    /// What stays all the same, since a container runs it.
    pub in_use: Vec<Entry>,
}

/// Keeps an image from being removed for as long as it is held.
#[derive(Debug)]
pub struct InUse {
    lock: OwnedFd,
}

impl InUse {
    /// Its descriptor: whoever has it too holds the image as well.
    pub fn lock(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }
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
        // Whoever removed it meanwhile did so before our lock, and it may be another file that has the name by now.
        let there = fs::metadata(&path).and_then(|there| Ok((there, file.metadata()?)));
        let (there, ours) = there.map_err(StoreError::at(&path))?;
        if (there.dev(), there.ino()) != (ours.dev(), ours.ino()) {
            return Err(StoreError::at(&path)(io::ErrorKind::NotFound.into()));
        }
        Ok(InUse { lock: file.into() })
    }

    /// Whether anybody holds an image.
    pub fn is_in_use(&self, id: &Digest) -> bool {
        is_held(&self.blob(id))
    }

    /// Takes these entries away, and all that nothing leads to then. Those that are the last of an image that is in use stay,
    /// as do those that lead to something else than they did when the caller looked. `waits` is called before it is waited for
    /// those who add.
    ///
    /// # Errors
    /// When something cannot be removed; what has been stays removed.
    pub fn remove(&self, entries: &[Entry], waits: impl FnOnce()) -> Result<Removed, StoreError> {
        let _alone = self.own_or_wait(waits)?;
        let mut removed = Removed::default();
        // Only now nobody changes anything any more: an `up` that was waited for may have begun to run an image, and a pull
        // may have let a name lead to another one.
        let there = self.entries()?;
        let same = |a: &Entry, b: &Entry| (&a.name, &a.platform, &a.manifest) == (&b.name, &b.platform, &b.manifest);
        let (doomed, others): (Vec<&Entry>, Vec<&Entry>) =
            there.iter().partition(|entry| entries.iter().any(|other| same(entry, other)));
        let mut gone = BTreeSet::new();
        for entry in doomed {
            let last = !others.iter().any(|other| other.id == entry.id);
            if last && self.is_in_use(&entry.id) {
                removed.in_use.push(entry.clone());
                continue;
            }
            self.remove_entry(entry)?;
            removed.names.extend(entry.name.as_ref().map(ToString::to_string));
            if last {
                gone.insert(entry.id.clone());
            }
        }
        self.sweep(&mut removed)?;
        removed.images = gone.into_iter().collect();
        Ok(removed)
    }

    /// Removes blobs and layers that no entry leads to, and what was broken off. The store is the caller's own.
    fn sweep(&self, removed: &mut Removed) -> Result<(), StoreError> {
        let (mut blobs, mut layers, mut unknown) = (BTreeSet::new(), BTreeSet::new(), false);
        for entry in self.entries()? {
            blobs.extend([entry.manifest.hex().to_owned(), entry.id.hex().to_owned()]);
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
        // What a container runs stays, even if no name leads to it any more or what it leads to is damaged.
        let folder = self.folder.join("blobs");
        for file in fs::read_dir(&folder).map_err(StoreError::at(&folder))? {
            let file = file.map_err(StoreError::at(&folder))?;
            let Ok(name) = file.file_name().into_string() else { continue };
            if !blobs.contains(&name) && is_held(&file.path()) {
                let bytes = fs::read(file.path()).map_err(StoreError::at(&file.path()))?;
                let configuration = Configuration::parse(&bytes);
                layers.extend(configuration.into_iter().flat_map(|it| it.diff_ids).map(|id| id.hex().to_owned()));
                blobs.insert(name);
            }
        }
        // Names that a kill has left half written.
        let folder = self.folder.join("names");
        for file in fs::read_dir(&folder).map_err(StoreError::at(&folder))? {
            let path = file.map_err(StoreError::at(&folder))?.path();
            if path.extension().is_some() {
                fs::remove_file(&path).map_err(StoreError::at(&path))?;
            }
        }
        let nothing = BTreeSet::new();
        let all = [("partial", &nothing), ("unpacking", &nothing), ("blobs", &blobs), ("layers", &layers)];
        for (name, kept) in all.into_iter().take(if unknown { 2 } else { 4 }) {
            let folder = self.folder.join(name);
            let files = fs::read_dir(&folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
            let mut files = files.map_err(StoreError::at(&folder))?;
            // A layer goes before what is said of it: without that, one that stays would not hide what it should.
            files.sort_by_key(fs::DirEntry::file_name);
            for file in files {
                let is_kept = |name: &str| kept.contains(name.strip_suffix(OPAQUE).unwrap_or(name));
                if file.file_name().to_str().is_some_and(is_kept) {
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
                    remove_tree(&doomed).map_err(StoreError::at(&doomed))?;
                } else {
                    fs::remove_file(&path).map_err(StoreError::at(&path))?;
                }
            }
        }
        Ok(())
    }
}

/// Whether somebody has a lock on a file.
fn is_held(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    super::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err()
}

/// Bytes that a file, or a folder with all that is in it, takes on disk; a hard-linked file counts once.
pub fn size_on_disk(path: &Path) -> u64 {
    fn add(path: &Path, seen: &mut BTreeSet<(u64, u64)>) -> u64 {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// An image of one layer under this name.
    fn image(store: &Store, name: &str) -> Entry {
        let layer = Digest::of(name.as_bytes());
        fs::create_dir(store.layer(&layer)).expect("a layer");
        let blob = store.write_blob(name.as_bytes()).expect("written");
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{{"Cmd":["{name}"]}},"rootfs":{{"type":"layers","diff_ids":["{layer}"]}}}}"#
        );
        let id = store.write_blob(config.as_bytes()).expect("written");
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{id}","size":{}}},
            "layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{blob}","size":{}}}]}}"#,
            config.len(),
            name.len()
        );
        let manifest = store.write_blob(manifest.as_bytes()).expect("written");
        let name = Some("app:1".parse().expect("a name"));
        let entry = Entry { name, platform: None, manifest, id, registry_digest: None, unpacked: 0, checked: 0 };
        store.name(&entry).expect("named");
        entry
    }

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().expect("folder");
        let store = Store::new(dir.path().join("images"));
        drop(store.share().expect("folders"));
        (dir, store)
    }

    #[test]
    fn what_is_taken_into_use_before_the_lock_is_had_stays() {
        let (_dir, store) = store();
        let entry = image(&store, "one");
        let held = store.hold(&entry.id).expect("there");
        let removed = store.remove(std::slice::from_ref(&entry), || {}).expect("removed");
        assert_eq!((removed.in_use, removed.images), (vec![entry.clone()], vec![]));
        assert_eq!(store.open(entry.clone()).expect("whole").entry, entry);
        drop(held);
        assert_eq!(store.remove(std::slice::from_ref(&entry), || {}).expect("removed").images, vec![entry.id.clone()]);
        assert!(!store.has_blob(&entry.id) && !store.has_layer(&Digest::of(b"one")));
    }

    #[test]
    fn what_is_said_of_a_layer_stays_as_long_as_the_layer() {
        let (_dir, store) = store();
        let entry = image(&store, "one");
        let (kept, gone) = (Digest::of(b"one"), Digest::of(b"nobody's"));
        fs::create_dir(store.layer(&gone)).expect("a layer");
        for layer in [&kept, &gone] {
            File::create(store.opaque_mark(layer)).expect("marked");
        }
        store.remove(&[], || {}).expect("swept");
        assert!(store.has_layer(&kept) && store.is_opaque(&kept));
        assert!(!store.has_layer(&gone) && !store.is_opaque(&gone));
        store.remove(&[entry], || {}).expect("removed");
        assert_eq!(fs::read_dir(store.layers()).expect("folder").count(), 0);
    }

    #[test]
    fn a_name_that_leads_elsewhere_by_now_stays() {
        let (_dir, store) = store();
        let (before, now) = (image(&store, "one"), image(&store, "two"));
        assert!(store.remove(std::slice::from_ref(&before), || {}).expect("removed").names.is_empty());
        let name = now.name.clone().expect("named");
        assert_eq!(store.find(&name, None).expect("read").expect("there").entry, now);
        assert!(store.remove(&[before, now.clone(), now], || {}).is_ok(), "what has gone already is no error");
    }

    #[test]
    fn the_layers_of_what_runs_stay_without_a_name() {
        let (_dir, store) = store();
        let entry = image(&store, "one");
        let held = store.hold(&entry.id).expect("there");
        store.remove_entry(&entry).expect("removed");
        store.remove(&[], || {}).expect("swept");
        assert!(store.has_blob(&entry.id) && store.has_layer(&Digest::of(b"one")));
        drop(held);
        let half = store.folder().join("names/half.1.new");
        fs::write(&half, "{").expect("written");
        store.remove(&[], || {}).expect("swept");
        assert!(!half.exists(), "a name that a kill has left half written");
        assert!(!store.has_blob(&entry.id) && !store.has_layer(&Digest::of(b"one")));
    }
}
