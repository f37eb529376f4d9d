//! Commands of the file that are run in a service once it has started, and before it stops.

use crate::support::{Need, Stack, needs, wait_for};

#[test]
fn hooks_run_in_order_in_the_service_with_their_own_settings() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"
services:
  web:
    rootfs: host
    command: [sh, -c, "trap 'echo stopped >> /share/order; exit 0' TERM; echo up; while :; do sleep 0.02; done"]
    environment: {A: service, B: service}
    working_dir: /tmp
    volumes: ['./share:/share']
    post_start:
      - command: [sh, -c, "echo one >> /share/order; echo $$A $$B $$C $$PWD; echo failing >&2"]
        environment: {B: hook, C: }
        working_dir: /usr
      - command: sh -c "sleep 0.1; echo two >> /share/order; readlink /proc/self/ns/net /proc/1/ns/net; pwd"
    pre_stop:
      - command: [sh, -c, "echo three >> /share/order"]
      - command: [sh, -c, "echo four >> /share/order; exit 5"]
      - command: [sh, -c, "echo five >> /share/order"]
  after: {rootfs: host, command: [sh, -c, "echo after >> /share/order; exec sleep infinity"], volumes: ['./share:/share'], depends_on: [web]}
"#,
    );
    stack.file("share/x", "");
    stack.nscompose().args(["up", "-d"]).env("C", "caller").run().success();
    let log = stack.log_with("web", "/tmp");
    assert!(log.contains("service hook caller /usr\n") && log.contains("failing\n"), "{log}");
    let namespaces: Vec<&str> = log.lines().filter(|line| line.starts_with("net:")).collect();
    assert!(namespaces.len() == 2 && namespaces[0] == namespaces[1], "{log}");
    wait_for("`after`", || {
        let order = std::fs::read_to_string(stack.path("share/order")).expect("the order");
        (order == "one\ntwo\nafter\n").then_some(())
    });
    let traces = stack.traces();
    stack.down().stderr_has("pre_stop[1]").stderr_has("has exited with code 5");
    traces.assert_gone();
    let order = std::fs::read_to_string(stack.path("share/order")).expect("the order");
    assert_eq!(order, "one\ntwo\nafter\nthree\nfour\nfive\nstopped\n");
}

#[test]
fn a_hook_may_be_another_user_and_have_all_rights_of_the_container() {
    needs!(Need::Ids);
    let stack = Stack::new(
        r#"
services:
  web:
    rootfs: host
    command: [sleep, infinity]
    user: "1000:1000"
    cap_drop: [ALL]
    post_start:
      - command: [sh, -c, "echo as $$(id -u) $$(grep CapEff /proc/self/status | cut -f2)"]
      - command: [sh, -c, "echo as $$(id -u) $$(grep CapEff /proc/self/status | cut -f2)"]
        user: root
        privileged: true
"#,
    );
    stack.up();
    let log = stack.log_with("web", "as 0");
    let lines: Vec<Vec<&str>> = log.lines().map(|line| line.split(' ').collect()).collect();
    assert_eq!(lines[0], ["as", "1000", "0000000000000000"], "{log}");
    assert_eq!(lines[1][..2], ["as", "0"], "{log}");
    assert_ne!(lines[1][2], "0000000000000000", "{log}");
}

#[test]
fn a_post_start_that_fails_fails_the_start() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"
services:
  web:
    rootfs: host
    command: [sleep, infinity]
    volumes: ['./share:/share']
    post_start:
      - command: [sh, -c, "echo it is broken; exit 6"]
      - command: [sh, -c, "echo > /share/second"]
    pre_stop: [{command: [sh, -c, "echo > /share/stopped"]}]
"#,
    );
    stack.file("share/x", "");
    stack
        .run(&["up", "-d"])
        .code(1)
        .stderr_has("service `web` did not start: post_start[0], `sh -c echo it is broken; exit 6`, failed")
        .stderr_has("caused by: it has exited with code 6")
        .stderr_has("  | it is broken\n");
    assert_eq!(stack.ps().len(), 0, "all is undone");
    assert!(!stack.path("share/second").exists() && !stack.path("share/stopped").exists());
    for (command, what) in
        [("[/nowhere]", "it cannot be run"), ("[sleep, infinity]", "the service has ended before it")]
    {
        let stack = Stack::new(&format!(
            "services: {{web: {{rootfs: host, command: [sh, -c, 'sleep 0.3; exit 1'], post_start: [{{command: {command}}}]}}}}"
        ));
        stack.run(&["up", "-d"]).code(1).stderr_has(what);
    }
}

