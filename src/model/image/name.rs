//! Names of images in registries.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::Digest;

/// `[REGISTRY/]REPOSITORY[:TAG][@DIGEST]` as Docker reads it: without a registry it is docker.io, a repository of one word
/// there is below `library/`, and without tag and digest the tag is `latest`. What is before the first `/` is a registry
/// if it has a `.` or a `:` in it, or is `localhost` (distribution/reference, `normalize.go`).
///
/// Parsed here and not by a library: that of oci-spec compiles a regular expression with all of Unicode for it, which costs
/// more than starting a container's worth of a millisecond, and says no more than that something is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageName {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// A text that names no image, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not the name of an image: {why}")]
pub struct InvalidImageName {
    text: String,
    why: String,
}

/// The registry of names that say none.
const DEFAULT_REGISTRY: &str = "docker.io";

impl ImageName {
    /// The registry as people write it, with its port, such as `docker.io` or `localhost:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path in the registry, such as `library/nginx`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; none only where there is a digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest of the manifest or index that is meant.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Registry and repository as people write them: docker.io and library/ left out.
    pub fn familiar_repository(&self) -> String {
        if self.registry != DEFAULT_REGISTRY {
            return format!("{}/{}", self.registry, self.repository);
        }
        self.repository.strip_prefix("library/").unwrap_or(&self.repository).to_owned()
    }

    /// The same in full, the key under which it is stored.
    pub fn canonical(&self) -> String {
        let mut text = format!("{}/{}", self.registry, self.repository);
        self.write_version(&mut text).expect("a String takes everything");
        text
    }

    /// The same repository at this digest, without a tag.
    #[must_use]
    pub fn at(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    fn write_version(&self, f: &mut impl fmt::Write) -> fmt::Result {
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

impl FromStr for ImageName {
    type Err = InvalidImageName;

    fn from_str(text: &str) -> Result<Self, InvalidImageName> {
        let wrong = |why: &str| InvalidImageName { text: text.to_owned(), why: why.to_owned() };
        let (rest, digest) = match text.split_once('@') {
            None => (text, None),
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>().map_err(|e| wrong(&e.to_string()))?)),
        };
        // A colon before a slash belongs to the port of the registry.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(wrong(
                "a tag has up to 128 letters, digits, `_`, `.` and `-`, and begins with none of the last two",
            ));
        }
        let (registry, path) = match name.split_once('/') {
            Some((first, path)) if first.contains(['.', ':']) || first == "localhost" => (first, path),
            // Docker takes an upper-case first word for a registry too, since no repository may have one.
            Some((first, path)) if first.bytes().any(|b| b.is_ascii_uppercase()) => (first, path),
            _ => (DEFAULT_REGISTRY, name),
        };
        if path.is_empty() {
            return Err(wrong("it says no repository"));
        }
        if !is_registry(registry) {
            return Err(wrong(&format!("`{registry}` is not a registry, which is a host name with or without a port")));
        }
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(wrong("a repository is written in lower case"));
        }
        if let Some(part) = path.split('/').find(|part| !is_component(part)) {
            return Err(wrong(&format!(
                "`{part}` is not a part of a repository: lower-case letters and digits, with `.`, `_`, `__` or dashes between"
            )));
        }
        if tag.is_none() && digest.is_none() && name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong("64 hexadecimal digits are the ID of an image"));
        }
        let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
        let repository = match path {
            one if registry == DEFAULT_REGISTRY && !one.contains('/') => format!("library/{one}"),
            path => path.to_owned(),
        };
        if registry.len() + 1 + repository.len() > 255 {
            return Err(wrong("it has more than 255 characters"));
        }
        let tag = tag.or(digest.is_none().then_some("latest"));
        Ok(Self { registry: registry.to_owned(), repository, tag: tag.map(str::to_owned), digest })
    }
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            let port = rest.strip_prefix(':');
            return address.parse::<std::net::Ipv6Addr>().is_ok()
                && (rest.is_empty() || port.is_some_and(|port| port.parse::<u16>().is_ok()));
        }
        None => match text.split_once(':') {
            None => (text, None),
            Some((host, port)) => (host, Some(port)),
        },
    };
    let label = |label: &str| {
        let inner = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        inner && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    };
    host.split('.').all(label) && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

