//! What is kept of what services write: all of it, in order, once, whatever else goes on.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::Read,
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::support::{Need, Run, Stack, needs, wait_for};

fn folder(stack: &Stack, service: &str) -> PathBuf {
    stack.home().join(format!("data/v1/stacks/{}/logs/{service}", stack.project()))
}

/// The names of the files of a log.
fn files(stack: &Stack, service: &str) -> Vec<String> {
    let entries = fs::read_dir(folder(stack, service)).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// Checks that the lines are numbers from one on, and gives the last one.
#[track_caller]
fn last_of_sequence(log: &str) -> usize {
    let mut expected = 0;
    for line in log.lines() {
        expected += 1;
        assert!(line == expected.to_string(), "`{line}` where {expected} should be");
    }
    expected
}

const EACH: usize = 100_000;

#[test]
fn a_million_lines_from_ten_services_are_there_each_in_order_and_once() {
    needs!(Need::Namespaces, Need::Program("seq"));
    let services: String =
        (0..10).map(|i| format!("  s{i}: {{rootfs: host, command: [seq, '1', '{EACH}']}}\n")).collect();
    let stack = Stack::new(&format!("services:\n{services}"));
    stack.up();
    wait_for("the end of all", || {
        let all = stack.ps();
        (all.len() == 10 && all.iter().all(|container| container.exit_code == Some(0))).then_some(())
    });
    let log = stack.run(&["logs"]).success().stdout;
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for line in log.lines() {
        let (service, number) = line.split_once(" | ").expect("a prefix");
        let seen = seen.entry(service).or_default();
        *seen += 1;
        assert!(number == seen.to_string(), "`{line}` where {seen} should be");
    }
    let expected: Vec<String> = (0..10).map(|i| format!("s{i}")).collect();
    assert!(seen.keys().eq(expected.iter()) && seen.values().all(|last| *last == EACH), "{seen:?}");
}

#[test]
fn a_flood_and_a_disk_that_hangs_are_nobody_elses() {
    needs!(Need::Namespaces, Need::Program("yes"));
    let yaml = r#"
services:
  keep: {rootfs: host, command: [sh, -c, "trap 'exit 0' TERM; while :; do sleep 0.02; done"]}
  stuck: {rootfs: host, command: [sh, -c, "yes stuck | head -n 200000"]}
  noisy: {rootfs: host, command: [yes, no end of it], logging: {driver: local, options: {max-size: 200k, max-file: 2}}}
  quiet: {rootfs: host, command: [sh, -c, "trap 'echo last words; exit 0' TERM; echo ready; while :; do sleep 0.02; done"]}
"#;
    let stack = Stack::new(yaml);
    stack.run(&["up", "-d", "keep"]).success();
    // The pipe is full after 64 KiB, and a write to it waits until we read.
    fs::create_dir_all(folder(&stack, "stuck")).expect("a folder");
    let fifo = folder(&stack, "stuck").join("1.jsonl");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).expect("a fifo");
    let held = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(&fifo).expect("open");
    stack.up();
    let mut follow = stack.nscompose().args(["logs", "-f", "--no-log-prefix", "quiet"]).start();
    follow.expect_stdout("ready\n");
    assert_eq!(stack.container("stuck").state, "running");
    assert_eq!(stack.container("noisy").state, "running");
    wait_for("many files of the flood", || {
        let number = |name: &String| name.split('.').next()?.parse::<u64>().ok();
        files(&stack, "noisy").iter().filter_map(number).any(|number| number >= 20).then_some(())
    });
    // With those that are just being made and removed.
    let names = files(&stack, "noisy");
    assert!(names.len() <= 6, "{names:?}");
    // Somebody has to read it in the end, or its writer would be waited for.
    let reading = std::thread::spawn(move || {
        let mut held = held;
        let mut bytes = [0; 65536];
        while fifo.exists() {
            if held.read(&mut bytes).is_err() {
                std::thread::yield_now();
            }
        }
    });
    stack.down();
    follow.wait().success().stdout_is("ready\nlast words\n");
    reading.join().expect("no panic");
    stack.traces().assert_gone();
}

