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
fn down_of_services_leaves_the_others() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sh, -c, 'trap : TERM; while :; do sleep 0.1; done'], scale: 2, volumes: [/kept], stop_grace_period: 10h, depends_on: [db]}, db: {rootfs: host, command: [sleep, infinity]}}",
    );
    let traces = stack.traces();
    stack.run(&["down", "webb"]).code(2).stderr_has("there is no service `webb`");
    stack.run(&["down", "web"]).success().stderr_has("is not up, nothing to do");
    stack.up();
    let db = stack.pid("db");
    stack.run(&["down", "webb"]).code(2).stderr_has("did you mean `web`?");
    assert_eq!(stack.ps().len(), 3);
    // The dependent goes and what it depends on stays, as do those that depend on what goes.
    stack.run(&["down", "-t", "0", "web"]).success().stderr_has("web removed").stderr_has("web/2 removed");
    let left: Vec<(String, Option<i32>)> = stack.ps().into_iter().map(|it| (it.service, it.pid)).collect();
    assert_eq!(left, [("db".to_owned(), Some(db))]);
    stack.run(&["down", "web"]).success().stderr_has("has no container of them");
    stack.run(&["up", "-d"]).success();
    let web = stack.pid("web");
    stack.run(&["down", "db"]).success().stderr_has("db removed");
    assert_eq!((stack.ps().len(), stack.pid("web")), (2, web));
    // With its last container the stack goes.
    stack.run(&["down", "-t", "0", "-v", "web"]).success();
    traces.assert_gone();
}

#[test]
fn down_removes_images_only_where_it_is_asked_to() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity]}}");
    stack.run(&["down", "--rmi", "some"]).code(2).stderr_has("all, local");
    stack.up();
    // Of what is wrong with the file is told before anything has gone: which images are its is not known.
    let text = std::fs::read_to_string(stack.path("stack.yaml")).expect("ours");
    stack.file("stack.yaml", &text.replace("command:", "comand:"));
    stack.run(&["down", "--rmi", "all"]).failure().stderr_has("did you mean `command`?");
    assert_eq!(stack.container("web").state, "running");
    stack.file("stack.yaml", &text);
    stack.run(&["down", "--rmi", "all"]).success();
    stack.run(&["down", "--rmi", "local"]).success();
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
