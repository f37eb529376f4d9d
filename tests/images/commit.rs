//! Images and archives of containers.

use serde_json::Value;

use super::{
    archive::Archive,
    made::{Made, assert_whole, names},
    server::{Server, skopeo},
};
use crate::support::{Need, Run, Stack, needs};

fn stack(more: &str) -> (Server, Stack) {
    let server = Server::plain();
    let layer = Archive::new().folder("etc").file("etc/old", "old").file("etc/gone", "gone").folder("dir");
    let layer = layer.file("dir/low", "low").folder("data").file("data/first", "first");
    server.put(Made::busybox().layer(layer).write().path(), "app", None);
    let name = format!("{}/app", server.host());
    let stack = Stack::new(&format!(
        "volumes: {{data: {{}}}}\nservices:\n  web: {{image: '{name}', volumes: ['data:/data', './out:/out', '/anonymous'], tmpfs: /tmpfs{more}}}\n"
    ));
    std::fs::create_dir(stack.path("out")).unwrap();
    stack.up();
    let changes = "echo new > /etc/new; echo changed > /etc/old; rm /etc/gone; rm -r /dir; mkdir /dir; echo high > /dir/high; \
                   ln -s /etc/new /link; ln /etc/new /hard; chmod 4751 /etc/new; \
                   echo secret > /data/secret; echo secret > /out/secret; echo secret > /anonymous/secret; echo secret > /tmpfs/secret";
    stack.sh("web", changes);
    (server, stack)
}

const LOOK: &str = "cat /etc/new /etc/old /link /hard; ls /etc/gone 2>/dev/null; ls /dir; stat -c %a /etc/new";
const SEEN: &str = "new\nchanged\nnew\nnew\nhigh\n4751";

#[test]
fn a_container_becomes_an_image_with_all_that_it_has_changed() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"));
    let (server, stack) = stack("");
    let committed = stack.run(&["commit", "-a", "me", "-m", "a test", "web", "mine:1"]).success();
    let id = committed.stdout.trim().to_owned();
    assert!(id.starts_with("sha256:") && id.len() == 71, "{committed}");
    let pid = stack.pid("web");
    assert_eq!(names(&stack).last().map(String::as_str), Some("mine:1"));
    assert_whole(&stack);
    // Without a name, too; it is the same but for its time.
    let nameless = stack.run(&["commit", "web"]).success().stdout;
    let _ = stack.run(&["images", "-q", nameless.trim()]).success();
    let other = Stack::new("services: {web: {image: 'mine:1', pull_policy: never}}");
    let _ = stack.run(&["save", "-o", "mine.tar", "mine:1"]).success();
    let path = stack.path("mine.tar").display().to_string();
    let _ = other.run(&["load", "-i", &path]).success();
    other.up();
    assert_eq!(other.sh("web", LOOK), SEEN);
    assert_eq!(
        other
            .sh("web", "ls -A /anonymous /out /tmpfs 2>/dev/null; cat /data/first; ls /data")
            .matches("secret")
            .count(),
        0
    );
    other.down();
    let raw = skopeo().args(["inspect", "--config", "--raw", &format!("docker-archive:{path}")]).run().success();
    let config: Value = serde_json::from_str(&raw.stdout).unwrap();
    assert_eq!((config["author"].as_str(), config["history"][0]["comment"].as_str()), (Some("me"), Some("a test")));
    assert_eq!(config["config"]["Cmd"][0].as_str(), Some("/bin/sleep"));
    assert_eq!(config["rootfs"]["diff_ids"].as_array().map(Vec::len), Some(3));
    // It can be pushed and pulled as any other.
    let pushed = format!("{}/committed", server.host());
    let _ = stack.run(&["tag", "mine:1", &pushed]).success();
    let _ = stack.run(&["push", &pushed]).success();
    assert_eq!(stack.pid("web"), pid, "the container goes on");
    let third = Stack::new(&format!("services: {{web: {{image: '{pushed}'}}}}"));
    third.up();
    assert_eq!(third.sh("web", LOOK), SEEN);
    let _ = stack.run(&["commit", "none"]).failure();
    stack.down();
    let _ = stack.run(&["commit", "web"]).failure().stderr_has("is not up");
}

