//! The way out by IPv6: as root through the veth pair, as an ordinary user through pasta.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};

use super::uplink::{Holder, heard, hello};
use crate::support::{Need, Output, Stack, Started, free_port, is_root, needs, wait_for};

const SLEEP: &str = "rootfs: host, command: [sleep, infinity]";

/// Tells a client by HTTP where it comes from, by either family.
const SERVER: &str = "import http.server as h, socket\\nclass S(h.HTTPServer):\\n address_family = socket.AF_INET6\\n def server_bind(self):\\n  self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)\\n  super().server_bind()\\nclass H(h.BaseHTTPRequestHandler):\\n def do_GET(self):\\n  self.send_response(200)\\n  self.end_headers()\\n  self.wfile.write(self.client_address[0].encode())\\nS(('::', 80), H).serve_forever()";

/// The address that the host has for what lies outside, if it has IPv6; no packet is sent.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("[::]:0").ok()?;
    socket.connect("[2001:db8::1]:9").ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// A host of the test's own on which the commands of a stack run.
struct Host<'a> {
    holder: &'a Holder,
    stack: &'a Stack,
}

impl Host<'_> {
    fn nscompose(&self, words: &[&str]) -> Output {
        let (home, file) =
            (self.stack.home().display().to_string(), self.stack.path("stack.yaml").display().to_string());
        let all = [env!("CARGO_BIN_EXE_nscompose"), "--home", home.as_str(), "-f", file.as_str()];
        self.holder.run(&all.iter().chain(words).copied().collect::<Vec<_>>())
    }

    /// What a service hears at an address of this host.
    fn heard(&self, address: &str, port: u16) -> Output {
        let script = format!(
            "import socket\ns = socket.create_connection(('{address}', {port}), 5)\nprint(s.recv(99).decode(), end='')"
        );
        self.nscompose(&["exec", "web", "python3", "-c", &script])
    }
}

fn all(holder: &Holder, lines: &str) {
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        holder.run(&["sh", "-c", line]).success();
    }
}

const IPV4: &str = "ip address add 192.0.2.1/24 dev out0
    ip route add default via 192.0.2.2";

const IPV6: &str = "ip address add 2001:db8:1::1/64 dev out0 nodad
    ip -6 route add default via 2001:db8:1::2";

/// A host with one interface and what these commands give it, where nobody is at the other end.
fn host(lines: &[&str]) -> Holder {
    let host = Holder::new();
    all(
        &host,
        "ip link set lo up
         ip link add out0 type veth peer name far0
         ip link set out0 up
         ip link set far0 up",
    );
    lines.iter().for_each(|lines| all(&host, lines));
    host
}

/// Somebody on the host who says hello at [2001:db8:1::1]:4711.
fn greeter(host: &Holder) -> Started {
    let mut server = host.start(&[
        "python3",
        "-uc",
        "import socket\ns = socket.create_server(('2001:db8:1::1', 4711), family=socket.AF_INET6)\nprint('ready')\nwhile True: s.accept()[0].sendall(b'hello')",
    ]);
    server.expect_stdout("ready");
    server
}

#[test]
fn addresses_outside_of_the_stack_are_reached_by_ipv6() {
    needs!(Need::Uplink, Need::Program("python3"));
    // A machine without IPv6 has none.
    let Some(address) = own_address() else { return };
    let stack = Stack::new(&format!(
        "services: {{web: {{{SLEEP}, networks: [six]}}}}\nnetworks: {{six: {{enable_ipv4: false, enable_ipv6: true}}}}"
    ));
    stack.up();
    let traces = stack.traces();
    let at = hello(address);
    assert_eq!(heard(&stack, &address.to_string(), at.port()).success().stdout, "hello");
    stack.down();
    traces.assert_gone();
}

#[test]
fn the_way_out_is_chosen_for_each_family() {
    needs!(Need::Uplink, Need::Program("ip"));
    let stack = Stack::new(&format!(
        r#"
services:
  web:
    rootfs: host
    command: [sleep, infinity]
    networks: {{shut: {{gw_priority: 9}}, four: {{gw_priority: 2}}, both: {{gw_priority: 1}}, six: }}
  in: {{{SLEEP}, networks: [shut]}}
networks:
  shut: {{internal: true, enable_ipv6: true}}
  four:
  both: {{enable_ipv6: true, ipam: {{config: [{{subnet: "fd66::/64"}}]}}}}
  six: {{enable_ipv4: false, enable_ipv6: true}}
"#
    ));
    stack.up();
    let routes = |service: &str, family: &str| stack.sh(service, &format!("ip -{family} route show default"));
    let (four, six) = (routes("web", "4"), routes("web", "6"));
    assert!(four.lines().count() == 1 && four.contains("dev eth1"), "{four}");
    assert!(six.lines().count() == 1 && six.contains("via fd66::1 dev eth2"), "{six}");
    assert_eq!((routes("in", "4"), routes("in", "6")), (String::new(), String::new()));
}

