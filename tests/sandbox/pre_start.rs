//! Commands of the file that are run to their ends before a service is started, each in a container of its own.

use nix::sys::signal::Signal;

use crate::support::{
    Need, Stack,
    image::{ImageBuilder, KEEP, opaque, project, up_with, whiteout},
    needs, wait_for,
};

/// What a file of the stack's folder says.
fn text(stack: &Stack, file: &str) -> String {
    std::fs::read_to_string(stack.path(file)).unwrap_or_default()
}

#[test]
fn hooks_run_in_order_before_the_service_and_leave_their_data_and_nothing_else() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"
services:
  web:
    rootfs: host
    command: [sh, -c, "cat /data/of-hook; echo web >> /share/order; readlink /proc/self/ns/net; exec sleep infinity"]
    environment: {A: service, B: service}
    working_dir: /tmp
    volumes: ['./share:/share', 'data:/data', /own]
    pre_start:
      - command: [sh, -c, "echo one >> /share/order; echo $$A $$B $$PWD; echo seen > /data/of-hook; echo mine > /own/x"]
        environment: {B: hook}
        working_dir: /usr
      - command: sh -c "sleep 0.1; cat /own/x; echo two >> /share/order; readlink /proc/self/ns/net; touch /only-here"
      - command: [sh, -c, "test ! -e /only-here && echo three >> /share/order && getent hosts db >/dev/null && echo found"]
    depends_on: [db]
  db: {rootfs: host, command: [sh, -c, "echo db >> /share/order; exec sleep infinity"], volumes: ['./share:/share']}
volumes: {data: {}}
"#,
    );
    stack.file("share/x", "");
    let up = stack.run(&["up", "-d"]).success();
    up.stderr_has("web/pre_start.0").stderr_has("web/pre_start.2");
    let log = stack.log_with("web", "seen\n");
    assert!(log.contains("service hook /usr\n") && log.contains("mine\n") && log.contains("found\n"), "{log}");
    let namespaces = wait_for("both namespaces", || {
        let log = stack.log_with("web", "net:");
        let found: Vec<String> = log.lines().filter(|line| line.starts_with("net:")).map(str::to_owned).collect();
        (found.len() == 2).then_some(found)
    });
    assert_eq!(namespaces[0], namespaces[1], "it is in the network of the service");
    wait_for("the order", || (text(&stack, "share/order") == "db\none\ntwo\nthree\nweb\n").then_some(()));
    // None is left, nor in the list of all.
    let names: Vec<String> = stack.ps().into_iter().map(|container| container.name).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    stack.run(&["exec", "web", "cat", "/own/x"]).success().stdout_is("mine\n");
    // What runs is left alone.
    stack.run(&["up", "-d"]).success().stderr_has("nothing to do").stderr_lacks("orphan");
    let _ = stack.run(&["restart", "web"]).success();
    let _ = stack.run(&["stop", "web"]).success();
    let _ = stack.run(&["up", "-d"]).success();
    assert_eq!(text(&stack, "share/order").matches("one").count(), 1, "it is not made anew");
    let _ = stack.run(&["up", "-d", "--force-recreate", "web"]).success();
    assert_eq!(text(&stack, "share/order").matches("one\ntwo\nthree\n").count(), 2);
    let traces = stack.traces();
    let _ = stack.down();
    traces.assert_gone_but_volumes(&["data"]);
}

#[test]
fn one_that_fails_ends_up_and_leaves_nothing() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"
services:
  web:
    rootfs: host
    command: [sh, -c, "echo > /share/started; exec sleep infinity"]
    volumes: ['./share:/share']
    pre_start:
      - command: [sh, -c, "echo this went well"]
      - command: [sh, -c, "echo it is broken; exit 6"]
      - command: [sh, -c, "echo > /share/third"]
