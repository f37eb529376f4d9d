//! What people are told when something is wrong, through the whole program: text, exit code, and nothing left.

mod support;

use std::{fs, os::unix::fs::PermissionsExt};

use support::{Need, Output, Run, Stack, needs, wait_for};

/// `up -d` of a file with a mistake.
fn wrong(yaml: &str) -> Output {
    let stack = Stack::new(yaml);
    let output = stack.run(&["up", "-d"]);
    assert!(!stack.home().join("run").exists(), "something was made\n{output}");
    let stderr = stack.normalised(&output.stderr);
    assert_eq!(output.stdout, "");
    Output { stderr, ..output }
}

#[test]
fn an_unknown_dependency_is_shown_where_it_stands() {
    needs!(Need::Namespaces);
    let output =
        wrong("services:\n  web:\n    rootfs: host\n    command: x\n    depends_on: [databse]\n  database:\n    rootfs: host\n    command: x\n").code(3);
    assert_eq!(
        output.stderr,
        "error: service `web` depends on `databse`, which is not declared\n \
         --> stack.yaml:6:18\n  |\n6 |     depends_on: [databse]\n  |                  ^^^^^^^\nhint: did you mean `database`?\n"
    );
}

#[test]
fn a_cycle_is_shown_as_its_path() {
    needs!(Need::Namespaces);
    let output = wrong(
        "services:\n  a: {rootfs: host, command: x, depends_on: [b]}\n  b: {rootfs: host, command: x, depends_on: [c]}\n  c: {rootfs: host, command: x, depends_on: [a]}\n",
    );
    let _ = output.code(3).stderr_has("`a -> b -> c -> a`").stderr_has("stack.yaml:3:");
}

#[test]
fn an_unknown_key_is_an_error_with_file_line_and_column() {
    needs!(Need::Namespaces);
    let output = wrong("services:\n  web:\n    rootfs: host\n    command: x\n    enviroment: {}\n").code(3);
    let _ = output.stderr_has("`enviroment`").stderr_has("stack.yaml:6:5").stderr_has("did you mean `environment`?");
}

#[test]
fn all_mistakes_of_a_file_are_told_at_once() {
    needs!(Need::Namespaces);
    let output =
        wrong("services:\n  web:\n    comand: x\n    ports: [nonsense]\n    depends_on: [nobody]\nnetwork: {}\n");
    let _ = output
        .code(3)
        .stderr_has("`comand`")
        .stderr_has("`nonsense`")
        .stderr_has("`network`")
        .stderr_has("stack.yaml:7:1");
}

#[test]
fn bad_yaml_is_shown_where_it_breaks() {
    needs!(Need::Namespaces);
    let _ = wrong("services:\n  web:\n    rootfs: host\n    command: [a, b\n")
        .code(3)
        .stderr_has("not YAML")
        .stderr_has("stack.yaml:");
    let _ = wrong("services:\n\tweb: {}\n").code(3).stderr_has("stack.yaml:3").stderr_has("hint");
}

#[test]
fn a_missing_file_is_named() {
    needs!(Need::Namespaces);
    let stack = Stack::empty();
    let _ = stack.run(&["up", "-d", "nowhere.yaml"]).code(3).stderr_has("nowhere.yaml");
    let _ = stack.run(&["-f", "not/here", "up"]).code(3).stderr_has("not/here");
    assert!(!stack.home().join("run").exists());
}

#[test]
fn no_file_at_all_says_what_was_looked_for() {
    needs!(Need::Namespaces);
    let stack = Stack::empty();
    let output = stack.run(&["up", "-d"]).code(3).stderr_has("compose.yaml").stderr_has("hint");
    let _ = output.stderr_has(stack.path("").display().to_string().trim_end_matches('/'));
}

#[test]
fn a_command_line_that_makes_no_sense_is_code_2() {
    needs!(Need::Namespaces);
    let stack = Stack::empty();
    for args in [&["frobnicate"][..], &["up", "--no-such-flag"], &[], &["exec", "web"], &["-p", "Not Valid", "ps"]] {
        let output = stack.run(args);
        assert_eq!(output.code, 2, "{output}");
        assert!(!output.stderr.is_empty(), "{output}");
    }
    let _ = stack.run(&["--help"]).success().stdout_has("Usage");
    let _ = stack.run(&["--version"]).success().stdout_has("nscompose");
}

#[test]
fn without_user_namespaces_the_sysctl_and_the_fix_are_named() {
    needs!(Need::OrdinaryUser, Need::Program("unshare"));
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity]}}");
    let script = format!(
        "echo 0 > /proc/sys/user/max_user_namespaces && exec {} --home {} up -d",
        env!("CARGO_BIN_EXE_nscompose"),
        stack.home().display()
    );
    let output = Run::new("unshare").args(["-Ur", "sh", "-c", &script]).dir(stack.path("")).env("HOME", "/").run();
    let output = output.code(4).stderr_has("user.max_user_namespaces is 0").stderr_has("sysctl --system");
    let _ = output.stderr_has("/etc/sysctl.d/");
    stack.traces().assert_gone();
}

