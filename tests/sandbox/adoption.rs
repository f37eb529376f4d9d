//! What a supervisor that comes after one that was killed makes of the stack that it finds.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::supervisor_dies::{kill_and_wait, kill_supervisor};
use crate::support::{Need, Stack, Started, needs, wait_for};

/// What is written down for the next supervisor, as root of the machine finds it.
fn facts(stack: &Stack) -> PathBuf {
    let private = stack.home().join(format!("run/v1/{}/private/facts", stack.project()));
    format!("/proc/{}/root{}", stack.keeper().expect("a keeper"), private.display()).into()
}

#[test]
fn replicas_keep_their_namespaces() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], scale: 3}}");
    stack.up();
    let pids = || stack.ps().into_iter().map(|container| container.pid).collect::<Vec<_>>();
    let (before, keeper) = (pids(), stack.keeper().expect("a keeper"));
    assert!(before.len() == 3 && before.iter().all(Option::is_some), "{before:?}");
    kill_and_wait(&stack);
    stack.run(&["up", "-d"]).success().stderr_has("nothing to do");
    assert_eq!(pids(), before);
    // The keeper lets go of those of replicas that go.
    let held = || fs::read_dir(format!("/proc/{keeper}/fd")).expect("ours").count();
    let most = held();
    for _ in 0..3 {
        stack.run(&["up", "-d", "--scale", "web=1"]).success();
        let fewest = wait_for("descriptors to go", || Some(held()).filter(|fds| *fds < most));
        // For each user, network, IPC and UTS namespaces, two pipes and a process.
        assert!(fewest + 2 * 5 <= most, "{fewest} of {most}");
        stack.run(&["up", "-d", "--scale", "web=3"]).success();
        // It lets go of their gates a moment after they run.
        wait_for("as many descriptors as before", || (held() == most).then_some(()));
    }
    let traces = stack.traces();
    stack.down();
    traces.assert_gone();
}

/// An init that was killed from outside: its number may come to mean a stranger.
#[test]
fn a_pid_namespace_whose_init_has_gone_is_made_anew() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"services: {web: {rootfs: host, command: [sleep, infinity]}, side: {rootfs: host, command: [sleep, infinity], pid: "service:web"}}"#,
    );
    stack.up();
    let parent = |pid: i32| -> Option<i32> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let keeper = stack.keeper().expect("a keeper");
    let traces = stack.traces();
    let init = traces.processes.iter().find(|((pid, _), name)| *name == "nsc-init" && parent(*pid) == Some(keeper));
    let init = init.map(|((pid, _), _)| *pid).unwrap_or_else(|| panic!("{traces:?}"));
    kill(Pid::from_raw(init), Signal::SIGKILL).expect("ours");
    stack.exit_code("side");
    kill_and_wait(&stack);
    stack.up();
    assert!(stack.sh("side", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").matches("sleep infinity").count() >= 2);
    let traces = stack.traces();
    stack.down();
    traces.assert_gone();
}

#[test]
fn that_memory_ran_out_is_still_known() {
    needs!(Need::Cgroups);
    let stack = Stack::new(
        r#"services: {hog: {rootfs: host, mem_limit: 30m, command: [sh, -c, "tail /dev/zero; exit 5"]}, lives: {rootfs: host, mem_limit: 30m, command: [sh, -c, "tail /dev/zero; exec sleep infinity"]}}"#,
    );
    stack.up();
    assert_eq!(stack.exit_code("hog"), 5);
    let kills = |service: &str| stack.container(service).oom_kills;
    wait_for("kills", || (kills("hog") == 1 && kills("lives") == 1).then_some(()));
    kill_and_wait(&stack);
    assert_eq!((kills("hog"), kills("lives")), (1, 1));
    assert_eq!(stack.exit_code("hog"), 5);
}

/// A stack in the foreground that somebody else takes down, as far as /ctl/go lets it, and brings up again after that.
struct Handover {
    stack: Stack,
    up: Started,
    down: Started,
    /// It waits for the end of `down`.
    again: Started,
}

impl Handover {
    fn begin() -> Self {
        let stack = Stack::new(
            r#"services: {web: {rootfs: host, init: true, command: [sh, -c, "trap 'while ! test -e /ctl/go; do sleep 0.01; done; exit' TERM; echo ready; while :; do sleep 0.01; done"], volumes: ["./ctl:/ctl"], stop_grace_period: 1m}}"#,
        );
        stack.file("ctl/x", "");
        let mut up = stack.up_in_foreground(&[]);
        up.expect_stdout("ready");
        let mut down = stack.nscompose().args(["down"]).start();
        down.expect_stderr("stopping");
        let mut again = stack.nscompose().args(["up", "-d"]).start();
        again.expect_stderr("wait");
        Self { stack, up, down, again }
    }
}

/// A stack that was brought up in the foreground, went down, and was brought up again by somebody else before its supervisor ended.
#[test]
fn a_stack_belongs_to_nobody_once_its_owner_has_gone() {
    // Others do not see what the keeper has.
    needs!(Need::Root);
    let Handover { stack, up, down, again } = Handover::begin();
    up.signal(Signal::SIGKILL);
    up.wait();
    stack.file("ctl/go", "");
    down.wait();
    again.wait().success();
    let pid = stack.pid("web");
    let facts = fs::read_to_string(facts(&stack)).expect("facts");
    assert!(facts.lines().rfind(|line| line.contains("\"owned\"")).is_none_or(|line| line.contains("gone")));
    kill_and_wait(&stack);
    assert_eq!(stack.pid("web"), pid);
}

/// The same, and the owner goes, or hears that his stack has gone, when the next one's is up already.
#[test]
fn a_stack_is_not_taken_down_for_the_owner_of_the_one_before() {
    needs!(Need::Namespaces);
    for end in [&[Signal::SIGKILL][..], &[Signal::SIGCONT], &[Signal::SIGINT, Signal::SIGCONT]] {
        let Handover { stack, up, down, again } = Handover::begin();
        up.signal(Signal::SIGSTOP);
        stack.file("ctl/go", "");
        again.wait().success();
        down.wait().success();
        let pid = stack.pid("web");
        end.iter().for_each(|signal| up.signal(*signal));
        up.wait();
        stack.run(&["up", "-d"]).success().stderr_has("is up already");
        assert_eq!(stack.pid("web"), pid, "{end:?}");
        stack.down();
    }
}

/// Whoever has run for as long as the window has come up, whichever supervisor has looked after it.
#[test]
fn how_long_it_has_run_counts_with_the_next_one() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"services: {web: {rootfs: host, init: true, command: [sh, -c, "echo runs; while ! test -e /ctl/end; do sleep 0.01; done; rm /ctl/end; exit 3"], volumes: ["./ctl:/ctl"], deploy: {restart_policy: {max_attempts: 1, window: 1s}}}}"#,
    );
    stack.file("ctl/x", "");
    fs::set_permissions(stack.path("ctl"), PermissionsExt::from_mode(0o777)).expect("ours");
    stack.up();
    let runs = |times: usize| {
        wait_for("a start", || (stack.log("web").lines().count() == times).then_some(()));
        Instant::now()
    };
    runs(1);
    stack.file("ctl/end", "");
    let since = runs(2);
    wait_for("the window to pass", || (since.elapsed() > Duration::from_secs(2)).then_some(()));
    kill_and_wait(&stack);
    stack.file("ctl/end", "");
    runs(3);
    stack.file("ctl/end", "");
    assert_eq!(stack.exit_code("web"), 3);
}

