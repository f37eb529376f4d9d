//! Taking a stack down: dependents stop first, what does not depend on each other at the same time.

use std::collections::{BTreeMap, BTreeSet};

use super::{Operation, Plan, StepId};
use crate::model::{Observed, ServiceName, Volume, VolumeName};

/// The plan that stops and removes every container, lets go of every namespace, and removes these volumes.
///
/// Bridges and links need no steps: they go with the network namespace of the stack when its supervisor ends, which the
/// kernel does in the background, where deleting them one by one waits 35 to 60 ms for each (an RCU grace period).
pub fn down(observed: &Observed, volumes: &BTreeMap<VolumeName, Volume>, cause: &str) -> Plan {
    let mut plan = Plan::default();
    let all: BTreeSet<&ServiceName> = observed.containers.keys().collect();
    stop_and_remove(&mut plan, observed, &all, |_| cause.to_owned());
    let removed: Vec<StepId> = plan.steps().map(|(id, _)| id).collect();
    for service in observed.namespaces.keys() {
        plan.add(Operation::RemoveNamespaces(service.clone()), cause, removed.iter().copied());
    }
    for (name, volume) in volumes.iter().filter(|(_, volume)| !volume.external) {
        let remove = Operation::RemoveVolume(name.clone(), volume.clone());
        plan.add(remove, "its removal was asked for", removed.iter().copied());
    }
    plan
}

/// Adds the steps that stop and remove the containers of `services`; the removal of each comes back.
pub(super) fn stop_and_remove(
    plan: &mut Plan,
    observed: &Observed,
    services: &BTreeSet<&ServiceName>,
    cause: impl Fn(&ServiceName) -> String,
) -> BTreeMap<ServiceName, StepId> {
    let mut stops: BTreeMap<&ServiceName, StepId> = BTreeMap::new();
    let mut removals = BTreeMap::new();
    // Dependents first: a service comes up for its turn when all that were started after it have had theirs.
    let mut rest: BTreeSet<&ServiceName> = services.clone();
    while !rest.is_empty() {
        let free = |name: &ServiceName| {
            !rest.iter().any(|other| *other != name && observed.containers[*other].dependencies.contains(name))
        };
        // Containers of files that differ can depend on each other in a circle; then the order does not matter.
        let name = rest.iter().copied().find(|name| free(name)).or_else(|| rest.first().copied());
        let Some(name) = name else { break };
        rest.remove(name);
        let container = &observed.containers[name];
        let mut after: Vec<StepId> = Vec::new();
        if container.state.is_up() {
            let dependents = stops
                .iter()
                .filter(|(other, _)| observed.containers[**other].dependencies.contains(name))
                .map(|(_, id)| *id);
            let dependents: Vec<StepId> = dependents.collect();
            let id = plan.add(Operation::Stop(name.clone()), cause(name), dependents);
            stops.insert(name, id);
            after.push(id);
        }
        removals.insert(name.clone(), plan.add(Operation::Remove(name.clone()), cause(name), after));
    }
    removals
}