#[test]
fn ports_lead_from_either_family_to_the_other() {
    needs!(Need::Program("python3"), Need::Program("curl"));
    let (four, six) = (free_port(), free_port());
    let service = |network: &str, ports: &str| {
        format!("{{rootfs: host, command: [python3, -c, \"{SERVER}\"], networks: [{network}], ports: [{ports}]}}")
    };
    let stack = Stack::new(&format!(
        "services:\n  a: {}\n  b: {}\nnetworks: {{four: , six: {{enable_ipv4: false, enable_ipv6: true}}}}",
        service("four", &format!("'[::1]:{four}:80', '127.0.0.1:{four}:80'")),
        service("six", &format!("'[::1]:{six}:80', '127.0.0.1:{six}:80'")),
    ));
    stack.up();
    for at in [Ipv6Addr::LOCALHOST.into(), IpAddr::from([127, 0, 0, 1])] {
        for port in [four, six] {
            let url = format!("http://{}/", SocketAddr::new(at, port));
            let get = || crate::support::Run::new("curl").args(["-sS", "-m", "5", &url]).run();
            wait_for(&url, || (get().code == 0).then_some(()));
        }
    }
}

#[test]
fn clients_of_ipv6_from_outside_keep_their_address_and_local_ones_are_served_too() {
    needs!(Need::Root, Need::Uplink, Need::Program("curl"), Need::Program("python3"), Need::Program("ip"));
    let (host, outside) = (Holder::new(), Holder::new());
    let peer = outside.pid();
    all(
        &host,
        &format!(
            "echo 0 > /proc/sys/net/ipv4/ip_forward
             echo 0 > /proc/sys/net/ipv6/conf/all/forwarding
             ip link add out0 type veth peer name eth0 netns {peer}
             ip link set lo up
             ip link set out0 up
             ip address add 2001:db8:1::1/64 dev out0 nodad"
        ),
    );
    all(&outside, "ip link set eth0 up\nip address add 2001:db8:1::2/64 dev eth0 nodad");
    let stack = Stack::new(&format!(
        r#"
services:
  web:
    rootfs: host
    command: [python3, -c, "{SERVER}"]
    networks: [both]
    ports: ['8080:80', '[2001:db8:1::1]:9000:80', '[::1]:9001:80', '127.0.0.1:9002:80']
  six:
    rootfs: host
    command: [python3, -c, "{SERVER}"]
    networks: [six]
    ports: ['8090:80']
networks: {{both: {{enable_ipv6: true}}, six: {{enable_ipv4: false, enable_ipv6: true}}}}
"#
    ));
    let on_host = Host { holder: &host, stack: &stack };
    let up = on_host.nscompose(&["up", "-d"]).success();
    assert!(!up.stderr.contains("warning"), "{up}");
    let get = |from: &Holder, url: &str| from.run(&["curl", "-gsS", "-m", "5", url]).stdout;
    let local = ["[::1]:8080", "127.0.0.1:8080", "[::1]:9001", "127.0.0.1:9002", "[::1]:8090", "127.0.0.1:8090"];
    for at in local {
        wait_for(at, || (!get(&host, &format!("http://{at}/")).is_empty()).then_some(()));
    }
    for port in [8080, 9000, 8090] {
        wait_for("the address of the client", || {
            (get(&outside, &format!("http://[2001:db8:1::1]:{port}/")) == "2001:db8:1::2").then_some(())
        });
    }
    // By a link-local address, which nobody leads on, the forwarder serves.
    let link_local =
        host.run(&["sh", "-c", "ip -6 -o addr show dev out0 scope link | sed 's/.*inet6 \\([^/]*\\).*/\\1/'"]);
    let url = format!("http://[{}%25eth0]:8080/", link_local.stdout.trim());
    wait_for("an answer by the link", || (!get(&outside, &url).is_empty()).then_some(()));
    // From the stack itself, by the address of the host.
    let own = on_host.nscompose(&["exec", "web", "curl", "-gsS", "-m", "5", "http://[2001:db8:1::1]:8080/"]);
    assert!(!own.success().stdout.is_empty());
    // And out, as the host.
    let forwarding = || host.run(&["cat", "/proc/sys/net/ipv6/conf/all/forwarding"]).stdout;
    assert_eq!(forwarding(), "1\n");
    on_host.nscompose(&["down"]).success();
    assert_eq!(forwarding(), "0\n");
    assert_eq!(host.run(&["nft", "list", "ruleset"]).stdout, "");
}

