//! Services that wait for others, jobs that end, and what `up` says and does when one does not get there.

use nix::sys::signal::Signal;

use crate::support::{Need, Stack, needs, wait_for};

/// A script that goes on when the test has made `go`, in a folder that both see.
fn until_go(then: &str) -> String {
    format!("while [ ! -e /share/go ]; do sleep 0.02; done; {then}")
}

#[test]
fn a_dependent_begins_when_the_job_is_done_and_others_go_on_meanwhile() {
    needs!(Need::Namespaces);
    let job = until_go("echo migrated; echo done > /share/done");
    let stack = Stack::new(&format!(
        r#"
services:
  job: {{rootfs: host, command: [sh, -c, {job:?}], volumes: ['./share:/share']}}
  web:
    rootfs: host
    command: [sh, -c, "cat /share/done; exec sleep infinity"]
    volumes: ['./share:/share']
    depends_on: {{job: {{condition: service_completed_successfully}}}}
  front: {{rootfs: host, command: [sleep, infinity], depends_on: [web]}}
  alone: {{rootfs: host, command: [sleep, infinity]}}
"#
    ));
    stack.file("share/x", "");
    let mut up = stack.nscompose().args(["up", "-d"]).start();
    up.expect_stderr("web waits for job to complete");
    // What does not depend on it is there, and what does is not.
    wait_for("`alone`", || stack.ps().iter().any(|c| c.service == "alone" && c.state == "running").then_some(()));
    assert!(stack.ps().iter().all(|container| !["web", "front"].contains(&container.service.as_str())));
    assert!(up.is_running());
    stack.file("share/go", "");
    let output = up.wait().success();
    assert_eq!(stack.log_with("web", "done"), "done\n", "{output}");
    assert_eq!(stack.container("front").state, "running");
    // The job has done its work: nothing is to be done again.
    let before = stack.container("job").started_at;
    stack.run(&["plan"]).success().stdout_is("");
    stack.up().stderr_has("nothing to do");
    assert_eq!(stack.container("job").started_at, before);
    // Not even for a dependent that is made anew.
    let text = std::fs::read_to_string(stack.path("stack.yaml")).expect("our file");
    stack.file("stack.yaml", &text.replace("cat /share/done", "cat /share/done; echo again"));
    stack.up();
    stack.log_with("web", "again");
    assert_eq!(stack.container("job").started_at, before);
    stack.down();
}

#[test]
fn a_job_that_fails_ends_up_with_all_that_is_known_and_can_be_looked_at() {
    needs!(Need::Namespaces);
    let lines =
        "i=0; while [ $$i -lt 25 ]; do i=$$((i + 1)); echo line $$i; done; printf 'bad \\033[2J\\n' >&2; exit 3";
    let stack = Stack::new(&format!(
        r#"
services:
  job: {{rootfs: host, command: [sh, -c, {lines:?}]}}
  web: {{rootfs: host, command: [sleep, infinity], depends_on: {{job: {{condition: service_completed_successfully}}}}}}
  front: {{rootfs: host, command: [sleep, infinity], depends_on: [web]}}
  alone: {{rootfs: host, command: [sleep, infinity]}}
"#
    ));
    let output = stack.run(&["up", "-d"]).code(1);
    let output = output
        .stderr_has("error: `web` waits for `job` to complete, which has exited with code 3")
        .stderr_has("not started either:\n  | `front` waits for `web`\n")
        .stderr_has("the last lines of `job`:\n")
        .stderr_has("  | line 25\n")
        .stderr_has("  | bad ␛[2J\n")
        .stderr_has("what has been started stays")
        .stderr_lacks("  | line 5\n");
    let shown =
        output.stderr.lines().filter(|line| line.starts_with("  | line") || line.starts_with("  | bad")).count();
    assert_eq!(shown, 20, "{output}");
    assert!(stack.log("job").contains("line 1\n"), "all of its log is still there");
    assert_eq!(stack.container("job").exit_code, Some(3));
    assert!(stack.ps().iter().all(|container| !["web", "front"].contains(&container.service.as_str())));
    // Mended, it goes on.
    let text = std::fs::read_to_string(stack.path("stack.yaml")).expect("our file");
    stack.file("stack.yaml", &text.replace("exit 3", "exit 0"));
    stack.up();
    assert_eq!(stack.container("front").state, "running");
    let traces = stack.traces();
    stack.down();
    traces.assert_gone();
}

