//! `up`.

use std::path::Path;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::support::{Need, Stack, needs, wait_for};

#[test]
fn the_foreground_shows_lines_with_their_service_in_front() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [echo, from web]}, database: {rootfs: host, command: [sh, -c, 'echo from db >&2']}}",
    );
    let output = stack.up_in_foreground(&[]).wait().success();
    let mut lines: Vec<&str> = output.stdout.lines().collect();
    lines.sort_unstable();
    // No colours: the output is not a terminal.
    assert_eq!(lines, ["database | from db", "web      | from web"], "{output}");
}

#[test]
fn the_foreground_is_coloured_on_a_terminal() {
    needs!(Need::Program("script"));
    let stack = Stack::new("services: {web: {rootfs: host, command: [echo, hello]}}");
    let command = format!("{} --home {} up", env!("CARGO_BIN_EXE_nscompose"), stack.home().display());
    let on_terminal = crate::support::Run::new("script").args(["-qec", &command, "/dev/null"]).dir(stack.path(""));
    on_terminal.env("TERM", "xterm").run().success().stdout_has("\u{1b}[").stdout_has("hello");
}

#[test]
fn ctrl_c_stops_gracefully_and_shows_what_is_said_at_the_end() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"services: {web: {rootfs: host, command: [sh, -c, "trap 'echo bye; exit 0' TERM; echo ready; sleep infinity & wait"]}}"#,
    );
    let mut up = stack.up_in_foreground(&[]);
    up.expect_stdout("web | ready\n");
    let traces = stack.traces();
    up.signal(Signal::SIGINT);
    up.wait().code(130).stdout_is("web | ready\nweb | bye\n").stderr_has("web exited with code 0");
    traces.assert_gone();
}

#[test]
fn a_second_ctrl_c_kills_what_does_not_want_to_stop() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"services: {web: {rootfs: host, command: [sh, -c, "trap 'echo not yet' TERM; echo ready; while :; do sleep 0.05; done"], stop_grace_period: 1h}}"#,
    );
    let mut up = stack.up_in_foreground(&[]);
    up.expect_stdout("ready");
    let traces = stack.traces();
    up.signal(Signal::SIGINT);
    up.expect_stdout("not yet");
    assert!(up.is_running());
    up.signal(Signal::SIGINT);
    up.wait().code(130).stderr_has("killed");
    traces.assert_gone();
}

#[test]
fn sigterm_takes_a_foreground_stack_down() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sh, -c, 'echo ready; exec sleep infinity']}}");
    let mut up = stack.up_in_foreground(&[]);
    up.expect_stdout("ready");
    let traces = stack.traces();
    up.signal(Signal::SIGTERM);
    up.wait().failure();
    traces.assert_gone();
}

#[test]
fn a_foreground_up_ends_with_its_last_service() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {one: {rootfs: host, command: ['true']}, two: {rootfs: host, command: [sh, -c, 'echo last; exit 7']}}",
    );
    let watch = stack.watch();
    let output = stack.up_in_foreground(&[]).wait();
    watch.finish().assert_gone();
    output.stdout_has("two | last\n").stderr_has("two exited with code 7");
}

#[test]
fn down_from_elsewhere_ends_a_foreground_up() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sh, -c, 'echo ready; exec sleep infinity']}}");
    let mut up = stack.up_in_foreground(&[]);
    up.expect_stdout("ready");
    let traces = stack.traces();
    stack.down();
    up.wait().success().stderr_lacks("internal");
    traces.assert_gone();
}

#[test]
fn up_again_changes_nothing() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity]}}");
    stack.up();
    let pid = stack.pid("web");
    stack.run(&["plan"]).success();
    stack.up().stderr_has("is up already");
    assert_eq!(stack.pid("web"), pid);
}

#[test]
fn a_changed_service_is_made_anew_and_the_others_stay() {
    needs!(Need::Namespaces);
    let yaml = |value: &str| {
        format!(
            "services: {{web: {{rootfs: host, command: [sleep, infinity], environment: {{A: '{value}'}}}}, db: {{rootfs: host, command: [sleep, infinity]}}}}"
        )
    };
    let stack = Stack::new(&yaml("1"));
    stack.up();
    let (web, db) = (stack.pid("web"), stack.pid("db"));
    stack.file("stack.yaml", &format!("name: {}\n{}", stack.project(), yaml("2")));
    stack.up();
    assert_eq!(stack.exec("web", &["printenv", "A"]), "2");
    assert_ne!(stack.pid("web"), web);
    assert_eq!(stack.pid("db"), db);
}

#[test]
fn an_ended_service_is_started_again() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {once: {rootfs: host, command: ['true']}, web: {rootfs: host, command: [sleep, infinity]}}",
    );
    stack.up();
    stack.exit_code("once");
    let web = stack.pid("web");
    stack.up().stderr_has("once started");
    assert_eq!(stack.pid("web"), web);
}

