//! What the verbs have in common that change some containers of a stack: their order.

use std::collections::{BTreeMap, BTreeSet};

use super::{Operation, Plan, StepId, Until, Verdict, Wait, hooks};
use crate::model::{Condition, Container, ContainerState, Observed, ServiceName};

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

/// Adds the steps that start those of `services` that do not run, or will not once `stops` are done, each after what it needs
/// and once that is as far as it has to be, for which it is waited so many milliseconds at most. `operation` is the step that
/// starts one; that of each comes back.
pub(super) fn add_starts<'a>(
    plan: &mut Plan,
    observed: &'a Observed,
    services: &BTreeSet<ServiceName>,
    stops: &BTreeMap<ServiceName, StepId>,
    within_ms: Option<u64>,
    operation: impl Fn(ServiceName) -> Operation,
    cause: impl Fn(&ServiceName) -> String,
) -> BTreeMap<&'a ServiceName, StepId> {
    let mut starts: BTreeMap<&ServiceName, StepId> = BTreeMap::new();
    let order = in_order(observed, services);
    let is_started = |name: &ServiceName| !can_be_stopped(observed.containers[name].state) || stops.contains_key(name);
    let order: Vec<&ServiceName> = order.into_iter().filter(|name| name.hook().is_none() && is_started(name)).collect();
    // The last of what comes before the containers of a service.
    let mut hooked: BTreeMap<&str, Option<StepId>> = BTreeMap::new();
    let mut waits: BTreeMap<(&ServiceName, Until, bool), StepId> = BTreeMap::new();
    for name in &order {
        let mut waited: BTreeSet<&ServiceName> = BTreeSet::new();
        let mut after: BTreeSet<StepId> = stops.get(*name).copied().into_iter().collect();
        for (on, until, required) in needed_of(observed, services, name) {
            if !starts.contains_key(on) && has_come(observed, on, until) {
                continue;
            }
            let id = waits.entry((on, until, required)).or_insert_with(|| {
                let alike =
                    |other: &&&ServiceName| needed_of(observed, services, other).any(|it| it == (on, until, required));
                let dependents: Vec<ServiceName> = order.iter().filter(alike).map(|name| (*name).clone()).collect();
                let names: Vec<&str> = dependents.iter().map(ServiceName::as_str).collect();
                let cause = format!("{} depend{} on it", names.join(", "), if names.len() == 1 { "s" } else { "" });
                let wait = Wait { service: on.clone(), until, dependents, required, within_ms };
                plan.add(Operation::WaitFor(wait), cause, starts.get(on).copied())
            });
            after.insert(*id);
            waited.insert(on);
        }
        let needed = needs(observed, name);
        let before = starts.iter().filter(|(other, _)| needed.contains(**other) && !waited.contains(**other));
        after.extend(before.map(|(_, id)| *id));
        if hooks::is_created(observed, name) {
            let last = hooked.entry(name.service()).or_insert_with(|| {
                let dependents = services.iter().filter(|other| other.is_replica_of(name) && other.hook().is_none());
                let dependents: Vec<ServiceName> = dependents.cloned().collect();
                hooks::waiting(observed, name).into_iter().fold(None, |last, hook| {
                    let cause = hooks::cause(name, hook.hook().unwrap_or_default());
                    let (start, dependents) = (Operation::StartAgain(hook.clone()), dependents.clone());
                    let run = hooks::Run { start, hook: hook.clone(), dependents, within_ms, cause: &cause };
                    Some(hooks::add(plan, run, last.into_iter().chain(after.iter().copied())))
                })
            });
            after.extend(*last);
        }
        starts.insert(name, plan.add(operation((*name).clone()), cause(name), after));
    }
    starts
}

/// Adds the steps that wait until all of `services` are up, or have completed where others wait for that, beyond what is
/// waited for anyway. `starts` are the steps that start them.
pub(super) fn add_waits(
    plan: &mut Plan,
    observed: &Observed,
    services: &BTreeSet<ServiceName>,
    starts: &BTreeMap<&ServiceName, StepId>,
    within_ms: Option<u64>,
) {
    let waited: BTreeSet<ServiceName> = plan
        .steps()
        .filter_map(|(_, step)| match &step.operation {
            Operation::WaitFor(wait) if wait.required => Some(wait.service.clone()),
            _ => None,
        })
        .collect();
    let all = || observed.containers.values().flat_map(|container| &container.depends_on);
    for name in in_order(observed, services).into_iter().filter(|name| name.hook().is_none()) {
        let is_job = all().any(|on| on.service == *name && on.condition == Condition::Completed);
        let until = if is_job { Until::Completed } else { Until::Up };
        let start = starts.get(name).copied();
        if waited.contains(name) || start.is_none() && has_come(observed, name, until) {
            continue;
        }
        let wait = Wait { service: name.clone(), until, dependents: Vec::new(), required: true, within_ms };
        plan.add(Operation::WaitFor(wait), "it is waited for until all are up", start);
    }
}

/// What a service needs of those of `services`, beyond that they have been started.
fn needed_of<'a>(
    observed: &'a Observed,
    services: &BTreeSet<ServiceName>,
    name: &ServiceName,
) -> impl Iterator<Item = (&'a ServiceName, Until, bool)> {
    let needed = observed.containers[name].depends_on.iter().filter(|on| services.contains(&on.service));
    needed.filter_map(|on| Some((&on.service, Until::of(on.condition)?, on.required)))
}

/// Whether what there is of a service is as far as that.
fn has_come(observed: &Observed, name: &ServiceName, until: Until) -> bool {
    until.judge(observed.containers.get(name).map(Container::life)) == Verdict::Reached
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::{Dependency, Effective, Origin, ProbeLog, StopSignal};

    /// Containers with what they depend on, such as `web db`, and a state behind `=`. What they depend on may have been
    /// healthy first (`db+`), completed (`db!`), or take them along when it restarts (`db*`).
    pub(in crate::plan) fn observed(text: &str) -> Observed {
        let mut observed = Observed::default();
        for line in text.split(';').map(str::trim) {
            let mut words = line.split_whitespace();
            let first = words.next().expect("a service");
            let (name, state) = first.split_once('=').unwrap_or((first, "running"));
            let depends_on: Vec<Dependency> = words
                .map(|word| {
                    let service = word.trim_end_matches(['+', '!', '*']).parse().expect("a name");
                    let condition = match word {
                        _ if word.contains('+') => Condition::Healthy,
                        _ if word.contains('!') => Condition::Completed,
                        _ => Condition::Started,
                    };
                    Dependency { condition, restart: word.contains('*'), ..Dependency::started(service) }
                })
                .collect();
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
                dependencies: depends_on.iter().map(|on| on.service.clone()).collect(),
                depends_on,
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
