//! Images that a test writes, and what it looks at in a store.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use nscompose::model::{Digest, Platform};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{archive::Archive, server::skopeo};
use crate::support::{Output, Stack, program};

/// An image under way.
#[derive(Clone)]
pub(super) struct Made {
    layers: Vec<Layer>,
    config: Value,
    platform: String,
}

#[derive(Clone)]
struct Layer {
    blob: Vec<u8>,
    media_type: &'static str,
    diff_id: Digest,
}

/// An image in a folder, an OCI layout in which it goes by the name `it`.
pub(super) struct Layout {
    folder: tempfile::TempDir,
    pub(super) manifest: Digest,
    pub(super) id: Digest,
    /// Of their blobs.
    pub(super) layers: Vec<Digest>,
    /// Of their content.
    pub(super) diff_ids: Vec<Digest>,
}

const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

impl Made {
    /// One without layers.
    pub(super) fn empty() -> Self {
        Self { layers: Vec::new(), config: json!({}), platform: Platform::host().to_string() }
    }

    /// One with a busybox, which sleeps.
    pub(super) fn busybox() -> Self {
        static LAYER: OnceLock<Archive> = OnceLock::new();
        let layer = LAYER.get_or_init(|| {
            let program = fs::read(program("busybox").expect("declared")).unwrap();
            let mut layer = Archive::new().folder("bin").mode(0o755).file("bin/busybox", program);
            let applets = "sh sleep cat ls touch id stat rm mkdir chown chmod grep ln mv tar pwd find kill echo true false wc head";
            for applet in applets.split(' ') {
                layer = layer.symlink(&format!("bin/{applet}"), "busybox");
            }
            let users = "root:x:0:0::/:/bin/sh\nwww:x:33:33::/:/bin/sh\nworker:x:1000:1000::/tmp:/bin/sh\n";
            layer.folder("etc").file("etc/passwd", users).mode(0o1777).folder("tmp")
        });
        let command = json!({"Cmd": ["/bin/sleep", "100000"], "Env": ["PATH=/bin"], "StopSignal": "SIGKILL"});
        Self::empty().layer(layer.clone()).config(command)
    }

    /// Adds a layer.
    pub(super) fn layer(self, archive: Archive) -> Self {
        let bytes = archive.end();
        self.blob(TAR, Digest::of(&bytes), bytes)
    }

    /// Adds a compressed one.
    pub(super) fn gzip(self, archive: Archive) -> Self {
        let bytes = archive.end();
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        writer.write_all(&bytes).unwrap();
        self.blob(GZIP, Digest::of(&bytes), writer.finish().unwrap())
    }

    /// Adds one with the content of `real`, which the configuration says to be `said`.
    pub(super) fn lying(self, real: Archive, said: Archive) -> Self {
        self.blob(TAR, Digest::of(&said.end()), real.end())
    }

    fn blob(mut self, media_type: &'static str, diff_id: Digest, blob: Vec<u8>) -> Self {
        self.layers.push(Layer { blob, media_type, diff_id });
        self
    }

    /// Adds keys to the section `config` of the configuration, or replaces them.
    pub(super) fn config(mut self, keys: Value) -> Self {
        for (key, value) in keys.as_object().expect("an object") {
            self.config[key] = value.clone();
        }
        self
    }

    /// Says that it is for this platform.
    pub(super) fn platform(mut self, platform: &str) -> Self {
        self.platform = platform.to_owned();
        self
    }

    /// Writes it to a folder of its own.
    pub(super) fn write(&self) -> Layout {
        let folder = tempfile::tempdir().unwrap();
        let blobs = folder.path().join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        let put = |bytes: &[u8]| {
            let digest = Digest::of(bytes);
            fs::write(blobs.join(digest.hex()), bytes).unwrap();
            digest
        };
        let diff_ids: Vec<Digest> = self.layers.iter().map(|layer| layer.diff_id.clone()).collect();
        let (os, architecture) = self.platform.split_once('/').expect("a platform");
        let mut config = json!({
            "created": "2024-05-06T07:08:09Z", "os": os, "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids.iter().map(Digest::as_str).collect::<Vec<_>>()},
        });
        let mut platform = json!({"os": os});
        let parts: Vec<&str> = architecture.split('/').collect();
        for (key, value) in ["architecture", "variant"].iter().zip(parts) {
            config[*key] = json!(value);
            platform[*key] = json!(value);
        }
        let config = config.to_string();
        let id = put(config.as_bytes());
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|layer| {
                json!({"mediaType": layer.media_type, "digest": put(&layer.blob).as_str(), "size": layer.blob.len()})
            })
            .collect();
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({
            "schemaVersion": 2, "mediaType": kind, "layers": layers,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json", "digest": id.as_str(), "size": config.len(),
            },
        });
        let manifest = manifest.to_string();
        let digest = put(manifest.as_bytes());
        let index = json!({"schemaVersion": 2, "manifests": [{
            "mediaType": kind, "digest": digest.as_str(), "size": manifest.len(), "platform": platform,
            "annotations": {"org.opencontainers.image.ref.name": "it"},
        }]});
        fs::write(folder.path().join("index.json"), index.to_string()).unwrap();
        fs::write(folder.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let layers = self.layers.iter().map(|layer| Digest::of(&layer.blob)).collect();
        Layout { folder, manifest: digest, id, layers, diff_ids }
    }
}

impl Layout {
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Copies it with skopeo, to a place as skopeo has it.
    pub(super) fn copy_to(&self, place: &str) {
        let from = format!("oci:{}:it", self.path().display());
        // What `docker save` writes is never compressed.
        let preserve = if place.starts_with("oci") { "--preserve-digests" } else { "--quiet" };
        let _ = skopeo().args(["copy", "--quiet", preserve, &from, place]).run().success();
    }
}

/// One image, as `images --format json` shows it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Row {
    pub(super) repository: Option<String>,
    pub(super) tag: Option<String>,
    #[serde(rename = "ID")]
    pub(super) id: String,
    pub(super) digest: Option<String>,
    pub(super) platform: Option<String>,
    pub(super) created: Option<String>,
    pub(super) size: u64,
    pub(super) layers: usize,
    pub(super) used_by: Vec<String>,
}

/// The images that are here, also those without a name.
#[track_caller]
pub(super) fn rows(stack: &Stack) -> Vec<Row> {
    let output = stack.run(&["images", "--all", "--format", "json"]).success();
    serde_json::from_str(&output.stdout).unwrap_or_else(|e| panic!("{e}\n{output}"))
}

/// Their names, without those that have none.
#[track_caller]
pub(super) fn names(stack: &Stack) -> Vec<String> {
    rows(stack).into_iter().filter_map(|row| Some(format!("{}:{}", row.repository?, row.tag?))).collect()
}

/// A path in the store.
pub(super) fn store(stack: &Stack, path: &str) -> PathBuf {
    stack.home().join("data/v1/images").join(path)
}

/// What is in a folder of the store, sorted.
pub(super) fn listed(stack: &Stack, folder: &str) -> Vec<String> {
    let entries = fs::read_dir(store(stack, folder)).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Everything in the store is as it should be.
#[track_caller]
pub(super) fn assert_whole(stack: &Stack) -> Output {
    stack.run(&["images", "--check"]).success().stderr_has("are what they should be")
}

/// There is no image at all, and nothing of one.
#[track_caller]
pub(super) fn assert_nothing_kept(stack: &Stack) {
    let _ = stack.run(&["image", "prune"]).success();
    for folder in ["names", "blobs", "layers", "partial", "unpacking"] {
        assert_eq!(listed(stack, folder), [""; 0], "{folder}");
    }
}
