//! Freezing containers, and letting them go on.

use std::collections::BTreeSet;

use super::{Operation, Plan};
use crate::model::{ContainerState, Observed, ServiceName};

/// The plan that freezes those of `services` that run.
pub fn pause(observed: &Observed, services: &BTreeSet<ServiceName>) -> Plan {
    each(observed, services, ContainerState::Running, |name| (Operation::Pause(name), "pause was asked for"))
}

/// The plan that lets those of `services` that are frozen go on.
pub fn unpause(observed: &Observed, services: &BTreeSet<ServiceName>) -> Plan {
    each(observed, services, ContainerState::Paused, |name| (Operation::Unpause(name), "unpause was asked for"))
}

fn each(
    observed: &Observed,
    services: &BTreeSet<ServiceName>,
    state: ContainerState,
    step: impl Fn(ServiceName) -> (Operation, &'static str),
) -> Plan {
    let mut plan = Plan::default();
    for (name, container) in &observed.containers {
        if services.contains(name) && container.state == state {
            let (operation, cause) = step(name.clone());
            plan.add(operation, cause, []);
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::select::tests::{names, observed};

    #[test]
    fn each_is_for_those_that_it_can_be_done_to() {
        let observed = observed("web db; db=paused; done=exited");
        let all = names("web db done");
        assert_eq!(pause(&observed, &all).to_string(), "1 pause web  because pause was asked for\n");
        assert_eq!(unpause(&observed, &all).to_string(), "1 unpause db  because unpause was asked for\n");
    }
}
