//! The way out of a stack, with the real binary: as root through a veth pair, as an ordinary user through pasta.

use std::{
    fs,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::unix::fs::PermissionsExt,
    process::{Child, Command},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::support::{self, Need, Output, Run, Stack, Started, is_root, needs, wait_for};

const SLEEPER: &str = "services: {web: {rootfs: host, command: [sleep, infinity]}}";

/// Says hello to whoever connects, at an address of the host.
pub(super) fn hello(address: IpAddr) -> SocketAddr {
    let listener = TcpListener::bind((address, 0)).expect("a port");
    let at = listener.local_addr().expect("bound");
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.write_all(b"hello");
        }
    });
    at
}

/// What a service hears there.
pub(super) fn heard(stack: &Stack, host: &str, port: u16) -> Output {
    let script = format!(
        "import socket\ns = socket.create_connection(('{host}', {port}), 5)\nprint(s.recv(99).decode(), end='')"
    );
    stack.nscompose().args(["exec", "web", "python3", "-c", &script]).run()
}

/// An address of the host that is not loopback's; no packet is sent.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("203.0.113.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[test]
fn servers_on_the_loopback_of_the_host_are_reached_by_name() {
    needs!(Need::Uplink, Need::Program("python3"));
    let stack = Stack::new(SLEEPER);
    stack.up();
    let traces = stack.traces();
    for name in ["host.docker.internal", "host.nscompose.internal"] {
        let at = hello([127, 0, 0, 1].into());
        assert_eq!(heard(&stack, name, at.port()).success().stdout, "hello");
    }
    stack.down();
    traces.assert_gone();
}

#[test]
fn addresses_outside_of_the_stack_are_reached() {
    needs!(Need::Uplink, Need::Program("python3"));
    // A machine without a network has none.
    let Some(address) = own_address() else { return };
    let stack = Stack::new(SLEEPER);
    stack.up();
    let at = hello(address);
    assert_eq!(heard(&stack, &address.to_string(), at.port()).success().stdout, "hello");
}

#[test]
fn the_way_out_follows_priorities_and_networks_that_are_made_anew() {
    needs!(Need::Uplink, Need::Program("python3"), Need::Program("ip"));
    let file = |edge: &str| {
        format!(
            r#"
services:
  web:
    rootfs: host
    command: [sleep, infinity]
    networks: {{shut: {{gw_priority: 9}}, first: , edge: {{gw_priority: 1}}}}
networks: {{shut: {{internal: true}}, first: , edge: {edge}}}
"#
        )
    };
    let stack = Stack::new(&file("{}"));
    stack.up();
    let at = hello([127, 0, 0, 1].into());
    let leads_out_by = |interface: &str| {
        let route = stack.sh("web", "ip -4 route show default");
        assert!(route.contains(&format!("dev {interface}")) && route.lines().count() == 1, "{route}");
        assert_eq!(heard(&stack, "host.docker.internal", at.port()).success().stdout, "hello");
    };
    leads_out_by("eth2");
    let change = |edge: &str| {
        stack.file("stack.yaml", &format!("name: {}\n{}", stack.project(), file(edge)));
        stack.up();
    };
    // The new bridge has the name of the old one, and has to be told to forward.
    change("{ipam: {config: [{subnet: 10.64.0.0/24}]}}");
    leads_out_by("eth2");
    change("{internal: true}");
    leads_out_by("eth1");
}

#[test]
fn a_stack_that_wants_no_uplink_has_none() {
    needs!(Need::Program("python3"));
    let stack = Stack::new(&format!("x-nscompose: {{uplink: none}}\n{SLEEPER}"));
    let up = stack.up();
    assert!(!up.stderr.contains("way out"), "{up}");
    let at = hello([127, 0, 0, 1].into());
    let output = heard(&stack, "169.254.1.2", at.port());
    assert!(output.stderr.contains("unreachable"), "{output}");
    assert_eq!(stack.sh("web", "ip route list default"), "");
}

#[test]
fn a_stack_without_networks_has_no_uplink() {
    needs!(Need::Root, Need::Uplink);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], network_mode: none}}");
    stack.up();
    let rules = Run::new("nft").args(["list", "tables"]).run().stdout;
    assert!(!rules.contains(stack.project()), "{rules}");
}