#[test]
fn owners_are_kept_in_what_is_committed_and_exported() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"), Need::Ids);
    let (_server, stack) = stack("");
    stack.sh("web", "chown 33:34 /etc/new; chown 1000:1000 /dir");
    let _ = stack.run(&["commit", "web", "mine:1"]).success();
    let _ = stack.run(&["export", "-o", "all.tar", "web"]).success();
    stack.file(
        "stack.yaml",
        &format!("name: {}\nservices: {{web: {{image: 'mine:1', pull_policy: never}}}}", stack.project()),
    );
    stack.up();
    let owners = "stat -c %u:%g /etc/new /hard /dir /dir/high /etc/old";
    assert_eq!(stack.sh("web", owners), "33:34\n33:34\n1000:1000\n0:0\n0:0");
    let listed = Run::new("tar").args(["--numeric-owner", "-tvf"]).arg(stack.path("all.tar")).run().success().stdout;
    for (path, owner) in [("etc/new", "33/34"), ("dir/", "1000/1000"), ("etc/old", "0/0"), ("bin/busybox", "0/0")] {
        let line = listed
            .lines()
            .find(|line| line.trim_end().ends_with(&format!(" {path}")) || line.ends_with(&format!(" ./{path}")));
        assert!(line.is_some_and(|line| line.contains(&format!(" {owner} "))), "{path}: {line:?}\n{listed}");
    }
    // Or the account could not remove them.
    stack.sh("web", "chown -R 0:0 /dir");
}

#[test]
fn an_export_has_the_files_of_the_container_and_not_those_of_its_volumes() {
    needs!(Need::StaticBusybox, Need::Program("docker-registry"), Need::Program("skopeo"));
    let (_server, stack) = stack("");
    let _ = stack.run(&["export", "-o", "all.tar", "web"]).success().stdout_is("");
    let tar = |args: &[&str]| Run::new("tar").args(args).dir(stack.path("")).run().success().stdout;
    let names = tar(&["-tf", "all.tar"]);
    let names: Vec<&str> = names.lines().map(|name| name.trim_start_matches("./").trim_end_matches('/')).collect();
    for name in ["bin/busybox", "bin/sh", "etc/new", "etc/old", "dir/high", "link", "hard", "data", "out", "tmpfs"] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    for name in ["etc/gone", "dir/low", "data/secret", "out/secret", "anonymous/secret", "tmpfs/secret"] {
        assert!(!names.contains(&name), "{name}: {names:?}");
    }
    let below = |folder: &str| names.iter().filter(|name| name.starts_with(folder)).count();
    assert_eq!((below("proc/"), below("sys/")), (0, 0), "{names:?}");
    std::fs::create_dir(stack.path("unpacked")).unwrap();
    let _ = tar(&["-xf", "all.tar", "-C", "unpacked", "--no-same-owner"]);
    assert_eq!(std::fs::read_to_string(stack.path("unpacked/etc/old")).unwrap(), "changed\n");
    assert_eq!(std::fs::read_link(stack.path("unpacked/link")).unwrap().to_str(), Some("/etc/new"));
    // To standard output it is the same.
    let binary = env!("CARGO_BIN_EXE_nscompose");
    let script = format!("{binary} --home {} export web | cmp - all.tar", stack.home().display());
    let _ = Run::new("sh").args(["-c", &script]).dir(stack.path("")).env("HOME", stack.user_home()).run().success();
    let head = format!(
        "{{ {binary} --home {} export web; echo code $? >&2; }} | head -c 1000 | wc -c",
        stack.home().display()
    );
    let head = Run::new("sh").args(["-c", &head]).dir(stack.path("")).env("HOME", stack.user_home()).run().success();
    assert_eq!((head.stdout.trim(), head.stderr.trim()), ("1000", "code 0"));
    // As the root of a service it runs.
    stack.file("stack.yaml", &format!("name: {}\nservices: {{web: {{rootfs: ./all.tar, command: [/bin/sleep, '100000'], environment: {{PATH: /bin}}}}}}", stack.project()));
    let _ = stack.run(&["down", "-v", "-t", "0"]).success();
    stack.up();
    assert_eq!(stack.sh("web", LOOK), SEEN);
}
