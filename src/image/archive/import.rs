//! Copying an image into the store.

use std::fs;

use super::{Archive, ArchiveError, Listed, docker, layout, listed::Origin, members::Members};
use crate::{
    image::{
        document::{self, Configuration},
        store::{Begun, Store, StoreError, StoredLayer},
    },
    model::{Digest, ImageName, Platform},
};

/// An image of which all blobs are in the store. No name leads to it, and its layers are not unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Digest of its manifest.
    pub manifest: Digest,
    /// Digest of its configuration.
    pub id: Digest,
    /// Names that the archive has for it.
    pub names: Vec<ImageName>,
    /// What it is for; none if not for Linux.
    pub platform: Option<Platform>,
    /// Its layers, the lowest first.
    pub layers: Vec<StoredLayer>,
}

impl Archive {
    /// Copies what `image` has for a platform into the store; what is there already is not read. Whoever calls holds
    /// [`Store::share`] until a name leads to it, or it may be swept away.
    ///
    /// # Errors
    /// When something of it is missing or is not what it should be, or cannot be kept.
    pub fn import(&self, image: &Listed, platform: &Platform, store: &Store) -> Result<Imported, ArchiveError> {
        let members = &self.members;
        let (manifest, config, places) = match &image.origin {
            Origin::Docker(item) => {
                let contents = docker::contents(members, item)?;
                (contents.manifest, contents.config, Some(contents.layers))
            }
            Origin::Layout(descriptors) => {
                let manifest = layout::manifest(members, descriptors, platform)?;
                let config = layout::blob(members, manifest.1.config())?;
                (manifest, config, None)
            }
        };
        let (bytes, manifest) = manifest;
        let name = layout::place(&Digest::of(&bytes));
        let configuration =
            Configuration::parse(&config).map_err(ArchiveError::document(&layout::place(&Digest::of(&config))))?;
        let layers = document::layers(&manifest, &configuration).map_err(ArchiveError::document(&name))?;
        for (number, layer) in layers.iter().enumerate() {
            let place = places.as_ref().and_then(|places| places.get(number).cloned());
            copy(members, &place.unwrap_or_else(|| layout::place(&layer.digest)), layer, store)?;
        }
        // Last, so that an image of which the manifest is there is whole.
        let id = store.write_blob(&config).map_err(ArchiveError::store("the configuration"))?;
        let manifest = store.write_blob(&bytes).map_err(ArchiveError::store("the manifest"))?;
        Ok(Imported { manifest, id, names: image.names.clone(), platform: configuration.platform, layers })
    }
}

/// Copies a layer, which becomes a blob of the store if it is what it should be.
fn copy(members: &Members, name: &str, layer: &StoredLayer, store: &Store) -> Result<(), ArchiveError> {
    let failed = || ArchiveError::store(name);
    let check = |actual| match layer.size {
        expected if expected == actual => Ok(()),
        expected => Err(ArchiveError::Size { member: name.to_owned(), expected, actual }),
    };
    if store.has_blob(&layer.digest) {
        // The manifest is kept, so what it says has to be true.
        let there = store.blob(&layer.digest);
        let meta = fs::metadata(&there).map_err(|source| StoreError::Io { path: there, source });
        return check(meta.map_err(failed())?.len());
    }
    let mut member = members.open(name)?;
    check(member.size())?;
    let Begun::Writer(mut writer) = store.begin_blob(&layer.digest).map_err(failed())? else { return Ok(()) };
    // What another one has left there may be anything, and reading ours costs no more than reading theirs.
    writer.restart().map_err(failed())?;
    let copied = member.for_each(|bytes| writer.write(bytes).map_err(failed()));
    if copied.is_err() {
        // Or a pull would go on with what nobody has verified.
        let _ = writer.restart();
    }
    copied?;
    writer.finish(Some(layer.size)).map_err(failed())
}
