//! An image that a test writes itself, a store to pull it to, and a client.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use nscompose::{
    image::{
        registry::{Access, Patience, Registry, RegistryError, RegistryEvent, RegistrySettings, download},
        store::{Begun, BlobWriter, Store, StoreError},
    },
    model::{Digest, ImageName},
};

/// Longest that a test may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs an asynchronous test, and gives up on it after a while.
#[track_caller]
pub(super) fn wait<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(LIMIT, test).await }).expect("the test ends")
}

/// Bytes that look like nothing and are the same each time.
pub(super) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// An image of one layer in an OCI layout, under the name `it`.
pub(super) struct Layout {
    pub(super) folder: tempfile::TempDir,
    pub(super) layer: Vec<u8>,
    pub(super) manifest: Vec<u8>,
}

impl Layout {
    pub(super) fn new(layer_size: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let blobs = folder.path().join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        let put = |bytes: &[u8]| {
            let digest = Digest::of(bytes);
            fs::write(blobs.join(digest.hex()), bytes).unwrap();
            digest
        };
        // Nothing here looks into a layer.
        let layer = noise(layer_size);
        let layer_digest = put(&layer);
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{layer_digest}"]}}}}"#
        );
        let config_digest = put(config.as_bytes());
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config_digest}","size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{layer_digest}","size":{layer_size}}}]}}"#,
            config.len()
        );
        let digest = put(manifest.as_bytes());
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":{},"annotations":{{"org.opencontainers.image.ref.name":"it"}}}}]}}"#,
            manifest.len()
        );
        fs::write(folder.path().join("index.json"), index).unwrap();
        fs::write(folder.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self { folder, layer, manifest: manifest.into_bytes() }
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.folder.path().join("blobs/sha256").join(digest.hex())
    }

    pub(super) fn layer_digest(&self) -> Digest {
        Digest::of(&self.layer)
    }
}

/// A client and a store.
pub(super) struct Client {
    pub(super) registry: Registry,
    pub(super) folder: tempfile::TempDir,
    events: Arc<Mutex<Vec<RegistryEvent>>>,
}

impl Client {
    pub(super) fn new(settings: &str) -> Self {
        Self::with(settings, |_, _| {})
    }

    /// `more` gets the client's own folder.
    pub(super) fn with(settings: &str, more: impl FnOnce(&mut Access, &Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.yaml");
        fs::write(&file, settings).unwrap();
        let mut access = Access {
            settings: RegistrySettings::load(&[file]).unwrap_or_else(|e| panic!("{e}")),
            patience: Patience {
                connect: Duration::from_secs(5),
                silence: Duration::from_secs(1),
                attempts: 4,
                pause: Duration::from_millis(10),
            },
            ..Access::default()
        };
        more(&mut access, folder.path());
        let events = Arc::new(Mutex::new(Vec::new()));
        let told = events.clone();
        let registry = Registry::new(access, move |event| told.lock().unwrap().push(event));
        Self { registry, folder, events }
    }

    pub(super) fn events(&self) -> Vec<String> {
        self.events.lock().unwrap().iter().map(ToString::to_string).collect()
    }

    pub(super) fn writer(&self, digest: &Digest) -> BlobWriter {
        let store = self.store();
        drop(store.share().unwrap());
        match store.begin_blob(digest).unwrap() {
            Begun::Writer(writer) => writer,
            Begun::Present => panic!("it should not be there"),
        }
    }

    pub(super) fn store(&self) -> Store {
        Store::new(self.folder.path().join("images"))
    }

    /// Downloads a blob and says what the sink has seen.
    pub(super) async fn fetch(&self, image: &str, digest: &Digest, size: usize) -> Result<Vec<u8>, RegistryError> {
        let mut writer = self.writer(digest);
        let mut seen = Vec::new();
        let sink = async |bytes: bytes::Bytes| {
            seen.extend_from_slice(&bytes);
            Ok(())
        };
        download(&self.registry, &name(image), size as u64, &mut writer, sink).await?;
        writer.finish(Some(size as u64))?;
        assert_eq!(self.store().blob(digest).metadata().unwrap().len(), size as u64);
        Ok(seen)
    }
}

pub(super) fn name(image: &str) -> ImageName {
    image.parse().unwrap_or_else(|e| panic!("{e}"))
}

/// What people see: the error, what is behind it, and the hints.
pub(super) fn shown(error: &RegistryError) -> String {
    let hints: Vec<String> = error.hints().iter().map(|hint| format!("hint: {hint}\n")).collect();
    format!("{error}\n{}", hints.concat())
}

pub(super) fn is_mismatch(error: &RegistryError) -> bool {
    matches!(error, RegistryError::Store(StoreError::Mismatch { .. }))
}
