//! `nscompose plan`.

use super::{
    files::{Scale, containers_of_others, load_scaled, services, tell_apart},
    image::look_only,
    limits::{leave_out, no_plan_of},
    network::Shared,
    settings::Settings,
};
use crate::{
    diagnostics::Failure,
    model::Observed,
    plan::{self, Intent},
    supervisor::{host, observe},
};

/// Show what `up` would do, each step with its reason, and touch nothing
///
/// Exits with 0 when there is nothing to do and with 2 when there is.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) more: super::MoreFiles,
    #[command(flatten)]
    leniency: super::Leniency,
    /// How many containers a service has, whatever the file says
    #[arg(long, value_name = "SERVICE=NUMBER")]
    scale: Vec<Scale>,
    /// Compose file, or services to bring up
    #[arg(value_name = "FILE|SERVICE")]
    words: Vec<String>,
}

/// Exit code for a plan that changes something, as of `terraform plan -detailed-exitcode`.
const CHANGES: u8 = 2;

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let words = tell_apart(&args.words, &settings.directory);
    let loaded = load_scaled(&words, &args.scale, settings, args.leniency.allow_unsupported)?;
    let intent = Intent {
        services: services(&words.services, loaded.project.services.keys())?.into_iter().collect(),
        pools: settings.address_pools()?,
        ..Intent::default()
    };
    let running = settings.layout.stack(&loaded.project.name).connect().ok();
    let running = running.and_then(|stream| observe(&stream).ok().flatten());
    let mut observed = match running {
        Some(snapshot) => snapshot.observed,
        None => Observed { host: host()?, ..Observed::default() },
    };
    observed.host.containers = containers_of_others(&loaded.project, settings)?;
    Shared::of(settings, &loaded.project).look(&mut observed)?;
    let mut project = look_only(loaded.project.clone(), &intent.services, &observed, settings)?;
    if args.leniency.allow_unsupported {
        leave_out(&mut project, &observed.host, &intent, &loaded, settings.printer);
    }
    let plan = plan::up(&project, &observed, &intent).map_err(|e| no_plan_of(&e, &loaded))?;
    settings.printer.data(&plan.to_string())?;
    Ok(if plan.is_empty() { 0 } else { CHANGES })
}
