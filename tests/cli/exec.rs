//! `exec`.

use crate::support::{Need, Run, Stack, needs, wait_for};

fn sleeper() -> Stack {
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sleep, infinity], environment: {A: from the file}, working_dir: /usr}, db: {rootfs: host, command: [sleep, infinity]}, gone: {rootfs: host, command: ['true']}}",
    );
    stack.up();
    stack
}

#[test]
fn the_exit_code_and_both_streams_are_the_commands() {
    needs!(Need::Namespaces);
    let stack = sleeper();
    let output = stack.run(&["exec", "web", "sh", "-c", "echo out; echo err >&2; exit 42"]).code(42).stdout_is("out\n");
    assert_eq!(output.stderr, "err\n");
    stack.run(&["exec", "web", "sh", "-c", "kill -KILL $$"]).code(137);
    stack.run(&["exec", "web", "true"]).success();
}

#[test]
fn standard_input_is_passed_on() {
    needs!(Need::Namespaces);
    let stack = sleeper();
    let long = "a line\n".repeat(100_000);
    stack.nscompose().args(["exec", "web", "cat"]).stdin(long.clone()).run().success().stdout_is(&long);
}

#[test]
fn flags_behind_the_service_are_the_commands() {
    needs!(Need::Namespaces);
    let stack = sleeper();
    stack.run(&["exec", "web", "echo", "-e", "--help", "-w"]).success().stdout_has("--help -w");
}

#[test]
fn the_environment_is_the_services_and_what_is_added() {
    needs!(Need::Namespaces);
    let stack = sleeper();
    assert_eq!(stack.exec("web", &["printenv", "A"]), "from the file");
    stack.run(&["exec", "-e", "A=mine", "-e", "B=", "web", "printenv", "A", "B"]).success().stdout_is("mine\n\n");
    let handed = stack.nscompose().env("HANDED", "on").env("SECRET", "kept");
    handed.args(["exec", "-e", "HANDED", "web", "env"]).run().success().stdout_has("HANDED=on\n");
    let leaked = stack.nscompose().env("SECRET", "kept").args(["exec", "web", "env"]).run().success();
    assert!(!leaked.stdout.contains("SECRET"), "{leaked}");
}

#[test]
fn folder_and_user_can_be_chosen() {
    needs!(Need::Namespaces);
    let stack = sleeper();
    assert_eq!(stack.exec("web", &["pwd"]), "/usr");
    stack.run(&["exec", "-w", "/etc", "web", "pwd"]).success().stdout_is("/etc\n");
    stack.run(&["exec", "-u", "0:0", "web", "id", "-u"]).success().stdout_is("0\n");
    stack.run(&["exec", "-w", "/nonesuch", "web", "true"]).code(127).stderr_has("/nonesuch");
    stack.run(&["exec", "-w", "/etc/passwd", "web", "true"]).code(126).stderr_has("/etc/passwd");
    needs!(Need::Ids);
    stack.run(&["exec", "-u", "12:34", "web", "sh", "-c", "id -u; id -g"]).success().stdout_is("12\n34\n");
    stack.run(&["exec", "-u", "nobody", "web", "id", "-un"]).success().stdout_is("nobody\n");
    stack.run(&["exec", "-u", "nonesuch", "web", "true"]).failure().stderr_has("nonesuch");
}

#[test]
fn an_id_that_the_account_does_not_have_is_refused_with_the_way_out() {
    needs!(Need::OrdinaryUser);
    let stack = sleeper();
    stack.run(&["exec", "-u", "123456", "web", "true"]).failure().stderr_has("123456");
}

#[test]
fn it_runs_in_all_namespaces_of_the_service() {
    needs!(Need::Namespaces);
    let stack = sleeper();
    for kind in ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"] {
        assert_eq!(
            stack.exec("web", &["readlink", &format!("/proc/self/ns/{kind}")]),
            stack.namespace("web", kind),
            "{kind}"
        );
    }
}

#[test]
fn an_unknown_service_is_named_with_a_guess() {
    needs!(Need::Namespaces);
    let stack = sleeper();
    stack.run(&["exec", "wev", "true"]).code(2).stderr_has("`wev`").stderr_has("did you mean `web`?");
}

#[test]
fn a_program_that_is_not_there_is_127() {
    needs!(Need::Namespaces);
    let stack = sleeper();
    stack.run(&["exec", "web", "no-such-program"]).code(127).stderr_has("no-such-program");
    stack.run(&["exec", "web", "/etc/passwd"]).code(126).stderr_has("/etc/passwd");
}

#[test]
fn a_service_that_has_ended_cannot_be_entered() {
    needs!(Need::Namespaces);
    let stack = sleeper();
    stack.exit_code("gone");
    stack.run(&["exec", "gone", "true"]).failure().stderr_has("`gone`");
}

#[test]
fn a_stack_that_is_not_up_cannot_be_entered() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity]}}");
    stack.run(&["exec", "web", "true"]).code(1).stderr_has("is not up").stderr_has("up -d");
}

#[test]
fn signals_reach_the_command() {
    needs!(Need::Namespaces);
    let stack = sleeper();
    let script = "trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    let mut exec = stack.nscompose().args(["exec", "web", "sh", "-c", script]).start();
    exec.expect_stdout("ready");
    exec.signal(nix::sys::signal::Signal::SIGTERM);
    exec.wait().code(3).stdout_is("ready\ncaught\n");
}