#[test]
fn two_ups_at_the_same_moment_make_one_stack() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sleep, infinity]}, db: {rootfs: host, command: [sleep, infinity]}}",
    );
    for _ in 0..3 {
        let started = [0, 1, 2].map(|_| stack.nscompose().args(["up", "-d"]).start());
        let ended = started.map(|up| up.wait());
        assert!(ended.iter().any(|output| output.code == 0), "{ended:?}");
        for output in ended.iter().filter(|output| output.code != 0) {
            // Whoever loses is told so, not of a mistake of the program's own.
            assert!(output.code != 70 && !output.stderr.contains("panicked"), "{output}");
            assert!(output.stderr.contains("another"), "{output}");
        }
        let containers = stack.ps();
        assert!(containers.len() == 2 && containers.iter().all(|c| c.state == "running"), "{containers:?}");
        let traces = stack.traces();
        stack.down();
        traces.assert_gone();
    }
}

#[test]
fn quiet_says_nothing() {
    needs!(Need::Namespaces);
    // Without a network there is no uplink that could be missing here.
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], network_mode: none}}");
    let output = stack.run(&["-q", "up", "-d"]).success().stdout_is("");
    assert_eq!(output.stderr, "");
    assert_eq!(stack.run(&["-q", "down"]).success().stderr, "");
}

#[test]
fn a_detached_stack_outlives_the_folder_it_was_started_in() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity]}}");
    stack.up();
    std::fs::remove_dir_all(stack.path("")).expect("nobody is in it");
    stack.nscompose().dir("/").args(["-p", stack.project(), "down"]).run().success();
}

#[test]
fn a_service_can_be_changed_again_and_again() {
    needs!(Need::Program("hostname"));
    let yaml =
        |name: &str| format!("services: {{web: {{rootfs: host, command: [sleep, infinity], hostname: {name}}}}}");
    let stack = Stack::new(&yaml("host0"));
    stack.up();
    for round in 1..=3 {
        let name = format!("host{round}");
        stack.file("stack.yaml", &format!("name: {}\n{}", stack.project(), yaml(&name)));
        stack.up().stderr_lacks("File exists");
        assert_eq!(stack.exec("web", &["hostname"]), name);
    }
    let traces = stack.traces();
    stack.down();
    traces.assert_gone();
}

#[test]
fn the_end_of_a_replaced_container_says_nothing_of_its_successor() {
    needs!(Need::Program("setsid"));
    // What the first process leaves behind has the host's pids and a session of its own, and keeps the log pipe open.
    let yaml = |value: &str| {
        format!(
            r#"services: {{web: {{rootfs: host, pid: host, environment: {{A: '{value}'}}, command: [sh, -c, "setsid sh -c 'echo orphan $$$$; exec sleep 100000' & exec sleep infinity"]}}}}"#
        )
    };
    let orphan = |stack: &Stack| -> i32 {
        let log = stack.log_with("web", "\n");
        let last = log.lines().rfind(|line| line.starts_with("orphan ")).expect("a line");
        last["orphan ".len()..].parse().expect("a pid")
    };
    let runs = |pid: i32| Path::new(&format!("/proc/{pid}")).exists();
    let stack = Stack::new(&yaml("1"));
    stack.up();
    let (old, old_orphan) = (stack.pid("web"), orphan(&stack));
    let before = stack.traces();
    assert!(before.processes.keys().any(|(pid, _)| *pid == old_orphan), "{before:?}");
    stack.file("stack.yaml", &format!("name: {}\n{}", stack.project(), yaml("2")));
    stack.up();
    let new = stack.pid("web");
    assert_ne!(new, old);
    // Where there is a control group it has gone already.
    if runs(old_orphan) {
        let _ = kill(Pid::from_raw(old_orphan), Signal::SIGKILL);
    }
    wait_for("the end of what was left", || (!runs(old_orphan)).then_some(()));
    // Whatever there is to be told of the old one has been by the time that all of these have been answered.
    for _ in 0..10 {
        assert_eq!(stack.exec("web", &["printenv", "A"]), "2");
        let container = stack.container("web");
        assert_eq!((container.state.as_str(), container.pid), ("running", Some(new)));
    }
    wait_for("the new one's orphan", || (orphan(&stack) != old_orphan).then_some(()));
    let traces = stack.traces();
    stack.down();
    before.assert_gone();
    traces.assert_gone();
}

