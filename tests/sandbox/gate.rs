//! Containers on their way to their program, held up where a test wants them: what they may not do yet, and what becomes of them.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::supervisor_dies::{kill_and_wait, kill_supervisor};
use crate::support::{Need, Run, Stack, Started, image::busybox_root, needs, wait_for};

/// Whoever opens the file waits for as long as this process has it: a lease (fcntl(2)).
const HOLD: &str = r#"
import errno, fcntl, os, signal, sys, time
signal.signal(signal.SIGIO, lambda *_: print("wanted", flush=True))
while True:
    fd = os.open(sys.argv[1], os.O_RDONLY)
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        break
    except OSError as error:
        # Somebody has it open still.
        if error.errno != errno.EAGAIN:
            raise
        os.close(fd)
        time.sleep(0.005)
print("held", flush=True)
while True:
    signal.pause()
"#;

fn hold(file: &Path) -> Started {
    let mut holder = Run::new("python3").args(["-c", HOLD]).arg(file).start();
    holder.expect_stdout("held");
    holder
}

/// A program that notes its start and goes on until it is told to end. The file is not open while it runs.
const PROGRAM: &str = "#!/bin/sh
exec sh -c 'echo x >> /share/starts; while ! test -e /share/end; do sleep 0.02; done; rm /share/end; exit 3'
";

fn stack_with_program(services: &str) -> Stack {
    let stack = Stack::new(services);
    stack.file("share/program", PROGRAM);
    for path in ["share", "share/program"] {
        fs::set_permissions(stack.path(path), PermissionsExt::from_mode(0o777)).expect("ours");
    }
    stack
}

/// One whose service is held up before its gate, by a file that its new volume gets.
fn stack_with_root() -> Stack {
    let stack = stack_with_program(
        r#"
services: {web: {rootfs: ./root, command: [/share/program], volumes: ['./share:/share', 'data:/srv'], ports: ['127.0.0.1::80']}}
volumes: {data: {}}
"#,
    );
    busybox_root(&stack.path("root"));
    stack.file("root/srv/file", "");
    stack
}

fn starts(stack: &Stack) -> usize {
    fs::read_to_string(stack.path("share/starts")).unwrap_or_default().lines().count()
}

fn status(pid: i32, field: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(status.lines().find_map(|line| line.strip_prefix(field))?.trim_start_matches(':').trim().to_owned())
}

/// The first process of a container that the picture of its stack does not have yet, the only one besides this one.
#[track_caller]
fn first_process(stack: &Stack, but: Option<&str>) -> i32 {
    let keeper = stack.keeper().expect("a keeper").to_string();
    let but = but.map(|service| stack.pid(service));
    wait_for("a first process", || {
        let all = fs::read_dir("/proc").expect("/proc").flatten();
        let mut all = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        all.find(|pid| {
            let of_keeper = status(*pid, "PPid").is_some_and(|parent| parent == keeper);
            Some(*pid) != but
                && of_keeper
                && status(*pid, "NSpid").is_some_and(|numbers| numbers.split_whitespace().count() == 2)
                && status(*pid, "Name").is_some_and(|name| name != "nsc-init")
        })
    })
}

fn send(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).expect("it is there");
}

fn assert_ends(pid: i32) {
    wait_for("its end", || status(pid, "State").is_none_or(|state| state.starts_with('Z')).then_some(()));
}

/// Has the container of [`stack_with_root`] come to its gate, and nobody to open it: the keeper is stopped, whose answer the
/// supervisor waits for.
#[track_caller]
fn at_its_gate(stack: &Stack) -> (Started, i32, i32) {
    let mut holder = hold(&stack.path("root/srv/file"));
    let up = stack.nscompose().args(["up", "-d"]).start();
    holder.expect_stdout("wanted");
    let (keeper, pid) = (stack.keeper().expect("a keeper"), first_process(stack, None));
    let bound = status(pid, "CapBnd");
    send(keeper, Signal::SIGSTOP);
    drop(holder);
    // The last that it does before.
    wait_for("its capabilities to be taken", || (status(pid, "CapBnd") != bound).then_some(()));
    wait_for("it to sleep", || status(pid, "State")?.starts_with('S').then_some(()));
    (up, keeper, pid)
}