#[test]
fn on_a_terminal_the_command_has_one() {
    needs!(Need::Program("script"));
    let stack = sleeper();
    let on_terminal = |command: &str| {
        let exec = format!("{} --home {} exec web {command}", env!("CARGO_BIN_EXE_nscompose"), stack.home().display());
        Run::new("script").args(["-qec", &exec, "/dev/null"]).dir(stack.path("")).env("TERM", "xterm-test").run()
    };
    let output = on_terminal("sh -c 'tty; test -t 0 && test -t 1 && test -t 2 && echo $TERM; exit 6'").code(6);
    let output = output.stdout_has("/dev/pts/").stdout_has("xterm-test");
    assert!(!output.stdout.contains("not a tty"), "{output}");
    stack.run(&["exec", "web", "tty"]).failure().stdout_has("not a tty");
}

#[test]
fn many_commands_at_the_same_time() {
    needs!(Need::Namespaces);
    let stack = sleeper();
    let started: Vec<_> = (0..8)
        .map(|i| stack.nscompose().args(["exec", "web", "sh", "-c", &format!("echo {i}; exit {i}")]).start())
        .collect();
    for (i, exec) in started.into_iter().enumerate() {
        exec.wait().code(i as i32).stdout_is(&format!("{i}\n"));
    }
}

#[test]
fn habits_of_other_tools_are_understood() {
    needs!(Need::Namespaces);
    let stack = sleeper();
    stack.run(&["exec", "-it", "web", "echo", "hello"]).success().stdout_is("hello\n");
    stack.run(&["exec", "-i", "-t", "web", "echo", "hello"]).success().stdout_is("hello\n");
    stack.run(&["exec", "web", "--", "ls", "-d", "/etc"]).success().stdout_is("/etc\n");
}

#[test]
fn a_folder_that_is_not_there_is_an_error() {
    needs!(Need::Namespaces);
    let stack = sleeper();
    stack.run(&["exec", "-w", "/nope", "web", "pwd"]).failure().stdout_is("").stderr_has("/nope");
}

#[test]
fn a_detached_command_runs_on() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], volumes: ['./share:/share']}}");
    stack.file("share/x", "");
    stack.up();
    let script = "echo unseen; while [ ! -e /share/go ]; do sleep 0.02; done; echo done > /share/done";
    stack.run(&["exec", "-d", "web", "sh", "-c", script]).success().stdout_is("");
    stack.file("share/go", "");
    wait_for("what it writes", || {
        std::fs::read_to_string(stack.path("share/done")).ok().filter(|text| text == "done\n")
    });
    stack.run(&["exec", "--detach", "web", "no-such-program"]).code(127).stderr_has("no-such-program");
}

#[test]
fn privileged_is_every_capability_of_the_container() {
    needs!(Need::Namespaces);
    let stack = sleeper();
    let capabilities = |flags: &[&str]| {
        let command = ["exec"].iter().chain(flags).chain(&["web", "awk", "/^CapEff/ {print $2}", "/proc/self/status"]);
        let output = stack.nscompose().args(command).run().success();
        u64::from_str_radix(output.stdout.trim(), 16).expect("hexadecimal")
    };
    // CAP_SYS_ADMIN (capabilities(7)).
    let admin = 1 << 21;
    assert_eq!(capabilities(&[]) & admin, 0);
    assert_eq!(capabilities(&["--privileged"]) & admin, admin);
}

#[test]
fn an_index_is_that_of_a_container_of_the_service() {
    needs!(Need::Namespaces);
    let stack = sleeper();
    stack.run(&["exec", "--index", "1", "web", "true"]).success();
    stack.run(&["exec", "--index", "2", "web", "true"]).code(1);
}

#[test]
fn who_hangs_up_before_the_command_runs_leaves_nothing() {
    needs!(Need::Program("python3"));
    let stack =
        Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], volumes: ['./passwd:/etc/passwd']}}");
    stack.file("passwd", "root:x:0:0::/root:/bin/sh\n");
    stack.up();
    let first = stack.pid("web");
    let status = std::fs::read_to_string(format!("/proc/{first}/status")).expect("it runs");
    let keeper = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("a parent").trim().to_owned();
    // Whoever opens the file waits for the holder of the lease, who does not care (fcntl(2), "Leases").
    let hold = "import fcntl, os, signal, sys\nsignal.signal(signal.SIGIO, signal.SIG_IGN)\n\
        fd = os.open(sys.argv[1], os.O_RDWR)\nfcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)\nprint('held', flush=True)\nsignal.pause()";
    let mut holder = Run::new("python3").args(["-c", hold]).arg(stack.path("passwd")).start();
    holder.expect_stdout("held");
    let is_held = || {
        let locks = std::fs::read_to_string("/proc/locks").expect("locks");
        let own = format!(" {} ", holder.pid());
        locks.lines().find(|line| line.contains("LEASE") && line.contains(&own)).map(str::to_owned)
    };
    let exec = stack.nscompose().args(["exec", "web", "true"]).start();
    wait_for("the command on its way", || is_held().filter(|lease| lease.contains("BREAKING")));
    drop(exec);
    wait_for("the end of what has begun", || {
        let children = std::fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).expect("the keeper");
        (children.trim() == first.to_string()).then_some(())
    });
    assert!(is_held().is_some(), "it has ended only when it was let go on");
}
