//! `start`, `stop`, `restart`, `kill`, `wait`, `top`, `ls` and what `ps` leaves out.

use std::net::TcpListener;

use crate::support::{Need, Stack, free_port, needs, wait_for};

/// Says in a file that all services see when it begins and when it is asked to stop.
fn telling(name: &str, more: &str) -> String {
    let script = format!(
        "trap 'echo -{name} >> /share/order; exit 0' TERM; echo +{name} >> /share/order; echo ready; while :; do sleep 0.05; done"
    );
    format!(
        "{name}: {{rootfs: host, command: [sh, -c, {script:?}], stop_grace_period: 1h, volumes: ['./share:/share']{more}}}"
    )
}

/// What they have said since the last time.
fn order(stack: &Stack) -> String {
    let said = std::fs::read_to_string(stack.path("share/order")).unwrap_or_default();
    let _ = std::fs::remove_file(stack.path("share/order"));
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A folder that whoever the containers run as can write to.
fn share(stack: &Stack) {
    stack.file("share/x", "");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(stack.path("share"), open).expect("our folder");
}

#[test]
fn a_stopped_service_keeps_all_but_its_ports() {
    needs!(Need::Namespaces);
    let port = free_port();
    let stack = Stack::new(&format!(
        "services: {{web: {{rootfs: host, command: [sh, -c, 'echo begun; exec sleep infinity'], tmpfs: /t, ports: ['127.0.0.1:{port}:80'], volumes: ['/kept']}}, other: {{rootfs: host, command: [sleep, infinity]}}}}"
    ));
    stack.up();
    stack.log_with("web", "begun");
    let traces = stack.traces();
    let address = stack.sh("web", "echo here > /kept/file; cat /etc/hosts");
    let (net, ipc) = (stack.namespace("web", "net"), stack.namespace("web", "ipc"));
    let said = stack.run(&["stop", "web"]).success().stderr;
    assert!(said.contains("web stopping") && said.contains("web stopped with code"), "{said}");
    let web = stack.container("web");
    assert_eq!((web.state.as_str(), web.exit_code, web.pid), ("exited", Some(137), None));
    assert_eq!(web.ports, Vec::<String>::new());
    assert_eq!(stack.container("other").state, "running");
    // Nobody finds it meanwhile.
    let find = || stack.run(&["exec", "other", "getent", "hosts", "web"]);
    find().failure();
    // Somebody else can have the port, and then it cannot be started: all stays as it is.
    let taken = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
    stack.run(&["start"]).failure().stderr_has(&port.to_string());
    assert_eq!(stack.container("web").state, "exited");
    drop(taken);
    // Without the file.
    stack.nscompose().dir("/").args(["-p", stack.project(), "start", "web"]).run().success();
    assert_eq!((stack.namespace("web", "net"), stack.namespace("web", "ipc")), (net, ipc));
    assert_eq!(stack.sh("web", "cat /kept/file >&2; cat /etc/hosts"), address);
    assert_eq!(stack.sh("web", "cat /kept/file"), "here");
    find().success();
    assert_eq!(stack.container("web").ports, [format!("127.0.0.1:{port}->80/tcp")]);
    wait_for("both beginnings", || (stack.log("web").matches("begun").count() == 2).then_some(()));
    stack.run(&["start"]).success().stderr_has("nothing to do");
    stack.down();
    traces.assert_gone();
}

#[test]
fn who_depends_on_others_stops_first_and_starts_last() {
    needs!(Need::Namespaces);
    let stack = Stack::new(&format!(
        "services: {{{}, {}, {}}}",
        telling("db", ""),
        telling("api", ", depends_on: [db]"),
        telling("web", ", depends_on: [api]")
    ));
    share(&stack);
    stack.up();
    let ready = || ["db", "api", "web"].iter().for_each(|name| drop(stack.log_with(name, "ready")));
    ready();
    assert_eq!(order(&stack), "+db +api +web");
    stack.run(&["stop", "db", "web"]).success();
    // By way of one that goes on.
    assert_eq!(order(&stack), "-web -db");
    assert_eq!(stack.container("api").state, "running");
    // What it needs comes along.
    stack.run(&["start", "web"]).success();
    wait_for("the trap", || (stack.log("web").matches("ready").count() == 2).then_some(()));
    assert_eq!(order(&stack), "+db +web");
    stack.run(&["restart"]).success();
    wait_for("the trap", || (stack.log("web").matches("ready").count() == 3).then_some(()));
    assert_eq!(order(&stack), "-web -api -db +db +api +web");
    stack.run(&["restart", "--no-deps", "db"]).success();
    wait_for("the trap", || (stack.log("db").matches("ready").count() == 4).then_some(()));
    assert_eq!(order(&stack), "-db +db");
    stack.run(&["stop"]).success();
    assert_eq!(order(&stack), "-web -api -db");
    // What has ended is started, too.
    stack.run(&["restart", "db"]).success();
    assert_eq!(stack.container("db").state, "running");
    // And `up` brings the rest.
    stack.up();
    assert!(stack.ps().iter().all(|container| container.state == "running"), "{:?}", stack.ps());
}

#[test]
fn sharers_of_namespaces_live_on_while_the_owner_is_stopped() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {a: {rootfs: host, command: [sleep, infinity], ipc: shareable}, b: {rootfs: host, command: [sleep, infinity], network_mode: 'service:a', ipc: 'service:a', pid: 'service:a'}}",
    );
    stack.up();
    let kinds = ["net", "ipc", "pid", "user"];
    let of = |name: &str| kinds.map(|kind| stack.namespace(name, kind));
    let (before, pid) = (of("b"), stack.pid("b"));
    assert_eq!(of("a"), before);
    for verb in [["stop", "a"], ["kill", "a"]] {
        stack.run(&verb).success();
        assert_eq!(stack.container("a").state, "exited");
        assert_eq!(stack.pid("b"), pid);
        assert_eq!(of("b"), before);
        stack.exec("b", &["true"]);
        stack.run(&["start", "a"]).success();
        assert_eq!(of("a"), before, "{verb:?}");
        assert_eq!(stack.pid("b"), pid);
    }
    stack.run(&["restart", "b"]).success();
    assert_eq!(of("b"), before);
}

