//! How a service ends: asked first, given its time, and with all that it has begun.

use crate::support::{Need, Stack, needs, wait_for};

#[test]
fn what_would_not_hear_its_signal_is_not_waited_for() {
    needs!(Need::Program("python3"));
    // Were any of it waited for, the test would not end.
    let stack = Stack::new(
        r#"
services:
  sleep: {rootfs: host, command: [sleep, infinity], stop_grace_period: 1h}
  shell: {rootfs: host, command: [sh, -c, "sleep infinity; true"], stop_grace_period: 1h}
  ignoring: {rootfs: host, command: [sh, -c, "trap '' TERM; while :; do sleep 0.05; done"], stop_grace_period: 1h}
  busy: {rootfs: host, command: [sh, -c, "trap 'true' WINCH; while :; do sleep 0.01; done"], stop_grace_period: 1h}
  init: {rootfs: host, command: [sleep, infinity], stop_grace_period: 1h, init: true}
  blocking:
    rootfs: host
    command: [python3, -c, "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [15]); signal.sigwait([15])"]
    stop_grace_period: 1h
"#,
    );
    stack.up();
    let traces = stack.traces();
    stack.down();
    traces.assert_gone();
}

#[test]
fn a_handler_has_all_the_time_that_the_file_gives_it() {
    needs!(Need::Namespaces);
    let script = "trap 'echo asked; while [ ! -e /share/go ]; do sleep 0.02; done; echo finished > /share/done; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
    let stack = Stack::new(&format!(
        "services: {{web: {{rootfs: host, command: [sh, -c, {script:?}], stop_grace_period: 1h, volumes: ['./share:/share']}}}}"
    ));
    stack.file("share/x", "");
    stack.up();
    stack.log_with("web", "ready");
    let mut down = stack.nscompose().args(["down"]).start();
    stack.log_with("web", "asked");
    assert!(down.is_running());
    stack.file("share/go", "");
    down.wait().success();
    assert_eq!(std::fs::read_to_string(stack.path("share/done")).expect("what the handler wrote"), "finished\n");
}

#[test]
fn a_program_that_is_just_beginning_comes_to_its_handler() {
    needs!(Need::Namespaces);
    // Busy for a moment, as an interpreter is that reads its modules.
    let script = "i=0; while [ $$i -lt 100000 ]; do i=$$((i + 1)); done; trap 'echo heard > /share/done; exit 0' TERM; while :; do sleep 0.05; done";
    let stack = Stack::new(&format!(
        "services: {{web: {{rootfs: host, command: [sh, -c, {script:?}], stop_grace_period: 1h, volumes: ['./share:/share']}}}}"
    ));
    stack.file("share/x", "");
    stack.up();
    stack.down();
    assert_eq!(std::fs::read_to_string(stack.path("share/done")).expect("what the handler wrote"), "heard\n");
}

#[test]
fn any_signal_can_be_the_one_that_stops() {
    needs!(Need::Program("bash"));
    let service = |signal: &str, trap: &str| {
        format!(
            "{{rootfs: host, stop_signal: {signal}, stop_grace_period: 1h, volumes: ['./share:/share'], command: [bash, -c, \"trap 'echo {signal} >> /share/{trap}; exit 0' {trap}; echo ready; while :; do sleep 0.05; done\"]}}"
        )
    };
    let stack = Stack::new(&format!(
        "services: {{a: {}, b: {}, c: {}, d: {}}}",
        service("SIGRTMIN+3", "RTMIN+3"),
        service("RTMAX-1", "RTMAX-1"),
        service("usr1", "USR1"),
        service("'3'", "QUIT"),
    ));
    stack.file("share/x", "");
    stack.up();
    for name in ["a", "b", "c", "d"] {
        stack.log_with(name, "ready");
    }
    stack.down();
    for (trap, signal) in [("RTMIN+3", "SIGRTMIN+3"), ("RTMAX-1", "RTMAX-1"), ("USR1", "usr1"), ("QUIT", "3")] {
        let written = std::fs::read_to_string(stack.path(&format!("share/{trap}"))).unwrap_or_default();
        assert_eq!(written.trim(), signal);
    }
}

