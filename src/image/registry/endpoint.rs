//! One server that has images: a registry or a mirror of it, with how it is reached.

use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{
        Once,
        atomic::{AtomicI64, AtomicU32, Ordering},
    },
    time::Duration,
};

use reqwest::{Client, Method, Request, RequestBuilder, Response, StatusCode, Url, header::AUTHORIZATION, redirect};
use tokio::sync::OnceCell;

use super::{
    Access, RegistryError,
    auth::{Auth, Scope},
    certificates::Certificates,
    challenge::Challenge,
    error::authority,
    settings::{Mirror, is_loopback},
};

/// A server. What is learned of it, such as tokens, is kept as long as this is.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// How people call it: the registry of the image's name, or host and port of a mirror.
    pub(super) host: String,
    /// What is before the repository in paths of a mirror: empty, or `proxy/`.
    prefix: String,
    /// How it may be reached, the best first.
    ways: Vec<Way>,
    /// Which of them it is.
    chosen: OnceCell<usize>,
    pub(super) auth: Auth,
    /// How long it may say nothing.
    pub(super) silence: Duration,
    faults: AtomicU32,
    proxies: Proxies,
}

/// A way to a server.
#[derive(Debug)]
pub(super) struct Way {
    /// With a `/` at the end.
    pub(super) base: Url,
    pub(super) client: Client,
    /// Whether nobody can listen or pretend to be the server.
    pub(super) trusted: bool,
}

/// Docker Hub is called otherwise than its registry (distribution/reference and moby, `registry/config.go`).
const DOCKER_HUB: &str = "registry-1.docker.io";

/// A mirror whose connections broke this often is asked no more.
const MOST_FAULTS: u32 = 3;

impl Endpoint {
    /// The registry itself.
    ///
    /// # Errors
    /// When its certificates cannot be used.
    pub(super) fn of_registry(host: &str, access: &Access) -> Result<Self, RegistryError> {
        let server = if host == "docker.io" { DOCKER_HUB } else { host };
        let schemes: &[&str] = if access.settings.is_insecure(host) { &["https", "http"] } else { &["https"] };
        Self::new(host, String::new(), server, schemes, access)
    }

    /// A mirror. Its scheme is said; how far it is trusted, `registries:` may say of its own host.
    ///
    /// # Errors
    /// When its certificates cannot be used.
    pub(super) fn of_mirror(mirror: &Mirror, access: &Access) -> Result<Self, RegistryError> {
        let url = mirror.url();
        let host = authority(url);
        let prefix = match url.path().trim_matches('/') {
            "" => String::new(),
            path => format!("{path}/"),
        };
        Self::new(&host, prefix, &host, &[url.scheme()], access)
    }

    fn new(host: &str, prefix: String, server: &str, schemes: &[&str], access: &Access) -> Result<Self, RegistryError> {
        let ca = access.settings.of(host).ca;
        let insecure = access.settings.is_insecure(host);
        let certificates = Certificates::of(host, ca.as_deref(), &access.certificates)?;
        let wrong = |why: String| RegistryError::Client { registry: host.to_owned(), why };
        let ways = schemes.iter().map(|scheme| {
            let trusted = *scheme == "https" && !insecure;
            Ok(Way {
                base: Url::parse(&format!("{scheme}://{server}/")).map_err(|e| wrong(e.to_string()))?,
                client: client(host, trusted, &certificates, access)?,
                trusted,
            })
        });
        Ok(Self {
            host: host.to_owned(),
            prefix,
            ways: ways.collect::<Result<_, RegistryError>>()?,
            chosen: OnceCell::new(),
            auth: Auth::new(access.credentials.clone()),
            silence: access.patience.silence,
            faults: AtomicU32::new(0),
            proxies: if is_loopback(host) { Proxies::default() } else { access.proxies.clone() },
        })
    }

    /// Whether an answer is of this server, and not of a store that it redirects to.
    pub(super) fn is_of(&self, url: &Url) -> bool {
        self.ways.iter().any(|way| way.base.origin() == url.origin())
    }

