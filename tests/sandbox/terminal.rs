//! Terminals of services, their standard input, and `attach`.

use crate::support::{Need, Output, Run, Stack, needs, wait_for};

/// Runs a command on a terminal of 30 by 100 and does what it is told: `[["expect", TEXT], ["send", TEXT], ["size", ROWS,
/// COLUMNS], ["signal", NUMBER], ...]`. It ends as the command does, with all that was on the terminal as its output.
const DRIVER: &str = r#"
import fcntl, json, os, pty, select, struct, sys, termios, time
steps, command = json.loads(sys.argv[1]), sys.argv[2:]
pid, master = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    os.execv(command[0], command)
seen, shown, end = b"", b"", time.monotonic() + 50
def more():
    global seen, shown
    ready, _, _ = select.select([master], [], [], 1)
    if time.monotonic() > end:
        sys.exit("not seen in time: " + repr(shown))
    if ready:
        try:
            read = os.read(master, 4096)
        except OSError:
            read = b""
        if not read:
            return False
        seen, shown = seen + read, shown + read
    return True
for step in steps:
    if step[0] == "expect":
        text = step[1].encode()
        while text not in seen:
            if not more():
                sys.exit("ended before " + repr(text) + ": " + repr(shown))
        seen = seen[seen.index(text) + len(text):]
    elif step[0] == "send":
        os.write(master, step[1].encode())
    elif step[0] == "size":
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", step[1], step[2], 0, 0))
    elif step[0] == "signal":
        os.kill(pid, step[1])
while more():
    pass
sys.stdout.write(shown.decode(errors="replace"))
_, status = os.waitpid(pid, 0)
sys.exit(os.waitstatus_to_exitcode(status) & 255)
"#;

fn on_terminal(stack: &Stack, args: &[&str], steps: &str) -> Output {
    let run = Run::new("python3").args(["-c", DRIVER, steps, env!("CARGO_BIN_EXE_nscompose"), "--home"]);
    let run = run.arg(stack.home()).args(args).dir(stack.path("")).env("HOME", stack.user_home());
    run.env("TERM", "xterm").run()
}

#[test]
fn a_service_can_have_a_terminal_of_its_own() {
    needs!(Need::Program("stty"));
    let script = "tty; stty size; ls -l /proc/self/fd/0 /dev/console | cut -c1; echo TERM=$$TERM; echo err >&2; \
        tty </dev/console; sh -c 'exec </dev/tty && echo controlling'; exec sleep infinity";
    let stack = Stack::empty();
    stack.file(
        "stack.yaml",
        &format!(
            "name: {}\nservices: {{web: {{rootfs: host, tty: true, command: [sh, -c, {script:?}]}}, init: {{rootfs: host, tty: true, init: true, command: [sh, -c, {script:?}]}}}}",
            stack.project()
        ),
    );
    stack.up();
    for service in ["web", "init"] {
        let log = stack.log_with(service, "controlling");
        // A terminal ends lines with both.
        assert_eq!(
            log.replace("\r\n", "\n"),
            "/dev/pts/0\n24 80\nc\nl\nTERM=xterm\nerr\n/dev/console\ncontrolling\n",
            "{service}: {log:?}"
        );
        assert!(log.contains("24 80\r\n"), "{log:?}");
    }
    // What is run beside it has one only if it asks for it, and another one.
    stack.run(&["exec", "web", "tty"]).failure().stdout_has("not a tty");
}

#[test]
fn the_terminal_belongs_to_the_user() {
    needs!(Need::Ids);
    let stack = Stack::new(
        "services: {web: {rootfs: host, tty: true, user: nobody, command: [sh, -c, 'echo out > /dev/stdout; echo err > /dev/stderr; stat -c %U /dev/console; exec sleep infinity']}}",
    );
    stack.up();
    assert_eq!(stack.log_with("web", "nobody").replace("\r\n", "\n"), "out\nerr\nnobody\n");
}

#[test]
fn the_hosts_null_device_stays_as_it_is() {
    use std::os::unix::fs::MetadataExt;
    needs!(Need::Root);
    let stack = Stack::new("services: {web: {rootfs: host, tty: true, command: [sleep, infinity]}}");
    stack.up();
    let null = std::fs::metadata("/dev/null").expect("/dev/null");
    assert_eq!((null.uid(), null.gid()), (0, 0));
}

