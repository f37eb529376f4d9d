//! Services find each other by name, on the networks that they share.

use crate::support::{Need, Stack, needs, wait_for};

fn stack() -> Stack {
    let stack = Stack::new(
        r#"
services:
  web: {rootfs: host, command: [sleep, infinity], networks: [front]}
  app: {rootfs: host, command: [sleep, infinity], networks: {front: {}, back: {aliases: [logic]}}}
  db: {rootfs: host, command: [sleep, infinity], networks: {back: {aliases: [store, books]}}, hostname: keeper}
  side: {rootfs: host, command: [sleep, infinity], network_mode: service:db}
networks: {front: {}, back: {}}
"#,
    );
    stack.up();
    stack
}

/// The address that a name has for a service; none when it knows no such name.
fn resolve(stack: &Stack, service: &str, name: &str) -> Option<String> {
    let output = stack.run(&["exec", service, "getent", "ahostsv4", name]);
    (output.code == 0).then(|| output.stdout.split_whitespace().next().unwrap_or_default().to_owned())
}

/// The addresses of a service's interfaces, loopback aside.
fn addresses(stack: &Stack, service: &str) -> Vec<String> {
    let shown = stack.sh(service, "ip -4 -o addr show scope global | awk '{print $4}' | cut -d/ -f1");
    shown.lines().map(str::to_owned).collect()
}

#[test]
fn a_service_is_found_by_name_alias_and_container_name() {
    needs!(Need::Program("getent"), Need::Program("ip"));
    let stack = stack();
    let db = addresses(&stack, "db");
    assert_eq!(db.len(), 1);
    for name in ["db", "store", "books", &format!("{}-db-1", stack.project())] {
        assert_eq!(resolve(&stack, "app", name).as_deref(), Some(db[0].as_str()), "{name}");
    }
    let app = addresses(&stack, "app");
    assert_eq!(app.len(), 2);
    for (service, name) in [("web", "app"), ("db", "app"), ("db", "logic"), ("side", "app")] {
        let found = resolve(&stack, service, name).unwrap_or_else(|| panic!("{service} does not know {name}"));
        assert!(app.contains(&found), "{service}: {name} is {found}, not one of {app:?}");
    }
}

#[test]
fn a_service_is_not_found_from_a_network_it_is_not_on() {
    needs!(Need::Program("getent"));
    let stack = stack();
    assert_eq!(resolve(&stack, "web", "db"), None);
    assert_eq!(resolve(&stack, "web", "store"), None);
    assert_eq!(resolve(&stack, "db", "web"), None);
    // An alias is of one network only.
    assert_eq!(resolve(&stack, "web", "logic"), None);
}

#[test]
fn a_service_knows_itself_and_localhost() {
    needs!(Need::Program("getent"), Need::Program("hostname"));
    let stack = stack();
    assert_eq!(resolve(&stack, "db", "localhost").as_deref(), Some("127.0.0.1"));
    assert_eq!(stack.exec("db", &["hostname"]), "keeper");
    assert_eq!(resolve(&stack, "db", "keeper"), addresses(&stack, "db").first().cloned());
}

#[test]
fn tcp_and_udp_go_from_service_to_service() {
    needs!(Need::Program("nc"), Need::Program("bash"));
    let stack = Stack::new(
        r#"
services:
  server: {rootfs: host, command: [sh, -c, "nc -lk 7000 </etc/hostname & nc -luk 7001 & echo ready; wait"], hostname: the-server}
  client: {rootfs: host, command: [sleep, infinity], depends_on: [server]}
"#,
    );
    stack.up();
    let answer = wait_for("an answer", || {
        let output = stack.run(&["exec", "client", "sh", "-c", "nc -w 2 -d server 7000"]);
        (!output.stdout.is_empty()).then_some(output.stdout)
    });
    assert_eq!(answer, "the-server\n");
    wait_for("a datagram", || {
        stack.run(&["exec", "client", "bash", "-c", "echo datagram >/dev/udp/server/7001"]).success();
        stack.log("server").contains("datagram").then_some(())
    });
}

#[test]
fn services_on_different_networks_cannot_reach_each_other() {
    needs!(Need::Program("nc"), Need::Program("ip"));
    let stack = Stack::new(
        r#"
services:
  one: {rootfs: host, command: [sh, -c, "nc -lk 7000 </etc/hostname"], networks: [a]}
  two: {rootfs: host, command: [sleep, infinity], networks: [b]}
  near: {rootfs: host, command: [sleep, infinity], networks: [a]}
networks: {a: {}, b: {}}
"#,
    );
    stack.up();
    let address = addresses(&stack, "one").remove(0);
    wait_for("the neighbour to be reached", || {
        (stack.run(&["exec", "near", "nc", "-w", "2", "-z", &address, "7000"]).code == 0).then_some(())
    });
    stack.run(&["exec", "two", "nc", "-w", "2", "-z", &address, "7000"]).failure();
}

#[test]
fn a_service_added_later_is_found_by_those_that_run() {
    needs!(Need::Program("getent"));
    let stack = Stack::new(
        "services: {one: {rootfs: host, command: [sleep, infinity]}, two: {rootfs: host, command: [sleep, infinity]}}",
    );
    stack.run(&["up", "-d", "one"]).success();
    stack.run(&["up", "-d", "two"]).success();
    assert!(resolve(&stack, "one", "two").is_some());
    assert!(resolve(&stack, "two", "one").is_some());
}

#[test]
fn what_is_on_no_network_of_a_service_is_unreachable_at_once() {
    needs!(Need::Program("ip"), Need::Program("python3"));
    let stack = stack();
    let script = "import errno, socket, sys\ns = socket.socket()\ns.settimeout(1000)\nprint(errno.errorcode.get(s.connect_ex((sys.argv[1], 80)), 'connected'))";
    let connect = |from: &str, address: &str| stack.exec(from, &["python3", "-c", script, address]);
    let (web, db) = (addresses(&stack, "web").remove(0), addresses(&stack, "db").remove(0));
    // Nobody listens, so whoever is reached refuses.
    assert_eq!(connect("app", &web), "ECONNREFUSED");
    assert_eq!(connect("app", &db), "ECONNREFUSED");
    // Nothing is waited for; the test's own patience is far shorter than the time given.
    assert_eq!(connect("web", &db), "ENETUNREACH");
    assert_eq!(connect("db", &web), "ENETUNREACH");
    // The address that the stack itself has on the other network is nobody's who listens.
    let gateway = db.rsplit_once('.').map(|(net, _)| format!("{net}.1")).expect("an IPv4 address");
    assert!(matches!(connect("web", &gateway).as_str(), "ECONNREFUSED" | "ENETUNREACH"));
}
