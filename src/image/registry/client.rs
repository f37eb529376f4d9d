//! Registries and their mirrors as one thing to ask.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use reqwest::{
    Method, Response, StatusCode, Url,
    header::{ACCEPT, ACCEPT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, RANGE},
};
use serde::Deserialize;

use super::{
    CertificateFolders, CredentialSources, Proxies, RegistryError, RegistryEvent, RegistrySettings,
    auth::Scope,
    endpoint::Endpoint,
    error::LONGEST_WAIT,
    refusal::{self, Subject},
};
use crate::{
    image::document::MAX_DOCUMENT,
    model::{Digest, ImageName},
};

/// Everything that decides how registries are talked to. Who calls has gathered it; nothing is read from the environment.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// What config.yaml says.
    pub settings: RegistrySettings,
    /// Where credentials are looked for.
    pub credentials: CredentialSources,
    /// Folders with certificates by registry: /etc/docker/certs.d, /etc/containers/certs.d, ~/.config/containers/certs.d.
    pub certificates: CertificateFolders,
    /// Servers that requests go through.
    pub proxies: Proxies,
    /// How long is waited, and how often is tried.
    pub patience: Patience,
}

/// How long is waited, and how often is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For a connection.
    pub connect: Duration,
    /// For the next byte of an answer.
    pub silence: Duration,
    /// How often something is tried that may pass by itself; each time that a download comes forward it begins anew.
    pub attempts: u32,
    /// Before the second attempt; twice as long before each further one.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            silence: Duration::from_secs(30),
            attempts: 5,
            pause: Duration::from_millis(500),
        }
    }
}

/// A manifest or an index, as it came.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// Its digest, verified.
    pub digest: Digest,
    /// What the registry says it is (`Content-Type`).
    pub media_type: Option<String>,
    /// At most [`MAX_DOCUMENT`] of them.
    pub bytes: Bytes,
}

/// All registries. Cloning it is cheap; connections and tokens are shared. It belongs to the runtime that it is used in.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    access: Access,
    events: Box<dyn Fn(RegistryEvent) + Send + Sync>,
    known: Mutex<HashMap<String, Arc<Servers>>>,
}

/// Where the images of one registry are.
struct Servers {
    mirrors: Vec<Endpoint>,
    own: Endpoint,
}

/// What a registry may have under a name, the newest kinds first.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.docker.distribution.manifest.v2+json, */*;q=0.1";

/// The digest of what the registry has under a name.
const CONTENT_DIGEST: &str = "docker-content-digest";

/// For a person to choose from after a mistake, no more is waited.
const TAGS_WITHIN: Duration = Duration::from_secs(5);

