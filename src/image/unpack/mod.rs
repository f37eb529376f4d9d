//! Unpacking a layer: from an archive, as it comes, to a folder that overlayfs takes as a lower layer.
//!
//! ```text
//! caller's thread:   archive ──decompress──▶ buffers of the tar archive
//!                                                 │ bounded channel
//! another thread:                                 └──▶ digest, Members ──▶ Placer ──▶ Tree: files of the folder
//! ```
//!
//! What comes out is what Docker's overlay2, containerd and podman make of a layer (OCI Image Layer Specification): `.wh.x`
//! becomes a character device 0:0, `.wh..wh..opq` an attribute that makes its folder opaque. Layers are of strangers. So
//! nothing is made outside of the folder, whatever names and links an archive has (`tree.rs`), and what can grow is limited.
//! What this account cannot make, such as devices or other owners, is left out and counted in [`Lost`], for the caller to tell.
//!
//! Nothing is synced, and a folder in which unpacking failed is the caller's to remove.

mod decompress;
mod error;
mod header;
mod member;
mod name;
mod owner;
mod pax;
mod place;
mod stream;
mod tree;

use std::{io::Read, path::Path, sync::mpsc, thread};

use nix::sched::CloneFlags;

pub use error::UnpackError;
pub(in crate::image) use owner::Owner;

use self::{member::Members, place::Placer, stream::Stream, tree::Tree};
use crate::model::Digest;

/// Where the owner of a file is noted that could not be kept: `UID:GID`, and `:MODE` in octal if that is another one, too.
pub const OWNER_ATTRIBUTE: &str = "user.nscompose.owner";

/// So many buffers may be on their way from one thread to the other.
const BUFFERS: usize = 8;

/// Whose the files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// As the archive says.
    Kept,
    /// All are the caller's, who has no other id; what the archive says is noted in [`OWNER_ATTRIBUTE`]. Owners can
    /// always read and write their files, and enter folders; the real mode is noted then.
    Single,
}

/// Which attributes overlayfs heeds in the layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverlayAttributes {
    /// `trusted.overlay.*`: root's of the machine.
    Trusted,
    /// `user.overlay.*`: overlays mounted with `userxattr`.
    User,
}

/// How much an archive may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the uncompressed archive.
    pub bytes: u64,
    /// Members.
    pub entries: u64,
    /// Bytes of one file, with its holes.
    pub file_size: u64,
}

impl Default for Limits {
    /// 64 GiB and four million members; a file with holes may be as large as the file system takes.
    fn default() -> Self {
        Self { bytes: 64 << 30, entries: 4 << 20, file_size: i64::MAX.cast_unsigned() }
    }
}

/// How to unpack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnpackOptions {
    /// Whose the files are.
    pub ownership: Ownership,
    /// Which attributes overlayfs heeds.
    pub attributes: OverlayAttributes,
    /// How much there may be.
    pub limits: Limits,
}

/// What could not be kept, each with the number of members.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// Devices that were left out.
    pub devices: u64,
    /// Owners or modes that are noted in [`OWNER_ATTRIBUTE`].
    pub owners_noted: u64,
    /// Owners that are lost: links, devices and the like cannot have notes.
    pub owners: u64,
    /// Ids that the user namespace does not have, with [`Ownership::Kept`]. They count as noted or lost, too.
    pub ids_out_of_range: u64,
    /// Attributes that the account may not set, or the file system does not have.
    pub attributes: u64,
    /// Attributes that are overlayfs's or nscompose's own, which an archive cannot set.
    pub reserved_attributes: u64,
}

/// A layer that was unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// Digest of the uncompressed archive, to its last byte.
    pub diff_id: Digest,
    /// Bytes of the uncompressed archive.
    pub bytes: u64,
    /// Members.
    pub entries: u64,
    /// Folders that had to be made for what is in them, with mode 0755 and root as owner.
    pub implied_folders: u64,
    /// The layer hides all layers below it. Overlayfs does not heed that at the root: the caller has to leave them out.
    pub opaque_root: bool,
    /// What could not be kept.
    pub lost: Lost,
}

/// Unpacks an archive (tar; compressed with gzip, zstd or not at all) into an empty folder.
///
/// # Errors
/// When the archive cannot be read or is not valid, has more in it than it may, or a file cannot be made. The folder is in
/// any state then.
pub fn unpack(archive: impl Read, folder: &Path, options: &UnpackOptions) -> Result<Unpacked, UnpackError> {
    let tree = Tree::open(folder, options.attributes)?;
    let (to_place, pieces) = mpsc::sync_channel(BUFFERS);
    let (to_fill, spare) = mpsc::channel();
    let stream = Stream::new(pieces, to_fill);
    thread::scope(|scope| {
        let placing = scope.spawn(move || place_all(stream, tree, options));
        decompress::decompress(archive, options.limits.bytes, &to_place, &spare);
        drop(to_place);
        placing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn place_all(stream: Stream, tree: Tree, options: &UnpackOptions) -> Result<Unpacked, UnpackError> {
    // Files are made with the mode they should have, which saves a call for each: for that, this thread alone gets
    // a mask of its own. Where unshare(2) is forbidden, modes are set afterwards.
    let exact_modes = nix::sched::unshare(CloneFlags::CLONE_FS).is_ok();
    if exact_modes {
        rustix::process::umask(rustix::fs::Mode::empty());
    }
    let mut members = Members::new(stream);
    let lost = Lost::default();
    let file_size = options.limits.file_size;
    let caller = (rustix::process::geteuid(), rustix::process::getegid());
    let ownership = options.ownership;
    let mut placer = Placer { tree, ownership, caller, exact_modes, file_size, lost };
    let mut entries = 0;
    while let Some(member) = members.next()? {
        entries += 1;
        if entries > options.limits.entries {
            return Err(UnpackError::Limit { what: "members", limit: options.limits.entries });
        }
        placer.place(&mut members, &member)?;
    }
    placer.lost.attributes += placer.tree.finish()?;
    let (diff_id, bytes) = members.finish();
    let (implied_folders, opaque_root) = (placer.tree.implied, placer.tree.opaque_root);
    Ok(Unpacked { diff_id, bytes, entries, implied_folders, opaque_root, lost: placer.lost })
}
