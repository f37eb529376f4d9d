//! What a program starts with: groups, limits, settings of the kernel, and nothing of whoever brought the stack up.

use crate::support::{Need, Output, Run, Stack, needs};

/// Whether this account has a capability over the machine, by its number (capabilities(7)).
fn has_capability(number: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).expect("CapEff");
    u64::from_str_radix(line.trim(), 16).expect("hexadecimal") & (1 << number) != 0
}

const SYS_NICE: u32 = 23;
const SYS_RESOURCE: u32 = 24;

#[test]
fn further_groups_are_those_of_the_container() {
    needs!(Need::Ids);
    let stack = Stack::new(
        r#"
services:
  root: {rootfs: host, command: [sleep, infinity], group_add: [users, 4242, "4243"]}
  user: {rootfs: host, command: [sleep, infinity], user: nobody, group_add: [users, "4242"]}
"#,
    );
    stack.up();
    let users = stack.sh("root", "awk -F: '$1 == \"users\" {print $3}' /etc/group");
    let groups = |service: &str, which: &str| {
        stack.sh(service, &format!("awk '/^Groups:/ {{$1 = \"\"; print}}' /proc/{which}/status")).trim().to_owned()
    };
    let sorted = |more: &[&str]| {
        let mut all: Vec<u32> = more.iter().map(|gid| gid.parse().expect("a number")).collect();
        all.sort_unstable();
        all.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
    };
    // The first process, and what is run beside it.
    for which in ["1", "self"] {
        assert_eq!(groups("root", which), sorted(&["0", &users, "4242", "4243"]), "{which}");
        assert_eq!(groups("user", which), sorted(&["65534", &users, "4242"]), "{which}");
    }
}

#[test]
fn an_unknown_group_is_an_error_that_names_the_file() {
    needs!(Need::Ids);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], group_add: [nonesuch]}}");
    stack.run(&["up", "-d"]).failure().stderr_has("find group `nonesuch` in /etc/group of the container");
    let user = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], user: nonesuch}}");
    user.run(&["up", "-d"]).failure().stderr_has("find user `nonesuch` in /etc/passwd of the container");
    stack.traces().assert_gone();
}

#[test]
fn a_group_that_has_no_id_is_an_error_with_the_way_out() {
    needs!(Need::Ids);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], group_add: ['400000']}}");
    stack.run(&["up", "-d"]).failure().stderr_has("add group `400000`").stderr_has("hint");
    stack.traces().assert_gone();
}

#[test]
fn with_a_single_id_further_groups_are_refused_by_the_plan() {
    needs!(Need::SingleId);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], group_add: [users]}}");
    stack.run(&["up", "-d"]).failure().stderr_has("group `users`").stderr_has("single id").stderr_has("hint");
    stack.traces().assert_gone();
    // What it has anyway is no reason to refuse.
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], group_add: ['0', root]}}");
    stack.up();
}

#[test]
fn resource_limits_are_the_files() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"
services:
  web:
    rootfs: host
    command: [sh, -c, "cat /proc/self/limits; exec sleep infinity"]
    init: true
    ulimits:
      nofile: {soft: 100, hard: 200}
      core: 0
      fsize: 1000000
      cpu: {soft: 1000, hard: -1}
      sigpending: 77
"#,
    );
    stack.up();
    let check = |limits: &str, of: &str| {
        let has = |name: &str, soft: &str, hard: &str| {
            let line = limits.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{of}: {limits}"));
            let fields: Vec<&str> = line[name.len()..].split_whitespace().collect();
            assert_eq!(fields[..2], [soft, hard], "{of}: {name}");
        };
        has("Max open files", "100", "200");
        has("Max core file size", "0", "0");
        has("Max file size", "1000000", "1000000");
        has("Max cpu time", "1000", "unlimited");
        has("Max pending signals", "77", "77");
        // Docker's, where the file says nothing.
        has("Max nice priority", "0", "0");
        has("Max realtime priority", "0", "0");
    };
    check(&stack.log_with("web", "Max realtime timeout"), "the program");
    check(&stack.exec("web", &["cat", "/proc/self/limits"]), "exec");
}

