//! Images: how a file asks for one, and what a plan has to know of one that is there.
//!
//! ```text
//! ImageRequest { ImageSource, Platform, PullPolicy } ──image::pull──▶ Image { id, layers, ImageConfig }
//! ```

mod apply;
mod config;
mod digest;
mod name;
mod platform;
mod pull_policy;
mod source;

use serde::{Deserialize, Serialize};

pub use apply::NoCommand;
pub use config::{ImageConfig, ImageHealthcheck};
pub use digest::{Digest, InvalidDigest};
pub use name::{ImageName, InvalidImageName};
pub use platform::{InvalidPlatform, Platform};
pub use pull_policy::{InvalidPullPolicy, PullPolicy};
pub use source::{ImageSource, InArchive, InvalidImageSource};

/// What a service asks for: `image:`, `platform:` and `pull_policy:`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRequest {
    /// Where it comes from.
    pub source: ImageSource,
    /// The platform that is wanted; none is this machine's.
    pub platform: Option<Platform>,
    /// When the source is looked at although there is an image already.
    pub pull_policy: PullPolicy,
}

/// An image that is in the store, unpacked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// What it is called in messages.
    pub name: String,
    /// Digest of its configuration, which is what Docker calls its ID.
    pub id: Digest,
    /// The layers that make up its files, the lowest first, each by the digest of its uncompressed archive.
    pub layers: Vec<Digest>,
    /// What it says about running it.
    pub config: ImageConfig,
}
