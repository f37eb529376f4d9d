//! What happens while images come or go, told to whoever shows it.

use crate::model::Digest;

/// One piece of news.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageEvent {
    /// An image is being looked for.
    Looking(String),
    /// A layer, by the digest of its blob.
    Layer {
        /// The image.
        image: String,
        /// Which.
        layer: Digest,
        /// What is done with it.
        state: LayerState,
    },
    /// An image is there.
    Ready {
        /// The image.
        image: String,
        /// It is as it was before.
        unchanged: bool,
    },
    /// Something that people should know.
    Warning(String),
}

/// Where a layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerState {
    /// Somebody else brings it already, who is waited for.
    Waiting,
    /// It comes, or goes: so many bytes of so many.
    Moving(u64, u64),
    /// It has come and is being unpacked.
    Unpacking,
    /// It is where it should be.
    Done,
    /// It has been there all along.
    Present,
}