#[test]
fn a_service_has_the_time_to_stop_that_is_given_with_the_verb() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"services: {web: {rootfs: host, stop_grace_period: 1h, command: [sh, -c, "trap 'echo asked' TERM; echo ready; while :; do sleep 0.05; done"]}}"#,
    );
    stack.up();
    stack.log_with("web", "ready");
    // Were it waited for, the test would not end.
    stack.run(&["restart", "-t", "0", "web"]).success();
    wait_for("the trap", || (stack.log("web").matches("ready").count() == 2).then_some(()));
    // What was said once does not count for the next time: this one goes on until somebody has no patience any more.
    let asked = |times: usize| {
        wait_for("the question", || (stack.log("web").matches("asked").count() == times).then_some(()));
    };
    let before = stack.log("web").matches("asked").count();
    let mut stop = stack.nscompose().args(["stop", "web"]).start();
    asked(before + 1);
    assert!(stop.is_running());
    stack.run(&["kill", "web"]).success().stderr_has("web killed");
    stop.wait().success();
    assert_eq!(stack.exit_code("web"), 137);
    stack.run(&["start"]).success();
    wait_for("the trap", || (stack.log("web").matches("ready").count() == 3).then_some(()));
    let stop = stack.nscompose().args(["stop", "web"]).start();
    asked(before + 2);
    stack.run(&["down", "-t", "0"]).success();
    let _ = stop.wait();
}

