//! What the verbs have in common that change some containers of a stack: their order.

use std::collections::{BTreeMap, BTreeSet};

use super::{Operation, Plan, StepId, hooks};
use crate::model::{ContainerState, Observed, ServiceName};

/// All that a service needs, by way of others too, as far as it is there.
pub(super) fn needs<'a>(observed: &'a Observed, name: &ServiceName) -> BTreeSet<&'a ServiceName> {
    let of =
        |name: &ServiceName| observed.containers.get(name).into_iter().flat_map(|container| &container.dependencies);
    let mut found: BTreeSet<&ServiceName> = BTreeSet::new();
    let mut next: Vec<&ServiceName> = of(name).collect();
    while let Some(one) = next.pop() {
        // Containers of files that differ can depend on each other in a circle.
        if one != name && observed.containers.contains_key(one) && found.insert(one) {
            next.extend(of(one));
        }
    }
    found
}

/// Those of `services` that are there, each after those of them that it needs.
pub(super) fn in_order<'a>(observed: &'a Observed, services: &BTreeSet<ServiceName>) -> Vec<&'a ServiceName> {
    let mut order: Vec<&ServiceName> = observed.containers.keys().filter(|name| services.contains(*name)).collect();
    // Who needs more comes later: what somebody needs needs less than he does. In a circle the order does not matter.
    order.sort_by_key(|name| needs(observed, name).len());
    order
}

/// Whether there is something to stop: processes, or a start that is to come.
pub(super) fn can_be_stopped(state: ContainerState) -> bool {
    state.is_up()
}

/// Adds the steps that stop those of `services` that run, those first that need others; that of each comes back.
pub(super) fn add_stops(
    plan: &mut Plan,
    observed: &Observed,
    services: &BTreeSet<ServiceName>,
    grace_ms: Option<u64>,
    cause: &str,
) -> BTreeMap<ServiceName, StepId> {
    let mut stops: BTreeMap<ServiceName, StepId> = BTreeMap::new();
    for name in in_order(observed, services).into_iter().rev() {
        if !can_be_stopped(observed.containers[name].state) {
            continue;
        }
        let dependents = stops.iter().filter(|(other, _)| needs(observed, other).contains(name)).map(|(_, id)| *id);
        let after: Vec<StepId> = dependents.collect();
        let stop = match grace_ms {
            None => Operation::Stop(name.clone()),
            Some(grace_ms) => Operation::StopWithin(name.clone(), grace_ms),
        };
        stops.insert(name.clone(), plan.add(stop, cause, after));
    }
    stops
}

/// Adds the steps that start those of `services` that do not run, or will not once `stops` are done, each after what it needs.
pub(super) fn add_starts(
    plan: &mut Plan,
    observed: &Observed,
    services: &BTreeSet<ServiceName>,
    stops: &BTreeMap<ServiceName, StepId>,
    cause: impl Fn(&ServiceName) -> String,
) {
    let mut starts: BTreeMap<&ServiceName, StepId> = BTreeMap::new();
    // The last of what comes before the containers of a service.
    let mut hooked: BTreeMap<&str, Option<StepId>> = BTreeMap::new();
    for name in in_order(observed, services).into_iter().filter(|name| name.hook().is_none()) {
        let runs = can_be_stopped(observed.containers[name].state);
        let stopped = stops.get(name);
        if runs && stopped.is_none() {
            continue;
        }
        let needed = needs(observed, name);
        let before = starts.iter().filter(|(other, _)| needed.contains(**other)).map(|(_, id)| *id);
        let mut after: Vec<StepId> = before.chain(stopped.copied()).collect();
        if hooks::is_created(observed, name) {
            let last = hooked.entry(name.service()).or_insert_with(|| {
                let dependents = services.iter().filter(|other| other.is_replica_of(name) && other.hook().is_none());
                let dependents: Vec<ServiceName> = dependents.cloned().collect();
                hooks::waiting(observed, name).into_iter().fold(None, |last, hook| {
                    let cause = hooks::cause(name, hook.hook().unwrap_or_default());
                    let (start, dependents) = (Operation::StartAgain(hook.clone()), dependents.clone());
                    let run = hooks::Run { start, hook: hook.clone(), dependents, within_ms: None, cause: &cause };
                    Some(hooks::add(plan, run, last.into_iter().chain(after.iter().copied())))
                })
            });
            after.extend(*last);
        }
        starts.insert(name, plan.add(Operation::StartAgain(name.clone()), cause(name), after));
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::{Container, Effective, Origin, ProbeLog, StopSignal};

    /// Containers with what they depend on: `web db*` needs `db`, and a state behind `=`.
    pub(in crate::plan) fn observed(text: &str) -> Observed {
        let mut observed = Observed::default();
        for line in text.split(';').map(str::trim) {
            let mut words = line.split_whitespace();
            let first = words.next().expect("a service");
            let (name, state) = first.split_once('=').unwrap_or((first, "running"));
            let state = match state {
                "exited" => ContainerState::Exited(0),
                "created" => ContainerState::Created,
                "paused" => ContainerState::Paused,
                "restarting" => ContainerState::Restarting(1),
                _ => ContainerState::Running,
            };
            let container = Container {
                name: name.to_owned(),
                state,
                health: None,
                probes: ProbeLog::default(),
                restarts: 0,
                pid: Some(1),
                config: String::new(),
                origin: Origin::default(),
                image: None,
                dependencies: words.map(|word| word.parse().expect("a name")).collect(),
                private_ipc: false,
                command: Vec::new(),
                ports: Vec::new(),
                stop_signal: StopSignal::TERM,
                stop_grace_ms: 10_000,
                started_ms: 0,
                limits: Effective::default(),
                oom_kills: 0,
            };
            observed.containers.insert(name.to_owned().try_into().expect("a name"), container);
        }
        observed
    }

    pub(in crate::plan) fn names(text: &str) -> BTreeSet<ServiceName> {
        text.split_whitespace().map(|word| word.to_owned().try_into().expect("a name")).collect()
    }

    #[test]
    fn a_circle_has_an_order_too() {
        let observed = observed("a b; b a; c a");
        assert_eq!(in_order(&observed, &names("a b c")).len(), 3);
        assert_eq!(needs(&observed, &"c".parse().expect("a name")).len(), 2);
    }
}
