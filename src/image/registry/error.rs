//! Why a registry does not give, or take, an image.

use std::{error::Error, io, path::PathBuf, sync::Arc, time::Duration};

use reqwest::Url;

use super::{credentials::Tried, endpoint::Proxies};
use crate::{
    diagnostics::{Failure, FailureKind, suggest},
    image::store::StoreError,
    model::{Digest, ImageName},
};

/// What can go wrong between here and a registry. [`RegistryError::hints`] says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The registry has no such image (404).
    #[error("there is no image `{name}`: {}", absence(name, tags))]
    NotFound {
        /// Which one.
        name: Box<ImageName>,
        /// The tags that the repository has; none if it has told none.
        tags: Vec<String>,
    },
    /// A manifest names content that the registry does not have (404).
    #[error("{registry} does not have {digest}, which an image in `{repository}` consists of")]
    NoBlob {
        /// The registry.
        registry: String,
        /// The repository.
        repository: String,
        /// What is missing.
        digest: Box<Digest>,
    },
    /// It wants to know who asks, or does not believe it (401).
    #[error("{registry} does not let {tried} {action} `{repository}`{}", said(said_by_it))]
    Unauthorized {
        /// The registry.
        registry: String,
        /// The repository.
        repository: String,
        /// `pull from` or `push to`.
        action: &'static str,
        /// Who was said to ask.
        tried: Arc<Tried>,
        /// What the registry said.
        said_by_it: Option<String>,
    },
    /// It knows who asks and refuses (403).
    #[error("{registry} refuses {tried} to {action} `{repository}`{}", said(said_by_it))]
    Forbidden {
        /// The registry.
        registry: String,
        /// The repository.
        repository: String,
        /// `pull from` or `push to`.
        action: &'static str,
        /// Who was said to ask.
        tried: Arc<Tried>,
        /// What the registry said.
        said_by_it: Option<String>,
    },
    /// Too many requests (429).
    #[error("{registry} takes no more requests for now{}{}", again(retry_after), said(said_by_it))]
    RateLimited {
        /// The registry.
        registry: String,
        /// When it will, from the moment of the answer on (`Retry-After`).
        retry_after: Option<Duration>,
        /// Whether credentials were shown.
        anonymous: bool,
        /// What the registry said.
        said_by_it: Option<String>,
    },
    /// Any other answer that is no success.
    #[error("{} answers {status}{}", bare(url), said(said_by_it))]
    Status {
        /// What was asked for.
        url: Box<Url>,
        /// The status of HTTP.
        status: u16,
        /// What the registry said.
        said_by_it: Option<String>,
    },
    /// The two sides do not agree on how to keep a secret.
    #[error("no trusted connection to {}: {why}", bare(url))]
    Tls {
        /// What was asked for.
        url: Box<Url>,
        /// What is wrong with the certificate, or that there is none.
        why: String,
        /// Which kind of mistake it is.
        kind: TlsMistake,
    },
    /// Nobody listens, the network is down, the name is not known.
    #[error("cannot connect to {}{}: {why}", bare(url), through(proxy))]
    Connect {
        /// What was asked for.
        url: Box<Url>,
        /// The proxy that it was to go through, as host and port.
        proxy: Option<String>,
        /// What the kernel or the resolver said.
        why: String,
    },
    /// Nothing came for too long.
    #[error("{} has been silent for {} s", bare(url), after.as_secs())]
    Silent {
        /// What was asked for.
        url: Box<Url>,
        /// How long it was waited for.
        after: Duration,
    },
    /// The connection was there and broke.
    #[error("the connection to {} broke: {why}", bare(url))]
    Broken {
        /// What was asked for.
        url: Box<Url>,
        /// How it broke.
        why: String,
    },
    /// The answer is not what the protocol has.
    #[error("{} answers what no registry should: {why}", bare(url))]
    Protocol {
        /// What was asked for.
        url: Box<Url>,
        /// What is wrong with it.
        why: String,
    },
    /// A manifest is not the one that its digest names.
    #[error("{} gave content with digest {actual} instead of {expected}", bare(url))]
    WrongDigest {
        /// What was asked for.
        url: Box<Url>,
        /// What was asked for, or promised by the registry.
        expected: Box<Digest>,
        /// What came.
        actual: Box<Digest>,
    },
    /// A document or a layer is larger than what is taken.
    #[error("{what} has more than {limit} bytes")]
    TooLong {
        /// Which.
        what: String,
        /// How many bytes are taken.
        limit: u64,
    },
    /// A layer is larger than what the settings allow.
    #[error("layer {digest} has {size} bytes; the settings allow {limit}")]
    LayerTooLarge {
        /// Which.
        digest: Box<Digest>,
        /// How many it says to have.
        size: u64,
        /// How many may be.
        limit: u64,
    },
    /// A certificate of the settings cannot be used.
    #[error("cannot use the certificates of {}: {why}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// No client could be made of the settings.
    #[error("cannot talk to {registry}: {why}")]
    Client {
        /// The registry.
        registry: String,
        /// What is wrong.
        why: String,
    },
    /// A file that is to be pushed.
    #[error("cannot read {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// What came cannot be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Who was to get the bytes did not take them.
    #[error("what was downloaded cannot be worked on")]
    Sink(#[source] io::Error),
}

