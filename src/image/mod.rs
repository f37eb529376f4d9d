//! Images: from a name in a Compose file to unpacked layers that an overlay can show.
//!
//! ```text
//! ImageRequest ──pull──▶ registry (manifests, blobs by digest) ──┐
//!                        archive  (oci:, docker-archive:, load) ──┴─▶ store ──▶ model::Image
//!                                                       unpack: each layer into a folder of its own
//! ```
//!
//! Reading an image that is there takes the store alone. Everything that writes happens with the ids of containers: as
//! root, or as root of the user namespace that an ordinary user's stacks have.

pub mod document;
pub mod pack;
pub mod store;
pub mod unpack;
