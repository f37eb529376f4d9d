//! Why a layer is not unpacked.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::name::shown;

/// What is wrong with an archive, or with where it is to go.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The folder that the layer is to become.
    #[error("cannot unpack into {}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The archive does not come, or cannot be decompressed.
    #[error("cannot read the archive ({compression})")]
    Read {
        /// How it is compressed.
        compression: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It is compressed in a way that is not known here.
    #[error("the archive is compressed with {0}; gzip and zstd can be read")]
    Compression(&'static str),
    /// It is no archive.
    #[error("this is no tar archive, nor one that is compressed with gzip or zstd")]
    NoArchive,
    /// It ends where it should go on.
    #[error("the archive ends too early, after {0} bytes")]
    Truncated(u64),
    /// It is against the rules of the format.
    #[error("the archive is broken before byte {at}: {why}")]
    Broken {
        /// How far it was read, in uncompressed bytes.
        at: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// There is more in it than [`super::Limits`] allow.
    #[error("the archive has more {what} than {limit}")]
    Limit {
        /// More of what.
        what: &'static str,
        /// What is allowed.
        limit: u64,
    },
    /// A name that no file of a layer can have.
    #[error("the archive has a member `{}`: {why}", .name.display())]
    Name {
        /// The name.
        name: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A kind of member that cannot be unpacked.
    #[error("the archive has a member `{}` of an unknown kind {kind:?}", .name.display())]
    Kind {
        /// The name.
        name: PathBuf,
        /// The letter of its kind.
        kind: char,
    },
    /// A hard link to what is not in the same layer.
    #[error("`{}` is a hard link to `{}`, which is no file of this layer", .name.display(), .target.display())]
    HardLink {
        /// The member.
        name: PathBuf,
        /// What it should be a link to.
        target: PathBuf,
    },
    /// A member cannot be made.
    #[error("cannot {step} `{}`", .name.display())]
    Member {
        /// What could not be done.
        step: &'static str,
        /// The member.
        name: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl UnpackError {
    /// A closure that puts the folder to an error of the kernel.
    pub(super) fn folder(path: &Path) -> impl FnOnce(rustix::io::Errno) -> Self {
        let path = path.to_owned();
        move |source| Self::Folder { path, source: source.into() }
    }

    /// A closure that puts a member, and what was to be done to it, to an error of the kernel.
    pub(super) fn member(step: &'static str, name: &[u8]) -> impl FnOnce(rustix::io::Errno) -> Self {
        let name = shown(name);
        move |source| Self::Member { step, name, source: source.into() }
    }

    pub(super) fn name(name: &[u8], why: &'static str) -> Self {
        Self::Name { name: shown(name), why }
    }
}
