//! Unpacked layers.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::FlockOperation;

use super::{Begun, Store, StoreError, flock};
use crate::{model::Digest, state::remove_tree};

/// A layer that is being unpacked; what is dropped unfinished is removed.
#[derive(Debug)]
pub struct LayerWriter {
    folder: PathBuf,
    target: PathBuf,
    mark: PathBuf,
    lock: Option<(File, PathBuf)>,
}

impl Store {
    /// Whether a layer is there, unpacked.
    pub fn has_layer(&self, diff_id: &Digest) -> bool {
        self.layer(diff_id).is_dir()
    }

    /// Whether a layer hides all layers below it.
    pub(in crate::image) fn is_opaque(&self, diff_id: &Digest) -> bool {
        self.opaque_mark(diff_id).exists()
    }

    /// Of an image's layers, lowest first, those that make up what is seen, as overlayfs takes them. It takes none twice: of
    /// two that are the same the lower one shows nothing that the upper one does not. And it heeds no opaque mark at the root
    /// of a layer, so what lies below one that has it is left out here.
    pub(super) fn visible(&self, diff_ids: &[Digest]) -> Vec<Digest> {
        let mut visible: Vec<Digest> = Vec::new();
        for diff_id in diff_ids.iter().rev() {
            if !visible.contains(diff_id) {
                visible.push(diff_id.clone());
            }
            if self.is_opaque(diff_id) {
                break;
            }
        }
        visible.reverse();
        visible
    }

    /// Begins to unpack a layer into an empty folder. Waits for another one who does, who in general leaves it complete.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn begin_layer(&self, diff_id: &Digest) -> Result<Begun<LayerWriter>, StoreError> {
        let folder = self.folder.join("unpacking").join(diff_id.hex());
        let path = self.folder.join("unpacking").join(format!("{}.lock", diff_id.hex()));
        loop {
            let target = self.layer(diff_id);
            if target.is_dir() {
                return Ok(Begun::Present);
            }
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW)
                .open(&path)
                .and_then(|file| flock(&file, FlockOperation::LockExclusive).map(|()| file))
                .map_err(StoreError::at(&path))?;
            // Whoever had it removes it when it is done.
            let same = fs::metadata(&path).is_ok_and(|there| {
                file.metadata().is_ok_and(|ours| (there.dev(), there.ino()) == (ours.dev(), ours.ino()))
            });
            if !same {
                continue;
            }
            if target.is_dir() {
                // It was completed between our look and our open, which has made the file anew.
                fs::remove_file(&path).map_err(StoreError::at(&path))?;
                continue;
            }
            // Of one that was killed.
            make_anew(&folder)?;
            let mark = self.opaque_mark(diff_id);
            return Ok(Begun::Writer(LayerWriter { folder, target, mark, lock: Some((file, path)) }));
        }
    }
}

/// A folder for something that is thrown away.
#[derive(Debug)]
pub struct Scratch {
    folder: PathBuf,
}

impl Scratch {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = remove_tree(&self.folder);
    }
}

impl Store {
    /// Makes an empty folder that is removed when what comes back is dropped, or by the next prune.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn scratch(&self, name: &str) -> Result<Scratch, StoreError> {
        let folder = self.folder.join("unpacking").join(format!("{name}-{}", std::process::id()));
        make_anew(&folder)?;
        Ok(Scratch { folder })
    }
}

impl LayerWriter {
    /// The folder to unpack into.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Gives the layer its name; the caller has checked its digest. `opaque` says that it hides all layers below it.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub fn finish(self, opaque: bool) -> Result<(), StoreError> {
        // First, as the layer is taken for whole as soon as it has its name.
        let marked = match opaque {
            true => File::create(&self.mark).map(drop),
            false => fs::remove_file(&self.mark).or_else(|e| match e.kind() {
                std::io::ErrorKind::NotFound => Ok(()),
                _ => Err(e),
            }),
        };
        marked.map_err(StoreError::at(&self.mark))?;
        fs::rename(&self.folder, &self.target).map_err(StoreError::at(&self.target))
    }
}

