//! `nscompose stop`.

use super::{
    change::{Said, Target, carry_out_plan, milliseconds, not_up},
    settings::Settings,
    when::seconds,
};
use crate::{diagnostics::Failure, plan};

/// Stop services, which stay with their files, logs, namespaces and addresses
///
/// Their published ports are free meanwhile. `start` starts them again.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) more: super::MoreFiles,
    /// Compose file, or services to stop
    #[arg(value_name = "FILE|SERVICE")]
    words: Vec<String>,
    /// Seconds that each may take to stop, instead of its stop_grace_period
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<u32>,
}

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let target = match Target::find(&args.words, settings)? {
        Ok(target) => target,
        Err(project) => return not_up(&project, settings),
    };
    let (services, project) = (target.services, target.project);
    let layout = settings.layout.stack(&project);
    target.opened.on_runtime(async |mut connection, snapshot| {
        let grace_ms = milliseconds(args.timeout);
        let plan = |observed: &_| plan::stop(observed, &services, grace_ms);
        let mut said = Said::new(settings.printer);
        if !carry_out_plan((&mut connection, &layout), snapshot, plan, |event| said.show(event)).await? {
            settings.printer.progress(project.as_str(), "has nothing to stop");
        }
        Ok(0)
    })
}
