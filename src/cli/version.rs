//! `nscompose version`.

use clap::ValueEnum;

use super::settings::Settings;
use crate::diagnostics::Failure;

/// Print the version of nscompose
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print the number alone
    #[arg(long)]
    short: bool,
    /// How it is printed
    #[arg(short, long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    #[default]
    Pretty,
    /// For programs: an object
    Json,
}

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    let text = match args.format {
        _ if args.short => version.to_owned(),
        Format::Pretty => format!("nscompose {version}"),
        Format::Json => serde_json::json!({ "version": version }).to_string(),
    };
    settings.printer.data(&(text + "\n"))?;
    Ok(0)
}
