//! `nscompose kill`.

use std::cell::RefCell;

use super::{
    change::{Said, Target, carry_out_plan, not_up},
    settings::Settings,
};
use crate::{
    diagnostics::Failure,
    model::{ServiceName, StopSignal},
    plan,
};

/// Send a signal to services that run; SIGKILL, which ends them at once, if nothing else is said
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) more: super::MoreFiles,
    /// Compose file, or services to kill
    #[arg(value_name = "FILE|SERVICE")]
    words: Vec<String>,
    /// Signal to send, by name or number
    #[arg(short, long, value_name = "SIGNAL", default_value = "SIGKILL", value_parser = signal)]
    signal: StopSignal,
    /// Those too that are not in the file any more
    #[arg(long)]
    remove_orphans: bool,
}

fn signal(text: &str) -> Result<StopSignal, String> {
    text.parse().map_err(|e: crate::model::InvalidSignal| e.to_string())
}

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let mut target = match Target::find(&args.words, settings)? {
        Ok(target) => target,
        Err(project) => return not_up(&project, settings),
    };
    if let Some(declared) = target.declared.as_ref().filter(|_| !target.named && !args.remove_orphans) {
        target.services.retain(|name| declared.iter().any(|declared| declared == name.service()));
    }
    let (services, project) = (target.services, target.project);
    let layout = settings.layout.stack(&project);
    target.opened.on_runtime(async |mut connection, snapshot| {
        // Those of the plan that was carried out, should it have been made anew.
        let there: RefCell<Vec<ServiceName>> = RefCell::default();
        let plan = |observed: &_| {
            let plan = plan::kill(observed, &services, args.signal);
            there.replace(plan.killed().cloned().collect());
            plan
        };
        let mut said = Said::new(settings.printer);
        if !carry_out_plan((&mut connection, &layout), snapshot, plan, |event| said.show(event)).await? {
            settings.printer.progress(project.as_str(), "has no container to kill");
        }
        let done =
            if args.signal == StopSignal::KILL { "killed".to_owned() } else { format!("was sent {}", args.signal) };
        there.take().iter().for_each(|name| settings.printer.progress(name.as_str(), &done));
        Ok(0)
    })
}
