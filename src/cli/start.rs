//! `nscompose start`.

use super::{
    change::{Said, Target, carry_out_plan, milliseconds},
    settings::Settings,
    when::seconds,
};
use crate::{
    diagnostics::Failure,
    plan::{self, StartWish},
};

/// Start services that are there and do not run, with all that they depend on
///
/// They are started as they were made; what has changed in the file since is for `up`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) more: super::MoreFiles,
    /// Compose file, or services to start
    #[arg(value_name = "FILE|SERVICE")]
    words: Vec<String>,
    /// Come back when all of them are up: healthy, or running where nothing probes them, or ended with code 0. The exit code
    /// is 1 if one does not get there
    #[arg(long)]
    wait: bool,
    /// Seconds after which nothing is waited for any more; 0 is no limit
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    wait_timeout: Option<u32>,
}

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let makes = "`nscompose up -d` makes what is missing";
    let target = match Target::find(&args.words, settings)? {
        Ok(target) => target,
        Err(project) => {
            return Err(Failure::operation(format!("stack `{project}` has no containers to start")).hint(makes));
        }
    };
    if let Some(service) = target.without.first() {
        return Err(Failure::operation(format!("service `{service}` has no container to start")).hint(makes));
    }
    let (services, project) = (target.services, target.project);
    let layout = settings.layout.stack(&project);
    target.opened.on_runtime(async |mut connection, snapshot| {
        let wait_timeout_ms = milliseconds(args.wait_timeout.filter(|seconds| *seconds > 0));
        let wish = StartWish { wait: args.wait, wait_timeout_ms };
        let plan = |observed: &_| plan::start(observed, &services, wish);
        let mut said = Said::new(settings.printer);
        if !carry_out_plan((&mut connection, &layout), snapshot, plan, |event| said.show(event)).await? {
            settings.printer.progress(project.as_str(), "runs already, nothing to do");
        }
        Ok(0)
    })
}
