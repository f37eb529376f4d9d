//! Stopping containers that stay: with their files, their logs, their namespaces and their addresses.

use std::collections::BTreeSet;

use super::{Plan, select::add_stops};
use crate::model::{Observed, ServiceName};

/// The plan that stops those of `services` that run, those first that depend on others. `grace_ms` is how many milliseconds
/// each may take instead of what its file says.
pub fn stop(observed: &Observed, services: &BTreeSet<ServiceName>, grace_ms: Option<u64>) -> Plan {
    let mut plan = Plan::default();
    add_stops(&mut plan, observed, services, grace_ms, "stop was asked for");
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::select::tests::{names, observed};

    #[test]
    fn dependents_stop_first_also_by_way_of_one_that_stays() {
        let observed = observed("web api; api db; db; other; done=exited db");
        assert_eq!(
            stop(&observed, &names("web db other done"), None).to_string(),
            "1 stop web  because stop was asked for\n2 stop other  because stop was asked for\n\
             3 stop db  after 1  because stop was asked for\n"
        );
    }

    #[test]
    fn time_to_stop_is_part_of_the_step() {
        let observed = observed("web=paused");
        assert_eq!(
            stop(&observed, &names("web"), Some(3000)).to_string(),
            "1 stop web within 3000 ms  because stop was asked for\n"
        );
    }

    #[test]
    fn one_that_is_about_to_be_started_again_is_stopped() {
        assert!(!stop(&observed("web=restarting"), &names("web"), None).is_empty());
    }
}