"#,
    );
    stack.file("share/x", "");
    let up = stack
        .run(&["up", "-d"])
        .code(1)
        .stderr_has("service `web` did not start: pre_start[1], `sh -c echo it is broken; exit 6`, failed")
        .stderr_has("caused by: it has exited with code 6")
        .stderr_has("  | it is broken\n");
    up.stderr_lacks("  | this went well");
    assert!(stack.ps().is_empty(), "all is undone");
    assert!(!stack.path("share/started").exists() && !stack.path("share/third").exists());
    stack.run(&["up"]).code(1).stdout_has("it is broken").stderr_has("pre_start[1]");
    assert!(stack.ps().is_empty());

    let stack =
        Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], pre_start: [{command: [/nowhere]}]}}");
    stack.run(&["up", "-d"]).code(1).stderr_has("`web/pre_start.0`").stderr_has("/nowhere");
    assert!(stack.ps().is_empty());
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sleep, infinity], pre_start: [{command: [sleep, infinity]}]}}",
    );
    stack.run(&["up", "-d", "--wait-timeout", "1"]).code(1).stderr_has("it has not ended within the 1 s");
    assert!(stack.ps().is_empty());
}

#[test]
fn replicas_have_one_run_for_all_or_one_each() {
    needs!(Need::Namespaces);
    let yaml = |replicas: u32, more: &str| {
        format!(
            r#"
services:
  web:
    rootfs: host
    command: [sleep, infinity]
    scale: {replicas}
    volumes: ['./share:/share', /own]
    environment: {{X: "{more}"}}
    pre_start:
      - command: [sh, -c, "echo once >> /share/order"]
      - {{command: [sh, -c, "echo each >> /share/order; hostname >> /share/names; hostname > /own/name"], per_replica: true}}
      - command: [sh, -c, "echo last >> /share/order"]
"#
        )
    };
    let stack = Stack::new(&yaml(2, ""));
    stack.file("share/x", "");
    let _ = stack.up();
    assert_eq!(text(&stack, "share/order"), "once\neach\neach\nlast\n");
    let mut names: Vec<String> = text(&stack, "share/names").lines().map(str::to_owned).collect();
    names.sort();
    assert!(names.len() == 2 && names[0].ends_with("-web-1") && names[1].ends_with("-web-2"), "{names:?}");
    for index in ["1", "2"] {
        stack
            .run(&["exec", "--index", index, "web", "cat", "/own/name"])
            .success()
            .stdout_has(&format!("-web-{index}\n"));
    }
    // One more has what is for each; what is for all has been done.
    stack.file("stack.yaml", &format!("name: {}{}", stack.project(), yaml(3, "")));
    let _ = stack.run(&["up", "-d"]).success();
    assert_eq!(text(&stack, "share/order"), "once\neach\neach\nlast\neach\n");
    stack.file("stack.yaml", &format!("name: {}{}", stack.project(), yaml(3, "other")));
    let _ = stack.run(&["up", "-d"]).success();
    assert_eq!(text(&stack, "share/order"), "once\neach\neach\nlast\neach\nonce\neach\neach\neach\nlast\n");
    assert_eq!(stack.ps().len(), 3);
}

#[test]
fn down_ends_one_that_runs() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"
services:
  web:
    rootfs: host
    command: [sleep, infinity]
    stop_grace_period: 200ms
    pre_start: [{command: [sh, -c, "trap '' TERM; echo hangs; while :; do sleep 1; done"]}]
"#,
    );
    for command in ["down", "interrupt", "interrupt-detached"] {
        let detached = command != "interrupt";
        let mut up = stack.nscompose().args(if detached { &["up", "-d"][..] } else { &["up"] }).start();
        let row = wait_for("the command", || {
            assert!(up.is_running(), "{command}: {}{}", up.stdout(), up.stderr());
            stack.ps().into_iter().next()
        });
        assert!(row.name.ends_with("-web-1-pre_start.0") && row.service == "web", "{row:?}");
        stack.log_with("web", "hangs");
        let traces = stack.traces();
        if command == "down" {
            let _ = stack.down();
            up.wait().code(1).stderr_has("interrupted: the stack is being taken down");
        } else {
            up.signal(Signal::SIGINT);
            up.wait().failure();
        }
        traces.assert_gone();
        assert!(stack.ps().is_empty());
    }
}

#[test]
fn what_is_created_runs_them_when_it_is_started() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"
services:
  web:
    rootfs: host
    command: [sleep, infinity]
    volumes: ['./share:/share']
    pre_start: [{command: [sh, -c, "echo one >> /share/order"]}, {command: [sh, -c, "echo two >> /share/order"]}]
