//! What a registry asks of those it does not know: the header `WWW-Authenticate` (RFC 9110, section 11.6.1).

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// One way of proving who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A name and a password with each request.
    Basic,
    /// A token that another server gives (Distribution, "Token Authentication Specification").
    Bearer {
        /// The address of that server.
        realm: String,
        /// How the registry is called there.
        service: Option<String>,
    },
}

impl Challenge {
    /// What a registry would take, what it would rather have first.
    pub(super) fn all(headers: &HeaderMap) -> Vec<Self> {
        let mut all: Vec<Self> =
            headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()).flat_map(parse).collect();
        // Where both are taken, a token is what the password is not sent around for.
        all.sort_by_key(|challenge| *challenge == Self::Basic);
        all
    }
}

/// Schemes with their parameters; one that is not known is left out.
fn parse(text: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut scheme = String::new();
    let mut parameters: Vec<(String, String)> = Vec::new();
    let mut rest = text.trim_start();
    let mut take = |scheme: &str, parameters: &[(String, String)]| {
        let of = |wanted: &str| parameters.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
        match scheme {
            "basic" => found.push(Challenge::Basic),
            "bearer" => {
                found.extend(of("realm").map(|realm| Challenge::Bearer { realm, service: of("service") }));
            }
            _ => {}
        }
    };
    while !rest.is_empty() {
        let end = rest.find(|c: char| c == '=' || c == ',' || c.is_whitespace()).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        let word = word.to_ascii_lowercase();
        if let Some(value) = behind.strip_prefix('=') {
            let (value, behind) = value_of(value);
            parameters.push((word, value));
            rest = behind;
        } else {
            // A word without a value begins the next scheme.
            if !word.is_empty() {
                take(&scheme, &parameters);
                scheme = word;
                parameters.clear();
            }
            rest = behind;
        }
        rest = rest.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
    }
    take(&scheme, &parameters);
    found
}

/// A token or a quoted string, and what is behind it.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| c == ',' || c.is_whitespace()).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_of_known_registries_are_understood() {
        let bearer = |realm: &str, service: Option<&str>| Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
        };
        for (text, wanted) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/nginx:pull""#,
                vec![bearer("https://auth.docker.io/token", Some("registry.docker.io"))],
            ),
            (r#"Basic realm="Registry Realm""#, vec![Challenge::Basic]),
            (r#"basic"#, vec![Challenge::Basic]),
            (r#"Basic realm="a, b", Bearer realm=https://x/t"#, vec![Challenge::Basic, bearer("https://x/t", None)]),
            (r#"Negotiate, Bearer realm="\"q\"" , service = x"#, vec![bearer("\"q\"", None)]),
            (r#"Bearer service="x""#, vec![]),
            (r#"Bearer realm="never closed"#, vec![bearer("never closed", None)]),
            ("", vec![]),
            (" ,,= =,\"", vec![]),
        ] {
            assert_eq!(parse(text), wanted, "{text}");
        }
    }
}
