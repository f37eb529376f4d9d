//! Whatever happens to a stack, nothing is left of it: no process, namespace, mount, link, firewall rule, control group,
//! socket or file, but for named volumes.

mod support;

use std::{
    io::IoSlice,
    os::{fd::AsRawFd, unix::net::UnixStream},
    sync::RwLock,
};

use nix::{
    sys::{
        signal::{Signal, kill},
        socket::{ControlMessage, MsgFlags, sendmsg},
    },
    unistd::Pid,
};
use support::{Need, Stack, needs, wait_for};

/// Everything that a stack can have: networks, a port, a volume, a shared pid namespace, an init.
fn rich(port: u16) -> Stack {
    Stack::new(&format!(
        r#"
services:
  db:
    rootfs: host
    command: [sleep, infinity]
    volumes: ["data:/data", /anonymous]
    tmpfs: /scratch
  web:
    rootfs: host
    command: [sleep, infinity]
    depends_on: [db]
    init: true
    networks: [front, default]
    ports: ["127.0.0.1:{port}:80"]
  side:
    rootfs: host
    command: [sleep, infinity]
    network_mode: service:web
    ipc: service:web
    pid: service:web
  watcher:
    rootfs: host
    command: [sh, -c, "sleep 1000 & sleep infinity"]
    network_mode: none
networks: {{front: {{}}}}
volumes: {{data: {{}}}}
"#
    ))
}

#[test]
fn three_services_come_up_and_leave_nothing() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {one: {rootfs: host, command: [sleep, infinity]}, two: {rootfs: host, command: [sleep, infinity]}, three: {rootfs: host, command: [sleep, infinity]}}",
    );
    stack.up();
    let containers = stack.ps();
    let shown: Vec<(&str, &str)> = containers.iter().map(|c| (c.service.as_str(), c.state.as_str())).collect();
    assert_eq!(shown, [("one", "running"), ("three", "running"), ("two", "running")]);
    let traces = stack.traces();
    // Three programs, the supervisor and its keeper; without them the test would see nothing go.
    assert!(traces.processes.len() >= 5, "{traces:?}");
    assert!(traces.namespaces.len() >= 3 * 6, "{traces:?}");
    stack.down();
    traces.assert_gone();
}

#[test]
fn a_stack_with_everything_leaves_nothing_but_its_volume() {
    needs!(Need::Namespaces);
    let stack = rich(support::free_port());
    stack.up();
    let traces = stack.traces();
    stack.down();
    traces.assert_gone_but_volumes(&["data"]);
    stack.run(&["down", "-v"]).success();
    traces.assert_gone();
}

#[test]
fn every_kind_of_thing_is_seen_while_it_is_there() {
    needs!(Need::Root, Need::Cgroups);
    let stack = rich(support::free_port());
    stack.up();
    let left = stack.traces().left(&[]).join("\n");
    for kind in ["process ", "namespace net:", "namespace user:", "mount ", "socket ", "control group ", "on disk "] {
        assert!(left.lines().any(|line| line.starts_with(kind)), "no {kind} in\n{left}");
    }
}

#[test]
fn an_up_that_fails_half_way_leaves_nothing_and_says_what_failed() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"
services:
  one: {rootfs: host, command: [sleep, infinity]}
  two: {rootfs: host, command: [sleep, infinity], depends_on: [one]}
  three: {rootfs: host, command: [no-such-program, --flag], depends_on: [two]}
  four: {rootfs: host, command: [sleep, infinity], depends_on: [three]}
  five: {rootfs: host, command: [sleep, infinity]}
"#,
    );
    for arguments in [&["up", "-d"][..], &["up"]] {
        let watch = stack.watch();
        let output = stack.run(arguments).failure();
        let traces = watch.finish();
        let output = output.stderr_has("`three`").stderr_has("no-such-program");
        assert!(!output.stderr.contains("four started"), "{output}");
        traces.assert_gone();
    }
}

