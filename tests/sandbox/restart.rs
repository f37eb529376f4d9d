//! What happens when a service ends by itself.

use std::net::{TcpListener, TcpStream};

use nix::sys::signal::Signal;

use super::supervisor_dies::kill_and_wait;
use crate::support::{Container, Need, Stack, free_port, needs, wait_for};

/// A service that ends with this code as often, and then runs. What it writes is a line for each start.
fn ends(code: u8, times: u32, more: &str) -> String {
    let script = format!(
        "echo run; echo x >> /share/$$HOSTNAME; if [ $$(wc -l < /share/$$HOSTNAME) -gt {times} ]; then exec sleep infinity; fi; exit {code}"
    );
    format!("{{rootfs: host, command: [sh, -c, {script:?}], volumes: ['./share:/share'], {more}}}")
}

#[track_caller]
fn in_state(stack: &Stack, service: &str, state: &str) -> Container {
    wait_for(&format!("`{service}` to be {state}"), || {
        Some(stack.container(service)).filter(|container| container.state == state)
    })
}

#[track_caller]
fn after_restarts(stack: &Stack, service: &str, restarts: u32) -> Container {
    wait_for(&format!("{restarts} restarts of `{service}`"), || {
        let container = stack.container(service);
        (container.restarts >= restarts && container.state == "running").then_some(container)
    })
}

#[test]
fn each_policy_restarts_as_often_as_it_says() {
    needs!(Need::Namespaces);
    let cases = [
        ("nothing", ends(3, 9, ""), "exited", 0),
        ("no", ends(3, 9, "restart: 'no'"), "exited", 0),
        ("counted", ends(3, 9, "restart: 'on-failure:2'"), "exited", 2),
        ("failing", ends(3, 2, "restart: on-failure"), "running", 2),
        ("done", ends(0, 9, "restart: on-failure"), "exited", 0),
        ("always", ends(0, 3, "restart: always"), "running", 3),
        ("unless", ends(0, 2, "restart: unless-stopped"), "running", 2),
        (
            "attempts",
            ends(3, 9, "restart: always, deploy: {restart_policy: {condition: on-failure, max_attempts: 1}}"),
            "exited",
            1,
        ),
        ("any", ends(0, 2, "deploy: {restart_policy: {condition: any, delay: 100ms}}"), "running", 2),
        ("none", ends(3, 9, "restart: always, deploy: {restart_policy: {condition: none}}"), "exited", 0),
    ];
    let services: String = cases
        .iter()
        .map(|(name, service, ..)| {
            format!("  {name}: {}\n", service.replace("rootfs", &format!("hostname: {name}, rootfs")))
        })
        .collect();
    let stack = Stack::new(&format!("services:\n{services}"));
    stack.file("share/x", "");
    stack.up();
    for (name, _, state, restarts) in cases {
        let container = wait_for(&format!("the end of `{name}`'s restarts"), || {
            let container = stack.container(name);
            let there = container.state == state && container.restarts == restarts;
            there
                .then_some(container)
                .filter(|_| state == "exited" || stack.log(name).lines().count() as u32 == restarts + 1)
        });
        assert_eq!(stack.log(name), "run\n".repeat(restarts as usize + 1), "{name}");
        if state == "exited" {
            let code = if name == "done" { 0 } else { 3 };
            assert_eq!((container.exit_code, container.pid), (Some(code), None), "{name}");
        }
    }
    let table = stack.run(&["-p", stack.project(), "ps", "-a"]).success().stdout;
    assert!(table.contains("exited (3, 2 restarts)") && table.contains("running (3 restarts)"), "{table}");
    let traces = stack.traces();
    stack.down();
    traces.assert_gone();
}

/// Ends with 7 when asked by a file, and says something to whoever connects meanwhile.
const SERVER: &str = "python3 -c \"\nimport os, socket\ns = socket.create_server(('', 80))\ns.settimeout(0.02)\nprint('serves', flush=True)\nwhile not os.path.exists('/share/die'):\n  try: c, a = s.accept()\n  except TimeoutError: continue\n  c.sendall(b'hello')\n  c.close()\nos.unlink('/share/die')\nos._exit(7)\n\"";