/// What is wrong with a connection that should be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMistake {
    /// The other side speaks plain HTTP.
    Plain,
    /// Nobody who is trusted has signed the certificate.
    UnknownIssuer,
    /// The certificate is somebody else's, or not valid any more, and the like.
    Other,
}

/// An address without what may be a secret in it: registries send us to stores with a signature behind the `?` that lets
/// everybody read who has it, and what is said here ends up in logs.
fn bare(url: &Url) -> Url {
    let mut url = url.clone();
    url.set_query(None);
    // It fails only for addresses that have no host.
    let _ = (url.set_username(""), url.set_password(None));
    url
}

fn absence(name: &ImageName, tags: &[String]) -> String {
    let repository = name.familiar_repository();
    match (name.tag(), tags.is_empty()) {
        (Some(tag), false) => format!("`{repository}` has no tag `{tag}`"),
        _ => format!("{} does not know it", name.registry()),
    }
}

fn through(proxy: &Option<String>) -> String {
    proxy.as_ref().map(|proxy| format!(" through the proxy `{proxy}`")).unwrap_or_default()
}

fn said(text: &Option<String>) -> String {
    text.as_ref().map(|text| format!(": {text}")).unwrap_or_default()
}

fn again(after: &Option<Duration>) -> String {
    after.map(|after| format!(", but again in {} s", after.as_secs())).unwrap_or_default()
}

impl RegistryError {
    /// What a person can do about it, the most likely first.
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::NotFound { name, tags } => missing(name, tags),
            Self::Unauthorized { registry, repository, tried, .. } => {
                let mut hints = tried.problems();
                if tried.is_anonymous() {
                    // Docker Hub and others do not tell strangers what there is.
                    hints.push(format!(
                        "is `{repository}` spelled right? Many registries say the same of what they do not have"
                    ));
                }
                hints.push(format!("log in: `docker login {registry}` or `podman login {registry}`"));
                hints
            }
            Self::Forbidden { registry, tried, .. } => {
                let mut hints = tried.problems();
                hints.push(format!("log in as somebody who may: `docker login {registry}`"));
                hints
            }
            Self::RateLimited { registry, anonymous: true, .. } => vec![
                format!("those who log in may do more: `docker login {registry}`"),
                format!("or name a mirror in config.yaml: `registries: {{{registry}: {{mirrors: [https://…]}}}}`"),
            ],
            Self::Tls { url, kind, .. } => {
                let host = authority(url);
                let insecure = format!("registries: {{\"{host}\": {{insecure: true}}}}");
                match kind {
                    TlsMistake::Plain => {
                        vec![format!("if it is meant to be plain HTTP, say so in config.yaml: `{insecure}`")]
                    }
                    TlsMistake::UnknownIssuer => vec![
                        format!(
                            "name the certificate of who signed it in config.yaml: `registries: {{\"{host}\": {{ca: /path/ca.pem}}}}`"
                        ),
                        format!("or trust whoever answers: `{insecure}`"),
                    ],
                    TlsMistake::Other => vec![format!("to trust whoever answers, say in config.yaml: `{insecure}`")],
                }
            }
            Self::NoBlob { .. } => {
                vec!["a layer that the image says to be somewhere else (`urls`) is not fetched from there".to_owned()]
            }
            Self::Connect { proxy: Some(_), .. } => vec![
                "is the proxy right? It is that of HTTPS_PROXY or HTTP_PROXY; NO_PROXY names what is reached without it"
                    .to_owned(),
            ],
            Self::Connect { proxy: None, .. } => {
                vec!["is the name of the registry right, and is the network up?".to_owned()]
            }
            Self::LayerTooLarge { .. } => {
                vec!["if that is as it should be, raise `limits: {max_layer_size: …}` in config.yaml".to_owned()]
            }
            Self::Store(StoreError::Mismatch { .. } | StoreError::Size { .. }) => {
                vec!["what came was thrown away; try again".to_owned()]
            }
            _ => Vec::new(),
        }
    }

    /// Whether the same request may well succeed a moment later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Silent { .. } | Self::Broken { .. } => true,
            // Somebody who is told to wait for hours is told so.
            Self::RateLimited { retry_after, .. } => retry_after.is_none_or(|after| after <= LONGEST_WAIT),
            Self::Status { status, .. } => matches!(status, 408 | 500 | 502..=504),
            _ => false,
        }
    }

    /// How long the registry wants to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether it says that the thing is not there, and not that something is wrong.
    pub(super) fn is_absence(&self) -> bool {
        matches!(self, Self::NotFound { .. } | Self::NoBlob { .. })
    }

    /// From an error of the HTTP client.
    pub(super) fn from_http(error: &reqwest::Error, url: &Url) -> Self {
        let url = Box::new(error.url().unwrap_or(url).clone());
        if let Some((kind, why)) = tls_mistake(error) {
            return Self::Tls { url, why, kind };
        }
        let why = innermost(error);
        if error.is_redirect() || error.is_builder() {
            return Self::Protocol { url, why };
        }
        if error.is_timeout() {
            return Self::Connect { url, proxy: None, why: "nobody answers".to_owned() };
        }
        if error.is_connect() { Self::Connect { url, proxy: None, why } } else { Self::Broken { url, why } }
    }

    /// The same, with the proxy that a connection was to go through.
    pub(super) fn through(self, proxies: &Proxies) -> Self {
        match self {
            Self::Connect { url, why, .. } => Self::Connect { proxy: proxies.of(&url), url, why },
            other => other,
        }
    }
}