#[test]
fn a_killed_foreground_up_leaves_nothing() {
    needs!(Need::Namespaces);
    let stack = rich(support::free_port());
    let mut up = stack.up_in_foreground(&[]);
    for service in ["db", "web", "side", "watcher"] {
        up.expect_stderr(&format!("{service} started"));
    }
    let traces = stack.traces();
    up.signal(Signal::SIGKILL);
    assert_eq!(up.wait().code, 137);
    traces.assert_gone_but_volumes(&["data"]);
}

#[test]
fn an_up_killed_while_it_starts_leaves_nothing() {
    needs!(Need::Namespaces);
    // From the first thing that the supervisor makes on: each round later than the one before.
    for sign in ["run/v1/{}", "run/v1/{}/control.sock", "run/v1/{}/journal", "data/v1/stacks/{}/containers"] {
        let stack = rich(support::free_port());
        let watch = stack.watch();
        let up = stack.up_in_foreground(&[]);
        let sign = stack.home().join(sign.replace("{}", stack.project()));
        wait_for(&sign.display().to_string(), || sign.exists().then_some(()));
        up.signal(Signal::SIGKILL);
        assert_eq!(up.wait().code, 137);
        let traces = watch.finish();
        // The volume may or may not have been made by then.
        let volumes: &[&str] = if wait_made(&stack) { &["data"] } else { &[] };
        traces.assert_gone_but_volumes(volumes);
    }
}

/// Whether the stack has made its volume, when its supervisor has ended.
fn wait_made(stack: &Stack) -> bool {
    let lock = stack.home().join(format!("run/v1/{}.lock", stack.project()));
    wait_for("the end of the supervisor", || (!lock.exists()).then_some(()));
    stack.volume("data").exists()
}

#[test]
fn down_cleans_up_after_a_killed_supervisor() {
    needs!(Need::Namespaces);
    let stack = rich(support::free_port());
    stack.up();
    let traces = stack.traces();
    kill(Pid::from_raw(stack.supervisor().expect("a supervisor")), Signal::SIGKILL).expect("ours");
    stack.down();
    traces.assert_gone_but_volumes(&["data"]);
}

#[test]
fn up_works_after_a_killed_supervisor_and_its_keeper() {
    needs!(Need::Namespaces);
    let stack = rich(support::free_port());
    stack.up();
    let before = stack.traces();
    // The keeper first, or it would start another supervisor.
    for wanted in ["nsc-keeper", "nscompose"] {
        for ((pid, _), _) in before.processes.iter().filter(|(_, name)| *name == wanted) {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
    }
    stack.up();
    assert!(stack.ps().iter().all(|container| container.state == "running"));
    let after = stack.traces();
    stack.down();
    before.assert_gone_but_volumes(&["data"]);
    after.assert_gone_but_volumes(&["data"]);
}

#[test]
fn a_terminated_supervisor_takes_its_stack_down() {
    needs!(Need::Namespaces);
    let stack = rich(support::free_port());
    // It is called as the command that has started it, so people hit it with what they mean for that one.
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
        stack.up();
        let traces = stack.traces();
        kill(Pid::from_raw(stack.supervisor().expect("a supervisor")), signal).expect("ours");
        traces.assert_gone_but_volumes(&["data"]);
    }
}

#[test]
fn a_stack_whose_services_have_all_ended_goes_down() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {one: {rootfs: host, command: [sh, -c, 'exit 3']}, two: {rootfs: host, command: ['true']}}",
    );
    stack.up();
    assert_eq!(stack.exit_code("one"), 3);
    assert_eq!(stack.exit_code("two"), 0);
    let traces = stack.traces();
    stack.down();
    traces.assert_gone();
}

#[test]
fn down_of_a_stack_that_is_not_up_is_fine() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {one: {rootfs: host, command: [sleep, infinity]}}");
    stack.down().stderr_has("is not up");
    stack.traces().assert_gone();
}