#[test]
fn how_a_job_ended_before_says_nothing_of_how_it_ends_now() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"
services:
  job: {rootfs: host, command: [sh, -c, "exit $$(cat /share/code)"], volumes: ['./share:/share']}
  web: {rootfs: host, command: [sleep, infinity], depends_on: {job: {condition: service_completed_successfully}}}
"#,
    );
    for (written, code) in [("8", 1), ("9", 1), ("0", 0)] {
        stack.file("share/code", written);
        let output = stack.run(&["up", "-d"]).code(code);
        if code != 0 {
            output.stderr_has(&format!("which has exited with code {written}"));
        }
    }
    assert_eq!(stack.container("web").state, "running");
}

#[test]
fn a_wait_ends_with_whoever_wanted_it_and_the_next_one_is_told_what_it_waits_for() {
    needs!(Need::Namespaces);
    let job = until_go("exit 0");
    let stack = Stack::new(&format!(
        r#"
services:
  job: {{rootfs: host, command: [sh, -c, {job:?}], volumes: ['./share:/share']}}
  web: {{rootfs: host, command: [sleep, infinity], depends_on: {{job: {{condition: service_completed_successfully}}}}}}
  alone: {{rootfs: host, command: [sleep, infinity]}}
"#
    ));
    stack.file("share/x", "");
    let mut first = stack.nscompose().args(["up", "-d"]).start();
    first.expect_stderr("web waits for job to complete");
    let job = stack.pid("job");
    first.signal(Signal::SIGINT);
    first.wait().failure();
    // Its plan keeps nobody waiting any more, and what it has started is there.
    stack.run(&["up", "-d", "--wait-timeout", "1"]).code(1).stderr_has("has not ended yet");
    assert_eq!(stack.pid("job"), job);

    let mut first = stack.nscompose().args(["up", "-d"]).start();
    first.expect_stderr("web waits for job to complete");
    let mut second = stack.nscompose().args(["up", "-d"]).start();
    second.expect_stderr("the stack is being changed by another command, which is waited for");
    second.expect_stderr("web waits for job to complete");
    stack.file("share/go", "");
    first.wait().success();
    second.wait().success();
    assert_eq!(stack.container("web").state, "running");
    assert_eq!(stack.container("job").exit_code, Some(0));
}

#[test]
fn a_dependency_that_is_not_required_is_a_warning() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"
services:
  job: {rootfs: host, command: [sh, -c, "exit 4"]}
  web:
    rootfs: host
    command: [sleep, infinity]
    depends_on:
      job: {condition: service_completed_successfully, required: false}
      tools: {condition: service_started, required: false}
  tools: {rootfs: host, command: [sleep, infinity], profiles: [tools]}
"#,
    );
    stack
        .up()
        .stderr_has("warning: `web` waits for `job` to complete, which has exited with code 4; it is not required");
    assert_eq!(stack.container("web").state, "running");
    assert!(stack.ps().iter().all(|container| container.service != "tools"));
}

#[test]
fn what_no_profile_includes_has_to_be_optional() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"
services:
  web: {rootfs: host, command: [sleep, infinity], depends_on: {tools: {condition: service_started}}}
  tools: {rootfs: host, command: [sleep, infinity], profiles: [tools]}
"#,
    );
    stack.run(&["up", "-d"]).code(3).stderr_has("service `web` depends on `tools`, whose profiles are not asked for");
}

#[test]
fn without_a_health_check_nobody_waits_for_health() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"
services:
  db: {rootfs: host, command: [sleep, infinity]}
  web: {rootfs: host, command: [sleep, infinity], depends_on: {db: {condition: service_healthy}}}
"#,
    );
    stack
        .run(&["up", "-d"])
        .code(1)
        .stderr_has("`web` waits for `db` to be healthy, which has no health check")
        .stderr_has("hint: give `db` a `healthcheck`");
}

