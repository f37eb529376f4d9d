//! Taking a stack down: dependents stop first, what does not depend on each other at the same time.

use std::collections::{BTreeMap, BTreeSet};

use super::{Cause, Operation, Plan, StepId};
use crate::model::{Observed, ServiceName, Volume, VolumeName};

/// The plan that stops and removes every container, lets go of every namespace, and removes these volumes.
///
/// Bridges and links need no steps: they go with the network namespace of the stack when its supervisor ends, which the
/// kernel does in the background, where deleting them one by one waits 35 to 60 ms for each (an RCU grace period).
pub fn down(observed: &Observed, volumes: &BTreeMap<VolumeName, Volume>, cause: &str) -> Plan {
    let mut plan = Plan::default();
    let all: BTreeSet<&ServiceName> = observed.containers.keys().collect();
    stop_and_remove(&mut plan, observed, &all, &Manner::default(), |_| cause.into());
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

/// How containers go.
#[derive(Debug, Default)]
pub(super) struct Manner {
    /// Milliseconds that each may take to stop, instead of what its file said.
    pub(super) grace_ms: Option<u64>,
    /// Those whose anonymous volumes are kept for the next container of the service.
    pub(super) keep_volumes: BTreeSet<ServiceName>,
}

/// Adds the steps that stop and remove the containers of `services`; the removal of each comes back.
pub(super) fn stop_and_remove(
    plan: &mut Plan,
    observed: &Observed,
    services: &BTreeSet<&ServiceName>,
    manner: &Manner,
    cause: impl Fn(&ServiceName) -> Cause,
) -> BTreeMap<ServiceName, StepId> {
    let mut stops: BTreeMap<&ServiceName, StepId> = BTreeMap::new();
    let mut removals = BTreeMap::new();
    // A dependency is on all replicas, also on those that have come since.
    let depends = |other: &ServiceName, name: &ServiceName| {
        let needed = &observed.containers[other].dependencies;
        !other.is_replica_of(name)
            && needed.range(name.replica(1)..).next().is_some_and(|first| first.is_replica_of(name))
    };
    // Dependents first: a service comes up for its turn when all that were started after it have had theirs.
    let mut rest: BTreeSet<&ServiceName> = services.clone();
    while !rest.is_empty() {
        let free = |name: &ServiceName| !rest.iter().any(|other| depends(other, name));
        // Containers of files that differ can depend on each other in a circle; then the order does not matter.
        let name = rest.iter().copied().find(|name| free(name)).or_else(|| rest.first().copied());
        let Some(name) = name else { break };
        rest.remove(name);
        let container = &observed.containers[name];
        let mut after: Vec<StepId> = Vec::new();
        if container.state.is_up() {
            let dependents = stops.iter().filter(|(other, _)| depends(other, name)).map(|(_, id)| *id);
            let dependents: Vec<StepId> = dependents.collect();
            let stop = match manner.grace_ms {
                None => Operation::Stop(name.clone()),
                Some(ms) => Operation::StopWithin(name.clone(), ms),
            };
            let id = plan.add(stop, cause(name), dependents);
            stops.insert(name, id);
            after.push(id);
        }
        let remove = match manner.keep_volumes.contains(name) {
            true => Operation::RemoveButVolumes(name.clone()),
            false => Operation::Remove(name.clone()),
        };
        removals.insert(name.clone(), plan.add(remove, cause(name), after));
    }
    removals
}
