//! Signals to containers.

use std::collections::BTreeSet;

use super::{Operation, Plan};
use crate::model::{Observed, ServiceName, StopSignal};

/// The plan that sends a signal to those of `services` that have processes, all at the same time.
pub fn kill(observed: &Observed, services: &BTreeSet<ServiceName>, signal: StopSignal) -> Plan {
    let mut plan = Plan::default();
    for (name, container) in &observed.containers {
        if services.contains(name) && container.state.is_alive() {
            plan.add(Operation::Kill(name.clone(), signal), "kill was asked for", []);
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::select::tests::{names, observed};

    #[test]
    fn those_that_run_get_it_in_no_order() {
        let plan = kill(&observed("web db; db; done=exited; not"), &names("web db done"), StopSignal::KILL);
        assert_eq!(
            plan.to_string(),
            "1 send SIGKILL to db  because kill was asked for\n2 send SIGKILL to web  because kill was asked for\n"
        );
        assert!(plan.only_signals());
    }
}
