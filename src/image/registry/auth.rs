//! Proving who we are: passwords, and tokens that are had for them.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use reqwest::{
    Response, StatusCode, Url,
    header::{CONTENT_TYPE, HeaderValue},
};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::{
    RegistryError,
    challenge::Challenge,
    credentials::{CredentialSources, Secret, Tried},
    endpoint::{Endpoint, Way},
    refusal,
};
use crate::model::ImageName;

/// What is to be done in a repository, which is what a token is good for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'a> {
    /// The image, of which the repository counts.
    pub(super) name: &'a ImageName,
    /// Whether it is written to.
    pub(super) push: bool,
    /// Another repository of the same registry that blobs are taken from.
    pub(super) mount_from: Option<&'a str>,
}

impl Scope<'_> {
    /// Reading.
    pub(super) fn pull(name: &ImageName) -> Scope<'_> {
        Scope { name, push: false, mount_from: None }
    }

    /// Reading and writing.
    pub(super) fn push(name: &ImageName) -> Scope<'_> {
        Scope { name, push: true, mount_from: None }
    }

    /// As it stands in messages.
    pub(super) fn action(&self) -> &'static str {
        if self.push { "push to" } else { "pull from" }
    }

    /// The repository as people write it behind its registry.
    pub(super) fn repository(&self) -> String {
        match self.name.registry() {
            "docker.io" => self.name.familiar_repository(),
            _ => self.name.repository().to_owned(),
        }
    }

    /// As token servers take it.
    fn texts(&self, endpoint: &Endpoint) -> Vec<String> {
        let actions = if self.push { "pull,push" } else { "pull" };
        let own = format!("repository:{}:{actions}", endpoint.repository(self.name.repository()));
        let other = self.mount_from.map(|other| format!("repository:{}:pull", endpoint.repository(other)));
        std::iter::once(own).chain(other).collect()
    }
}

/// What is known of how to prove who we are to one server.
#[derive(Debug)]
pub(super) struct Auth {
    sources: CredentialSources,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// What it asked for last time; who asks once does so each time.
    challenges: Vec<Challenge>,
    /// Secrets by repository, since keys of credentials may have one.
    secrets: HashMap<String, (Option<Secret>, Arc<Tried>)>,
    /// What was accepted, by scope.
    tokens: HashMap<Vec<String>, Token>,
}

#[derive(Debug)]
struct Token {
    header: HeaderValue,
    expires: Option<Instant>,
}

/// What a token server answers.
#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

/// A token lives this long if its server says less or nothing (Distribution, "Token Authentication Specification").
const SHORTEST_LIFE: u64 = 60;

/// It is not used in its last seconds, which it may take to arrive.
const MARGIN: u64 = 10;

impl Auth {
    pub(super) fn new(sources: CredentialSources) -> Self {
        Self { sources, known: Mutex::default() }
    }

    /// What to show before it is asked for, if the server has asked already.
    ///
    /// # Errors
    /// When a token is needed and not given.
    pub(super) async fn known(
        &self,
        endpoint: &Endpoint,
        way: &Way,
        scope: &Scope<'_>,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let mut known = self.known.lock().await;
        if let Some(token) = known.tokens.get(&scope.texts(endpoint))
            && token.expires.is_none_or(|expires| Instant::now() < expires)
        {
            return Ok(Some(token.header.clone()));
        }
        self.obtain(&mut known, endpoint, way, scope).await
    }

    /// What to show instead of what was rejected, which is none if nothing was shown; none if there is nothing else.
    ///
    /// # Errors
    /// When a token is needed and not given.
    pub(super) async fn renew(
        &self,
        endpoint: &Endpoint,
        way: &Way,
        scope: &Scope<'_>,
        rejected: Option<&HeaderValue>,
        challenges: Vec<Challenge>,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let mut known = self.known.lock().await;
        let texts = scope.texts(endpoint);
        match known.tokens.get(&texts) {
            // Somebody else has got a new one meanwhile.
            Some(token) if Some(&token.header) != rejected => return Ok(Some(token.header.clone())),
            _ => known.tokens.remove(&texts),
        };
        known.challenges = challenges;
        let new = self.obtain(&mut known, endpoint, way, scope).await?;
        Ok(new.filter(|new| Some(new) != rejected))
    }

    /// Whom the server was told that it deals with.
    pub(super) async fn tried(&self, name: &ImageName) -> Arc<Tried> {
        let known = self.known.lock().await;
        known.secrets.get(name.repository()).map(|(_, tried)| tried.clone()).unwrap_or_default()
    }

    async fn obtain(
        &self,
        known: &mut Known,
        endpoint: &Endpoint,
        way: &Way,
        scope: &Scope<'_>,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let Some(challenge) = known.challenges.first().cloned() else { return Ok(None) };
        let (secret, tried) = self.secret(known, &endpoint.host, scope.name).await;
        let token = match challenge {
            Challenge::Basic => match secret {
                Some(Secret::Password { user, password }) => {
                    Token { header: basic(&user, &password, &endpoint.host)?, expires: None }
                }
                _ => return Ok(None),
            },
            Challenge::Bearer { realm, service } => {
                let ask = TokenRequest { endpoint, way, scope, realm: &realm, service: service.as_deref() };
                ask.token(secret, &tried).await?
            }
        };
        let header = token.header.clone();
        known.tokens.insert(scope.texts(endpoint), token);
        Ok(Some(header))
    }

