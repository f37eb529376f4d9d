//! Pulling, listing, and running what was pulled.

use std::fs;

use serde_json::json;

use super::{
    archive::Archive,
    made::{Made, rows},
    server::Server,
};
use crate::support::{Need, Stack, needs, wait_for};

#[test]
fn an_image_is_pulled_and_listed_and_is_up_to_date_then() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"));
    let server = Server::plain();
    let image = Made::busybox().gzip(Archive::new().file("hello", "world")).write();
    server.put(image.path(), "some/app:1", None);
    let stack = Stack::empty();
    let name = format!("{}/some/app:1", server.host());
    let repository = format!("{}/some/app", server.host());
    let pulled = stack.run(&["pull", &name]).success().stdout_is("");
    let pulled = pulled.stderr_has(&format!("{name} ")).stderr_has("looking");
    assert!(
        pulled.stderr.lines().any(|line| line.contains(&name) && line.contains("pulled ") && line.contains(" MB in ")),
        "{pulled}"
    );

    let table = stack.run(&["images"]).success().stdout;
    let words: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE", "USED", "BY"]);
    assert_eq!(words[1][..3], [&repository, "1", image.id.short()]);
    assert_eq!(words.len(), 2, "{table}");

    let rows = rows(&stack);
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!((row.repository.as_ref(), row.tag.as_deref()), (Some(&repository), Some("1")));
    assert_eq!((row.id.as_str(), row.digest.as_deref()), (image.id.as_str(), Some(image.manifest.as_str())));
    assert_eq!((row.layers, row.used_by.len()), (2, 0));
    assert_eq!(row.created.as_deref(), Some("2024-05-06T07:08:09Z"));
    assert!(row.platform.as_deref().is_some_and(|platform| platform.starts_with("linux/")));
    let busybox = fs::metadata("/bin/busybox").unwrap().len();
    assert!((busybox..busybox + (1 << 20)).contains(&row.size), "{row:?}");
    let short = format!("{}\n", image.id.short());
    let _ = stack.run(&["images", "-q"]).success().stdout_is(&short);
    let _ = stack.run(&["image", "ls", "-q", &name]).success().stdout_is(&short);

    let again = stack.run(&["pull", &name]).success().stderr_has(&format!("{name} "));
    let _ = again.stderr_has("is up to date");
    let by_digest = format!("{repository}@{}", image.manifest);
    let _ = stack.run(&["images", "-q", &by_digest]).success().stdout_is(&short);
    let _ = stack.run(&["pull", &by_digest]).success();
    let _ = stack.run(&["images", "nothing:1"]).failure().stderr_has("there is no image `nothing:1`");
    let missing = format!("{repository}:2");
    let _ = stack.run(&["pull", &missing]).failure().stderr_has(&format!("cannot pull `{missing}`"));
}

#[test]
fn images_of_services_are_pulled_by_their_names() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"));
    let server = Server::plain();
    let host = server.host();
    for name in ["one", "two", "three"] {
        server.put(Made::busybox().layer(Archive::new().file("name", name)).write().path(), name, None);
    }
    let stack = Stack::new(&format!(
        "services:\n  a: {{image: {host}/one, depends_on: [b]}}\n  b: {{image: {host}/two}}\n  c: {{image: {host}/three}}\n  d: {{rootfs: host, command: [ls]}}\n"
    ));
    let listed = || {
        let images = stack.run(&["images"]).success().stdout;
        images
            .lines()
            .skip(1)
            .filter_map(|line| line.split_whitespace().next()?.split('/').nth(1).map(str::to_owned))
            .collect::<Vec<_>>()
    };
    let _ = stack.run(&["pull", "a"]).success();
    assert_eq!(listed(), ["one"]);
    let _ = stack.run(&["pull", "--include-deps", "a"]).success();
    assert_eq!(listed(), ["one", "two"]);
    let rest = stack.run(&["pull", "--policy", "missing"]).success().stderr_has("has no image to pull");
    assert!(!rest.stderr.contains("/one"), "{rest}");
    assert_eq!(listed(), ["one", "three", "two"]);
}

#[test]
fn what_the_image_says_is_done_and_what_the_file_says_wins() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"));
    let server = Server::plain();
    let said = "echo $GREETING from $WHERE in $(pwd); exec sleep 100000";
    let image = Made::busybox().layer(Archive::new().folder("work").folder("data").file("data/first", "copied"));
    let image = image.config(json!({
        "Entrypoint": ["/bin/sh", "-c"], "Cmd": [said], "Env": ["PATH=/bin", "GREETING=hello", "WHERE=image"],
        "WorkingDir": "/work", "Volumes": {"/data": {}, "/empty": {}},
    }));
    server.put(image.write().path(), "app", None);
    let name = format!("{}/app", server.host());
    let stack = Stack::new(&format!(
        r#"
volumes: {{mine: {{}}}}
services:
  plain: {{image: "{name}"}}
  command: {{image: "{name}", command: ['echo over in $$(pwd); exec sleep 100000'], working_dir: /tmp}}
  environment: {{image: "{name}", environment: {{WHERE: file}}}}
  entrypoint: {{image: "{name}", entrypoint: [sh, -c, 'echo "none: $$0$$#"; exec sleep 100000', x]}}
  none: {{image: "{name}", entrypoint: [], command: [sh, -c, 'echo direct; exec sleep 100000']}}
  volume: {{image: "{name}", volumes: ['mine:/data']}}
"#
    ));
    let up = stack.up().stderr_has("looking");
    assert_eq!(up.stderr.matches("looking").count(), 1, "one image is looked for once: {up}");
    for (service, text) in [
        ("plain", "hello from image in /work"),
        ("command", "over in /tmp"),
        ("environment", "hello from file in /work"),
        ("entrypoint", "none: x0"),
        ("none", "direct"),
        ("volume", "hello from image in /work"),
    ] {
        let _ = stack.log_with(service, &format!("{text}\n"));
    }
    for service in ["plain", "volume"] {
        assert_eq!(stack.sh(service, "cat /data/first; pwd"), "copied/work");
        assert_eq!(stack.sh(service, "grep -c -E ' (/data|/empty) ' /proc/mounts"), "2");
    }
    assert_eq!(fs::read_to_string(stack.volume("mine").join("first")).unwrap(), "copied");
    let rows = rows(&stack);
    assert_eq!(rows[0].used_by.len(), 6, "{rows:?}");
    stack.down();
}