#[test]
fn the_next_command_removes_what_a_killed_supervisor_and_keeper_have_left() {
    needs!(Need::Root, Need::Uplink);
    let stack = Stack::new(SLEEPER);
    stack.up();
    let tables = || Run::new("nft").args(["list", "tables"]).run().stdout;
    assert!(tables().contains(stack.project()));
    let traces = stack.traces();
    for pid in [stack.keeper(), stack.supervisor()] {
        kill(Pid::from_raw(pid.expect("runs")), Signal::SIGKILL).expect("ours");
    }
    stack.run(&["-p", stack.project(), "ps"]).success();
    assert!(!tables().contains(stack.project()));
    traces.assert_gone();
}

#[test]
fn pasta_is_started_anew_and_dies_with_the_supervisor() {
    needs!(Need::OrdinaryUser, Need::Uplink, Need::Program("python3"));
    let stack = Stack::new(SLEEPER);
    stack.up();
    let supervisor = stack.supervisor().expect("runs");
    let pasta = || -> Option<i32> {
        let supervisor = stack.supervisor()?.to_string();
        let children = Run::new("pgrep").args(["-P", &supervisor, "pasta|passt"]).run().stdout;
        children.lines().next()?.parse().ok()
    };
    let first = wait_for("pasta", pasta);
    kill(Pid::from_raw(first), Signal::SIGKILL).expect("ours");
    let second = wait_for("another pasta", || pasta().filter(|pid| *pid != first));
    let at = hello([127, 0, 0, 1].into());
    wait_for("the host to be reached", || {
        (heard(&stack, "host.docker.internal", at.port()).stdout == "hello").then_some(())
    });
    kill(Pid::from_raw(supervisor), Signal::SIGKILL).expect("ours");
    wait_for("the end of pasta", || {
        let state = std::fs::read_to_string(format!("/proc/{second}/stat")).unwrap_or_default();
        (state.is_empty() || state.contains(") Z ")).then_some(())
    });
    // The next supervisor has one of its own.
    wait_for("a third pasta", || pasta().filter(|pid| *pid != second));
    wait_for("the host to be reached", || {
        (heard(&stack, "host.docker.internal", at.port()).stdout == "hello").then_some(())
    });
}

#[test]
fn pasta_is_given_the_namespace_where_its_profile_of_apparmor_allows() {
    needs!(Need::OrdinaryUser, Need::Uplink);
    let stack = Stack::new(SLEEPER);
    stack.up();
    let supervisor = stack.supervisor().expect("runs").to_string();
    let pasta = Run::new("pgrep").args(["-P", &supervisor, "pasta|passt"]).run().success().stdout;
    let words = std::fs::read_to_string(format!("/proc/{}/cmdline", pasta.trim())).expect("it runs");
    let path = words.split('\0').skip_while(|word| *word != "--netns").nth(1).expect("an option of pasta");
    assert!(path.starts_with("/run/user/") || path.starts_with("/tmp/"), "{path}");
    // Nothing is left of it, inside or outside of the supervisor's own mounts.
    assert!(!std::path::Path::new(path).exists(), "{path}");
    let mounts = std::fs::read_to_string(format!("/proc/{supervisor}/mounts")).unwrap_or_default();
    assert!(!mounts.contains("nscompose-uplink"), "{mounts}");
}

#[test]
fn a_missing_program_is_one_warning_and_the_rest_works() {
    needs!(Need::Root, Need::Program("nft"), Need::Program("python3"));
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sleep, infinity]}, db: {rootfs: host, command: [sleep, infinity]}}",
    );
    let script = "mount --bind /dev/null \"$(readlink -f \"$(command -v nft)\")\" && exec \"$@\"";
    let binary = env!("CARGO_BIN_EXE_nscompose");
    let up = Run::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script, "sh", binary, "--home"])
        .arg(stack.home())
        .args(["-f".as_ref(), stack.path("stack.yaml").as_os_str(), "up".as_ref(), "-d".as_ref()])
        .run()
        .success();
    assert_eq!(up.stderr.matches("warning:").count(), 1, "{up}");
    assert!(up.stderr.contains("no `nft`: install it (package nftables)"), "{up}");
    assert_eq!(stack.sh("web", "getent hosts db | wc -l"), "1");
    assert_eq!(stack.sh("web", "ip route list default"), "");
}

/// A process that holds a network namespace; of an ordinary user in a user namespace, where he is root.
pub(super) struct Holder(Child);

