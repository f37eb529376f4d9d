//! Images to a registry: blobs first, then the manifest that names them.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use bytes::Bytes;
use reqwest::{
    Body, StatusCode, Url,
    header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION},
};

use super::{
    Registry, RegistryError,
    auth::Scope,
    client::at,
    endpoint::Endpoint,
    refusal::{self, Subject},
};
use crate::model::{Digest, ImageName};

/// How a blob has come to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It was there.
    Present,
    /// The registry took it from another repository of its own.
    Mounted,
    /// It was sent.
    Uploaded,
}

/// Files are read and sent in pieces of this size.
const PIECE: usize = 256 << 10;

impl Registry {
    /// Whether the repository of a name has a blob.
    ///
    /// # Errors
    /// When the registry does not say.
    pub async fn has_blob(&self, name: &ImageName, digest: &Digest) -> Result<bool, RegistryError> {
        let own = self.own(name.registry())?;
        self.patiently(&name.to_string(), async || has_blob(own.as_ref(), &Scope::push(name), digest).await).await
    }

    /// Brings a blob to the repository of a name, in the cheapest way: it is there, or in another repository of the same
    /// registry (`mount_from`), or is sent from a file. `progress` is called with how many bytes were sent since it was
    /// last called; when sending begins anew, with minus those sent before.
    ///
    /// # Errors
    /// When the file cannot be read or the registry does not take it.
    pub async fn push_blob(
        &self,
        name: &ImageName,
        digest: &Digest,
        file: &Path,
        mount_from: Option<&ImageName>,
        progress: impl Fn(i64) + Send + Sync + 'static,
    ) -> Result<Pushed, RegistryError> {
        let own = self.own(name.registry())?;
        let endpoint = own.as_ref();
        let other =
            mount_from.filter(|other| other.registry() == name.registry() && other.repository() != name.repository());
        let scope = Scope { mount_from: other.map(ImageName::repository), ..Scope::push(name) };
        let progress: Progress = Arc::new(progress);
        self.patiently(&format!("layer {}", digest.short()), async || {
            let sent = Arc::new(Sent { bytes: AtomicI64::new(0), progress: progress.clone() });
            let pushed = push_blob(endpoint, &scope, digest, file, &sent).await;
            if pushed.is_err() {
                sent.take_back();
            }
            pushed
        })
        .await
    }

    /// Puts a manifest or an index under a name; says its digest.
    ///
    /// # Errors
    /// When the registry does not take it.
    pub async fn push_manifest(
        &self,
        name: &ImageName,
        bytes: &[u8],
        media_type: &str,
    ) -> Result<Digest, RegistryError> {
        let own = self.own(name.registry())?;
        let endpoint = own.as_ref();
        let digest = Digest::of(bytes);
        let reference = name.tag().unwrap_or(digest.as_str());
        let path = endpoint.path(name.repository(), &format!("manifests/{reference}"));
        let scope = Scope::push(name);
        let body = Bytes::copy_from_slice(bytes);
        self.patiently(&name.to_string(), async || {
            let response = endpoint
                .send(&scope, |client, base| {
                    Ok(client.put(at(base, &path)?).header(CONTENT_TYPE, media_type).body(body.clone()))
                })
                .await?;
            match response.status().is_success() {
                true => Ok(digest.clone()),
                false => Err(refusal::of(endpoint, &scope, Subject::Image, response).await),
            }
        })
        .await
    }
}

type Progress = Arc<dyn Fn(i64) + Send + Sync>;

/// How many bytes of a body are on their way, and who wants to know.
struct Sent {
    bytes: AtomicI64,
    progress: Progress,
}

impl Sent {
    fn add(&self, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.bytes.fetch_add(count, Ordering::Relaxed);
        (self.progress)(count);
    }

    /// They were sent for nothing.
    fn take_back(&self) {
        match self.bytes.swap(0, Ordering::Relaxed) {
            0 => {}
            count => (self.progress)(-count),
        }
    }
}

async fn has_blob(endpoint: &Endpoint, scope: &Scope<'_>, digest: &Digest) -> Result<bool, RegistryError> {
    let path = endpoint.path(scope.name.repository(), &format!("blobs/{digest}"));
    let response = endpoint.send(scope, |client, base| Ok(client.head(at(base, &path)?))).await?;
    match response.status() {
        StatusCode::OK => Ok(true),
        StatusCode::NOT_FOUND => Ok(false),
        _ => Err(refusal::of(endpoint, scope, Subject::Blob(digest), response).await),
    }
}

