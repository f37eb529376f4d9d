//! `kill -9` of the supervisor, at any moment: containers, names, ports and logs go on, and the next command goes on with them.

#![expect(clippy::print_stderr, reason = "what a failure is repeated with")]

use std::{collections::BTreeMap, fs, io::Read, net::TcpStream, path::Path, thread, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::support::{self, Need, Run, Stack, Started, needs, wait_for};

/// Numbers that look random; xorshift64*.
struct Random(u64);

impl Random {
    /// From NSCOMPOSE_TEST_SEED, or the time; it is printed, to be set when the test fails.
    fn new() -> Self {
        let time =
            || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |t| t.as_nanos() as u64);
        let seed = std::env::var("NSCOMPOSE_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(time);
        eprintln!("NSCOMPOSE_TEST_SEED={seed}");
        Self(seed.max(1))
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }

    /// A random moment is what is wanted here, and nothing is expected of it.
    fn moment(&mut self, longest: Duration) {
        thread::sleep(Duration::from_micros(self.below(longest.as_micros() as u64)));
    }
}

/// Kills the supervisor if there is one beside the command `but`; whether there was one.
pub(super) fn kill_supervisor(stack: &Stack, but: i32) -> bool {
    let Some(pid) = stack.supervisor().filter(|pid| *pid != but) else { return false };
    let ours = fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "nscompose");
    ours && kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok()
}

/// Kills the supervisor that there is, and waits until it is another one's turn.
#[track_caller]
pub(super) fn kill_and_wait(stack: &Stack) {
    let before = stack.supervisor().expect("a supervisor");
    assert!(kill_supervisor(stack, 0), "no supervisor {before}");
    wait_for("the next supervisor", || stack.supervisor().filter(|pid| *pid != before));
}

/// First processes and the inodes of their namespaces.
fn identity(stack: &Stack) -> BTreeMap<String, (Option<i32>, Vec<String>)> {
    let of = |pid: i32| {
        const KINDS: [&str; 7] = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];
        let links = KINDS.iter().filter_map(|kind| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok());
        links.map(|link| link.display().to_string()).collect::<Vec<_>>()
    };
    let containers = stack.ps().into_iter();
    containers.map(|c| (c.name, (c.pid, c.pid.map(of).unwrap_or_default()))).collect()
}

/// Prints numbered lines, some of them in two pieces.
const COUNTER: &str = "i=0; while [ $$i -lt 20000 ]; do printf 'line '; echo $$i; echo error $$i >&2; i=$$((i+1)); done; touch /ctl/done; exec sleep infinity";

#[track_caller]
fn assert_counted(log: &str, word: &str, end: usize) {
    let lines: Vec<&str> = log.lines().filter(|line| line.starts_with(word)).collect();
    for (i, line) in lines.iter().enumerate() {
        assert_eq!(*line, format!("{word} {i}"), "in line {i} of {}", lines.len());
    }
    assert_eq!(lines.len(), end, "some are missing at the end");
}

