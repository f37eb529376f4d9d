//! What leads to an image.

use serde::{Deserialize, Serialize};

use crate::model::{Digest, Image, ImageName, Platform};

/// A name in the store and what it leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The name; none for an image whose name leads to another one by now.
    pub name: Option<ImageName>,
    /// The platform that was asked for, if it is not this machine's.
    pub platform: Option<Platform>,
    /// Digest of the image's manifest, which is among the blobs.
    pub manifest: Digest,
    /// Digest of its configuration: what Docker calls the ID.
    pub id: Digest,
    /// What the registry called it by: the digest of an index, or of the manifest. None if it came from a file.
    pub registry_digest: Option<Digest>,
    /// Bytes that its layers take on disk, unpacked.
    pub unpacked: u64,
    /// Seconds since the Unix epoch at which it was last looked for at its source.
    pub checked: i64,
}

/// An image in the store, as its manifest and configuration say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// What leads to it.
    pub entry: Entry,
    /// Its layers, the lowest first.
    pub layers: Vec<StoredLayer>,
    /// What it is for.
    pub platform: Option<Platform>,
    /// When it was made, as it says itself (RFC 3339).
    pub created: Option<String>,
    /// What a plan has to know.
    pub image: Image,
}

/// A layer of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLayer {
    /// Digest of its blob.
    pub digest: Digest,
    /// Bytes of its blob.
    pub size: u64,
    /// Media type of its blob.
    pub media_type: String,
    /// Digest of its uncompressed archive.
    pub diff_id: Digest,
}
