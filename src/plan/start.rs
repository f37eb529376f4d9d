//! Starting containers that are there and do not run, from what they were made from.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Plan,
    select::{add_starts, needs},
};
use crate::model::{ContainerState, Observed, ServiceName};

/// The plan that starts those of `services` that do not run, and all that they depend on, which comes first.
pub fn start(observed: &Observed, services: &BTreeSet<ServiceName>) -> Plan {
    let mut plan = Plan::default();
    let there = services.iter().filter(|name| observed.containers.contains_key(*name));
    let wanted: BTreeSet<ServiceName> =
        there.flat_map(|name| needs(observed, name).into_iter().chain([name])).cloned().collect();
    add_starts(&mut plan, observed, &wanted, &BTreeMap::new(), |name| match observed.containers[name].state {
        ContainerState::Exited(code) => format!("it has exited with code {code}"),
        _ => "it has not been started yet".to_owned(),
    });
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::select::tests::{names, observed};

    #[test]
    fn what_it_depends_on_comes_first_and_comes_along() {
        let observed = observed("web=exited api; api db; db=exited; other=exited; new=created");
        assert_eq!(
            start(&observed, &names("web new")).to_string(),
            "1 start db again  because it has exited with code 0\n\
             2 start new again  because it has not been started yet\n\
             3 start web again  after 1  because it has exited with code 0\n"
        );
    }

    #[test]
    fn what_runs_before_a_service_that_was_created_comes_first() {
        let observed = observed(
            "web=created db; web/2=created db; web/pre_start.0=created db; web/pre_start.1=created db; \
             web/2/pre_start.1=created db; db=created; old=exited; old/pre_start.0=exited",
        );
        let plan = start(&observed, &names("web web/2 old")).to_string();
        let plan: Vec<&str> = plan.lines().map(|line| line.split("  because").next().unwrap_or(line)).collect();
        assert_eq!(
            plan,
            [
                "1 start db again",
                "2 start old again",
                "3 start web/pre_start.0 again  after 1",
                "4 wait for web/pre_start.0 to complete  after 3",
                "5 remove web/pre_start.0  after 4",
                "6 start web/pre_start.1 again  after 1, 5",
                "7 wait for web/pre_start.1 to complete  after 6",
                "8 remove web/pre_start.1  after 7",
                "9 start web/2/pre_start.1 again  after 1, 8",
                "10 wait for web/2/pre_start.1 to complete  after 9",
                "11 remove web/2/pre_start.1  after 10",
                "12 start web again  after 1, 11",
                "13 start web/2 again  after 1, 11",
            ]
        );
    }

    #[test]
    fn what_runs_or_is_frozen_is_left_alone() {
        assert!(start(&observed("web; db=paused; later=restarting"), &names("web db later")).is_empty());
    }
}
