//! `ps`.

use crate::support::{Need, Stack, needs};

#[test]
fn nothing_is_listed_of_a_stack_that_is_not_up() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity]}}");
    stack.run(&["ps", "--format", "json"]).success().stdout_is("");
    stack.run(&["ps", "--format", "{{.Name}}"]).success().stdout_is("");
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
    assert!(!stack.run(&["ps"]).success().stdout.contains("bad"), "that is for -a");
    let table = stack.run(&["ps", "-a"]).success().stdout;
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

#[test]
fn scripts_for_docker_compose_find_what_they_look_for() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {done: {rootfs: host, command: [sh, -c, 'exit 3']}, web: {rootfs: host, command: [sleep, infinity], ports: ['127.0.0.1::80'], healthcheck: {test: [CMD, 'true'], interval: 50ms}}, made: {rootfs: host, command: [sleep, infinity]}}",
    );
    stack.run(&["up", "-d", "--wait", "web"]).success();
    stack.run(&["up", "-d", "done"]).success();
    stack.run(&["create", "made"]).success();
    stack.exit_code("done");
    // An object a line, which `jq` reads like any other stream.
    let lines = stack.run(&["ps", "-a", "--format", "json"]).success().stdout;
    let rows: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect();
    assert_eq!(rows.len(), 3);
    let named = |name: &str| rows.iter().find(|row| row["Service"] == name).expect("its row");
    let (done, web, made) = (named("done"), named("web"), named("made"));
    let name = format!("{}-web-1", stack.project());
    assert_eq!((&web["Name"], &web["Names"], &web["ID"]), (&name.clone().into(), &name.clone().into(), &name.into()));
    assert_eq!(web["Project"], stack.project());
    assert_eq!((&web["State"], &web["Health"], &web["ExitCode"]), (&"running".into(), &"healthy".into(), &0.into()));
    let status = web["Status"].as_str().expect("text");
    assert!(status.starts_with("Up ") && status.ends_with(" (healthy)"), "{status}");
    let published = &web["Publishers"][0];
    assert_eq!((&published["URL"], &published["TargetPort"]), (&"127.0.0.1".into(), &80.into()));
    assert_eq!(published["Protocol"], "tcp");
    assert_eq!(web["Ports"], format!("127.0.0.1:{}->80/tcp", published["PublishedPort"]));
    assert_eq!((&done["Status"], &done["ExitCode"], &done["Health"]), (&"Exited (3)".into(), &3.into(), &"".into()));
    assert_eq!((&made["Status"], &made["State"]), (&"Created".into(), &"created".into()));
    assert_eq!(done["Publishers"], serde_json::json!([]));
    // Templates.
    let shown = |format: &str| stack.run(&["ps", "-a", "--format", format]).success().stdout;
    assert_eq!(shown("{{.Service}} {{.State}} {{.ExitCode}}"), "done exited 3\nmade created 0\nweb running 0\n");
    assert_eq!(shown("table {{.Service}}\\t{{.Health}}"), "SERVICE   HEALTH\ndone\nmade\nweb       healthy\n");
    stack.run(&["ps", "--format", "{{.Stat}}"]).code(2).stderr_has("did you mean `.State`");
    stack.run(&["ps", "--format", "yaml"]).code(2).stderr_has("a template");
}