"#,
    );
    stack.file("share/x", "");
    let _ = stack.run(&["create"]).success();
    stack.run(&["create"]).success().stderr_lacks("removed");
    assert_eq!(text(&stack, "share/order"), "");
    assert_eq!(stack.ps().len(), 1, "what is to run is not shown");
    let _ = stack.run(&["start", "web"]).success();
    assert_eq!(text(&stack, "share/order"), "one\ntwo\n");
    let _ = stack.run(&["restart"]).success();
    let _ = stack.down();
    let _ = stack.run(&["create"]).success();
    let _ = stack.run(&["up", "-d"]).success();
    assert_eq!(text(&stack, "share/order"), "one\ntwo\none\ntwo\n");
    let _ = stack.down();
    let failing = "name: X\nservices: {web: {rootfs: host, command: [sleep, infinity], pre_start: [{command: [sh, -c, 'exit 7']}]}}";
    stack.file("stack.yaml", &failing.replace('X', stack.project()));
    let _ = stack.run(&["create"]).success();
    for _ in 0..2 {
        stack.run(&["start", "web"]).code(1).stderr_has("pre_start[0]").stderr_has("has exited with code 7");
        assert_eq!(stack.container("web").state, "created");
        let _ = stack.run(&["create"]).success();
    }
    let traces = stack.traces();
    let _ = stack.run(&["rm", "-f", "web"]).success();
    traces.assert_gone();
}

#[test]
fn one_may_be_another_user_and_have_all_rights() {
    needs!(Need::Ids);
    let stack = Stack::new(
        r#"
services:
  web:
    rootfs: host
    command: [sh, -c, "stat -c '%u %g' /data /data/x; exec sleep infinity"]
    user: "1000:1000"
    cap_drop: [ALL]
    volumes: ['data:/data', 'empty:/empty', 'new:/new']
    pre_start:
      - command: [sh, -c, "echo as $$(id -u) $$(grep CapEff /proc/self/status | cut -f2)"]
      - command: [sh, -c, "echo as $$(id -u) $$(grep CapEff /proc/self/status | cut -f2); touch /data/x; chown -R 1234:1234 /data /empty"]
        user: root
        privileged: true
      - command: [sh, -c, "stat -c '%u' /empty /new"]
volumes: {data: {}, empty: {}, new: {}}
"#,
    );
    let _ = stack.up();
    let log = stack.log_with("web", "1234 1234\n1234 1234\n");
    let lines: Vec<Vec<&str>> = log.lines().map(|line| line.split(' ').collect()).collect();
    assert_eq!(lines[0], ["as", "1000", "0000000000000000"], "{log}");
    assert_eq!(lines[1][..2], ["as", "0"], "{log}");
    assert_ne!(lines[1][2], "0000000000000000", "{log}");
    stack.run(&["exec", "web", "stat", "-c", "%u", "/empty"]).success().stdout_is("1234\n");
}

#[test]
fn one_on_another_image_finds_in_volumes_what_the_image_of_the_service_has() {
    needs!(Need::StaticBusybox);
    let stack = Stack::new(&format!(
        r#"
services:
  {KEEP}
  web:
    image: service
    command: [sh, -c, "cat /data/seed /data/hook /own/seed && test ! -e /data/other && echo all; exec sleep 100000"]
    volumes: ['data:/data', /own]
    pre_start:
      - image: other
        command: [sh, -c, "cat /which /data/seed /own/seed && echo of the hook > /data/hook"]
volumes: {{data: {{}}}}
"#
    ));
    let _ = stack.run(&["up", "-d", "keep"]).success();
    let write = |path: std::path::PathBuf, text: &str| {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        std::fs::write(path, text).expect("a file");
    };
    let service = ImageBuilder::new(&stack).busybox().layer(|folder| {
        write(folder.join("data/seed"), "a seed\n");
        write(folder.join("own/seed"), "one of its own\n");
        write(folder.join("which"), "the service\n");
    });
    let image = service.build();
    let other = service.layer(|folder| {
        write(folder.join("data/other"), "");
        opaque(&folder.join("data"));
        whiteout(&folder.join("own"));
        write(folder.join("which"), "another\n");
    });
    let name: nscompose::model::ServiceName = "web".parse().expect("a name");
    let project = project(&stack).on_images(&[(name.clone(), image)].into()).expect("a command");
    let project = project.with_image_of_hooks(&other.build(), &[(name, 0)]);
    up_with(&stack, &project).unwrap_or_else(|e| panic!("{}", e.render(false)));
    let log = stack.log_with("web", "all\n");
    assert_eq!(log, "another\na seed\none of its own\na seed\nof the hook\none of its own\nall\n");
}
