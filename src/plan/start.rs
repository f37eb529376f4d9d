//! Starting containers that are there and do not run, from what they were made from.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Operation, Plan,
    select::{add_starts, add_waits, needs},
};
use crate::model::{ContainerState, Observed, ServiceName};

/// What is wanted of [`start`] beyond that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StartWish {
    /// Wait until all of them are up.
    pub wait: bool,
    /// Milliseconds after which nothing is waited for any more; none leaves it to the services.
    pub wait_timeout_ms: Option<u64>,
}

/// The plan that starts those of `services` that do not run, and all that they depend on, which comes first.
pub fn start(observed: &Observed, services: &BTreeSet<ServiceName>, wish: StartWish) -> Plan {
    let mut plan = Plan::default();
    let there = services.iter().filter(|name| observed.containers.contains_key(*name));
    let wanted: BTreeSet<ServiceName> =
        there.flat_map(|name| needs(observed, name).into_iter().chain([name])).cloned().collect();
    let cause = |name: &ServiceName| match observed.containers[name].state {
        ContainerState::Exited(code) => format!("it has exited with code {code}"),
        _ => "it has not been started yet".to_owned(),
    };
    let within_ms = wish.wait_timeout_ms;
    let started = add_starts(&mut plan, observed, &wanted, &BTreeMap::new(), within_ms, Operation::StartAgain, cause);
    if wish.wait {
        add_waits(&mut plan, observed, &wanted, &started, within_ms);
    }
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
            start(&observed, &names("web new"), StartWish::default()).to_string(),
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
        let plan = start(&observed, &names("web web/2 old"), StartWish::default()).to_string();
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
    fn what_it_needs_is_waited_for() {
        let observed = observed("web=exited db+ job!; api=exited db+; db=exited; job=exited");
        assert_eq!(
            start(&observed, &names("web api"), StartWish::default()).to_string(),
            "1 start db again  because it has exited with code 0\n\
             2 start job again  because it has exited with code 0\n\
             3 wait for db to be healthy  after 1  because api, web depend on it\n\
             4 start api again  after 3  because it has exited with code 0\n\
             5 wait for job to complete  after 2  because web depends on it\n\
             6 start web again  after 3, 5  because it has exited with code 0\n"
        );
    }

    #[test]
    fn all_are_waited_for_if_that_is_wanted() {
        let observed = observed("web=exited db+ job!; db=exited; job=exited; runs; other=exited");
        let wish = StartWish { wait: true, wait_timeout_ms: Some(2500) };
        assert_eq!(
            start(&observed, &names("web runs"), wish).to_string(),
            "1 start db again  because it has exited with code 0\n\
             2 start job again  because it has exited with code 0\n\
             3 wait for db to be healthy within 3 s  after 1  because web depends on it\n\
             4 wait for job to complete within 3 s  after 2  because web depends on it\n\
             5 start web again  after 3, 4  because it has exited with code 0\n\
             6 wait for web to be up within 3 s  after 5  because it is waited for until all are up\n"
        );
        assert!(start(&observed, &names("runs"), wish).is_empty());
    }

    #[test]
    fn what_runs_or_is_frozen_is_left_alone() {
        assert!(
            start(&observed("web; db=paused; later=restarting"), &names("web db later"), StartWish::default())
                .is_empty()
        );
    }
}