#[test]
fn signals_are_sent_by_name_and_by_number() {
    needs!(Need::Namespaces);
    let script = "trap 'echo got usr1' USR1; trap 'exit 3' HUP; echo ready; while :; do sleep 0.05; done";
    let stack = Stack::new(&format!(
        "services: {{web: {{rootfs: host, command: [sh, -c, {script:?}]}}, other: {{rootfs: host, command: [sleep, infinity]}}}}"
    ));
    stack.up();
    stack.log_with("web", "ready");
    stack.run(&["kill", "-s", "SIGUSR1", "web"]).success().stderr_has("web was sent SIGUSR1");
    stack.log_with("web", "got usr1");
    stack.run(&["kill", "-s", "nope", "web"]).code(2).stderr_has("is not a signal");
    stack.run(&["kill", "--signal", "1", "web"]).success();
    assert_eq!(stack.exit_code("web"), 3);
    assert_eq!(stack.container("other").state, "running");
    stack.run(&["kill", "web"]).success().stderr_has("has no container to kill");
    // One that the file does not have any more is left alone, unless it is asked for.
    let text = std::fs::read_to_string(stack.path("stack.yaml")).expect("the file");
    stack.file("stack.yaml", &text.replace(", other:", ", another:"));
    stack.run(&["kill"]).success().stderr_has("has no container to kill");
    assert_eq!(stack.container("other").state, "running");
    stack.run(&["kill", "--remove-orphans"]).success().stderr_has("other killed");
    assert_eq!(stack.container("other").exit_code, Some(137));
}

#[test]
fn a_stack_in_the_foreground_outlives_a_restart_of_all_of_it() {
    needs!(Need::Namespaces);
    let stack =
        Stack::new("services: {web: {rootfs: host, command: [sh, -c, 'echo begun; exec sleep infinity'], init: true}}");
    let mut up = stack.up_in_foreground(&[]);
    up.expect_stdout("begun");
    stack.run(&["restart"]).success();
    wait_for("the second beginning", || (up.stdout().matches("begun").count() == 2).then_some(()));
    assert!(up.is_running());
    // When it is stopped for good there is nothing more to show.
    stack.run(&["stop"]).success();
    up.wait().success();
    assert_eq!(stack.ps().len(), 0);
}

#[test]
fn a_service_that_cannot_be_started_again_stays() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [/share/program], volumes: ['./share:/share', '/kept']}, db: {rootfs: host, command: [sleep, infinity]}}",
    );
    share(&stack);
    stack.file("share/program", "#!/bin/sh\nexec sleep infinity\n");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(stack.path("share/program"), executable).expect("our file");
    stack.up();
    stack.sh("web", "echo here > /kept/file");
    stack.run(&["stop"]).success();
    std::fs::rename(stack.path("share/program"), stack.path("share/away")).expect("our file");
    stack.run(&["start", "web"]).failure().stderr_has("did not start");
    assert_eq!(stack.container("web").state, "exited");
    std::fs::rename(stack.path("share/away"), stack.path("share/program")).expect("our file");
    stack.run(&["start"]).success();
    assert_eq!(stack.sh("web", "cat /kept/file"), "here");
    let traces = stack.traces();
    stack.down();
    traces.assert_gone();
}

#[test]
fn what_is_not_there_has_the_exit_code_that_docker_compose_has() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sleep, infinity]}, db: {rootfs: host, command: [sleep, infinity]}}",
    );
    for verb in ["stop", "restart", "kill", "pause", "unpause", "top"] {
        stack.run(&[verb]).code(0).stderr_has("is not up");
        stack.run(&[verb, "wbe"]).code(2).stderr_has("did you mean `web`?");
    }
    stack.run(&["start"]).code(1).stderr_has("no containers to start");
    stack.run(&["wait", "web"]).code(1);
    assert!(!stack.home().join("run/v1").join(stack.project()).exists(), "none of them starts a supervisor");
    stack.run(&["up", "-d", "web"]).success();
    for verb in ["stop", "restart", "kill"] {
        stack.run(&[verb, "db"]).code(0);
    }
    for verb in ["start", "pause", "unpause", "wait"] {
        stack.run(&[verb, "db"]).code(1).stderr_has("`db`");
    }
    stack.run(&["start", "wbe"]).code(2).stderr_has("did you mean `web`?");
    assert_eq!(stack.container("web").state, "running");
}