#[test]
fn a_network_with_ipv6_that_comes_later_leads_out_too() {
    needs!(Need::Uplink, Need::Program("ip"), Need::Program("python3"));
    let host = host(&[IPV4, IPV6]);
    let file = |network: &str| format!("services: {{web: {{{SLEEP}}}}}\nnetworks: {{default: {network}}}");
    let stack = Stack::new(&file("{}"));
    let on_host = Host { holder: &host, stack: &stack };
    on_host.nscompose(&["up", "-d"]).success();
    let forwarding = || host.run(&["cat", "/proc/sys/net/ipv6/conf/all/forwarding"]).stdout;
    let before = forwarding();
    let first = on_host.heard("2001:db8:1::1", 80);
    assert!(first.stderr.contains("unreachable"), "{first}");
    if is_root() {
        assert_eq!(before, "0\n", "a stack without IPv6 leaves the host as it is");
    }
    stack.file("stack.yaml", &format!("name: {}\n{}", stack.project(), file("{enable_ipv6: true}")));
    on_host.nscompose(&["up", "-d"]).success();
    let _server = greeter(&host);
    assert_eq!(on_host.heard("2001:db8:1::1", 4711).success().stdout, "hello");
    on_host.nscompose(&["down"]).success();
}

#[test]
fn a_host_without_ipv6_has_ipv4_alone_and_says_nothing() {
    needs!(Need::Uplink, Need::Program("ip"), Need::Program("python3"));
    let file = format!("services: {{web: {{{SLEEP}}}}}\nnetworks: {{default: {{enable_ipv6: true}}}}");
    for off in ["true", "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6"] {
        let host = host(&[off, IPV4]);
        let mut server = host.start(&[
            "python3",
            "-uc",
            "import socket\ns = socket.create_server(('192.0.2.1', 4711))\nprint('ready')\nwhile True: s.accept()[0].sendall(b'hello')",
        ]);
        server.expect_stdout("ready");
        let stack = Stack::new(&file);
        let on_host = Host { holder: &host, stack: &stack };
        let up = on_host.nscompose(&["up", "-d"]).success();
        assert!(!up.stderr.contains("warning"), "{up}");
        assert_eq!(on_host.heard("192.0.2.1", 4711).success().stdout, "hello");
        // And is not waited for until the end of its patience.
        let six = on_host.heard("2001:db8::1", 80);
        assert!(six.stderr.contains("unreachable"), "{six}");
        on_host.nscompose(&["down"]).success();
    }
}

#[test]
fn a_host_with_ipv6_alone_has_a_way_out_too() {
    needs!(Need::Uplink, Need::Program("ip"), Need::Program("python3"));
    let host = host(&[IPV6]);
    let _server = greeter(&host);
    let stack = Stack::new(&format!("services: {{web: {{{SLEEP}}}}}\nnetworks: {{default: {{enable_ipv6: true}}}}"));
    let on_host = Host { holder: &host, stack: &stack };
    let up = on_host.nscompose(&["up", "-d"]).success();
    assert!(!up.stderr.contains("warning"), "{up}");
    assert_eq!(on_host.heard("2001:db8:1::1", 4711).success().stdout, "hello");
    on_host.nscompose(&["down"]).success();
}

#[test]
fn what_drops_ipv4_of_the_stack_keeps_it_from_no_ipv6() {
    needs!(Need::Root, Need::Uplink, Need::Program("ip"), Need::Program("python3"));
    let host = host(&[
        IPV4,
        IPV6,
        "nft add table ip filter
         nft 'add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }'",
    ]);
    let _server = greeter(&host);
    let stack = Stack::new(&format!("services: {{web: {{{SLEEP}}}}}\nnetworks: {{default: {{enable_ipv6: true}}}}"));
    let on_host = Host { holder: &host, stack: &stack };
    on_host.nscompose(&["up", "-d"]).success().stderr_has("the stack has no way out: chain FORWARD");
    assert_eq!(on_host.heard("2001:db8:1::1", 4711).success().stdout, "hello");
    on_host.nscompose(&["down"]).success();
}
