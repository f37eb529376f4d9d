//! What Docker Compose has and this has not yet: verbs and flags, each with what serves meanwhile.

use std::ffi::OsString;

use clap::{
    CommandFactory,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::{Cli, MessageFormat};
use crate::diagnostics::{Failure, suggest};

const VERBS: [(&str, &str); 15] = [
    ("build", BUILD),
    ("cp", "use a bind mount, or `exec SERVICE cat FILE`"),
    ("events", "`ps` shows what is"),
    ("kill", "`down -t 0` ends the stack at once"),
    ("ls", "`ps` shows one stack"),
    ("pause", NOTHING),
    ("restart", "`down` and `up -d`"),
    ("run", "`exec SERVICE COMMAND` runs in a service that is up"),
    ("scale", COPIES),
    ("start", "`up -d` starts what has ended"),
    ("stop", "`down` stops and removes"),
    ("top", "`exec SERVICE ps ax`"),
    ("unpause", NOTHING),
    ("wait", "`logs -f` ends with the stack"),
    ("watch", NOTHING),
];

/// Verbs that are, for a did-you-mean.
const KNOWN: [&str; 27] = [
    "up", "create", "down", "rm", "ps", "port", "ns", "stats", "logs", "exec", "attach", "plan", "config", "schema",
    "version", "images", "pull", "push", "tag", "rmi", "load", "save", "commit", "export", "image", "system",
    "network",
];

/// Flags of a verb, or, without one, of all; those of a line are spellings of one.
const FLAGS: &[(&str, &[&str], &str)] = &[
    ("", &["--ansi"], "set NO_COLOR=1 for output without colours"),
    ("", &["--dry-run"], "`plan` shows what `up` would do"),
    ("", &["--progress"], "`--quiet` shows no progress"),
    ("", &["--parallel", "--compatibility", "--all-resources"], "leave it out"),
    ("down", &["--rmi"], "`rmi IMAGE` or `image prune` after it"),
    ("logs", &["--since", "--until"], "`--tail LINES` shows the last ones, `--timestamps` when they were written"),
    ("logs", &["--index"], "leave it out: there is one container of each service"),
    ("ps", &["-q"], "`ps --services` lists what runs by name"),
    ("ps", &["--filter", "--status"], "`ps --format json` is for choosing among"),
    ("ps", &["--no-trunc", "--orphans"], "leave it out: all is shown"),
    ("up", &["--abort-on-container-exit", "--abort-on-container-failure", "--exit-code-from"], "run `down` yourself"),
    ("up", &["--attach", "--attach-dependencies", "--no-attach"], "`up -d`, and then `logs -f SERVICE`"),
    ("up", &["--build"], BUILD),
    ("up", &["--scale"], COPIES),
    ("up", &["--wait", "--wait-timeout"], "`up -d` comes back once the programs of all services run"),
    ("up", &["--watch", "-w", "--menu"], NOTHING),
];

const BUILD: &str = "build the image with another tool, and `nscompose load` it or push it to a registry";
const COPIES: &str = "name the service several times in the file";
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
