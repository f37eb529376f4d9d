//! What starts before what, and what does not wait.

use crate::support::{Need, Stack, needs};

#[test]
fn dependencies_start_before_and_stop_after_what_needs_them() {
    needs!(Need::Namespaces);
    // Each service writes into one file of the host when it starts and when it is asked to stop.
    let service = |needs: &str| {
        format!(
            r#"{{rootfs: host, command: [sh, -c, "trap 'echo stop '$$NAME' >>/log/log; exit 0' TERM; echo start $$NAME >>/log/log; sleep infinity & wait"],
             volumes: ["./log:/log"], {needs}}}"#
        )
    };
    let mut yaml = String::from("services:\n");
    for (name, needs) in [("web", "depends_on: [app]"), ("app", "depends_on: [db, cache]"), ("db", ""), ("cache", "")] {
        let service = service(needs).replace("$$NAME", name);
        yaml.push_str(&format!("  {name}: {service}\n"));
    }
    let stack = Stack::new(&yaml);
    std::fs::create_dir(stack.path("log")).expect("a folder");
    stack.up();
    let log = || std::fs::read_to_string(stack.path("log/log")).unwrap_or_default();
    crate::support::wait_for("four starts", || (log().lines().count() == 4).then_some(()));
    let started = |name: &str| -> jiff::Timestamp { stack.container(name).started_at.parse().expect("a time") };
    assert!(started("db") <= started("app") && started("cache") <= started("app") && started("app") <= started("web"));
    stack.down();
    let log = log();
    let at = |text: &str| log.lines().position(|line| line == text).unwrap_or_else(|| panic!("{text} in {log}"));
    assert!(at("stop web") < at("stop app"), "{log}");
    assert!(at("stop app") < at("stop db") && at("stop app") < at("stop cache"), "{log}");
}

#[test]
fn independent_services_do_not_wait_for_each_other_to_stop() {
    needs!(Need::Namespaces);
    // Each ends only when the other has been asked to stop: one after the other, they would be killed (137).
    let service = |own: &str, other: &str| {
        format!(
            r#"{{rootfs: host, command: [sh, -c, "trap 'touch /s/{own}; while [ ! -e /s/{other} ]; do sleep 0.02; done; exit 0' TERM; echo ready; sleep infinity & wait"],
            volumes: ["./s:/s"], stop_grace_period: 50s}}"#
        )
    };
    let stack = Stack::new(&format!("services:\n  a: {}\n  b: {}\n", service("a", "b"), service("b", "a")));
    std::fs::create_dir(stack.path("s")).expect("a folder");
    stack.up();
    stack.log_with("a", "ready");
    stack.log_with("b", "ready");
    stack.down().stderr_has("a stopped with code 0").stderr_has("b stopped with code 0");
}

#[test]
fn a_named_service_brings_what_it_needs_and_no_more() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sleep, infinity], depends_on: [db]}, db: {rootfs: host, command: [sleep, infinity]}, other: {rootfs: host, command: [sleep, infinity]}}",
    );
    stack.run(&["up", "-d", "web"]).success();
    stack.run(&["ps", "--services"]).success().stdout_is("db\nweb\n");
    stack.up();
    stack.run(&["ps", "--services"]).success().stdout_is("db\nother\nweb\n");
}
