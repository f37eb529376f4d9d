//! Stopping containers and starting them again.

use std::collections::BTreeSet;

use super::{
    Operation, Plan,
    select::{add_starts, add_stops, can_be_stopped},
};
use crate::model::{Observed, ServiceName};

/// The plan that stops those of `services` that run, those first that depend on others, and starts all of them, those first
/// that others depend on: nobody has to do without what it needs. With them go those that run and are started again with
/// one of them (`depends_on.SERVICE.restart`), unless they are to be left `alone`. `grace_ms` is as in [`super::stop`].
pub fn restart(observed: &Observed, services: &BTreeSet<ServiceName>, alone: bool, grace_ms: Option<u64>) -> Plan {
    let mut plan = Plan::default();
    let (all, operation): (_, fn(ServiceName) -> Operation) = match alone {
        true => (services.clone(), Operation::StartAlone),
        false => (with_dependents(observed, services), Operation::StartAgain),
    };
    let cause = "restart was asked for";
    let stops = add_stops(&mut plan, observed, &all, grace_ms, cause);
    add_starts(&mut plan, observed, &all, &stops, None, operation, |name| match services.contains(name) {
        true => cause.to_owned(),
        false => format!("it restarts with {}", restarted_with(observed, &all, name)),
    });
    plan
}

/// The services, and those that run and are started again with them, by way of each other too.
fn with_dependents(observed: &Observed, services: &BTreeSet<ServiceName>) -> BTreeSet<ServiceName> {
    let mut all: BTreeSet<ServiceName> = services.clone();
    loop {
        let further: Vec<ServiceName> = observed
            .containers
            .iter()
            .filter(|(name, container)| !all.contains(*name) && can_be_stopped(container.state))
            .filter(|(name, _)| !restarted_with(observed, &all, name).is_empty())
            .map(|(name, _)| name.clone())
            .collect();
        if further.is_empty() {
            return all;
        }
        all.extend(further);
    }
}

/// Those of `services` that `name` is started again with.
fn restarted_with(observed: &Observed, services: &BTreeSet<ServiceName>, name: &ServiceName) -> String {
    let on = observed.containers[name].depends_on.iter().filter(|on| on.restart && services.contains(&on.service));
    on.map(|on| on.service.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::select::tests::{names, observed};

    #[test]
    fn all_of_it_stops_in_one_order_and_starts_in_the_other() {
        let observed = observed("web db; db; done=exited");
        let plan = restart(&observed, &names("web db done"), false, None).to_string();
        let plan = plan.replace("  because restart was asked for", "");
        assert_eq!(
            plan,
            "1 stop web\n2 stop db  after 1\n3 start db again  after 2\n4 start done again\n5 start web again  after 1, 3\n"
        );
    }

    #[test]
    fn those_that_restart_with_it_do_unless_they_are_left_alone() {
        let observed = observed("db; web db*; front web*; other db; done=exited db*");
        let plan = restart(&observed, &names("db"), false, None).to_string();
        assert_eq!(
            plan.replace("  because restart was asked for", ""),
            "1 stop front\n2 stop web  after 1\n3 stop db  after 1, 2\n4 start db again  after 3\n\
             5 start web again  after 2, 4  because it restarts with db\n\
             6 start front again  after 1, 4, 5  because it restarts with web\n"
        );
        let plan = restart(&observed, &names("db"), true, None).to_string();
        assert_eq!(plan.replace("  because restart was asked for", ""), "1 stop db\n2 start db again alone  after 1\n");
    }
}