impl Drop for LayerWriter {
    fn drop(&mut self) {
        let _ = remove_tree(&self.folder);
        if let Some((_held, path)) = self.lock.take() {
            let _ = fs::remove_file(path);
        }
    }
}

/// Makes an empty folder, as the root of a layer is that no member describes: containers see it, so its mode is not that
/// which the caller's umask leaves.
fn make_anew(folder: &Path) -> Result<(), StoreError> {
    remove_tree(folder).map_err(StoreError::at(folder))?;
    let made = fs::create_dir(folder)
        .and_then(|()| fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o755)));
    made.map_err(StoreError::at(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_that_comes_twice_is_shown_once_where_it_is_uppermost() {
        let dir = tempfile::tempdir().expect("folder");
        let store = Store::new(dir.path().join("images"));
        let [a, b, c] = [b"a", b"b", b"c"].map(|name| Digest::of(name));
        let layers = [a.clone(), b.clone(), a.clone(), c.clone(), a.clone()];
        assert_eq!(store.visible(&layers), [b.clone(), c.clone(), a.clone()]);
    }

    #[test]
    fn a_layer_that_hides_all_below_it_is_the_lowest_that_is_shown() {
        let dir = tempfile::tempdir().expect("folder");
        let store = Store::new(dir.path().join("images"));
        drop(store.share().expect("folders"));
        let layers = [b"a", b"b", b"c"].map(|name| Digest::of(name));
        for (number, layer) in layers.iter().enumerate() {
            let Begun::Writer(writer) = store.begin_layer(layer).expect("begun") else { panic!("it is there") };
            // As one of somebody else's is to who may not look into it.
            fs::set_permissions(writer.folder(), std::os::unix::fs::PermissionsExt::from_mode(0o300)).expect("mode");
            writer.finish(number == 1).expect("renamed");
        }
        assert_eq!(layers.each_ref().map(|layer| store.is_opaque(layer)), [false, true, false]);
        assert_eq!(store.visible(&layers), layers[1..]);
        // Unpacked once more, and not so this time: what the mark said before counts no more.
        remove_tree(&store.layer(&layers[1])).expect("removed");
        let Begun::Writer(writer) = store.begin_layer(&layers[1]).expect("begun") else { panic!("it is there") };
        writer.finish(false).expect("renamed");
        assert_eq!(store.visible(&layers), layers);
    }

    #[test]
    fn a_layer_has_its_name_only_when_it_is_complete() {
        let dir = tempfile::tempdir().expect("folder");
        let store = Store::new(dir.path().join("images"));
        drop(store.share().expect("folders"));
        let id = Digest::of(b"layer");
        let Begun::Writer(writer) = store.begin_layer(&id).expect("begun") else { panic!("it should not be there") };
        fs::write(writer.folder().join("half"), "").expect("written");
        assert!(!store.has_layer(&id));
        // As kill -9 does: nothing is dropped.
        std::mem::forget(writer);
        // The lock is this process's, which a second open file of it does not share.
        let lock = dir.path().join("images/unpacking").join(format!("{}.lock", id.hex()));
        fs::remove_file(lock).expect("the lock of the killed one goes with it");
        let Begun::Writer(writer) = store.begin_layer(&id).expect("begun") else { panic!("it should not be there") };
        assert!(!writer.folder().join("half").exists(), "what the killed one left is gone");
        fs::write(writer.folder().join("whole"), "").expect("written");
        writer.finish(false).expect("renamed");
        assert!(store.layer(&id).join("whole").exists());
        assert!(matches!(store.begin_layer(&id), Ok(Begun::Present)));
        assert_eq!(fs::read_dir(dir.path().join("images/unpacking")).expect("folder").count(), 0);
    }
}
