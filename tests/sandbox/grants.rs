//! Configs and secrets as files in a container.

use std::fs;

use crate::support::{Need, Stack, needs, wait_for};

#[test]
fn configs_and_secrets_are_files_that_can_only_be_read() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "
services:
  web:
    rootfs: host
    command: [sleep, infinity]
    configs: [said, {source: filed, target: /etc/app/app.conf}]
    secrets: [token, {source: key, target: elsewhere}, {source: key, target: /opt/key, mode: 0440}]
configs:
  said: {content: 'a $$HOME of ${COMPOSE_PROJECT_NAME}'}
  filed: {file: ./app.conf}
secrets:
  token: {environment: TOKEN}
  key: {file: ./key}
",
    );
    stack.file("app.conf", "setting\n").file("key", "private\n").file(".env", "TOKEN=a b\n");
    stack.up();
    assert_eq!(stack.sh("web", "cat /said"), format!("a $HOME of {}", stack.project()));
    assert_eq!(stack.sh("web", "cat /etc/app/app.conf; cat /run/secrets/token"), "setting\na b");
    assert_eq!(stack.sh("web", "cat /run/secrets/elsewhere /opt/key"), "private\nprivate");
    assert_eq!(
        stack.sh("web", "stat -c %a:%u:%g /said /run/secrets/token /opt/key | xargs"),
        "444:0:0 444:0:0 440:0:0"
    );
    for path in ["/said", "/etc/app/app.conf", "/run/secrets/token", "/opt/key"] {
        stack.run(&["exec", "web", "sh", "-c", &format!("echo x >> {path}")]).failure().stderr_has("Read-only");
        stack.run(&["exec", "web", "chmod", "777", path]).failure();
    }
}

#[test]
fn owner_and_mode_are_what_the_file_says() {
    needs!(Need::Ids);
    let stack = Stack::new(
        "
services:
  web:
    rootfs: host
    user: nobody
    command: [sleep, infinity]
    secrets:
      - {source: s, target: all, uid: '33', gid: '34', mode: 0400}
      - {source: s, target: own, mode: 0400}
      - {source: s, target: group, gid: '0', mode: 0040}
      - {source: file, target: file, uid: '33', mode: 0400}
secrets: {s: {environment: SECRET}, file: {file: ./file}}
",
    );
    stack.file(".env", "SECRET=x").file("file", "y");
    stack.up();
    let stat = |name: &str| {
        let path = format!("/run/secrets/{name}");
        let run = stack.run(&["exec", "-u", "0", "web", "stat", "-c", "%u:%g:%a", &path]).success();
        run.stdout.trim().to_owned()
    };
    let (nobody, nogroup) = (stack.sh("web", "id -u"), stack.sh("web", "id -g"));
    assert_eq!(stat("all"), "33:34:400");
    assert_eq!(stat("own"), format!("{nobody}:{nogroup}:400"));
    assert_eq!(stat("group"), format!("{nobody}:0:40"));
    assert_eq!(stat("file"), format!("33:{nogroup}:400"));
    assert_eq!(stack.sh("web", "cat /run/secrets/own"), "x");
    stack.run(&["exec", "web", "cat", "/run/secrets/all"]).failure().stderr_has("Permission denied");
    stack.run(&["exec", "web", "cat", "/run/secrets/file"]).failure().stderr_has("Permission denied");
}

#[test]
fn a_secret_is_nowhere_but_in_memory() {
    needs!(Need::Namespaces, Need::Program("grep"));
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sh, -c, 'exec sleep infinity'], secrets: [s, {source: s, target: t, mode: 0400}]}}\nsecrets: {s: {environment: SECRET}}",
    );
    stack.file("project.env", "");
    let secret = "correct-horse-battery-staple";
    let run = |args: &[&str]| stack.nscompose().env("SECRET", secret).args(args).run();
    let plan = run(&["plan"]);
    let up = run(&["up", "-d"]).success();
    let ps = run(&["ps", "--format", "json"]).success();
    for output in [&plan, &up, &ps] {
        assert!(!output.stdout.contains(secret) && !output.stderr.contains(secret), "{output}");
    }
    let command = ["exec", "web", "cat", "/run/secrets/s", "/run/secrets/t"];
    assert_eq!(run(&command).success().stdout, format!("{secret}{secret}"));
    // Neither what the supervisor writes, nor the layers, nor the environment or command line of a process.
    let found = crate::support::Run::new("grep").args(["-rl", secret]).arg(stack.home()).arg(stack.path("")).run();
    assert_eq!(found.stdout, "", "{found}");
    let encoded = "Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5LXN0YXBsZ";
    let found = crate::support::Run::new("grep").args(["-rl", encoded]).arg(stack.home()).run();
    assert_eq!(found.stdout, "", "{found}");
    let environment = stack.sh("web", "tr '\\0' '\\n' < /proc/1/environ; tr '\\0' ' ' < /proc/1/cmdline");
    assert!(!environment.contains(secret));
    assert_eq!(stack.sh("web", "stat -f -c %T /run/secrets/s"), "tmpfs");
}