/// The supervisor dies when it has written down that a paused container is stopping, and has not thawed it yet.
#[test]
fn one_that_was_paused_and_is_stopped_hears_of_it() {
    needs!(Need::Root);
    let stack = Stack::new(
        r#"services: {web: {rootfs: host, init: true, command: [sh, -c, "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done"], stop_grace_period: 5s}}"#,
    );
    stack.up();
    stack.log_with("web", "ready");
    stack.run(&["pause", "web"]).success();
    let (facts, keeper) = (facts(&stack), Pid::from_raw(stack.keeper().expect("a keeper")));
    let text = fs::read_to_string(&facts).expect("facts");
    let line = text.lines().rfind(|line| line.contains("life/web")).expect("its life");
    let stopping = line.replace(r#"{"paused":null}"#, r#"{"stopping":"stay"}"#);
    assert_ne!(stopping, line);
    kill(keeper, Signal::SIGSTOP).expect("ours");
    assert!(kill_supervisor(&stack, 0));
    fs::write(&facts, format!("{text}{stopping}\n")).expect("ours");
    kill(keeper, Signal::SIGCONT).expect("ours");
    assert_eq!(stack.exit_code("web"), 7);
}

/// The supervisor, and the command, die when a part of the files of a container has been removed.
#[test]
fn one_that_is_removed_by_half_is_removed() {
    needs!(Need::Root);
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sleep, infinity], volumes: [/srv]}, made: {rootfs: host, command: [sleep, infinity]}}",
    );
    stack.run(&["create"]).success();
    stack.run(&["up", "-d", "web"]).success();
    let (facts, keeper) = (facts(&stack), Pid::from_raw(stack.keeper().expect("a keeper")));
    let traces = stack.traces();
    kill(keeper, Signal::SIGSTOP).expect("ours");
    assert!(kill_supervisor(&stack, 0));
    let text = fs::read_to_string(&facts).expect("facts");
    let going = r#"{"fact":["removing/web",false]}
{"fact":["removing/made",true]}
"#;
    fs::write(&facts, format!("{text}{going}")).expect("ours");
    kill(keeper, Signal::SIGCONT).expect("ours");
    assert_eq!(stack.ps().len(), 0);
    let left = stack.home().join(format!("data/v1/stacks/{}/containers", stack.project()));
    assert_eq!(fs::read_dir(left).map_or(0, Iterator::count), 0);
    stack.up();
    kill_and_wait(&stack);
    assert_eq!(stack.ps().len(), 2);
    stack.down();
    traces.assert_gone();
}

/// The keeper was killed when it had made a part of what a container writes to.
#[test]
fn a_writable_layer_that_was_begun_is_made() {
    needs!(Need::Root);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity]}}");
    stack.up();
    stack.run(&["stop", "-t", "0"]).success();
    let folder = stack.home().join(format!("data/v1/stacks/{}/containers/web", stack.project()));
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        if entry.file_name().to_string_lossy().ends_with(".work") {
            fs::remove_dir_all(entry.path()).expect("ours");
        }
    }
    stack.run(&["start"]).success();
}
