//! What verbs that start and stop mean for those that depend on a service.

use crate::support::{Need, Stack, needs, wait_for};

/// Says when it begins and when it is asked to stop.
const SLEEPER: &str = "trap 'echo asked; exit 0' TERM; echo begun; while :; do sleep 0.02; done";

#[test]
fn restart_takes_those_along_that_say_so_unless_they_are_to_be_left_alone() {
    needs!(Need::Namespaces);
    let stack = Stack::new(&format!(
        "
services:
  db: {{rootfs: host, command: [sh, -c, \"{SLEEPER}\"]}}
  web: {{rootfs: host, command: [sh, -c, \"{SLEEPER}\"], depends_on: {{db: {{condition: service_started, restart: true}}}}}}
  front: {{rootfs: host, command: [sh, -c, \"{SLEEPER}\"], depends_on: {{web: {{condition: service_started, restart: true}}}}}}
  other: {{rootfs: host, command: [sh, -c, \"{SLEEPER}\"], depends_on: [db]}}
  job: {{rootfs: host, command: ['true'], depends_on: {{db: {{condition: service_started, restart: true}}}}}}
"
    ));
    stack.up();
    let names = ["db", "web", "front", "other"];
    let begun = || names.map(|name| stack.log_with(name, "begun")).len();
    begun();
    assert_eq!(stack.exit_code("job"), 0);
    let pids = || names.map(|name| stack.pid(name));
    let before = pids();
    stack.run(&["restart", "--no-deps", "db"]).success();
    let alone = pids();
    assert_ne!(alone[0], before[0]);
    assert_eq!(alone[1..], before[1..], "they are left alone");
    stack.run(&["restart", "db"]).success();
    // It comes back when all of them have been started.
    let with = pids();
    assert!((0..3).all(|i| with[i] != alone[i]), "{alone:?} {with:?}");
    assert_eq!(with[3], alone[3], "it does not say so");
    assert_eq!(stack.container("job").state, "exited", "what has ended is not started by it");
    // Once each, and they were not left alone before for a later moment.
    stack.run(&["stop"]).success();
    for (name, times) in names.into_iter().zip([3, 2, 2, 1]) {
        assert_eq!(stack.log(name).matches("begun").count(), times, "{name}");
    }
}

#[test]
fn start_and_restart_wait_for_what_is_needed() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"
services:
  db: {rootfs: host, command: [sh, -c, 'rm -f /tmp/ready; sleep 0.5; touch /tmp/ready; echo ready; exec sleep infinity'], healthcheck: {test: 'test -e /tmp/ready', interval: 50ms, retries: 1000}}
  job: {rootfs: host, command: [sh, -c, 'sleep 0.2; echo done >> /share/done'], volumes: ['./share:/share'], depends_on: {db: {condition: service_healthy, restart: true}}}
  web:
    rootfs: host
    command: [sh, -c, 'cat /share/done; exec sleep infinity']
    volumes: ['./share:/share']
    depends_on: {job: {condition: service_completed_successfully}, db: {condition: service_healthy, restart: true}}
"#,
    );
    stack.file("share/x", "");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(stack.path("share"), open).expect("our folder");
    stack.up();
    stack.log_with("web", "done");
    stack.run(&["stop"]).success();
    stack.run(&["start", "web"]).success();
    let db = stack.container("db");
    assert_eq!((db.state.as_str(), db.health.as_deref()), ("running", Some("healthy")));
    // It had been run again, to its end, when `web` was started.
    assert_eq!(stack.container("job").exit_code, Some(0));
    stack.log_with("web", "done\ndone\ndone\n");
    stack.run(&["restart", "db"]).success();
    assert_eq!(stack.container("db").health.as_deref(), Some("healthy"));
    stack.down();
}

#[test]
fn start_may_wait_until_all_are_up() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"
services:
  db: {rootfs: host, command: [sleep, infinity], volumes: ['./share:/share'], healthcheck: {test: 'test -e /share/well', interval: 50ms, retries: 100000}}
  web: {rootfs: host, command: [sleep, infinity]}
"#,
    );
    stack.file("share/x", "");
    stack.run(&["create"]).success();
    // Without the flag it does not wait.
    stack.run(&["start"]).success();
    assert_eq!(stack.container("db").health.as_deref(), Some("starting"));
    stack.run(&["start", "--wait", "--wait-timeout", "1"]).code(1).stderr_has("service `db` is not up");
    assert_eq!(stack.container("web").state, "running", "it stays, to be looked at");
    stack.run(&["stop"]).success();
    let mut waiting = stack.nscompose().args(["start", "--wait"]).start();
    wait_for("the start", || (stack.container("db").health.as_deref() == Some("starting")).then_some(()));
    assert!(waiting.is_running());
    stack.file("share/well", "");
    let _ = waiting.wait().success();
    assert_eq!(stack.container("db").health.as_deref(), Some("healthy"));
    stack.run(&["start", "--wait"]).success().stderr_has("nothing to do");
}