#[test]
fn grandchildren_that_left_their_parents_end_with_the_stack() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {one: {rootfs: host, command: [sh, -c, 'setsid sh -c \"setsid sleep 1000 & echo away\" & sleep infinity']}}",
    );
    stack.up();
    stack.log_with("one", "away");
    // The one that left is there before it has become a `sleep`.
    let traces = wait_for("both of them", || {
        let traces = stack.traces();
        (traces.processes.values().filter(|name| *name == "sleep").count() >= 2).then_some(traces)
    });
    stack.down();
    traces.assert_gone();
}

#[test]
fn a_killed_keeper_takes_its_stack_down() {
    needs!(Need::Namespaces);
    let stack = rich(support::free_port());
    stack.up();
    let traces = stack.traces();
    let keeper = traces.processes.iter().find(|(_, name)| *name == "nsc-keeper");
    let ((pid, _), _) = keeper.unwrap_or_else(|| panic!("no keeper: {traces:?}"));
    kill(Pid::from_raw(*pid), Signal::SIGKILL).expect("ours");
    traces.assert_gone_but_volumes(&["data"]);
    stack.up();
    stack.run(&["down", "-v"]).success();
    traces.assert_gone();
}

/// Nobody is there who would have to know of them, such as one that has just been started.
#[test]
fn without_supervisor_and_keeper_no_process_goes_on() {
    needs!(Need::Namespaces);
    let stack = rich(support::free_port());
    stack.up();
    let traces = stack.traces();
    let pid = |pid: Option<i32>| Pid::from_raw(pid.expect("it runs"));
    let (keeper, supervisor) = (pid(stack.keeper()), pid(stack.supervisor()));
    // It starts no other supervisor.
    kill(keeper, Signal::SIGSTOP).expect("ours");
    for process in [supervisor, keeper] {
        kill(process, Signal::SIGKILL).expect("ours");
    }
    wait_for("the end of all processes", || {
        let left = traces.left(&["data"]);
        (!left.iter().any(|line| line.starts_with("process "))).then_some(())
    });
    stack.down();
    traces.assert_gone_but_volumes(&["data"]);
}

#[test]
fn an_up_killed_while_it_waits_for_a_down_leaves_nothing() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"services: {web: {rootfs: host, command: [sh, -c, "trap 'touch /ctl/stopping; while ! test -e /ctl/go; do sleep 0.02; done; exit 0' TERM; echo ready; while :; do sleep 0.02; done"], volumes: ["./ctl:/ctl"], stop_grace_period: 1h}}"#,
    );
    stack.file("ctl/x", "");
    stack.up();
    stack.log_with("web", "ready");
    let traces = stack.traces();
    let down = stack.nscompose().arg("down").start();
    wait_for("the handler", || stack.path("ctl/stopping").exists().then_some(()));
    let mut up = stack.up_in_foreground(&[]);
    // It has asked for the stack, and waits, once it has a connection and does nothing any more.
    let file = |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", up.pid())).unwrap_or_default();
    let mut seen = (String::new(), 0);
    wait_for("it to wait", || {
        let open = std::fs::read_dir(format!("/proc/{}/fd", up.pid())).into_iter().flatten().flatten();
        let mut targets = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        let connected = targets.any(|target| target.to_string_lossy().starts_with("socket:["));
        let switches = file("status").lines().filter(|line| line.contains("ctxt_switches")).collect::<String>();
        let idle = connected && switches == seen.0;
        seen = (switches, if idle { seen.1 + 1 } else { 0 });
        (seen.1 > 20).then_some(())
    });
    assert!(up.is_running());
    up.signal(Signal::SIGKILL);
    assert_eq!(up.wait().code, 137);
    stack.file("ctl/go", "");
    down.wait().success();
    traces.assert_gone();
    assert!(stack.ps().is_empty());
    assert_eq!(stack.supervisor(), None);
}