/// Runs of letters and digits with one `.`, one or two `_`, or any number of `-` between them.
fn is_component(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let between = |separator: &str| match separator {
        "" | "." | "_" | "__" => true,
        dashes => dashes.bytes().all(|b| b == b'-'),
    };
    text.bytes().next().is_some_and(word)
        && text.bytes().last().is_some_and(word)
        && text.is_ascii()
        && text.split(|c: char| c.is_ascii() && word(c as u8)).all(between)
}

impl TryFrom<String> for ImageName {
    type Error = InvalidImageName;

    fn try_from(text: String) -> Result<Self, InvalidImageName> {
        text.parse()
    }
}

impl From<ImageName> for String {
    fn from(name: ImageName) -> Self {
        name.canonical()
    }
}

/// As people write it.
impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.familiar_repository())?;
        self.write_version(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn names_are_read_as_docker_reads_them() {
        for (text, canonical, familiar) in [
            ("nginx", "docker.io/library/nginx:latest", "nginx:latest"),
            ("nginx:1.27-alpine", "docker.io/library/nginx:1.27-alpine", "nginx:1.27-alpine"),
            ("library/nginx", "docker.io/library/nginx:latest", "nginx:latest"),
            ("index.docker.io/nginx", "docker.io/library/nginx:latest", "nginx:latest"),
            ("docker.io/bitnami/redis:7", "docker.io/bitnami/redis:7", "bitnami/redis:7"),
            ("bitnami/redis", "docker.io/bitnami/redis:latest", "bitnami/redis:latest"),
            ("test.com:5000", "docker.io/library/test.com:5000", "test.com:5000"),
            ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
            ("localhost:5000/a/b-c__d.e:T_1", "localhost:5000/a/b-c__d.e:T_1", "localhost:5000/a/b-c__d.e:T_1"),
            ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"),
            ("ghcr.io/x/y", "ghcr.io/x/y:latest", "ghcr.io/x/y:latest"),
            ("HOST/app", "HOST/app:latest", "HOST/app:latest"),
        ] {
            let name: ImageName = text.parse().unwrap_or_else(|e| panic!("{e}"));
            assert_eq!((name.canonical().as_str(), name.to_string().as_str()), (canonical, familiar));
            assert_eq!(canonical.parse::<ImageName>(), Ok(name));
        }
    }

    #[test]
    fn a_digest_stands_alone_or_beside_a_tag() {
        let name: ImageName = format!("redis@sha256:{HEX}").parse().expect("valid");
        assert_eq!((name.tag(), name.digest().map(Digest::hex)), (None, Some(HEX)));
        let both: ImageName = format!("redis:7@sha256:{HEX}").parse().expect("valid");
        assert_eq!(both.canonical(), format!("docker.io/library/redis:7@sha256:{HEX}"));
    }

    #[test]
    fn what_names_no_image_is_told_why() {
        for (text, why) in [
            ("", "no repository"),
            ("Nginx", "lower case"),
            ("nginx:", "a tag has"),
            ("nginx:-x", "a tag has"),
            ("localhost:5000/", "no repository"),
            ("a//b", "`` is not a part"),
            ("a/../b", "`..` is not a part"),
            ("a___b", "`a___b` is not a part"),
            ("a b", "`a b` is not a part"),
            ("é", "`é` is not a part"),
            ("bad_host.com/x", "`bad_host.com` is not a registry"),
            ("host:99999/x", "is not a registry"),
            ("x@sha256:12", "is not a digest"),
            (HEX, "ID of an image"),
        ] {
            let error = text.parse::<ImageName>().expect_err(text).to_string();
            assert!(error.contains(why), "{error}");
        }
        assert!("a/".repeat(200).parse::<ImageName>().is_err());
    }
}
