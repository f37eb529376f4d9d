//! What containers are going through when the supervisor is killed, and goes on as if it had not been.

use std::{fs, os::unix::fs::PermissionsExt, time::Instant};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::supervisor_dies::{kill_and_wait, kill_supervisor};
use crate::support::{Container, Need, PATIENCE, Stack, needs, wait_for};

/// A stack with a folder that containers and the test write to.
fn stack_with_share(services: &str) -> Stack {
    let stack = Stack::new(services);
    stack.file("share/x", "");
    fs::set_permissions(stack.path("share"), PermissionsExt::from_mode(0o777)).expect("ours");
    stack
}

#[track_caller]
fn in_state(stack: &Stack, service: &str, state: &str) -> Container {
    wait_for(&format!("`{service}` to be {state}"), || {
        Some(stack.container(service)).filter(|container| container.state == state)
    })
}

fn lines(stack: &Stack, file: &str) -> usize {
    fs::read_to_string(stack.path(&format!("share/{file}"))).unwrap_or_default().lines().count()
}

#[track_caller]
fn share_has(stack: &Stack, file: &str) {
    wait_for(&format!("the file {file}"), || stack.path(&format!("share/{file}")).exists().then_some(()));
}

/// Lets containers of any user take it.
fn put(stack: &Stack, file: &str) {
    stack.file(&format!("share/{file}"), "");
}

#[test]
fn what_was_stopped_stays_so_and_what_restarts_goes_on_to() {
    needs!(Need::Namespaces);
    let stack = stack_with_share(
        r#"
x-service: &service {rootfs: host, command: [sleep, infinity], restart: always, volumes: ['./share:/share'], stop_grace_period: 0s}
services:
  flaky: {<<: *service, command: [sh, -c, "echo x >> /share/flaky; exit 3"]}
  stopped: *service
  twice: {<<: *service, scale: 2}
  limited: {<<: *service, restart: 'on-failure:2', command: [sh, -c, "echo x >> /share/limited; while ! test -e /share/fail; do sleep 0.02; done; exit 4"]}
"#,
    );
    stack.up();
    stack.run(&["stop", "stopped"]).success();
    let before = stack.container("twice").pid;
    let known = wait_for("restarts", || Some(stack.container("flaky").restarts).filter(|restarts| *restarts >= 2));
    for round in 0..5 {
        kill_and_wait(&stack);
        let container = stack.container("flaky");
        assert!(container.restarts >= known, "restarts are forgotten in round {round}: {}", container.restarts);
        let seen = lines(&stack, "flaky");
        wait_for("the next start", || (lines(&stack, "flaky") > seen).then_some(()));
        assert_eq!(stack.container("stopped").state, "exited");
    }
    assert_eq!(stack.container("twice").pid, before);
    // What counts against the most that the policy allows is counted on.
    put(&stack, "fail");
    wait_for("the last try", || (lines(&stack, "limited") >= 2).then_some(()));
    kill_and_wait(&stack);
    let ended = in_state(&stack, "limited", "exited");
    assert_eq!((ended.exit_code, ended.restarts, lines(&stack, "limited")), (Some(4), 2, 3));
    stack.run(&["start", "stopped"]).success();
    assert_eq!(stack.container("stopped").state, "running");
    kill_and_wait(&stack);
    kill(Pid::from_raw(stack.pid("stopped")), Signal::SIGKILL).expect("it runs");
    wait_for("a restart", || Some(stack.container("stopped")).filter(|it| it.state == "running" && it.restarts == 1));
    let traces = stack.traces();
    stack.down();
    traces.assert_gone();
}