#[test]
fn containers_names_ports_and_logs_outlive_it() {
    needs!(Need::Namespaces, Need::Program("nc"));
    let port = support::free_port();
    let stack = Stack::new(&format!(
        r#"
services:
  counter:
    rootfs: host
    command: [sh, -c, "{COUNTER}"]
    volumes: ["./ctl:/ctl"]
    logging: {{options: {{max-size: 50k, max-file: "1000"}}}}
  server:
    rootfs: host
    command: [sh, -c, "while :; do echo hello | nc -l -p 80 -q 0; done"]
    ports: ["127.0.0.1:{port}:80"]
    volumes: ["data:/data"]
  beside: {{rootfs: host, command: [sleep, infinity], network_mode: "service:server", pid: "service:server", ipc: "service:server"}}
  typed: {{rootfs: host, command: [cat], tty: true, stdin_open: true}}
volumes: {{data: {{}}}}
"#
    ));
    stack.file("ctl/x", "");
    fs::set_permissions(stack.path("ctl"), std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("ours");
    stack.up();
    let before = identity(&stack);
    assert!(before.values().all(|(pid, namespaces)| pid.is_some() && namespaces.len() == 7), "{before:?}");
    let mut random = Random::new();
    let mut kills = 0;
    // Under a storm of lines, as long as it blows.
    while kills < 10 || !stack.path("ctl/done").exists() {
        kill_and_wait(&stack);
        kills += 1;
        random.moment(Duration::from_millis(100));
    }
    eprintln!("{kills} kills");
    assert_eq!(identity(&stack), before);
    assert!(stack.ps().iter().all(|container| container.state == "running"));
    for client in ["counter", "beside"] {
        assert!(stack.exec(client, &["getent", "hosts", "counter"]).contains("counter"));
    }
    wait_for("an answer at the port", || {
        let mut answer = String::new();
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.read_to_string(&mut answer).ok()?;
        (answer == "hello\n").then_some(())
    });
    let log = wait_for("the last lines", || {
        let log = stack.log("counter");
        (log.contains("line 19999") && log.contains("error 19999")).then_some(log)
    });
    assert_counted(&log, "line", 20000);
    assert_counted(&log, "error", 20000);
    // Nothing is to be done.
    stack.run(&["up", "-d"]).success().stderr_has("nothing to do");
    assert_eq!(identity(&stack), before);
    let traces = stack.traces();
    assert!(traces.processes.values().any(|name| name == "nsc-keeper"), "{traces:?}");
    stack.down();
    traces.assert_gone_but_volumes(&["data"]);
}

#[test]
fn how_a_container_ended_meanwhile_is_known() {
    needs!(Need::Namespaces);
    let port = support::free_port();
    let stack = Stack::new(&format!(
        r#"services: {{web: {{rootfs: host, command: [sh, -c, "while ! test -e /ctl/go; do sleep 0.02; done; echo the last; exit 7"], volumes: ["./ctl:/ctl"], ports: ["127.0.0.1:{port}:80"]}}, other: {{rootfs: host, command: [sleep, infinity]}}}}"#
    ));
    stack.file("ctl/x", "");
    stack.up();
    let pid = stack.pid("web");
    // The keeper cannot start another one while it is stopped.
    let keeper = Pid::from_raw(stack.keeper().expect("a keeper"));
    kill(keeper, Signal::SIGSTOP).expect("ours");
    assert!(kill_supervisor(&stack, 0));
    stack.file("ctl/go", "");
    wait_for("its end", || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.contains(") Z ").then_some(())
    });
    kill(keeper, Signal::SIGCONT).expect("ours");
    assert_eq!(stack.exit_code("web"), 7);
    stack.log_with("web", "the last");
    // Nobody has its port any more.
    wait_for("the port", || std::net::TcpListener::bind(("127.0.0.1", port)).ok());
    kill_and_wait(&stack);
    assert_eq!(stack.exit_code("web"), 7);
    let traces = stack.traces();
    stack.down();
    traces.assert_gone();
}

#[test]
fn a_foreground_up_goes_on_with_the_next_one() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"services: {web: {rootfs: host, command: [sh, -c, "while :; do if test -e /ctl/say; then rm /ctl/say; echo said; fi; sleep 0.02; done"], volumes: ["./ctl:/ctl"]}}"#,
    );
    stack.file("ctl/x", "");
    fs::set_permissions(stack.path("ctl"), std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("ours");
    let mut up = stack.up_in_foreground(&[]);
    up.expect_stderr("web started");
    let pid = stack.pid("web");
    for _ in 0..3 {
        kill_and_wait(&stack);
    }
    stack.file("ctl/say", "");
    fs::set_permissions(stack.path("ctl/say"), std::os::unix::fs::PermissionsExt::from_mode(0o666)).expect("ours");
    up.expect_stdout("said");
    assert_eq!(stack.pid("web"), pid);
    let traces = stack.traces();
    up.signal(Signal::SIGINT);
    assert_eq!(up.wait().code, 130);
    traces.assert_gone();
    // Without its owner a stack goes down, whichever supervisor it has by then.
    let mut up = stack.up_in_foreground(&[]);
    up.expect_stderr("web started");
    let traces = stack.traces();
    let keeper = Pid::from_raw(stack.keeper().expect("a keeper"));
    kill(keeper, Signal::SIGSTOP).expect("ours");
    assert!(kill_supervisor(&stack, 0));
    up.signal(Signal::SIGKILL);
    assert_eq!(up.wait().code, 137);
    kill(keeper, Signal::SIGCONT).expect("ours");
    traces.assert_gone();
}

