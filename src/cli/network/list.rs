//! `nscompose network ls`.

use super::{all, inspect::Shown, networks};
use crate::{cli::settings::Settings, diagnostics::Failure, ui::networks_table};

/// List networks that stacks share
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Print names only
    #[arg(short, long = "names")]
    names: bool,
    /// For programs: an array of objects
    #[arg(long, value_name = "FORMAT", value_parser = ["json"])]
    format: Option<String>,
}

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let all = all(settings)?;
    let shown: Vec<Shown> =
        all.iter().map(|(name, definition)| Shown::of(name, definition, &networks(settings))).collect();
    settings.printer.data(&match (args.names, &args.format) {
        (true, _) => shown.iter().map(|network| format!("{}\n", network.name)).collect(),
        (false, Some(_)) => crate::ui::json_lines(&shown),
        (false, None) => {
            let rows = shown.iter().map(|network| {
                let stacks: Vec<&str> = network.stacks.keys().map(String::as_str).collect();
                [network.name.clone(), network.driver.to_owned(), network.subnets().join(", "), stacks.join(", ")]
            });
            networks_table(rows)
        }
    })?;
    Ok(0)
}