    async fn secret(&self, known: &mut Known, host: &str, name: &ImageName) -> (Option<Secret>, Arc<Tried>) {
        if let Some((secret, tried)) = known.secrets.get(name.repository()) {
            return (secret.clone(), tried.clone());
        }
        let (sources, host, image) = (self.sources.clone(), host.to_owned(), name.clone());
        // A helper may wait for somebody to unlock a keyring.
        let found = tokio::task::spawn_blocking(move || sources.find(&host, &image)).await;
        let (secret, tried) = found.unwrap_or_default();
        let found = (secret, Arc::new(tried));
        known.secrets.insert(name.repository().to_owned(), found.clone());
        found
    }
}

fn basic(user: &str, password: &str, host: &str) -> Result<HeaderValue, RegistryError> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    header(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))), host)
}

fn header(text: &str, host: &str) -> Result<HeaderValue, RegistryError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| RegistryError::Client {
        registry: host.to_owned(),
        why: "its token has line breaks".to_owned(),
    })?;
    // Kept out of logs.
    value.set_sensitive(true);
    Ok(value)
}

/// Asking for a token.
struct TokenRequest<'a> {
    endpoint: &'a Endpoint,
    way: &'a Way,
    scope: &'a Scope<'a>,
    realm: &'a str,
    service: Option<&'a str>,
}

impl TokenRequest<'_> {
    async fn token(&self, secret: Option<Secret>, tried: &Arc<Tried>) -> Result<Token, RegistryError> {
        let wrong = |why: String| RegistryError::Protocol { url: Box::new(self.way.base.clone()), why };
        let url = Url::parse(self.realm)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"))
            .ok_or_else(|| wrong(format!("it sends us to `{}` for a token", self.realm)))?;
        if secret.is_some() && self.way.trusted && url.scheme() != "https" {
            return Err(wrong(format!("it wants our password to be sent unencrypted, to {url}")));
        }
        let response = self.ask(url, secret).await?;
        let url = Box::new(response.url().clone());
        if matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(RegistryError::Unauthorized {
                registry: self.endpoint.host.clone(),
                repository: self.scope.repository(),
                action: self.scope.action(),
                tried: tried.clone(),
                said_by_it: refusal::said(response).await,
            });
        }
        if !response.status().is_success() {
            return Err(refusal::other(&self.endpoint.host, tried, response).await);
        }
        let (bytes, ended) = refusal::beginning(response, LARGEST).await;
        let answer: Option<Answer> = serde_json::from_slice(&bytes).ok().filter(|_| ended);
        let Some(answer) = answer else {
            return Err(RegistryError::Protocol { url, why: "it is no token".to_owned() });
        };
        // Docker's servers say both, those of OAuth 2 the second alone.
        let Some(token) = answer.token.or(answer.access_token).filter(|token| !token.is_empty()) else {
            return Err(RegistryError::Protocol { url, why: "there is no token in it".to_owned() });
        };
        let life = answer.expires_in.unwrap_or_default().max(SHORTEST_LIFE) - MARGIN;
        Ok(Token {
            header: header(&format!("Bearer {token}"), &self.endpoint.host)?,
            expires: Instant::now().checked_add(Duration::from_secs(life)),
        })
    }

    async fn ask(&self, mut url: Url, secret: Option<Secret>) -> Result<Response, RegistryError> {
        const CLIENT: &str = "nscompose";
        let scopes = self.scope.texts(self.endpoint);
        let failed = |e: reqwest::Error| RegistryError::from_http(&e, &self.way.base);
        let request = match secret {
            Some(Secret::Identity(refresh)) => {
                // A form is written as the part of an address behind `?`.
                let mut form = self.way.base.clone();
                form.set_query(None);
                form.query_pairs_mut()
                    .append_pair("grant_type", "refresh_token")
                    .append_pair("client_id", CLIENT)
                    .append_pair("scope", &scopes.join(" "))
                    .append_pair("refresh_token", &refresh)
                    .extend_pairs(self.service.map(|service| ("service", service)));
                let body = form.query().unwrap_or_default().to_owned();
                self.way.client.post(url).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body)
            }
            other => {
                url.query_pairs_mut()
                    .extend_pairs(self.service.map(|service| ("service", service)))
                    .extend_pairs(scopes.iter().map(|scope| ("scope", scope)));
                match other {
                    Some(Secret::Password { user, password }) => {
                        url.query_pairs_mut().append_pair("account", &user).append_pair("client_id", CLIENT);
                        self.way.client.get(url).basic_auth(user, Some(password))
                    }
                    _ => self.way.client.get(url),
                }
            }
        };
        self.endpoint.execute(self.way, request.build().map_err(failed)?, None).await
    }
}

/// Tokens of some clouds have several kilobytes.
const LARGEST: usize = 256 << 10;