impl Registry {
    /// A client. `events` is called with what is got over on the way, from within the methods.
    pub fn new(access: Access, events: impl Fn(RegistryEvent) + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner { access, events: Box::new(events), known: Mutex::default() }))
    }

    /// How it was made.
    pub fn access(&self) -> &Access {
        &self.0.access
    }

    /// What a name leads to: a manifest or an index.
    ///
    /// # Errors
    /// When no server gives it, or what is given is too long or not what its digest says.
    pub async fn manifest(&self, name: &ImageName) -> Result<Fetched, RegistryError> {
        let ask = async || self.any_server(name, async |endpoint| manifest(endpoint, name).await).await;
        self.explain(self.patiently(&name.to_string(), ask).await, name).await
    }

    /// The digest of what a name leads to, without fetching it where the registry says it: whether there is something new.
    ///
    /// # Errors
    /// When no server says it.
    pub async fn manifest_digest(&self, name: &ImageName) -> Result<Digest, RegistryError> {
        let ask = async || {
            self.any_server(name, async |endpoint| {
                let response = ask_manifest(endpoint, name, Method::HEAD).await?;
                match said_digest(&response) {
                    Some(digest) => Ok(digest),
                    None => Ok(manifest(endpoint, name).await?.digest),
                }
            })
            .await
        };
        self.explain(self.patiently(&name.to_string(), ask).await, name).await
    }

    /// Begins to read a blob at an offset. What comes may begin before that: [`Blob::start`] says where.
    ///
    /// It is tried once; [`super::download`] goes on where something breaks.
    ///
    /// # Errors
    /// When no server gives it.
    pub async fn blob(&self, name: &ImageName, digest: &Digest, offset: u64) -> Result<Blob, RegistryError> {
        let servers = self.servers(name.registry())?;
        let (index, response, start) = self
            .any_of(&servers, name, async |endpoint, index| {
                let (response, start) = blob(endpoint, name, digest, offset).await?;
                Ok((index, response, start))
            })
            .await?;
        Ok(Blob { servers, index, response, start })
    }

    /// The whole of a blob that is a document, such as a configuration; verified.
    ///
    /// # Errors
    /// When no server gives it, or what is given is too long or not what its digest says.
    pub async fn document(&self, name: &ImageName, digest: &Digest) -> Result<Bytes, RegistryError> {
        let what = format!("document {}", digest.short());
        self.patiently(&what, async || {
            let mut blob = self.blob(name, digest, 0).await?;
            let mut bytes = Vec::new();
            while let Some(chunk) = blob.next().await? {
                if (bytes.len() + chunk.len()) as u64 > MAX_DOCUMENT {
                    return Err(RegistryError::TooLong { what: what.clone(), limit: MAX_DOCUMENT });
                }
                bytes.extend_from_slice(&chunk);
            }
            let actual = Digest::of(&bytes);
            if actual != *digest {
                let (url, expected, actual) = (blob.url().clone().into(), digest.clone().into(), actual.into());
                return Err(RegistryError::WrongDigest { url, expected, actual });
            }
            Ok(bytes.into())
        })
        .await
    }

    /// The registry itself, which alone is written to.
    pub(super) fn own(&self, registry: &str) -> Result<impl AsRef<Endpoint>, RegistryError> {
        struct Own(Arc<Servers>);
        impl AsRef<Endpoint> for Own {
            fn as_ref(&self) -> &Endpoint {
                &self.0.own
            }
        }
        self.servers(registry).map(Own)
    }

    /// Tells what was got over.
    pub(super) fn tell(&self, event: RegistryEvent) {
        tracing::warn!("{event}");
        (self.0.events)(event);
    }

    /// How long to wait before the attempt after `failures` of them; the registry's own wish counts.
    pub(super) fn pause(&self, failures: u32, error: &RegistryError) -> Duration {
        const LONGEST: Duration = Duration::from_secs(10);
        let doubled = self.0.access.patience.pause.saturating_mul(1 << failures.saturating_sub(1).min(10));
        error.retry_after().unwrap_or(Duration::ZERO).min(LONGEST_WAIT).max(doubled.min(LONGEST))
    }

    /// Tries again what may pass by itself.
    pub(super) async fn patiently<T>(
        &self,
        what: &str,
        attempt: impl AsyncFn() -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let of = self.0.access.patience.attempts;
        let mut failures = 0;
        loop {
            let error = match attempt().await {
                Ok(found) => return Ok(found),
                Err(error) => error,
            };
            failures += 1;
            if failures >= of || !error.is_transient() {
                return Err(error);
            }
            let after = self.pause(failures, &error);
            self.tell(RegistryEvent::Retry {
                what: what.to_owned(),
                why: error.to_string(),
                after,
                attempt: failures + 1,
                of,
            });
            tokio::time::sleep(after).await;
        }
    }

    async fn any_server<T>(
        &self,
        name: &ImageName,
        ask: impl AsyncFn(&Endpoint) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let servers = self.servers(name.registry())?;
        self.any_of(&servers, name, async |endpoint, _| ask(endpoint).await).await
    }

    /// Asks the mirrors in their order and then the registry itself, whose number is that after the last mirror's.
    async fn any_of<T>(
        &self,
        servers: &Servers,
        name: &ImageName,
        ask: impl AsyncFn(&Endpoint, usize) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        for (index, mirror) in servers.mirrors.iter().enumerate().filter(|(_, mirror)| !mirror.is_given_up()) {
            match ask(mirror, index).await {
                Ok(found) => return Ok(found),
                // A mirror need not have everything.
                Err(error) if error.is_absence() => tracing::debug!(mirror = mirror.host, %error, "not there"),
                Err(error) => {
                    mirror.give_up();
                    self.tell(RegistryEvent::MirrorFailed {
                        mirror: mirror.host.clone(),
                        registry: name.registry().to_owned(),
                        why: error.to_string(),
                    });
                }
            }
        }
        ask(&servers.own, servers.mirrors.len()).await
    }

    fn servers(&self, registry: &str) -> Result<Arc<Servers>, RegistryError> {
        let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(servers) = known.get(registry) {
            return Ok(servers.clone());
        }
        let access = &self.0.access;
        let mut mirrors = Vec::new();
        for mirror in access.settings.of(registry).mirrors {
            mirrors.push(Endpoint::of_mirror(&mirror, access)?);
        }
        let servers = Arc::new(Servers { mirrors, own: Endpoint::of_registry(registry, access)? });
        known.insert(registry.to_owned(), servers.clone());
        Ok(servers)
    }

    /// Adds to "not found" what there is instead.
    async fn explain<T>(&self, found: Result<T, RegistryError>, name: &ImageName) -> Result<T, RegistryError> {
        match found {
            Err(RegistryError::NotFound { name: missing, .. }) => {
                let tags = match name.digest() {
                    None => tokio::time::timeout(TAGS_WITHIN, self.tags(name)).await.unwrap_or_default(),
                    Some(_) => Vec::new(),
                };
                Err(RegistryError::NotFound { name: missing, tags })
            }
            other => other,
        }
    }

    /// The tags of a repository, as far as the registry tells; none where it does not.
    async fn tags(&self, name: &ImageName) -> Vec<String> {
        #[derive(Deserialize)]
        struct Tags {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let Ok(servers) = self.servers(name.registry()) else { return Vec::new() };
        let path = servers.own.path(name.repository(), "tags/list?n=1000");
        let scope = Scope::pull(name);
        let asked = servers.own.send(&scope, |client, base| Ok(client.get(at(base, &path)?)));
        let Ok(response) = asked.await else { return Vec::new() };
        if !response.status().is_success() {
            return Vec::new();
        }
        let (bytes, _) = refusal::beginning(response, 1 << 20).await;
        let mut tags = serde_json::from_slice::<Tags>(&bytes).ok().and_then(|tags| tags.tags).unwrap_or_default();
        tags.sort();
        tags
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("access", &self.0.access).finish_non_exhaustive()
    }
}