#[test]
fn an_init_passes_signals_on_reaps_and_ends_as_the_program_does() {
    needs!(Need::Namespaces);
    let script =
        "trap 'exit 5' USR1; (sleep 0.01 &) ; (setsid sh -c 'sleep 0.01' &); echo ready; while :; do sleep 0.05; done";
    let stack = Stack::new(&format!(
        "services: {{web: {{rootfs: host, init: true, command: [sh, -c, {script:?}]}}, later: {{rootfs: host, init: true, command: [sh, -c, 'echo ready; exec sh -c \"trap \\\"exit 9\\\" USR1; echo then; while :; do sleep 0.05; done\"']}}, killed: {{rootfs: host, init: true, command: [sh, -c, 'kill -KILL $$$$']}}}}"
    ));
    stack.up();
    stack.log_with("web", "ready");
    wait_for("the last zombie", || {
        let zombies = stack.sh("web", "grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l");
        (zombies == "0").then_some(())
    });
    stack.exec("web", &["kill", "-USR1", "1"]);
    assert_eq!(stack.exit_code("web"), 5);
    stack.log_with("later", "then");
    stack.exec("later", &["kill", "-USR1", "1"]);
    assert_eq!(stack.exit_code("later"), 9);
    assert_eq!(stack.exit_code("killed"), 137);
}

/// A program that leaves a child in a session of its own, without a parent, and another one that it has forgotten.
const LEAVES: &str = "(setsid sh -c 'exec sleep 31415' & ) ; sh -c 'setsid sleep 31416 & exit' ; sleep 31417 &";

#[test]
fn what_a_service_leaves_behind_ends_with_it_where_others_live_on() {
    needs!(Need::Namespaces);
    for mode in ["'service:stays'", "host"] {
        let stack = Stack::new(&format!(
            "services: {{stays: {{rootfs: host, command: [sleep, infinity], {own}}}, ends: {{rootfs: host, pid: {mode}, command: [sh, -c, {script:?}], volumes: ['./share:/share']}}, stopped: {{rootfs: host, pid: {mode}, command: [sh, -c, {stopped:?}]}}}}",
            own = if mode == "host" { "pid: host" } else { "init: false" },
            script = format!("{LEAVES} echo begun; while [ ! -e /share/go ]; do sleep 0.02; done"),
            stopped = format!("{LEAVES} echo begun; exec sleep infinity"),
        ));
        stack.file("share/x", "");
        stack.up();
        stack.log_with("ends", "begun");
        stack.log_with("stopped", "begun");
        let own = |name: &str| children(&stack, name);
        wait_for("all of the children", || (own("ends").len() >= 3 && own("stopped").len() >= 3).then_some(()));
        let (of_ends, of_stopped) = (own("ends"), own("stopped"));
        stack.file("share/go", "");
        stack.exit_code("ends");
        assert_eq!(alive(&of_ends), Vec::<i32>::new(), "{mode}");
        assert_eq!(alive(&of_stopped).len(), of_stopped.len(), "{mode}: those of another service live on");
        let traces = stack.traces();
        stack.down();
        assert_eq!(alive(&of_stopped), Vec::<i32>::new(), "{mode}");
        traces.assert_gone();
    }
}

/// Processes of the host that sleep as [`LEAVES`] has it and see the mounts of a service.
fn children(stack: &Stack, service: &str) -> Vec<i32> {
    let mounts = std::path::PathBuf::from(stack.namespace(service, "mnt"));
    let all = std::fs::read_dir("/proc").expect("/proc").flatten();
    let all = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_one = |pid: &i32| {
        let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let own = std::fs::read_link(format!("/proc/{pid}/ns/mnt"));
        command.split('\0').nth(1).is_some_and(|time| time.starts_with("314")) && own.is_ok_and(|own| own == mounts)
    };
    all.filter(is_one).collect()
}

/// Those that have not ended; a first process may not have collected one yet that has.
fn alive(pids: &[i32]) -> Vec<i32> {
    let ended = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    };
    pids.iter().copied().filter(|pid| !ended(pid)).collect()
}
