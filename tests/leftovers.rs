//! Whatever happens to a stack, nothing is left of it: no process, namespace, mount, link, firewall rule, control group,
//! socket or file, but for named volumes.

mod support;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use support::{Need, Stack, needs, wait_for};

/// Everything that a stack can have: networks, a port, a volume, a shared pid namespace, an init.
fn rich(port: u16) -> Stack {
    Stack::new(&format!(
        r#"
services:
  db:
    rootfs: host
    command: [sleep, infinity]
    volumes: ["data:/data", /anonymous]
    tmpfs: /scratch
  web:
    rootfs: host
    command: [sleep, infinity]
    depends_on: [db]
    init: true
    networks: [front, default]
    ports: ["127.0.0.1:{port}:80"]
  side:
    rootfs: host
    command: [sleep, infinity]
    network_mode: service:web
    ipc: service:web
    pid: service:web
  watcher:
    rootfs: host
    command: [sh, -c, "sleep 1000 & sleep infinity"]
    network_mode: none
networks: {{front: {{}}}}
volumes: {{data: {{}}}}
"#
    ))
}

#[test]
fn three_services_come_up_and_leave_nothing() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {one: {rootfs: host, command: [sleep, infinity]}, two: {rootfs: host, command: [sleep, infinity]}, three: {rootfs: host, command: [sleep, infinity]}}",
    );
    stack.up();
    let containers = stack.ps();
    let shown: Vec<(&str, &str)> = containers.iter().map(|c| (c.service.as_str(), c.state.as_str())).collect();
    assert_eq!(shown, [("one", "running"), ("three", "running"), ("two", "running")]);
    let traces = stack.traces();
    // Three programs, the supervisor and its keeper; without them the test would see nothing go.
    assert!(traces.processes.len() >= 5, "{traces:?}");
    assert!(traces.namespaces.len() >= 3 * 6, "{traces:?}");
    stack.down();
    traces.assert_gone();
}

#[test]
fn a_stack_with_everything_leaves_nothing_but_its_volume() {
    needs!(Need::Namespaces);
    let stack = rich(support::free_port());
    stack.up();
    let traces = stack.traces();
    stack.down();
    traces.assert_gone_but_volumes(&["data"]);
    stack.run(&["down", "-v"]).success();
    traces.assert_gone();
}

#[test]
fn every_kind_of_thing_is_seen_while_it_is_there() {
    needs!(Need::Root, Need::Cgroups);
    let stack = rich(support::free_port());
    stack.up();
    let left = stack.traces().left(&[]).join("\n");
    for kind in ["process ", "namespace net:", "namespace user:", "mount ", "socket ", "control group ", "on disk "] {
        assert!(left.lines().any(|line| line.starts_with(kind)), "no {kind} in\n{left}");
    }
}

#[test]
fn an_up_that_fails_half_way_leaves_nothing_and_says_what_failed() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"
services:
  one: {rootfs: host, command: [sleep, infinity]}
  two: {rootfs: host, command: [sleep, infinity], depends_on: [one]}
  three: {rootfs: host, command: [no-such-program, --flag], depends_on: [two]}
  four: {rootfs: host, command: [sleep, infinity], depends_on: [three]}
  five: {rootfs: host, command: [sleep, infinity]}
"#,
    );
    for arguments in [&["up", "-d"][..], &["up"]] {
        let watch = stack.watch();
        let output = stack.run(arguments).failure();
        let traces = watch.finish();
        let output = output.stderr_has("`three`").stderr_has("no-such-program");
        assert!(!output.stderr.contains("four started"), "{output}");
        traces.assert_gone();
    }
}

#[test]
fn a_killed_foreground_up_leaves_nothing() {
    needs!(Need::Namespaces);
    let stack = rich(support::free_port());
    let mut up = stack.up_in_foreground(&[]);
    for service in ["db", "web", "side", "watcher"] {
        up.expect_stderr(&format!("{service} started"));
    }
    let traces = stack.traces();
    up.signal(Signal::SIGKILL);
    assert_eq!(up.wait().code, 137);
    traces.assert_gone_but_volumes(&["data"]);
}

#[test]
fn an_up_killed_while_it_starts_leaves_nothing() {
    needs!(Need::Namespaces);
    // From the first thing that the supervisor makes on: each round later than the one before.
    for sign in ["run/v1/{}", "run/v1/{}/control.sock", "run/v1/{}/journal", "data/v1/stacks/{}/containers"] {
        let stack = rich(support::free_port());
        let watch = stack.watch();
        let up = stack.up_in_foreground(&[]);
        let sign = stack.home().join(sign.replace("{}", stack.project()));
        wait_for(&sign.display().to_string(), || sign.exists().then_some(()));
        up.signal(Signal::SIGKILL);
        assert_eq!(up.wait().code, 137);
        let traces = watch.finish();
        // The volume may or may not have been made by then.
        let volumes: &[&str] = if wait_made(&stack) { &["data"] } else { &[] };
        traces.assert_gone_but_volumes(volumes);
    }
}

/// Whether the stack has made its volume, when its supervisor has ended.
fn wait_made(stack: &Stack) -> bool {
    let lock = stack.home().join(format!("run/v1/{}.lock", stack.project()));
    wait_for("the end of the supervisor", || (!lock.exists()).then_some(()));
    stack.volume("data").exists()
}

#[test]
fn down_cleans_up_after_a_killed_supervisor() {
    needs!(Need::Namespaces);
    let stack = rich(support::free_port());
    stack.up();
    let traces = stack.traces();
    kill(Pid::from_raw(stack.supervisor().expect("a supervisor")), Signal::SIGKILL).expect("ours");
    stack.down();
    traces.assert_gone_but_volumes(&["data"]);
}

