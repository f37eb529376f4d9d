//! `logs`.

use crate::support::{Need, Stack, needs, wait_for};

#[test]
fn both_streams_are_kept_in_order() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sh, -c, 'for i in 1 2 3 4; do echo out $$i; sleep 0.02; echo err $$i >&2; sleep 0.02; done; echo end; exec sleep infinity']}}",
    );
    stack.up();
    let expected: String = (1..=4).map(|i| format!("out {i}\nerr {i}\n")).collect();
    assert_eq!(stack.log_with("web", "end"), format!("{expected}end\n"));
}

#[test]
fn an_unended_last_line_is_shown() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [printf, 'one\\ntwo']}, other: {rootfs: host, command: [sleep, infinity]}}",
    );
    stack.up();
    stack.exit_code("web");
    assert_eq!(stack.log("web"), "one\ntwo\n");
}

#[test]
fn bytes_that_are_not_text_are_shown_as_such() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sh, -c, \"printf 'a\\\\377b\\\\n'; echo next; exec sleep infinity\"]}}",
    );
    stack.up();
    assert_eq!(stack.log_with("web", "next"), "a\u{fffd}b\nnext\n");
}

#[test]
fn a_long_line_stays_one_line() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sh, -c, 'head -c 100000 /dev/zero | tr \"\\\\0\" x; echo; echo end; exec sleep infinity']}}",
    );
    stack.up();
    assert_eq!(stack.log_with("web", "end"), format!("{}\nend\n", "x".repeat(100_000)));
}

#[test]
fn the_last_lines_can_be_chosen() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sh, -c, 'seq 1 20; exec sleep infinity']}}");
    stack.up();
    stack.log_with("web", "20");
    stack.run(&["logs", "--tail", "2", "--no-log-prefix"]).success().stdout_is("19\n20\n");
    stack.run(&["logs", "-n", "0"]).success().stdout_is("");
}

#[test]
fn services_can_be_chosen_and_carry_their_name() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {a: {rootfs: host, command: [sh, -c, 'echo from a; exec sleep infinity']}, long: {rootfs: host, command: [sh, -c, 'echo from long; exec sleep infinity']}}",
    );
    stack.up();
    stack.log_with("a", "from a");
    stack.log_with("long", "from long");
    stack.run(&["logs", "a"]).success().stdout_is("a | from a\n");
    let both = stack.run(&["logs"]).success().stdout;
    let mut lines: Vec<&str> = both.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["a    | from a", "long | from long"]);
    stack.run(&["logs", "lnog"]).code(2).stderr_has("did you mean `long`?");
}

#[test]
fn following_ends_with_the_stack() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"services: {web: {rootfs: host, command: [sh, -c, "trap 'echo last words; exit 0' TERM; echo first; while [ ! -e /go ]; do sleep 0.02; done; echo second; sleep infinity & wait"]}}"#,
    );
    stack.up();
    let mut logs = stack.nscompose().args(["logs", "-f", "--no-log-prefix"]).start();
    logs.expect_stdout("first\n");
    stack.exec("web", &["touch", "/go"]);
    logs.expect_stdout("second\n");
    stack.down();
    logs.wait().success().stdout_is("first\nsecond\nlast words\n");
}

#[test]
fn timestamps_can_be_shown() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sh, -c, 'echo hi; exec sleep infinity']}}");
    stack.up();
    stack.log_with("web", "hi");
    let line = stack.run(&["logs", "-t", "--no-log-prefix"]).success().stdout;
    let (time, text) = line.trim_end().split_once(' ').expect("a time and the text");
    assert!(time.contains('T') && time.ends_with('Z') && text == "hi", "{line}");
}

#[test]
fn much_output_is_kept_whole() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sh, -c, 'seq 1 50000; exec sleep infinity']}}");
    stack.up();
    let expected: String = (1..=50_000).map(|i| format!("{i}\n")).collect();
    let log = wait_for("the last line", || {
        let log = stack.log("web");
        log.ends_with("\n50000\n").then_some(log)
    });
    assert!(log == expected, "{} lines", log.lines().count());
}

#[test]
fn logs_of_a_stack_that_is_not_up_are_gone() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity]}}");
    stack.run(&["logs"]).success().stdout_is("").stderr_has("is not up");
    stack.run(&["logs", "nobody"]).code(2).stderr_has("there is no service `nobody`");
    stack.run(&["rm", "-f", "nobody"]).code(2).stderr_has("there is no service `nobody`");
}
