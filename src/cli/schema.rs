//! `nscompose schema`.

use super::settings::Settings;
use crate::{compose, diagnostics::Failure};

/// Print the JSON Schema of Compose files, for editors
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_: &Args, settings: &Settings) -> Result<u8, Failure> {
    let text = serde_json::to_string_pretty(&compose::schema())
        .map_err(|e| Failure::internal("cannot write the schema").caused_by(&e))?;
    settings.printer.data(&(text + "\n"))?;
    Ok(0)
}