#[test]
fn standard_input_stays_open_if_the_file_says_so() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {open: {rootfs: host, stdin_open: true, command: [sh, -c, 'cat; echo ended']}, closed: {rootfs: host, command: [sh, -c, 'cat; echo ended']}}",
    );
    stack.up();
    stack.log_with("closed", "ended");
    assert!(stack.container("open").exit_code.is_none());
    // Several may come, one after the other; the end of what they type is not the end of its input.
    for text in ["first\n", "second\n"] {
        let mut attach = stack.nscompose().args(["attach", "open"]).stdin(text).start();
        attach.expect_stdout(text);
        attach.signal(nix::sys::signal::Signal::SIGKILL);
    }
    assert_eq!(stack.log("open"), "first\nsecond\n");
    assert!(stack.container("open").exit_code.is_none());
    // Input for one that takes none goes nowhere, and what it does is its own business.
    stack.run(&["attach", "closed"]).failure().stderr_has("does not run");
}

#[test]
fn attached_one_sees_both_streams_and_the_exit_code() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {web: {rootfs: host, stdin_open: true, command: [sh, -c, 'read line; echo out $$line; echo err >&2; printf half; read line; exit 7']}}",
    );
    stack.up();
    let output = stack.nscompose().args(["attach", "web"]).stdin("hello\nend\n").run().code(7);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out hello\nhalf", "err\n"));
}

#[test]
fn who_reads_no_more_is_not_attached_any_more() {
    needs!(Need::Namespaces);
    let stack =
        Stack::new("services: {web: {rootfs: host, command: [sh, -c, 'while :; do echo on; sleep 0.02; done']}}");
    stack.up();
    let attach =
        format!("{} --home {} attach web | head -n 1", env!("CARGO_BIN_EXE_nscompose"), stack.home().display());
    let run = Run::new("sh").args(["-c", &attach]).dir(stack.path("")).env("HOME", stack.user_home());
    run.run().success().stdout_is("on\n");
    assert!(stack.container("web").exit_code.is_none());
}

#[test]
fn who_does_not_read_keeps_nobody_up() {
    needs!(Need::Namespaces);
    // More than fits into any queue, while the one who is attached is stopped.
    let stack = Stack::new(
        "services: {web: {rootfs: host, stdin_open: true, volumes: ['./share:/share'], command: [sh, -c, 'read line; head -c 30000000 /dev/zero | tr \"\\\\0\" x; echo > /share/done; read line']}}",
    );
    stack.file("share/x", "");
    stack.up();
    let attach = stack.nscompose().args(["attach", "web"]).stdin("go\n").start();
    wait_for("the first of it", || (!attach.stdout().is_empty()).then_some(()));
    attach.signal(nix::sys::signal::Signal::SIGSTOP);
    wait_for("the last of it", || stack.path("share/done").exists().then_some(()));
    attach.signal(nix::sys::signal::Signal::SIGCONT);
    attach.wait().failure().stderr_has("faster than it was read").stderr_has("nscompose logs");
}

#[test]
fn signals_reach_the_service_unless_they_are_not_to() {
    needs!(Need::Namespaces);
    let script = "trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.05; echo on; done";
    let stack = Stack::new(&format!(
        "services: {{web: {{rootfs: host, command: [sh, -c, {script:?}]}}, other: {{rootfs: host, command: [sh, -c, {script:?}]}}}}"
    ));
    stack.up();
    let term = nix::sys::signal::Signal::SIGTERM;
    let mut alone = stack.nscompose().args(["attach", "--sig-proxy=false", "web"]).start();
    alone.expect_stdout("on");
    alone.signal(term);
    alone.wait().code(143);
    assert!(stack.container("web").exit_code.is_none());
    let mut attach = stack.nscompose().args(["attach", "--no-stdin", "web"]).start();
    attach.expect_stdout("on");
    attach.signal(term);
    attach.wait().code(3).stdout_has("caught");
}

#[test]
fn on_a_terminal_what_is_typed_is_the_services_and_keys_leave_it() {
    needs!(Need::Program("python3"), Need::Program("stty"));
    // The new size takes another way than what is typed, so it is waited for.
    let script = "trap 'echo interrupted' INT; while :; do printf '> '; read word && echo got $$word && stty size && \
        if [ $$word = two ]; then while [ \"$$(stty size)\" != '40 120' ]; do sleep 0.02; done; echo resized; fi; done";
    let stack = Stack::new(&format!(
        "services: {{web: {{rootfs: host, tty: true, stdin_open: true, command: [sh, -c, {script:?}]}}}}"
    ));
    stack.up();
    let steps = r#"[["send", "one\n"], ["expect", "got one"], ["expect", "30 100"], ["size", 40, 120], ["send", "two\n"],
        ["expect", "got two"], ["expect", "resized"], ["send", "\u0003"], ["expect", "interrupted"],
        ["send", "\u0010\u0011"], ["expect", "runs on without you"]]"#;
    on_terminal(&stack, &["attach", "web"], steps).success();
    assert!(stack.container("web").exit_code.is_none());
    // Other keys, and the usual ones are nothing special then.
    let steps =
        r#"[["send", "\u0010\u0011three\n"], ["expect", "three"], ["send", "xq"], ["expect", "runs on without you"]]"#;
    on_terminal(&stack, &["attach", "--detach-keys", "x,q", "web"], steps).success();
    // The log has it as one stream.
    let log = stack.log("web");
    assert!(log.contains("got one\r\n") && log.contains("interrupted\r\n"), "{log:?}");
    stack.run(&["attach", "--detach-keys", "ctrl-", "web"]).code(2).stderr_has("ctrl-p,ctrl-q");
}

