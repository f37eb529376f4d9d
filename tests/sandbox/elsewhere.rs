//! `container:NAME`: namespaces of a container that the file names, of this stack or another one.

use crate::support::{Need, Output, Stack, image, is_root, needs, wait_for};

/// A stack with a second one in the same home, which is called `<project>-far`.
struct Two {
    stack: Stack,
}

impl Two {
    fn new(near: &str, far: &str) -> Self {
        let stack = Stack::empty();
        let named =
            format!("name: {}\n{}", stack.project(), near.replace("<far>", &format!("{}-far", stack.project())));
        stack.file("stack.yaml", &named);
        stack.file("far.yaml", &format!("name: {}-far\n{far}", stack.project()));
        Self { stack }
    }

    fn far(&self, args: &[&str]) -> Output {
        self.stack.nscompose().args(["-f", "far.yaml"]).args(args).run()
    }

    fn far_pid(&self, service: &str) -> i32 {
        let output = self.far(&["ps", "--format", "json", service]).success();
        let row: serde_json::Value = serde_json::from_str(&output.stdout).expect("JSON");
        row["Pid"].as_i64().expect("it runs") as i32
    }

    fn far_namespace(&self, service: &str, kind: &str) -> String {
        let link = std::fs::read_link(format!("/proc/{}/ns/{kind}", self.far_pid(service))).expect("a namespace");
        link.to_string_lossy().into_owned()
    }
}

impl Drop for Two {
    fn drop(&mut self) {
        let _ = std::panic::catch_unwind(|| self.far(&["down", "-t", "0"]).code);
    }
}

const FAR: &str = r#"
services:
  db: {rootfs: host, command: [sleep, infinity], container_name: the-db, hostname: far-db}
  alone: {rootfs: host, command: [sleep, infinity], ipc: private}
  real: {rootfs: host, command: [sleep, infinity], userns_mode: host}
"#;

#[test]
fn a_container_of_the_stack_is_its_service() {
    needs!(Need::Namespaces);
    let stack = Stack::empty();
    let usual = format!("{}-cache-1", stack.project());
    stack.file(
        "stack.yaml",
        &format!(
            "name: {}\nservices:\n  web: {{rootfs: host, command: [sleep, infinity], network_mode: 'container:the-db', ipc: \
             'container:{usual}'}}\n  db: {{rootfs: host, command: [sleep, infinity], container_name: the-db}}\n  cache: \
             {{rootfs: host, command: [sleep, infinity]}}\n",
            stack.project()
        ),
    );
    // Who is named comes along.
    let _ = stack.run(&["up", "-d", "web"]).success();
    assert_eq!(stack.namespace("web", "net"), stack.namespace("db", "net"));
    assert_eq!(stack.namespace("web", "ipc"), stack.namespace("cache", "ipc"));
    assert_ne!(stack.namespace("web", "pid"), stack.namespace("db", "pid"));
}

#[test]
fn a_container_has_the_name_that_the_file_gives_it() {
    needs!(Need::Program("hostname"));
    let stack = Stack::new(
        r#"
services:
  db: {rootfs: host, command: [sh, -c, "echo ready; exec sleep infinity"], container_name: The_db.1}
  web: {rootfs: host, command: [sleep, infinity]}
"#,
    );
    stack.up();
    assert_eq!(stack.container("db").name, "The_db.1");
    assert_eq!(stack.container("web").name, format!("{}-web-1", stack.project()));
    assert_eq!(stack.exec("The_db.1", &["hostname"]), "The_db.1");
    assert_eq!(stack.exec(&format!("{}-web-1", stack.project()), &["hostname"]), format!("{}-web-1", stack.project()));
    let address = |name: &str| stack.sh("web", &format!("getent hosts {name} | cut -d ' ' -f 1"));
    assert_eq!(address("the_db.1"), address("db"));
    assert!(!address("db").is_empty());
    stack.log_with("db", "ready");
    assert_eq!(stack.run(&["logs", "The_db.1"]).success().stdout.trim(), "db | ready");
    assert_eq!(stack.run(&["ps", "--services", "The_db.1"]).success().stdout, "db\n");
    let unknown = stack.run(&["exec", "The_db.2", "true"]).failure();
    assert!(unknown.stderr.contains("there is no service `The_db.2`"), "{unknown}");
    // It is one more name that the file may change.
    let text = std::fs::read_to_string(stack.path("stack.yaml")).expect("the file");
    stack.file("stack.yaml", &text.replace("The_db.1", "other-db"));
    stack.up();
    assert_eq!(stack.container("db").name, "other-db");
}

