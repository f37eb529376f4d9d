//! `nscompose scale`.

use super::{
    files::{Scale, is_file},
    settings::Settings,
    up,
};
use crate::diagnostics::Failure;

/// Bring services up with so many containers each, whatever the file says
///
/// Those that there are stay as they are. Fewer than there are takes the last ones away. The next `up` goes by the file again.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) more: super::MoreFiles,
    #[command(flatten)]
    leniency: super::Leniency,
    /// Leave alone what they depend on
    #[arg(long)]
    no_deps: bool,
    /// Compose file, and services with their numbers
    #[arg(value_name = "FILE|SERVICE=NUMBER", required = true)]
    words: Vec<String>,
}

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let mut files = Vec::new();
    let mut scale: Vec<Scale> = Vec::new();
    for word in &args.words {
        match word.parse() {
            Ok(one) => scale.push(one),
            Err(_) if is_file(word, &settings.directory) => files.push(word.clone()),
            Err(what) => return Err(Failure::usage(format!("`{word}` is no number of containers: {what}"))),
        }
    }
    if scale.is_empty() {
        return Err(Failure::usage("`scale` needs a service and a number").hint("nscompose scale SERVICE=NUMBER"));
    }
    up::scale(files, scale, args.leniency.allow_unsupported, args.no_deps, settings)
}