#[test]
fn rotation_takes_no_line_from_those_who_follow_and_gives_none_twice() {
    needs!(Need::Namespaces, Need::Program("seq"));
    let stack = Stack::new(
        r#"
services:
  web:
    rootfs: host
    command: [sh, -c, "trap 'exit 0' TERM; while [ ! -e /go ]; do sleep 0.02; done; seq 1 30000; sleep infinity & wait"]
    logging: {options: {max-size: 50k, max-file: 1000, compress: "true"}}
"#,
    );
    stack.up();
    let mut follow = stack.nscompose().args(["logs", "-f", "--no-log-prefix"]).start();
    stack.exec("web", &["touch", "/go"]);
    follow.expect_stdout("\n30000\n");
    assert_eq!(last_of_sequence(&follow.stdout()), 30_000);
    // All but the last come to be compressed.
    let names = wait_for("compressed files", || {
        let names = files(&stack, "web");
        let plain = names.iter().filter(|name| name.ends_with(".jsonl")).count();
        (plain == 1 && !names.iter().any(|name| name.ends_with(".new"))).then_some(names)
    });
    assert!(names.len() > 20, "{names:?}");
    for name in names.iter().filter(|name| name.ends_with(".jsonl")) {
        assert!(fs::metadata(folder(&stack, "web").join(name)).expect("a file").len() <= 50_000);
    }
    assert_eq!(last_of_sequence(&stack.log("web")), 30_000);
    let tail = stack.run(&["logs", "-n", "20000", "--no-log-prefix"]).success().stdout;
    assert!(tail.starts_with("10001\n") && tail.lines().count() == 20_000);
    stack.down();
    let whole = follow.wait().success().stdout;
    assert_eq!(last_of_sequence(&whole), 30_000);
}

#[test]
fn files_are_no_more_than_was_said() {
    needs!(Need::Namespaces, Need::Program("seq"));
    let stack = Stack::new(
        r#"
services:
  plain:
    rootfs: host
    command: [sh, -c, "seq 1 20000; echo end; exec sleep infinity"]
    logging: {driver: json-file, options: {max-size: 10k, max-file: 3}}
  local:
    rootfs: host
    command: [sh, -c, "seq 1 20000; echo end; exec sleep infinity"]
    logging: {driver: local, options: {max-size: 10k, max-file: "2"}}
"#,
    );
    stack.up();
    for (service, count, compressed) in [("plain", 3, 0), ("local", 2, 1)] {
        stack.log_with(service, "end\n");
        // Read anew: while it was read there may have been more to remove.
        let log = stack.log(service);
        let lines: Vec<&str> = log.lines().collect();
        let (first, numbers) = (lines[0].parse::<usize>().expect("a number"), lines.len() - 1);
        assert!(first > 1 && first + numbers == 20_001, "{first} {numbers}");
        let names = wait_for("the last compression", || {
            let names = files(&stack, service);
            (names.iter().filter(|name| name.ends_with(".gz")).count() == compressed && names.len() == count)
                .then_some(names)
        });
        assert!(names.iter().all(|name| name.contains(".jsonl")), "{names:?}");
    }
}

#[test]
fn bytes_lines_of_any_length_and_unended_ones_come_out_as_they_went_in() {
    needs!(Need::Namespaces, Need::Program("python3"), Need::Program("cmp"));
    let stack = Stack::new(
        r#"
services:
  web: {rootfs: host, command: [sh, -c, "cat /data/all; exec sleep infinity"], volumes: ["./data:/data"]}
  other: {rootfs: host, command: [sh, -c, "sleep 0.01; printf unended >&2"]}
"#,
    );
    let python = r"
import os, sys
every = bytes(range(256)) * 20
sys.stdout.buffer.write(every + b'\n' + b'\r\n' + os.urandom(200000) + b'\n' + b'\xe2\x82' * 20000 + b'\n'
    + '\u20ac'.encode() * 20000 + b'\n' + b'x' * 3000000 + b'\n')
";
    let write = format!("python3 -c \"{python}\" > data/all && chmod -R a+rX data");
    stack.file("data/x", "");
    let _ = Run::new("sh").args(["-c", &write]).dir(stack.path("")).run().success();
    stack.up();
    let compare = format!(
        "{} --home {} logs --no-log-prefix web | cmp - data/all",
        env!("CARGO_BIN_EXE_nscompose"),
        stack.home().display()
    );
    wait_for("the same bytes", || {
        (Run::new("sh").args(["-c", &compare]).dir(stack.path("")).run().code == 0).then_some(())
    });
    stack.exit_code("other");
    assert_eq!(stack.log("other"), "unended\n");
    // Python knows the form.
    let read = r#"
import json, sys
bytes = b"".join(json.loads(line)["log"].encode("utf-8", "surrogateescape") for line in sys.stdin)
sys.stdout.buffer.write(bytes)
"#;
    stack.file("read.py", read);
    let compare = format!("python3 read.py < {}/1.jsonl | cmp - data/all", folder(&stack, "web").display());
    let _ = Run::new("sh").args(["-c", &compare]).dir(stack.path("")).run().success();
}