#[test]
fn an_up_on_a_terminal_gives_its_size() {
    needs!(Need::Program("python3"), Need::Program("stty"));
    let script = "trap 'stty size' WINCH; stty size; while :; do sleep 0.05; done";
    let stack = Stack::new(&format!("services: {{web: {{rootfs: host, tty: true, command: [sh, -c, {script:?}]}}}}"));
    let steps = r#"[["expect", "30 100"], ["size", 31, 101], ["expect", "31 101"], ["signal", 15]]"#;
    on_terminal(&stack, &["up", "--no-log-prefix"], steps).code(130);
}

#[test]
fn what_is_not_attached_is_not_shown() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {quiet: {rootfs: host, attach: false, command: [sh, -c, 'echo unseen; echo > /done/it; exec sleep infinity'], volumes: ['done:/done']}, loud: {rootfs: host, command: [sh, -c, 'while [ ! -e /done/it ]; do sleep 0.02; done; sleep 0.1; echo seen; exec sleep infinity'], volumes: ['done:/done'], depends_on: [quiet]}}\nvolumes: {done: {}}",
    );
    let mut up = stack.up_in_foreground(&[]);
    up.expect_stdout("seen");
    assert!(!up.stdout().contains("unseen"), "{}", up.stdout());
    // The log has it all the same, and a plan nothing to change when it is to be shown.
    assert_eq!(stack.log_with("quiet", "unseen"), "unseen\n");
    let file = std::fs::read_to_string(stack.path("stack.yaml")).expect("the file");
    stack.file("stack.yaml", &file.replace("attach: false, ", ""));
    stack.run(&["plan"]).success();
    up.signal(nix::sys::signal::Signal::SIGINT);
    wait_for("the end of up", || (!up.is_running()).then_some(()));
}

#[test]
fn the_callers_own_terminal_is_never_lent() {
    needs!(Need::Program("python3"));
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity]}}");
    stack.up();
    // A program that keeps it could read what is typed later.
    let script =
        "for fd in 0 1 2; do test -t $fd && echo LENT $fd; done; echo err >&2; read line; echo got $line; cat; exit 7";
    let typed = r#"[["expect", "err"], ["send", "hello\n"], ["expect", "got hello"], ["send", "more\n"], ["expect", "more\r\nmore"], ["send", "\u0004"]]"#;
    let output = on_terminal(&stack, &["exec", "-T", "web", "sh", "-c", script], typed).code(7);
    assert!(!output.stdout.contains("LENT"), "{output}");
}

/// What root of a container has mounted on the multiplexer, such as a file whose server answers to ioctls as it likes, is not
/// taken for it: even if, as here, it is another mount of the same.
#[test]
fn a_terminal_comes_from_the_containers_own_devpts() {
    needs!(Need::Program("python3"), Need::Program("mount"));
    let stack = Stack::new("services: {web: {rootfs: host, privileged: true, command: [sleep, infinity]}}");
    stack.up();
    let _ = on_terminal(&stack, &["exec", "web", "tty"], "[]").success().stdout_has("/dev/pts/0");
    stack.sh("web", "mount --bind /dev/pts/ptmx /dev/pts/ptmx");
    let _ = on_terminal(&stack, &["exec", "web", "true"], "[]").failure().stdout_has("terminal");
}

#[test]
fn when_attach_has_come_back_the_service_has_ended_for_others_too() {
    needs!(Need::Namespaces);
    // Its end takes a while: what it leaves in a shared namespace has to be found and ended.
    let stack = Stack::new(
        "services:
  owner: {rootfs: host, command: [sleep, infinity]}
  worker:
    rootfs: host
    pid: service:owner
    stdin_open: true
    command: [sh, -c, 'for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; read line; exit 5']
",
    );
    for _ in 0..5 {
        stack.up();
        stack.nscompose().args(["attach", "worker"]).stdin("go\n").run().code(5);
        assert_eq!(stack.container("worker").exit_code, Some(5));
    }
}
