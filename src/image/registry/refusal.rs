//! Making an error of an answer that is none.

use std::{sync::Arc, time::Duration};

use reqwest::{Response, StatusCode, header::RETRY_AFTER};
use serde::Deserialize;

use super::{RegistryError, auth::Scope, credentials::Tried, endpoint::Endpoint};
use crate::model::Digest;

/// What was asked for.
pub(super) enum Subject<'a> {
    /// The manifest of the image that the scope names, or something about it.
    Image,
    /// A blob.
    Blob(&'a Digest),
}

/// The error that an answer without success is.
pub(super) async fn of(
    endpoint: &Endpoint,
    scope: &Scope<'_>,
    subject: Subject<'_>,
    response: Response,
) -> RegistryError {
    let tried = endpoint.auth.tried(scope.name).await;
    let (registry, repository) = (endpoint.host.clone(), scope.repository());
    let action = scope.action();
    match response.status() {
        StatusCode::NOT_FOUND if !scope.push => match subject {
            Subject::Image => RegistryError::NotFound { name: Box::new(scope.name.clone()), tags: Vec::new() },
            Subject::Blob(digest) => RegistryError::NoBlob { registry, repository, digest: Box::new(digest.clone()) },
        },
        // A store that the registry has sent us to knows nothing of who we are, so logging in does not help.
        _ if !endpoint.is_of(response.url()) => other(&registry, &tried, response).await,
        StatusCode::UNAUTHORIZED => {
            let said_by_it = said(response).await;
            RegistryError::Unauthorized { registry, repository, action, tried, said_by_it }
        }
        StatusCode::FORBIDDEN => {
            let said_by_it = said(response).await;
            RegistryError::Forbidden { registry, repository, action, tried, said_by_it }
        }
        _ => other(&registry, &tried, response).await,
    }
}

/// One that says nothing about the image.
pub(super) async fn other(registry: &str, tried: &Arc<Tried>, response: Response) -> RegistryError {
    let status = response.status();
    if status == StatusCode::TOO_MANY_REQUESTS {
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| delay(value.to_str().ok()?));
        return RegistryError::RateLimited {
            registry: registry.to_owned(),
            retry_after,
            anonymous: tried.is_anonymous(),
            said_by_it: said(response).await,
        };
    }
    let url = Box::new(response.url().clone());
    if status.is_success() || status.is_redirection() {
        return RegistryError::Protocol { url, why: format!("status {} makes no sense here", status.as_u16()) };
    }
    RegistryError::Status { url, status: status.as_u16(), said_by_it: said(response).await }
}

/// `Retry-After`: seconds, or a date (RFC 9110, section 10.2.3).
fn delay(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text.trim()).ok()?;
    let left = date.timestamp().as_second() - jiff::Timestamp::now().as_second();
    Some(Duration::from_secs(u64::try_from(left).unwrap_or_default()))
}

/// What the server says about it, in one line.
pub(super) async fn said(response: Response) -> Option<String> {
    #[derive(Deserialize)]
    struct Envelope {
        #[serde(default)]
        errors: Vec<Said>,
        details: Option<String>,
        message: Option<String>,
    }
    #[derive(Deserialize)]
    struct Said {
        code: Option<String>,
        message: Option<String>,
    }
    let plain = response.headers().get("content-type").is_some_and(|value| value.as_bytes().starts_with(b"text/plain"));
    let (bytes, _) = beginning(response, 16 << 10).await;
    let text = match serde_json::from_slice::<Envelope>(&bytes) {
        Ok(all) => {
            let each =
                all.errors.into_iter().find_map(|said| said.message.filter(|text| !text.is_empty()).or(said.code));
            each.or(all.details).or(all.message)?
        }
        // A page of HTML says nothing in its first line.
        Err(_) if plain => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => return None,
    };
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.chars().take(300).collect())
}

/// No more time is spent on the details of an answer.
const LONGEST: Duration = Duration::from_secs(10);

/// The first bytes of an answer, and whether these are all.
pub(super) async fn beginning(mut response: Response, most: usize) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    let end = tokio::time::Instant::now() + LONGEST;
    while let Ok(Ok(Some(chunk))) = tokio::time::timeout_at(end, response.chunk()).await {
        if bytes.len() + chunk.len() > most {
            bytes.extend_from_slice(&chunk[..most - bytes.len()]);
            return (bytes, false);
        }
        bytes.extend_from_slice(&chunk);
    }
    (bytes, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_seconds_or_a_date() {
        assert_eq!(delay("120"), Some(Duration::from_secs(120)));
        assert_eq!(delay("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(delay("soon"), None);
    }
}
