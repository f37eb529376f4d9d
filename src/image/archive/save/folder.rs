//! As an OCI image layout in a folder.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use oci_spec::image::ANNOTATION_REF_NAME;
use serde_json::Value;

use super::{Documents, LAYOUT_FILE, SaveFormat, check_size, index_json, read_blob};
use crate::image::{
    archive::{
        ArchiveError,
        layout::{INDEX, LAYOUT, place},
        members::Members,
    },
    store::{Store, Stored},
};

/// Writes images into a folder, which is made if it is not there. If it is a layout already, they are added to those in it;
/// what was there under the same name loses it, and its blobs stay.
///
/// # Errors
/// When the folder is something else, the store lacks something or is damaged, or something cannot be written.
pub fn save_layout(store: &Store, images: &[Stored], folder: &Path) -> Result<(), ArchiveError> {
    let documents = Documents::of(store, images, SaveFormat::Oci)?;
    let mut index = before(folder)?;
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).map_err(ArchiveError::write(blobs.display()))?;
    for (digest, bytes) in &documents.made {
        write(&folder.join(place(digest)), bytes)?;
    }
    for (digest, size) in &documents.blobs {
        let path = folder.join(place(digest));
        if fs::metadata(&path).is_ok_and(|meta| meta.is_file() && meta.len() == *size) {
            continue;
        }
        replace(&path, |file| {
            read_blob(
                store,
                digest,
                *size,
                || Ok(()),
                |bytes| file.write_all(bytes).map_err(ArchiveError::write(path.display())),
            )
        })?;
    }
    write(&folder.join(LAYOUT), LAYOUT_FILE.as_bytes())?;
    // Last: what it leads to is there.
    add(&mut index, documents.manifests);
    let bytes = index.to_string().into_bytes();
    check_size(INDEX, &bytes)?;
    write(&folder.join(INDEX), &bytes)
}

/// index.json of the layout that is there, or a new one.
fn before(folder: &Path) -> Result<Value, ArchiveError> {
    let failed = |source| ArchiveError::Open { path: folder.to_owned(), source };
    match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(index_json(&[])),
        Err(e) => return Err(failed(e)),
        Ok(mut files) => {
            if files.next().is_none() {
                return Ok(index_json(&[]));
            }
        }
    }
    let members = Members::Folder(folder.to_owned());
    if members.has(INDEX) {
        // Only what is a list of manifests can be added to.
        let index: Value = members.json(INDEX)?;
        if index["manifests"].is_array() {
            return Ok(index);
        }
        return Err(ArchiveError::Broken { member: INDEX.to_owned(), why: "it has no list of manifests".to_owned() });
    }
    if members.has(LAYOUT) {
        return Ok(index_json(&[]));
    }
    let why = format!("{} has other things in it", folder.display());
    Err(ArchiveError::Kind { wanted: "the folder of an OCI image layout", why })
}

/// Puts new manifests behind the old ones, of which those go that have the same name, or are the same without one.
fn add(index: &mut Value, new: Vec<Value>) {
    let name = |descriptor: &Value| descriptor["annotations"][ANNOTATION_REF_NAME].clone();
    // One name may lead to an image for each platform; most tools write none down.
    let replaces = |new: &Value, old: &Value| {
        let (ours, theirs) = (&new["platform"], &old["platform"]);
        let platform = ours == theirs || ours.is_null() || theirs.is_null();
        name(new) == name(old) && (new["digest"] == old["digest"] || (platform && !name(old).is_null()))
    };
    if let Some(all) = index["manifests"].as_array_mut() {
        all.retain(|old| !new.iter().any(|new| replaces(new, old)));
        all.extend(new);
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), ArchiveError> {
    replace(path, |file| file.write_all(bytes).map_err(ArchiveError::write(path.display())))
}

/// A file has its name only when it is complete.
fn replace(path: &Path, fill: impl FnOnce(&mut File) -> Result<(), ArchiveError>) -> Result<(), ArchiveError> {
    let new = path.with_extension(format!("{}.new", std::process::id()));
    let failed = || ArchiveError::write(path.display());
    let mut file = File::create(&new).map_err(failed())?;
    fill(&mut file).and_then(|()| fs::rename(&new, path).map_err(failed())).inspect_err(|_| {
        let _ = fs::remove_file(&new);
    })
}
