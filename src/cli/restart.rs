//! `nscompose restart`.

use super::{
    change::{Target, carry_out_plan, milliseconds, not_up, show},
    settings::Settings,
};
use crate::{diagnostics::Failure, plan};

/// Stop services and start them again, those that have ended too
///
/// They are started as they were made; what has changed in the file since is for `up`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) more: super::MoreFiles,
    /// Compose file, or services to restart
    #[arg(value_name = "FILE|SERVICE")]
    words: Vec<String>,
    /// Services that depend on them are left alone anyway; for those who are used to it
    #[arg(long = "no-deps", hide = true)]
    _no_deps: bool,
    /// Seconds that each may take to stop, instead of its stop_grace_period
    #[arg(short, long, value_name = "SECONDS")]
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
        let plan = |observed: &_| plan::restart(observed, &services, grace_ms);
        if !carry_out_plan((&mut connection, &layout), snapshot, plan, |event| show(settings.printer, event)).await? {
            settings.printer.progress(project.as_str(), "nothing to restart");
        }
        Ok(0)
    })
}