#[test]
fn logs_are_followed_across_it() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"services: {web: {rootfs: host, command: [sh, -c, "i=0; while :; do echo line $$i; i=$$((i+1)); sleep 0.05; done"]}}"#,
    );
    stack.up();
    let mut follow = stack.nscompose().args(["logs", "-f", "--no-log-prefix"]).start();
    follow.expect_stdout("line 1");
    kill_and_wait(&stack);
    let seen = stack.log("web").lines().count();
    follow.expect_stdout(&format!("line {}\n", seen + 2));
    stack.down();
    let shown = follow.wait().success().stdout;
    assert_counted(&shown, "line", shown.lines().count());
}

#[test]
fn an_exec_ends_with_it_unless_it_is_detached() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity]}}");
    stack.up();
    stack.run(&["exec", "-d", "web", "sleep", "1001"]).success();
    let mut exec = stack.nscompose().args(["exec", "-T", "web", "sh", "-c", "echo here; exec sleep 1002"]).start();
    exec.expect_stdout("here");
    kill_and_wait(&stack);
    exec.wait().failure();
    let others = || stack.sh("web", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '");
    wait_for("its end", || (!others().contains("sleep 1002")).then_some(()));
    assert!(others().contains("sleep 1001"), "{}", others());
}

/// What else is asked of a stack while its supervisor is killed, each time something else; the first verb leaves the first processes
/// as they are, the others do not.
const VERBS: [&[&[&str]]; 5] = [
    &[&["pause", "web", "hooked"], &["unpause", "web", "hooked"]],
    &[&["restart", "-t", "0", "web", "ends"]],
    &[&["stop", "-t", "1", "hooked", "side"], &["start", "hooked", "side"]],
    &[&["up", "-d", "--force-recreate", "-t", "0"]],
    &[&["kill", "ends"], &["up", "-d"]],
];

#[test]
fn whatever_moment_it_dies_at_the_next_command_goes_on() {
    needs!(Need::Namespaces);
    let stack = Stack::new(&format!(
        r#"
services:
  web: {{rootfs: host, command: [sleep, infinity], ports: ["127.0.0.1:{}:80"], volumes: ["data:/data", /srv]}}
  side: {{rootfs: host, command: [sleep, infinity], network_mode: "service:web", pid: "service:web", ipc: "service:web"}}
  busy: {{rootfs: host, command: [sh, -c, "while :; do echo busy; sleep 0.002; done"], networks: [front, default], scale: 2}}
  ends: {{rootfs: host, command: [sh, -c, "sleep 0.02; exit 3"], deploy: {{restart_policy: {{delay: 100ms}}}}}}
  hooked:
    rootfs: host
    init: true
    command: [sh, -c, "touch /run/up; exec sleep infinity"]
    tmpfs: [/run]
    pre_start: [{{command: [sh, -c, "echo before"]}}]
    post_start: [{{command: [sh, -c, "while ! test -e /run/up; do sleep 0.01; done; echo after"]}}]
    pre_stop: [{{command: [sh, -c, "rm /run/up"]}}]
    healthcheck: {{test: test -e /run/up, interval: 20ms, retries: 100}}
networks: {{front: {{}}}}
volumes: {{data: {{}}}}
"#,
        support::free_port()
    ));
    let mut random = Random::new();
    let mut kills = 0;
    let mut during = |command: &mut Started, most: u32, longest: Duration, random: &mut Random| {
        for _ in 0..most {
            random.moment(longest);
            if !command.is_running() {
                break;
            }
            kills += u32::from(kill_supervisor(&stack, command.pid()));
        }
        kills
    };
    // The first processes of those that do not end by themselves, and what they are in.
    let stay = |what: &str| {
        let mut all = identity(&stack);
        all.retain(|name, _| !name.ends_with("-ends-1"));
        assert!(all.values().all(|(pid, _)| pid.is_some()) && all.len() == 5, "{what}: {all:?}");
        all
    };
    let mut round = 0;
    // Not too many in one: the keeper waits ever longer before it starts the next supervisor.
    loop {
        let mut up = stack.nscompose().args(["up", "-d", "--wait"]).start();
        during(&mut up, 3, Duration::from_millis(200), &mut random);
        up.wait().success();
        let before = stay("after up");
        let mut ps = stack.nscompose().args(["ps"]).start();
        during(&mut ps, 2, Duration::from_millis(10), &mut random);
        ps.wait().success();
        assert_eq!(stay("after ps"), before, "round {round}");
        let verbs = VERBS[round % VERBS.len()];
        for args in verbs {
            let mut verb = stack.nscompose().args(*args).start();
            during(&mut verb, 3, Duration::from_millis(60), &mut random);
            verb.wait().success();
        }
        let after = stay(&format!("after {verbs:?}"));
        assert!(stack.ps().iter().all(|container| container.state != "paused"), "after {verbs:?}");
        let same = before.iter().filter(|(name, was)| after.get(*name) == Some(was)).count();
        // Those in the namespaces of another one go with it.
        assert!(same >= [5, 3, 3, 0, 5][round % VERBS.len()], "after {verbs:?}: {before:?}, {after:?}");
        let restarts = || stack.container("ends").restarts;
        let so_far = restarts();
        wait_for("one that ends to be started again", || (restarts() > so_far).then_some(()));
        let log = stack.log("hooked");
        assert!(log.contains("before") && log.contains("after"), "{log}");
        let traces = stack.traces();
        let mut down = stack.nscompose().args(["down", "-t", "0"]).start();
        let kills = during(&mut down, 2, Duration::from_millis(80), &mut random);
        down.wait().success();
        traces.assert_gone_but_volumes(&["data"]);
        round += 1;
        if kills >= 200 {
            eprintln!("{kills} kills in {round} rounds");
            break;
        }
    }
}