#[test]
fn a_limit_that_cannot_be_had_is_refused_with_the_hosts() {
    needs!(Need::Namespaces);
    let stack =
        Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], ulimits: {nofile: 4000000000}}}");
    let most = if has_capability(SYS_RESOURCE) {
        std::fs::read_to_string("/proc/sys/fs/nr_open").expect("nr_open").trim().to_owned()
    } else {
        let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).expect("limit");
        hard.to_string()
    };
    let output = stack.run(&["up", "-d"]).failure();
    output.stderr_has("4000000000").stderr_has("`nofile`").stderr_has(&most).stderr_has("hint");
    stack.traces().assert_gone();
    // The hard limit of whoever asks is the bound for who may not raise it.
    if !has_capability(SYS_RESOURCE) {
        let stack =
            Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], ulimits: {fsize: 2000000000}}}");
        let script = format!("ulimit -f 1000000 && {}", up(&stack));
        let output = sh(&stack, &script).failure();
        output.stderr_has("2000000000").stderr_has("`fsize`");
        stack.traces().assert_gone();
    }
}

#[test]
fn the_oom_score_is_the_files_for_all_of_its_processes() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r"
services:
  web: {rootfs: host, command: [sleep, infinity], oom_score_adj: 321, init: true}
  none: {rootfs: host, command: [sleep, infinity]}
",
    );
    stack.up();
    assert_eq!(stack.sh("web", "cat /proc/1/oom_score_adj /proc/self/oom_score_adj"), "321\n321");
    assert_eq!(stack.sh("none", "cat /proc/1/oom_score_adj"), "0");
    let low = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], oom_score_adj: -900}}");
    let output = low.run(&["up", "-d"]);
    if has_capability(SYS_RESOURCE) {
        output.success();
        assert_eq!(low.sh("web", "cat /proc/1/oom_score_adj"), "-900");
    } else {
        output.failure().stderr_has("OOM score adjustment to -900").stderr_has("CAP_SYS_RESOURCE");
        low.traces().assert_gone();
    }
}

#[test]
fn settings_of_the_kernel_are_those_of_the_namespaces() {
    needs!(Need::Namespaces);
    let host = std::fs::read_to_string("/proc/sys/net/core/somaxconn").expect("somaxconn");
    let stack = Stack::new(
        r"
services:
  web:
    rootfs: host
    command: [sleep, infinity]
    sysctls:
      net.core.somaxconn: 777
      net/ipv4/ip_local_port_range: 20000 20100
      net.ipv4.conf.default.log_martians: 1
      net.ipv4.conf.eth0.arp_ignore: 2
      net.ipv4.ip_unprivileged_port_start: 99
      kernel.msgmax: 4321
      fs.mqueue.msg_max: 9
      kernel.hostname: named
      kernel.domainname: dom.example
  other: {rootfs: host, command: [sleep, infinity], network_mode: 'service:web'}
  list: {rootfs: host, command: [sleep, infinity], network_mode: none, sysctls: [net.core.somaxconn=55]}
",
    );
    stack.up();
    let read = |service: &str, name: &str| stack.exec(service, &["cat", &format!("/proc/sys/{name}")]);
    assert_eq!(read("web", "net/core/somaxconn"), "777");
    assert_eq!(read("web", "net/ipv4/ip_local_port_range"), "20000\t20100");
    // Set before there was an interface, so that it is for all that come.
    assert_eq!(read("web", "net/ipv4/conf/eth0/log_martians"), "1");
    assert_eq!(read("web", "net/ipv4/conf/eth0/arp_ignore"), "2");
    assert_eq!(read("web", "net/ipv4/ip_unprivileged_port_start"), "99");
    assert_eq!(read("web", "kernel/msgmax"), "4321");
    assert_eq!(read("web", "fs/mqueue/msg_max"), "9");
    assert_eq!(read("web", "kernel/hostname"), "named");
    assert_eq!(read("web", "kernel/domainname"), "dom.example");
    assert_eq!(read("other", "net/core/somaxconn"), "777");
    assert_eq!(read("other", "net/ipv4/ip_unprivileged_port_start"), "99");
    assert_ne!(read("other", "kernel/msgmax"), "4321");
    assert_eq!(read("list", "net/core/somaxconn"), "55");
    assert_eq!(std::fs::read_to_string("/proc/sys/net/core/somaxconn").expect("somaxconn"), host);
}

