//! What services share is there for those who share it, for nobody else, and for longer than the service that it is of.

use std::{fs, process::Command};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use nscompose::model::Rootfs;

use crate::support::{
    Need, Stack,
    image::{ImageBuilder, KEEP, up_on},
    is_root, needs, wait_for,
};

const IPC: &str = include_str!("ipc.py");

const ALL: &str = "semaphore=7 queue=queued segment=mapped posix_queue=posted memory=written";
const NOTHING: &str = "semaphore=none queue=none segment=none posix_queue=none memory=none";

fn ipc(stack: &Stack, service: &str, what: &str) -> String {
    stack.exec(service, &["python3", "/tools/ipc.py", what])
}

/// A stack that has [`IPC`] at /tools.
fn stack(services: &str) -> Stack {
    let stack = Stack::new(services);
    stack.file("tools/ipc.py", IPC);
    stack
}

#[test]
fn objects_of_a_shared_ipc_are_for_its_sharers_alone() {
    needs!(Need::Program("python3"));
    let stack = stack(
        r#"
x-all: &all {rootfs: host, command: [sleep, infinity], volumes: ["./tools:/tools:ro"]}
services:
  web: {<<: *all, ipc: shareable}
  side: {<<: *all, ipc: "service:web"}
  other: {<<: *all}
  bare: {<<: *all, ipc: none}
"#,
    );
    stack.up();
    ipc(&stack, "web", "put");
    assert_eq!(ipc(&stack, "other", "get"), NOTHING);
    assert_eq!(ipc(&stack, "bare", "get"), NOTHING);
    assert_eq!(ipc(&stack, "side", "get"), ALL);
    // The other way round, too.
    ipc(&stack, "side", "put");
    assert_eq!(ipc(&stack, "web", "get"), ALL);
}

#[test]
fn a_shared_host_name_changes_for_its_sharers_alone() {
    needs!(Need::Program("nsenter"), Need::Program("hostname"));
    let stack = Stack::new(
        r#"
services:
  web: {rootfs: host, command: [sleep, infinity], hostname: the-web}
  side: {rootfs: host, command: [sh, -c, "echo $$HOSTNAME; exec sleep infinity"], uts: "service:web"}
  other: {rootfs: host, command: [sleep, infinity], hostname: the-other}
"#,
    );
    stack.up();
    assert_eq!(stack.namespace("web", "uts"), stack.namespace("side", "uts"));
    assert_eq!(stack.exec("side", &["hostname"]), "the-web");
    stack.log_with("side", "the-web");
    // No container may do that itself, so it is done from outside with the rights of its owner.
    let users = if is_root() { &[][..] } else { &["-U", "--preserve-credentials"][..] };
    let pid = stack.pid("web").to_string();
    let changed = Command::new("nsenter").args(["-t", &pid, "-u"]).args(users).args(["hostname", "changed"]).status();
    assert!(changed.expect("nsenter").success());
    assert_eq!(stack.exec("side", &["hostname"]), "changed");
    assert_eq!(stack.exec("web", &["hostname"]), "changed");
    assert_eq!(stack.exec("other", &["hostname"]), "the-other");
    assert_ne!(nix::unistd::gethostname().expect("ours").to_string_lossy(), "changed");
}

#[test]
fn a_process_takes_signals_from_its_own_pid_namespace_alone() {
    needs!(Need::Program("python3"));
    let stack = Stack::new(
        r#"
services:
  web: {rootfs: host, command: [sh, -c, "trap 'echo signalled' USR1; while :; do sleep 0.05; done"]}
  side: {rootfs: host, command: [sleep, infinity], pid: "service:web"}
  other: {rootfs: host, command: [sleep, infinity]}
"#,
    );
    stack.up();
    // Not as it is written, or the shell that looks for it would find itself.
    let find = "grep -ls 'signalle[d]' /proc/[0-9]*/cmdline | head -n 1 | tr -dc 0-9";
    let pid = wait_for("the pid", || Some(stack.sh("side", find)).filter(|pid| !pid.is_empty()));
    assert_eq!(stack.sh("other", find), "");
    // That number is somebody else there, or nobody.
    stack.run(&["exec", "other", "kill", "-USR1", &pid]);
    assert_eq!(stack.log("web"), "");
    stack.sh("side", &format!("kill -USR1 {pid}"));
    stack.log_with("web", "signalled");
}

const OWNER: &str = r#"
x-all: &all {rootfs: host, command: [sleep, infinity], volumes: ["./tools:/tools:ro"]}
services:
  side: {<<: *all, network_mode: "service:web", ipc: "service:web", uts: "service:web", pid: "service:web"}
  web: {<<: *all, environment: {ROUND: "<round>"}}
"#;

const KINDS: [&str; 5] = ["user", "net", "ipc", "uts", "pid"];

fn shared(stack: &Stack, service: &str) -> Vec<String> {
    KINDS.iter().map(|kind| stack.namespace(service, kind)).collect()
}

