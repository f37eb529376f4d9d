//! Networks as the file describes them: addresses, interfaces, what is reached and what is not.

use std::fs;

use crate::support::{Need, Run, Stack, needs, wait_for};

const SLEEP: &str = "rootfs: host, command: [sleep, infinity]";

/// Whether a service is answered by an address.
fn reaches(stack: &Stack, from: &str, address: &str, port: u16) -> bool {
    stack.run(&["exec", from, "nc", "-w", "1", "-z", address, &port.to_string()]).code == 0
}

/// Addresses of an interface with their prefixes.
fn addresses(stack: &Stack, service: &str, interface: &str) -> Vec<String> {
    let shown = stack.sh(service, &format!("ip -o addr show dev {interface} | awk '{{print $4}}'"));
    shown.lines().map(str::to_owned).collect()
}

#[test]
fn addresses_and_interfaces_are_those_of_the_file() {
    needs!(Need::Program("ip"));
    let stack = Stack::new(&format!(
        r#"
services:
  web:
    rootfs: host
    command: [sleep, infinity]
    networks:
      back: {{}}
      front:
        ipv4_address: 10.61.0.10
        ipv6_address: "fd61::10"
        link_local_ips: [169.254.7.7, "fe80::7:7"]
        mac_address: 02:42:0a:3d:00:0a
        priority: 10
        driver_opts:
          com.docker.network.endpoint.sysctls: net.ipv4.conf.IFNAME.log_martians=1
      third: {{interface_name: inner}}
  own: {{{SLEEP}, mac_address: 02:42:0a:3d:00:0b, networks: [back]}}
networks:
  front:
    driver_opts: {{com.docker.network.driver.mtu: 1400}}
    ipam: {{config: [{{subnet: 10.61.0.0/16, ip_range: 10.61.5.0/24}}, {{subnet: "fd61::/64"}}]}}
  back: {{driver_opts: {{com.docker.network.container_iface_prefix: back}}}}
  third: {{enable_ipv4: false, enable_ipv6: true}}
"#
    ));
    stack.up();
    let front = addresses(&stack, "web", "eth0");
    for address in ["10.61.0.10/16", "fd61::10/64", "169.254.7.7/16", "fe80::7:7/64"] {
        assert!(front.iter().any(|there| there == address), "{address} is not among {front:?}");
    }
    let link = stack.sh("web", "ip -o link show dev eth0");
    assert!(link.contains("02:42:0a:3d:00:0a") && link.contains("mtu 1400"), "{link}");
    assert_eq!(stack.sh("web", "cat /proc/sys/net/ipv4/conf/eth0/log_martians"), "1");
    // Nobody on a network makes himself the router of others.
    assert_eq!(stack.sh("web", "cat /proc/sys/net/ipv6/conf/eth0/accept_ra"), "0");
    assert_eq!(addresses(&stack, "web", "back0").len(), 2, "an address and that of the link");
    let inner = addresses(&stack, "web", "inner");
    assert!(inner.iter().any(|address| address.starts_with("fd")), "{inner:?}");
    assert!(!inner.iter().any(|address| address.contains('.')), "{inner:?}");
    assert!(stack.sh("own", "ip -o link show dev back0").contains("02:42:0a:3d:00:0b"));
}

#[test]
fn services_talk_by_ipv6_at_once() {
    needs!(Need::Program("ip"), Need::Program("nc"), Need::Program("getent"));
    let stack = Stack::new(&format!(
        r#"
services:
  server: {{rootfs: host, command: [sh, -c, "nc -6 -lk 7000 </etc/hostname"], networks: {{six: {{aliases: [seven]}}}}}}
  client: {{{SLEEP}, networks: [six]}}
networks: {{six: {{enable_ipv4: false, enable_ipv6: true}}}}
"#
    ));
    stack.up();
    let address = stack.sh("client", "getent ahostsv6 seven | awk 'NR == 1 {print $1}'");
    assert!(address.starts_with("fd"), "{address}");
    // Not tentative, as it would be for a second while others are asked for it.
    assert_eq!(stack.sh("server", "ip -6 addr show tentative scope global"), "");
    wait_for("an answer by IPv6", || reaches(&stack, "client", &address, 7000).then_some(()));
}

