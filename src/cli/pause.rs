//! `nscompose pause` and `nscompose unpause`.

use super::{
    change::{Said, Target, carry_out_plan, not_up},
    settings::Settings,
};
use crate::{diagnostics::Failure, model::ContainerState, plan};

/// Freeze all processes of services, which neither know nor can do anything about it
///
/// Where there is no control group (an ordinary user without delegation) each process is stopped with SIGSTOP instead.
#[derive(Debug, clap::Args)]
pub(super) struct PauseArgs {
    #[command(flatten)]
    pub(super) more: super::MoreFiles,
    /// Compose file, or services to freeze
    #[arg(value_name = "FILE|SERVICE")]
    words: Vec<String>,
}

/// Let services that are paused go on
#[derive(Debug, clap::Args)]
pub(super) struct UnpauseArgs {
    #[command(flatten)]
    pub(super) more: super::MoreFiles,
    /// Compose file, or services that go on
    #[arg(value_name = "FILE|SERVICE")]
    words: Vec<String>,
}

pub(super) fn pause(args: &PauseArgs, settings: &Settings) -> Result<u8, Failure> {
    let target = match Target::find(&args.words, settings)? {
        Ok(target) => target,
        Err(project) => return not_up(&project, settings),
    };
    // Who names one means it; all are all that can be.
    if target.named {
        if let Some(service) = target.without.first() {
            return Err(does_not_run(service.as_str()));
        }
        for (service, container) in target.containers() {
            match container.state {
                ContainerState::Running => {}
                ContainerState::Paused => {
                    return Err(Failure::operation(format!("service `{service}` is paused already")));
                }
                _ => return Err(does_not_run(service.as_str())),
            }
        }
    }
    change(target, settings, plan::pause, "has nothing to pause")
}

pub(super) fn unpause(args: &UnpauseArgs, settings: &Settings) -> Result<u8, Failure> {
    let target = match Target::find(&args.words, settings)? {
        Ok(target) => target,
        Err(project) => return not_up(&project, settings),
    };
    if target.named {
        let not_paused = target.containers().find(|(_, container)| container.state != ContainerState::Paused);
        let not_paused = not_paused.map(|(name, _)| name).or(target.without.first());
        if let Some(service) = not_paused {
            return Err(Failure::operation(format!("service `{service}` is not paused")));
        }
    }
    change(target, settings, plan::unpause, "has nothing to unpause")
}

fn does_not_run(service: &str) -> Failure {
    Failure::operation(format!("service `{service}` does not run")).hint("`nscompose ps -a` shows what there is")
}

fn change(
    target: Target,
    settings: &Settings,
    plan: impl Fn(&crate::model::Observed, &std::collections::BTreeSet<crate::model::ServiceName>) -> plan::Plan,
    nothing: &str,
) -> Result<u8, Failure> {
    let (services, project) = (target.services, target.project);
    let layout = settings.layout.stack(&project);
    target.opened.on_runtime(async |mut connection, snapshot| {
        let plan = |observed: &_| plan(observed, &services);
        let mut said = Said::new(settings.printer);
        if !carry_out_plan((&mut connection, &layout), snapshot, plan, |event| said.show(event)).await? {
            settings.printer.progress(project.as_str(), nothing);
        }
        Ok(0)
    })
}