#[test]
fn waiting_has_a_bound_where_one_is_set() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"
services:
  job: {rootfs: host, command: [sleep, infinity]}
  web: {rootfs: host, command: [sleep, infinity], depends_on: {job: {condition: service_completed_successfully}}}
"#,
    );
    stack
        .run(&["up", "-d", "--wait-timeout", "1"])
        .code(1)
        .stderr_has("`web` waits for `job` to complete, which has not ended yet after 1 s")
        .stderr_has("hint: `--wait-timeout SECONDS` sets how long `up` waits");
    assert_eq!(stack.container("job").state, "running");
}

#[test]
fn down_and_ctrl_c_end_a_wait() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"
services:
  job: {rootfs: host, command: [sleep, infinity]}
  web: {rootfs: host, command: [sleep, infinity], depends_on: {job: {condition: service_completed_successfully}}}
"#,
    );
    let mut up = stack.nscompose().args(["up", "-d"]).start();
    up.expect_stderr("web waits for job to complete");
    let traces = stack.traces();
    stack.down();
    up.wait().code(1).stderr_has("error: interrupted: the stack is being taken down");
    traces.assert_gone();

    let mut up = stack.up_in_foreground(&[]);
    up.expect_stderr("web waits for job to complete");
    up.signal(Signal::SIGINT);
    // What has begun is taken back, and that is told.
    up.wait().code(130).stderr_has("is going down").stderr_has("job exited with code 137").stderr_has("job removed");
    assert!(stack.supervisor().is_none() || stack.ps().is_empty());
}

#[test]
fn ctrl_c_while_up_waits_stops_at_the_same_time_what_does_not_depend_on_each_other() {
    needs!(Need::Namespaces);
    // Each ends when the other has been asked to.
    let twin = |own: &str, other: &str| {
        format!(
            "trap 'touch /share/{own}; while [ ! -e /share/{other} ]; do sleep 0.02; done; exit 0' TERM; echo begun; \
             while :; do sleep 0.02; done"
        )
    };
    let stack = Stack::new(&format!(
        r#"
services:
  left: {{rootfs: host, command: [sh, -c, "{}"], volumes: ['./share:/share'], pre_stop: [{{command: [sh, -c, "echo before"]}}]}}
  right: {{rootfs: host, command: [sh, -c, "{}"], volumes: ['./share:/share']}}
  job: {{rootfs: host, init: true, command: [sleep, infinity]}}
  web: {{rootfs: host, command: [sleep, infinity], depends_on: {{job: {{condition: service_completed_successfully}}}}}}
"#,
        twin("left", "right"),
        twin("right", "left")
    ));
    stack.file("share/x", "");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(stack.path("share"), open).expect("our folder");
    let mut up = stack.up_in_foreground(&[]);
    up.expect_stderr("web waits for job to complete");
    for name in ["left", "right"] {
        wait_for(name, || stack.ps().iter().any(|c| c.service == name && c.state == "running").then_some(()));
        stack.log_with(name, "begun");
    }
    let traces = stack.traces();
    up.signal(Signal::SIGINT);
    let up = up.wait().code(130).stderr_has("left exited with code 0").stderr_has("right exited with code 0");
    assert!(up.stdout.contains("before"), "{up}");
    traces.assert_gone();
}

#[test]
fn a_foreground_up_whose_job_fails_says_why_and_goes_down() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"
services:
  job: {rootfs: host, command: [sh, -c, "echo broken; exit 7"]}
  web: {rootfs: host, command: [sleep, infinity], depends_on: {job: {condition: service_completed_successfully}}}
"#,
    );
    stack
        .up_in_foreground(&[])
        .wait()
        .code(1)
        .stderr_has("`web` waits for `job` to complete, which has exited with code 7")
        .stderr_has("  | broken\n")
        .stderr_lacks("what has been started stays");
    let left = stack.ps();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_dependent_restarts_with_what_it_depends_on() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"
services:
  db: {rootfs: host, command: [sleep, "1001"]}
  with: {rootfs: host, command: [sleep, infinity], depends_on: {db: {condition: service_started, restart: true}}}
  without: {rootfs: host, command: [sleep, infinity], depends_on: {db: {condition: service_started}}}
