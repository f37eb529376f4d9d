//! Whether what the store has is still what it was.
//!
//! Blobs are hashed again. An unpacked layer has no digest of its own, so its blob is unpacked once more beside it and the
//! two are compared, file by file.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use super::{
    decompress::fill,
    install::Installer,
    store::{StoreError, StoredLayer},
    unpack::unpack,
};
use crate::{diagnostics::chain, model::Digest};

/// Something that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// What it is.
    pub what: DamagedThing,
    /// How it is seen.
    pub why: String,
    /// Images that have it, as people call them.
    pub images: Vec<String>,
}

/// What can be damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DamagedThing {
    /// A blob.
    Blob(Digest),
    /// An unpacked layer, by the digest of its content.
    Layer(Digest),
    /// A name, which leads to nothing that can be run.
    Name(String),
}

/// An image and what it consists of.
struct Parts {
    name: String,
    id: Digest,
    layers: Vec<StoredLayer>,
}

impl Installer {
    /// Looks at everything that a name leads to. `event` is told what is being looked at. With `repair`, what is damaged
    /// and in no use is taken away, and a layer is unpacked anew where its blob is right; whoever calls holds
    /// [`Store::own_or_wait`] then, and [`Store::share`] otherwise.
    ///
    /// [`Store::own_or_wait`]: super::store::Store::own_or_wait
    /// [`Store::share`]: super::store::Store::share
    ///
    /// # Errors
    /// When the store cannot be read at all, or not be repaired.
    pub fn check(&self, repair: bool, mut event: impl FnMut(&str)) -> Result<Vec<Damage>, StoreError> {
        let store = self.store();
        let mut damages: Vec<Damage> = Vec::new();
        let mut images: Vec<Parts> = Vec::new();
        let (entries, broken) = store.readable_entries()?;
        for error in broken {
            let StoreError::Broken { path, why } = error else { return Err(error) };
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            damages.push(Damage { what: DamagedThing::Name(name), why, images: vec!["an image".to_owned()] });
            if repair {
                // What it led to is not known, and has no name then.
                take_away(&path)?;
            }
        }
        for entry in entries {
            let name = entry.name.as_ref().map_or_else(|| entry.id.short().to_owned(), ToString::to_string);
            match store.open(entry.clone()) {
                Ok(stored) => images.push(Parts { name, id: entry.id, layers: stored.layers }),
                Err(error) => {
                    let why = chain(&error);
                    damages.push(Damage { what: DamagedThing::Name(name.clone()), why, images: vec![name] });
                    if repair && !store.is_in_use(&entry.id) {
                        store.remove_entry(&entry)?;
                    }
                }
            }
        }
        let mut layers: BTreeMap<Digest, (StoredLayer, Vec<&Parts>)> = BTreeMap::new();
        for image in &images {
            for layer in &image.layers {
                layers.entry(layer.digest.clone()).or_insert_with(|| (layer.clone(), Vec::new())).1.push(image);
            }
        }
        for (layer, users) in layers.values() {
            event(layer.digest.short());
            let names: Vec<String> = users.iter().map(|image| image.name.clone()).collect();
            let in_use = users.iter().any(|image| store.is_in_use(&image.id));
            let blob = blob_damage(&store.blob(&layer.digest), &layer.digest, layer.size);
            if let Some(why) = &blob {
                let (what, why) = (DamagedThing::Blob(layer.digest.clone()), why.clone());
                damages.push(Damage { what, why, images: names.clone() });
                if repair && !in_use {
                    take_away(&store.blob(&layer.digest))?;
                }
            }
            let folder = store.layer(&layer.diff_id);
            let why = match () {
                () if !folder.is_dir() => Some("it is not there".to_owned()),
                // There is nothing to compare it with.
                () if blob.is_some() => None,
                () => self.layer_damage(layer, &folder)?,
            };
            if let Some(why) = why {
                let what = DamagedThing::Layer(layer.diff_id.clone());
                damages.push(Damage { what, why, images: names });
                if repair && !in_use {
                    self.put_right(layer, &folder, blob.is_none())?;
                }
            }
        }
        Ok(damages)
    }

    /// Unpacks the layer once more, which is thrown away.
    fn layer_damage(&self, layer: &StoredLayer, folder: &Path) -> Result<Option<String>, StoreError> {
        let scratch = self.store().scratch(&format!("check-{}", layer.diff_id.hex()))?;
        let blob = self.store().blob(&layer.digest);
        let file = File::open(&blob).map_err(|source| StoreError::Io { path: blob, source })?;
        match unpack(file, scratch.path(), self.options()) {
            Ok(unpacked) => {
                let marked = self.store().is_opaque(&layer.diff_id);
                let why = || match marked {
                    true => "it is marked to hide the layers below it, which it does not".to_owned(),
                    false => "it is not marked to hide the layers below it, which it does".to_owned(),
                };
                let wrong = (marked != unpacked.opaque_root).then(why);
                Ok(difference(scratch.path(), folder).or(wrong))
            }
            Err(error) => Ok(Some(format!("its blob cannot be unpacked any more: {}", chain(&error)))),
        }
    }

