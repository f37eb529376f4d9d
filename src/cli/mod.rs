//! The command line: a file per verb, and what they have in common.
//!
//! ```text
//! argv ──clap──▶ Cli ──settings──▶ Settings ──▶ verb::run ──▶ exit code
//! ```

mod config;
mod down;
mod exec;
mod files;
mod image;
mod logs;
mod plan;
mod ps;
mod schema;
mod settings;
mod stack;
mod terminal;
mod up;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand, builder::FalseyValueParser};

use crate::{
    diagnostics::{Failure, suggest},
    ui::{Messages, Printer},
};
use settings::Settings;

/// Brings up the services of a Compose file straight on Linux namespaces: no daemon, no root.
#[derive(Debug, Parser)]
#[command(name = "nscompose", version, propagate_version = true, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// What every verb understands.
#[derive(Debug, clap::Args)]
struct Global {
    /// Compose file; several are merged, `-` is standard input [env: COMPOSE_FILE, several separated by `:`]
    #[arg(short, long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Name of the stack, instead of the file's `name:` or the folder's
    #[arg(short, long = "project-name", value_name = "NAME", global = true)]
    project_name: Option<String>,
    /// Folder that relative paths start from, instead of that of the first file
    #[arg(long, value_name = "FOLDER", global = true)]
    project_directory: Option<PathBuf>,
    /// File with variables, instead of `.env`; of several, the later ones count for more [env: COMPOSE_ENV_FILES,
    /// several separated by `,`]
    #[arg(long = "env-file", value_name = "FILE", global = true)]
    env_files: Vec<PathBuf>,
    /// Profile whose services are wanted too; `*` for all [env: COMPOSE_PROFILES, several separated by `,`]
    #[arg(long = "profile", value_name = "NAME", global = true)]
    profiles: Vec<String>,
    /// Folder for all that nscompose keeps, instead of the usual ones
    #[arg(long, value_name = "FOLDER", env = "NSCOMPOSE_HOME", global = true)]
    home: Option<PathBuf>,
    /// Print nothing but data, warnings and errors
    #[arg(short, long, global = true)]
    quiet: bool,
    /// How warnings and errors are printed: for people, or for programs as a JSON object a line
    #[arg(long, value_name = "FORMAT", global = true)]
    message_format: Option<MessageFormat>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum MessageFormat {
    Human,
    Json,
}

/// `-f` behind the verb, where people type it too; `logs -f` is taken.
#[derive(Debug, clap::Args)]
struct MoreFiles {
    /// Compose file, as before the verb
    #[arg(id = "more_files", short = 'f', long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// What else is said about files that are to be run.
#[derive(Debug, clap::Args)]
struct Leniency {
    /// Leave out what is not supported yet, with a warning for each, instead of refusing the file
    #[arg(long, env = "NSCOMPOSE_ALLOW_UNSUPPORTED", value_parser = FalseyValueParser::new())]
    allow_unsupported: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Up(up::Args),
    Down(down::Args),
    Ps(ps::Args),
    Logs(logs::Args),
    Exec(exec::Args),
    Plan(plan::Args),
    Config(config::Args),
    Schema(schema::Args),
    #[command(flatten)]
    Images(image::Verb),
    /// Anything else, to be told what it is.
    #[command(external_subcommand)]
    Other(Vec<String>),
}

/// Verbs that are, for a did-you-mean.
const VERBS: [&str; 19] = [
    "up", "down", "ps", "logs", "exec", "plan", "config", "schema", "images", "pull", "push", "rmi", "tag", "load", "save", "commit",
    "export", "image", "system",
];

/// Verbs of Docker Compose that are not here yet, each with what serves meanwhile.
const NOT_YET: [(&str, &str); 20] = [
    ("attach", "`logs -f` shows what services write"),
    ("build", "build it with another tool and `nscompose load` it"),
    ("cp", "use a bind mount, or `exec SERVICE cat FILE`"),
    ("create", "`up -d` makes and starts"),
    ("events", "`ps` shows what is"),
    ("kill", "`down -t 0` ends the stack at once"),
    ("ls", "`ps` shows one stack"),
    ("pause", "there is nothing in its place"),
    ("port", "`ps` shows the ports"),
    ("restart", "`down` and `up -d`"),
    ("rm", "`down` removes"),
    ("run", "`exec SERVICE COMMAND` runs in a service that is up"),
    ("scale", "name the service several times in the file"),
    ("start", "`up -d` starts what has ended"),
    ("stats", "there is nothing in its place"),
    ("stop", "`down` stops and removes"),
    ("top", "`exec SERVICE ps ax`"),
    ("unpause", "there is nothing in its place"),
    ("wait", "`logs -f` ends with the stack"),
    ("watch", "there is nothing in its place"),
];

fn other(words: &[String]) -> Failure {
    let verb = words.first().map(String::as_str).unwrap_or_default();
    if let Some((_, instead)) = NOT_YET.iter().find(|(name, _)| *name == verb) {
        return Failure::usage(format!("`{verb}` is not supported yet")).hint(*instead);
    }
    let failure = Failure::usage(format!("there is no verb `{verb}`"));
    match suggest(verb, VERBS) {
        Some(name) => failure.hint(format!("did you mean `{name}`?")),
        None => failure.hint("`nscompose --help` lists them"),
    }
}

impl Verb {
    fn more_files(&self) -> &[PathBuf] {
        match self {
            Self::Up(args) => &args.more.files,
            Self::Down(args) => &args.more.files,
            Self::Ps(args) => &args.more.files,
            Self::Plan(args) => &args.more.files,
            Self::Config(args) => &args.more.files,
            Self::Images(verb) => verb.more_files(),
            Self::Logs(_) | Self::Exec(_) | Self::Schema(_) | Self::Other(_) => &[],
        }
    }

    /// Who reads the messages of the verb, if nobody says.
    fn messages(&self) -> Messages {
        match self {
            Self::Config(args) if args.for_programs() => Messages::Json,
            _ => Messages::Human,
        }
    }
}

/// Runs the command that the process was started as.
pub fn main() -> ExitCode {
    // Before clap: a reader that goes away ends us with an error to handle and not with a signal, as Rust has it.
    let cli = Cli::parse();
    let messages = match cli.global.message_format {
        Some(MessageFormat::Human) => Messages::Human,
        Some(MessageFormat::Json) => Messages::Json,
        None => cli.verb.messages(),
    };
    let printer = Printer::new(cli.global.quiet, messages);
    match run(cli, printer) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            printer.failure(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(cli: Cli, printer: Printer) -> Result<u8, Failure> {
    let mut global = cli.global;
    global.files.extend(cli.verb.more_files().iter().cloned());
    let settings = Settings::resolve(&global, printer)?;
    match cli.verb {
        Verb::Up(args) => up::run(&args, &settings),
        Verb::Down(args) => down::run(&args, &settings),
        Verb::Ps(args) => ps::run(&args, &settings),
        Verb::Logs(args) => logs::run(&args, &settings),
        Verb::Exec(args) => exec::run(&args, &settings),
        Verb::Plan(args) => plan::run(&args, &settings),
        Verb::Config(args) => config::run(&args, &settings),
        Verb::Schema(args) => schema::run(&args, &settings),
        Verb::Images(verb) => image::run(&verb, &settings),
        Verb::Other(words) => Err(other(&words)),
    }
}
