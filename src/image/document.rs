//! Manifests, indexes and configurations: JSON of strangers, read with limits.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType};
use serde::Deserialize;

use super::store::StoredLayer;
use crate::model::{Digest, ImageConfig, ImageHealthcheck, Platform};

/// Manifests, indexes and configurations may be this large, as most registries have it (OCI Distribution Specification,
/// "Pushing Manifests").
pub const MAX_DOCUMENT: u64 = 4 << 20;

/// So many documents may lead to each other from a name to a manifest, which is the last of them.
pub const MAX_NESTED: usize = 8;

/// An image may have as many layers as overlayfs takes (OVL_MAX_STACK).
pub const MAX_LAYERS: usize = 500;

/// What a registry, or a layout, has under a name.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub enum Document {
    /// One image.
    Manifest(ImageManifest),
    /// The same image for several platforms.
    Index(ImageIndex),
}

/// Why a document is not taken.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// It is not what it should be.
    #[error("the {what} is not valid: {why}")]
    Invalid {
        /// A manifest, an index, or a configuration.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
    /// It is a kind of thing that nothing here can run.
    #[error("it is not an image that can be run but `{0}`")]
    Foreign(String),
    /// None of the platforms of the index is wanted.
    #[error("there is no image for {wanted}; there are: {}", if offered.is_empty() { "none" } else { offered.as_str() })]
    NoPlatform {
        /// What is wanted.
        wanted: Platform,
        /// What there is.
        offered: String,
    },
}

fn invalid(what: &'static str, why: impl ToString) -> DocumentError {
    DocumentError::Invalid { what, why: why.to_string() }
}

impl Document {
    /// Reads a manifest or an index; which one it is, the document itself says, or else `media_type`.
    ///
    /// # Errors
    /// When it is neither, or of Docker's first schema.
    pub fn parse(bytes: &[u8], media_type: Option<&str>) -> Result<Self, DocumentError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Head {
            media_type: Option<String>,
            schema_version: Option<u32>,
            #[serde(default)]
            manifests: Option<serde::de::IgnoredAny>,
            #[serde(default)]
            config: Option<serde::de::IgnoredAny>,
        }
        let head: Head = serde_json::from_slice(bytes).map_err(|e| invalid("manifest", e))?;
        if head.schema_version == Some(1) {
            return Err(DocumentError::Foreign("a manifest of Docker's old schema 1".to_owned()));
        }
        let media_type = head.media_type.as_deref().or(media_type);
        let index = match media_type.map(MediaType::from) {
            Some(MediaType::ImageIndex) => true,
            Some(MediaType::ImageManifest) => false,
            _ => match media_type {
                Some("application/vnd.docker.distribution.manifest.list.v2+json") => true,
                Some("application/vnd.docker.distribution.manifest.v2+json") => false,
                // Both are in use without a media type: what it has tells.
                _ if head.manifests.is_some() => true,
                _ if head.config.is_some() => false,
                other => return Err(DocumentError::Foreign(other.unwrap_or("something unknown").to_owned())),
            },
        };
        Ok(if index {
            Self::Index(serde_json::from_slice(bytes).map_err(|e| invalid("index", e))?)
        } else {
            Self::Manifest(serde_json::from_slice(bytes).map_err(|e| invalid("manifest", e))?)
        })
    }
}

/// The digest that a descriptor promises.
///
/// # Errors
/// When it is of an algorithm that is not in use.
pub fn digest_of(descriptor: &Descriptor) -> Result<Digest, DocumentError> {
    descriptor.digest().to_string().parse().map_err(|e| invalid("manifest", e))
}

/// The image of an index that serves `wanted` best.
///
/// # Errors
/// When there is none.
pub fn choose<'a>(index: &'a ImageIndex, wanted: &Platform) -> Result<&'a Descriptor, DocumentError> {
    let offered = |descriptor: &Descriptor| {
        let platform = descriptor.platform().as_ref()?;
        Platform::from_parts(
            &platform.os().to_string(),
            &platform.architecture().to_string(),
            platform.variant().as_deref(),
        )
    };
    let rated = index.manifests().iter().filter_map(|descriptor| {
        let rate = match descriptor.platform() {
            Some(_) => wanted.rates(&offered(descriptor)?)?,
            // An index of a layout often says nothing; the configuration tells.
            None => 0,
        };
        Some((rate, descriptor))
    });
    // Of equal ones the first counts.
    let best = rated.fold(None, |best: Option<(u32, &Descriptor)>, next| match best {
        Some(best) if best.0 >= next.0 => Some(best),
        _ => Some(next),
    });
    best.map(|(_, descriptor)| descriptor).ok_or_else(|| {
        let all: Vec<String> =
            index.manifests().iter().filter_map(offered).map(|platform| platform.to_string()).collect();
        DocumentError::NoPlatform { wanted: wanted.clone(), offered: all.join(", ") }
    })
}

/// What a configuration says.
#[derive(Debug)]
pub struct Configuration {
    /// What it is for; none if not for Linux.
    pub platform: Option<Platform>,
    /// When it was made (RFC 3339).
    pub created: Option<String>,
    /// Digests of the uncompressed layers, the lowest first.
    pub diff_ids: Vec<Digest>,
    /// What counts when it is run.
    pub config: ImageConfig,
}