impl Holder {
    pub(super) fn new() -> Self {
        let user: &[&str] = if is_root() { &[] } else { &["--user", "--map-root-user"] };
        let holder = Command::new("unshare").args(user).args(["--net", "sleep", "infinity"]).spawn().expect("unshare");
        let holder = Self(holder);
        // It executes the program once all is made.
        let path = format!("/proc/{}/comm", holder.0.id());
        wait_for("a namespace", || std::fs::read_to_string(&path).is_ok_and(|name| name == "sleep\n").then_some(()));
        holder
    }

    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(super) fn run(&self, words: &[&str]) -> Output {
        self.command(words).run()
    }

    pub(super) fn start(&self, words: &[&str]) -> Started {
        self.command(words).start()
    }

    fn command(&self, words: &[&str]) -> Run {
        let user: &[&str] = if is_root() { &[] } else { &["-U", "--preserve-credentials"] };
        Run::new("nsenter").arg("-t").arg(self.0.id().to_string()).args(user).arg("-n").args(words)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn ports_of_a_service_that_no_way_leads_back_from_are_served_all_the_same() {
    needs!(Need::Uplink, Need::Program("python3"));
    let port = crate::support::free_port();
    let stack = Stack::new(&format!(
        "services: {{web: {{rootfs: host, command: [python3, -m, http.server, '80'], ports: ['{port}:80'], networks: [in]}}, \
         other: {{rootfs: host, command: [sleep, infinity], networks: [out]}}}}\n\
         networks: {{in: {{internal: true}}, out: {{}}}}"
    ));
    stack.up();
    wait_for("an answer", || {
        let mut server = TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), Duration::from_secs(1)).ok()?;
        server.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
        server.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        server.read_to_string(&mut answer).ok()?;
        answer.starts_with("HTTP/1.0 200").then_some(())
    });
}

#[test]
fn clients_from_outside_keep_their_address_and_local_ones_are_served_too() {
    needs!(Need::Root, Need::Uplink, Need::Program("curl"), Need::Program("python3"), Need::Program("ip"));
    let (host, outside) = (Holder::new(), Holder::new());
    let peer = outside.0.id().to_string();
    // A new namespace takes it over from the host, which may have stacks of its own just now.
    host.run(&["sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_forward"]).success();
    host.run(&["ip", "link", "add", "out0", "type", "veth", "peer", "name", "eth0", "netns", &peer]).success();
    for (at, words) in [
        (&host, "ip link set lo up"),
        (&host, "ip link set out0 up"),
        (&host, "ip address add 192.0.2.1/24 dev out0"),
        (&outside, "ip link set eth0 up"),
        (&outside, "ip address add 192.0.2.2/24 dev eth0"),
    ] {
        at.run(&words.split(' ').collect::<Vec<_>>()).success();
    }
    let server = "import http.server as h\\nclass H(h.BaseHTTPRequestHandler):\\n def do_GET(self):\\n  self.send_response(200)\\n  self.end_headers()\\n  self.wfile.write(self.client_address[0].encode())\\nh.HTTPServer(('', 80), H).serve_forever()";
    let stack = Stack::new(&format!(
        "services: {{web: {{rootfs: host, command: [python3, -c, \"{server}\"], ports: ['8080-8090:80', '192.0.2.1:9000:80']}}}}"
    ));
    let binary = env!("CARGO_BIN_EXE_nscompose");
    let (home, file) = (stack.home().display().to_string(), stack.path("stack.yaml").display().to_string());
    let nscompose = |words: &[&str]| {
        let words: Vec<&str> = [binary, "--home", home.as_str()].iter().chain(words).copied().collect();
        host.run(&words)
    };
    nscompose(&["-f", &file, "up", "-d"]).success();
    let get = |from: &Holder, url: &str| from.run(&["curl", "-sS", "-m", "5", url]).stdout;
    wait_for("the server", || (!get(&host, "http://127.0.0.1:8080/").is_empty()).then_some(()));
    assert_eq!(get(&outside, "http://192.0.2.1:8080/"), "192.0.2.2");
    assert_eq!(get(&outside, "http://192.0.2.1:9000/"), "192.0.2.2");
    assert_eq!(get(&host, "http://192.0.2.1:8080/"), "192.0.2.1");
    assert_ne!(get(&host, "http://127.0.0.1:8080/"), "172.18.0.1", "past the built-in forwarder");
    // From the stack itself, by the address of the host.
    let own = nscompose(&["-p", stack.project(), "exec", "web", "curl", "-sS", "-m", "5", "http://192.0.2.1:8080/"]);
    assert_eq!(own.success().stdout, "172.18.0.1");
    let forwarding = || host.run(&["cat", "/proc/sys/net/ipv4/ip_forward"]).stdout;
    assert_eq!(forwarding(), "1\n");
    nscompose(&["-p", stack.project(), "down"]).success();
    assert_eq!(forwarding(), "0\n");
    assert_eq!(host.run(&["nft", "list", "ruleset"]).stdout, "");
}

