//! What people say about registries: config.yaml.
//!
//! ```yaml
//! registries:
//!   docker.io: { mirrors: [https://mirror.example, http://localhost:5001] }
//!   localhost:5000: { insecure: true }
//!   reg.example: { ca: /path/ca.pem }
//! limits: { max_layer_size: 20GiB, max_unpacked_size: 64GiB }
//! ```
//!
//! There is one for everybody (/etc/nscompose/config.yaml) and one for each account; what the account's says of a registry
//! replaces what the other says of the same. Which files these are, the caller knows: nothing here reads the environment.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use reqwest::Url;
use serde::{Deserialize, de::IgnoredAny};

use crate::{diagnostics::Diagnostics, settings::read};

/// What config.yaml says, of all files together.
#[derive(Debug, Clone, Default)]
pub struct RegistrySettings {
    registries: BTreeMap<RegistryHost, RegistryOptions>,
    max_layer_size: Option<u64>,
    max_unpacked_size: Option<u64>,
}

/// What is said of one registry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryOptions {
    /// Places that have the same images, in the order in which they are asked, before the registry itself.
    #[serde(default)]
    pub mirrors: Vec<Mirror>,
    /// Whether whoever answers is trusted: TLS with any certificate, or else plain HTTP. What is not said is so for the
    /// loopback alone.
    pub insecure: Option<bool>,
    /// A file of certificates (PEM) that are trusted besides those of the system.
    pub ca: Option<PathBuf>,
}

/// A registry as it stands in the name of an image: a host with or without a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct RegistryHost(String);

/// `http://` or `https://`, a host, and a path that repositories are below if there is one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Mirror(Url);

/// A number of bytes: `20GiB`, `500M`, `1000`; all units are powers of 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Amount")]
struct Bytes(u64);

#[derive(Deserialize)]
#[serde(untagged)]
enum Amount {
    Number(u64),
    Text(String),
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    registries: BTreeMap<RegistryHost, Option<RegistryOptions>>,
    #[serde(default)]
    limits: Limits,
    /// Somebody else's part.
    #[serde(default, rename = "networks")]
    _networks: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    max_layer_size: Option<Bytes>,
    max_unpacked_size: Option<Bytes>,
}

/// A layer may be this large if nothing is said.
const DEFAULT_LAYER_SIZE: u64 = 20 << 30;

/// And this large when it is uncompressed.
const DEFAULT_UNPACKED_SIZE: u64 = 64 << 30;

impl RegistrySettings {
    /// Reads the files that are there, the account's before that for everybody.
    ///
    /// # Errors
    /// All mistakes of all files, with their places.
    pub fn load(files: &[PathBuf]) -> Result<Self, Diagnostics> {
        let mut all = Self::default();
        let mut mistakes = Diagnostics::new();
        for (order, path) in files.iter().enumerate() {
            match read::<File>(order, path) {
                Ok(file) => all.fill_up(file, path),
                Err(mistake) => mistakes.push(*mistake),
            }
        }
        if mistakes.is_empty() { Ok(all) } else { Err(mistakes) }
    }

    /// What is said of a registry.
    pub fn of(&self, host: &str) -> RegistryOptions {
        self.registries.get(&RegistryHost(host.to_owned())).cloned().unwrap_or_default()
    }

    /// Whether whoever answers for this host is trusted.
    pub fn is_insecure(&self, host: &str) -> bool {
        let options = self.of(host);
        // Who names a certificate for it wants it to be looked at.
        options.insecure.unwrap_or_else(|| options.ca.is_none() && is_loopback(host))
    }

    /// How many bytes a layer may have as it is downloaded.
    pub fn max_layer_size(&self) -> u64 {
        self.max_layer_size.unwrap_or(DEFAULT_LAYER_SIZE)
    }

    /// How many bytes a layer may have when it is uncompressed.
    pub fn max_unpacked_size(&self) -> u64 {
        self.max_unpacked_size.unwrap_or(DEFAULT_UNPACKED_SIZE)
    }

    /// Adds what has not been said yet.
    fn fill_up(&mut self, file: File, path: &Path) {
        let folder = path.parent().unwrap_or(Path::new("/"));
        for (host, options) in file.registries {
            let mut options = options.unwrap_or_default();
            options.ca = options.ca.map(|ca| folder.join(ca));
            self.registries.entry(host).or_insert(options);
        }
        self.max_layer_size = self.max_layer_size.or(file.limits.max_layer_size.map(|bytes| bytes.0));
        self.max_unpacked_size = self.max_unpacked_size.or(file.limits.max_unpacked_size.map(|bytes| bytes.0));
    }
}

/// Whether a registry is on this machine, as Docker has it: such are insecure unless something else is said.
pub(super) fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl TryFrom<String> for RegistryHost {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let host = match text.as_str() {
            "index.docker.io" | "registry-1.docker.io" => "docker.io",
            other => other,
        };
        if host.contains('/') || host.is_empty() || Url::parse(&format!("https://{host}")).is_err() {
            return Err(format!("`{text}` is not a registry: write its host as it stands in names of images"));
        }
        Ok(Self(host.to_owned()))
    }
}

