//! What is waited for, between the start of a service and that of those that need it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Causes, Up};
use crate::{
    model::{Condition, Container, Project, ServiceName},
    plan::{Operation, Plan, StepId, Until, Verdict, Wait},
};

/// One step serves all services that need the same of another.
type Needed<'a> = (&'a ServiceName, Until, bool);

/// The steps that wait, as far as they have been added.
pub(super) struct Waits<'a> {
    dependents: BTreeMap<Needed<'a>, Vec<&'a ServiceName>>,
    steps: BTreeMap<Needed<'a>, StepId>,
}

/// Services that end: others wait until they have. `whole` is the project before it was expanded: a job stays one when those that
/// wait for it have no replicas.
pub(super) fn jobs(whole: &Project) -> BTreeSet<ServiceName> {
    let dependencies = whole.services.values().flat_map(|service| &service.depends_on);
    let completed = dependencies.filter(|dependency| dependency.condition == Condition::Completed);
    completed.map(|dependency| dependency.service.replica(1)).collect()
}

impl<'a> Up<'a> {
    /// What services that are started need of others.
    pub(super) fn waits(&self, causes: &Causes<'a>) -> Waits<'a> {
        let mut dependents: BTreeMap<Needed<'a>, Vec<&'a ServiceName>> = BTreeMap::new();
        if self.intent.no_start {
            return Waits { dependents, steps: BTreeMap::new() };
        }
        for name in self.wanted.iter().copied().filter(|name| causes.contains_key(name)) {
            for dependency in &self.project.services[name].depends_on {
                let on = &dependency.service;
                let Some(until) = Until::of(dependency.condition) else { continue };
                // One that runs on, and that nobody asked for, stays as it is, and so do those that it needed.
                if self.wanted.contains(&on) && (causes.contains_key(on) || !self.has_come(on, until)) {
                    dependents.entry((on, until, dependency.required)).or_default().push(name);
                }
            }
        }
        Waits { dependents, steps: BTreeMap::new() }
    }

    /// Adds the steps that wait for what `name` needs; they come back with the services that they wait for.
    pub(super) fn wait_for_dependencies(
        &self,
        plan: &mut Plan,
        name: &ServiceName,
        waits: &mut Waits<'a>,
        started: &BTreeMap<&ServiceName, StepId>,
    ) -> BTreeMap<&'a ServiceName, StepId> {
        let mut all = BTreeMap::new();
        for (needed, dependents) in waits.dependents.iter().filter(|(_, dependents)| dependents.contains(&name)) {
            let (service, until, required) = *needed;
            let id = *waits.steps.entry(*needed).or_insert_with(|| {
                let names: Vec<&str> = dependents.iter().map(|name| name.as_str()).collect();
                let cause = format!("{} depend{} on it", names.join(", "), if names.len() == 1 { "s" } else { "" });
                let wait = Wait {
                    service: service.clone(),
                    until,
                    dependents: dependents.iter().copied().cloned().collect(),
                    required,
                    within_ms: self.intent.wait_timeout_ms,
                };
                plan.add(Operation::WaitFor(wait), cause, started.get(service).copied())
            });
            all.insert(service, id);
        }
        all
    }

    /// If somebody wants to know, adds steps that wait until all that is wanted is up, beyond what is waited for anyway.
    pub(super) fn wait_for_all(&self, plan: &mut Plan, waits: &Waits<'a>, started: &BTreeMap<&ServiceName, StepId>) {
        if !self.intent.wait || self.intent.no_start {
            return;
        }
        for name in self.wanted.iter().copied() {
            let until = if self.is_job(name) { Until::Completed } else { Until::Up };
            let known = waits.steps.keys().any(|(service, _, required)| *service == name && *required);
            if known || !started.contains_key(name) && self.has_come(name, until) {
                continue;
            }
            let (service, within_ms) = (name.clone(), self.intent.wait_timeout_ms);
            let wait = Wait { service, until, dependents: Vec::new(), required: true, within_ms };
            plan.add(Operation::WaitFor(wait), "it is waited for until all are up", started.get(name).copied());
        }
    }

    /// Whether a service is one that ends.
    pub(super) fn is_job(&self, name: &ServiceName) -> bool {
        self.jobs.contains(&name.replica(1))
    }

    /// Whether what there is of a service is as far as that.
    fn has_come(&self, name: &ServiceName, until: Until) -> bool {
        until.judge(self.observed.containers.get(name).map(Container::life)) == Verdict::Reached
    }
}