/// A stack of two services whose `nft` is this script, and what `up` has said.
fn with_nft(script: &str) -> (Stack, Output) {
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sleep, infinity]}, db: {rootfs: host, command: [sleep, infinity]}}",
    );
    stack.file("bin/nft", script);
    fs::set_permissions(stack.path("bin/nft"), fs::Permissions::from_mode(0o755)).expect("our file");
    let path = format!("{}:{}", stack.path("bin").display(), std::env::var("PATH").unwrap_or_default());
    let up = stack.nscompose().env("PATH", path).args(["up", "-d"]).run().success();
    (stack, up)
}

/// Names work, and what is outside is unreachable at once.
fn works_inside_only(stack: &Stack) {
    assert_eq!(stack.sh("web", "getent hosts db | wc -l"), "1");
    let output = heard(stack, "203.0.113.1", 9);
    assert!(output.stderr.contains("unreachable"), "{output}");
}

#[test]
fn an_nft_that_hangs_is_one_warning_and_the_rest_works() {
    needs!(Need::Uplink, Need::Program("python3"));
    let (stack, up) = with_nft("#!/bin/sh\nexec sleep infinity\n");
    assert_eq!(up.stderr.matches("warning:").count(), 1, "{up}");
    assert!(up.stderr.contains("the stack has no way out") && up.stderr.contains("has not answered in"), "{up}");
    works_inside_only(&stack);
    let traces = stack.traces();
    stack.down();
    traces.assert_gone();
}

#[test]
fn an_nft_that_fails_is_one_warning_and_the_rest_works() {
    needs!(Need::Uplink, Need::Program("python3"));
    let (stack, up) = with_nft("#!/bin/sh\necho 'Error: no such thing' >&2\nexit 1\n");
    assert_eq!(up.stderr.matches("warning:").count(), 1, "{up}");
    assert!(up.stderr.contains("nft says: Error: no such thing"), "{up}");
    works_inside_only(&stack);
    let traces = stack.traces();
    stack.down();
    traces.assert_gone();
}

/// What the host led to the stack, and the stack to nobody, would be lost.
#[test]
fn rules_that_are_refused_inside_leave_ports_to_the_forwarder() {
    needs!(Need::Root, Need::Uplink, Need::Program("nc"));
    let port = support::free_port();
    let stack = Stack::new(&format!(
        r#"services: {{web: {{rootfs: host, command: [sh, -c, "while :; do echo hello | nc -l -p 80 -q 0; done"], ports: ["127.0.0.1:{port}:80"]}}}}"#
    ));
    let nft = support::program("nft").expect("declared");
    let script = format!(
        r#"#!/bin/sh
rules=$(cat)
case "$rules" in *'table inet nscompose {{'*dport*) echo 'Error: not here' >&2; exit 1;; esac
printf '%s\n' "$rules" | exec {} "$@"
"#,
        nft.display()
    );
    stack.file("bin/nft", &script);
    fs::set_permissions(stack.path("bin/nft"), fs::Permissions::from_mode(0o755)).expect("our file");
    let path = format!("{}:{}", stack.path("bin").display(), std::env::var("PATH").unwrap_or_default());
    stack.nscompose().env("PATH", path).args(["up", "-d"]).run().success();
    wait_for("an answer", || {
        let mut answer = String::new();
        let mut stream = TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), Duration::from_secs(1)).ok()?;
        stream.read_to_string(&mut answer).ok()?;
        (answer == "hello\n").then_some(())
    });
    let traces = stack.traces();
    stack.down();
    traces.assert_gone();
}

#[test]
fn a_service_with_a_link_local_address_reaches_the_host_and_its_likes() {
    needs!(Need::Uplink, Need::Program("python3"));
    let stack = Stack::new(
        "
services:
  web: {rootfs: host, command: [sleep, infinity], networks: {back: {link_local_ips: [169.254.7.7]}, front: }}
  db: {rootfs: host, command: [sleep, infinity], networks: {back: {link_local_ips: [169.254.7.8]}}}
networks: {front: , back: {internal: true}}
",
    );
    stack.up();
    let at = hello([127, 0, 0, 1].into());
    assert_eq!(heard(&stack, "host.docker.internal", at.port()).success().stdout, "hello");
    assert!(stack.sh("web", "ip route get 169.254.7.8").contains("dev eth0"));
}
