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

pub mod archive;
mod check;
mod commit;
mod decompress;
pub mod document;
mod event;
mod find;
mod install;
pub mod pack;
mod pull;
mod push;
pub mod registry;
pub mod store;
pub mod unpack;

pub use check::{Damage, DamagedThing};
pub use commit::{Changes, CommitError};
pub use event::{ImageEvent, LayerState};
pub use find::Found;
pub use install::{InstallError, Installer};
pub use pull::{PullError, Puller};
pub use push::push;
