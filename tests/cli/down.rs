//! `down`.

use crate::support::{Need, Stack, needs};

#[test]
fn a_handler_may_finish_its_work() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"services: {web: {rootfs: host, command: [sh, -c, "trap 'echo done > /out/file; exit 5' TERM; echo ready; sleep infinity & wait"], volumes: ["./out:/out"]}}"#,
    );
    stack.up();
    stack.log_with("web", "ready");
    stack.down().stderr_has("web stopped with code 5");
    assert_eq!(std::fs::read_to_string(stack.path("out/file")).expect("written at the end"), "done\n");
}

#[test]
fn a_first_process_without_a_handler_is_not_waited_for() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], stop_grace_period: 10h}}");
    stack.up();
    // The kernel gives pid 1 no signal that it does not handle, so a grace period is of no use; the test's own patience
    // is far shorter than this one.
    stack.down().stderr_has("web stopped with code 137");
}

#[test]
fn under_init_a_program_without_a_handler_ends_by_the_signal() {
    needs!(Need::Namespaces);
    let stack =
        Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], init: true, stop_grace_period: 10h}}");
    stack.up();
    stack.down().stderr_has("web stopped with code 143");
}

#[test]
fn the_stop_signal_is_the_one_of_the_file() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"services: {web: {rootfs: host, command: [sh, -c, "trap 'exit 21' USR1; trap 'exit 22' TERM; echo ready; sleep infinity & wait"], stop_signal: SIGUSR1}}"#,
    );
    stack.up();
    stack.log_with("web", "ready");
    stack.down().stderr_has("web stopped with code 21");
}

#[test]
fn what_does_not_stop_is_killed_when_its_time_is_over() {
    needs!(Need::Namespaces);
    let yaml = |grace: &str| {
        format!(
            r#"services: {{web: {{rootfs: host, command: [sh, -c, "trap 'echo not yet' TERM; echo ready; while :; do sleep 0.05; done"], stop_grace_period: {grace}}}}}"#
        )
    };
    let stack = Stack::new(&yaml("200ms"));
    stack.up();
    stack.log_with("web", "ready");
    stack.down().stderr_has("web stopped with code 137");
    let stack = Stack::new(&yaml("10h"));
    stack.up();
    stack.log_with("web", "ready");
    stack.run(&["down", "-t", "0"]).success().stderr_has("web stopped with code 137");
}

#[test]
fn down_needs_no_valid_file_beyond_the_name() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity]}}");
    stack.up();
    stack.file("stack.yaml", &format!("name: {}\nservices: {{web: {{comand: nonsense}}}}\n", stack.project()));
    let traces = stack.traces();
    stack.down();
    traces.assert_gone();
}

#[test]
fn down_takes_no_services() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity]}}");
    stack.run(&["down", "web"]).code(2).stderr_has("`web`");
}

#[test]
fn a_program_that_waits_for_its_signals_gets_its_time() {
    needs!(Need::Program("python3"));
    // Blocked and taken with sigwait, the signal has no handler and arrives all the same.
    let script = "import signal\\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\\nprint('ready', flush=True)\\nsignal.sigwait([signal.SIGTERM])\\nopen('/out/file', 'w').write('done')";
    let stack = Stack::new(&format!(
        "services: {{web: {{rootfs: host, command: [python3, -c, \"{script}\"], volumes: ['./out:/out'], stop_grace_period: 10h}}}}"
    ));
    stack.up();
    stack.log_with("web", "ready");
    stack.down().stderr_has("web stopped with code 0");
    assert_eq!(std::fs::read_to_string(stack.path("out/file")).expect("written at the end"), "done");
}

#[test]
fn seconds_that_are_none_are_told_what_they_may_be() {
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity]}}");
    for words in [&["stop", "-t", "soon"][..], &["down", "-t", "1.5"], &["up", "--wait-timeout", "1m"]] {
        stack.run(words).code(2).stderr_has("write a whole number of seconds, such as `10`");
    }
}