#[test]
fn namespaces_of_another_stack_are_shared_with_all_that_belongs_to_them() {
    needs!(Need::Root, Need::Program("python3"), Need::Program("ipcmk"), Need::Program("hostname"));
    let two = Two::new(
        r#"
services:
  web: {rootfs: host, command: [sleep, infinity], network_mode: "container:the-db", ipc: "container:the-db", pid: "container:the-db", uts: "container:the-db"}
  chained: {rootfs: host, command: [sleep, infinity], network_mode: "service:web"}
  other: {rootfs: host, command: [sleep, infinity]}
  real: {rootfs: host, command: [sleep, infinity], userns_mode: host, network_mode: "container:<far>-real-1", ipc: "container:<far>-real-1"}
"#,
        FAR,
    );
    let _ = two.far(&["up", "-d"]).success();
    let stack = &two.stack;
    stack.up();
    for kind in ["user", "net", "ipc", "pid", "uts"] {
        assert_eq!(stack.namespace("web", kind), two.far_namespace("db", kind), "{kind}");
        assert_ne!(stack.namespace("other", kind), two.far_namespace("db", kind), "{kind}");
    }
    assert_eq!(stack.namespace("chained", "net"), two.far_namespace("db", "net"));
    assert_ne!(stack.namespace("web", "mnt"), two.far_namespace("db", "mnt"));
    // The names of the other network, an object of its IPC, its shared memory, its processes, its host name.
    let _ = two.far(&["exec", "db", "sh", "-c", "ipcmk -M 4242 && echo far > /dev/shm/file"]).success();
    assert!(stack.sh("web", "getent hosts alone").contains("alone"));
    assert!(stack.sh("web", "ipcs -m").contains("4242"));
    assert_eq!(stack.sh("web", "cat /dev/shm/file"), "far");
    assert!(!stack.sh("other", "ipcs -m").contains("4242"));
    assert_eq!(stack.exec("web", &["hostname"]), "far-db");
    assert_eq!(stack.sh("web", "echo $HOSTNAME $(cat /etc/hostname)"), "far-db far-db");
    // One with the users of the host, by one that has them too.
    for kind in ["user", "net", "ipc"] {
        assert_eq!(stack.namespace("real", kind), two.far_namespace("real", kind), "{kind}");
    }
    assert!(stack.sh("real", "getent hosts db").contains("db"));
    // As what shows it sees it.
    let shown = stack.run(&["ns", "web"]).success().stdout;
    let row = shown.lines().find(|line| line.starts_with("web")).expect("a row");
    assert_eq!(row.matches(" of the-db").count(), 5, "{shown}");
    stack.sh("web", "kill -0 1");
    // Both see each other's files as their own root does.
    assert_eq!(stack.sh("web", "stat -c %u /etc/passwd"), "0");
    // A new `up` finds nothing to do; one after the other has been made anew does.
    assert!(stack.up().stderr.contains("nothing to do"));
    let before = stack.pid("web");
    let _ = two.far(&["down", "-t", "0"]).success();
    let gone = stack.run(&["up", "-d"]).failure();
    assert!(gone.stderr.contains("container `the-db`, which does not run"), "{gone}");
    let _ = two.far(&["up", "-d"]).success();
    stack.up();
    assert_ne!(stack.pid("web"), before);
    for kind in ["user", "net", "ipc", "pid", "uts"] {
        assert_eq!(stack.namespace("web", kind), two.far_namespace("db", kind), "{kind}");
    }
    let traces = stack.traces();
    stack.down();
    let _ = two.far(&["down", "-t", "0"]).success();
    traces.assert_gone();
}

