//! As a tar archive, to any stream.

use std::io::Write;

use ::tar::{EntryType, Header};
use serde_json::json;

use super::{Documents, LAYOUT_FILE, SaveFormat, check_size, index_json, read_blob};
use crate::image::{
    archive::{
        ArchiveError,
        docker::MANIFEST,
        layout::{INDEX, LAYOUT, place},
    },
    store::{Store, Stored},
};

/// Writes images as one archive. Documents come first, so that who reads a stream knows what is coming. When it fails, what
/// has been written is of no use.
///
/// # Errors
/// When the store lacks something or is damaged, or `out` fails.
pub fn save(store: &Store, images: &[Stored], format: SaveFormat, out: &mut dyn Write) -> Result<(), ArchiveError> {
    let documents = Documents::of(store, images, format)?;
    let mut tar = Tar { out };
    tar.document(LAYOUT, LAYOUT_FILE.as_bytes())?;
    tar.document(INDEX, index_json(&documents.manifests).to_string().as_bytes())?;
    if format == SaveFormat::Docker {
        tar.document(MANIFEST, json!(documents.items).to_string().as_bytes())?;
        tar.document("repositories", json!(documents.repositories).to_string().as_bytes())?;
    }
    for folder in ["blobs/", "blobs/sha256/"] {
        tar.header(folder, EntryType::Directory, 0)?;
    }
    for (digest, bytes) in &documents.made {
        tar.document(&place(digest), bytes)?;
    }
    for (digest, size) in &documents.blobs {
        let name = place(digest);
        // Two closures want it, one after the other.
        let tar = std::cell::RefCell::new(&mut tar);
        read_blob(
            store,
            digest,
            *size,
            || tar.borrow_mut().header(&name, EntryType::Regular, *size),
            |bytes| tar.borrow_mut().write(&name, bytes),
        )?;
        tar.borrow_mut().pad(&name, *size)?;
    }
    tar.write("the end", &[0; 1024])?;
    tar.out.flush().map_err(ArchiveError::write("the end"))
}

struct Tar<'a> {
    out: &'a mut dyn Write,
}

impl Tar<'_> {
    fn document(&mut self, name: &str, bytes: &[u8]) -> Result<(), ArchiveError> {
        check_size(name, bytes)?;
        self.header(name, EntryType::Regular, bytes.len() as u64)?;
        self.write(name, bytes)?;
        self.pad(name, bytes.len() as u64)
    }

    /// Nothing in it depends on when, where or by whom it is written.
    fn header(&mut self, name: &str, kind: EntryType, size: u64) -> Result<(), ArchiveError> {
        // That of GNU, which alone has room for sizes above 8 GiB.
        let mut header = Header::new_gnu();
        header.set_path(name).map_err(ArchiveError::write(name))?;
        header.set_entry_type(kind);
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header.set_cksum();
        self.write(name, header.as_bytes())
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.out.write_all(bytes).map_err(ArchiveError::write(name))
    }

    /// Up to the next block.
    fn pad(&mut self, name: &str, size: u64) -> Result<(), ArchiveError> {
        let over = usize::try_from(size % 512).unwrap_or_default();
        if over == 0 { Ok(()) } else { self.write(name, &[0; 512][over..]) }
    }
}