/// Docker's addition to the configuration, in nanoseconds.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerHealthcheck {
    test: Option<Vec<String>>,
    interval: Option<u64>,
    timeout: Option<u64>,
    start_period: Option<u64>,
    start_interval: Option<u64>,
    retries: Option<u32>,
}

#[derive(Default, Deserialize)]
struct DockerExtra {
    config: Option<DockerConfig>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerConfig {
    healthcheck: Option<DockerHealthcheck>,
    shell: Option<Vec<String>>,
}

impl Configuration {
    /// Reads a configuration.
    ///
    /// # Errors
    /// When it is not one, or has in it what cannot be run.
    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        let wrong = |why: String| invalid("configuration", why);
        let all: ImageConfiguration = serde_json::from_slice(bytes).map_err(|e| wrong(e.to_string()))?;
        let extra: DockerExtra = serde_json::from_slice(bytes).map_err(|e| wrong(e.to_string()))?;
        let extra = extra.config.unwrap_or_default();
        let said = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let config = all.config().clone().unwrap_or_default();
        let mut environment = BTreeMap::new();
        for line in config.env().iter().flatten() {
            // Docker takes a name without a value for an empty one.
            let (name, value) = line.split_once('=').unwrap_or((line, ""));
            if !name.is_empty() && !line.contains('\0') {
                environment.insert(name.to_owned(), value.to_owned());
            }
        }
        let absolute =
            |text: &str| PathBuf::from(if text.starts_with('/') { text.to_owned() } else { format!("/{text}") });
        let nanoseconds = |span: Option<u64>| span.filter(|span| *span > 0).map(Duration::from_nanos);
        Ok(Self {
            platform: Platform::from_parts(
                &all.os().to_string(),
                &all.architecture().to_string(),
                all.variant().as_deref(),
            ),
            created: said(all.created()),
            diff_ids: all
                .rootfs()
                .diff_ids()
                .iter()
                .map(|text| text.parse().map_err(|e| wrong(format!("{e}"))))
                .collect::<Result<_, _>>()?,
            config: ImageConfig {
                entrypoint: config.entrypoint().clone().unwrap_or_default(),
                command: config.cmd().clone().unwrap_or_default(),
                environment,
                working_dir: said(config.working_dir()).map(|text| absolute(&text)),
                user: said(config.user()).map(|text| text.parse().map_err(|e| wrong(format!("{e}")))).transpose()?,
                volumes: config.volumes().iter().flatten().map(|text| absolute(text)).collect(),
                exposed_ports: config.exposed_ports().clone().unwrap_or_default(),
                stop_signal: said(config.stop_signal())
                    .map(|text| text.parse().map_err(|e| wrong(format!("{e}"))))
                    .transpose()?,
                labels: config.labels().iter().flatten().map(|(name, value)| (name.clone(), value.clone())).collect(),
                shell: extra.shell.unwrap_or_default(),
                healthcheck: extra.healthcheck.and_then(|health| {
                    Some(ImageHealthcheck {
                        test: health.test.filter(|test| !test.is_empty())?,
                        interval: nanoseconds(health.interval),
                        timeout: nanoseconds(health.timeout),
                        start_period: nanoseconds(health.start_period),
                        start_interval: nanoseconds(health.start_interval),
                        retries: health.retries.filter(|retries| *retries > 0),
                    })
                }),
            },
        })
    }
}

/// The layers of a manifest, each with the digest that its configuration promises of its content.
///
/// # Errors
/// When the two do not fit, or a layer is of an unknown kind.
pub fn layers(manifest: &ImageManifest, configuration: &Configuration) -> Result<Vec<StoredLayer>, DocumentError> {
    let (layers, diff_ids) = (manifest.layers(), &configuration.diff_ids);
    if layers.len() != diff_ids.len() {
        let why = format!("it has {} layers and its configuration {}", layers.len(), diff_ids.len());
        return Err(invalid("manifest", why));
    }
    if layers.len() > MAX_LAYERS {
        return Err(invalid("manifest", format!("it has {} layers; at most {MAX_LAYERS} can be shown", layers.len())));
    }
    let pairs = layers.iter().zip(diff_ids);
    pairs
        .map(|(layer, diff_id)| {
            let media_type = layer.media_type().to_string();
            let tar = media_type.contains(".layer.") || media_type.contains("diff.tar") || media_type.contains(".tar");
            if !tar || media_type.contains("encrypted") {
                return Err(DocumentError::Foreign(media_type));
            }
            Ok(StoredLayer { digest: digest_of(layer)?, size: layer.size(), media_type, diff_id: diff_id.clone() })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_in_a_configuration_say_nothing() {
        let text = r#"{"architecture": "amd64", "os": "linux", "created": null, "rootfs": {"type": "layers", "diff_ids": []},
            "config": {"Env": null, "Cmd": null, "Entrypoint": null, "Volumes": null, "ExposedPorts": null, "Labels": null,
            "OnBuild": null, "User": "", "WorkingDir": "", "StopSignal": "", "Healthcheck": {"Test": null}}}"#;
        let configuration = Configuration::parse(text.as_bytes()).expect("valid");
        assert_eq!(configuration.config, ImageConfig::default());
    }
}