/// What a program has done it has done in a start that is known: whoever dies right after it does not have it done again.
#[test]
fn a_start_is_counted_whenever_the_supervisor_dies() {
    needs!(Need::Namespaces);
    let stack = stack_with_share(
        r#"
services:
  web:
    rootfs: host
    command: [sh, -c, "echo x >> /share/starts; test -e /share/enough"]
    volumes: ['./share:/share']
    ports: ['127.0.0.1::80']
    deploy: {restart_policy: {condition: on-failure, delay: 100ms}}
"#,
    );
    stack.up();
    let starts = stack.path("share/starts");
    let begun = || fs::metadata(&starts).map_or(0, |file| file.len());
    for round in 0..6 {
        let supervisor = stack.supervisor().expect("a supervisor");
        let seen = begun();
        let started = Instant::now();
        // Not the patient way: the moment after the start is what is wanted.
        while begun() == seen {
            assert!(started.elapsed() < PATIENCE, "no start in round {round}");
            std::hint::spin_loop();
        }
        kill(Pid::from_raw(supervisor), Signal::SIGKILL).expect("it runs");
        wait_for("the next supervisor", || stack.supervisor().filter(|pid| *pid != supervisor));
    }
    put(&stack, "enough");
    let ended = in_state(&stack, "web", "exited");
    assert_eq!((ended.exit_code, ended.restarts as usize + 1), (Some(0), lines(&stack, "starts")));
    let traces = stack.traces();
    stack.down();
    traces.assert_gone();
}

#[test]
fn what_is_paused_stays_so() {
    needs!(Need::Namespaces);
    let stack = stack_with_share(
        r#"services: {web: {rootfs: host, command: [sh, -c, "while :; do echo x >> /share/count; sleep 0.01; done"], volumes: ['./share:/share']}}"#,
    );
    stack.up();
    wait_for("a line", || (lines(&stack, "count") > 0).then_some(()));
    stack.run(&["pause"]).success();
    let frozen = lines(&stack, "count");
    kill_and_wait(&stack);
    assert_eq!(stack.container("web").state, "paused");
    stack.run(&["exec", "web", "true"]).code(1).stderr_has("is paused");
    kill_and_wait(&stack);
    assert_eq!(lines(&stack, "count"), frozen);
    stack.run(&["unpause"]).success();
    wait_for("more lines", || (lines(&stack, "count") > frozen + 2).then_some(()));
    // One that is stopped by the next supervisor is thawed for that.
    stack.run(&["pause"]).success();
    kill_and_wait(&stack);
    let traces = stack.traces();
    stack.down();
    traces.assert_gone();
}

#[test]
fn what_was_only_made_can_still_be_started() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"services: {web: {rootfs: host, command: [sleep, infinity], volumes: ["data:/data", "/anonymous"]}, other: {rootfs: host, command: [sleep, infinity]}}
volumes: {data: {}}"#,
    );
    stack.run(&["create"]).success();
    kill_and_wait(&stack);
    assert_eq!(stack.container("web").state, "created");
    stack.run(&["create"]).success().stderr_has("nothing to do");
    stack.run(&["start", "web"]).success();
    kill_and_wait(&stack);
    assert_eq!(stack.container("web").state, "running");
    assert_eq!(stack.container("other").state, "created");
    stack.sh("web", "echo kept > /anonymous/file");
    // The next container has what the last one has left, whoever makes it.
    stack.run(&["up", "-d", "--force-recreate", "web"]).success();
    assert_eq!(stack.sh("web", "cat /anonymous/file").trim(), "kept");
    kill_and_wait(&stack);
    assert_eq!(stack.sh("web", "cat /anonymous/file").trim(), "kept");
    let traces = stack.traces();
    stack.down();
    traces.assert_gone_but_volumes(&["data"]);
}

#[test]
fn health_is_not_found_out_anew() {
    needs!(Need::Namespaces);
    let stack = stack_with_share(
        r#"
services:
  web:
    rootfs: host
    command: [sleep, infinity]
    volumes: ['./share:/share']
    healthcheck: {test: "! test -e /share/sick", interval: 20ms, retries: 3}
  slow:
    rootfs: host
    command: [sleep, infinity]
    healthcheck: {test: "true", interval: 1h, start_interval: 10ms, start_period: 1h}
"#,
    );
    let health = |service: &str| stack.container(service).health.unwrap_or_default();
    let becomes = |service: &str, wanted: &str| {
        wait_for(&format!("`{service}` to be {wanted}"), || (health(service) == wanted).then_some(()));
    };
    stack.up();
    for service in ["web", "slow"] {
        becomes(service, "healthy");
    }
    kill_and_wait(&stack);
    // The next look at this one comes in an hour.
    assert_eq!(health("slow"), "healthy");
    put(&stack, "sick");
    becomes("web", "unhealthy");
    kill_and_wait(&stack);
    becomes("web", "unhealthy");
    fs::remove_file(stack.path("share/sick")).expect("ours");
    becomes("web", "healthy");
}