#[test]
fn services_of_a_network_without_icc_reach_the_bridge_alone() {
    needs!(Need::Program("ip"), Need::Program("nc"));
    let stack = Stack::new(&format!(
        r#"
services:
  server: {{rootfs: host, command: [sh, -c, "nc -lk 7000 </etc/hostname"], networks: [apart, open], ports: ["127.0.0.1::7000"]}}
  client: {{{SLEEP}, networks: [apart, open]}}
networks:
  apart:
    driver_opts: {{com.docker.network.bridge.enable_icc: "false"}}
    ipam: {{config: [{{subnet: 10.62.0.0/24}}]}}
  open: {{ipam: {{config: [{{subnet: 10.63.0.0/24}}]}}}}
"#
    ));
    stack.up();
    let address =
        |interface: &str| addresses(&stack, "server", interface)[0].split('/').next().unwrap_or_default().to_owned();
    wait_for("the neighbour on the open network", || reaches(&stack, "client", &address("eth1"), 7000).then_some(()));
    assert!(!reaches(&stack, "client", &address("eth0"), 7000), "isolated services reach each other");
    // Ports come from the bridge itself, which everybody reaches.
    let port =
        stack.container("server").ports[0].split("->").next().and_then(|at| at.rsplit(':').next()?.parse::<u16>().ok());
    let port = port.unwrap_or_else(|| panic!("{:?}", stack.container("server").ports));
    wait_for("the published port", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
}

#[test]
fn a_network_that_is_changed_is_made_anew_with_all_that_is_on_it() {
    needs!(Need::Program("ip"), Need::Program("nc"));
    let file = |network: &str| {
        format!(
            r#"
services:
  server: {{rootfs: host, command: [sh, -c, "nc -lk 7000 </etc/hostname"], networks: [front]}}
  side: {{{SLEEP}, network_mode: "service:server"}}
  client: {{{SLEEP}, networks: [front]}}
  apart: {{{SLEEP}, networks: [other]}}
networks: {{other: , front: {network}}}
"#
        )
    };
    let stack = Stack::new(&file("{}"));
    stack.up();
    let (apart, client, side) = (stack.pid("apart"), stack.pid("client"), stack.pid("side"));
    let changed = format!("name: {}\n{}", stack.project(), file("{ipam: {config: [{subnet: 10.64.0.0/24}]}}"));
    stack.file("stack.yaml", &changed);
    let plan = stack.run(&["plan"]).stdout;
    assert!(
        plan.lines().any(|line| line.contains("remove network front") && line.contains("because networks.front.")),
        "{plan}"
    );
    stack.run(&["up", "-d", "client"]).success();
    assert_eq!(stack.pid("apart"), apart, "what is on no such network runs on");
    assert!(stack.pid("client") != client && stack.pid("side") != side);
    assert_eq!(addresses(&stack, "client", "eth0")[0], "10.64.0.2/24");
    assert_eq!(addresses(&stack, "side", "eth0")[0], "10.64.0.3/24");
    wait_for("the neighbour", || reaches(&stack, "client", "server", 7000).then_some(()));
    let nothing = stack.run(&["plan"]);
    assert_eq!((nothing.code, nothing.stdout.as_str()), (0, ""), "there is nothing left to do");
}

#[test]
fn the_network_of_the_host_and_none_are_there_by_name() {
    needs!(Need::Program("ip"));
    let stack = Stack::new(&format!(
        r#"
services:
  with: {{{SLEEP}, networks: [outside]}}
  without: {{{SLEEP}, networks: [nowhere]}}
networks: {{outside: {{external: true, name: host}}, nowhere: {{external: true, name: none}}}}
"#
    ));
    stack.up();
    let ours = std::fs::read_link("/proc/self/ns/net").expect("a namespace");
    assert_eq!(stack.namespace("with", "net"), ours.to_string_lossy());
    assert_eq!(stack.sh("without", "ip -o link show | grep -c eth; true"), "0");
}

#[test]
fn what_stays_on_a_bridge_does_not_pass_by_netfilter() {
    const SETTING: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";
    needs!(Need::Root, Need::Program("nsenter"));
    let stack = Stack::new("services: {a: {rootfs: host, command: [sleep, infinity]}}");
    stack.up();
    let supervisor = stack.supervisor().expect("it runs");
    let held = fs::read_dir(format!("/proc/{supervisor}/fd")).expect("it runs").flatten().map(|fd| fd.path());
    let namespaces: Vec<_> = held
        .filter(|fd| fs::read_link(fd).is_ok_and(|to| to.to_string_lossy().starts_with("net:")))
        .map(|fd| format!("--net={}", fd.display()))
        .collect();
    let run = |words: &[&str]| Run::new("nsenter").args(words).run().success().stdout;
    let with_bridge =
        namespaces.iter().find(|net| !run(&[net, "ip", "-br", "link", "show", "type", "bridge"]).is_empty());
    // A host without br_netfilter has no such setting, and nothing passes there.
    let read = format!("cat {SETTING} 2>/dev/null || echo 0");
    assert_eq!(run(&[with_bridge.expect("the namespace of the stack"), "sh", "-c", &read]), "0\n");
}
