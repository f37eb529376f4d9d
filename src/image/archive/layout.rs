//! The OCI Image Layout Specification: oci-layout, index.json, and blobs under their digests.

use oci_spec::image::{ANNOTATION_REF_NAME, Descriptor, ImageIndex, ImageManifest};
use serde::Deserialize;

use super::{
    ArchiveError, Listed,
    listed::{Origin, full_name},
    members::Members,
};
use crate::{
    image::document::{self, Document, DocumentError, MAX_DOCUMENT, MAX_NESTED},
    model::{Digest, Platform},
};

/// File that says that a folder is a layout, and of what version.
pub(super) const LAYOUT: &str = "oci-layout";

/// File that says which images there are.
pub(super) const INDEX: &str = "index.json";

/// Where containerd, and Docker since version 25, writes the full name; the annotation of the specification is the tag
/// alone then.
pub(super) const CONTAINERD_NAME: &str = "io.containerd.image.name";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LayoutFile {
    image_layout_version: String,
}

/// The images that index.json has.
pub(super) fn list(members: &Members) -> Result<Vec<Listed>, ArchiveError> {
    if members.has(LAYOUT) {
        let LayoutFile { image_layout_version: version } = members.json(LAYOUT)?;
        if version.split('.').next() != Some("1") {
            let why = format!("version {version} is not known");
            return Err(ArchiveError::Broken { member: LAYOUT.to_owned(), why });
        }
    }
    let index: ImageIndex = members.json(INDEX)?;
    let mut images: Vec<Listed> = Vec::new();
    for descriptor in index.manifests() {
        let said = |key: &str| descriptor.annotations().as_ref()?.get(key).filter(|text| !text.is_empty()).cloned();
        let (full, reference) = (said(CONTAINERD_NAME), said(ANNOTATION_REF_NAME));
        let name = full.as_deref().and_then(full_name);
        let name = name.or_else(|| reference.as_deref().and_then(full_name));
        let references: Vec<String> = full.into_iter().chain(reference).collect();
        let same = images.iter_mut().find_map(|image| {
            let Origin::Layout(descriptors) = &mut image.origin else { return None };
            if descriptors.iter().any(|other| other.digest() == descriptor.digest()) {
                // One image under several names has an entry for each.
                return Some((&mut image.names, &mut image.references));
            }
            // One name with several manifests is an image for several platforms.
            let platforms =
                descriptor.platform().is_some() && descriptors.iter().all(|other| other.platform().is_some());
            if image.references == references && platforms {
                descriptors.push(descriptor.clone());
                return Some((&mut image.names, &mut image.references));
            }
            None
        });
        match same {
            Some((names, known)) => {
                names.extend(name.filter(|name| !names.contains(name)));
                for reference in references {
                    if !known.contains(&reference) {
                        known.push(reference);
                    }
                }
            }
            None => images.push(Listed {
                names: name.into_iter().collect(),
                references,
                origin: Origin::Layout(vec![descriptor.clone()]),
            }),
        }
    }
    Ok(images)
}

/// Where the blob of a digest is.
pub(super) fn place(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The whole of a small blob, verified.
pub(super) fn blob(members: &Members, descriptor: &Descriptor) -> Result<Vec<u8>, ArchiveError> {
    let expected = document::digest_of(descriptor).map_err(ArchiveError::document(INDEX))?;
    let member = place(&expected);
    // Before anything is read: the member itself may be small.
    if descriptor.size() > MAX_DOCUMENT {
        return Err(ArchiveError::TooLarge { member, size: descriptor.size(), limit: MAX_DOCUMENT });
    }
    let bytes = members.read(&member)?;
    if bytes.len() as u64 != descriptor.size() {
        return Err(ArchiveError::Size { member, expected: descriptor.size(), actual: bytes.len() as u64 });
    }
    let actual = Digest::of(&bytes);
    if actual != expected {
        return Err(ArchiveError::Mismatch { member, expected, actual });
    }
    Ok(bytes)
}

/// The manifest for a platform among these of one image, through indexes if need be, and its bytes.
pub(super) fn manifest(
    members: &Members,
    descriptors: &[Descriptor],
    platform: &Platform,
) -> Result<(Vec<u8>, ImageManifest), ArchiveError> {
    let mut at = INDEX.to_owned();
    let mut next = match descriptors {
        // Whoever writes down only one means it, whatever machine it is for.
        [only] => only.clone(),
        several => {
            let index = index_of(several).map_err(ArchiveError::document(&at))?;
            document::choose(&index, platform).map_err(ArchiveError::document(&at))?.clone()
        }
    };
    for _ in 0..MAX_NESTED {
        let bytes = blob(members, &next)?;
        at = document::digest_of(&next).map(|digest| place(&digest)).map_err(ArchiveError::document(&at))?;
        let media_type = next.media_type().to_string();
        match Document::parse(&bytes, Some(&media_type)).map_err(ArchiveError::document(&at))? {
            Document::Manifest(manifest) => return Ok((bytes, manifest)),
            Document::Index(mut index) => {
                // An archive may have one platform of an image, with the index of all of them: Docker writes such.
                let there = |descriptor: &Descriptor| {
                    document::digest_of(descriptor).is_ok_and(|digest| members.has(&place(&digest)))
                };
                if index.manifests().iter().any(there) {
                    let kept = index.manifests().iter().filter(|descriptor| there(descriptor)).cloned().collect();
                    index.set_manifests(kept);
                }
                next = document::choose(&index, platform).map_err(ArchiveError::document(&at))?.clone();
            }
        }
    }
    Err(ArchiveError::Broken { member: at, why: format!("more than {MAX_NESTED} indexes lead to each other") })
}

fn index_of(descriptors: &[Descriptor]) -> Result<ImageIndex, DocumentError> {
    let built = oci_spec::image::ImageIndexBuilder::default().schema_version(2_u32).manifests(descriptors).build();
    built.map_err(|e| DocumentError::Invalid { what: "index", why: e.to_string() })
}
