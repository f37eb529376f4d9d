//! Docker's manifest (schema 2) as one of OCI, which differs in nothing but its media types.

use serde_json::{Value, json};

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// The same manifest with the media types of OCI; none if it has them already. Readers of layouts such as skopeo's look for
/// these alone, while the configuration and the layers are the same under both names.
pub(super) fn to_oci(manifest: &[u8]) -> Option<Vec<u8>> {
    let mut manifest: Value = serde_json::from_slice(manifest).ok()?;
    if manifest["mediaType"] != DOCKER_MANIFEST {
        return None;
    }
    manifest["mediaType"] = json!("application/vnd.oci.image.manifest.v1+json");
    rename(&mut manifest["config"]);
    manifest["layers"].as_array_mut()?.iter_mut().for_each(rename);
    Some(manifest.to_string().into_bytes())
}

fn rename(descriptor: &mut Value) {
    let new = match descriptor["mediaType"].as_str() {
        Some("application/vnd.docker.container.image.v1+json") => "config.v1+json",
        Some("application/vnd.docker.image.rootfs.diff.tar") => "layer.v1.tar",
        Some("application/vnd.docker.image.rootfs.diff.tar.gzip") => "layer.v1.tar+gzip",
        Some("application/vnd.docker.image.rootfs.diff.tar.zstd") => "layer.v1.tar+zstd",
        Some("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip") => "layer.nondistributable.v1.tar+gzip",
        _ => return,
    };
    descriptor["mediaType"] = json!(format!("application/vnd.oci.image.{new}"));
}