/// Killed while it removed the last of a stack: nobody listens any more, and folders are still there.
#[test]
fn a_down_whose_last_steps_are_another_ones_is_no_failure() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"services: {web: {rootfs: host, command: [sh, -c, "trap : TERM; echo ready; while ! test -e /ctl/go; do sleep 0.05; done"], volumes: ["./ctl:/ctl"], stop_grace_period: 10h}}"#,
    );
    stack.file("ctl/x", "");
    stack.up();
    stack.log_with("web", "ready");
    let traces = stack.traces();
    let mut down = stack.nscompose().args(["down"]).start();
    down.expect_stderr("web stopping");
    let (pid, keeper) = (Pid::from_raw(down.pid()), Pid::from_raw(stack.keeper().expect("a keeper")));
    for pid in [keeper, pid] {
        kill(pid, Signal::SIGSTOP).expect("ours");
    }
    assert!(kill_supervisor(&stack, 0));
    let runtime = stack.home().join(format!("run/v1/{}", stack.project()));
    fs::remove_file(runtime.join("control.sock")).expect("one");
    for pid in [pid, keeper] {
        kill(pid, Signal::SIGCONT).expect("ours");
    }
    stack.file("ctl/go", "");
    down.wait().success().stderr_has("is down");
    traces.assert_gone();
}

#[test]
fn nothing_is_left_when_it_dies_with_the_keeper() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity]}}");
    stack.up();
    kill_and_wait(&stack);
    let traces = stack.traces();
    for pid in [stack.keeper(), stack.supervisor()] {
        let _ = kill(Pid::from_raw(pid.expect("it runs")), Signal::SIGKILL);
    }
    stack.up();
    stack.down();
    traces.assert_gone();
}

/// A stack that a machine was running when it went down.
#[test]
fn numbers_of_another_run_of_the_machine_mean_nobody() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity]}}");
    let mut stranger = Run::new("sleep").arg("1000").start();
    let stat = fs::read_to_string(format!("/proc/{}/stat", stranger.pid())).expect("it runs");
    let start_time = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(19)).expect("a time");
    let process = format!(r#"{{"process":{{"pid":{},"start_time":{start_time}}}}}"#, stranger.pid());
    let journal = format!("{{\"boot\":\"8a5b3f1e-0000-0000-0000-000000000000\"}}\n{process}\n");
    let folder = stack.home().join(format!("run/v1/{}", stack.project()));
    for folder in [stack.home().join("run"), stack.home().join("run/v1"), folder.clone()] {
        fs::create_dir(&folder).expect("a folder");
        fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("ours");
    }
    fs::write(folder.join("journal"), journal).expect("a journal");
    stack.down();
    assert!(stranger.is_running());
    assert!(!folder.exists());
}