#[test]
fn two_hundred_services_come_up_and_leave_nothing_with_few_descriptors() {
    needs!(Need::Namespaces);
    // Each container hands one out on its way.
    let _many = UNDER_WAY.write();
    // The traces hold each of their namespaces open.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).expect("raised");
    let services: String =
        (0..200).map(|i| format!("  s{i}: {{rootfs: host, command: [sleep, infinity]}}\n")).collect();
    let stack = Stack::new(&format!("services:\n{services}"));
    up_with_descriptors(&stack, "-Sn 1024").success();
    let containers = stack.ps();
    assert_eq!(containers.len(), 200);
    assert!(containers.iter().all(|container| container.state == "running"), "{containers:?}");
    let traces = stack.traces();
    stack.down();
    traces.assert_gone();
}

/// `up -d` with these limits of open files.
fn up_with_descriptors(stack: &Stack, limits: &str) -> support::Output {
    let script =
        format!("ulimit {limits} && exec {} --home {} up -d", env!("CARGO_BIN_EXE_nscompose"), stack.home().display());
    support::Run::new("sh").args(["-c", &script]).dir(stack.path("")).env("HOME", stack.user_home()).run()
}

/// EMFILE, wherever it was that no more could be opened.
fn assert_too_many(failed: &support::Output) {
    assert!(failed.stderr.to_lowercase().contains("too many open files"), "{failed}");
}

/// Descriptors under way are counted for the user, and so for all tests: whoever has many of them writes, and whoever has
/// stacks with a low limit reads.
static UNDER_WAY: RwLock<()> = RwLock::new(());

/// Three hundred descriptors that are under way until this is dropped.
fn under_way() -> (UnixStream, UnixStream) {
    let (near, far) = UnixStream::pair().expect("sockets");
    let file = std::fs::File::open("/dev/null").expect("a file");
    let rights = [ControlMessage::ScmRights(&[file.as_raw_fd(); 10])];
    for _ in 0..30 {
        let byte = [IoSlice::new(b"x")];
        sendmsg::<()>(near.as_raw_fd(), &byte, &rights, MsgFlags::empty(), None).expect("room for it");
    }
    (near, far)
}

#[test]
fn too_few_descriptors_are_an_error_and_what_runs_goes_on() {
    needs!(Need::Namespaces);
    let _few = UNDER_WAY.read();
    let services = |n: u32| -> String {
        (0..n).map(|i| format!("  s{i}: {{rootfs: host, command: [sleep, infinity]}}\n")).collect()
    };
    let stack = Stack::new(&format!("services:\n{}", services(1)));
    // The supervisor keeps the limit of who has started it.
    up_with_descriptors(&stack, "-n 150").success();
    let before = stack.pid("s0");
    stack.file("stack.yaml", &format!("name: {}\nservices:\n{}", stack.project(), services(60)));
    let failed = stack.run(&["up", "-d"]).failure();
    assert_too_many(&failed);
    assert_eq!(stack.ps().len(), 1, "the others have been undone");
    assert_eq!(stack.pid("s0"), before);
    stack.file("stack.yaml", &format!("name: {}\nservices:\n{}", stack.project(), services(3)));
    stack.run(&["up", "-d"]).success();
    assert_eq!((stack.ps().len(), stack.pid("s0")), (3, before));
    let traces = stack.traces();
    stack.down();
    traces.assert_gone();
    // Not even the first one has room.
    let failed = up_with_descriptors(&stack, "-n 24").failure();
    assert_too_many(&failed);
    stack.traces().assert_gone();
}

/// The kernel counts those of all processes of a user (unix(7), ETOOMANYREFS), but for root's.
#[test]
fn descriptors_of_others_that_are_under_way_are_told_as_too_many_open_files() {
    needs!(Need::OrdinaryUser, Need::Namespaces);
    let _many = UNDER_WAY.write();
    let those = under_way();
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity]}}");
    let failed = up_with_descriptors(&stack, "-n 150").failure();
    assert_too_many(&failed);
    stack.traces().assert_gone();
    drop(those);
    up_with_descriptors(&stack, "-n 150").success();
    let traces = stack.traces();
    stack.down();
    traces.assert_gone();
}

/// One that runs, one to start again, and one that shares a pid namespace whose first process the keeper makes.
const THREE: &str = "services: {s0: {rootfs: host, command: [sleep, infinity]}, s1: {rootfs: host, command: [sleep, infinity]}, \
                     s2: {rootfs: host, command: [sleep, infinity], pid: 'service:s1'}}";