#[test]
fn a_service_of_the_file_that_has_no_container_is_no_unknown_one() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sleep, infinity]}, late: {rootfs: host, command: [sh, -c, 'echo begun; exec sleep infinity']}}",
    );
    assert_eq!(stack.run(&["ps", "-q", "late"]).success().stdout, "", "there is no stack");
    stack.run(&["up", "-d", "web"]).success();
    assert_eq!(stack.run(&["ps", "-q", "late"]).success().stdout, "");
    stack.run(&["logs", "late"]).success().stdout_is("").stderr_has("late has no container yet");
    stack.run(&["rm", "-fs", "late"]).success().stderr_has("has no container to remove");
    assert_eq!(stack.container("web").state, "running", "nobody has asked for that");
    for verb in [&["exec", "late", "true"][..], &["attach", "late"]] {
        let hint = "hint: `nscompose up -d late` brings it up";
        stack.run(verb).code(1).stderr_has("service `late` has no container").stderr_has(hint);
    }
    for verb in [&["logs", "nobody"][..], &["ps", "nobody"], &["rm", "nobody"], &["exec", "nobody", "true"]] {
        stack.run(verb).code(2).stderr_has("there is no service `nobody`");
    }
    // Whoever follows it sees it begin.
    let mut follows = stack.nscompose().args(["logs", "-f", "late"]).start();
    follows.expect_stderr("late has no container yet");
    stack.run(&["up", "-d", "late"]).success();
    follows.expect_stdout("late | begun\n");
}

#[test]
fn wait_ends_with_the_code_of_whoever_ends_last() {
    needs!(Need::Namespaces);
    let until = |name: &str, code: u8| {
        format!(
            "{name}: {{rootfs: host, command: [sh, -c, 'while [ ! -e /share/{name} ]; do sleep 0.02; done; exit {code}'], volumes: ['./share:/share']}}"
        )
    };
    let stack = Stack::new(&format!(
        "services: {{{}, {}, stays: {{rootfs: host, command: [sleep, infinity]}}}}",
        until("one", 3),
        until("two", 4)
    ));
    share(&stack);
    stack.up();
    let mut wait = stack.nscompose().args(["wait", "one", "two"]).start();
    stack.file("share/two", "");
    wait.expect_stdout(&format!("container \"{}-two-1\" exited with status code 4\n", stack.project()));
    assert!(wait.is_running());
    stack.file("share/one", "");
    let _ = wait.wait().code(3);
    // One that has ended has been waited for.
    let _ = stack.run(&["wait", "two"]).code(4);
    assert_eq!(stack.container("stays").state, "running");
    stack.run(&["wait", "--down-project", "one"]).code(3).stderr_has("stays stopped with code").stderr_has(" is down");
    assert_eq!(stack.ps().len(), 0);
}

#[test]
fn top_shows_the_processes_of_each_service() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {one: {rootfs: host, command: [sh, -c, 'sleep 31421 & echo ready; exec sleep 31422']}, two: {rootfs: host, command: [sleep, '31423'], pid: 'service:one'}, done: {rootfs: host, command: ['true']}}",
    );
    stack.up();
    stack.log_with("one", "ready");
    stack.exit_code("done");
    let lines = |args: &[&str]| -> Vec<Vec<String>> {
        let shown = stack.run(args).success().stdout;
        shown.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
    };
    let shown = wait_for("all programs", || {
        let shown = lines(&["top"]);
        ["31421", "31422", "31423"]
            .iter()
            .all(|program| shown.iter().any(|line| line.last().is_some_and(|last| last == program)))
            .then_some(shown)
    });
    assert_eq!(shown[0], ["SERVICE", "#", "UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    let of = |name: &str| shown.iter().filter(|line| line[0] == name).count();
    assert_eq!((of("one"), of("two"), of("done")), (2, 1, 0), "{shown:?}");
    let pid = stack.pid("two").to_string();
    assert!(shown.iter().any(|line| line[0] == "two" && line[3] == pid), "{shown:?}");
    assert_eq!(lines(&["top", "two"]).len(), 2);
    assert_eq!(lines(&["top", "done"]).len(), 0);
}

#[test]
fn stacks_are_listed_with_what_runs_of_them() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {one: {rootfs: host, command: [sleep, infinity]}, two: {rootfs: host, command: [sleep, infinity]}, done: {rootfs: host, command: [sh, -c, 'exit 2']}}",
    );
    stack.run(&["ls"]).success().stdout_is("NAME  STATUS  CONFIG FILES\n");
    stack.run(&["ls", "--format", "json"]).success().stdout_is("[]\n");
    stack.up();
    stack.exit_code("done");
    let name = stack.project();
    let json = |args: &[&str]| -> serde_json::Value {
        serde_json::from_str(&stack.run(&[&["ls", "--format", "json"], args].concat()).success().stdout).expect("JSON")
    };
    let file = stack.path("stack.yaml").display().to_string();
    assert_eq!(json(&[]), serde_json::json!([{"Name": name, "Status": "running(2)", "ConfigFiles": file}]));
    assert_eq!(json(&["-a"])[0]["Status"], "exited(1), running(2)");
    stack.run(&["pause", "two"]).success();
    assert_eq!(json(&[])[0]["Status"], "paused(1), running(1)");
    stack.run(&["ls", "-q"]).success().stdout_is(&format!("{name}\n"));
    stack.run(&["ls", "-q", "--filter", "name=no-such"]).success().stdout_is("");
    stack.run(&["ls", "-q", "--filter", &format!("name={name}")]).success().stdout_is(&format!("{name}\n"));
    stack.run(&["ls", "--filter", "age=1"]).code(2);
    stack.run(&["stop"]).success();
    assert_eq!(json(&[]), serde_json::json!([]));
    assert_eq!(json(&["--all"])[0]["Status"], "exited(3)");
    stack.down();
    assert_eq!(json(&["--all"]), serde_json::json!([]));
}