/// A path of a server.
pub(super) fn at(base: &Url, path: &str) -> Result<Url, RegistryError> {
    base.join(path).map_err(|e| RegistryError::Protocol { url: Box::new(base.clone()), why: format!("`{path}`: {e}") })
}

async fn ask_manifest(endpoint: &Endpoint, name: &ImageName, method: Method) -> Result<Response, RegistryError> {
    let reference = name.digest().map(Digest::as_str).or(name.tag()).unwrap_or("latest");
    let path = endpoint.path(name.repository(), &format!("manifests/{reference}"));
    let scope = Scope::pull(name);
    let response = endpoint
        .send(&scope, |client, base| Ok(client.request(method.clone(), at(base, &path)?).header(ACCEPT, MANIFESTS)))
        .await?;
    if response.status() == StatusCode::OK {
        return Ok(response);
    }
    Err(refusal::of(endpoint, &scope, Subject::Image, response).await)
}

/// What a registry says in a header; other algorithms than ours say nothing to us.
fn said_digest(response: &Response) -> Option<Digest> {
    response.headers().get(CONTENT_DIGEST)?.to_str().ok()?.trim().parse().ok()
}

async fn manifest(endpoint: &Endpoint, name: &ImageName) -> Result<Fetched, RegistryError> {
    let response = ask_manifest(endpoint, name, Method::GET).await?;
    let url = Box::new(response.url().clone());
    let media_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(|text| {
        // It may come with a character set.
        text.split(';').next().unwrap_or_default().trim().to_owned()
    });
    let promised = name.digest().cloned().or_else(|| said_digest(&response));
    let too_long = || RegistryError::TooLong { what: format!("the manifest of `{name}`"), limit: MAX_DOCUMENT };
    if response.content_length().is_some_and(|length| length > MAX_DOCUMENT) {
        return Err(too_long());
    }
    let mut bytes = Vec::new();
    let mut response = response;
    while let Some(chunk) = next(&mut response, endpoint.silence).await? {
        if (bytes.len() + chunk.len()) as u64 > MAX_DOCUMENT {
            return Err(too_long());
        }
        bytes.extend_from_slice(&chunk);
    }
    let digest = Digest::of(&bytes);
    match promised {
        Some(expected) if expected != digest => {
            Err(RegistryError::WrongDigest { url, expected: Box::new(expected), actual: Box::new(digest) })
        }
        _ => Ok(Fetched { digest, media_type, bytes: bytes.into() }),
    }
}

