//! Namespaces that services share, with each other or with the host: by identity, and by an object that both see.

use std::fs;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::support::{Need, Run, Stack, is_root, needs, wait_for};

fn host(kind: &str) -> String {
    fs::read_link(format!("/proc/self/ns/{kind}")).expect("ours").to_string_lossy().into_owned()
}

#[test]
fn a_shared_network_is_one_network() {
    needs!(Need::Program("nc"), Need::Program("python3"));
    let stack = Stack::new(
        r#"
services:
  web: {rootfs: host, command: [sh, -c, "nc -lk 127.0.0.1 7000 </etc/hostname"], hostname: the-web}
  side: {rootfs: host, command: [sleep, infinity], network_mode: service:web}
  other: {rootfs: host, command: [sleep, infinity]}
"#,
    );
    stack.up();
    assert_eq!(stack.namespace("web", "net"), stack.namespace("side", "net"));
    assert_ne!(stack.namespace("web", "pid"), stack.namespace("side", "pid"));
    assert_ne!(stack.namespace("web", "ipc"), stack.namespace("side", "ipc"));
    let answer = wait_for("the loopback of the other", || {
        let output = stack.run(&["exec", "side", "nc", "-w", "2", "-d", "127.0.0.1", "7000"]);
        (!output.stdout.is_empty()).then_some(output.stdout)
    });
    assert_eq!(answer, "the-web\n");
    stack.run(&["exec", "other", "nc", "-w", "2", "-z", "127.0.0.1", "7000"]).failure();
    // An abstract socket belongs to the network namespace too.
    let listen = "import socket; s = socket.socket(socket.AF_UNIX); s.bind('\\0nsct'); s.listen(); print('bound', flush=True); s.accept()[0].send(b'abstract')";
    let mut listener = stack.nscompose().args(["exec", "web", "python3", "-c", listen]).start();
    listener.expect_stdout("bound");
    let connect = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('\\0nsct'); print(s.recv(99).decode())";
    stack.run(&["exec", "other", "python3", "-c", connect]).failure();
    assert_eq!(stack.exec("side", &["python3", "-c", connect]), "abstract");
    let _ = listener.wait().success();
}

#[test]
fn shared_ipc_is_one_ipc() {
    needs!(Need::Program("ipcmk"), Need::Program("ipcs"));
    let stack = Stack::new(
        r#"
services:
  web: {rootfs: host, command: [sleep, infinity]}
  side: {rootfs: host, command: [sleep, infinity], ipc: service:web}
  other: {rootfs: host, command: [sleep, infinity]}
"#,
    );
    stack.up();
    assert_eq!(stack.namespace("web", "ipc"), stack.namespace("side", "ipc"));
    assert_ne!(stack.namespace("web", "net"), stack.namespace("side", "net"));
    stack.sh("web", "ipcmk -M 4242 && echo shared > /dev/shm/file");
    assert!(stack.sh("side", "ipcs -m").contains("4242"));
    assert_eq!(stack.sh("side", "cat /dev/shm/file"), "shared");
    assert!(!stack.sh("other", "ipcs -m").contains("4242"));
    stack.run(&["exec", "other", "test", "-e", "/dev/shm/file"]).failure();
}

#[test]
fn shared_pids_are_seen_and_take_signals() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"
services:
  web: {rootfs: host, command: [sh, -c, "trap 'echo signalled' USR1; echo $$$$ > /shared/pid; while :; do sleep 0.05; done"], volumes: ["./shared:/shared"]}
  side: {rootfs: host, command: [sleep, infinity], pid: service:web, volumes: ["./shared:/shared"]}
  other: {rootfs: host, command: [sleep, infinity]}
"#,
    );
    stack.up();
    assert_eq!(stack.namespace("web", "pid"), stack.namespace("side", "pid"));
    assert_ne!(stack.namespace("web", "net"), stack.namespace("side", "net"));
    wait_for("the pid", || (!stack.sh("side", "cat /shared/pid 2>/dev/null; true").is_empty()).then_some(()));
    stack.sh("side", "kill -USR1 $(cat /shared/pid)");
    stack.log_with("web", "signalled");
    assert!(stack.sh("other", "cat /proc/[0-9]*/comm | sort | uniq").lines().all(|name| name != "nsc-init"));
}