/// With its hints. A certificate that cannot be read is a mistake of the settings.
impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        let kind = match &error {
            RegistryError::Certificate { .. } => FailureKind::File,
            _ => FailureKind::Operation,
        };
        error.hints().into_iter().fold(Self::from_error(kind, &error), Self::hint)
    }
}

/// A registry that wants to be left alone for longer is not waited for.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Host and port as people write them.
pub(super) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn missing(name: &ImageName, tags: &[String]) -> Vec<String> {
    let repository = name.familiar_repository();
    let mut hints = Vec::new();
    if let (Some(tag), false) = (name.tag(), tags.is_empty()) {
        if let Some(near) = suggest(tag, tags.iter().map(String::as_str)) {
            hints.push(format!("did you mean `{repository}:{near}`?"));
        }
        const SHOWN: usize = 8;
        // In order of their names, the last are the highest numbers in most cases.
        let mut some: Vec<&str> = tags.iter().rev().take(SHOWN).map(String::as_str).collect();
        some.reverse();
        let more = if tags.len() > SHOWN { format!(" and {} more", tags.len() - SHOWN) } else { String::new() };
        hints.push(format!("it has: {}{more}", some.join(", ")));
        return hints;
    }
    if name.registry() == "docker.io" {
        hints.push("is it in another registry? Then its name begins with that, as in `ghcr.io/owner/image`".to_owned());
    }
    hints.push(format!("is `{repository}` spelled right?"));
    hints
}

/// What the TLS library has found, if it is about that.
fn tls_mistake(error: &reqwest::Error) -> Option<(TlsMistake, String)> {
    use rustls::{CertificateError as Bad, Error as Tls};
    let hung_up = |error: &(dyn Error + 'static)| {
        let io = error.downcast_ref::<io::Error>();
        // Said by the library in words alone.
        io.is_some_and(|io| io.kind() == io::ErrorKind::UnexpectedEof && io.to_string().contains("handshake"))
    };
    let Some(found) = chain(error).find_map(|error| error.downcast_ref::<Tls>()) else {
        let plain = || (TlsMistake::Plain, "it hangs up when TLS should begin".to_owned());
        return chain(error).any(hung_up).then(plain);
    };
    Some(match found {
        Tls::InvalidMessage(_) => (TlsMistake::Plain, "it does not speak TLS".to_owned()),
        Tls::InvalidCertificate(Bad::UnknownIssuer) => {
            (TlsMistake::UnknownIssuer, "nobody who is trusted here has signed its certificate".to_owned())
        }
        Tls::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            (TlsMistake::Other, "its certificate has expired".to_owned())
        }
        Tls::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
            (TlsMistake::Other, "its certificate is not valid yet; is the clock of this machine right?".to_owned())
        }
        Tls::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            (TlsMistake::Other, "its certificate is for another name".to_owned())
        }
        // OpenSSL's `req -x509` makes such by default, and servers present them.
        Tls::InvalidCertificate(Bad::Other(why)) if why.to_string().contains("CaUsedAsEndEntity") => {
            (TlsMistake::UnknownIssuer, "its certificate is one of an authority and not of a server".to_owned())
        }
        other => (TlsMistake::Other, other.to_string()),
    })
}

/// An error and all behind it. What an [`io::Error`] was made of is not its source, which is the source of that.
fn chain<'a>(error: &'a reqwest::Error) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let first: &(dyn Error + 'static) = error;
    std::iter::successors(Some(first), |error| {
        // Copied out of the reference, which does not live as long.
        let error: &'a (dyn Error + 'static) = *error;
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        }
    })
}

/// The last cause says what happened; those before only where.
fn innermost(error: &reqwest::Error) -> String {
    let last = chain(error).last().map(ToString::to_string).unwrap_or_default();
    // "(os error 111)" tells people nothing.
    match last.find(" (os error") {
        Some(at) => last[..at].to_lowercase(),
        None => last,
    }
}
