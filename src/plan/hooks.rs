//! A command of `pre_start` in a plan: its container is started, waited for and removed, as any other is.

use super::{Operation, Plan, StepId, Until, Wait};
use crate::model::{ContainerState, Observed, ServiceName};

/// A command that is to run to its end.
pub(super) struct Run<'a> {
    /// What starts its container.
    pub(super) start: Operation,
    /// The container.
    pub(super) hook: ServiceName,
    /// Those that are started after it.
    pub(super) dependents: Vec<ServiceName>,
    /// Milliseconds after which nobody waits any more.
    pub(super) within_ms: Option<u64>,
    /// Why.
    pub(super) cause: &'a str,
}

/// Adds the steps of a command; the one comes back after which it has succeeded, and nothing is left of it.
pub(super) fn add(plan: &mut Plan, run: Run<'_>, after: impl IntoIterator<Item = StepId>) -> StepId {
    let Run { start, hook, dependents, within_ms, cause } = run;
    let started = plan.add(start, cause, after);
    let wait = Wait { service: hook.clone(), until: Until::Completed, dependents, required: true, within_ms };
    let ended = plan.add(Operation::WaitFor(wait), cause, [started]);
    plan.add(Operation::Remove(hook), "it has done its work", [ended])
}

/// Says why a command is run.
pub(super) fn cause(service: &ServiceName, index: u32) -> String {
    format!("services.{0}.pre_start[{index}] runs before {0} is started", service.service())
}

/// The commands that have been made with containers of a service which have never been started, and that are to come before these. They
/// are in the order in which they run.
pub(super) fn waiting<'a>(observed: &'a Observed, service: &ServiceName) -> Vec<&'a ServiceName> {
    let of_service = |name: &&ServiceName| name.hook().is_some() && name.is_replica_of(service);
    let mut hooks: Vec<&ServiceName> = observed.containers.keys().filter(of_service).collect();
    hooks.retain(|name| is_to_come(observed, name));
    hooks.sort_by_key(|name| (name.hook(), name.number()));
    hooks
}

/// Whether a command has not done its work yet: one that has is removed.
pub(super) fn is_to_come(observed: &Observed, hook: &ServiceName) -> bool {
    observed.containers.get(hook).is_some_and(|container| !container.state.is_up())
}

/// Whether a container has been made and never started.
pub(super) fn is_created(observed: &Observed, name: &ServiceName) -> bool {
    observed.containers.get(name).is_some_and(|container| container.state == ContainerState::Created)
}
