//! Containers that are frozen: with their control group, or where there is none with SIGSTOP.

use std::fs;

use crate::support::{Need, Stack, is_root, needs, wait_for};

/// Counts in a file, making processes all the time.
fn counting(name: &str, more: &str) -> String {
    let script = format!(
        "trap 'echo asked > /share/{name}.asked; exit 7' TERM; i=0; while :; do i=$$((i + 1)); echo $$i > /share/{name}.new; mv /share/{name}.new /share/{name}; done"
    );
    format!(
        "{name}: {{rootfs: host, command: [sh, -c, {script:?}], stop_grace_period: 1h, volumes: ['./share:/share']{more}}}"
    )
}

fn stack_of(services: &[String]) -> Stack {
    let stack = Stack::new(&format!("services: {{{}}}", services.join(", ")));
    stack.file("share/x", "");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(stack.path("share"), open).expect("our folder");
    stack
}

fn count(stack: &Stack, name: &str) -> u64 {
    fs::read_to_string(stack.path(&format!("share/{name}"))).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// Waits until it has counted on a good deal from where it is.
fn counts_on(stack: &Stack, name: &str) {
    let from = count(stack, name);
    wait_for(&format!("`{name}` to count on"), || (count(stack, name) > from + 20).then_some(()));
}

#[test]
fn a_paused_service_does_nothing_until_it_goes_on() {
    needs!(Need::Namespaces);
    let stack = stack_of(&[counting("one", ""), counting("two", ", init: true")]);
    stack.up();
    counts_on(&stack, "one");
    let said = stack.run(&["pause", "one"]).success().stderr;
    assert!(said.contains("one paused"), "{said}");
    // Root has control groups in these tests, and says nothing of signals.
    assert_eq!(is_root(), !said.contains("SIGSTOP"), "{said}");
    let frozen = count(&stack, "one");
    assert_eq!(stack.container("one").state, "paused");
    counts_on(&stack, "two");
    // Nothing of it waits for the frozen one.
    stack.run(&["exec", "one", "true"]).code(1).stderr_has("is paused").stderr_has("nscompose unpause one");
    stack.run(&["exec", "-d", "one", "true"]).code(1).stderr_has("is paused");
    stack.run(&["exec", "two", "true"]).success();
    stack.run(&["logs", "one"]).success();
    stack.run(&["stats", "--no-stream"]).success();
    stack.run(&["top"]).success();
    stack.run(&["pause", "one"]).code(1).stderr_has("paused already");
    stack.run(&["unpause", "two"]).code(1).stderr_has("is not paused");
    stack.run(&["start"]).success();
    stack.up().stderr_has("service `one` is paused");
    assert_eq!(stack.container("one").state, "paused", "nor are start and up");
    counts_on(&stack, "two");
    assert_eq!(count(&stack, "one"), frozen);
    stack.run(&["unpause", "one"]).success().stderr_has("one unpaused");
    assert_eq!(stack.container("one").state, "running");
    counts_on(&stack, "one");
    stack.run(&["exec", "one", "true"]).success();
    // All, whatever each does.
    stack.run(&["pause", "two"]).success();
    stack.run(&["pause"]).success();
    assert!(stack.ps().iter().all(|container| container.state == "paused"));
    stack.run(&["unpause"]).success();
    counts_on(&stack, "one");
    counts_on(&stack, "two");
}

#[test]
fn a_paused_service_stops_as_any_other() {
    needs!(Need::Namespaces);
    let stack = stack_of(&[counting("one", ""), counting("two", "")]);
    stack.up();
    counts_on(&stack, "one");
    counts_on(&stack, "two");
    stack.run(&["pause"]).success();
    stack.run(&["stop", "one"]).success();
    assert_eq!(stack.exit_code("one"), 7);
    assert!(stack.path("share/one.asked").exists());
    stack.run(&["kill", "two"]).success();
    assert_eq!(stack.exit_code("two"), 137);
    // What it is started in is not frozen.
    stack.run(&["start"]).success();
    counts_on(&stack, "one");
    counts_on(&stack, "two");
    stack.run(&["pause"]).success();
    stack.run(&["restart", "one"]).success();
    counts_on(&stack, "one");
    // A signal that ends nothing waits with it; the one that stops does not.
    let _ = fs::remove_file(stack.path("share/two.asked"));
    stack.run(&["kill", "-s", "TERM", "two"]).success();
    assert_eq!(stack.exit_code("two"), 7);
    stack.run(&["start", "two"]).success();
    counts_on(&stack, "two");
    stack.run(&["pause"]).success();
    let traces = stack.traces();
    stack.down();
    traces.assert_gone();
}

#[test]
fn one_of_several_in_a_pid_namespace_is_paused_alone() {
    needs!(Need::Namespaces);
    for mode in ["'service:one'", "host"] {
        let stack = stack_of(&[counting("one", ""), counting("two", &format!(", pid: {mode}"))]);
        stack.up();
        counts_on(&stack, "one");
        counts_on(&stack, "two");
        stack.run(&["pause", "two"]).success();
        let frozen = count(&stack, "two");
        counts_on(&stack, "one");
        assert_eq!(count(&stack, "two"), frozen, "{mode}");
        stack.run(&["unpause", "two"]).success();
        counts_on(&stack, "two");
        stack.run(&["pause", "one"]).success();
        let frozen = count(&stack, "one");
        counts_on(&stack, "two");
        assert_eq!(count(&stack, "one"), frozen, "{mode}");
        stack.run(&["down", "-t", "0"]).success();
    }
}

#[test]
fn a_killed_supervisor_leaves_nothing_frozen() {
    needs!(Need::Namespaces);
    let stack = stack_of(&[counting("one", "")]);
    stack.up();
    counts_on(&stack, "one");
    stack.run(&["pause"]).success();
    let traces = stack.traces();
    let supervisor = nix::unistd::Pid::from_raw(stack.supervisor().expect("a supervisor"));
    nix::sys::signal::kill(supervisor, nix::sys::signal::Signal::SIGKILL).expect("it runs");
    stack.down();
    traces.assert_gone();
}

/// Whether all processes of the container with this first process are frozen, as the kernel has it.
fn is_frozen(pid: i32) -> bool {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it runs");
    let group = |wanted: fn(&str) -> bool| {
        let line = groups.lines().find(|line| line.split(':').nth(1).is_some_and(wanted))?;
        line.splitn(3, ':').nth(2).map(|path| path.trim_start_matches('/').to_owned())
    };
    if is_root() {
        // Version 2, which may have its place beside version 1, freezes without a controller.
        let path = group(str::is_empty).expect("a group of version 2");
        let events = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
            .iter()
            .find_map(|mount| fs::read_to_string(format!("{mount}/{path}/cgroup.events")).ok());
        if let Some(events) = events.filter(|_| path.contains("nscompose")) {
            return events.contains("frozen 1");
        }
        let path = group(|kinds| kinds.split(',').any(|kind| kind == "freezer")).expect("a group of the freezer");
        let state = fs::read_to_string(format!("/sys/fs/cgroup/freezer/{path}/freezer.state"));
        return state.expect("its group").trim() == "FROZEN";
    }
    let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let own = of(&pid.to_string());
    let all = fs::read_dir("/proc").expect("proc").flatten().filter_map(|entry| entry.file_name().into_string().ok());
    all.filter(|name| name.parse::<i32>().is_ok() && of(name) == own).all(|name| {
        let stat = fs::read_to_string(format!("/proc/{name}/stat")).unwrap_or_default();
        stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with(['T', 'Z', 'X']))
    })
}

#[test]
fn it_is_said_to_be_paused_when_it_is() {
    needs!(Need::Namespaces);
    // Whoever is busy stops when it is his turn on a processor, which takes a while with many that have to stand back.
    let script = "for i in $(seq 60); do nice -n 19 sh -c 'while :; do :; done' & done; echo ready; wait";
    let script = script.replace('$', "$$");
    let stack = stack_of(&[format!("many: {{rootfs: host, command: [sh, -c, {script:?}]}}")]);
    stack.up();
    stack.log_with("many", "ready");
    let pid = stack.pid("many");
    let mut events = stack.nscompose().arg("events").start();
    for round in 1..=2 {
        let pause = stack.nscompose().args(["pause", "many"]).start();
        wait_for("what it says", || pause.stderr().contains("many paused").then_some(()));
        assert!(is_frozen(pid), "round {round}");
        let _ = pause.wait().success();
        stack.run(&["unpause", "many"]).success().stderr_has("many unpaused");
        assert!(!is_frozen(pid), "round {round}");
    }
    events.expect_stdout("unpause");
    assert!(events.stdout().contains(" pause "), "{}", events.stdout());
}