#[test]
fn ps_chooses_by_state() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {runs: {rootfs: host, command: [sleep, infinity]}, frozen: {rootfs: host, command: [sleep, infinity]}, done: {rootfs: host, command: [sh, -c, 'exit 2; a long command that is cut off in tables']}}",
    );
    stack.up();
    stack.exit_code("done");
    stack.run(&["pause", "frozen"]).success();
    let services = |args: &[&str]| {
        let shown = stack.run(&[&["ps", "--services"], args].concat()).success().stdout;
        shown.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(services(&[]), "frozen runs");
    assert_eq!(services(&["-a"]), "done frozen runs");
    assert_eq!(services(&["--status", "exited"]), "done");
    assert_eq!(services(&["--status", "paused", "--status", "running"]), "frozen runs");
    assert_eq!(services(&["--filter", "status=exited"]), "done");
    assert_eq!(services(&["--status", "restarting"]), "");
    assert_eq!(services(&["done"]), "");
    stack.run(&["ps", "--filter", "name=x"]).code(2).stderr_has("status=STATUS");
    stack.run(&["ps", "--status", "gone"]).code(2);
    let names = ["frozen", "runs"].map(|name| format!("{}-{name}-1\n", stack.project())).concat();
    stack.run(&["ps", "-q"]).success().stdout_is(&names).stderr_lacks("NAME");
    stack.run(&["ps", "--quiet"]).success().stdout_is(&names);
    stack.run(&["ps", "-q", "--status", "paused"]).success().stdout_is(&format!("{}-frozen-1\n", stack.project()));
    assert!(!stack.run(&["ps", "-a"]).success().stdout.contains("in tables"));
    assert!(stack.run(&["ps", "-a", "--no-trunc"]).success().stdout.contains("in tables"));
}

#[test]
fn what_has_been_made_is_started_by_start_too() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sleep, infinity], volumes: ['/kept'], scale: 2, depends_on: [db]}, db: {rootfs: host, command: [sleep, infinity]}}",
    );
    stack.run(&["create"]).success().stderr_has("web/2 created");
    let all = stack.run(&["ps", "-a", "--format", "json"]).success().stdout;
    assert_eq!(all.matches("\"created\"").count(), 3, "{all}");
    // With all replicas, and with what they depend on.
    stack.run(&["start", "web"]).success();
    let all = stack.run(&["ps", "--format", "json"]).success().stdout;
    assert_eq!(all.matches("\"running\"").count(), 3, "{all}");
    assert_eq!(stack.run(&["up", "-d"]).success().stderr.matches("nothing to do").count(), 1);
    stack.run(&["down"]).success();
}