    fn put_right(&self, layer: &StoredLayer, folder: &Path, from_blob: bool) -> Result<(), StoreError> {
        if folder.exists() {
            // Not removed where it is: half of a layer must not go by its name.
            let doomed = self.store().scratch(&format!("damaged-{}", layer.diff_id.hex()))?;
            let target = doomed.path().join("layer");
            fs::rename(folder, &target).map_err(|source| StoreError::Io { path: folder.to_owned(), source })?;
        }
        if from_blob && let Err(error) = self.blob(layer) {
            tracing::warn!(%error, "a layer cannot be unpacked anew");
        }
        Ok(())
    }
}

fn take_away(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StoreError::Io { path: path.to_owned(), source: e }),
        _ => Ok(()),
    }
}

fn blob_damage(path: &Path, digest: &Digest, size: u64) -> Option<String> {
    use sha2::{Digest as _, Sha256};
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Some("it is not there".to_owned()),
        Err(e) => return Some(e.to_string()),
    };
    let (mut hasher, mut read, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                hasher.update(&buffer[..count]);
                read += count as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Some(e.to_string()),
        }
    }
    if read != size {
        return Some(format!("it has {read} bytes instead of {size}"));
    }
    let actual = Digest::finish(hasher);
    (actual != *digest).then(|| format!("its content has digest {actual}"))
}

/// The first difference between two trees, of which `right` is as it should be.
fn difference(right: &Path, there: &Path) -> Option<String> {
    let mut folders: Vec<PathBuf> = vec![PathBuf::new()];
    while let Some(below) = folders.pop() {
        if let Some(why) = one_difference(&right.join(&below), &there.join(&below)) {
            return Some(format!("/{}: {why}", below.display()));
        }
        let names = |folder: &Path| -> io::Result<Vec<std::ffi::OsString>> {
            let mut names =
                fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
            names.sort();
            Ok(names)
        };
        let (ours, theirs) = match (names(&right.join(&below)), names(&there.join(&below))) {
            (Ok(ours), Ok(theirs)) => (ours, theirs),
            (_, Err(e)) | (Err(e), _) => return Some(format!("/{}: {e}", below.display())),
        };
        if ours != theirs {
            let odd = ours.iter().find(|name| !theirs.contains(name)).map(|name| (name, "is missing"));
            let odd = odd.or_else(|| theirs.iter().find(|name| !ours.contains(name)).map(|name| (name, "is too much")));
            let (name, why) = odd?;
            return Some(format!("/{} {why}", below.join(name).display()));
        }
        for name in ours {
            let path = below.join(&name);
            match fs::symlink_metadata(right.join(&path)) {
                Ok(meta) if meta.is_dir() => folders.push(path),
                _ => {
                    if let Some(why) = one_difference(&right.join(&path), &there.join(&path)) {
                        return Some(format!("/{}: {why}", path.display()));
                    }
                }
            }
        }
    }
    None
}

fn one_difference(right: &Path, there: &Path) -> Option<String> {
    let (ours, theirs) = match (fs::symlink_metadata(right), fs::symlink_metadata(there)) {
        (Ok(ours), Ok(theirs)) => (ours, theirs),
        (_, Err(e)) | (Err(e), _) => return Some(e.to_string()),
    };
    // The time of a layer's root is that of the archive, too, unless it says none: then it is when it was made.
    let same = [
        ("type or mode", u64::from(ours.mode()), u64::from(theirs.mode())),
        ("owner", u64::from(ours.uid()), u64::from(theirs.uid())),
        ("group", u64::from(ours.gid()), u64::from(theirs.gid())),
        ("device", ours.rdev(), theirs.rdev()),
        ("size", if ours.is_file() { ours.size() } else { 0 }, if ours.is_file() { theirs.size() } else { 0 }),
        (
            "time",
            if ours.is_file() { ours.mtime().cast_unsigned() } else { 0 },
            if ours.is_file() { theirs.mtime().cast_unsigned() } else { 0 },
        ),
    ];
    if let Some((what, ours, theirs)) = same.iter().find(|(_, ours, theirs)| ours != theirs) {
        return Some(format!("its {what} is {theirs} instead of {ours}"));
    }
    if ours.is_symlink() {
        let same = matches!((fs::read_link(right), fs::read_link(there)), (Ok(a), Ok(b)) if a.as_os_str().as_bytes() == b.as_os_str().as_bytes());
        return (!same).then(|| "it leads elsewhere".to_owned());
    }
    if ours.is_file() {
        return match same_content(right, there) {
            Ok(true) => None,
            Ok(false) => Some("its content is another".to_owned()),
            Err(e) => Some(e.to_string()),
        };
    }
    None
}

fn same_content(a: &Path, b: &Path) -> io::Result<bool> {
    let (mut a, mut b) = (File::open(a)?, File::open(b)?);
    let (mut left, mut right) = (vec![0; 256 << 10], vec![0; 256 << 10]);
    loop {
        let count = fill(&mut a, &mut left)?;
        if fill(&mut b, &mut right)? != count || left[..count] != right[..count] {
            return Ok(false);
        }
        if count == 0 {
            return Ok(true);
        }
    }
}