#[test]
fn all_three_can_be_shared_along_a_chain() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"
services:
  a: {rootfs: host, command: [sleep, infinity]}
  b: {rootfs: host, command: [sleep, infinity], network_mode: service:a, ipc: service:a, pid: service:a}
  c: {rootfs: host, command: [sleep, infinity], network_mode: service:b, ipc: service:b, pid: service:b}
"#,
    );
    stack.up();
    for kind in ["net", "ipc", "pid", "user"] {
        assert_eq!(stack.namespace("a", kind), stack.namespace("c", kind), "{kind}");
        assert_eq!(stack.namespace("a", kind), stack.namespace("b", kind), "{kind}");
    }
    assert_ne!(stack.namespace("a", "mnt"), stack.namespace("b", "mnt"));
    let traces = stack.traces();
    stack.down();
    traces.assert_gone();
}

#[test]
fn a_namespace_outlives_the_program_of_its_owner() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"
services:
  owner: {rootfs: host, command: [sh, -c, "exit 0"]}
  guest: {rootfs: host, command: [sleep, infinity], network_mode: service:owner, pid: service:owner, ipc: service:owner, depends_on: [owner]}
"#,
    );
    stack.up();
    stack.exit_code("owner");
    assert_eq!(stack.container("guest").state, "running");
    assert_eq!(stack.sh("guest", "ls /sys/class/net | xargs"), "eth0 lo");
}

#[test]
fn without_a_network_there_is_only_loopback_and_it_works() {
    needs!(Need::Program("python3"));
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], network_mode: none}}");
    stack.up();
    assert_eq!(stack.sh("web", "ls /sys/class/net"), "lo");
    let own = "import socket; s = socket.create_server(('127.0.0.1', 0)); c = socket.create_connection(s.getsockname()); print('connected')";
    assert_eq!(stack.exec("web", &["python3", "-c", own]), "connected");
}

#[test]
fn the_hosts_network_is_the_hosts() {
    needs!(Need::Program("python3"));
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], network_mode: host}}");
    stack.up();
    assert_eq!(stack.namespace("web", "net"), host("net"));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port().to_string();
    let connect = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1]))); print('connected')";
    assert_eq!(stack.exec("web", &["python3", "-c", connect, &port]), "connected");
}

#[test]
fn the_hosts_ipc_is_the_hosts() {
    needs!(Need::Program("ipcmk"), Need::Program("ipcs"), Need::Program("ipcrm"));
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], ipc: host}}");
    stack.up();
    assert_eq!(stack.namespace("web", "ipc"), host("ipc"));
    let made = Run::new("ipcmk").args(["-M", "4243"]).run().success().stdout;
    let id = made.trim().rsplit(' ').next().expect("an id").to_owned();
    let seen = stack.sh("web", "ipcs -m");
    let _ = Run::new("ipcrm").args(["-m", &id]).run().success();
    assert!(seen.contains("4243"), "{seen}");
}

#[test]
fn the_hosts_pids_are_the_hosts() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], pid: host}}");
    stack.up();
    assert_eq!(stack.namespace("web", "pid"), host("pid"));
    let own = std::process::id();
    assert_eq!(
        stack.sh("web", &format!("cat /proc/{own}/comm")),
        fs::read_to_string("/proc/self/comm").expect("ours").trim()
    );
    let pid = stack.pid("web");
    let traces = stack.traces();
    if is_root() {
        // It has no rights over it all the same.
        stack.run(&["exec", "web", "sh", "-c", &format!("kill -0 {own}")]).failure();
    }
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("ours");
    assert_eq!(stack.exit_code("web"), 137);
    stack.down();
    traces.assert_gone();
}

#[test]
fn the_hosts_names_are_the_hosts() {
    needs!(Need::Program("hostname"));
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], uts: host}}");
    stack.up();
    assert_eq!(stack.namespace("web", "uts"), host("uts"));
    let name = nix::unistd::gethostname().expect("a name").to_string_lossy().into_owned();
    assert_eq!(stack.exec("web", &["hostname"]), name);
    assert_eq!(stack.sh("web", "echo $HOSTNAME"), name);
    stack.run(&["exec", "web", "hostname", "changed"]).failure();
    assert_eq!(nix::unistd::gethostname().expect("a name").to_string_lossy(), name);
}
