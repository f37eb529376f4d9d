//! Who we are to a registry, as `docker login` and `podman login` have left it.
//!
//! ```text
//! $DOCKER_CONFIG/config.json    {"auths": {HOST: {"auth": base64(user:password)}}, "credHelpers": {HOST: NAME}, "credsStore": NAME}
//! $REGISTRY_AUTH_FILE, …/containers/auth.json    the same; its keys may have a path: HOST/NAMESPACE
//! ```
//!
//! The first file that knows the registry counts, and in it the longest key. In each, helpers come before what is written
//! down, as both Docker and Podman have it. A file or helper that cannot be used is passed over and told of once the registry
//! refuses us: most images are there for everybody.

mod helper;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{
    Engine as _,
    engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig},
};
use serde::Deserialize;

use crate::model::ImageName;

/// The places in which credentials are looked for. Which they are, the caller knows.
#[derive(Debug, Clone, Default)]
pub struct CredentialSources {
    /// Files in the order in which they are asked, such as ~/.docker/config.json and ~/.config/containers/auth.json.
    pub files: Vec<PathBuf>,
    /// `PATH`, in which helpers are found.
    pub search_path: OsString,
}

/// What proves who we are.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Secret {
    /// A name and a password, or an access token in its place.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// A token of OAuth 2 that others are had for.
    Identity(String),
}

/// Secrets are shown to registries and to nobody else.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { user, .. } => write!(f, "Password({user:?})"),
            Self::Identity(_) => f.write_str("Identity"),
        }
    }
}

/// Why a source of credentials has told nothing.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// A file that is there.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("{} is not what it should be: {why}", path.display())]
    Invalid {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A helper that a file names.
    #[error("there is no program `{program}`, which {} asks for the password", path.display())]
    NoHelper {
        /// Its name.
        program: String,
        /// The file that names it.
        path: PathBuf,
    },
    /// It could not be run.
    #[error("cannot run `{program}`: {source}")]
    Run {
        /// Its name.
        program: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// It ended with an error.
    #[error("`{program}` did not give the password of {server}: {said}")]
    Helper {
        /// Its name.
        program: String,
        /// What it was asked for.
        server: String,
        /// What it said.
        said: String,
    },
    /// It did not end.
    #[error("`{program}` has not given the password of {server} within {} s", after.as_secs())]
    HelperSilent {
        /// Its name.
        program: String,
        /// What it was asked for.
        server: String,
        /// How long it had.
        after: Duration,
    },
}

/// Whom a registry was told that it is dealing with, for when it says no.
#[derive(Debug, Default)]
pub struct Tried {
    /// The name, if there was one.
    user: Option<String>,
    /// Where the secret was from.
    from: Option<String>,
    /// Files that were there.
    looked: Vec<PathBuf>,
    /// What could not be asked.
    errors: Vec<CredentialError>,
}

impl Tried {
    /// Whether nothing was shown.
    pub fn is_anonymous(&self) -> bool {
        self.from.is_none()
    }

    /// What stood in the way, in lines for people.
    pub fn problems(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.errors.iter().map(ToString::to_string).collect();
        if self.is_anonymous() && self.errors.is_empty() && !self.looked.is_empty() {
            let files: Vec<String> = self.looked.iter().map(|path| path.display().to_string()).collect();
            lines.push(format!("there are no credentials for it in {}", files.join(", ")));
        }
        lines
    }
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.user, &self.from) {
            (Some(user), Some(from)) => write!(f, "`{user}` (from {from})"),
            (None, Some(from)) => write!(f, "the token from {from}"),
            _ => f.write_str("somebody without credentials"),
        }
    }
}

#[derive(Default, Deserialize)]
struct ConfigFile {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
}

#[derive(Default, Deserialize)]
struct Auth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

/// The key that Docker keeps docker.io under.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// Written by hand now and then, and padded or not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
);

/// Files of credentials are short.
const LARGEST: u64 = 4 << 20;