/// What fails for want of room on the way says so; what runs goes on; and with room again all of it works.
fn what_runs_goes_on_without_room(stack: &Stack, without_room: impl FnOnce()) {
    let before = stack.pid("s0");
    // Helpers that have ended may not be collected yet.
    let children = || {
        let keeper = stack.keeper().expect("a keeper");
        let children = std::fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).expect("the keeper");
        let lives = |pid: &&str| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
        };
        children.split_ascii_whitespace().filter(lives).count()
    };
    wait_for("helpers to end", || (children() == 4).then_some(()));
    let those = under_way();
    without_room();
    for command in [&["exec", "s0", "touch", "/exec-has-run"][..], &["restart", "-t", "0", "s1"], &["up", "-d"]] {
        let failed = stack.run(command).failure();
        assert_too_many(&failed);
        assert!(failed.stderr.contains("raise the hard limit"), "{failed}");
        assert_eq!(stack.pid("s0"), before);
    }
    drop(those);
    stack.run(&["exec", "s0", "test", "!", "-e", "/exec-has-run"]).success();
    stack.run(&["up", "-d"]).success();
    assert_eq!((stack.ps().len(), stack.pid("s0")), (3, before));
    wait_for("what was not handed over to go", || (children() == 4).then_some(()));
    let traces = stack.traces();
    stack.run(&["down", "-t", "0"]).success();
    traces.assert_gone();
}

#[test]
fn a_supervisor_that_cannot_send_descriptors_says_so_and_what_runs_goes_on() {
    needs!(Need::OrdinaryUser, Need::Namespaces);
    let _many = UNDER_WAY.write();
    let stack = Stack::new(THREE);
    up_with_descriptors(&stack, "-n 150").success();
    what_runs_goes_on_without_room(&stack, || ());
}

#[test]
fn a_keeper_that_cannot_send_descriptors_says_so_and_what_runs_goes_on() {
    needs!(Need::OrdinaryUser, Need::Namespaces);
    let _many = UNDER_WAY.write();
    let stack = Stack::new(THREE);
    stack.run(&["up", "-d"]).success();
    what_runs_goes_on_without_room(&stack, || {
        let keeper = rustix::process::Pid::from_raw(stack.keeper().expect("a keeper"));
        let nofile = rustix::process::Resource::Nofile;
        let low = rustix::process::Rlimit { current: Some(100), ..rustix::process::getrlimit(nofile) };
        rustix::process::prlimit(keeper, nofile, low).expect("a limit");
    });
}

#[test]
fn a_hundred_rounds_leave_nothing() {
    needs!(Need::Namespaces);
    let stack = rich(support::free_port());
    let mut traces = stack.traces();
    for round in 0..100 {
        stack.up();
        if round % 20 == 0 {
            traces.look();
        }
        stack.run(&["down", "-t", "0"]).success();
    }
    traces.assert_gone_but_volumes(&["data"]);
}

/// What a supervisor and its keeper hold, and what is in the network of their stack.
#[derive(Debug, PartialEq)]
struct Held {
    descriptors: usize,
    threads: usize,
    mounts: usize,
    groups: usize,
    links: usize,
    rules: usize,
}

