//! Why the store does not do what is asked.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::model::Digest;

/// What can go wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or folder of it.
    #[error("cannot use {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file that should be JSON of some kind.
    #[error("{} is not what it should be: {why}", path.display())]
    Broken {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Content does not have the digest that it goes by.
    #[error("content that should have digest {expected} has {actual}")]
    Mismatch {
        /// What was promised.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// Content is longer or shorter than was said.
    #[error("{digest} should have {expected} bytes and has {actual}")]
    Size {
        /// Which blob.
        digest: Digest,
        /// What was promised.
        expected: u64,
        /// What came.
        actual: u64,
    },
}

impl StoreError {
    /// A closure that puts the path to an error of the kernel.
    pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}
