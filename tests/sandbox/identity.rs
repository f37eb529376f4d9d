//! Who a program is and where it finds itself: user, folder, environment, command line.

use crate::support::{Need, Stack, needs};

#[test]
fn the_user_can_be_a_number_or_a_name() {
    needs!(Need::Ids);
    let stack = Stack::new(
        r#"
services:
  number: {rootfs: host, command: [sleep, infinity], user: "1234:567"}
  name: {rootfs: host, command: [sleep, infinity], user: nobody}
  group: {rootfs: host, command: [sleep, infinity], user: "nobody:users"}
"#,
    );
    stack.up();
    let id = |service: &str, flag: &str| stack.exec(service, &["id", flag]);
    assert_eq!((id("number", "-u"), id("number", "-g")), ("1234".into(), "567".into()));
    assert_eq!((id("name", "-un"), id("name", "-gn")), ("nobody".into(), "nogroup".into()));
    assert_eq!((id("group", "-un"), id("group", "-gn")), ("nobody".into(), "users".into()));
    let uids = stack.sh("number", "awk '/^Uid/ {print $2, $3, $4, $5}' /proc/1/status");
    assert_eq!(uids, "1234 1234 1234 1234");
    assert_eq!(stack.sh("number", "awk '/^CapEff/ {print $2}' /proc/1/status"), "0000000000000000");
}

#[test]
fn an_unknown_user_is_an_error() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], user: nonesuch}}");
    stack.run(&["up", "-d"]).failure().stderr_has("`web`").stderr_has("nonesuch");
    stack.traces().assert_gone();
}

#[test]
fn a_user_that_the_account_cannot_have_is_an_error_with_the_way_out() {
    needs!(Need::OrdinaryUser);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], user: '999999'}}");
    stack.run(&["up", "-d"]).failure().stderr_has("999999").stderr_has("hint");
    stack.traces().assert_gone();
}

#[test]
fn nothing_of_the_callers_environment_leaks_in() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {web: {rootfs: host, command: [env], environment: {OWN: value, EMPTY: ''}}}");
    stack.nscompose().env("LEAK", "1").env("LD_PRELOAD_NOT", "1").args(["up", "-d"]).run().success();
    stack.exit_code("web");
    let log = stack.log("web");
    let mut names: Vec<&str> = log.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    names.sort_unstable();
    assert_eq!(names, ["EMPTY", "HOME", "HOSTNAME", "OWN", "PATH"]);
    assert!(log.contains("HOME=/root\n") && log.contains("OWN=value\n"), "{log}");
}

#[test]
fn a_variable_without_value_is_handed_on() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {web: {rootfs: host, command: [env], environment: [HANDED, NOT_SET]}}");
    stack.nscompose().env("HANDED", "on").args(["up", "-d"]).run().success();
    stack.exit_code("web");
    let log = stack.log("web");
    assert!(log.contains("HANDED=on\n") && !log.contains("NOT_SET"), "{log}");
}

#[test]
fn entrypoint_and_command_are_one_command_line() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"
services:
  both: {rootfs: host, entrypoint: [printf, "%s|"], command: ["a b", c, ""]}
  string: {rootfs: host, command: echo "a b"  'c  d'}
  alone: {rootfs: host, entrypoint: [echo, just this]}
"#,
    );
    stack.up();
    for service in ["both", "string", "alone"] {
        assert_eq!(stack.exit_code(service), 0);
    }
    assert_eq!(stack.log("both"), "a b|c||\n");
    assert_eq!(stack.log("string"), "a b c  d\n");
    assert_eq!(stack.log("alone"), "just this\n");
}

#[test]
fn the_working_folder_is_made_if_it_has_to_be() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sh, -c, 'pwd; exec sleep infinity'], working_dir: /usr/share}, new: {rootfs: host, command: [sh, -c, 'pwd; exec sleep infinity'], working_dir: /tmp/made/here}, root: {rootfs: host, command: [sh, -c, 'pwd; exec sleep infinity']}}",
    );
    stack.up();
    assert_eq!(stack.log_with("web", "\n"), "/usr/share\n");
    assert_eq!(stack.log_with("new", "\n"), "/tmp/made/here\n");
    assert_eq!(stack.log_with("root", "\n"), "/\n");
}

#[test]
fn output_can_be_opened_again_through_dev() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sh, -c, 'echo out > /dev/stdout; echo err > /dev/stderr; cat /dev/stdin']}}",
    );
    stack.up();
    assert_eq!(stack.exit_code("web"), 0);
    assert_eq!(stack.log("web"), "out\nerr\n");
}

#[test]
fn the_working_folder_is_made_in_a_root_that_cannot_be_written_to() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services:
  web: {rootfs: host, command: [pwd], read_only: true, working_dir: /srv/made/here}
  in-memory: {rootfs: host, command: [pwd], read_only: true, working_dir: /mnt/made/here, tmpfs: [/mnt]}
  lost: {rootfs: host, command: [pwd], read_only: true, working_dir: /etc/passwd/here}
",
    );
    let services = ["up", "-d", "web", "in-memory"];
    stack.run(&services).success();
    assert_eq!(stack.log_with("web", "here"), "/srv/made/here\n");
    assert_eq!(stack.log_with("in-memory", "here"), "/mnt/made/here\n");
    stack.run(&["up", "-d"]).failure().stderr_has("cannot enter the working directory /etc/passwd/here");
}
