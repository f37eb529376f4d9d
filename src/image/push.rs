//! From the store to a registry.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{
    ImageEvent, LayerState,
    registry::{Pushed, Registry, RegistryError},
    store::{Store, Stored},
};
use crate::model::{Digest, ImageName};

/// So many blobs go at a time; as many as Docker's daemon sends (`max-concurrent-uploads`).
const BLOBS: usize = 5;

/// What a manifest is that says nothing of itself.
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Brings an image to the registry of `name`, blobs first: what the registry has already is not sent.
///
/// # Errors
/// When the registry does not take it, or a blob of the store cannot be read.
pub async fn push(
    registry: &Registry,
    store: &Store,
    name: &ImageName,
    stored: &Stored,
    event: &Arc<dyn Fn(ImageEvent) + Send + Sync>,
) -> Result<(), RegistryError> {
    let image = name.to_string();
    event(ImageEvent::Looking(image.clone()));
    let others = others(store, name);
    let from = |digest: &Digest| others.iter().find(|(_, has)| has.contains(digest)).map(|(other, _)| other);
    let layers = stored.layers.iter().map(|layer| (&layer.digest, layer.size));
    let blobs = layers.chain([(&stored.entry.id, 0)]);
    let all = blobs.map(|(digest, size)| blob(registry, store, name, from(digest), (digest, size), event));
    stream::iter(all).buffer_unordered(BLOBS).try_collect::<Vec<()>>().await?;
    let bytes = store.read_blob(&stored.entry.manifest)?;
    let media_type = serde_json::from_slice::<serde_json::Value>(&bytes).ok();
    let media_type =
        media_type.as_ref().and_then(|manifest| manifest.get("mediaType")?.as_str()).unwrap_or(OCI_MANIFEST);
    registry.push_manifest(name, &bytes, media_type).await?;
    event(ImageEvent::Ready { image, unchanged: false });
    Ok(())
}

/// Images of other repositories of the same registry, with their blobs: what these have need not be sent. That they are
/// there is a guess.
fn others(store: &Store, name: &ImageName) -> Vec<(ImageName, Vec<Digest>)> {
    let mut others = Vec::new();
    for entry in store.entries().unwrap_or_default() {
        let other = entry.name.clone();
        let other =
            other.filter(|other| other.registry() == name.registry() && other.repository() != name.repository());
        let (Some(other), Ok(stored)) = (other, store.open(entry)) else { continue };
        let layers = stored.layers.into_iter().map(|layer| layer.digest);
        others.push((other, layers.chain([stored.entry.id]).collect()));
    }
    others
}

async fn blob(
    registry: &Registry,
    store: &Store,
    name: &ImageName,
    from: Option<&ImageName>,
    (digest, size): (&Digest, u64),
    event: &Arc<dyn Fn(ImageEvent) + Send + Sync>,
) -> Result<(), RegistryError> {
    let image = name.to_string();
    let layer = digest.clone();
    let told = event.clone();
    let sent = AtomicI64::new(0);
    let progress = move |bytes: i64| {
        let sent = sent.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let state = LayerState::Moving(u64::try_from(sent).unwrap_or(0), size);
        told(ImageEvent::Layer { image: image.clone(), layer: layer.clone(), state });
    };
    let pushed = registry.push_blob(name, digest, &store.blob(digest), from, progress).await?;
    let state = if pushed == Pushed::Uploaded { LayerState::Done } else { LayerState::Present };
    event(ImageEvent::Layer { image: name.to_string(), layer: digest.clone(), state });
    Ok(())
}