impl CredentialSources {
    /// Looks for what proves who we are to `host`, which has the repository of `name`: the registry or a mirror of it.
    /// Runs helpers, so it may take a while and must not be called where others wait.
    pub(super) fn find(&self, host: &str, name: &ImageName) -> (Option<Secret>, Tried) {
        let mut tried = Tried::default();
        for path in &self.files {
            match self.ask(path, host, name.repository()) {
                Ok(Some((secret, from))) => {
                    tried.user = match &secret {
                        Secret::Password { user, .. } => Some(user.clone()),
                        Secret::Identity(_) => None,
                    };
                    tried.from = Some(from);
                    return (Some(secret), tried);
                }
                Ok(None) => tried.looked.push(path.clone()),
                Err(CredentialError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(error) => tried.errors.push(error),
            }
        }
        (None, tried)
    }

    fn ask(&self, path: &Path, host: &str, repository: &str) -> Result<Option<(Secret, String)>, CredentialError> {
        let failed = |source| CredentialError::Read { path: path.to_owned(), source };
        let invalid = |why: String| CredentialError::Invalid { path: path.to_owned(), why };
        if fs::metadata(path).map_err(failed)?.len() > LARGEST {
            return Err(invalid(format!("it has more than {LARGEST} bytes")));
        }
        let bytes = fs::read(path).map_err(failed)?;
        let file: ConfigFile = serde_json::from_slice(&bytes).map_err(|e| invalid(e.to_string()))?;

        let server = if host == "docker.io" { DOCKER_HUB_KEY } else { host };
        let chosen = file.helpers.iter().find(|(key, _)| host_of(key) == host).map(|(_, helper)| helper);
        // Docker keeps an empty entry in auths for what is in its store, and nothing else knows better.
        for helper in [chosen, file.store.as_ref()].into_iter().flatten().filter(|helper| !helper.is_empty()) {
            if let Some(secret) = helper::ask(helper, server, path, &self.search_path)? {
                return Ok(Some((secret, format!("docker-credential-{helper}"))));
            }
        }
        // The longest key that is the repository or a folder of it.
        let full = format!("{host}/{repository}");
        let fits = |key: &str| {
            let key = normal(key);
            (key == full || full.strip_prefix(&key).is_some_and(|rest| rest.starts_with('/'))).then_some(key.len())
        };
        let mut entries: Vec<(usize, &String, &Auth)> =
            file.auths.iter().filter_map(|(key, auth)| Some((fits(key)?, key, auth))).collect();
        entries.sort_by_key(|(length, ..)| std::cmp::Reverse(*length));
        for (_, key, auth) in entries {
            if let Some(secret) = auth.secret().map_err(|why| invalid(format!("`{key}`: {why}")))? {
                return Ok(Some((secret, path.display().to_string())));
            }
        }
        Ok(None)
    }
}

/// A key without what Docker writes around a host: `https://`, and a path behind it.
fn normal(key: &str) -> String {
    let (address, rest) = match key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")) {
        Some(address) => (address.split('/').next().unwrap_or_default(), ""),
        None => key.split_once('/').map_or((key, ""), |(host, path)| (host, path.trim_end_matches('/'))),
    };
    let host = match address {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    };
    if rest.is_empty() { host.to_owned() } else { format!("{host}/{rest}") }
}

fn host_of(key: &str) -> String {
    normal(key).split('/').next().unwrap_or_default().to_owned()
}