impl Held {
    fn by(stack: &Stack) -> Self {
        let (supervisor, keeper) = (stack.supervisor().expect("a supervisor"), stack.keeper().expect("a keeper"));
        let entries = |path: String| std::fs::read_dir(path).map_or(0, Iterator::count);
        let both = |what: &str| [supervisor, keeper].map(|pid| entries(format!("/proc/{pid}/{what}"))).iter().sum();
        let mounts = std::fs::read_to_string(format!("/proc/{keeper}/mountinfo")).expect("a keeper");
        let users = format!("--user=/proc/{keeper}/ns/user");
        let network = std::fs::read_dir(format!("/proc/{keeper}/fd")).expect("ours").flatten().find(|fd| {
            let target = std::fs::read_link(fd.path()).unwrap_or_default();
            target.to_string_lossy().starts_with("net:[")
        });
        let network = format!("--net={}", network.expect("the network of the stack").path().display());
        let inside = |command: &[&str]| {
            let users = (!support::is_root()).then_some([users.as_str(), "--preserve-credentials"]);
            let run = support::Run::new("nsenter").arg(&network).args(users.iter().flatten()).args(command).run();
            run.success().stdout.lines().count()
        };
        Self {
            descriptors: both("fd"),
            threads: both("task"),
            mounts: mounts.lines().count(),
            groups: stack.traces().cgroups.len(),
            links: inside(&["ip", "-o", "link"]),
            rules: inside(&["nft", "list", "ruleset"]),
        }
    }
}

#[test]
fn a_hundred_rounds_beside_a_service_that_stays_leave_the_counts_where_they_were() {
    needs!(Need::Namespaces, Need::Program("nft"));
    let port = support::free_port();
    let stack = Stack::new(&format!(
        r#"
services:
  stays: {{rootfs: host, command: [sleep, infinity]}}
  web:
    rootfs: host
    command: [sh, -c, "echo here; exec sleep infinity"]
    ports: ["127.0.0.1:{port}:80"]
    volumes: [/anonymous]
    networks: [default, front]
    post_start: [{{command: ["true"]}}]
    healthcheck: {{test: "true", interval: 10ms}}
  side: {{rootfs: host, command: [sleep, infinity], network_mode: "service:web", pid: "service:web", ipc: "service:web"}}
networks: {{front: {{}}}}
"#
    ));
    stack.up();
    let pid = stack.pid("stays");
    let round = || {
        stack.run(&["rm", "-s", "-f", "-v", "web", "side"]).success();
        stack.run(&["up", "-d"]).success();
    };
    // What is made when it is first wanted, such as threads, is there by then.
    (0..3).for_each(|_| round());
    let quiet = || stack.run(&["stop", "web", "side"]).success();
    quiet();
    let before = wait_for("calm", || Some(Held::by(&stack)).filter(|held| *held == Held::by(&stack)));
    for _ in 0..100 {
        round();
    }
    quiet();
    // Idle threads for blocking work end after some seconds.
    let mut after = Held::by(&stack);
    let settled = || {
        after = Held::by(&stack);
        (Held { threads: 0, ..after } == Held { threads: 0, ..before } && after.threads <= before.threads + 2)
            .then_some(())
    };
    support::wait_for(&format!("the counts of {before:?}"), settled);
    assert_eq!(stack.pid("stays"), pid);
    let journal = stack.home().join(format!("run/v1/{}/journal", stack.project()));
    let size = std::fs::metadata(journal).expect("a journal").len();
    assert!(size < 512 * 1024, "the journal has {size} bytes");
    let traces = stack.traces();
    stack.down();
    traces.assert_gone();
}

#[test]
fn commands_at_the_same_moment_take_turns() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {one: {rootfs: host, command: [sleep, infinity]}, two: {rootfs: host, command: [sleep, infinity]}}",
    );
    let start = |command: &[&str]| stack.nscompose().args(command.iter().copied()).start();
    let ups: Vec<_> = (0..5).map(|_| start(&["up", "-d"])).collect();
    ups.into_iter().for_each(|up| drop(up.wait().success()));
    // Each container was made once.
    let made = stack.run(&["events", "--json", "--since", "10m", "--until", "0s"]).success().stdout;
    assert_eq!(made.lines().filter(|line| line.contains("\"create\"")).count(), 2, "{made}");
    for _ in 0..10 {
        let both = [start(&["up", "-d"]), start(&["down", "-t", "0"]), start(&["up", "-d"]), start(&["ps"])];
        for command in both {
            let output = command.wait();
            // Who was about to bring something up that another one takes down is told so.
            assert!(output.code == 0 || output.stderr.contains("is being taken down"), "{output}");
        }
    }
    let traces = stack.traces();
    stack.down();
    traces.assert_gone();
}
