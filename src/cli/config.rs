//! `nscompose config`.

use clap::ValueEnum;

use super::{
    files::{options, tell_apart},
    settings::Settings,
};
use crate::{
    diagnostics::Failure,
    load::{self, LoadOptions},
};

/// Show what the Compose files come to: merged, with variables filled in and everything in its long form
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) more: super::MoreFiles,
    /// How it is written
    #[arg(long, value_name = "FORMAT", default_value = "yaml")]
    format: Format,
    /// Compose file, or services to show, with those that they depend on
    #[arg(value_name = "FILE|SERVICE")]
    words: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Yaml,
    Json,
}

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let words = tell_apart(&args.words, &settings.directory);
    let options = LoadOptions { services: words.services.clone(), ..options(&words, settings)? };
    let contents = load::contents(&options)?;
    settings.printer.diagnostics(&contents.warnings);
    let document = contents.json().map_err(|e| Failure::host("cannot write the project").caused_by(&e))?;
    settings.printer.data(&document.json())?;
    // The process ends here: taking a large project apart would be for nothing.
    std::mem::forget((contents, document));
    Ok(0)
}