impl Auth {
    fn secret(&self) -> Result<Option<Secret>, String> {
        let said = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(token) = said(&self.identitytoken) {
            return Ok(Some(Secret::Identity(token)));
        }
        if let Some(encoded) = said(&self.auth) {
            let decoded = BASE64.decode(encoded.trim()).map_err(|_| "`auth` is not base64")?;
            let text = String::from_utf8(decoded).map_err(|_| "`auth` is not text")?;
            let (user, password) = text.split_once(':').ok_or("`auth` is not a name and a password")?;
            // Docker pads with zeros, and takes them off again.
            let password = password.trim_matches('\0').to_owned();
            return Ok(Some(Secret::Password { user: user.to_owned(), password }));
        }
        Ok(said(&self.username).zip(said(&self.password)).map(|(user, password)| Secret::Password { user, password }))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn find(texts: &[&str], image: &str) -> (Option<Secret>, Tried) {
        let dir = tempfile::tempdir().expect("folder");
        let helper = dir.path().join("docker-credential-fake");
        let script = r#"#!/bin/sh
read server
case $server in
known.example) echo '{"ServerURL":"x","Username":"helped","Secret":"s3"}' ;;
https://index.docker.io/v1/) echo '{"Username":"<token>","Secret":"idt"}' ;;
broken.example) echo 'keyring is locked' >&2; exit 1 ;;
odd.example) echo 'hello' ;;
*) echo 'credentials not found in native keychain'; exit 1 ;;
esac
"#;
        fs::write(&helper, script).expect("written");
        fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).expect("executable");
        let mut files = vec![dir.path().join("not-there.json")];
        for (index, text) in texts.iter().enumerate() {
            files.push(dir.path().join(format!("{index}.json")));
            fs::write(files.last().expect("one"), text).expect("written");
        }
        let sources = CredentialSources { files, search_path: dir.path().as_os_str().to_owned() };
        let name: ImageName = image.parse().unwrap_or_else(|e| panic!("{e}"));
        sources.find(name.registry(), &name)
    }

    fn password(user: &str, password: &str) -> Option<Secret> {
        Some(Secret::Password { user: user.to_owned(), password: password.to_owned() })
    }

    #[test]
    fn docker_keeps_docker_io_under_a_key_of_its_own() {
        // user:pa:ss
        let file = r#"{"auths": {"https://index.docker.io/v1/": {"auth": "dXNlcjpwYTpzcw=="}}}"#;
        assert_eq!(find(&[file], "nginx").0, password("user", "pa:ss"));
        assert_eq!(find(&[file], "ghcr.io/x/y").0, None);
        assert_eq!(find(&[r#"{"auths": {"docker.io": {"auth": "dTpw"}}}"#], "nginx").0, password("u", "p"));
        assert_eq!(
            find(&[r#"{"auths": {"https://reg.example/v2/": {"username": "a", "password": "b"}}}"#], "reg.example/x").0,
            password("a", "b")
        );
    }

    #[test]
    fn podman_keys_may_have_a_path_and_the_longest_counts() {
        let file = r#"{"auths": {"r.example": {"auth": "aG9zdDpw"}, "r.example/team": {"auth": "dGVhbTpw"},
                       "r.example/team/app": {"identitytoken": "t"}}}"#;
        assert_eq!(find(&[file], "r.example/other").0, password("host", "p"));
        assert_eq!(find(&[file], "r.example/teams/x").0, password("host", "p"));
        assert_eq!(find(&[file], "r.example/team/x").0, password("team", "p"));
        assert_eq!(find(&[file], "r.example/team/app:1").0, Some(Secret::Identity("t".to_owned())));
    }

    #[test]
    fn helpers_are_asked_before_what_is_written_down() {
        let file = r#"{"auths": {"known.example": {"auth": "dTpw"}, "third.example": {"auth": "dTpw"}, "x": {}},
                       "credHelpers": {"known.example": "fake", "broken.example": "fake", "odd.example": "fake"}}"#;
        let (secret, tried) = find(&[file], "known.example/app");
        assert_eq!(secret, password("helped", "s3"));
        assert_eq!(tried.to_string(), "`helped` (from docker-credential-fake)");
        assert_eq!(find(&[file], "third.example/app").0, password("u", "p"));
        let store = r#"{"auths": {"third.example": {"auth": "dTpw"}}, "credsStore": "fake"}"#;
        assert_eq!(find(&[store], "nginx").0, Some(Secret::Identity("idt".to_owned())));
        assert_eq!(find(&[store], "third.example/app").0, password("u", "p"), "the store does not know it");
    }

    #[test]
    fn what_cannot_be_asked_is_passed_over_and_told() {
        let broken = r#"{"credHelpers": {"broken.example": "fake", "odd.example": "fake", "gone.example": "gone"}}"#;
        let good = r#"{"auths": {"broken.example": {"auth": "dTpw"}}}"#;
        assert_eq!(find(&[broken, good], "broken.example/x").0, password("u", "p"));
        for (image, problem) in [
            (
                "broken.example/x",
                "`docker-credential-fake` did not give the password of broken.example: keyring is locked",
            ),
            ("odd.example/x", "`docker-credential-fake` did not give the password of odd.example"),
            ("gone.example/x", "there is no program `docker-credential-gone`, which "),
        ] {
            let (secret, tried) = find(&[broken], image);
            assert_eq!((secret, tried.is_anonymous()), (None, true));
            assert!(tried.problems()[0].starts_with(problem), "{:?}", tried.problems());
        }
        for (file, problem) in
            [("{", "is not what it should be"), (r#"{"auths": {"a.b": {"auth": "%"}}}"#, "not base64")]
        {
            let (_, tried) = find(&[file], "a.b/c");
            assert!(tried.problems()[0].contains(problem), "{:?}", tried.problems());
        }
        let (_, tried) = find(&["{}"], "a.b/c");
        assert!(tried.problems()[0].starts_with("there are no credentials for it in "), "{:?}", tried.problems());
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?} {:?}", password("u", "hush"), Secret::Identity("hush".to_owned()));
        assert!(!shown.contains("hush"), "{shown}");
    }
}
