//! Images in files: reading them into the store, and writing them out.
//!
//! ```text
//! folder ────────────────────────────┐
//! file, stream ─decompress, spool─▶ tar ─index─▶ Members ─┬─layout (index.json)────┐
//!                                                         └─docker (manifest.json)─┴─▶ Listed ─import─▶ blobs of the store
//! Stored ─save─▶ OCI layout and manifest.json in one, as a tar archive or a folder
//! ```
//!
//! All of it is content of strangers. Nothing is unpacked: a member of an archive is a name, a place and a size, and what is
//! copied into the store goes there under a digest that has been verified. Layers stay as they are, compressed or not; who
//! calls unpacks them from the store, and gives names to what was imported.

mod docker;
mod error;
mod import;
mod index;
mod layout;
mod listed;
mod members;
mod save;
mod spool;

use std::{
    fs::File,
    io::{self, Read, Seek},
    path::Path,
};

pub use error::ArchiveError;
pub use import::Imported;
pub use listed::Listed;
pub use save::{SaveFormat, save, save_layout};

use super::{
    decompress::{Compression, MAGIC, decompressed, fill},
    store::Store,
};
use index::Index;
use members::Members;

/// What a file or folder is expected to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveKind {
    /// `oci:`, an OCI image layout in a folder.
    OciLayout,
    /// `oci-archive:`, an OCI image layout in a tar archive.
    OciArchive,
    /// `docker-archive:`, what `docker save` writes.
    DockerArchive,
    /// Any of these, as what is in it tells. What is both is taken for an OCI image layout, which says more.
    Any,
}

/// A file or folder with images in it, open.
#[derive(Debug)]
pub struct Archive {
    members: Members,
    images: Vec<Listed>,
}

impl Archive {
    /// Opens a file or folder. A compressed file, or one that cannot be read at any place such as a pipe, is copied first,
    /// into the folder of the store for what is under way, which takes [`Store::share`]; the copy is gone with the archive.
    ///
    /// # Errors
    /// When it is not what `kind` says.
    pub fn open(path: &Path, kind: ArchiveKind, store: &Store) -> Result<Self, ArchiveError> {
        let failed = |source| ArchiveError::Open { path: path.to_owned(), source };
        let folder = std::fs::metadata(path).map_err(failed)?.is_dir();
        match kind {
            ArchiveKind::OciLayout if !folder => {
                let why = "it is a file; if it is an archive of one, write `oci-archive:`";
                Err(ArchiveError::Kind { wanted: "the folder of an OCI image layout", why: why.to_owned() })
            }
            ArchiveKind::OciArchive | ArchiveKind::DockerArchive if folder => {
                let why = "it is a folder; if it is an OCI image layout, write `oci:`";
                Err(ArchiveError::Kind { wanted: "an archive", why: why.to_owned() })
            }
            _ if folder => Self::of(Members::Folder(path.to_owned()), ArchiveKind::OciLayout),
            _ => Self::from_file(File::open(path).map_err(failed)?, path, kind, store),
        }
    }

    /// The same with an open file, such as standard input; `path` is what it is called in messages.
    ///
    /// # Errors
    /// When it is not what `kind` says.
    pub fn from_file(mut file: File, path: &Path, kind: ArchiveKind, store: &Store) -> Result<Self, ArchiveError> {
        let failed = |source| ArchiveError::Open { path: path.to_owned(), source };
        let plain = file.metadata().map_err(failed)?.is_file();
        if plain {
            file.rewind().map_err(failed)?;
        }
        let mut head = [0; MAGIC];
        let filled = fill(&mut file, &mut head).map_err(failed)?;
        let head = &head[..filled];
        let file = match Compression::of(head) {
            Compression::None if plain => file,
            Compression::None => spool::spool(store, head.chain(file), failed)?,
            Compression::Unknown(how) => return Err(ArchiveError::Compression(how)),
            compression => {
                let input = decompressed(head.chain(file), compression);
                spool::spool(store, input, |source| ArchiveError::Decompress { source })?
            }
        };
        let index = Index::read(&file)?;
        Self::of(Members::Tar(file, index), kind)
    }

    fn of(members: Members, kind: ArchiveKind) -> Result<Self, ArchiveError> {
        let (layout, docker) = (members.has(layout::INDEX), members.has(docker::MANIFEST));
        let lacks = |wanted, why: &str| Err(ArchiveError::Kind { wanted, why: why.to_owned() });
        let images = match kind {
            ArchiveKind::OciLayout | ArchiveKind::OciArchive if layout => layout::list(&members)?,
            ArchiveKind::DockerArchive if docker => docker::list(&members)?,
            ArchiveKind::Any if layout => layout::list(&members)?,
            ArchiveKind::Any if docker => docker::list(&members)?,
            ArchiveKind::OciArchive if docker => {
                return lacks(
                    "an OCI image layout",
                    "there is no index.json but a manifest.json; write `docker-archive:`",
                );
            }
            ArchiveKind::DockerArchive if layout => {
                return lacks(
                    "what `docker save` writes",
                    "there is no manifest.json but an index.json; write `oci-archive:`",
                );
            }
            ArchiveKind::OciLayout | ArchiveKind::OciArchive => {
                return lacks("an OCI image layout", "there is no index.json");
            }
            ArchiveKind::DockerArchive | ArchiveKind::Any => {
                let why = if members.has("repositories") {
                    "it is of a Docker before 1.10, which had no manifest.json; load it there and save it again"
                } else {
                    "there is neither an index.json nor a manifest.json"
                };
                return lacks("an archive of images", why);
            }
        };
        Ok(Self { members, images })
    }

    /// All images that there are.
    pub fn images(&self) -> &[Listed] {
        &self.images
    }

    /// The image of this name or tag, or the only one.
    ///
    /// # Errors
    /// When there is none, or when there are several and nothing says which is meant.
    pub fn find(&self, name: Option<&str>) -> Result<&Listed, ArchiveError> {
        listed::find(&self.images, name)
    }
}

/// Whether the kernel says that whoever would read is gone, as when `save` is piped into `head`.
pub fn is_broken_pipe(error: &ArchiveError) -> bool {
    matches!(error, ArchiveError::Write { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
}