#[test]
fn a_foreground_shows_what_logs_shows() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"
services:
  web:
    rootfs: host
    command: [sh, -c, "printf 'a\\377b\\n'; head -c 100000 /dev/zero | tr '\\0' x; echo; echo err >&2; printf unended"]
"#,
    );
    let output = stack.up_in_foreground(&["--no-log-prefix"]).wait().success();
    assert_eq!(output.stdout, format!("a\u{fffd}b\n{}\nerr\nunended\n", "x".repeat(100_000)));
}

#[test]
fn a_service_may_keep_no_log() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"
services:
  web: {rootfs: host, command: [sh, -c, "echo unheard; exec sleep infinity"], logging: {driver: none}}
  other: {rootfs: host, command: [sh, -c, "echo heard; exec sleep infinity"]}
"#,
    );
    stack.up();
    stack.log_with("other", "heard");
    stack.run(&["logs", "--no-log-prefix"]).success().stdout_is("heard\n").stderr_lacks("none");
    stack.run(&["logs", "web"]).success().stdout_is("").stderr_has("service `web` keeps no log");
    assert_eq!(files(&stack, "web"), ["none"]);
    // From then on it does.
    let yaml = fs::read_to_string(stack.path("stack.yaml")).expect("a file").replace("driver: none", "driver: local");
    stack.file("stack.yaml", &yaml);
    stack.up();
    assert_eq!(stack.log_with("web", "unheard"), "unheard\n");
}

#[test]
fn records_have_the_attributes_that_are_asked_for() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"
services:
  web:
    rootfs: host
    command: [sh, -c, "echo hello; exec sleep infinity"]
    environment: {ONE: "1", TWO: "2", THREE: "3"}
    labels: {team: blue, com.example.a: "a", other: x}
    logging:
      options: {labels: "team,absent", labels-regex: "^com[.]example[.]", env: ONE, env-regex: "^TH", tag: "{{.Name}}/t"}
"#,
    );
    stack.up();
    assert_eq!(stack.log_with("web", "hello"), "hello\n");
    let text = fs::read_to_string(folder(&stack, "web").join("1.jsonl")).expect("a file");
    let record: serde_json::Value = serde_json::from_str(&text).expect("a record");
    let tag = format!("{}-web-1/t", stack.project());
    let expected = serde_json::json!({"team": "blue", "com.example.a": "a", "ONE": "1", "THREE": "3", "tag": tag});
    assert_eq!(record["attrs"], expected);
    assert_eq!((&record["log"], &record["stream"]), (&"hello\n".into(), &"stdout".into()));
}

#[test]
fn lines_can_be_chosen_by_time_and_number() {
    needs!(Need::Namespaces);
    let one =
        "{rootfs: host, command: [sh, -c, 'for i in 1 2 3 4; do echo $$i; sleep 0.05; done; exec sleep infinity']}";
    let stack = Stack::new(&format!("services:\n  a: {one}\n  b: {one}\n"));
    stack.up();
    stack.log_with("a", "4\n");
    stack.log_with("b", "4\n");
    let timed = stack.run(&["logs", "-t", "--no-log-prefix", "a"]).success().stdout;
    let times: Vec<&str> = timed.lines().filter_map(|line| Some(line.split_once(' ')?.0)).collect();
    let logs = |args: &[&str]| {
        let all = ["logs", "--no-log-prefix"].iter().chain(args).copied().collect::<Vec<_>>();
        stack.run(&all).success().stdout
    };
    assert_eq!(logs(&["a", "--since", times[2]]), "3\n4\n");
    assert_eq!(logs(&["a", "--until", times[1]]), "1\n2\n");
    assert_eq!(logs(&["a", "--until", times[2], "--tail", "1"]), "3\n");
    assert_eq!(logs(&["a", "--since", times[1], "--until", times[2]]), "2\n3\n");
    assert_eq!(logs(&["a", "--since", "10m"]), "1\n2\n3\n4\n");
    assert_eq!(logs(&["a", "--until", "2001-02-03"]), "");
    assert_eq!(logs(&["a", "--since", "4102444800"]), "");
    // Of each service, as in Docker Compose.
    assert_eq!(logs(&["--tail", "1"]), "4\n4\n");
    assert_eq!(logs(&["a", "-n", "all"]), "1\n2\n3\n4\n");
    // What is over is not waited for.
    assert_eq!(logs(&["a", "-f", "--until", times[1]]), "1\n2\n");
    stack.run(&["logs", "--since", "yesterday"]).code(2).stderr_has("write a time ago");
    stack.run(&["logs", "--index", "2", "a"]).code(1).stderr_has("service `a` has no container 2");
}