#[test]
fn what_the_kernel_does_not_take_is_named_with_its_value() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sleep, infinity], sysctls: {net.ipv4.ip_default_ttl: 100000}}}",
    );
    stack
        .run(&["up", "-d"])
        .failure()
        .stderr_has("`net.ipv4.ip_default_ttl` to `100000`")
        .stderr_has("invalid argument");
    stack.traces().assert_gone();
    let stack =
        Stack::new("services: {web: {rootfs: host, command: [sleep, infinity], sysctls: {net.ipv4.nonesuch: 1}}}");
    stack.run(&["up", "-d"]).failure().stderr_has("`net.ipv4.nonesuch` to `1`").stderr_has("hint");
    stack.traces().assert_gone();
}

#[test]
fn a_changed_setting_makes_the_namespace_anew() {
    needs!(Need::Namespaces);
    let file =
        |value: &str| format!("services: {{web: {{rootfs: host, command: [sleep, infinity], sysctls: {{{value}}}}}}}");
    let stack = Stack::new(&file("net.core.somaxconn: 99"));
    stack.up();
    stack.file("stack.yaml", &format!("name: {}\n{}", stack.project(), file("")));
    stack.up();
    assert_ne!(stack.exec("web", &["cat", "/proc/sys/net/core/somaxconn"]), "99");
}

/// `up -d` as a word of a shell script.
fn up(stack: &Stack) -> String {
    format!("exec {} --home {} up -d", env!("CARGO_BIN_EXE_nscompose"), stack.home().display())
}

fn sh(stack: &Stack, script: &str) -> Output {
    Run::new("sh").args(["-c", script]).dir(stack.path("")).env("HOME", stack.user_home()).run()
}

/// Does to itself what children and programs inherit, and becomes what its arguments say.
const ODD_CALLER: &str = r#"
import ctypes, os, resource, signal, sys
libc = ctypes.CDLL(None)
for number in [1, 2, 3, 13, 15, 34, 64]:
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
os.umask(0o077)
null = os.open("/dev/null", os.O_RDWR)
for fd in [3, 9, 57, 200]:
    os.dup2(null, fd, inheritable=True)
os.nice(7)
try:
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
except OSError:
    pass
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
for name, limit in [("FSIZE", 50000000), ("CPU", 1000), ("STACK", 4000000), ("NOFILE", 777), ("CORE", 0), ("NPROC", 4000),
                    ("AS", 4000000000)]:
    name = getattr(resource, "RLIMIT_" + name)
    resource.setrlimit(name, (limit, resource.getrlimit(name)[1]))
with open("/proc/self/oom_score_adj", "w") as f:
    f.write("555")
libc.personality(0x0040000)
libc.prctl(29, 123456)
libc.prctl(41, 1, 0, 0, 0)
with open("/proc/self/coredump_filter", "w") as f:
    f.write("0x7f")
os.execv(sys.argv[1], sys.argv[1:])
"#;

#[test]
fn nothing_is_inherited_from_whoever_brings_it_up() {
    needs!(Need::Program("python3"));
    let report = r"
cat /proc/self/status /proc/self/limits; echo umask $(umask); echo fds $(ls /proc/self/fd)
for f in personality timerslack_ns oom_score_adj coredump_filter; do echo $f $(cat /proc/self/$f 2>&1); done
echo stat $(cut -d')' -f2 /proc/self/stat); echo cwd $(pwd); echo env $(env | cut -d= -f1 | sort)
if (: < /dev/tty) 2>/dev/null; then echo terminal; fi; echo end";
    let stack = Stack::empty();
    stack.file("report", report);
    stack.file(
        "stack.yaml",
        &format!(
            "name: {}\nservices: {{web: {{rootfs: host, command: [sh, -c, '. /report; exec sleep infinity'], volumes: ['./report:/report:ro']}}}}",
            stack.project()
        ),
    );
    let binary = env!("CARGO_BIN_EXE_nscompose");
    let caller = |words: &[&str]| {
        let run = Run::new("python3").args(["-c", ODD_CALLER, binary, "--home"]).arg(stack.home()).args(words);
        run.dir(stack.path("")).env("HOME", stack.user_home()).env("ODD", "1").env("LD_ODD", "1").run().success()
    };
    caller(&["up", "-d"]);
    check_report(&stack.log_with("web", "end\n"), "the program");
    // The keeper that an exec comes from is the same; the caller of exec has no say either.
    check_report(&caller(&["exec", "web", "sh", "/report"]).stdout, "exec");
}