#[test]
fn a_service_that_is_not_in_the_file_any_more_is_warned_about() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sleep, infinity]}, db: {rootfs: host, command: [sleep, infinity]}}",
    );
    stack.up();
    let db = stack.pid("db");
    stack.file(
        "stack.yaml",
        &format!("name: {}\nservices: {{web: {{rootfs: host, command: [sleep, infinity]}}}}", stack.project()),
    );
    stack.up().stderr_has("warning").stderr_has("`db`").stderr_has("not in the file any more");
    assert_eq!(stack.pid("db"), db);
    let traces = stack.traces();
    stack.down();
    traces.assert_gone();
}

#[test]
fn services_of_profiles_that_nobody_asks_for_are_no_strangers() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {a: {rootfs: host, command: [sleep, infinity], profiles: [x]}, b: {rootfs: host, command: [sleep, infinity]}}",
    );
    stack.run(&["up", "-d", "a"]).success();
    let output = stack.run(&["up", "-d"]).success();
    assert!(!output.stderr.contains("not in the file"), "{output}");
    stack.run(&["exec", "a", "echo", "hello"]).success().stdout_is("hello\n");
}

#[test]
fn nothing_is_up_when_all_services_are_of_profiles_that_nobody_asks_for() {
    let stack = Stack::new("services: {a: {rootfs: host, profiles: [x]}, b: {rootfs: host, profiles: [y, x]}}");
    for verb in ["up", "plan"] {
        let output = stack.run(&[verb]).code(3).stderr_has("every service belongs to a profile that is not asked for");
        output.stderr_has("hint: ask for one with `--profile x` or `--profile y`");
    }
}

#[test]
fn a_rootfs_that_is_not_there_is_named_with_its_place() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services:\n  web: {rootfs: host, command: [sleep, infinity], depends_on: [db]}\n  db:\n    rootfs: ./gone\n    command: [sleep, infinity]\n  other: {rootfs: ./gone.tar, command: run}\n",
    );
    let refused = stack.run(&["up", "-d", "web"]).code(3).stderr_has("error: service `db`: its rootfs ");
    let refused = refused.stderr_has("gone is not there").stderr_has("stack.yaml:5:13").stderr_has("rootfs: ./gone\n");
    assert!(!refused.stderr.contains("other"), "{refused}");
}

#[test]
fn a_start_that_fails_has_let_go_of_its_lock_when_it_says_so() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity]}}");
    // In the place of the folder of the stack.
    let place = stack.home().join(format!("run/v1/{}", stack.project()));
    for _ in 0..10 {
        std::fs::create_dir_all(place.parent().expect("a folder")).expect("folders");
        std::fs::write(&place, "").expect("a file");
        stack.run(&["up", "-d"]).failure();
        assert_eq!(stack.supervisor(), None);
        let _ = std::fs::remove_file(&place);
    }
    stack.up();
}

#[test]
fn the_code_of_a_service_that_is_not_brought_up_is_not_waited_for() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sleep, infinity], depends_on: [db]}, db: {rootfs: host, command: [sh, -c, 'exit 4']}, job: {rootfs: host, command: ['true']}}",
    );
    for args in [&["job", "web"][..], &["db", "--no-deps", "web"]] {
        let up = [&["up", "--exit-code-from"], args].concat();
        stack.run(&up).code(2).stderr_has("it is not among what is brought up");
    }
    assert!(stack.supervisor().is_none(), "nothing has been begun");
    stack.run(&["up", "--exit-code-from", "db", "web"]).code(4);
}

#[test]
fn colours_and_progress_are_as_the_command_line_says() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {job: {rootfs: host, command: [echo, hello]}}");
    let up = |more: &[&str]| stack.run(&[more, &["up"]].concat()).success();
    let none = up(&["--ansi", "never", "--progress", "plain"]);
    assert!(!none.stdout.contains('\u{1b}') && !none.stderr.contains('\u{1b}'), "{none}");
    none.stderr_has("job started");
    let all = up(&["--ansi=always"]);
    assert!(all.stdout.contains('\u{1b}') && all.stderr.contains('\u{1b}'), "{all}");
    up(&["--ansi", "auto", "--progress", "auto"]).stderr_has("job started").stdout_has("hello");
    up(&["--progress", "quiet"]).stderr_lacks("started");
    let quiet =
        stack.nscompose().args(["up", "--menu=false"]).env("COMPOSE_PROGRESS", "quiet").env("COMPOSE_ANSI", "always");
    let quiet = quiet.run().success();
    assert!(!quiet.stderr.contains("started") && quiet.stdout.contains('\u{1b}'), "{quiet}");
    let empty = stack.nscompose().args(["up"]).env("COMPOSE_PROGRESS", "").env("COMPOSE_ANSI", "").run();
    empty.success().stderr_has("job started");
    stack.run(&["--ansi", "sometimes", "up"]).code(2).stderr_has("never, always, auto");
    stack.run(&["up", "--menu"]).code(2);
}
