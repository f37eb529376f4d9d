//! Stopping containers and starting them again.

use std::collections::BTreeSet;

use super::{
    Plan,
    select::{add_starts, add_stops},
};
use crate::model::{Observed, ServiceName};

/// The plan that stops those of `services` that run, those first that depend on others, and starts all of them, those first
/// that others depend on: nobody has to do without what it needs. `grace_ms` is as in [`super::stop`].
pub fn restart(observed: &Observed, services: &BTreeSet<ServiceName>, grace_ms: Option<u64>) -> Plan {
    let mut plan = Plan::default();
    let cause = "restart was asked for";
    let stops = add_stops(&mut plan, observed, services, grace_ms, cause);
    add_starts(&mut plan, observed, services, &stops, |_| cause.to_owned());
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::select::tests::{names, observed};

    #[test]
    fn all_of_it_stops_in_one_order_and_starts_in_the_other() {
        let observed = observed("web db; db; done=exited");
        let plan = restart(&observed, &names("web db done"), None).to_string();
        let plan = plan.replace("  because restart was asked for", "");
        assert_eq!(
            plan,
            "1 stop web\n2 stop db  after 1\n3 start db again  after 2\n4 start done again\n5 start web again  after 1, 3\n"
        );
    }
}