async fn push_blob(
    endpoint: &Endpoint,
    scope: &Scope<'_>,
    digest: &Digest,
    file: &Path,
    sent: &Arc<Sent>,
) -> Result<Pushed, RegistryError> {
    if has_blob(endpoint, scope, digest).await? {
        return Ok(Pushed::Present);
    }
    let mut path = endpoint.path(scope.name.repository(), "blobs/uploads/");
    if let Some(other) = scope.mount_from {
        path.push_str(&format!("?mount={digest}&from={}", endpoint.repository(other)));
    }
    let response =
        endpoint.send(scope, |client, base| Ok(client.post(at(base, &path)?).header(CONTENT_LENGTH, 0))).await?;
    match response.status() {
        StatusCode::CREATED if scope.mount_from.is_some() => return Ok(Pushed::Mounted),
        StatusCode::ACCEPTED => {}
        _ => return Err(refusal::of(endpoint, scope, Subject::Blob(digest), response).await),
    }
    let said = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let location = upload_location(response.url(), said, digest)?;
    let failed = |source| RegistryError::File { path: file.to_owned(), source };
    let length = File::open(file).and_then(|file| file.metadata()).map_err(failed)?.len();
    let response = endpoint
        .send_long(scope, Some(&sent.bytes), |client, _| {
            // It may be asked for again, by a registry that wants a new token first.
            sent.take_back();
            let body = body(File::open(file).map_err(failed)?, length, sent.clone());
            Ok(client
                .put(location.clone())
                .header(CONTENT_TYPE, "application/octet-stream")
                // Said, since many stores do not take a body whose length is not known.
                .header(CONTENT_LENGTH, length)
                .body(body))
        })
        .await?;
    match response.status().is_success() {
        true => Ok(Pushed::Uploaded),
        false => Err(refusal::of(endpoint, scope, Subject::Blob(digest), response).await),
    }
}

/// Where the bytes go, by what the answer from `url` says: absolute or not, with a query of its own or not.
fn upload_location(url: &Url, said: Option<&str>, digest: &Digest) -> Result<Url, RegistryError> {
    let wrong = |why: &str| RegistryError::Protocol { url: Box::new(url.clone()), why: why.to_owned() };
    let location = said.ok_or_else(|| wrong("it does not say where to upload to"))?;
    let mut location = url.join(location).map_err(|_| wrong("where to upload to is no address"))?;
    // Registries behind a proxy that ends TLS call themselves http.
    if url.scheme() == "https" && location.scheme() == "http" && location.host() == url.host() {
        location.set_scheme("https").map_err(|()| wrong("where to upload to is no address"))?;
    }
    if url.scheme() == "https" && location.scheme() != "https" {
        return Err(wrong("it wants the upload to go on from HTTPS to plain HTTP"));
    }
    location.query_pairs_mut().append_pair("digest", digest.as_str());
    Ok(location)
}

/// A file as a body, piece by piece. Pieces are read in the thread of the runtime, as they are taken from the page cache in
/// general; what has grown since is left out.
fn body(file: File, length: u64, sent: Arc<Sent>) -> Body {
    let pieces = futures_util::stream::unfold(file.take(length), move |mut file| {
        let sent = sent.clone();
        async move {
            let mut piece = Vec::with_capacity(PIECE);
            let read: io::Result<usize> = (&mut file).take(PIECE as u64).read_to_end(&mut piece);
            match read {
                Ok(0) => None,
                Ok(count) => {
                    sent.add(count);
                    Some((Ok(Bytes::from(piece)), file))
                }
                Err(e) => Some((Err(e), file)),
            }
        }
    });
    Body::wrap_stream(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_does_not_leave_tls() {
        let (url, digest) = (Url::parse("https://reg.example/v2/app/blobs/uploads/").expect("one"), Digest::of(b""));
        let at = |said: &str| upload_location(&url, Some(said), &digest).map(|url| url.to_string());
        let query = format!("digest={}", digest.as_str().replace(':', "%3A"));
        assert_eq!(at("/up?a=b").ok(), Some(format!("https://reg.example/up?a=b&{query}")));
        assert_eq!(at("http://reg.example/up").ok(), Some(format!("https://reg.example/up?{query}")));
        assert_eq!(at("https://store.example/up").ok(), Some(format!("https://store.example/up?{query}")));
        assert!(at("http://store.example/up").is_err_and(|e| e.to_string().contains("plain HTTP")));
        assert!(at("ftp://store.example/up").is_err());
    }
}