#[test]
fn logs_can_be_read_when_the_supervisor_and_its_keeper_are_gone() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sh, -c, 'echo one; echo two; exec sleep infinity']}, other: {rootfs: host, command: [sleep, infinity]}}",
    );
    stack.up();
    stack.log_with("web", "two");
    let mut follow = stack.nscompose().args(["logs", "-f", "--no-log-prefix"]).start();
    follow.expect_stdout("two\n");
    let keeper = Pid::from_raw(stack.keeper().expect("a keeper"));
    // It starts no other supervisor while it is stopped.
    kill(keeper, Signal::SIGSTOP).expect("stopped");
    let supervisor = stack.supervisor().expect("a supervisor");
    kill(Pid::from_raw(supervisor), Signal::SIGKILL).expect("killed");
    kill(keeper, Signal::SIGKILL).expect("killed");
    follow.wait().code(1).stdout_is("one\ntwo\n").stderr_has("have been killed");
    for _ in 0..2 {
        // Looking changes nothing.
        stack.run(&["logs"]).success().stdout_is("web   | one\nweb   | two\n");
        stack.run(&["logs", "web", "--tail", "1"]).success().stdout_is("web | two\n");
        stack.run(&["logs", "wbe"]).code(2).stderr_has("did you mean `web`?");
    }
    stack.down();
    stack.run(&["logs"]).success().stdout_is("").stderr_has("is not up");
}

#[test]
fn without_descriptors_a_log_goes_on_in_the_file_that_it_has() {
    needs!(Need::Namespaces, Need::Program("seq"));
    let stack = Stack::new(
        r#"
services:
  web:
    rootfs: host
    command: [sh, -c, "while [ ! -e /ctl/go ]; do sleep 0.02; done; seq 1 20000; touch /ctl/done; while [ ! -e /ctl/on ]; do sleep 0.02; done; seq 20001 20100; exec sleep infinity"]
    volumes: ["./ctl:/ctl"]
    logging: {options: {max-size: 20k, max-file: 1000}}
"#,
    );
    stack.file("ctl/x", "");
    stack.up();
    let supervisor = stack.supervisor().expect("a supervisor");
    let pid = rustix::process::Pid::from_raw(supervisor);
    let limit = |current| {
        let limit = rustix::process::Rlimit { current: Some(current), maximum: Some(1024) };
        rustix::process::prlimit(pid, rustix::process::Resource::Nofile, limit).expect("a limit");
    };
    limit(3);
    stack.file("ctl/go", "");
    wait_for("the flood", || stack.path("ctl/done").exists().then_some(()));
    limit(1024);
    stack.file("ctl/on", "");
    stack.log_with("web", "\n20100\n");
    assert_eq!(last_of_sequence(&stack.log("web")), 20_100);
    let file = File::open(folder(&stack, "web").join("1.jsonl")).expect("a file");
    assert!(file.metadata().expect("its size").len() > 20_000);
}

#[test]
fn records_have_the_labels_of_compose_too() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"
services:
  db: {rootfs: host, command: [sleep, infinity]}
  web:
    rootfs: host
    command: [sh, -c, "echo hello; exec sleep infinity"]
    scale: 2
    labels: {team: blue}
    depends_on: [db]
    logging: {options: {labels: "team,com.docker.compose.project,com.docker.compose.service,com.docker.compose.absent"}}
  all: {rootfs: host, command: [sh, -c, "echo hello"], depends_on: [db], logging: {options: {labels-regex: "[.]compose[.]"}}}
"#,
    );
    stack.up();
    let attributes = |service: &str| {
        let text = wait_for("a record", || {
            let text = fs::read_to_string(folder(&stack, service).join("1.jsonl")).unwrap_or_default();
            text.ends_with('\n').then_some(text)
        });
        let record: serde_json::Value = serde_json::from_str(&text).expect("a record");
        record["attrs"].clone()
    };
    let project = stack.project();
    let web = serde_json::json!({
        "team": "blue", "com.docker.compose.project": project, "com.docker.compose.service": "web",
    });
    assert_eq!([attributes("web"), attributes("web@2")], [web.clone(), web]);
    let file = stack.path("stack.yaml").display().to_string();
    let folder = stack.path("").display().to_string();
    assert_eq!(
        attributes("all"),
        serde_json::json!({
            "com.docker.compose.project": project,
            "com.docker.compose.service": "all",
            "com.docker.compose.container-number": "1",
            "com.docker.compose.oneoff": "False",
            "com.docker.compose.project.working_dir": folder.trim_end_matches('/'),
            "com.docker.compose.project.config_files": file,
            "com.docker.compose.depends_on": "db:service_started:false",
        })
    );
}