"#,
    );
    stack.up();
    let (with, without) = (stack.pid("with"), stack.pid("without"));
    let text = std::fs::read_to_string(stack.path("stack.yaml")).expect("our file");
    stack.file("stack.yaml", &text.replace("1001", "1002"));
    stack.run(&["plan"]).code(2).stdout_has("start with").stdout_has("it restarts with db, which is started again");
    stack.up();
    assert_ne!(stack.pid("with"), with);
    assert_eq!(stack.pid("without"), without);
    // A condition alone makes nothing anew.
    let text = std::fs::read_to_string(stack.path("stack.yaml")).expect("our file");
    stack.file("stack.yaml", &text.replace(", restart: true", ", required: false"));
    stack.run(&["plan"]).success().stdout_is("");
}

#[test]
fn up_waits_until_all_are_up() {
    needs!(Need::Namespaces);
    let job = until_go("exit $$(cat /share/go)");
    let stack = Stack::new(&format!(
        r#"
services:
  job: {{rootfs: host, command: [sh, -c, {job:?}], volumes: ['./share:/share']}}
  after: {{rootfs: host, command: [sleep, infinity], depends_on: {{job: {{condition: service_completed_successfully}}}}}}
  web: {{rootfs: host, command: [sleep, infinity]}}
"#
    ));
    stack.file("share/go", "0");
    stack.run(&["up", "--wait"]).success();
    assert_eq!(stack.container("after").state, "running");
    stack.run(&["up", "--wait"]).success().stderr_has("nothing to do");
    stack.down();
    stack.file("share/go", "5");
    stack
        .run(&["up", "--wait"])
        .code(1)
        .stderr_has("`after` waits for `job` to complete, which has exited with code 5");
    stack.down();
    // What was up when its turn came, and is not any more.
    std::fs::remove_file(stack.path("share/go")).expect("our file");
    let text = std::fs::read_to_string(stack.path("stack.yaml")).expect("our file");
    let web = "[sh, -c, 'while [ ! -e /share/end ]; do sleep 0.02; done; exit 4'], volumes: ['./share:/share']}\n  end";
    stack.file(
        "stack.yaml",
        &text.replace(
            "web: {rootfs: host, command: [sleep, infinity]}",
            &format!("web: {{rootfs: host, command: {web}: {{rootfs: host, command: [sleep, infinity]}}"),
        ),
    );
    let mut up = stack.nscompose().args(["up", "--wait"]).start();
    up.expect_stderr("after waits for job to complete");
    wait_for("`web`", || stack.ps().iter().any(|c| c.service == "web" && c.state == "running").then_some(()));
    stack.file("share/end", "");
    assert_eq!(stack.exit_code("web"), 4);
    stack.file("share/go.new", "0");
    std::fs::rename(stack.path("share/go.new"), stack.path("share/go")).expect("renamed");
    up.wait().code(1).stderr_has("service `web` is not up: it has exited with code 4");
    stack.down();
    // Nobody waits for it but who asked.
    std::fs::remove_file(stack.path("share/go")).expect("our file");
    let mut up = stack.nscompose().args(["up", "--wait", "job"]).start();
    up.expect_stderr("job is waited for to complete");
    stack.file("share/go.new", "6");
    std::fs::rename(stack.path("share/go.new"), stack.path("share/go")).expect("renamed");
    up.wait().code(1).stderr_has("service `job` is not up: it has exited with code 6");
}

#[test]
fn the_end_of_one_is_the_end_of_all_where_that_is_asked_for() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"
services:
  init: {rootfs: host, command: ["true"]}
  good:
    rootfs: host
    command: [sh, -c, "while [ ! -e /share/good ]; do sleep 0.02; done; exit 0"]
    volumes: ['./share:/share']
    depends_on: {init: {condition: service_completed_successfully}}
  bad:
    rootfs: host
    command: [sh, -c, "while [ ! -e /share/bad ]; do sleep 0.02; done; exit 9"]
    volumes: ['./share:/share']
  server: {rootfs: host, command: [sh, -c, "trap 'exit 12' TERM; echo ready; while :; do sleep 0.02; done"]}