impl Mirror {
    /// Where it is, without a slash at the end of its path.
    pub fn url(&self) -> &Url {
        &self.0
    }
}

impl FromStr for Mirror {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("`{text}` is not the address of a mirror: {why}");
        let mut url = Url::parse(text).map_err(|_| wrong("write it as in `https://mirror.example`"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(wrong("it begins with `https://` or `http://`"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("credentials do not belong there: use `docker login`"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("it has neither `?` nor `#`"));
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Self(url))
    }
}

impl TryFrom<String> for Mirror {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl TryFrom<Amount> for Bytes {
    type Error = String;

    fn try_from(amount: Amount) -> Result<Self, String> {
        let text = match amount {
            Amount::Number(number) => return Ok(Self(number)),
            Amount::Text(text) => text,
        };
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
            "" | "b" => Some(0),
            "k" | "kb" | "kib" => Some(10),
            "m" | "mb" | "mib" => Some(20),
            "g" | "gb" | "gib" => Some(30),
            "t" | "tb" | "tib" => Some(40),
            _ => None,
        };
        let size = shift.and_then(|shift: u32| number.parse::<u64>().ok()?.checked_mul(1 << shift));
        size.map(Self).ok_or_else(|| format!("`{text}` is not a number of bytes such as `20GiB`"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn settings(texts: &[&str]) -> Result<RegistrySettings, Diagnostics> {
        let dir = tempfile::tempdir().expect("folder");
        let paths: Vec<PathBuf> = (0..texts.len()).map(|i| dir.path().join(format!("{i}.yaml"))).collect();
        for (path, text) in paths.iter().zip(texts) {
            fs::write(path, text).expect("written");
        }
        RegistrySettings::load(&paths)
    }

    #[test]
    fn the_example_is_read() {
        let text = "
registries:
  docker.io: { mirrors: [https://mirror.example/, http://localhost:5001] }
  localhost:5000: { insecure: false }
  10.0.0.1:5000: { insecure: true }
  reg.example: { ca: /path/ca.pem }
limits: { max_layer_size: 2GiB }
";
        let all = settings(&[text]).unwrap_or_else(|e| panic!("{e}"));
        let mirrors: Vec<String> = all.of("docker.io").mirrors.iter().map(|mirror| mirror.url().to_string()).collect();
        assert_eq!(mirrors, ["https://mirror.example/", "http://localhost:5001/"]);
        assert!(
            all.is_insecure("10.0.0.1:5000") && !all.is_insecure("localhost:5000") && !all.is_insecure("reg.example")
        );
        assert_eq!(all.of("reg.example").ca, Some(PathBuf::from("/path/ca.pem")));
        assert_eq!(all.max_layer_size(), 2 << 30);
    }

    #[test]
    fn what_is_on_this_machine_is_insecure_unless_something_else_is_said() {
        let all = settings(&["# nothing\n", ""]).unwrap_or_else(|e| panic!("{e}"));
        for host in ["localhost", "localhost:5000", "127.0.0.1:1", "127.9.9.9", "[::1]:5000"] {
            assert!(all.is_insecure(host), "{host}");
        }
        for host in ["docker.io", "localhost.example", "128.0.0.1:5000", "[::2]"] {
            assert!(!all.is_insecure(host), "{host}");
        }
        assert_eq!(all.max_layer_size(), DEFAULT_LAYER_SIZE);
        assert!(RegistrySettings::load(&[PathBuf::from("/nonexistent/config.yaml")]).is_ok());
    }

    #[test]
    fn the_file_of_the_account_wins_per_registry() {
        let ours = "registries: {a.example: {insecure: true}, index.docker.io: {mirrors: ['https://m.example']}}";
        let everybodys = "registries: {a.example: {ca: a.pem}, b.example: {ca: b.pem}}\nlimits: {max_layer_size: 5}";
        let all = settings(&[ours, everybodys]).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(all.of("a.example").ca, None);
        assert!(all.of("b.example").ca.is_some_and(|ca| ca.is_absolute()), "relative to the file");
        assert_eq!((all.max_layer_size(), all.of("docker.io").mirrors.len()), (5, 1));
    }

    #[test]
    fn mistakes_are_told_with_their_places() {
        for (text, place, message) in [
            ("registrys: {}", "0.yaml:1:1", "unknown field `registrys`"),
            ("registries:\n  a.example: {insecur: true}", "0.yaml:2:15", "unknown field `insecur`"),
            (
                "registries:\n  a.example:\n    mirrors: [ftp://x]",
                "0.yaml:3:15",
                "`ftp://x` is not the address of a mirror",
            ),
            ("limits: {max_layer_size: lots}", "0.yaml:1:26", "`lots` is not a number of bytes"),
            ("registries: {https://a.example: {}}", "0.yaml:1:14", "is not a registry"),
            ("registries: [", "0.yaml:1:", ""),
        ] {
            let mistakes = settings(&[text]).expect_err(text);
            let shown = mistakes.render(false);
            assert!(shown.contains(place) && shown.contains(message), "{shown}");
            assert!(!shown.contains("at line"), "{shown}");
        }
        let shown = settings(&["registrys: {}"]).expect_err("wrong").render(false);
        assert!(shown.contains("did you mean `registries`?"), "{shown}");
    }
}
