//! `nscompose plan`.

use super::{
    files::{load_project, services, tell_apart},
    settings::Settings,
    stack::no_plan,
};
use crate::{
    diagnostics::Failure,
    model::{Host, Observed},
    network::netlink::host_routes,
    plan::{self, Intent},
    sandbox::StackIds,
    supervisor::observe,
};

/// Show what `up` would do, each step with its reason, and touch nothing
///
/// Exits with 0 when there is nothing to do and with 2 when there is.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) more: super::MoreFiles,
    /// Compose file, or services to bring up
    #[arg(value_name = "FILE|SERVICE")]
    words: Vec<String>,
}

/// Exit code for a plan that changes something, as of `terraform plan -detailed-exitcode`.
const CHANGES: u8 = 2;

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let words = tell_apart(&args.words, &settings.directory);
    let project = load_project(&words, settings)?;
    let intent = Intent { services: services(&words.services, project.services.keys())?.into_iter().collect() };
    let running = settings.layout.stack(&project.name).connect().ok();
    let running = running.and_then(|stream| observe(&stream).ok().flatten());
    let observed = running.map_or_else(nothing_yet, |snapshot| Ok(snapshot.observed))?;
    let plan = plan::up(&project, &observed, &intent).map_err(|e| no_plan(&e))?;
    settings.printer.data(&plan.to_string());
    Ok(if plan.is_empty() { 0 } else { CHANGES })
}

/// A stack that is not up, on this machine and for this account.
fn nothing_yet() -> Result<Observed, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::host("cannot start the event loop").caused_by(&e))?;
    let routes = runtime.block_on(host_routes()).unwrap_or_default().into_iter().collect();
    let host = Host { ids: StackIds::of_caller().for_plan(), routes };
    Ok(Observed { host, ..Observed::default() })
}