    /// Notes that a connection broke, which others may not.
    pub(super) fn fault(&self) {
        self.faults.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that it need not be asked again.
    pub(super) fn give_up(&self) {
        self.faults.store(MOST_FAULTS, Ordering::Relaxed);
    }

    /// Whether it need not be asked.
    pub(super) fn is_given_up(&self) -> bool {
        self.faults.load(Ordering::Relaxed) >= MOST_FAULTS
    }

    /// The path of something in a repository, without a `/` in front.
    pub(super) fn path(&self, repository: &str, rest: &str) -> String {
        format!("v2/{}{repository}/{rest}", self.prefix)
    }

    /// The repository as this server calls it.
    pub(super) fn repository(&self, repository: &str) -> String {
        format!("{}{repository}", self.prefix)
    }

    /// Finds out how it is reached, once: a server that is trusted anyway may speak TLS or not.
    async fn way(&self) -> Result<&Way, RegistryError> {
        let chosen = self.chosen.get_or_try_init(async || {
            let mut first = None;
            for (index, way) in self.ways.iter().enumerate() {
                if self.ways.len() == 1 {
                    return Ok(index);
                }
                let url = way.base.join("v2/").unwrap_or_else(|_| way.base.clone());
                match self.execute(way, Request::new(Method::GET, url), None).await {
                    Ok(_) => return Ok(index),
                    Err(error) => {
                        tracing::debug!(host = self.host, %error, "not reached this way");
                        // That it does not speak TLS says less than why it does not speak HTTP either.
                        if !matches!(first, Some(RegistryError::Connect { .. })) {
                            first = Some(error);
                        }
                    }
                }
            }
            Err(first.unwrap_or_else(|| RegistryError::Client {
                registry: self.host.clone(),
                why: "there is no way to it".to_owned(),
            }))
        });
        let index = *chosen.await?;
        self.ways.get(index).ok_or_else(|| RegistryError::Client { registry: self.host.clone(), why: String::new() })
    }

    /// Sends a request, with what proves who we are once the registry asks for it, and anew when that has expired. `build`
    /// is called for each time that it is sent.
    ///
    /// # Errors
    /// When there is no answer. A refusal is an answer too.
    pub(super) async fn send(
        &self,
        scope: &Scope<'_>,
        build: impl Fn(&Client, &Url) -> Result<RequestBuilder, RegistryError>,
    ) -> Result<Response, RegistryError> {
        self.send_long(scope, None, build).await
    }

    /// The same with a body that takes its time: see [`Self::execute`].
    ///
    /// # Errors
    /// When there is no answer.
    pub(super) async fn send_long(
        &self,
        scope: &Scope<'_>,
        pulse: Option<&AtomicI64>,
        build: impl Fn(&Client, &Url) -> Result<RequestBuilder, RegistryError>,
    ) -> Result<Response, RegistryError> {
        let way = self.way().await?;
        let mut authorization = self.auth.known(self, way, scope).await?;
        let mut renewed = false;
        loop {
            let request = build(&way.client, &way.base)?.build();
            let mut request = request.map_err(|e| RegistryError::from_http(&e, &way.base))?;
            // An upload may go on at another host, which has no business with our secrets (CVE-2020-15157). The client
            // takes the header off itself when it follows a redirection.
            if let Some(value) = authorization.as_ref().filter(|_| request.url().origin() == way.base.origin()) {
                request.headers_mut().insert(AUTHORIZATION, value.clone());
            }
            let response = self.execute(way, request, pulse).await?;
            let ours = response.url().origin() == way.base.origin();
            if response.status() != StatusCode::UNAUTHORIZED || renewed || !ours {
                return Ok(response);
            }
            let challenges = Challenge::all(response.headers());
            let Some(new) = self.auth.renew(self, way, scope, authorization.as_ref(), challenges).await? else {
                return Ok(response);
            };
            authorization = Some(new);
            renewed = true;
        }
    }

    /// Sends a request as it is and waits for the head of the answer. Of a request whose body takes its time, `pulse` is what
    /// moves meanwhile; such a registry is given longer, as it may have to copy what it got.
    pub(super) async fn execute(
        &self,
        way: &Way,
        request: Request,
        pulse: Option<&AtomicI64>,
    ) -> Result<Response, RegistryError> {
        let url = request.url().clone();
        tracing::debug!(method = %request.method(), %url, "asks");
        let after = if pulse.is_some() { self.silence.saturating_mul(10) } else { self.silence };
        let beat = || pulse.map(|pulse| pulse.load(Ordering::Relaxed));
        let mut answer = std::pin::pin!(way.client.execute(request));
        loop {
            let before = beat();
            match tokio::time::timeout(after, &mut answer).await {
                Ok(response) => {
                    return response.map_err(|e| RegistryError::from_http(&e, &url).through(&self.proxies));
                }
                Err(_) if beat() != before => {}
                Err(_) => return Err(RegistryError::Silent { url: Box::new(url), after }),
            }
        }
    }
}

fn client(host: &str, trusted: bool, certificates: &Certificates, access: &Access) -> Result<Client, RegistryError> {
    static PROVIDER: Once = Once::new();
    // The TLS library asks for one to be named when none is built in; that somebody has done so already is as good.
    PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));

    let failed = |e: reqwest::Error| {
        let mut why = e.to_string();
        let mut source = std::error::Error::source(&e);
        while let Some(error) = source {
            why = error.to_string();
            source = error.source();
        }
        RegistryError::Client { registry: host.to_owned(), why }
    };
    let mut builder = Client::builder()
        .user_agent(concat!("nscompose/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(access.patience.connect)
        .redirect(redirect::Policy::custom(|attempt| {
            let secret = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
            if attempt.previous().len() > 10 {
                attempt.error("it redirects in circles")
            } else if secret && attempt.url().scheme() != "https" {
                attempt.error("it redirects from HTTPS to plain HTTP")
            } else {
                attempt.follow()
            }
        }))
        // The environment is read by the command alone.
        .no_proxy();
    if !is_loopback(host) {
        for proxy in access.proxies.all().map_err(failed)? {
            builder = builder.proxy(proxy);
        }
    }
    builder = match trusted {
        true => builder.tls_certs_merge(certificates.roots.iter().cloned()),
        // Plain HTTP may lead to TLS elsewhere; who trusts the one need not doubt the other.
        false => builder.tls_danger_accept_invalid_certs(true),
    };
    if let Some(identity) = &certificates.identity {
        builder = builder.identity(identity.clone());
    }
    builder.build().map_err(failed)
}

/// Servers that requests go through, as `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` name them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For plain HTTP.
    pub http: Option<String>,
    /// For HTTPS.
    pub https: Option<String>,
    /// Hosts and domains that are reached without, separated by commas.
    pub none: Option<String>,
}