async fn next(response: &mut Response, silence: Duration) -> Result<Option<Bytes>, RegistryError> {
    match tokio::time::timeout(silence, response.chunk()).await {
        Ok(Ok(chunk)) => Ok(chunk),
        Ok(Err(e)) => Err(RegistryError::from_http(&e, response.url())),
        Err(_) => Err(RegistryError::Silent { url: Box::new(response.url().clone()), after: silence }),
    }
}

/// A blob from an offset on, and where it begins.
async fn blob(
    endpoint: &Endpoint,
    name: &ImageName,
    digest: &Digest,
    offset: u64,
) -> Result<(Response, u64), RegistryError> {
    let path = endpoint.path(name.repository(), &format!("blobs/{digest}"));
    let scope = Scope::pull(name);
    let ask = async |offset: u64| {
        endpoint
            .send(&scope, |client, base| {
                // Some proxies would compress what is compressed already, and offsets would be those of another thing.
                let request = client.get(at(base, &path)?).header(ACCEPT_ENCODING, "identity");
                Ok(if offset == 0 { request } else { request.header(RANGE, format!("bytes={offset}-")) })
            })
            .await
    };
    let mut response = ask(offset).await?;
    if response.status() == StatusCode::RANGE_NOT_SATISFIABLE && offset > 0 {
        response = ask(0).await?;
    }
    match response.status() {
        StatusCode::OK => Ok((response, 0)),
        StatusCode::PARTIAL_CONTENT => {
            let start = response.headers().get(CONTENT_RANGE).and_then(|value| range_start(value.to_str().ok()?));
            // A server that does not say where has done as it was told.
            let start = start.unwrap_or(offset);
            if start > offset {
                let url = Box::new(response.url().clone());
                return Err(RegistryError::Protocol {
                    url,
                    why: format!("asked for bytes from {offset} on, it gives those from {start} on"),
                });
            }
            Ok((response, start))
        }
        _ => Err(refusal::of(endpoint, &scope, Subject::Blob(digest), response).await),
    }
}

/// Of `bytes 5-9/10`.
fn range_start(text: &str) -> Option<u64> {
    text.trim().strip_prefix("bytes")?.trim_start().split('-').next()?.trim().parse().ok()
}

/// A blob that is being read.
pub struct Blob {
    servers: Arc<Servers>,
    index: usize,
    response: Response,
    start: u64,
}

impl Blob {
    /// The offset of the first byte that comes: that which was asked for, or less from a server that knows no ranges.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// How many bytes come in all, if the server says so.
    pub fn length(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// Where it comes from; not necessarily where it was asked for.
    pub fn url(&self) -> &Url {
        self.response.url()
    }

    /// The next bytes; none at the end.
    ///
    /// # Errors
    /// When the connection breaks, or nothing comes for too long.
    pub async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        let endpoint = self.servers.mirrors.get(self.index).unwrap_or(&self.servers.own);
        let next = next(&mut self.response, endpoint.silence).await;
        if next.is_err() {
            endpoint.fault();
        }
        next
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blob").field("url", self.url()).field("start", &self.start).finish_non_exhaustive()
    }
}
