//! What a service runs, and as whom.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use super::{Context, Cursor, said};
use crate::{
    compose::clean,
    compose::{Environment, Program, Words},
    diagnostics::{Diagnostic, suggest},
    model::{ServiceName, UserSpec},
};

/// A command line; an empty one is not the same as none, since it hides that of an image.
pub(super) fn words(words: Option<&Words>) -> Option<Vec<String>> {
    words.and_then(|words| words.0.clone())
}

/// Variables that have a value.
pub(super) fn environment(cx: &mut Context<'_>, program: &Program, at: Cursor<'_>) -> BTreeMap<String, String> {
    variables(cx, program.environment.as_ref(), at)
}

/// The same for whatever has variables below `environment`.
pub(super) fn variables(
    cx: &mut Context<'_>,
    written: Option<&Environment>,
    at: Cursor<'_>,
) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::new();
    for (name, at) in at.get("environment").into_iter().flat_map(Cursor::entries) {
        let value = written.and_then(|environment| environment.0.get(name)?.as_deref());
        if name.is_empty() || name.contains('=') {
            cx.push(at.at_key(Diagnostic::error(format!("`{name}` is not the name of a variable"))));
        } else if let Some(value) = value {
            environment.insert(name.to_owned(), value.to_owned());
        }
    }
    environment
}

/// Names of variables that have none.
pub(super) fn unset(program: &Program) -> BTreeSet<String> {
    let variables = program.environment.iter().flat_map(|environment| &environment.0);
    variables.filter(|(_, value)| value.is_none()).map(|(name, _)| name.clone()).collect()
}

pub(super) fn working_dir(cx: &mut Context<'_>, program: &Program, at: Cursor<'_>) -> Option<PathBuf> {
    let text = said(program.working_dir.as_ref())?;
    container_path(cx, "the working directory", text, at.at("working_dir"))
}

/// A path inside a container, which has to be absolute.
pub(super) fn container_path(cx: &mut Context<'_>, what: &str, text: &str, at: Cursor<'_>) -> Option<PathBuf> {
    if text.starts_with('/') {
        return Some(clean(Path::new(text)));
    }
    let diagnostic = at.here(Diagnostic::error(format!("{what} `{text}` is not an absolute path")));
    cx.push(match text {
        "" => diagnostic,
        _ if matches!(text.as_bytes(), [letter, b':', b'/' | b'\\', ..] if letter.is_ascii_alphabetic()) => diagnostic
            .hint("one letter before a colon is a drive of Windows, as for Docker Compose: give the volume a longer name, or write `type`, `source` and `target`"),
        _ => diagnostic.hint(format!("write `/{}`", text.trim_start_matches("./"))),
    });
    None
}

pub(super) fn user(cx: &mut Context<'_>, program: &Program, at: Cursor<'_>) -> Option<UserSpec> {
    let text = said(program.user.as_ref())?;
    text.parse().map_err(|error| cx.push(at.at("user").here(Diagnostic::error(format!("{error}"))))).ok()
}

/// Says that there is nothing to run. What was there and wrong has been reported; an image would bring a command of its own.
pub(super) fn has_command(cx: &mut Context<'_>, name: &ServiceName, program: &Program, at: Cursor<'_>) {
    let written = [("command", &program.command), ("entrypoint", &program.entrypoint)];
    if written.iter().any(|(_, value)| words(value.as_ref()).is_some_and(|words| !words.is_empty())) {
        return;
    }
    let misread = written.iter().any(|(key, value)| value.is_none() && at.get(key).is_some());
    // Without `rootfs:` its image may bring a command of its own.
    let image = (program.image.is_some() || program.build.is_some()) && program.rootfs.is_none();
    let misspelt = at.entries().any(|(key, _)| {
        !key.starts_with("x-") && suggest(key, ["command", "entrypoint"]).is_some_and(|meant| meant != key)
    });
    if misread || misspelt || image {
        return;
    }
    let nothing = Diagnostic::error(format!("service `{name}` has no command"));
    cx.push(at.at_key(nothing).hint("say what to run with `command:`"));
}
