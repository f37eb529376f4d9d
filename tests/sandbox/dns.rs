//! The name server that every service has at 127.0.0.11, asked with dig(1).

use crate::support::{Need, Run, Stack, needs, wait_for};

/// The status of an answer and its data, sorted.
fn dig(stack: &Stack, service: &str, args: &[&str]) -> (String, Vec<String>) {
    let command = [&["exec", service, "dig", "+tries=1", "+time=20", "+noall", "+answer", "+comments"], args].concat();
    let shown = stack.run(&command).success().stdout;
    let status = shown.split("status: ").nth(1).and_then(|rest| rest.split(',').next()).unwrap_or("none");
    let answers = shown.lines().filter(|line| !line.starts_with(';') && !line.is_empty());
    let mut answers: Vec<String> =
        answers.filter_map(|line| line.split_whitespace().last()).map(str::to_owned).collect();
    answers.sort();
    (status.to_owned(), answers)
}

fn answers(stack: &Stack, service: &str, args: &[&str]) -> Vec<String> {
    let (status, answers) = dig(stack, service, args);
    assert_eq!(status, "NOERROR", "{service} asks for {args:?}");
    answers
}

#[test]
fn every_question_about_the_stack_is_answered_at_once() {
    needs!(Need::Program("dig"));
    let stack = Stack::new(
        r#"
services:
  web: {rootfs: host, command: [sleep, infinity], networks: [front, back], links: ["db:database"], extra_hosts: ["legacy=192.0.2.7", "legacy=2001:db8::7"]}
  app: {rootfs: host, command: [sleep, infinity], networks: [front]}
  db: {rootfs: host, command: [sleep, infinity], networks: {back: {aliases: [store.example.com]}}}
  side: {rootfs: host, command: [sleep, infinity], network_mode: service:db}
networks: {front: {}, back: {}}
"#,
    );
    stack.up();
    let project = stack.project();
    let db = answers(&stack, "web", &["db"]);
    assert_eq!(db.len(), 1, "{db:?}");
    for name in
        ["DB", "database", "side", "store.example.com", &format!("{project}-db-1"), &format!("db.{project}_back")]
    {
        assert_eq!(answers(&stack, "web", &[name]), db, "{name}");
        assert_eq!(answers(&stack, "web", &["+tcp", name]), db, "{name} over TCP");
    }
    assert_eq!(answers(&stack, "web", &["legacy"]), ["192.0.2.7"]);
    assert_eq!(answers(&stack, "web", &["AAAA", "legacy"]), ["2001:db8::7"]);
    assert_eq!(answers(&stack, "web", &["AAAA", "db"]), [""; 0]);
    assert_eq!(answers(&stack, "web", &["-x", &db[0]]), [format!("{project}-db-1.{project}_back.")]);
    for (service, name) in [("app", "db"), ("app", "database"), ("app", "legacy"), ("app", "nobody"), ("side", "app")] {
        assert_eq!(dig(&stack, service, &[name]), ("NXDOMAIN".to_owned(), Vec::new()), "{service} asks for {name}");
    }
    assert_eq!(dig(&stack, "app", &["-x", &db[0]]), ("NXDOMAIN".to_owned(), Vec::new()));
}

#[test]
fn only_what_runs_is_found_and_where_it_is_now() {
    needs!(Need::Program("dig"), Need::Program("ip"));
    let file = |networks: &str| {
        format!(
            "services:\n  web: {{rootfs: host, command: [sleep, infinity], networks: [one, two]}}\n  \
             once: {{rootfs: host, command: [sh, -c, 'exit 0'], networks: [one]}}\n  \
             db: {{rootfs: host, command: [sleep, infinity], networks: [{networks}]}}\nnetworks: {{one: {{}}, two: {{}}}}\n"
        )
    };
    let stack = Stack::new(&file("one"));
    stack.up();
    wait_for("the end of what runs once", || (stack.container("once").state.starts_with("exited")).then_some(()));
    assert_eq!(dig(&stack, "web", &["once"]).0, "NXDOMAIN");
    let own = |service: &str| {
        stack.sh(service, "ip -4 -o addr show scope global | awk '{print $4}' | cut -d/ -f1").trim().to_owned()
    };
    let before = answers(&stack, "web", &["db"]);
    assert_eq!(before, [own("db")]);
    stack.file("stack.yaml", &format!("name: {}\n{}", stack.project(), file("two")));
    stack.up();
    let after = answers(&stack, "web", &["db"]);
    assert_eq!(after, [own("db")]);
    assert_ne!(before, after);
}