#[test]
fn it_comes_back_where_it_was_and_sharers_stay_connected() {
    needs!(Need::Program("python3"));
    let port = free_port();
    let stack = Stack::new(&format!(
        "
services:
  web: {{rootfs: host, restart: always, ipc: shareable, ports: ['127.0.0.1:{port}:80'], volumes: ['./share:/share'], command: [sh, -c, {SERVER:?}]}}
  side: {{rootfs: host, command: [sleep, infinity], network_mode: 'service:web', ipc: 'service:web', pid: 'service:web'}}
  other: {{rootfs: host, command: [sleep, infinity]}}
"
    ));
    stack.file("share/x", "");
    stack.up();
    stack.log_with("web", "serves");
    let kinds = ["net", "ipc", "uts", "pid"];
    let namespaces = || kinds.map(|kind| stack.namespace("web", kind));
    let hello = |service: &str, host: &str| {
        let script = format!("import socket; print(socket.create_connection(('{host}', 80)).recv(9).decode())");
        stack.exec(service, &["python3", "-c", &script])
    };
    let address =
        |service: &str| stack.exec(service, &["python3", "-c", "import socket; print(socket.gethostbyname('web'))"]);
    let (before, at, side) = (namespaces(), address("other"), stack.pid("side"));
    assert_eq!(hello("side", "127.0.0.1"), "hello");
    let pid = stack.pid("web");
    for restarts in 1..=2 {
        stack.file("share/die", "");
        let container = after_restarts(&stack, "web", restarts);
        assert_eq!(container.ports, [format!("127.0.0.1:{port}->80/tcp")]);
        wait_for("the server", || (stack.log("web").matches("serves").count() == restarts as usize + 1).then_some(()));
    }
    assert_ne!(stack.pid("web"), pid);
    assert_eq!((namespaces(), address("other"), stack.pid("side")), (before.clone(), at, side));
    assert_eq!(kinds.map(|kind| stack.namespace("side", kind))[0], before[0]);
    assert_eq!((hello("side", "127.0.0.1"), hello("other", "web")), ("hello".to_owned(), "hello".to_owned()));
    let greeted = || {
        let mut text = String::new();
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        std::io::Read::read_to_string(&mut stream, &mut text).ok()?;
        (text == "hello").then_some(())
    };
    wait_for("an answer at the published port", greeted);
    let traces = stack.traces();
    stack.down();
    traces.assert_gone();
    TcpListener::bind(("127.0.0.1", port)).expect("the port is free again");
}

#[test]
fn while_it_waits_its_ports_stay_its_own_up_leaves_it_alone_and_down_ends_it() {
    needs!(Need::Namespaces);
    let port = free_port();
    let stack = Stack::empty();
    let file = |more: &str| {
        let policy = "{condition: on-failure, delay: 1h}";
        let text = format!(
            "name: {}\nservices: {{web: {{rootfs: host, command: [sh, -c, 'exit 5'], ports: ['127.0.0.1:{port}:80'], deploy: {{restart_policy: {policy}}}, {more}}}, other: {{rootfs: host, command: [sleep, infinity]}}}}",
            stack.project()
        );
        stack.file("stack.yaml", &text);
    };
    file("");
    stack.up();
    let container = in_state(&stack, "web", "restarting");
    assert_eq!((container.exit_code, container.pid, container.restarts), (Some(5), None, 1));
    assert_eq!(container.ports, [format!("127.0.0.1:{port}->80/tcp")]);
    assert!(TcpListener::bind(("127.0.0.1", port)).is_err());
    let other = stack.pid("other");

    let again = stack.up();
    assert!(again.stderr.contains("nothing to do"), "{again}");
    assert_eq!(stack.container("web").restarts, 1);
    // Another one takes its place at once.
    file("environment: {A: b}");
    stack.up();
    let container = in_state(&stack, "web", "restarting");
    assert_eq!((container.restarts, stack.pid("other")), (1, other));
    let exec = stack.run(&["exec", "web", "true"]);
    assert!(exec.stderr.contains("does not run"), "{exec}");
    let traces = stack.traces();
    stack.down();
    traces.assert_gone();
    TcpListener::bind(("127.0.0.1", port)).expect("the port is free again");
}

#[test]
fn one_that_cannot_be_started_again_is_tried_until_it_can() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {web: {rootfs: host, restart: always, command: [/share/program], volumes: ['./share:/share']}}",
    );
    let program = |text: &str| {
        stack.file("share/new", text);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(stack.path("share/new"), mode).expect("its mode");
        std::fs::rename(stack.path("share/new"), stack.path("share/program")).expect("in its place");
    };
    program("#!/bin/sh\nrm /share/program\nexit 1\n");
    stack.up();
    let failed = |at_least| {
        let failed = || Some(stack.container("web")).filter(|it| it.exit_code == Some(128) && it.restarts >= at_least);
        wait_for("an attempt that fails", failed).restarts
    };
    let mut restarts = failed(0);
    // Whoever goes on for a supervisor that was killed goes on with the attempts.
    for _ in 0..3 {
        kill_and_wait(&stack);
        restarts = failed(restarts + 1);
    }
    program("#!/bin/sh\nexec sleep infinity\n");
    let container = in_state(&stack, "web", "running");
    assert!(container.restarts >= restarts);
    let traces = stack.traces();
    stack.down();
    traces.assert_gone();
}

