//! What `docker save` writes, and has written over the years: manifest.json leads to configurations and layers.
//!
//! ```text
//! manifest.json  [{ Config, RepoTags, Layers }]
//!   until 24     HEX.json, HEX/layer.tar          the second of two equal layers is a link to the first
//!   podman       HEX.json, HEX.tar
//!   since 25     blobs/sha256/HEX                 an OCI image layout at the same time
//! ```
//!
//! There is no manifest of the image itself in there, so one is made, of which the digest depends on nothing but the
//! configuration and the layers.

use std::collections::HashMap;

use oci_spec::image::ImageManifest;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{
    ArchiveError, Listed,
    listed::{Origin, full_name},
    members::Members,
};
use crate::{
    image::{
        decompress::{Compression, MAGIC},
        document::{Configuration, Document, DocumentError, MAX_LAYERS},
    },
    model::Digest,
};

/// File that says which images there are.
pub(super) const MANIFEST: &str = "manifest.json";

/// An image, as manifest.json has it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Item {
    /// Member that is the configuration.
    config: String,
    /// Names.
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    /// Members that are the layers, the lowest first.
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// What has to be copied for an image.
#[derive(Debug)]
pub(super) struct Contents {
    /// The configuration.
    pub(super) config: Vec<u8>,
    /// The manifest that is made for it.
    pub(super) manifest: (Vec<u8>, ImageManifest),
    /// Member of each layer.
    pub(super) layers: Vec<String>,
}

/// The images that manifest.json has.
pub(super) fn list(members: &Members) -> Result<Vec<Listed>, ArchiveError> {
    let items: Vec<Item> = members.json(MANIFEST)?;
    let listed = items.into_iter().map(|item| {
        let references = item.repo_tags.clone().unwrap_or_default();
        let names = references.iter().filter_map(|text| full_name(text)).collect();
        Listed { names, references, origin: Origin::Docker(item) }
    });
    Ok(listed.collect())
}

/// Looks at all that an image has.
pub(super) fn contents(members: &Members, item: &Item) -> Result<Contents, ArchiveError> {
    let config = members.read(&item.config)?;
    let id = Digest::of(&config);
    if let Some(hex) = item.config.strip_prefix("blobs/sha256/")
        && let Ok(expected) = format!("sha256:{hex}").parse::<Digest>()
        && expected != id
    {
        return Err(ArchiveError::Mismatch { member: item.config.clone(), expected, actual: id });
    }
    let configuration = Configuration::parse(&config).map_err(ArchiveError::document(&item.config))?;
    let (layers, diff_ids) = (item.layers.clone().unwrap_or_default(), &configuration.diff_ids);
    // Before anything large is read, which may be one member a thousand times.
    let why = if layers.len() != diff_ids.len() {
        Some(format!("it has {} layers and its configuration {}", layers.len(), diff_ids.len()))
    } else if layers.len() > MAX_LAYERS {
        Some(format!("it has {} layers; at most {MAX_LAYERS} can be shown", layers.len()))
    } else {
        None
    };
    if let Some(why) = why {
        return Err(ArchiveError::document(MANIFEST)(DocumentError::Invalid { what: "manifest", why }));
    }
    let mut known = HashMap::new();
    let mut descriptors = Vec::new();
    for (member, diff_id) in layers.iter().zip(diff_ids) {
        let (digest, size, media_type) = match known.get(member) {
            Some(found) => found,
            None => known.entry(member).or_insert(layer(members, member, diff_id)?),
        };
        descriptors.push(json!({ "mediaType": media_type, "digest": digest.as_str(), "size": size }));
    }
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": id.as_str(),
            "size": config.len(),
        },
        "layers": descriptors,
    });
    let bytes = manifest.to_string().into_bytes();
    match Document::parse(&bytes, None).map_err(ArchiveError::document(MANIFEST))? {
        Document::Manifest(manifest) => Ok(Contents { config, manifest: (bytes, manifest), layers }),
        Document::Index(_) => {
            Err(ArchiveError::Broken { member: MANIFEST.to_owned(), why: "it makes no manifest".to_owned() })
        }
    }
}

/// Digest, size and media type of a layer. That of an uncompressed one the configuration says; it is verified when it is
/// copied. A compressed one has to be read for it.
fn layer(members: &Members, name: &str, diff_id: &Digest) -> Result<(Digest, u64, &'static str), ArchiveError> {
    let mut member = members.open(name)?;
    let size = member.size();
    let mut head = [0; MAGIC];
    let mut filled = 0;
    while filled < MAGIC {
        match member.read(&mut head[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    let media_type = match Compression::of(&head[..filled]) {
        Compression::None => return Ok((diff_id.clone(), size, "application/vnd.oci.image.layer.v1.tar")),
        Compression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
        Compression::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        Compression::Unknown(how) => {
            let why = format!("it is compressed with {how}, which is not supported");
            return Err(ArchiveError::Broken { member: name.to_owned(), why });
        }
    };
    let mut hasher = Sha256::new_with_prefix(&head[..filled]);
    member.for_each(|bytes| {
        hasher.update(bytes);
        Ok(())
    })?;
    Ok((Digest::finish(hasher), size, media_type))
}