#[test]
fn a_start_that_hangs_does_not_keep_the_stack_up() {
    needs!(Need::Namespaces, Need::Program("python3"));
    let stack = stack_with_program(
        "services: {web: {rootfs: host, command: [/share/program], volumes: ['./share:/share'], stop_grace_period: 0s}}",
    );
    let mut holder = hold(&stack.path("share/program"));
    let up = stack.nscompose().args(["up", "-d"]).start();
    holder.expect_stdout("wanted");
    // A lease does not hold for ever.
    send(first_process(&stack, None), Signal::SIGSTOP);
    let traces = stack.traces();
    stack.down();
    up.wait().failure();
    traces.assert_gone();
    assert_eq!(starts(&stack), 0);
}

#[test]
fn nobody_gets_into_a_container_whose_program_does_not_run_yet() {
    needs!(Need::Namespaces, Need::Program("python3"));
    let stack = stack_with_program(
        r#"
services:
  other: {rootfs: host, command: [sleep, infinity]}
  web: {rootfs: host, command: [/share/program], volumes: ['./share:/share'], pid: 'service:other', restart: always}
"#,
    );
    stack.up();
    wait_for("the first start", || (starts(&stack) == 1).then_some(()));
    let held_up = || {
        let mut holder = hold(&stack.path("share/program"));
        stack.file("share/end", "");
        holder.expect_stdout("wanted");
        holder
    };
    let holder = held_up();
    stack.run(&["exec", "-T", "web", "true"]).failure().stderr_has("does not run");
    // It would end of that.
    stack.run(&["kill", "-s", "USR1", "web"]).success();
    drop(holder);
    wait_for("the second start", || (starts(&stack) == 2).then_some(()));
    wait_for("it to run", || (stack.container("web").state == "running").then_some(()));
    assert_eq!(stack.container("web").restarts, 1);
    // Whoever stops or kills it does not wait for it. A lease does not hold for ever.
    for (end, so_far) in [(["stop", "-t", "0", "web"], 2), (["kill", "-s", "KILL", "web"], 3)] {
        let holder = held_up();
        send(first_process(&stack, Some("other")), Signal::SIGSTOP);
        stack.run(&end).success();
        assert_eq!(stack.container("web").state, "exited");
        drop(holder);
        assert_eq!(starts(&stack), so_far);
        stack.run(&["start", "web"]).success();
        wait_for("the next start", || (starts(&stack) == so_far + 1).then_some(()));
    }
    let traces = stack.traces();
    stack.down();
    traces.assert_gone();
}

#[test]
fn one_that_is_killed_on_its_way_has_not_started() {
    needs!(Need::Namespaces, Need::Program("python3"), Need::StaticBusybox);
    let stack = stack_with_root();
    let mut holder = hold(&stack.path("root/srv/file"));
    let up = stack.nscompose().args(["up", "-d"]).start();
    holder.expect_stdout("wanted");
    send(first_process(&stack, None), Signal::SIGKILL);
    up.wait().failure().stderr_has("it has ended before its program ran");
    drop(holder);
    let (up, keeper, pid) = at_its_gate(&stack);
    send(pid, Signal::SIGKILL);
    send(keeper, Signal::SIGCONT);
    up.wait().failure().stderr_has("it has ended before its program ran");
    assert_eq!(starts(&stack), 0);
    stack.up();
    wait_for("a start", || (starts(&stack) == 1).then_some(()));
    let traces = stack.traces();
    stack.down();
    traces.assert_gone_but_volumes(&["data"]);
}

