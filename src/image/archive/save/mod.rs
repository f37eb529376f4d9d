//! Writing images of the store out.
//!
//! ```text
//! Stored… ─▶ Documents { index.json, manifest.json, repositories } ─┬─tar────▶ any stream: docker-archive, oci-archive
//!            and the blobs that they lead to                        └─folder─▶ an OCI image layout, new or there already
//! ```
//!
//! Blobs are written as they are in the store, so digests stay what they are; only a manifest of Docker's becomes one of OCI
//! where a layout is all that is wanted. The same images give the same bytes.

mod convert;
mod folder;
mod tar;

use std::{collections::BTreeMap, fs::File, io, io::Read};

use oci_spec::image::ANNOTATION_REF_NAME;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    ArchiveError,
    layout::{CONTAINERD_NAME, place},
};
use crate::{
    image::{
        document::{Document, MAX_DOCUMENT},
        store::{Store, StoreError, Stored},
    },
    model::{Digest, ImageName, Platform},
};

pub use folder::save_layout;
pub use tar::save;

/// How images are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaveFormat {
    /// As `docker save` does since version 25: an OCI image layout that has a manifest.json for older readers. `docker load`,
    /// `podman load` and skopeo's `docker-archive:` and `oci-archive:` read it.
    Docker,
    /// An OCI image layout alone, names in full, as `podman save --format oci-archive` has it.
    Oci,
}

/// Content of the file that says that it is a layout.
const LAYOUT_FILE: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// What is written besides blobs, and which blobs.
struct Documents {
    /// `manifests` of index.json.
    manifests: Vec<Value>,
    /// manifest.json.
    items: Vec<Value>,
    /// Repositories with their tags, of Docker before 1.10.
    repositories: BTreeMap<String, BTreeMap<String, String>>,
    /// Sizes of blobs of the store by digest.
    blobs: BTreeMap<Digest, u64>,
    /// Manifests that the store does not have.
    made: BTreeMap<Digest, Vec<u8>>,
}

impl Documents {
    /// For these images, of which several may be one under different names.
    fn of(store: &Store, images: &[Stored], format: SaveFormat) -> Result<Self, ArchiveError> {
        let mut documents = Self {
            manifests: Vec::new(),
            items: Vec::new(),
            repositories: BTreeMap::new(),
            blobs: BTreeMap::new(),
            made: BTreeMap::new(),
        };
        let mut seen: Vec<&Digest> = Vec::new();
        for image in images {
            if !seen.contains(&&image.entry.manifest) {
                seen.push(&image.entry.manifest);
                let mut names: Vec<&ImageName> = Vec::new();
                let same = images.iter().filter(|other| other.entry.manifest == image.entry.manifest);
                for name in same.filter_map(|other| other.entry.name.as_ref()) {
                    if !names.contains(&name) {
                        names.push(name);
                    }
                }
                documents.add(store, image, &names, format)?;
            }
        }
        Ok(documents)
    }

    fn add(
        &mut self,
        store: &Store,
        image: &Stored,
        names: &[&ImageName],
        format: SaveFormat,
    ) -> Result<(), ArchiveError> {
        let entry = &image.entry;
        let mut bytes = store.read_blob(&entry.manifest)?;
        let mut digest = entry.manifest.clone();
        let converted = if format == SaveFormat::Oci { convert::to_oci(&bytes) } else { None };
        if let Some(converted) = converted {
            digest = Digest::of(&converted);
            self.made.insert(digest.clone(), converted.clone());
            bytes = converted;
        } else {
            self.blobs.insert(digest.clone(), bytes.len() as u64);
        }
        let damaged = || ArchiveError::Damaged { digest: entry.manifest.clone() };
        let manifest = match Document::parse(&bytes, None).map_err(ArchiveError::document(&place(&entry.manifest)))? {
            Document::Manifest(manifest) => manifest,
            Document::Index(_) => return Err(damaged()),
        };
        self.blobs.insert(entry.id.clone(), manifest.config().size());
        for layer in &image.layers {
            self.blobs.insert(layer.digest.clone(), layer.size);
        }
        let media_type = manifest.media_type().as_ref().map(ToString::to_string);
        let mut descriptor = json!({
            "mediaType": media_type.as_deref().unwrap_or("application/vnd.oci.image.manifest.v1+json"),
            "digest": digest.as_str(),
            "size": bytes.len(),
        });
        if let Some(platform) = &image.platform {
            descriptor["platform"] = platform_of(platform);
        }
        if names.is_empty() {
            self.manifests.push(descriptor.clone());
        }
        let mut tags = Vec::new();
        for name in names {
            let mut annotations = Map::new();
            annotations.insert(CONTAINERD_NAME.to_owned(), json!(name.canonical()));
            let reference = match format {
                SaveFormat::Docker => name.tag().map(str::to_owned),
                SaveFormat::Oci => Some(name.canonical()),
            };
            annotations.extend(reference.map(|reference| (ANNOTATION_REF_NAME.to_owned(), json!(reference))));
            let mut named = descriptor.clone();
            named["annotations"] = Value::Object(annotations);
            self.manifests.push(named);
            if let Some(tag) = name.tag() {
                let repository = name.familiar_repository();
                tags.push(json!(format!("{repository}:{tag}")));
                // What it was the ID of has not been for ten years; that there is something is what counts.
                let top = image.layers.last().map_or(entry.id.hex(), |layer| layer.diff_id.hex());
                self.repositories.entry(repository).or_default().insert(tag.to_owned(), top.to_owned());
            }
        }
        let layers: Vec<String> = image.layers.iter().map(|layer| place(&layer.digest)).collect();
        self.items.push(json!({
            "Config": place(&entry.id),
            "RepoTags": if tags.is_empty() { Value::Null } else { Value::Array(tags) },
            "Layers": layers,
        }));
        Ok(())
    }
}

fn platform_of(platform: &Platform) -> Value {
    let mut value = json!({ "architecture": platform.architecture(), "os": "linux" });
    if let Some(variant) = platform.variant() {
        value["variant"] = json!(variant);
    }
    value
}

fn index_json(manifests: &[Value]) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": manifests,
    })
}

/// Reads a blob in pieces, and makes sure that it is what it goes by.
fn read_blob(
    store: &Store,
    digest: &Digest,
    size: u64,
    mut begin: impl FnMut() -> Result<(), ArchiveError>,
    mut each: impl FnMut(&[u8]) -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    let path = store.blob(digest);
    let failed = |source| ArchiveError::Stored(StoreError::Io { path: path.clone(), source });
    let damaged = || ArchiveError::Damaged { digest: digest.clone() };
    let mut file = File::open(&path).map_err(failed)?;
    // A tar archive says the size first, so it has to be known.
    if file.metadata().map_err(failed)?.len() != size {
        return Err(damaged());
    }
    begin()?;
    let (mut hasher, mut read) = (Sha256::new(), 0);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                read += count as u64;
                if read > size {
                    return Err(damaged());
                }
                hasher.update(&buffer[..count]);
                each(&buffer[..count])?;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(failed(e)),
        }
    }
    if read != size || Digest::finish(hasher) != *digest { Err(damaged()) } else { Ok(()) }
}

/// Makes sure that what is written can be read again here.
fn check_size(what: &str, bytes: &[u8]) -> Result<(), ArchiveError> {
    let size = bytes.len() as u64;
    if size > MAX_DOCUMENT {
        return Err(ArchiveError::TooLarge { member: what.to_owned(), size, limit: MAX_DOCUMENT });
    }
    Ok(())
}
