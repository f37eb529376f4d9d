//! `nscompose plan`.

use super::{
    files::{load_project, services, tell_apart},
    image::look_only,
    network::Shared,
    settings::Settings,
    stack::no_plan,
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
    /// Compose file, or services to bring up
    #[arg(value_name = "FILE|SERVICE")]
    words: Vec<String>,
}

/// Exit code for a plan that changes something, as of `terraform plan -detailed-exitcode`.
const CHANGES: u8 = 2;

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let words = tell_apart(&args.words, &settings.directory);
    let project = load_project(&words, settings, args.leniency.allow_unsupported)?.project;
    let intent = Intent {
        services: services(&words.services, project.services.keys())?.into_iter().collect(),
        pools: settings.address_pools()?,
    };
    let running = settings.layout.stack(&project.name).connect().ok();
    let running = running.and_then(|stream| observe(&stream).ok().flatten());
    let mut observed = match running {
        Some(snapshot) => snapshot.observed,
        None => Observed { host: host()?, ..Observed::default() },
    };
    Shared::of(settings, &project).look(&mut observed)?;
    let project = look_only(project, &intent.services, &observed, settings)?;
    let plan = plan::up(&project, &observed, &intent).map_err(|e| no_plan(&e))?;
    settings.printer.data(&plan.to_string())?;
    Ok(if plan.is_empty() { 0 } else { CHANGES })
}
