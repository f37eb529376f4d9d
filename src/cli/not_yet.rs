//! What Docker Compose has and this has not yet: verbs and flags, each with what serves meanwhile.

use std::ffi::OsString;

use clap::{
    CommandFactory,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::{Cli, MessageFormat};
use crate::diagnostics::{Failure, suggest};

const VERBS: [(&str, &str); 4] = [
    ("build", BUILD),
    ("cp", "use a bind mount, or `exec SERVICE cat FILE`"),
    ("run", "`exec SERVICE COMMAND` runs in a service that is up"),
    ("watch", NOTHING),
];

/// Verbs that are, for a did-you-mean.
const KNOWN: [&str; 38] = [
    "start", "stop", "restart", "kill", "pause", "unpause", "wait", "ls", "top", "events", "up", "create", "scale",
    "down", "rm", "ps", "port", "ns", "stats", "logs", "exec", "attach", "plan", "config", "schema", "version",
    "images", "pull", "push", "tag", "rmi", "load", "save", "commit", "export", "image", "system", "network",
];

/// Flags of a verb, or, without one, of all; those of a line are spellings of one.
const FLAGS: &[(&str, &[&str], &str)] = &[
    ("", &["--dry-run"], "`plan` shows what `up` would do"),
    ("", &["--parallel", "--compatibility", "--all-resources"], "leave it out"),
    ("up", &["--build"], BUILD),
    ("up", &["--watch", "-w"], NOTHING),
];

const BUILD: &str = "build the image with another tool, and `nscompose load` it or push it to a registry";
const NOTHING: &str = "there is nothing in its place";

/// Why there is no such verb.
pub(super) fn verb(words: &[String]) -> Failure {
    let verb = words.first().map(String::as_str).unwrap_or_default();
    if let Some((_, instead)) = VERBS.iter().find(|(name, _)| *name == verb) {
        return Failure::usage(format!("`{verb}` is not supported yet")).hint(*instead);
    }
    let failure = Failure::usage(format!("there is no verb `{verb}`"));
    match suggest(verb, KNOWN) {
        Some(name) => failure.hint(format!("did you mean `{name}`?")),
        None => failure.hint("`nscompose --help` lists them"),
    }
}

/// Why the verb has no such flag, if Docker Compose has it.
pub(super) fn flag(verb: &str, flag: &str) -> Option<Failure> {
    let flag = flag.split_once('=').map_or(flag, |(flag, _)| flag);
    let (of, _, instead) =
        FLAGS.iter().find(|(of, flags, _)| (*of == verb || of.is_empty()) && flags.contains(&flag))?;
    let shown = format!("{of} {flag}");
    Some(Failure::usage(format!("`{}` is not supported yet", shown.trim_start())).hint(*instead))
}

/// What is to be said instead of clap's own error, and how.
pub(super) fn unknown_flag(error: &clap::Error, args: Vec<OsString>) -> Option<(Failure, Option<MessageFormat>)> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let Some(ContextValue::String(unknown)) = error.get(ContextKind::InvalidArg) else { return None };
    let matches = Cli::command().ignore_errors(true).try_get_matches_from(args).ok()?;
    let format = matches.try_get_one::<MessageFormat>("message_format").ok().flatten().copied();
    Some((flag(matches.subcommand_name().unwrap_or_default(), unknown)?, format))
}