/// The hook has seen a container that the next supervisor cannot know to be what the hook makes of it.
#[test]
fn a_container_whose_hooks_were_not_done_is_made_anew() {
    needs!(Need::Namespaces);
    let stack = stack_with_share(
        r#"
services:
  web:
    rootfs: host
    command: [sh, -c, "echo x >> /share/starts; exec sleep infinity"]
    volumes: ['./share:/share']
    post_start: [{command: [sh, -c, "echo x >> /share/hooks; while ! test -e /share/go; do sleep 0.02; done"]}]
    pre_stop: [{command: [sh, -c, "echo x >> /share/stops"]}]
"#,
    );
    let up = stack.nscompose().args(["up", "-d"]).start();
    wait_for("the hook", || (lines(&stack, "hooks") == 1).then_some(()));
    kill_and_wait(&stack);
    wait_for("the hook again", || (lines(&stack, "hooks") == 2).then_some(()));
    assert_eq!(lines(&stack, "starts"), 2);
    put(&stack, "go");
    up.wait().success();
    let pid = stack.pid("web");
    kill_and_wait(&stack);
    assert_eq!((stack.pid("web"), lines(&stack, "hooks"), lines(&stack, "stops")), (pid, 2, 0));
    let traces = stack.traces();
    stack.down();
    assert_eq!(lines(&stack, "stops"), 1, "what is run before the stop outlives it too");
    traces.assert_gone();
}

#[test]
fn a_stop_under_way_is_gone_on_with() {
    needs!(Need::Namespaces);
    let stack = stack_with_share(
        r#"
services:
  web:
    rootfs: host
    restart: always
    stop_grace_period: 1h
    command: [sh, -c, "trap 'touch /share/asked; while ! test -e /share/go; do sleep 0.02; done; exit 5' TERM; touch /share/ready; while :; do sleep 0.02; done"]
    volumes: ['./share:/share']
"#,
    );
    stack.up();
    share_has(&stack, "ready");
    let stop = stack.nscompose().args(["stop"]).start();
    share_has(&stack, "asked");
    // Nobody asks for it any more.
    stop.signal(Signal::SIGKILL);
    assert_eq!(stop.wait().code, 137);
    kill_and_wait(&stack);
    assert!(["stopping", "running"].contains(&stack.container("web").state.as_str()));
    put(&stack, "go");
    assert_eq!(in_state(&stack, "web", "exited").exit_code, Some(5));
    kill_and_wait(&stack);
    assert_eq!(stack.container("web").state, "exited");
    let traces = stack.traces();
    stack.down();
    traces.assert_gone();
}

/// Verbs that change containers find the next supervisor, as `up` and `down` do.
#[test]
fn a_verb_under_way_goes_on_with_the_next_one() {
    needs!(Need::Namespaces);
    let stack = stack_with_share(
        r#"
services:
  web:
    rootfs: host
    stop_grace_period: 1h
    command: [sh, -c, "trap 'touch /share/asked; while ! test -e /share/go; do sleep 0.02; done; exit 0' TERM; touch /share/ready; while :; do sleep 0.02; done"]
    volumes: ['./share:/share']
"#,
    );
    stack.up();
    share_has(&stack, "ready");
    let pid = stack.pid("web");
    let waits = stack.nscompose().args(["wait", "web"]).start();
    let restart = stack.nscompose().args(["restart"]).start();
    share_has(&stack, "asked");
    assert!(kill_supervisor(&stack, 0));
    put(&stack, "go");
    restart.wait().success();
    assert_ne!(stack.pid("web"), pid);
    assert_eq!(stack.container("web").state, "running");
    waits.wait().code(0).stdout_has("exited with status code 0");
    let traces = stack.traces();
    stack.down();
    traces.assert_gone();
}