"#,
    );
    stack.file("share/x", "");
    let gone = |path: &str| drop(std::fs::remove_file(stack.path(path)));

    // The job at the beginning is none of them.
    let mut up = stack.up_in_foreground(&["--abort-on-container-exit"]);
    up.expect_stdout("ready");
    stack.file("share/bad", "");
    up.wait().code(9).stderr_has("is going down, since bad has exited with code 9");
    gone("share/bad");

    let mut up = stack.up_in_foreground(&["--abort-on-container-exit"]);
    up.expect_stdout("ready");
    stack.file("share/good", "");
    up.wait().code(0).stderr_has("is going down, since good has exited with code 0");
    gone("share/good");

    let mut up = stack.up_in_foreground(&["--abort-on-container-failure"]);
    up.expect_stdout("ready");
    stack.file("share/good", "");
    up.expect_stderr("good exited with code 0");
    assert!(up.is_running());
    stack.file("share/bad", "");
    up.wait().code(9);
    gone("share/good");
    gone("share/bad");

    let mut up = stack.up_in_foreground(&["--exit-code-from", "server"]);
    up.expect_stdout("ready");
    stack.file("share/bad", "");
    up.wait().code(12);

    stack.run(&["up", "--exit-code-from", "sever"]).code(2).stderr_has("did you mean `server`?");
    for args in [
        &["-d", "--abort-on-container-exit"][..],
        &["-d", "--exit-code-from", "server"],
        &["-d", "--attach", "server"],
        &["--wait", "--abort-on-container-failure"],
        &["--abort-on-container-exit", "--abort-on-container-failure"],
        &["--attach", "server", "--attach-dependencies"],
    ] {
        stack.nscompose().arg("up").args(args).run().code(2).stderr_has("cannot be used with");
    }
}

#[test]
fn output_is_shown_of_those_that_are_attached() {
    needs!(Need::Namespaces);
    let service = |name: &str, more: &str| {
        format!("  {name}: {{rootfs: host, command: [sh, -c, \"echo said by {name}; exit 0\"]{more}}}\n")
    };
    let stack = Stack::new(&format!(
        "services:\n{}{}{}{}",
        service("dep", ""),
        service("web", ", depends_on: [dep]"),
        service("quiet", ", attach: false"),
        service("other", ""),
    ));
    for (args, shown) in [
        (&[][..], &["dep", "web", "other"][..]),
        (&["web"], &["web"]),
        (&["--attach-dependencies", "web"], &["dep", "web"]),
        (&["--attach", "quiet"], &["quiet"]),
        (&["--no-attach", "web", "--no-attach", "dep"], &["other"]),
    ] {
        let output = stack.up_in_foreground(args).wait().success();
        for name in ["dep", "web", "quiet", "other"] {
            let is_shown = output.stdout.contains(&format!("said by {name}"));
            assert_eq!(is_shown, shown.contains(&name), "{name} with {args:?}\n{output}");
        }
    }
}

#[test]
fn probes_of_all_replicas_are_waited_for_and_the_last_one_is_shown() {
    needs!(Need::Namespaces);
    let file = |test: &str| {
        format!(
            "
services:
  db:
    rootfs: host
    scale: 2
    command: [sh, -c, 'sleep 0.3; touch /tmp/ready; exec sleep infinity']
    tmpfs: /tmp
    healthcheck: {{test: [CMD, sh, -c, '{test}'], interval: 50ms, retries: 100}}
  app: {{rootfs: host, command: [sleep, infinity], depends_on: {{db: {{condition: service_healthy}}}}}}
"
        )
    };
    let stack = Stack::new(&file("test -e /tmp/ready"));
    stack.run(&["up", "-d"]).success();
    let all = stack.run(&["ps", "--format", "json"]).success().stdout;
    assert_eq!(all.matches("\"Health\":\"healthy\"").count(), 2, "{all}");
    assert_eq!(stack.container("app").state, "running");
    stack.run(&["down"]).success();
    let never = file("echo not yet; exit 1").replace("retries: 100", "retries: 2");
    stack.file("stack.yaml", &format!("name: {}\n{never}", stack.project()));
    let failed = stack.run(&["up", "-d"]).failure();
    failed.stderr_has("not yet").stderr_has("the last probe of `db");
    stack.run(&["down"]).success();
}
