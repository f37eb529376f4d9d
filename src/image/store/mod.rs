//! What is kept of images: content under its digest, names that lead to it, and layers unpacked.
//!
//! ```text
//! DATA/v1/images/lock                  flock: shared by who adds or runs, exclusive for who removes
//!               /names/KEY             an Entry: a name, or none for an image that lost it, and the manifest it leads to
//!               /blobs/HEX             manifests, configurations and layers as they came; complete and verified
//!               /partial/HEX           a blob under way, locked by who writes it; goes on where it was broken off
//!               /layers/HEX/           an unpacked layer by the digest of its uncompressed archive; complete
//!               /layers/HEX.opaque      empty: the layer hides all below it; it is there before the layer is
//!               /unpacking/HEX/        one under way; HEX.lock is locked by who writes it
//! ```
//!
//! Nothing half done ever has its final name: blobs and layers are made beside it and renamed. So `kill -9` leaves only
//! what is in `partial` and `unpacking`, which the next one goes on with or throws away. The files of layers are not synced
//! to disk one by one; a machine that loses power in the minute after a pull may have to pull again (`images --check` tells).
//!
//! An image that a container runs is in use: the supervisor holds a shared flock on the blob of its configuration.

mod blobs;
mod entry;
mod error;
mod layers;
mod names;
mod remove;

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::FlockOperation;

use crate::model::Digest;

pub use blobs::{Begun, BlobWriter};
pub use entry::{Entry, Stored, StoredLayer};
pub use error::StoreError;
pub use layers::{LayerWriter, Scratch};
pub use remove::{InUse, Removed, size_on_disk};

/// What the name of a layer's file ends with that says that the layer hides all below it.
const OPAQUE: &str = ".opaque";

/// The store of one account.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

/// The right to add to a store, or to remove from it, until it is dropped.
#[derive(Debug)]
pub struct StoreLock {
    _file: File,
}

impl Store {
    /// In this folder, which need not be there yet.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder that unpacked layers are in, each under the hexadecimal digits of its digest.
    pub fn layers(&self) -> PathBuf {
        self.folder.join("layers")
    }

    /// Where an unpacked layer is, or will be.
    pub fn layer(&self, diff_id: &Digest) -> PathBuf {
        self.layers().join(diff_id.hex())
    }

    /// The file that says of a layer that it hides all below it. Its root has a mark of overlayfs too, which not everybody
    /// can read who may run it: it belongs to whom the image says.
    fn opaque_mark(&self, diff_id: &Digest) -> PathBuf {
        self.layers().join(format!("{}{OPAQUE}", diff_id.hex()))
    }

    /// Where a blob is, or will be.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.folder.join("blobs").join(digest.hex())
    }

    /// Makes the folders, and keeps everybody from removing anything until the lock is dropped. Waits for who removes.
    ///
    /// # Errors
    /// When the folders cannot be made or locked.
    pub fn share(&self) -> Result<StoreLock, StoreError> {
        self.share_or_wait(|| {})
    }

    /// The same; `waits` is called before it is waited for somebody.
    ///
    /// # Errors
    /// As [`Self::share`].
    pub fn share_or_wait(&self, waits: impl FnOnce()) -> Result<StoreLock, StoreError> {
        self.lock(FlockOperation::NonBlockingLockShared, FlockOperation::LockShared, waits)
    }

    /// Keeps everybody out until the lock is dropped; `waits` is called before it is waited for those who add.
    ///
    /// # Errors
    /// As [`Self::share`].
    pub fn own_or_wait(&self, waits: impl FnOnce()) -> Result<StoreLock, StoreError> {
        self.lock(FlockOperation::NonBlockingLockExclusive, FlockOperation::LockExclusive, waits)
    }

    fn create(&self) -> Result<(), StoreError> {
        for name in ["names", "blobs", "partial", "layers", "unpacking"] {
            let folder = self.folder.join(name);
            if folder.is_dir() {
                continue;
            }
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(StoreError::at(&folder))?;
            if name == "unpacking" {
                spread(&folder);
            }
        }
        Ok(())
    }

    fn lock(
        &self,
        at_once: FlockOperation,
        wait: FlockOperation,
        waits: impl FnOnce(),
    ) -> Result<StoreLock, StoreError> {
        self.create()?;
        let path = self.folder.join("lock");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .map_err(StoreError::at(&path))?;
        let locked = match flock(&file, at_once) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                waits();
                flock(&file, wait)
            }
            other => other,
        };
        locked.map_err(StoreError::at(&path))?;
        Ok(StoreLock { _file: file })
    }
}

/// Tells the file system that what is made in a folder does not belong together, if it wants to know: ext4 then puts layers
/// that are unpacked at the same time into different groups of blocks, away from files that were removed a moment ago, which
/// it passes over one by one where it has no journal (`chattr +T`).
fn spread(folder: &Path) {
    let Ok(file) = File::open(folder) else { return };
    if let Ok(flags) = rustix::fs::ioctl_getflags(&file) {
        let _ = rustix::fs::ioctl_setflags(&file, flags | rustix::fs::IFlags::TOPDIR);
    }
}

/// flock(2), again when a signal comes between.
fn flock(file: &File, operation: FlockOperation) -> io::Result<()> {
    loop {
        match rustix::fs::flock(file, operation) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}