impl Proxies {
    fn all(&self) -> Result<Vec<reqwest::Proxy>, reqwest::Error> {
        let given = |text: &'_ Option<String>| text.clone().filter(|text| !text.is_empty());
        let without = self.none.as_deref().and_then(reqwest::NoProxy::from_string);
        let http = given(&self.http).map(reqwest::Proxy::http);
        let https = given(&self.https).map(reqwest::Proxy::https);
        http.into_iter().chain(https).map(|proxy| Ok(proxy?.no_proxy(without.clone()))).collect()
    }

    /// Which of them a request goes through, without secrets; for messages, since the client does not say it.
    pub(super) fn of(&self, url: &Url) -> Option<String> {
        let proxy = match url.scheme() {
            "https" => self.https.as_ref(),
            _ => self.http.as_ref(),
        };
        let proxy = proxy.filter(|text| !text.is_empty() && !self.leaves_out(url))?;
        let whole = if proxy.contains("://") { proxy.clone() } else { format!("http://{proxy}") };
        Url::parse(&whole).ok().map(|url| authority(&url))
    }

    /// As [`reqwest::NoProxy::from_string`] has it.
    fn leaves_out(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let address: Option<IpAddr> = host.parse().ok();
        self.none.iter().flat_map(|text| text.split(',')).map(str::trim).any(|rule| match address {
            Some(address) => {
                let within = rule.parse::<ipnet::IpNet>().is_ok_and(|net| net.contains(&address));
                rule == "*" || within || rule.parse::<IpAddr>().is_ok_and(|one| one == address)
            }
            None => {
                let domain = rule.trim_start_matches('.').to_lowercase();
                let above = host.strip_suffix(&domain);
                rule == "*" || !domain.is_empty() && above.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
        })
    }
}

/// Folders in which Docker and Podman look for certificates; those that are not there may be named too.
pub type CertificateFolders = Vec<PathBuf>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxy_of_a_request_is_known_and_has_no_secret() {
        let proxies = Proxies {
            http: Some("plain.example:3128".to_owned()),
            https: Some("http://me:secret@proxy.example:8080/".to_owned()),
            none: Some("localhost, .inner.example,10.0.0.0/8,192.0.2.1".to_owned()),
        };
        for (url, expected) in [
            ("https://quay.io/v2/", Some("proxy.example:8080")),
            ("http://quay.io/v2/", Some("plain.example:3128")),
            ("https://inner.example/", None),
            ("https://a.inner.example:5000/", None),
            ("https://winner.example/", Some("proxy.example:8080")),
            ("https://10.1.2.3/", None),
            ("https://192.0.2.1/", None),
            ("https://192.0.2.2/", Some("proxy.example:8080")),
        ] {
            assert_eq!(proxies.of(&Url::parse(url).expect("a URL")).as_deref(), expected, "{url}");
        }
        let url = Url::parse("https://quay.io/").expect("a URL");
        assert_eq!(Proxies { none: Some("*".to_owned()), ..proxies }.of(&url), None);
        assert_eq!(Proxies { https: Some(String::new()), ..Proxies::default() }.of(&url), None);
    }
}
