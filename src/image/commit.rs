//! A new image from an old one and what a container has changed.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::Path,
};

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    archive::Imported,
    document::{self, Configuration, Document, DocumentError},
    install::{InstallError, Installer},
    pack::{PackError, PackOptions, pack},
    store::{StoreError, Stored},
};
use crate::model::{Digest, ImageName};

/// What a container has changed, and what is said about it.
#[derive(Debug)]
pub struct Changes<'a> {
    /// Its writable layer.
    pub upper: &'a Path,
    /// How that is packed.
    pub packing: PackOptions,
    /// Who made it; kept in the configuration.
    pub author: Option<&'a str>,
    /// What it is; kept in the history.
    pub message: Option<&'a str>,
}

/// Why there is no new image.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The writable layer cannot be packed.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// The old image is not what it should be.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// It cannot be kept.
    #[error(transparent)]
    Install(#[from] InstallError),
}

impl From<StoreError> for CommitError {
    fn from(error: StoreError) -> Self {
        Self::Install(error.into())
    }
}

impl Installer {
    /// Makes an image of `base` and the changes, and lets `name` lead to it if there is one.
    ///
    /// # Errors
    /// When the changes cannot be read, or the image not be kept. Nothing is left then.
    pub fn commit(
        &self,
        base: &Stored,
        changes: &Changes<'_>,
        name: Option<&ImageName>,
    ) -> Result<Stored, CommitError> {
        let store = self.store();
        let scratch = store.scratch("commit")?;
        let blob = scratch.path().join("layer.tar.gz");
        let failed = |source| StoreError::Io { path: blob.clone(), source };
        let file = File::create(&blob).map_err(failed)?;
        let digesting = Digesting { inner: BufWriter::with_capacity(256 << 10, file), hasher: Sha256::new(), bytes: 0 };
        // The level that Docker has, too (archive.Gzip).
        let mut gzip = GzEncoder::new(digesting, Compression::default());
        let packed = pack(changes.upper, &mut gzip, &changes.packing)?;
        let mut written = gzip.finish().map_err(failed)?;
        written.flush().map_err(failed)?;
        let (digest, size) = (Digest::finish(written.hasher), written.bytes);
        let target = store.blob(&digest);
        fs::rename(&blob, &target).map_err(|source| StoreError::Io { path: target, source })?;

        let now = jiff::Timestamp::now().to_string();
        let mut config = json_of(&store.read_blob(&base.entry.id)?)?;
        config["created"] = json!(now);
        if let Some(author) = changes.author {
            config["author"] = json!(author);
        }
        push(&mut config["rootfs"]["diff_ids"], json!(packed.diff_id.as_str()));
        let mut step = json!({"created": now, "created_by": "nscompose commit"});
        if let Some(message) = changes.message {
            step["comment"] = json!(message);
        }
        push(&mut config["history"], step);
        let config = bytes_of(&config);

        let mut manifest = json_of(&store.read_blob(&base.entry.manifest)?)?;
        let docker = manifest["mediaType"].as_str().is_some_and(|kind| kind.contains("vnd.docker."));
        let media_type = match docker {
            true => "application/vnd.docker.image.rootfs.diff.tar.gzip",
            false => "application/vnd.oci.image.layer.v1.tar+gzip",
        };
        push(&mut manifest["layers"], json!({"mediaType": media_type, "digest": digest.as_str(), "size": size}));
        manifest["config"]["digest"] = json!(Digest::of(&config).as_str());
        manifest["config"]["size"] = json!(config.len());
        let manifest = bytes_of(&manifest);

        let Document::Manifest(parsed) = Document::parse(&manifest, None)? else {
            return Err(DocumentError::Foreign("an index".to_owned()).into());
        };
        let configuration = Configuration::parse(&config)?;
        let imported = Imported {
            layers: document::layers(&parsed, &configuration)?,
            platform: configuration.platform,
            id: store.write_blob(&config)?,
            manifest: store.write_blob(&manifest)?,
            names: Vec::new(),
        };
        Ok(self.install(&imported, name.map_or(&[], std::slice::from_ref), &|_| {})?)
    }
}

/// Appends to a list, which may be missing.
fn push(list: &mut Value, item: Value) {
    match list {
        Value::Array(items) => items.push(item),
        other => *other = Value::Array(vec![item]),
    }
}

fn json_of(bytes: &[u8]) -> Result<Value, DocumentError> {
    serde_json::from_slice(bytes).map_err(|e| DocumentError::Invalid { what: "image", why: e.to_string() })
}

fn bytes_of(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// Digests what is written.
struct Digesting<W> {
    inner: W,
    hasher: Sha256,
    bytes: u64,
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
