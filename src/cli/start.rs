//! `nscompose start`.

use super::{
    change::{Target, carry_out_plan, show},
    settings::Settings,
};
use crate::{diagnostics::Failure, plan};

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
        let plan = |observed: &_| plan::start(observed, &services);
        if !carry_out_plan((&mut connection, &layout), snapshot, plan, |event| show(settings.printer, event)).await? {
            settings.printer.progress(project.as_str(), "runs already, nothing to do");
        }
        Ok(0)
    })
}