#[test]
fn what_is_not_of_the_stack_is_asked_of_the_servers_in_the_file() {
    needs!(Need::Root, Need::Program("dig"), Need::Program("dnsmasq"));
    let stack = Stack::new(
        r#"
services:
  web: {rootfs: host, command: [sleep, infinity], dns: [127.53.7.1, 127.53.7.2], dns_search: [inside.test], dns_opt: ["ndots:2", rotate]}
  lost: {rootfs: host, command: [sleep, infinity], dns: 127.53.7.1, dns_search: .}
"#,
    );
    // Nobody is at the first address: the second is asked in its stead.
    let mut server = Run::new("dnsmasq")
        .args(["--keep-in-foreground", "--conf-file=/dev/null", "--listen-address=127.53.7.2", "--bind-interfaces"])
        .args([
            "--no-resolv",
            "--no-hosts",
            "--log-facility=-",
            "--host-record=www.inside.test,192.0.2.33,2001:db8::33",
        ])
        .start();
    server.expect_stderr("started");
    stack.up();
    for extra in [&[][..], &["+tcp"]] {
        assert_eq!(answers(&stack, "web", &[extra, &["www.inside.test"]].concat()), ["192.0.2.33"]);
        assert_eq!(answers(&stack, "web", &[extra, &["AAAA", "www.inside.test"]].concat()), ["2001:db8::33"]);
        assert_eq!(dig(&stack, "lost", &[extra, &["www.inside.test"]].concat()).0, "SERVFAIL");
    }
    assert_eq!(stack.exec("web", &["getent", "ahostsv4", "www"]).split_whitespace().next(), Some("192.0.2.33"));
    assert_eq!(
        stack.exec("web", &["cat", "/etc/resolv.conf"]),
        "nameserver 127.0.0.11\nsearch inside.test\noptions ndots:2 rotate"
    );
    assert!(!stack.exec("lost", &["cat", "/etc/resolv.conf"]).contains("search"));
    // Its own names are the stack's business all the same.
    assert_eq!(answers(&stack, "web", &["lost"]).len(), 1);
    server.signal(nix::sys::signal::Signal::SIGTERM);
    server.wait();
}

#[test]
fn a_name_server_of_the_stack_is_asked_where_it_is() {
    needs!(Need::Program("dig"), Need::Program("python3"));
    // It answers every question with 192.0.2.77, over UDP.
    let script = "import socket\\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\\ns.bind(('10.91.0.53', 53))\\nprint('ready', flush=True)\\nwhile True:\\n q, a = s.recvfrom(512)\\n e = q.index(0, 12) + 5\\n s.sendto(q[:2] + bytes([129, 128, 0, 1, 0, 1, 0, 0, 0, 0]) + q[12:e] + bytes([192, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 192, 0, 2, 77]), a)";
    let stack = Stack::new(&format!(
        r#"
services:
  ns: {{rootfs: host, command: [python3, -c, "{script}"], networks: {{n: {{ipv4_address: 10.91.0.53}}}}}}
  web: {{rootfs: host, command: [sleep, infinity], networks: [n], dns: 10.91.0.53}}
networks: {{n: {{internal: true, ipam: {{config: [{{subnet: 10.91.0.0/24}}]}}}}}}
"#
    ));
    stack.up();
    wait_for("the name server", || stack.run(&["logs", "ns"]).stdout.contains("ready").then_some(()));
    assert_eq!(answers(&stack, "web", &["inner.example.com"]), ["192.0.2.77"]);
}

#[test]
fn a_flood_of_rubbish_hurts_nobody() {
    needs!(Need::Program("dig"), Need::Program("python3"));
    let stack = Stack::new(
        "services:\n  web: {rootfs: host, command: [sleep, infinity]}\n  db: {rootfs: host, command: [sleep, infinity]}\n",
    );
    stack.up();
    let script = r#"
import random, socket
random.seed(7)
good = bytes.fromhex("000101000001000000000000026462000001" + "0001")
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.connect(("127.0.0.11", 53))
for n in range(20000):
    packet = bytearray(good)
    for _ in range(random.randrange(6)):
        packet[random.randrange(len(packet))] = random.randrange(256)
    packet = bytes(packet[:random.randrange(len(packet) + 1)]) + random.randbytes(random.choice([0, 0, 3, 900]))
    try:
        udp.send(packet)
    except OSError:
        pass
held = []
for n in range(200):
    tcp = socket.socket()
    tcp.setblocking(False)
    tcp.connect_ex(("127.0.0.11", 53))
    held.append(tcp)
for n in range(40):
    tcp = socket.create_connection(("127.0.0.11", 53))
    tcp.sendall(random.randbytes(random.randrange(400)))
    tcp.close()
print("done")
"#;
    assert_eq!(stack.exec("web", &["python3", "-c", script]), "done");
    assert_eq!(answers(&stack, "web", &["db"]).len(), 1);
    assert_eq!(answers(&stack, "db", &["+tcp", "web"]).len(), 1);
    assert!(stack.supervisor().is_some());
}

