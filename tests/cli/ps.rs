//! `ps`.

use crate::support::{Need, Stack, needs};

#[test]
fn nothing_is_listed_of_a_stack_that_is_not_up() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity]}}");
    stack.run(&["ps", "--format", "json"]).success().stdout_is("[]\n");
    stack.run(&["ps", "--services"]).success().stdout_is("");
    stack.run(&["ps", "-q"]).success().stdout_is("");
}

#[test]
fn an_ended_service_is_listed_with_its_code() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {bad: {rootfs: host, command: [sh, -c, 'exit 9']}, killed: {rootfs: host, command: [sh, -c, 'kill -KILL $$$$']}, web: {rootfs: host, command: [sleep, infinity]}}",
    );
    stack.up();
    assert_eq!(stack.exit_code("bad"), 9);
    assert_eq!(stack.container("bad").state, "exited");
    assert_eq!(stack.container("bad").pid, None);
    assert_eq!(stack.container("web").exit_code, None);
    let container = stack.container("web");
    assert_eq!(container.name, format!("{}-web-1", stack.project()));
    assert_eq!(container.command, "sleep infinity");
    let table = stack.run(&["ps"]).success().stdout;
    assert!(table.lines().any(|line| line.contains("bad") && line.contains('9')), "{table}");
}

#[test]
fn a_signal_shows_as_a_shell_has_it() {
    needs!(Need::Namespaces);
    let stack =
        Stack::new("services: {web: {rootfs: host, command: [sh, -c, 'kill -USR1 $$$$; sleep 9'], init: true}}");
    stack.up();
    assert_eq!(stack.exit_code("web"), 128 + 10);
}

#[test]
fn services_can_be_chosen() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {one: {rootfs: host, command: [sleep, infinity]}, two: {rootfs: host, command: [sleep, infinity]}}",
    );
    stack.up();
    stack.run(&["ps", "two", "--services"]).success().stdout_is("two\n");
    stack.run(&["ps", "twoo"]).code(2).stderr_has("did you mean `two`?");
}

#[test]
fn names_alone_are_for_scripts() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {one: {rootfs: host, command: [sleep, infinity]}, two: {rootfs: host, command: [sleep, infinity]}}",
    );
    stack.up();
    let name = |service: &str| format!("{}-{service}-1\n", stack.project());
    stack.run(&["ps", "-q"]).success().stdout_is(&(name("one") + &name("two")));
    stack.run(&["ps", "--quiet", "two"]).success().stdout_is(&name("two"));
    stack.run(&["exec", name("two").trim(), "true"]).success();
}
