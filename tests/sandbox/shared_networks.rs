//! Networks that stacks share, and many stacks side by side.

use std::{collections::BTreeSet, os::unix::fs::PermissionsExt, thread};

use crate::support::{Need, Stack, needs, wait_for};

/// Two stacks of one account: the second keeps what it keeps where the first does.
struct Pair {
    one: Stack,
    two: String,
}

impl Pair {
    fn new(one: &str, two: &str) -> Self {
        let one = Stack::new(one);
        let two_name = format!("{}-two", one.project());
        one.file("two/stack.yaml", &format!("name: {two_name}\n{two}"));
        Self { one, two: two_name }
    }

    fn two(&self, args: &[&str]) -> crate::support::Output {
        self.one.nscompose().dir(self.one.path("two")).args(args).run()
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let down = || self.one.nscompose().dir("/").args(["-p", &self.two, "down", "-t", "0"]).run().code;
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(down));
    }
}

const SERVER: &str = r#"
services:
  server:
    rootfs: host
    command: [sh, -c, "nc -lk 7000 </etc/hostname"]
    hostname: the-server
    ports: ["127.0.0.1::7000"]
    networks: {proxy: {aliases: [front-door]}}
networks: {proxy: {external: true, name: all-of-us}}
"#;

const CLIENT: &str = r#"
services:
  client: {rootfs: host, command: [sleep, infinity], networks: [all-of-us, default]}
  fixed: {rootfs: host, command: [sleep, infinity], networks: {all-of-us: {ipv4_address: 10.71.0.77}}}
networks: {all-of-us: {external: true}}
"#;

fn leases(stack: &Stack) -> serde_json::Value {
    let shown = stack.run(&["network", "inspect", "all-of-us"]).success();
    let shown: serde_json::Value = serde_json::from_str(&shown.stdout).expect("JSON");
    shown[0]["Stacks"].clone()
}

fn addresses(leases: &serde_json::Value) -> Vec<String> {
    let services = leases
        .as_object()
        .expect("stacks")
        .values()
        .flat_map(|services| services.as_object().expect("services").values());
    let all = services.flat_map(|place| place["addresses"].as_array().expect("addresses"));
    all.map(|address| address.as_str().expect("text").to_owned()).collect()
}

#[test]
fn services_of_two_stacks_meet_on_a_network_that_they_share() {
    needs!(Need::Program("ip"), Need::Program("nc"));
    let pair = Pair::new(SERVER, CLIENT);
    let one = &pair.one;
    let refused = one.run(&["up", "-d"]).failure();
    assert!(refused.stderr.contains("there is no network `all-of-us` that stacks share"), "{refused}");
    assert!(refused.stderr.contains("`nscompose network create all-of-us`"), "{refused}");
    one.run(&["network", "create", "--subnet", "10.71.0.0/24", "--label", "a=b", "all-of-us"]).success();
    one.up();
    pair.two(&["up", "-d"]).success();

    let leases = leases(one);
    let all = addresses(&leases);
    assert_eq!(all.len(), 3);
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 3, "{all:?}");
    assert!(all.contains(&"10.71.0.77".to_owned()), "{all:?}");
    let server = leases[one.project()]["server"]["addresses"][0].as_str().expect("an address").to_owned();
    assert!(
        leases[one.project()]["server"]["names"].as_array().expect("names").iter().any(|name| name == "front-door")
    );
    let exec = |address: &str, from: &str| pair.two(&["exec", from, "nc", "-w", "1", "-d", address, "7000"]).stdout;
    wait_for("an answer from the other stack", || (exec(&server, "client") == "the-server\n").then_some(()));
    // Names of the other stack are found on that network, and nowhere else.
    let found = |from: &str, name: &str| {
        let shown = pair.two(&["exec", from, "getent", "ahostsv4", name]).stdout;
        shown.split_whitespace().next().map(str::to_owned)
    };
    for name in ["server", "front-door", "server.all-of-us", &format!("{}-server-1", one.project())] {
        assert_eq!(found("client", name).as_ref(), Some(&server), "{name}");
    }
    assert_eq!(found("client", "nobody"), None);
    // The server says its name once, and goes on to listen.
    wait_for("the other service", || {
        (pair.two(&["exec", "fixed", "nc", "-w", "1", "-z", &server, "7000"]).code == 0).then_some(())
    });
    // What is published goes to where the service is, which is not in the stack's own network namespace.
    let port =
        one.container("server").ports[0].split("->").next().and_then(|at| at.rsplit(':').next()?.parse::<u16>().ok());
    wait_for("the published port", || std::net::TcpStream::connect(("127.0.0.1", port.expect("a port"))).ok());

    let used = one.run(&["network", "rm", "all-of-us"]).failure();
    assert!(used.stderr.contains("is in use by"), "{used}");
    // The one that made the bridge goes, and the other stays; then it comes again, and finds what there is.
    one.down();
    assert_eq!(pair.two(&["exec", "fixed", "nc", "-w", "1", "-z", "10.71.0.77", "1"]).code, 1);
    one.up();
    wait_for("an answer once more", || (exec(&server, "client") == "the-server\n").then_some(()));
    pair.two(&["down"]).success();
    one.down();
    one.run(&["network", "rm", "all-of-us"]).success();
    assert_eq!(one.run(&["network", "ls", "--names"]).success().stdout, "");
    assert!(!one.home().join("run").exists(), "nothing is left");
}