#[track_caller]
fn check_report(report: &str, of: &str) {
    let line = |start: &str| {
        let found = report.lines().find_map(|line| line.strip_prefix(start));
        found.unwrap_or_else(|| panic!("{of}: `{start}` is missing in {report}")).trim().to_owned()
    };
    for mask in ["SigBlk:", "SigIgn:", "SigPnd:", "CapInh:", "CapAmb:"] {
        assert_eq!(line(mask), "0000000000000000", "{of}: {mask}");
    }
    assert_eq!(line("umask "), "0022", "{of}");
    // 3 is ls's own.
    assert_eq!(line("fds "), "0 1 2 3", "{of}");
    assert_eq!(line("oom_score_adj "), "0", "{of}");
    assert_eq!(line("personality "), "00000000", "{of}");
    assert_eq!(line("timerslack_ns "), "50000", "{of}");
    assert_eq!(line("coredump_filter "), "00000033", "{of}");
    assert_eq!(line("THP_enabled:"), "1", "{of}");
    assert_eq!(line("cwd "), "/", "{of}");
    assert_eq!(line("env "), "HOME HOSTNAME PATH PWD", "{of}");
    assert!(!report.contains("terminal\n"), "{of}");
    let soft = |name: &str| line(name).split_whitespace().next().expect("a limit").to_owned();
    assert_eq!(soft("Max open files"), "1024", "{of}");
    assert_eq!(soft("Max stack size"), "8388608", "{of}");
    for name in ["Max file size", "Max cpu time", "Max core file size", "Max address space"] {
        let fields = line(name);
        let mut fields = fields.split_whitespace();
        assert_eq!(fields.next(), fields.next(), "{of}: {name}: soft as hard");
    }
    let all = std::fs::read_to_string("/proc/1/status").expect("status of pid 1");
    let all = all.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("processors").trim();
    assert_eq!(line("Cpus_allowed_list:"), all, "{of}");
    // After `)`: state, ppid, pgrp, session, tty, ...; 19 is nice, 41 the policy (proc_pid_stat(5)).
    let stat = line("stat ");
    let stat: Vec<&str> = stat.split_whitespace().collect();
    assert_eq!(stat[4], "0", "{of}: the controlling terminal");
    if has_capability(SYS_NICE) && crate::support::is_root() {
        assert_eq!(stat[16], "0", "{of}: nice");
    }
    assert_eq!(stat[38], "0", "{of}: scheduling policy");
}

/// Calls of keyctl(2) and add_key(2), which Python has no functions for.
const KEYS: &str = r#"
import ctypes, os, platform, sys
libc = ctypes.CDLL(None, use_errno=True)
add_key, keyctl = {"x86_64": (248, 250), "aarch64": (217, 219), "riscv64": (217, 219)}[platform.machine()]
SESSION, JOIN, SEARCH = -3, 1, 10
def search():
    found = libc.syscall(keyctl, SEARCH, SESSION, b"user", b"nscompose-test", 0)
    return "found" if found >= 0 else "none: " + os.strerror(ctypes.get_errno())
if len(sys.argv) > 1:
    libc.syscall(keyctl, JOIN, None)
    libc.syscall(add_key, b"user", b"nscompose-test", b"secret", 6, SESSION)
    print(search(), flush=True)
    os.execv(sys.argv[1], sys.argv[1:])
print(search())
"#;

#[test]
fn keys_of_the_callers_session_are_not_the_containers() {
    needs!(Need::Program("python3"));
    let stack = Stack::empty();
    stack.file("keys", KEYS);
    stack.file(
        "stack.yaml",
        &format!(
            "name: {}\nservices: {{web: {{rootfs: host, command: [sh, -c, 'python3 /keys; exec sleep infinity'], volumes: ['./keys:/keys:ro']}}}}",
            stack.project()
        ),
    );
    let caller = |words: &[&str]| {
        let run = Run::new("python3").args(["-c", KEYS, env!("CARGO_BIN_EXE_nscompose"), "--home"]).arg(stack.home());
        run.args(words).dir(stack.path("")).env("HOME", stack.user_home()).run().success()
    };
    caller(&["up", "-d"]).stdout_has("found");
    assert!(stack.log_with("web", "\n").starts_with("none"), "{}", stack.log("web"));
    // The caller has it here, too; what it runs in the container has not.
    caller(&["exec", "web", "python3", "/keys"]).stdout_has("found\nnone");
}
