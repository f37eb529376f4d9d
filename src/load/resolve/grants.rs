//! `configs:` and `secrets:` of a service: where what they say comes from, and what becomes of it.

use std::{
    collections::HashMap,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{
    Context, Cursor,
    mounts::{host_path, warn_of_decimal},
    program::container_path,
};
use crate::{
    compose::{FileGrant, located},
    diagnostics::Diagnostic,
    load::tree::Node,
    model::{Contents, Digest, Grant, GrantSource, Mount, MountSource},
};

/// The longest contents that are copied; Docker's own bound is 500 kB for a secret and 1 MB for a config.
const MAX_COPY: u64 = 1024 * 1024;

/// Files that configs and secrets come from, each read once.
#[derive(Default)]
pub(super) struct Sources(HashMap<PathBuf, Result<Found, String>>);

/// What is at the path of a file.
#[derive(Clone)]
struct Found {
    digest: Digest,
    /// None of what is too long to be copied, and of a folder.
    contents: Option<Vec<u8>>,
    is_folder: bool,
}

impl Sources {
    fn at(&mut self, path: &Path) -> &Result<Found, String> {
        let look =
            || look(path).map_err(|e| e.to_string().split(" (os error").next().unwrap_or_default().to_lowercase());
        self.0.entry(path.to_owned()).or_insert_with(look)
    }
}

fn look(path: &Path) -> io::Result<Found> {
    let kind = fs::metadata(path)?;
    if kind.is_dir() {
        return Ok(Found { digest: Digest::of(b""), contents: None, is_folder: true });
    }
    if !kind.is_file() {
        return Err(io::Error::other("it is neither a file nor a folder"));
    }
    let mut contents = Vec::new();
    let mut file = fs::File::open(path)?;
    (&mut file).take(MAX_COPY + 1).read_to_end(&mut contents)?;
    if contents.len() as u64 <= MAX_COPY {
        return Ok(Found { digest: Digest::of(&contents), contents: Some(contents), is_folder: false });
    }
    // A change of a long one is seen by what its inode says.
    let changed = kind.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    let told = format!("{} {:?}", kind.len(), changed);
    Ok(Found { digest: Digest::of(told.as_bytes()), contents: None, is_folder: false })
}

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Config,
    Secret,
}

impl Kind {
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Config => "configs",
            Self::Secret => "secrets",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Secret => "secret",
        }
    }

    /// Where they are when the file does not say.
    fn folder(self) -> &'static str {
        match self {
            Self::Config => "/",
            Self::Secret => "/run/secrets/",
        }
    }
}

/// One grant as a mount, and its target as it is spelt.
pub(super) fn lower(cx: &mut Context<'_>, kind: Kind, grant: &FileGrant, at: Cursor<'_>) -> Option<(Mount, String)> {
    let name = grant.source.as_ref()?.0.as_str();
    let spelt = grant.target.as_ref().map_or(name, |target| target.0.as_str());
    let spelt = if spelt.starts_with('/') { spelt.to_owned() } else { format!("{}{spelt}", kind.folder()) };
    let target = container_path(cx, "the target", &spelt, at.at("target"))?;
    if target == Path::new("/") {
        let wrong = at.at("target").here(Diagnostic::error("nothing can be mounted at `/`"));
        cx.push(wrong.hint("name a file, such as `/etc/app.conf`"));
        return None;
    }
    let id = |cx: &mut Context<'_>, key: &str, text: Option<&crate::compose::Text>| {
        let text = super::said(text)?;
        match text.parse::<u32>().ok().filter(|id| *id != u32::MAX) {
            Some(id) => Some(id),
            None => {
                let wrong = Diagnostic::error(format!("`{text}` is not a number"));
                cx.push(at.at(key).here(wrong).hint(format!("`{key}` is a number; names are not looked up here")));
                None
            }
        }
    };
    let (uid, gid) = (id(cx, "uid", grant.uid.as_ref()), id(cx, "gid", grant.gid.as_ref()));
    let mode = grant.mode.map(|mode| mode.0);
    if mode.is_some() {
        warn_of_decimal(cx, at.at("mode"));
    }
    if let Some(mode) = mode.filter(|mode| *mode > 0o777) {
        let wrong =
            Diagnostic::error(format!("`0{mode:o}` is not a set of permission bits for a file that is only read"));
        cx.push(at.at("mode").here(wrong).hint("the bits go from `0000` to `0777`"));
        return None;
    }
    let asked = grant.uid.is_some() || grant.gid.is_some() || mode.is_some();
    let source = source(cx, kind, name, asked, at)?;
    let (source, digest) = match source {
        Said::File(path, digest) => (GrantSource::File(path), digest),
        Said::Text(contents) => {
            let digest = Digest::of(&contents);
            let contents = Contents(contents);
            (GrantSource::Copy { contents, uid, gid, mode: mode.unwrap_or(0o444) }, digest)
        }
    };
    let grant = Grant { name: format!("{} {name}", kind.word()), source, digest };
    Some((Mount { target, source: MountSource::Grant(grant) }, spelt))
}

enum Said {
    File(PathBuf, Digest),
    Text(Vec<u8>),
}

/// Where its contents are. One that is not declared, or without a source, has been reported.
fn source(cx: &mut Context<'_>, kind: Kind, name: &str, asked: bool, at: Cursor<'_>) -> Option<Said> {
    let project = cx.project;
    let (file, variable, content) = match kind {
        Kind::Config => {
            let config = project.configs.as_ref()?.0.get(name)?;
            (config.file.as_ref(), config.environment.as_ref(), config.content.as_ref())
        }
        Kind::Secret => {
            let secret = project.secrets.as_ref()?.0.get(name)?;
            (secret.file.as_ref(), secret.environment.as_ref(), None)
        }
    };
    if let Some(content) = content {
        return Some(Said::Text(content.0.0.clone().into_bytes()));
    }
    let written = cx.declared(kind.key(), name);
    let place = |key: &str, wrong: Diagnostic| match written.and_then(|node: &Node| node.entry(key)) {
        Some(entry) => located(wrong, &entry.value),
        None => at.here(wrong),
    };
    let word = kind.word();
    if let Some(variable) = super::said(variable) {
        return match cx.variables.value(variable) {
            Some(value) => Some(Said::Text(value.to_owned().into_bytes())),
            None => {
                let unset =
                    Diagnostic::error(format!("{word} `{name}` is the variable `{variable}`, which is not set"));
                let hint = format!("set it where you call nscompose, or in `.env`: `{variable}=…`");
                cx.push_once(place("environment", unset).hint(hint));
                None
            }
        };
    }
    let path = file?;
    let path = host_path(cx, &path.0, at)?;
    match cx.grants.at(&path).clone() {
        Err(why) => {
            let text = format!("{word} `{name}` cannot be read from {}: {why}", path.display());
            cx.push_once(place("file", Diagnostic::error(text)));
            None
        }
        Ok(found) if !asked => Some(Said::File(path, found.digest)),
        Ok(Found { contents: Some(contents), .. }) => Some(Said::Text(contents)),
        Ok(found) => {
            let (what, hint) = match found.is_folder {
                true => ("a folder", "`uid`, `gid` and `mode` are for a single file: remove them, or name a file"),
                false => ("longer than 1 MiB", "leave `uid`, `gid` and `mode` out, which mounts the file as it is"),
            };
            let text = format!("{word} `{name}` is {what}, of which no copy with another owner or mode is made");
            cx.push(at.here(Diagnostic::error(text)).hint(hint));
            None
        }
    }
}