/// As in a stack of one's own: who does not run is nowhere.
#[test]
fn names_of_other_stacks_are_those_of_what_runs() {
    needs!(Need::Program("dig"));
    let service =
        "rootfs: host, command: [sh, -c, 'until test -e /tmp/stop; do sleep 0.1; done'], networks: [all-of-us]";
    let one = format!(
        "services: {{server: {{{service}}}, other: {{{service}}}}}\nnetworks: {{all-of-us: {{external: true}}}}"
    );
    let pair = Pair::new(&one, CLIENT);
    pair.one.run(&["network", "create", "--subnet=10.71.0.0/24", "all-of-us"]).success();
    pair.two(&["up", "-d"]).success();
    let status = |name: &str| {
        let shown = pair.two(&["exec", "client", "dig", "+tries=1", "+noall", "+comments", name]).success().stdout;
        shown.split("status: ").nth(1).and_then(|rest| rest.split(',').next()).unwrap_or("none").to_owned()
    };
    assert_eq!(status("server"), "NXDOMAIN", "it is not there yet");
    pair.one.up();
    assert_eq!((status("server"), status("other")), ("NOERROR".to_owned(), "NOERROR".to_owned()));
    pair.one.exec("server", &["touch", "/tmp/stop"]);
    wait_for("its end", || (status("server") == "NXDOMAIN").then_some(()));
    assert_eq!(status("other"), "NOERROR", "it runs on");
    pair.one.up();
    wait_for("what is started again", || (status("server") == "NOERROR").then_some(()));
    let kill = |pid: Option<i32>| {
        let pid = nix::unistd::Pid::from_raw(pid.expect("it runs"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("ours");
    };
    // There is another supervisor at once, and the same containers.
    kill(pair.one.supervisor());
    assert_eq!(status("other"), "NOERROR");
    pair.one.up().stderr_has("nothing to do");
    kill(pair.one.keeper());
    wait_for("the end of the stack", || (status("other") == "NXDOMAIN").then_some(()));
    pair.one.up();
    assert_eq!(status("other"), "NOERROR");
    pair.one.down();
    assert_eq!(status("other"), "NXDOMAIN");
}

#[test]
fn an_address_of_another_stack_is_refused_before_anything_starts() {
    needs!(Need::Program("ip"));
    let pair = Pair::new(&CLIENT.replace("client", "other"), CLIENT);
    pair.one.run(&["network", "create", "--subnet=10.71.0.0/24", "all-of-us"]).success();
    pair.one.up();
    let refused = pair.two(&["up", "-d"]).failure();
    let who =
        format!("service `fixed` cannot have 10.71.0.77 on network `all-of-us`: `{}/fixed` has it", pair.one.project());
    assert!(refused.stderr.contains(&who), "{refused}");
    assert_eq!(pair.two(&["ps", "--services"]).stdout, "");
    let kill = |pid: Option<i32>| {
        let pid = nix::unistd::Pid::from_raw(pid.expect("it runs"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("ours");
    };
    // Where only the supervisor was killed the stack goes on, and has what it had.
    kill(pair.one.supervisor());
    pair.two(&["up", "-d"]).failure();
    assert_eq!(pair.one.container("fixed").state, "running");
    // A stack without its keeper has nothing any more.
    kill(pair.one.keeper());
    wait_for("its end", || (leases(&pair.one).as_object().is_some_and(serde_json::Map::is_empty)).then_some(()));
    pair.two(&["up", "-d"]).success();
}

#[test]
fn stacks_that_start_at_the_same_moment_choose_different_addresses() {
    needs!(Need::Program("ip"), Need::Program("nc"));
    let first = Stack::empty();
    first.run(&["network", "create", "--subnet", "10.74.0.0/24", "all-of-us"]).success();
    let names: Vec<String> = (0..8).map(|number| format!("{}-{number}", first.project())).collect();
    for name in &names {
        let file = "services: {one: {rootfs: host, command: [sleep, infinity], networks: [all-of-us]}}";
        let networks = "networks: {all-of-us: {external: true}}";
        first.file(&format!("{name}/stack.yaml"), &format!("name: {name}\n{file}\n{networks}\n"));
    }
    let each = |verb: &(dyn Fn(&str) + Sync)| {
        thread::scope(|scope| {
            for name in &names {
                scope.spawn(move || verb(name));
            }
        });
    };
    each(&|name| {
        first.nscompose().dir(first.path(name)).args(["up", "-d"]).run().success();
    });
    let all = addresses(&leases(&first));
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), names.len(), "{all:?}");
    // All of them are on one bridge.
    for address in &all {
        let nc = ["exec", "one", "nc", "-w", "2", "-z", address, "1"];
        let output = first.nscompose().dir(first.path(&names[0])).args(nc).run();
        assert!(!output.stderr.contains("timed out") && output.code == 1, "nobody at {address}: {output}");
        let neighbours = ["exec", "one", "ip", "neigh", "show", address];
        let shown = first.nscompose().dir(first.path(&names[0])).args(neighbours).run().success().stdout;
        assert!(!shown.contains("FAILED") && !shown.contains("INCOMPLETE"), "{shown}");
    }
    each(&|name| {
        first.nscompose().dir("/").args(["-p", name, "down", "-t", "0"]).run().success();
    });
    first.run(&["network", "rm", "all-of-us"]).success();
    assert!(!first.home().join("run").exists(), "nothing is left");
}

#[test]
fn networks_are_made_as_docker_makes_them() {
    needs!(Need::Program("ip"));
    let stack = Stack::empty();
    let create = |args: &[&str]| stack.nscompose().args(["network", "create"]).args(args).run();
    create(&[
        "--driver",
        "bridge",
        "--subnet",
        "10.72.0.0/16",
        "--subnet",
        "fd72::/64",
        "--gateway",
        "10.72.0.9",
        "--gateway",
        "fd72::9",
        "--ip-range",
        "10.72.5.0/24",
        "--aux-address",
        "printer=10.72.0.7",
        "--ipv6",
        "--internal",
        "--label",
        "a=b",
        "-o",
        "com.docker.network.driver.mtu=1400",
        "full",
    ])
    .success();
    create(&["plain"]).success();
    create(&["other", "--ipv6"]).success();
    let shown = stack.run(&["network", "inspect", "full", "--format", "json"]).success();
    let shown: serde_json::Value = serde_json::from_str(&shown.stdout).expect("JSON");
    assert_eq!(shown[0]["IPv4"]["gateway"], "10.72.0.9");
    assert_eq!(shown[0]["IPv4"]["range"], "10.72.5.0/24");
    assert_eq!(shown[0]["IPv4"]["reserved"]["printer"], "10.72.0.7");
    assert_eq!(shown[0]["IPv6"]["gateway"], "fd72::9");
    assert_eq!(shown[0]["Options"]["mtu"], 1400);
    assert_eq!((&shown[0]["Internal"], &shown[0]["Labels"]["a"]), (&true.into(), &"b".into()));
    let list = stack.run(&["network", "ls", "--format", "json"]).success().stdout;
    let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
    let subnets: BTreeSet<String> =
        list.as_array().expect("networks").iter().map(|network| network["IPv4"]["subnet"].to_string()).collect();
    assert_eq!(subnets.len(), 3, "{subnets:?}");
    for (args, message) in [
        (&["plain"][..], "there is a network `plain` already"),
        (&["--subnet", "10.72.9.0/24", "x"], "overlaps 10.72.0.0/16 of network `full`"),
        (&["--subnet", "10.73.0.1/24", "x"], "is an address in a subnet, and not the subnet"),
        (&["--subnet", "10.73.0.0/24", "--gateway", "10.74.0.1", "x"], "10.74.0.1 is not in subnet 10.73.0.0/24"),
        (&["--gateway", "10.74.0.1", "x"], "needs a subnet"),
        (&["--driver", "macvlan", "x"], "`driver: macvlan` is not supported yet"),
        (&["host"], "is the name of something else"),
        (&["a b"], "is not a valid network name"),
    ] {
        let refused = create(args).failure();
        assert!(refused.stderr.contains(message), "{refused}");
    }
    stack.run(&["network", "rm", "full", "plain", "other"]).success();
    let none = stack.run(&["network", "inspect", "full"]).failure();
    assert!(none.stderr.contains("there is no network `full`"), "{none}");
}

#[test]
fn what_somebody_else_could_have_written_is_not_read() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {a: {rootfs: host, command: [sleep, infinity]}}");
    stack.run(&["network", "create", "all-of-us"]).success();
    // As where XDG_RUNTIME_DIR is not set, and another account was there first.
    let runtime = stack.home().join("run");
    let leases = runtime.join("v1/.networks/all-of-us");
    std::fs::create_dir_all(&leases).expect("folders");
    nix::unistd::mkfifo(&leases.join("trap.json"), nix::sys::stat::Mode::from_bits_truncate(0o666)).expect("a pipe");
    std::fs::set_permissions(&runtime, std::fs::Permissions::from_mode(0o777)).expect("our folder");
    for verb in [&["network", "ls"][..], &["network", "inspect", "all-of-us"], &["network", "rm", "all-of-us"]] {
        stack.run(verb).failure().stderr_has("is not a folder that only you can write to");
    }
}

#[test]
fn subnets_come_from_the_pools_that_were_set() {
    needs!(Need::Program("ip"));
    let stack = Stack::new(
        "services: {one: {rootfs: host, command: [sleep, infinity], networks: [a, b]}}\nnetworks: {a: {enable_ipv6: true}, b: }",
    );
    let pools = "10.99.0.0/23:24, fd99::/48:64";
    stack.nscompose().env("NSCOMPOSE_ADDRESS_POOLS", pools).args(["up", "-d"]).run().success();
    let shown = stack.sh("one", "ip -o addr show scope global | awk '{print $4}'");
    let shown: BTreeSet<&str> = shown.lines().collect();
    assert_eq!(shown, BTreeSet::from(["10.99.0.2/24", "10.99.1.2/24", "fd99::2/64"]));
    let wrong = stack.nscompose().env("NSCOMPOSE_ADDRESS_POOLS", "10.0.0.0").args(["plan"]).run().failure();
    assert!(wrong.stderr.contains("is not a pool of addresses"), "{wrong}");
    let config = stack.user_home().join(".config/nscompose");
    std::fs::create_dir_all(&config).expect("a folder");
    std::fs::write(config.join("config.yaml"), "networks: {default_address_pools: ['10.98.0.0/24:28']}")
        .expect("a file");
    stack.down();
    stack.up();
    assert!(stack.sh("one", "ip -o addr").contains("10.98.0.2/28"));
}

/// Every stack has networks of its own, whose subnets may be the same: they meet nowhere.
#[test]
fn fifty_stacks_come_up_side_by_side() {
    needs!(Need::Program("ip"));
    let first = Stack::empty();
    let names: Vec<String> = (0..50).map(|number| format!("{}-{number}", first.project())).collect();
    for name in &names {
        let file =
            "services: {one: {rootfs: host, command: [sleep, infinity]}}\nnetworks: {default: {enable_ipv6: true}}\n";
        first.file(&format!("{name}/stack.yaml"), &format!("name: {name}\n{file}"));
    }
    // As many at a time as would be typed by very many people.
    thread::scope(|scope| {
        let first = &first;
        for names in names.chunks(5) {
            scope.spawn(move || {
                for name in names {
                    first.nscompose().dir(first.path(name)).args(["up", "-d"]).run().success();
                }
            });
        }
    });
    for name in &names {
        let shown = first
            .nscompose()
            .dir(first.path(name))
            .args(["exec", "one", "ip", "-o", "addr", "show", "dev", "eth0"])
            .run()
            .success();
        assert!(
            shown.stdout.contains("172.") || shown.stdout.contains("192.168.") || shown.stdout.contains("10."),
            "{shown}"
        );
        assert!(shown.stdout.contains("fd"), "{shown}");
    }
    thread::scope(|scope| {
        let first = &first;
        for names in names.chunks(5) {
            scope.spawn(move || {
                for name in names {
                    first.nscompose().dir("/").args(["-p", name, "down", "-t", "0"]).run().success();
                }
            });
        }
    });
    assert!(!first.home().join("run").exists(), "nothing is left");
}