#[test]
fn one_that_is_not_written_down_yet_is_started_by_the_next_supervisor_alone() {
    needs!(Need::Namespaces, Need::Program("python3"), Need::StaticBusybox);
    let stack = stack_with_root();
    let mut holder = hold(&stack.path("root/srv/file"));
    let up = stack.nscompose().args(["up", "-d"]).start();
    holder.expect_stdout("wanted");
    let pid = first_process(&stack, None);
    kill_and_wait(&stack);
    assert_ends(pid);
    drop(holder);
    up.wait().success();
    wait_for("the start", || (starts(&stack) > 0).then_some(()));
    assert_eq!((starts(&stack), stack.container("web").restarts), (1, 0));
    stack.down();
    let stack = stack_with_root();
    let (up, keeper, pid) = at_its_gate(&stack);
    assert!(kill_supervisor(&stack, 0));
    send(keeper, Signal::SIGCONT);
    assert_ends(pid);
    up.wait().success();
    wait_for("the start", || (starts(&stack) > 0).then_some(()));
    assert_eq!((starts(&stack), stack.container("web").restarts), (1, 0));
    let traces = stack.traces();
    stack.down();
    traces.assert_gone_but_volumes(&["data"]);
}

#[test]
fn one_that_was_let_in_goes_on_with_the_next_supervisor() {
    needs!(Need::Namespaces, Need::Program("python3"));
    let stack = stack_with_program(
        "services: {web: {rootfs: host, command: [/share/program], volumes: ['./share:/share'], tty: true, init: true}}",
    );
    let mut holder = hold(&stack.path("share/program"));
    let up = stack.nscompose().args(["up", "-d"]).start();
    holder.expect_stdout("wanted");
    let pid = first_process(&stack, None);
    kill_and_wait(&stack);
    kill_and_wait(&stack);
    drop(holder);
    up.wait().success();
    wait_for("the start", || (starts(&stack) > 0).then_some(()));
    assert_eq!((starts(&stack), stack.pid("web"), stack.container("web").restarts), (1, pid, 0));
    let traces = stack.traces();
    stack.down();
    traces.assert_gone();
}

#[test]
fn nobody_waits_at_a_gate_that_nobody_opens_any_more() {
    needs!(Need::Namespaces, Need::Program("python3"), Need::StaticBusybox);
    let stack = stack_with_root();
    // Without the keeper the supervisor takes the stack down.
    let (up, keeper, pid) = at_its_gate(&stack);
    let traces = stack.traces();
    send(keeper, Signal::SIGKILL);
    up.wait().failure();
    assert_ends(pid);
    traces.assert_gone_but_volumes(&["data"]);
    assert_eq!(starts(&stack), 0);
    let stack = stack_with_root();
    let (up, keeper, pid) = at_its_gate(&stack);
    let traces = stack.traces();
    send(stack.supervisor().expect("a supervisor"), Signal::SIGKILL);
    send(keeper, Signal::SIGKILL);
    assert_ends(pid);
    // The command begins anew.
    up.wait().success();
    wait_for("the start", || (starts(&stack) > 0).then_some(()));
    stack.down();
    assert_eq!(starts(&stack), 1);
    traces.assert_gone_but_volumes(&["data"]);
}

#[test]
fn one_that_cannot_be_started_stays_as_it_was_for_the_next_supervisor_too() {
    needs!(Need::Namespaces);
    let stack = stack_with_program(
        "services: {web: {rootfs: host, command: [/share/program], volumes: ['./share:/share'], restart: always}}",
    );
    let (program, aside) = (stack.path("share/program"), stack.path("share/aside"));
    let cannot_be_started = || {
        let look = || {
            let web = stack.container("web");
            (web.state, web.exit_code, web.restarts)
        };
        let before = look();
        fs::rename(&program, &aside).expect("ours");
        stack.run(&["start"]).failure().stderr_has("/share/program");
        assert_eq!(look(), before);
        for _ in 0..2 {
            kill_and_wait(&stack);
            assert_eq!(look(), before);
        }
        fs::rename(&aside, &program).expect("ours");
        stack.run(&["start"]).success();
        kill_and_wait(&stack);
        assert_eq!(stack.container("web").state, "running");
    };
    stack.run(&["create"]).success();
    cannot_be_started();
    stack.run(&["stop", "-t", "0"]).success();
    cannot_be_started();
    let traces = stack.traces();
    stack.down();
    traces.assert_gone();
}