#[test]
fn root_without_rights_is_told_what_it_lacks() {
    needs!(Need::Root, Need::Program("setpriv"));
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity]}}");
    let nscompose = [env!("CARGO_BIN_EXE_nscompose"), "--home"];
    let run = Run::new("setpriv").args(["--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]).args(nscompose);
    let output = run.arg(stack.home()).args(["up", "-d"]).dir(stack.path("")).env("HOME", "/").run();
    let _ = output.code(4).stderr_has("CAP_SYS_ADMIN");
    stack.traces().assert_gone();
}

#[test]
fn a_home_that_is_somebody_elses_is_refused() {
    needs!(Need::OrdinaryUser);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity]}}");
    for home in ["/proc", "/usr"] {
        let output = stack.bare().args(["--home", home, "up", "-d"]).run();
        let _ = output.code(4).stderr_has(home);
    }
}

#[test]
fn a_disk_that_cannot_be_written_to_is_named() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity]}}");
    stack.file("file", "");
    let output = stack.bare().arg("--home").arg(stack.path("file/home")).args(["up", "-d"]).run().failure();
    let _ = output.stderr_has("file/home");
}

#[test]
fn a_second_up_in_the_foreground_does_not_take_the_first_ones_stack() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sh, -c, 'echo ready; exec sleep infinity']}}");
    let mut first = stack.up_in_foreground(&[]);
    first.expect_stdout("ready");
    let pid = stack.pid("web");
    // Detached, with nothing to do: it says so and goes.
    let _ = stack.run(&["up", "-d"]).success().stderr_has("is up already");
    assert_eq!(stack.pid("web"), pid);
    assert!(first.is_running());
    let traces = stack.traces();
    let _ = stack.down();
    let _ = first.wait().success();
    traces.assert_gone();
}

#[test]
fn a_bind_source_that_must_be_there_is_named() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sleep, infinity], volumes: [{type: bind, source: ./absent, target: /x, bind: {create_host_path: false}}]}}",
    );
    let _ = stack.run(&["up", "-d"]).failure().stderr_has("absent");
    assert!(!stack.path("absent").exists());
    stack.traces().assert_gone();
}

#[test]
fn a_closed_pipe_ends_the_output_quietly() {
    needs!(Need::Program("sh"));
    let stack = Stack::new("services: {web: {rootfs: host, command: [sh, -c, 'seq 1 100000; exec sleep infinity']}}");
    let _ = stack.up();
    wait_for("the log", || stack.log("web").ends_with("100000\n").then_some(()));
    let script = format!("{} --home {} logs | head -n 1", env!("CARGO_BIN_EXE_nscompose"), stack.home().display());
    let output = Run::new("sh").args(["-c", &script]).dir(stack.path("")).run().success();
    assert_eq!(output.stderr, "");
    assert!(output.stdout.ends_with("| 1\n"), "{output}");
}

/// Every verb that has to do with a stack.
const VERBS: [&[&str]; 5] = [&["ps"], &["logs"], &["exec", "web", "true"], &["up", "-d"], &["down"]];

#[test]
fn a_runtime_folder_that_others_can_write_to_is_refused_by_every_verb() {
    needs!(Need::Namespaces);
    for folder in ["run", "run/v1"] {
        let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity]}}");
        let folder = stack.home().join(folder);
        fs::create_dir_all(&folder).expect("our folder");
        for part in [stack.home().join("run"), folder.clone()] {
            fs::set_permissions(part, fs::Permissions::from_mode(0o755)).expect("our folder");
        }
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("our folder");
        for verb in VERBS {
            let _ =
                stack.run(verb).failure().stderr_has(&folder.display().to_string()).stderr_has("only you can write");
        }
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("our folder");
        let _ = stack.up();
        let traces = stack.traces();
        let _ = stack.down();
        traces.assert_gone();
    }
}

#[test]
fn a_runtime_folder_of_somebody_else_is_refused_by_every_verb() {
    needs!(Need::OrdinaryUser);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity]}}");
    for verb in VERBS {
        // The runtime folder of this home is /run, which is root's.
        let output = stack.bare().args(["--home", "/"]).args(verb).run();
        let _ = output.code(4).stderr_has("/run");
    }
}

#[test]
fn a_lock_that_is_a_link_is_not_followed() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity]}}");
    stack.file("precious", "kept");
    let folder = stack.home().join("run/v1");
    fs::create_dir_all(&folder).expect("our folder");
    for part in [stack.home().join("run"), folder.clone()] {
        fs::set_permissions(part, fs::Permissions::from_mode(0o700)).expect("our folder");
    }
    let lock = folder.join(format!("{}.lock", stack.project()));
    std::os::unix::fs::symlink(stack.path("precious"), &lock).expect("a link");
    let _ = stack.run(&["up", "-d"]).failure().stderr_has(&lock.display().to_string());
    assert_eq!(fs::read_to_string(stack.path("precious")).expect("there"), "kept");
    fs::remove_file(&lock).expect("ours");
    let _ = stack.up();
    let traces = stack.traces();
    let _ = stack.down();
    traces.assert_gone();
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    needs!(Need::Program("sh"));
    let stack = Stack::new("services: {web: {rootfs: host, command: [sh, -c, 'echo hello; exec sleep infinity']}}");
    let _ = stack.up();
    wait_for("the log", || stack.log("web").contains("hello").then_some(()));
    for verb in ["ps", "ps --format json", "ps --services", "logs"] {
        let script =
            format!("exec {} --home {} {verb} > /dev/full", env!("CARGO_BIN_EXE_nscompose"), stack.home().display());
        let output = Run::new("sh").args(["-c", &script]).dir(stack.path("")).run();
        let _ = output.failure().stderr_has("cannot write to standard output");
    }
}