/// Makes something in all that the two share, which has to be there still when `change` has made `web` anew.
fn outlives(stack: &Stack, change: impl FnOnce()) {
    let (before, side, web) = (shared(stack, "web"), stack.pid("side"), stack.pid("web"));
    assert_eq!(before, shared(stack, "side"));
    ipc(stack, "side", "put");
    let serve = "import socket, time\n\
        t = socket.create_server(('127.0.0.1', 7100)); u = socket.socket(socket.AF_UNIX); u.bind('\\0nsct-lasting'); u.listen()\n\
        print('bound', flush=True)\n\
        for s in (t, u): s.accept()[0].send(b'still here')";
    let mut server = stack.nscompose().args(["exec", "side", "python3", "-c", serve]).start();
    server.expect_stdout("bound");
    change();
    assert_ne!(stack.pid("web"), web);
    assert_eq!(stack.pid("side"), side, "the sharer was not left alone");
    assert_eq!(shared(stack, "web"), before);
    assert_eq!(shared(stack, "side"), before);
    assert_eq!(ipc(stack, "web", "get"), ALL);
    let ask = "import socket\n\
        t = socket.create_connection(('127.0.0.1', 7100)); print(t.recv(99).decode())\n\
        u = socket.socket(socket.AF_UNIX); u.connect('\\0nsct-lasting'); print(u.recv(99).decode())";
    assert_eq!(stack.exec("web", &["python3", "-c", ask]), "still here\nstill here");
    let _ = server.wait().success();
    // The new one sees the process of the sharer, and the init that holds the namespace.
    let names = stack.sh("web", "cat /proc/[0-9]*/comm");
    assert!(names.lines().any(|name| name == "nsc-init"), "{names}");
    assert!(names.lines().filter(|name| *name == "sleep").count() >= 2, "{names}");
}

#[test]
fn shared_namespaces_outlive_the_end_of_their_service() {
    needs!(Need::Program("python3"));
    let stack = stack(&OWNER.replace("<round>", "1"));
    stack.up();
    outlives(&stack, || {
        kill(Pid::from_raw(stack.pid("web")), Signal::SIGKILL).expect("ours");
        assert_eq!(stack.exit_code("web"), 137);
        assert_eq!(stack.sh("side", "ls /sys/class/net | xargs"), "eth0 lo");
        stack.up();
    });
    let traces = stack.traces();
    stack.down();
    traces.assert_gone();
}

#[test]
fn shared_namespaces_outlive_a_change_of_their_service() {
    needs!(Need::Program("python3"));
    let stack = stack(&OWNER.replace("<round>", "1"));
    stack.up();
    outlives(&stack, || {
        let text = fs::read_to_string(stack.path("stack.yaml")).expect("the file");
        stack.file("stack.yaml", &text.replace("ROUND: \"1\"", "ROUND: \"2\""));
        stack.up();
    });
    assert_eq!(stack.sh("web", "echo $ROUND"), "2");
}

#[test]
fn shared_namespaces_outlive_another_image_of_their_service() {
    needs!(Need::StaticBusybox);
    let stack = Stack::new(&format!(
        "services:\n  {KEEP}\n  web: {{rootfs: ./image, command: [sleep, '100000']}}\n  side: {{rootfs: host, command: [sleep, \
         infinity], network_mode: 'service:web', ipc: 'service:web', uts: 'service:web', pid: 'service:web'}}\n"
    ));
    let _ = stack.run(&["up", "-d", "keep"]).success();
    let first = ImageBuilder::new(&stack).busybox();
    let image = first.build();
    let other = first.layer(|folder| fs::write(folder.join("new"), "").expect("a file")).build();
    let up = |image: &nscompose::model::Image| {
        up_on(&stack, &Rootfs::Layers(Box::new(image.clone())), &["web"])
            .unwrap_or_else(|e| panic!("{}", e.render(false)));
    };
    up(&image);
    stack.run(&["exec", "web", "ls", "/new"]).failure();
    let (before, side) = (shared(&stack, "web"), stack.pid("side"));
    stack.sh("side", "echo kept > /dev/shm/kept");
    up(&other);
    stack.exec("web", &["ls", "/new"]);
    assert_eq!(shared(&stack, "web"), before);
    assert_eq!(stack.pid("side"), side);
    assert_eq!(stack.sh("web", "cat /dev/shm/kept"), "kept");
}

#[test]
fn namespaces_go_along_when_those_of_the_first_of_their_group_are_made_anew() {
    needs!(Need::Namespaces);
    // `two` has a network of its own, which belongs to the user namespace that is made for `one`.
    let text = "services:
  one: {rootfs: host, command: [sleep, infinity], networks: [a]}
  two: {rootfs: host, command: [sleep, infinity], networks: [b], ipc: 'service:one', pid: 'service:one'}
networks: {a: {}, b: {}, c: {}}
";
    let stack = Stack::new(text);
    stack.up();
    let changes = [("networks: [a]", "networks: [c]"), ("networks: [a]", "network_mode: none")];
    for (from, to) in changes {
        stack.file("stack.yaml", &format!("name: {}\n{}", stack.project(), text.replace(from, to)));
        stack.up();
        let kinds = ["user", "ipc", "pid"];
        assert_eq!(kinds.map(|kind| stack.namespace("one", kind)), kinds.map(|kind| stack.namespace("two", kind)));
        assert_ne!(stack.namespace("one", "net"), stack.namespace("two", "net"));
        assert_eq!(stack.sh("two", "ls /sys/class/net | xargs"), "eth0 lo");
    }
}
