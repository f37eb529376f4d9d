//! When the end of a service is the end of the stack.

use std::collections::BTreeSet;

use super::Args;
use crate::{
    cli::files::services,
    diagnostics::Failure,
    model::{Condition, Project, Service, ServiceName},
    plan::Intent,
};

/// When the end of a service is the end of the stack, and what the exit code is then.
#[derive(Debug, Clone, Default)]
pub(super) struct Ends {
    /// Any end is; otherwise none, or only one with an error.
    with_any: bool,
    with_failure: bool,
    /// Whose code it is.
    code_from: Option<ServiceName>,
    /// Services that others wait for to end: with code 0 they have done what they are there for.
    jobs: BTreeSet<ServiceName>,
    /// The one that ended everything.
    pub(super) first: Option<(ServiceName, i32)>,
    /// The code of the one whose code it is.
    code: Option<i32>,
}

impl Ends {
    pub(super) fn new(args: &Args, project: &Project) -> Result<Self, Failure> {
        let code_from = services(args.exit_code_from.as_slice(), project.services.keys())?.into_iter().next();
        let dependencies = project.services.values().flat_map(|service| &service.depends_on);
        let jobs = dependencies.filter(|dependency| dependency.condition == Condition::Completed);
        Ok(Self {
            with_any: args.abort_on_container_exit || code_from.is_some(),
            with_failure: args.abort_on_container_failure,
            code_from,
            jobs: jobs.map(|dependency| dependency.service.clone()).collect(),
            ..Self::default()
        })
    }

    /// The service whose code is asked for, if it is not brought up: neither named nor, unless they are to be `alone`, needed by
    /// one that is.
    pub(super) fn never_ends(&self, project: &Project, intent: &Intent, alone: bool) -> Option<&ServiceName> {
        let mut next: Vec<&ServiceName> = project.services.keys().filter(|name| intent.asks_for(name)).collect();
        let mut known: BTreeSet<&ServiceName> = BTreeSet::new();
        while let Some(name) = next.pop() {
            if known.insert(name) && !alone {
                next.extend(project.services.get(name).into_iter().flat_map(Service::dependencies));
            }
        }
        self.code_from.as_ref().filter(|name| !known.contains(name))
    }

    /// A service has ended for good.
    pub(super) fn ended(&mut self, service: &ServiceName, code: i32) {
        if service.hook().is_some() {
            // It is there to end.
            return;
        }
        let is_asked = self.code_from.as_ref() == Some(service);
        if is_asked {
            self.code.get_or_insert(code);
        }
        let is_done = code == 0 && self.jobs.contains(service) && !is_asked;
        if self.first.is_none() && !is_done && (self.with_any || self.with_failure && code != 0) {
            self.first = Some((service.clone(), code));
        }
    }

    pub(super) fn exit_code(&self) -> u8 {
        let code = self.code.or(self.first.as_ref().map(|(_, code)| *code)).unwrap_or(0);
        u8::try_from(code).unwrap_or(1)
    }
}