#[test]
fn a_full_disk_is_an_error_and_spoils_nothing() {
    needs!(Need::Root);
    let stack = Stack::new("services: {one: {rootfs: host, command: [sleep, infinity]}}");
    let two = stack.path("two.yaml");
    // What the last page of the journal has left is not enough for all of them.
    let all = "services: {one: {rootfs: host, command: [sleep, infinity]}, two: {rootfs: host, command: [sleep, infinity], scale: 60}}";
    fs::write(&two, format!("name: {}\n{all}", stack.project())).expect("a file");
    let run = stack.home().join("run");
    fs::create_dir(&run).expect("a folder");
    // In mounts of its own.
    let script = r#"
mount -t tmpfs -o size=256k,mode=700 none RUN || exit 90
NSC up -d || exit 91
dd if=/dev/zero of=RUN/fill bs=4k 2>/dev/null
while printf x >> RUN/fill2; do :; done 2>/dev/null
cp two.yaml stack.yaml
NSC up -d 2>RUN.error && exit 92
kill -9 $(cat RUN/v1/PROJECT.lock)
NSC ps --format json >RUN.ps || exit 93
rm RUN/fill RUN/fill2
NSC up -d --scale two=1 || exit 94
NSC ps --format json >RUN.ps2 || exit 95
NSC down || exit 96
umount RUN
"#;
    let nsc = format!("{} --home {}", env!("CARGO_BIN_EXE_nscompose"), stack.home().display());
    let at = |name: &str| Path::new(&format!("{}{name}", run.display())).to_owned();
    let script =
        script.replace("NSC", &nsc).replace("RUN", &run.display().to_string()).replace("PROJECT", stack.project());
    Run::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .dir(stack.path(""))
        .env("HOME", stack.user_home())
        .run()
        .success();
    let error = fs::read_to_string(at(".error")).expect("an error");
    assert!(error.contains("No space left"), "{error}");
    let ps = fs::read_to_string(at(".ps")).expect("text");
    assert!(ps.contains("\"one\"") && !ps.contains("\"two\""), "{ps}");
    let ps = fs::read_to_string(at(".ps2")).expect("text");
    assert!(ps.contains("\"one\"") && ps.contains("\"two\""), "{ps}");
    for name in [".error", ".ps", ".ps2"] {
        fs::remove_file(at(name)).expect("ours");
    }
    fs::remove_dir(&run).expect("empty");
    stack.traces().assert_gone();
}

/// Facts for the next supervisor are in memory, which may have a limit too.
#[test]
fn without_room_for_facts_a_start_fails_and_what_runs_goes_on() {
    needs!(Need::Root, Need::Program("nsenter"));
    let stack = Stack::new("services: {one: {rootfs: host, command: [sleep, infinity]}}");
    stack.up();
    let before = identity(&stack);
    let keeper = stack.keeper().expect("a keeper").to_string();
    let private = stack.home().join(format!("run/v1/{}/private", stack.project())).display().to_string();
    let script = format!(
        "mount -o remount,size=256k {private} && {{ head -c 1m /dev/zero >{private}/fill; while printf x >>{private}/fill2; do :; done; }} 2>/dev/null"
    );
    let inside = |script: &str| Run::new("nsenter").args(["-m", "-t", &keeper, "sh", "-c", script]).run();
    inside(&script).success();
    let many = "services: {one: {rootfs: host, command: [sleep, infinity]}, two: {rootfs: host, command: [sleep, infinity], scale: 20}}";
    stack.file("stack.yaml", &format!("name: {}\n{many}", stack.project()));
    let failed = stack.run(&["up", "-d"]).failure().stderr_has("No space left");
    assert!(failed.stderr.contains("private/"), "it says where: {failed}");
    kill_and_wait(&stack);
    assert_eq!(identity(&stack), before);
    inside(&format!("rm {private}/fill {private}/fill2")).success();
    stack.run(&["up", "-d", "--scale", "two=1"]).success();
    kill_and_wait(&stack);
    assert_eq!(stack.ps().len(), 2);
    let traces = stack.traces();
    stack.down();
    traces.assert_gone();
}
