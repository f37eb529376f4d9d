//! The command line: a file per verb, and what they have in common.
//!
//! ```text
//! argv ──clap──▶ Cli ──settings──▶ Settings ──▶ verb::run ──▶ exit code
//! ```

mod attach;
mod change;
mod config;
mod create;
mod down;
mod events;
mod exec;
mod files;
mod image;
mod kill;
mod lent;
mod limits;
mod logs;
mod ls;
mod network;
mod not_yet;
mod ns;
mod pause;
mod plan;
mod port;
mod ps;
mod restart;
mod rm;
mod scale;
mod schema;
mod settings;
mod stack;
mod start;
mod stats;
mod stop;
mod terminal;
mod top;
mod typed;
mod up;
mod version;
mod wait;
mod when;
mod wishes;

use std::{path::PathBuf, process::ExitCode};

use clap::{CommandFactory, Parser, Subcommand, builder::FalseyValueParser};

use crate::{
    diagnostics::{Failure, FailureKind},
    ui::{Messages, Printer},
};
use settings::Settings;

/// Brings up the services of a Compose file straight on Linux namespaces: no daemon, no root.
#[derive(Debug, Parser)]
#[command(name = "nscompose", version, disable_help_subcommand = true)]
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
    /// When output has colours
    #[arg(long, value_name = "WHEN", env = "COMPOSE_ANSI", global = true, hide_env_values = true)]
    ansi: Option<Ansi>,
    /// How progress is shown: `auto`, `plain` for lines that stay on a terminal too, or `quiet`
    #[arg(
        long,
        value_name = "HOW",
        env = "COMPOSE_PROGRESS",
        global = true,
        hide_env_values = true,
        hide_possible_values = true
    )]
    progress: Option<ProgressKind>,
    /// How warnings and errors are printed: for people, or for programs as a JSON object a line
    #[arg(long, value_name = "FORMAT", global = true)]
    message_format: Option<MessageFormat>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Ansi {
    Never,
    Always,
    // A variable that is empty says nothing.
    #[value(alias = "")]
    Auto,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ProgressKind {
    #[value(alias = "")]
    Auto,
    Plain,
    Quiet,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum MessageFormat {
    Human,
    Json,
}

impl MessageFormat {
    fn messages(self) -> Messages {
        match self {
            Self::Human => Messages::Human,
            Self::Json => Messages::Json,
        }
    }
}

/// `-f` behind the verb, where people type it too; `logs -f` is taken.
#[derive(Debug, clap::Args)]
struct MoreFiles {
    /// Compose file, as before the verb
    #[arg(id = "more_files", short = 'f', long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Nothing is built, nor drawn where it is not wanted, and nothing asked, anyway; for those who are used to it.
#[derive(Debug, clap::Args)]
struct Accustomed {
    #[arg(long = "no-build", hide = true)]
    _no_build: bool,
    #[arg(long = "quiet-pull", hide = true)]
    _quiet_pull: bool,
    #[arg(short = 'y', long = "yes", hide = true)]
    _yes: bool,
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
    Create(create::Args),
    Scale(scale::Args),
    Down(down::Args),
    Rm(rm::Args),
    Start(start::Args),
    Stop(stop::Args),
    Restart(restart::Args),
    Kill(kill::Args),
    Pause(pause::PauseArgs),
    Unpause(pause::UnpauseArgs),
    Wait(wait::Args),
    Ps(ps::Args),
    Ls(ls::Args),
    Top(top::Args),
    Events(events::Args),
    Ns(ns::Args),
    Stats(stats::Args),
    Port(port::Args),
    Logs(logs::Args),
    Exec(exec::Args),
    Attach(attach::Args),
    Plan(plan::Args),
    Config(config::Args),
    Schema(schema::Args),
    #[command(flatten)]
    Images(image::Verb),
    /// Manage networks that stacks share
    #[command(subcommand)]
    Network(network::Verb),
    Version(version::Args),
    /// Anything else, to be told what it is.
    #[command(external_subcommand)]
    Other(Vec<String>),
}

impl Verb {
    fn more_files(&self) -> &[PathBuf] {
        match self {
            Self::Up(args) => &args.more.files,
            Self::Scale(args) => &args.more.files,
            Self::Create(args) => &args.more.files,
            Self::Down(args) => &args.more.files,
            Self::Start(args) => &args.more.files,
            Self::Stop(args) => &args.more.files,
            Self::Restart(args) => &args.more.files,
            Self::Kill(args) => &args.more.files,
            Self::Pause(args) => &args.more.files,
            Self::Unpause(args) => &args.more.files,
            Self::Wait(args) => &args.more.files,
            Self::Top(args) => &args.more.files,
            Self::Events(args) => &args.more.files,
            Self::Ps(args) => &args.more.files,
            Self::Ns(args) => &args.more.files,
            Self::Stats(args) => &args.more.files,
            Self::Port(args) => &args.more.files,
            Self::Plan(args) => &args.more.files,
            Self::Config(args) => &args.more.files,
            Self::Images(verb) => verb.more_files(),
            Self::Rm(_)
            | Self::Logs(_)
            | Self::Exec(_)
            | Self::Attach(_)
            | Self::Ls(_)
            | Self::Schema(_)
            | Self::Network(_)
            | Self::Version(_)
            | Self::Other(_) => &[],
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
    if let Some(code) = crate::sandbox::keeper_main() {
        return code;
    }
    if let Some(code) = crate::supervisor::successor_main() {
        return code;
    }
    // Before clap: a reader that goes away ends us with an error to handle and not with a signal, as Rust has it.
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => match not_yet::unknown_flag(&error, std::env::args_os().collect()) {
            Some((failure, format)) => {
                Printer::new(false, format.map_or(Messages::Human, MessageFormat::messages)).failure(&failure);
                return ExitCode::from(code_of_mistake(failure.exit_code(), is_plan()));
            }
            None => {
                let _ = error.print();
                let code = u8::try_from(error.exit_code()).unwrap_or(FailureKind::Usage.exit_code());
                return ExitCode::from(code_of_mistake(code, is_plan()));
            }
        },
    };
    let is_plan = matches!(cli.verb, Verb::Plan(_));
    let messages = cli.global.message_format.map_or_else(|| cli.verb.messages(), MessageFormat::messages);
    match cli.global.ansi {
        Some(Ansi::Never) => anstream::ColorChoice::Never.write_global(),
        Some(Ansi::Always) => anstream::ColorChoice::AlwaysAnsi.write_global(),
        Some(Ansi::Auto) | None => {}
    }
    let quiet = cli.global.quiet || cli.global.progress == Some(ProgressKind::Quiet);
    let printer = match cli.global.progress {
        Some(ProgressKind::Plain) => Printer::new(quiet, messages).with_lines_that_stay(),
        _ => Printer::new(quiet, messages),
    };
    match run(cli, printer) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            printer.failure(&failure);
            ExitCode::from(code_of_mistake(failure.exit_code(), is_plan))
        }
    }
}

/// The exit code of what has failed: 2 of `plan` means that there is something to do.
fn code_of_mistake(code: u8, is_plan: bool) -> u8 {
    if is_plan && code == plan::CHANGES { FailureKind::Operation.exit_code() } else { code }
}

/// Whether a command line with a mistake in it is one of `plan`.
fn is_plan() -> bool {
    let matches = Cli::command().ignore_errors(true).try_get_matches();
    matches.is_ok_and(|matches| matches.subcommand_name() == Some("plan"))
}

fn run(cli: Cli, printer: Printer) -> Result<u8, Failure> {
    let mut global = cli.global;
    global.files.extend(cli.verb.more_files().iter().cloned());
    let settings = Settings::resolve(&global, printer)?;
    match cli.verb {
        Verb::Up(args) => up::run(&args, &settings),
        Verb::Scale(args) => scale::run(&args, &settings),
        Verb::Create(args) => create::run(&args, &settings),
        Verb::Rm(args) => rm::run(&args, &settings),
        Verb::Down(args) => down::run(&args, &settings),
        Verb::Start(args) => start::run(&args, &settings),
        Verb::Stop(args) => stop::run(&args, &settings),
        Verb::Restart(args) => restart::run(&args, &settings),
        Verb::Kill(args) => kill::run(&args, &settings),
        Verb::Pause(args) => pause::pause(&args, &settings),
        Verb::Unpause(args) => pause::unpause(&args, &settings),
        Verb::Wait(args) => wait::run(&args, &settings),
        Verb::Ls(args) => ls::run(&args, &settings),
        Verb::Top(args) => top::run(&args, &settings),
        Verb::Events(args) => events::run(&args, &settings),
        Verb::Ps(args) => ps::run(&args, &settings),
        Verb::Ns(args) => ns::run(&args, &settings),
        Verb::Stats(args) => stats::run(&args, &settings),
        Verb::Port(args) => port::run(&args, &settings),
        Verb::Logs(args) => logs::run(&args, &settings),
        Verb::Exec(args) => exec::run(&args, &settings),
        Verb::Attach(args) => attach::run(&args, &settings),
        Verb::Plan(args) => plan::run(&args, &settings),
        Verb::Config(args) => config::run(&args, &settings),
        Verb::Schema(args) => schema::run(&args, &settings),
        Verb::Images(verb) => image::run(&verb, &settings),
        Verb::Network(verb) => network::run(&verb, &settings),
        Verb::Version(args) => version::run(&args, &settings),
        Verb::Other(words) => Err(not_yet::verb(&words)),
    }
}