#[test]
fn a_container_that_ends_takes_its_processes_elsewhere_along_and_nothing_else() {
    needs!(Need::Root);
    let two = Two::new(
        r#"
services:
  inside: {rootfs: host, command: [sleep, infinity], pid: "container:the-db"}
  beside: {rootfs: host, command: [sleep, infinity], network_mode: "container:the-db"}
"#,
        FAR,
    );
    let _ = two.far(&["up", "-d"]).success();
    let stack = &two.stack;
    stack.up();
    let net = stack.namespace("beside", "net");
    let _ = two.far(&["down", "-t", "0"]).success();
    // The kernel ends all of a pid namespace with its first process.
    assert_eq!(stack.exit_code("inside"), 137);
    assert_eq!(stack.namespace("beside", "net"), net);
    assert_eq!(stack.sh("beside", "ls /sys/class/net/lo/address"), "/sys/class/net/lo/address");
}

#[test]
fn what_cannot_be_shared_is_said_before_anything_starts() {
    needs!(Need::Namespaces);
    let cases = [
        (
            "network_mode",
            "the-db-2",
            "",
            "service `web` shares the network_mode of container `the-db-2`, which does not run",
        ),
        ("ipc", "<far>-alone-1", "", "whose file says that nobody does"),
        ("pid", "<far>-real-1", "", "and only that has the users of the host"),
        ("uts", "the-db", "userns_mode: host, ", "and only the service has the users of the host"),
    ];
    for (key, container, more, expected) in cases {
        let two = Two::new(
            &format!(
                "services: {{web: {{rootfs: host, command: [sleep, infinity], {more}{key}: 'container:{container}'}}}}\n"
            ),
            FAR,
        );
        let _ = two.far(&["up", "-d"]).success();
        let failed = two.stack.run(&["up", "-d"]).failure();
        let expected = if is_root() { expected } else { "which the kernel lets only root do" };
        assert!(failed.stderr.contains(expected), "{key}: {failed}");
        assert!(failed.stderr.contains("hint:"), "{failed}");
        let planned = two.stack.run(&["plan"]).failure();
        assert!(planned.stderr.contains(expected), "{planned}");
        wait_for("the end of a stack without containers", || two.stack.ps().is_empty().then_some(()));
    }
}

/// Root of the machine takes hosts files and shared memory out of other containers. A link may lead it to where the container
/// itself may not go, but from there it gets nothing: what is cloned has to be in the mount namespace (open_tree(2)).
#[test]
fn a_container_elsewhere_cannot_make_us_show_files_of_the_host() {
    needs!(Need::Root, Need::StaticBusybox);
    let two = Two::new(
        r#"services: {web: {rootfs: host, command: [sleep, infinity], network_mode: "container:the-db"}}"#,
        "services: {db: {rootfs: ./root, command: [sleep, infinity], container_name: the-db, pid: host}}",
    );
    let stack = &two.stack;
    image::busybox_root(&stack.path("root"));
    // A folder of the image could not be moved, one of the container can.
    std::fs::remove_dir_all(stack.path("root/etc")).expect("a folder");
    stack.file("secret/hosts", "127.0.0.66 secret\n");
    let _ = two.far(&["up", "-d"]).success();
    let link = format!("/proc/{}/root{}", std::process::id(), stack.path("secret").display());
    let swap = format!("busybox mv /etc /old && busybox ln -s {link} /etc && ! cat /etc/hosts");
    let _ = two.far(&["exec", "db", "sh", "-c", &swap]).success();
    let _ = stack.run(&["up", "-d"]).failure().stderr_has("cannot make the namespaces");
}