#[test]
fn a_dependent_is_started_again_with_what_it_needs() {
    needs!(Need::Namespaces);
    let stack = Stack::new(&format!(
        "
services:
  db: {{rootfs: host, restart: on-failure, volumes: ['./share:/share'], command: [sh, -c, 'while [ ! -e /share/die ]; do sleep 0.02; done; rm /share/die; exit 1']}}
  with: {{rootfs: host, command: [sh, -c, \"{SLEEPER}\"], depends_on: {{db: {{condition: service_started, restart: true}}}}}}
  after: {{rootfs: host, command: [sh, -c, \"{SLEEPER}\"], depends_on: {{with: {{condition: service_started, restart: true}}}}}}
  without: {{rootfs: host, command: [sh, -c, \"{SLEEPER}\"], depends_on: [db]}}
"
    ));
    stack.file("share/x", "");
    stack.up();
    for name in ["with", "after", "without"] {
        stack.log_with(name, "begun");
    }
    let without = stack.pid("without");
    stack.file("share/die", "");
    for name in ["with", "after"] {
        wait_for("another start", || (stack.log(name) == "begun\nasked\nbegun\n").then_some(()));
        assert_eq!(in_state(&stack, name, "running").restarts, 0, "it has not failed");
    }
    assert_eq!(stack.container("db").restarts, 1);
    assert_eq!(stack.pid("without"), without);
    let traces = stack.traces();
    stack.down();
    traces.assert_gone();
}

/// Says when it begins and when it is asked to stop.
const SLEEPER: &str = "trap 'echo asked; exit 0' TERM; echo begun; while :; do sleep 0.02; done";

#[test]
fn a_foreground_up_stays_until_nothing_is_started_again() {
    needs!(Need::Namespaces);
    let stack =
        Stack::new("services: {web: {rootfs: host, restart: 'on-failure:2', command: [sh, -c, 'echo run; exit 4']}}");
    let output = stack.up_in_foreground(&[]).wait().success();
    assert_eq!(output.stdout.matches("run").count(), 3, "{output}");
    assert_eq!(output.stderr.matches("exited with code 4, is started again").count(), 2, "{output}");
}

#[test]
fn a_second_interrupt_kills_what_would_always_come_back() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {web: {rootfs: host, restart: always, stop_grace_period: 1h, command: [sh, -c, \"trap 'echo asked' TERM; echo begun; while :; do sleep 0.02; done\"]}}",
    );
    let mut up = stack.up_in_foreground(&[]);
    up.expect_stdout("begun");
    let traces = stack.traces();
    up.signal(Signal::SIGINT);
    up.expect_stdout("asked");
    assert_eq!(stack.container("web").state, "stopping");
    up.signal(Signal::SIGINT);
    let _ = up.wait().code(130);
    traces.assert_gone();
}

#[test]
fn down_ends_a_crash_loop_at_any_moment() {
    needs!(Need::Namespaces);
    for round in 0..6 {
        let crashing = "{rootfs: host, restart: always, command: ['true'], healthcheck: {test: 'true', interval: 1ms}}";
        let services: String = (0..4).map(|i| format!("  s{i}: {crashing}\n")).collect();
        let stack = Stack::new(&format!("services:\n{services}"));
        stack.up();
        let many = |container: &Container| container.restarts >= round / 2;
        wait_for("some restarts", || stack.ps().iter().all(many).then_some(()));
        let traces = stack.traces();
        stack.down();
        traces.assert_gone();
    }
}

#[test]
fn verbs_have_the_last_word_and_a_start_by_itself_is_one_with_hooks() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"
services:
  web:
    rootfs: host
    restart: always
    command: [sh, -c, "trap 'exit 0' TERM; echo up >> /share/order; while [ ! -e /share/die ]; do sleep 0.02; done; rm /share/die; exit 7"]
    volumes: ['./share:/share']
    post_start: [{command: [sh, -c, "echo hook >> /share/order; echo hooked"]}]
"#,
    );
    stack.file("share/x", "");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(stack.path("share"), open).expect("our folder");
    stack.up();
    let hooked = |times: usize| {
        wait_for("the hook", || (stack.log("web").matches("hooked").count() == times).then_some(()));
    };
    hooked(1);
    stack.file("share/die", "");
    after_restarts(&stack, "web", 1);
    hooked(2);
    // Whoever kills it, or stops it, wants it to stay so.
    stack.run(&["kill", "web"]).success();
    assert_eq!(stack.container("web").state, "exited");
    stack.run(&["start", "web"]).success();
    assert_eq!((stack.container("web").state.as_str(), stack.container("web").restarts), ("running", 0));
    hooked(3);
    stack.run(&["pause", "web"]).success();
    assert_eq!(stack.container("web").state, "paused");
    stack.run(&["unpause", "web"]).success();
    assert_eq!(stack.container("web").state, "running");
    stack.run(&["stop", "web"]).success();
    assert_eq!(stack.container("web").state, "exited");
    stack.run(&["restart", "web"]).success();
    hooked(4);
    // It is looked after again.
    stack.file("share/die", "");
    after_restarts(&stack, "web", 1);
    hooked(5);
    let order = std::fs::read_to_string(stack.path("share/order")).expect("the order");
    assert_eq!(order.matches("hook").count(), 5, "{order}");
    let traces = stack.traces();
    stack.down();
    traces.assert_gone();
}
