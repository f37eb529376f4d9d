//! `nscompose network rm`.

use super::{broken, find, lock, networks};
use crate::{cli::settings::Settings, diagnostics::Failure};

/// Remove networks that stacks share, and that none is on
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Networks
    #[arg(value_name = "NETWORK", required = true)]
    names: Vec<String>,
}

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let lock = lock(settings)?;
    // All are looked at before one goes.
    let mut found = Vec::new();
    for word in &args.names {
        let (name, _) = find(settings, word)?;
        let stacks: Vec<String> = networks(settings).leases(&name).keys().map(|stack| format!("`{stack}`")).collect();
        if !stacks.is_empty() {
            let failure = Failure::operation(format!("network `{name}` is in use by {}", stacks.join(", ")));
            return Err(failure.hint("take those stacks down first"));
        }
        found.push(name);
    }
    for name in found {
        networks(settings).remove(&name).map_err(|e| broken(&e))?;
        settings.printer.data(&format!("{name}\n"))?;
    }
    drop(lock);
    settings.layout.remove_empty();
    Ok(0)
}
