//! The command line: a file per verb, and what they have in common.
//!
//! ```text
//! argv ──clap──▶ Cli ──settings──▶ Settings ──▶ verb::run ──▶ exit code
//! ```

mod down;
mod exec;
mod files;
mod logs;
mod plan;
mod ps;
mod settings;
mod stack;
mod terminal;
mod up;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::{diagnostics::Failure, ui::Printer};
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
    /// Folder for all that nscompose keeps, instead of the usual ones
    #[arg(long, value_name = "FOLDER", env = "NSCOMPOSE_HOME", global = true)]
    home: Option<PathBuf>,
    /// Print nothing but data, warnings and errors
    #[arg(short, long, global = true)]
    quiet: bool,
}

/// `-f` behind the verb, where people type it too; `logs -f` is taken.
#[derive(Debug, clap::Args)]
struct MoreFiles {
    /// Compose file, as before the verb
    #[arg(id = "more_files", short = 'f', long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Up(up::Args),
    Down(down::Args),
    Ps(ps::Args),
    Logs(logs::Args),
    Exec(exec::Args),
    Plan(plan::Args),
}

impl Verb {
    fn more_files(&self) -> &[PathBuf] {
        match self {
            Self::Up(args) => &args.more.files,
            Self::Down(args) => &args.more.files,
            Self::Ps(args) => &args.more.files,
            Self::Plan(args) => &args.more.files,
            Self::Logs(_) | Self::Exec(_) => &[],
        }
    }
}

/// Runs the command that the process was started as.
pub fn main() -> ExitCode {
    // Before clap: a reader that goes away ends us with an error to handle and not with a signal, as Rust has it.
    let cli = Cli::parse();
    let printer = Printer::new(cli.global.quiet);
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
    }
}