/// The port is free, over both protocols and without a word of SO_REUSEADDR.
#[test]
fn a_service_may_be_a_name_server_itself() {
    needs!(Need::Program("dig"), Need::Program("dnsmasq"), Need::Program("ss"));
    let stack = Stack::new(
        r#"
services:
  names:
    rootfs: host
    command: [dnsmasq, --no-daemon, --conf-file=/dev/null, --pid-file, --no-hosts, --no-resolv, --server=127.0.0.11, "--host-record=www.inside.test,192.0.2.33"]
  web: {rootfs: host, command: [sleep, infinity]}
"#,
    );
    stack.up();
    let web = answers(&stack, "names", &["web"]);
    assert_eq!(web.len(), 1, "{web:?}");
    wait_for("dnsmasq", || {
        (dig(&stack, "names", &["+tcp", "@127.0.0.1", "www.inside.test"]).0 == "NOERROR").then_some(())
    });
    let listens = stack.sh("names", "ss -Hltn 'sport = :53'");
    assert!(listens.contains("0.0.0.0:53"), "{listens}");
    let names = answers(&stack, "web", &["names"]).remove(0);
    for extra in [&[][..], &["+tcp"]] {
        let ask = |service: &str, words: &[&str]| answers(&stack, service, &[extra, words].concat());
        let there = format!("@{names}");
        assert_eq!(ask("web", &[&there, "www.inside.test"]), ["192.0.2.33"]);
        assert_eq!(ask("names", &["@127.0.0.1", "www.inside.test"]), ["192.0.2.33"]);
        // The stack's own name server is where it is, and asked by that of the service, too.
        assert_eq!(ask("names", &["@127.0.0.11", "web"]), web);
        assert_eq!(ask("web", &[&there, "web"]), web);
    }
}

/// Rules that a container makes for itself see the port that its programs see, and cannot take the way to names away.
#[test]
fn rules_of_a_service_leave_its_names_alone() {
    needs!(Need::Program("dig"), Need::Program("nft"));
    let stack = Stack::new(
        "services:\n  vpn: {rootfs: host, command: [sleep, infinity], cap_add: [NET_ADMIN]}\n  \
         db: {rootfs: host, command: [sleep, infinity]}\n",
    );
    stack.up();
    let db = answers(&stack, "vpn", &["db"]);
    let chain = |name: &str| {
        format!(
            "chain {name} {{ type filter hook {name} priority filter; policy drop; \
             ip daddr 127.0.0.11 meta l4proto {{ tcp, udp }} th dport 53 accept; \
             ip saddr 127.0.0.11 meta l4proto {{ tcp, udp }} th sport 53 accept; }};"
        )
    };
    let rules = format!("flush ruleset; table ip own {{ {} {} }};", chain("input"), chain("output"));
    // Up to Linux 6.8 the table is like any other.
    let release = nix::sys::utsname::uname().expect("uname");
    let mut version = release.release().to_str().expect("text").split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let rules = if (version.next(), version.next()) < (Some(6), Some(9)) {
        rules.trim_start_matches("flush ruleset;").to_owned()
    } else {
        rules
    };
    stack.exec("vpn", &["nft", &rules]);
    assert_eq!(answers(&stack, "vpn", &["db"]), db);
    assert_eq!(answers(&stack, "vpn", &["+tcp", "db"]), db);
    assert!(stack.sh("vpn", "nft list ruleset").contains("policy drop"));
}

/// Sharers of a network are not started again when only names of its owner change, and see the change.
#[test]
fn sharers_see_what_becomes_of_the_resolver_file_of_their_owner() {
    let file = |domain: &str, server: &str| {
        format!(
            "services:\n  owner: {{rootfs: host, command: [sleep, infinity], dns: {server}, dns_search: [{domain}]}}\n  \
             side: {{rootfs: host, command: [sleep, infinity], network_mode: service:owner}}\n  \
             own: {{rootfs: host, command: [sleep, infinity], network_mode: service:owner}}\n"
        )
    };
    let stack = Stack::new(&file("one.test", "127.53.8.1"));
    stack.up();
    let shown = |service: &str| stack.exec(service, &["cat", "/etc/resolv.conf"]);
    assert!(shown("side").contains("search one.test"), "{}", shown("side"));
    stack.sh("own", "echo 'nameserver 127.53.8.3' >/etc/resolv.conf");
    // Whichever supervisor it has by then.
    super::supervisor_dies::kill_and_wait(&stack);
    let pid = stack.container("side").pid;
    stack.file("stack.yaml", &format!("name: {}\n{}", stack.project(), file("two.test", "127.53.8.2")));
    stack.up();
    assert_eq!(stack.container("side").pid, pid, "it runs on");
    for service in ["owner", "side"] {
        assert!(shown(service).contains("search two.test"), "{service}: {}", shown(service));
    }
    assert_eq!(shown("own"), "nameserver 127.53.8.3", "what it has written itself stays");
}