#[test]
fn up_works_after_a_killed_supervisor_and_its_keeper() {
    needs!(Need::Namespaces);
    let stack = rich(support::free_port());
    stack.up();
    let before = stack.traces();
    // The keeper first, or it would start another supervisor.
    for wanted in ["nsc-keeper", "nscompose"] {
        for ((pid, _), _) in before.processes.iter().filter(|(_, name)| *name == wanted) {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
    }
    stack.up();
    assert!(stack.ps().iter().all(|container| container.state == "running"));
    let after = stack.traces();
    stack.down();
    before.assert_gone_but_volumes(&["data"]);
    after.assert_gone_but_volumes(&["data"]);
}

#[test]
fn a_terminated_supervisor_takes_its_stack_down() {
    needs!(Need::Namespaces);
    let stack = rich(support::free_port());
    // It is called as the command that has started it, so people hit it with what they mean for that one.
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
        stack.up();
        let traces = stack.traces();
        kill(Pid::from_raw(stack.supervisor().expect("a supervisor")), signal).expect("ours");
        traces.assert_gone_but_volumes(&["data"]);
    }
}

#[test]
fn a_stack_whose_services_have_all_ended_goes_down() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {one: {rootfs: host, command: [sh, -c, 'exit 3']}, two: {rootfs: host, command: ['true']}}",
    );
    stack.up();
    assert_eq!(stack.exit_code("one"), 3);
    assert_eq!(stack.exit_code("two"), 0);
    let traces = stack.traces();
    stack.down();
    traces.assert_gone();
}

#[test]
fn down_of_a_stack_that_is_not_up_is_fine() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {one: {rootfs: host, command: [sleep, infinity]}}");
    stack.down().stderr_has("is not up");
    stack.traces().assert_gone();
}

#[test]
fn grandchildren_that_left_their_parents_end_with_the_stack() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {one: {rootfs: host, command: [sh, -c, 'setsid sh -c \"setsid sleep 1000 & echo away\" & sleep infinity']}}",
    );
    stack.up();
    stack.log_with("one", "away");
    // The one that left is there before it has become a `sleep`.
    let traces = wait_for("both of them", || {
        let traces = stack.traces();
        (traces.processes.values().filter(|name| *name == "sleep").count() >= 2).then_some(traces)
    });
    stack.down();
    traces.assert_gone();
}

#[test]
fn a_killed_keeper_takes_its_stack_down() {
    needs!(Need::Namespaces);
    let stack = rich(support::free_port());
    stack.up();
    let traces = stack.traces();
    let keeper = traces.processes.iter().find(|(_, name)| *name == "nsc-keeper");
    let ((pid, _), _) = keeper.unwrap_or_else(|| panic!("no keeper: {traces:?}"));
    kill(Pid::from_raw(*pid), Signal::SIGKILL).expect("ours");
    traces.assert_gone_but_volumes(&["data"]);
    stack.up();
    stack.run(&["down", "-v"]).success();
    traces.assert_gone();
}

#[test]
fn an_up_killed_while_it_waits_for_a_down_leaves_nothing() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"services: {web: {rootfs: host, command: [sh, -c, "trap 'touch /ctl/stopping; while ! test -e /ctl/go; do sleep 0.02; done; exit 0' TERM; echo ready; while :; do sleep 0.02; done"], volumes: ["./ctl:/ctl"], stop_grace_period: 1h}}"#,
    );
    stack.file("ctl/x", "");
    stack.up();
    stack.log_with("web", "ready");
    let traces = stack.traces();
    let down = stack.nscompose().arg("down").start();
    wait_for("the handler", || stack.path("ctl/stopping").exists().then_some(()));
    let mut up = stack.up_in_foreground(&[]);
    // It has asked for the stack, and waits, once it has a connection and does nothing any more.
    let file = |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", up.pid())).unwrap_or_default();
    let mut seen = (String::new(), 0);
    wait_for("it to wait", || {
        let open = std::fs::read_dir(format!("/proc/{}/fd", up.pid())).into_iter().flatten().flatten();
        let mut targets = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        let connected = targets.any(|target| target.to_string_lossy().starts_with("socket:["));
        let switches = file("status").lines().filter(|line| line.contains("ctxt_switches")).collect::<String>();
        let idle = connected && switches == seen.0;
        seen = (switches, if idle { seen.1 + 1 } else { 0 });
        (seen.1 > 20).then_some(())
    });
    assert!(up.is_running());
    up.signal(Signal::SIGKILL);
    assert_eq!(up.wait().code, 137);
    stack.file("ctl/go", "");
    down.wait().success();
    traces.assert_gone();
    assert!(stack.ps().is_empty());
    assert_eq!(stack.supervisor(), None);
}

#[test]
fn a_hundred_services_come_up_and_leave_nothing_with_few_descriptors() {
    needs!(Need::OrdinaryUser);
    let services: String =
        (0..100).map(|i| format!("  s{i}: {{rootfs: host, command: [sleep, infinity]}}\n")).collect();
    let stack = Stack::new(&format!("services:\n{services}"));
    let script =
        format!("ulimit -Sn 1024 && exec {} --home {} up -d", env!("CARGO_BIN_EXE_nscompose"), stack.home().display());
    support::Run::new("sh").args(["-c", &script]).dir(stack.path("")).env("HOME", stack.user_home()).run().success();
    let containers = stack.ps();
    assert_eq!(containers.len(), 100);
    assert!(containers.iter().all(|container| container.state == "running"), "{containers:?}");
    let traces = stack.traces();
    stack.down();
    traces.assert_gone();
}