#[test]
fn hooks_that_hang_keep_nobody_up() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"
services:
  web:
    rootfs: host
    command: [sleep, infinity]
    stop_grace_period: 200ms
    pre_stop: [{command: [sh, -c, "echo hangs; exec sleep infinity"]}]
  slow: {rootfs: host, command: [sleep, infinity], profiles: [slow], post_start: [{command: [sleep, infinity]}]}
"#,
    );
    stack.up();
    let traces = stack.traces();
    stack.down().stderr_has("has not ended in the time that the service has to stop");
    traces.assert_gone();

    let up = stack.nscompose().args(["--profile", "slow", "up", "-d", "slow"]).start();
    wait_for("`slow`", || stack.ps().iter().any(|container| container.service == "slow").then_some(()));
    let traces = stack.traces();
    stack.down();
    up.wait().code(1).stderr_has("interrupted: the stack is being taken down");
    traces.assert_gone();
}

#[test]
fn hooks_are_checked_with_the_file() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"
services:
  web:
    rootfs: host
    command: [sleep, infinity]
    post_start: [{command: []}, {command: "true", user: "a:b:c"}, {command: "true", working_dir: here}]
"#,
    );
    stack
        .run(&["up", "-d"])
        .code(3)
        .stderr_has("a command of `post_start` is empty")
        .stderr_has("`a:b:c` is not a user")
        .stderr_has("the working directory `here` is not an absolute path");
}

#[test]
fn one_that_ends_during_its_hooks_and_comes_back_is_waited_for() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"
services:
  web:
    rootfs: host
    restart: always
    command: [sh, -c, "if [ -e /share/before ]; then touch /share/go; exec sleep infinity; fi; touch /share/before; sleep 0.1; exit 3"]
    volumes: ['./share:/share']
    post_start:
      - command: [sh, -c, "while [ ! -e /share/go ]; do sleep 0.02; done; echo hooked >> /share/order"]
      - command: [sh, -c, "echo second >> /share/order"]
  after: {rootfs: host, command: [sh, -c, "echo after >> /share/order; exec sleep infinity"], volumes: ['./share:/share'], depends_on: [web]}
"#,
    );
    open_to_all(&stack);
    stack.up().stderr_has("service `web` has ended before `post_start` was through");
    let order = || std::fs::read_to_string(stack.path("share/order")).unwrap_or_default();
    wait_for("`after`", || order().contains("after").then_some(()));
    assert_eq!(order(), "hooked\nsecond\nafter\n");
    let web = stack.container("web");
    assert_eq!((web.state.as_str(), web.restarts), ("running", 1));
    stack.down();

    // One that does not come back in the end fails the start.
    let stack = Stack::new(
        "services: {web: {rootfs: host, restart: 'on-failure:2', command: [sh, -c, 'sleep 0.1; exit 3'], post_start: [{command: [sleep, infinity]}]}}",
    );
    stack.run(&["up", "-d"]).code(1).stderr_has("the service has ended before it");
    assert_eq!(stack.ps().len(), 0, "all is undone");
}

#[test]
fn a_start_that_fails_with_its_hooks_leaves_what_was_there() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"
services:
  web:
    rootfs: host
    command: [sleep, infinity]
    volumes: ['./share:/share', /kept]
    post_start: [{command: [sh, -c, "test ! -e /share/bad"]}]
"#,
    );
    open_to_all(&stack);
    stack.up();
    stack.sh("web", "echo here > /kept/file; echo here > /etc/written");
    stack.run(&["stop"]).success();
    stack.file("share/bad", "");
    stack.run(&["start"]).code(1).stderr_has("post_start[0]");
    assert_eq!(stack.container("web").state, "exited");
    std::fs::remove_file(stack.path("share/bad")).expect("it is there");
    stack.run(&["start"]).success();
    assert_eq!(stack.sh("web", "cat /kept/file /etc/written"), "here\nhere");
}

/// A folder that whoever the containers run as can write to.
fn open_to_all(stack: &Stack) {
    stack.file("share/x", "");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(stack.path("share"), open).expect("our folder");
}