#[test]
fn a_container_gets_the_stop_signal_of_its_image_or_of_the_file() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"));
    let server = Server::plain();
    let script =
        "for s in USR1 USR2; do trap \"echo $s > /out/$NAME; exit 0\" $s; done; echo ready; sleep 100000 & wait";
    let image = Made::busybox().config(json!({"Cmd": ["/bin/sh", "-c", script], "StopSignal": "SIGUSR1"})).write();
    server.put(image.path(), "app", None);
    let name = format!("{}/app", server.host());
    let stack = Stack::new(&format!(
        "services:\n  a: {{image: '{name}', environment: {{NAME: a}}, volumes: ['./out:/out']}}\n  b: {{image: '{name}', environment: {{NAME: b}}, volumes: ['./out:/out'], stop_signal: SIGUSR2}}\n"
    ));
    fs::create_dir(stack.path("out")).unwrap();
    stack.up();
    for service in ["a", "b"] {
        let _ = stack.log_with(service, "ready");
    }
    stack.down();
    assert_eq!(fs::read_to_string(stack.path("out/a")).unwrap(), "USR1\n");
    assert_eq!(fs::read_to_string(stack.path("out/b")).unwrap(), "USR2\n");
}

#[test]
fn a_container_runs_as_the_user_of_its_image_or_of_the_file() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"), Need::Ids);
    let server = Server::plain();
    server.put(Made::busybox().config(json!({"User": "worker"})).write().path(), "app", None);
    let name = format!("{}/app", server.host());
    let stack = Stack::new(&format!(
        "services:\n  image: {{image: '{name}'}}\n  file: {{image: '{name}', user: www}}\n  number: {{image: '{name}', user: '12:34'}}\n"
    ));
    stack.up();
    for (service, ids) in [("image", "1000:1000"), ("file", "33:33"), ("number", "12:34")] {
        assert_eq!(stack.sh(service, "echo $(id -u):$(id -g)"), ids, "{service}");
        assert_eq!(stack.sh(service, "stat -c %u:%g /proc/1"), ids, "{service}");
    }
}

#[test]
fn up_pulls_what_is_missing_and_works_without_the_registry_then() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"));
    let server = Server::plain();
    server.put(Made::busybox().write().path(), "app:1", None);
    let name = format!("{}/app:1", server.host());
    let stack = Stack::new(&format!("services:\n  web: {{image: '{name}'}}\n"));
    let plan = stack.run(&["plan"]).stderr_has("is looked for and pulled by `up`");
    assert!(!stack.home().join("data/v1/images").exists(), "a plan touches nothing: {plan}");
    let up = stack.up().stdout_is("");
    let lines: Vec<&str> = up.stderr.lines().filter(|line| line.contains(&name)).collect();
    assert!(lines.len() == 2 && lines[0].contains("looking") && lines[1].contains("pulled"), "{up}");
    assert!(rows(&stack)[0].used_by[0].ends_with("/web"));
    stack.down();
    drop(server);
    let up = stack.up();
    assert!(!up.stderr.contains("looking"), "{up}");
    assert_eq!(stack.sh("web", "pwd"), "/");
    stack.down();
    let _ = stack.run(&["up", "-d", "--pull", "always"]).failure().stderr_has(&format!("cannot pull `{name}`"));
    assert!(stack.supervisor().is_none());
}

#[test]
fn a_stack_in_the_foreground_keeps_nobody_from_removing_other_images() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"));
    let server = Server::plain();
    server.put(Made::busybox().write().path(), "app", None);
    server.put(Made::busybox().layer(Archive::new().file("a", "a")).write().path(), "other", None);
    let (name, other) = (format!("{}/app", server.host()), format!("{}/other", server.host()));
    let stack = Stack::new(&format!(
        "services:\n  web: {{image: '{name}', command: [sh, -c, 'echo up; exec sleep 100000']}}\n"
    ));
    let _ = stack.run(&["pull", &other]).success();
    let mut up = stack.up_in_foreground(&[]);
    up.expect_stdout("up\n");
    wait_for("the service", || (stack.container("web").state == "running").then_some(()));
    let _ = stack.run(&["rmi", &other]).success().stderr_has("removed");
    let _ = stack.run(&["rmi", &name]).failure().stderr_has(&format!("{}/web", stack.project()));
    assert!(up.is_running());
    up.signal(nix::sys::signal::Signal::SIGINT);
    let _ = up.wait();
}