#[test]
fn a_container_is_made_anew_when_what_it_reads_has_changed() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "
services:
  web: {rootfs: host, command: [sleep, infinity], configs: [c]}
  filed: {rootfs: host, command: [sleep, infinity], secrets: [f]}
  other: {rootfs: host, command: [sleep, infinity]}
configs: {c: {content: '${TEXT}'}}
secrets: {f: {file: ./f}}
",
    );
    stack.file(".env", "TEXT=one").file("f", "one");
    stack.up();
    let pids = || ["web", "filed", "other"].map(|service| stack.pid(service));
    let first = pids();
    stack.up();
    assert_eq!(pids(), first);
    stack.file(".env", "TEXT=two");
    stack.up();
    let second = pids();
    assert!(first[0] != second[0] && first[1..] == second[1..], "{first:?} {second:?}");
    assert_eq!(stack.exec("web", &["cat", "/c"]), "two");
    // As an editor does it: a new file in the place of the old one.
    stack.file("new", "two");
    fs::rename(stack.path("new"), stack.path("f")).expect("renamed");
    stack.up();
    let third = pids();
    assert!(second[0] == third[0] && second[1] != third[1] && second[2] == third[2], "{second:?} {third:?}");
    assert_eq!(stack.exec("filed", &["cat", "/run/secrets/f"]), "two");
}

#[test]
fn what_a_config_or_secret_comes_from_has_to_be_there() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "
services: {web: {rootfs: host, command: [sleep, infinity], configs: [c], secrets: [s, t]}}
configs: {c: {file: ./missing}}
secrets: {s: {environment: NSCT_UNSET}, t: {file: ./folder}}
",
    );
    fs::create_dir(stack.path("folder")).expect("a folder");
    let output = stack.run(&["up", "-d"]).failure();
    let output = output.stderr_has("config `c` cannot be read").stderr_has("missing").stderr_has("stack.yaml:4:");
    output.stderr_has("`NSCT_UNSET`, which is not set").stderr_has("stack.yaml:5:").stderr_lacks("`t`");
}

#[test]
fn copies_go_with_the_container() {
    needs!(Need::Root, Need::Program("nsenter"));
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sleep, infinity], configs: [c]}, other: {rootfs: host, command: [sleep, infinity]}}\nconfigs: {c: {content: text}}",
    );
    stack.up();
    let supervisor = stack.supervisor().expect("runs").to_string();
    let grants = stack.home().join(format!("run/v1/{}/private/grants", stack.project()));
    let listed = || {
        let run = crate::support::Run::new("nsenter").args(["-m", "-t", &supervisor, "find"]).arg(&grants);
        run.args(["-type", "f"]).run().stdout
    };
    assert_eq!(listed().lines().count(), 1);
    // Without its config, it has no copy of it.
    let yaml = fs::read_to_string(stack.path("stack.yaml")).expect("there").replace(", configs: [c]", "");
    stack.file("stack.yaml", &yaml);
    stack.up();
    wait_for("the copy to go", || listed().is_empty().then_some(()));
}

#[test]
fn an_owner_that_does_not_exist_is_said_with_the_way_out() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sleep, infinity], configs: [{source: c, uid: '4000000'}]}}
configs: {c: {content: text}}
",
    );
    let refused = stack.run(&["up", "-d"]).failure();
    refused.stderr_has("wants `/c` to belong to 4000000").stderr_has("hint: leave out `uid` and `gid`");
    stack.traces().assert_gone();
}
