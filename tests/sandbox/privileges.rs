//! What the programs of a service may do, and how a file gives them more or less.

use crate::support::{Need, Stack, needs};

/// Lines of /proc/self/status, or of another process's.
fn status(stack: &Stack, service: &str, pid: &str, field: &str) -> String {
    stack.sh(service, &format!("sed -n 's/^{field}:[[:space:]]*//p' /proc/{pid}/status"))
}

/// Capabilities: permitted, effective, inheritable, ambient, and the most that there can be.
fn capabilities(stack: &Stack, service: &str) -> [u64; 5] {
    ["CapPrm", "CapEff", "CapInh", "CapAmb", "CapBnd"]
        .map(|field| u64::from_str_radix(&status(stack, service, "self", field), 16).expect("a number"))
}

/// Docker's (moby, oci/caps/defaults.go).
const USUAL: u64 = 0xa804_25fb;
const NET_ADMIN: u64 = 1 << 12;
const SYS_TIME: u64 = 1 << 25;
const ALL: u64 = (1 << 41) - 1;

/// Calls a system call without arguments and prints its error number.
const CALL: &str = "import ctypes, sys; c = ctypes.CDLL(None, use_errno=True); r = c.syscall(int(sys.argv[1]), 0, 0, 0, 0); print(ctypes.get_errno() if r < 0 else 'done')";

#[test]
fn capabilities_are_those_of_docker_and_what_the_file_adds_and_takes() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "x-s: &s {rootfs: host, command: [sleep, infinity]}
services:
  usual: {<<: *s}
  more: {<<: *s, cap_add: [NET_ADMIN, cap_sys_time]}
  fewer: {<<: *s, cap_drop: [NET_RAW, CAP_KILL]}
  one: {<<: *s, cap_drop: [ALL], cap_add: [Chown]}
  none: {<<: *s, cap_drop: [all]}
  most: {<<: *s, cap_add: [ALL], cap_drop: [SYS_TIME]}
",
    );
    stack.up();
    // Those that this kernel knows.
    let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").expect("readable");
    let known = (1 << (last.trim().parse::<u32>().expect("a number") + 1)) - 1;
    for (service, expected) in [
        ("usual", USUAL),
        ("more", USUAL | NET_ADMIN | SYS_TIME),
        ("fewer", USUAL & !(1 << 13) & !(1 << 5)),
        ("one", 1),
        ("none", 0),
        ("most", ALL & known & !SYS_TIME),
    ] {
        assert_eq!(capabilities(&stack, service), [expected, expected, 0, 0, expected], "exec in {service}");
        assert_eq!(status(&stack, service, "1", "CapEff"), format!("{expected:016x}"), "{service}");
    }
}

#[test]
fn who_is_not_root_has_no_capabilities_but_what_a_program_could_give() {
    needs!(Need::Ids);
    let stack = Stack::new(
        "services: {web: {rootfs: host, user: '33', cap_add: [NET_ADMIN], command: [sleep, infinity]}, ini: {rootfs: host, init: true, user: '33', command: [sleep, infinity]}}",
    );
    stack.up();
    assert_eq!(capabilities(&stack, "web"), [0, 0, 0, 0, USUAL | NET_ADMIN]);
    assert_eq!(capabilities(&stack, "ini"), [0, 0, 0, 0, USUAL]);
    assert_eq!(status(&stack, "web", "1", "CapPrm"), "0000000000000000");
    assert_eq!(status(&stack, "ini", "1", "CapPrm"), "0000000000000000");
    let root = stack.run(&["exec", "-u", "0", "web", "grep", "CapEff", "/proc/self/status"]).success();
    assert_eq!(root.stdout.trim(), format!("CapEff:\t{:016x}", USUAL | NET_ADMIN));
}

#[test]
fn no_new_privileges_in_every_spelling() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "x-s: &s {rootfs: host, command: [sleep, infinity]}
services:
  off: {<<: *s}
  alone: {<<: *s, security_opt: [no-new-privileges]}
  colon: {<<: *s, security_opt: ['no-new-privileges:true']}
  equals: {<<: *s, security_opt: [no-new-privileges=true], init: true}
  no: {<<: *s, security_opt: ['no-new-privileges:false']}
",
    );
    stack.up();
    for (service, set) in [("off", "0"), ("alone", "1"), ("colon", "1"), ("equals", "1"), ("no", "0")] {
        assert_eq!(status(&stack, service, "1", "NoNewPrivs"), set, "{service}");
        assert_eq!(status(&stack, service, "self", "NoNewPrivs"), set, "exec in {service}");
        assert_eq!(status(&stack, service, "1", "Seccomp"), "2", "{service}");
    }
}

#[test]
fn system_calls_are_filtered_for_services_inits_and_execs() {
    needs!(Need::Program("python3"));
    let stack = Stack::new(
        "x-s: &s {rootfs: host, command: [sleep, infinity]}
services:
  usual: {<<: *s}
  init: {<<: *s, init: true}
  admin: {<<: *s, cap_add: [SYS_ADMIN]}
  all: {<<: *s, security_opt: ['seccomp:unconfined']}
  also: {<<: *s, security_opt: [seccomp=unconfined]}
",
    );
    stack.up();
    for (service, mode) in [("usual", "2"), ("init", "2"), ("admin", "2"), ("all", "0"), ("also", "0")] {
        assert_eq!(status(&stack, service, "1", "Seccomp"), mode, "{service}");
        assert_eq!(status(&stack, service, "self", "Seccomp"), mode, "exec in {service}");
    }
    let call = |service, number: i64| stack.exec(service, &["python3", "-c", CALL, &number.to_string()]);
    let says = |errno: i32| errno.to_string();
    assert_eq!(call("usual", libc::SYS_getpid), "done");
    // A rule with a condition: an ordinary process, and a new user namespace.
    assert_eq!(stack.sh("usual", "sh -c 'exit 3'; echo $?"), "3");
    for denied in [libc::SYS_unshare, libc::SYS_keyctl, libc::SYS_add_key, libc::SYS_mount, libc::SYS_io_uring_setup] {
        assert_eq!(call("usual", denied), says(libc::EPERM), "{denied}");
    }
    // A C library that hears of no such call takes an older one.
    assert_eq!(call("usual", libc::SYS_clone3), says(libc::ENOSYS));
    assert_eq!(call("usual", 600), says(libc::ENOSYS));
    assert_eq!(call("admin", libc::SYS_unshare), "done");
    assert_eq!(call("admin", libc::SYS_keyctl), says(libc::EPERM));
    assert_eq!(call("all", libc::SYS_unshare), "done");
    stack.run(&["exec", "usual", "unshare", "-U", "true"]).failure();
    stack.run(&["exec", "all", "unshare", "-U", "true"]).success();
}

#[test]
fn a_profile_of_the_stack_is_taken() {
    needs!(Need::Program("python3"));
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sleep, infinity], security_opt: [seccomp=deny/it.json]}, ini: {rootfs: host, init: true, command: [sleep, infinity], security_opt: ['seccomp:./deny/it.json', no-new-privileges]}}",
    );
    stack.file(
        "deny/it.json",
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"], "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95},
            {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 97, "args": [{"index": 0, "value": 16, "op": "SCMP_CMP_EQ"}]},
            {"names": ["pidfd_send_signal"], "action": "SCMP_ACT_ERRNO"}
        ]}"#,
    );
    stack.up();
    for service in ["web", "ini"] {
        let failed = stack.run(&["exec", service, "mkdir", "/tmp/x"]).failure();
        assert!(failed.stderr.contains("not supported"), "{failed}");
        let script = "import socket\nsocket.socket(socket.AF_INET)\ntry:\n socket.socket(socket.AF_NETLINK)\nexcept OSError as e:\n print(e.errno)";
        assert_eq!(stack.exec(service, &["python3", "-c", script]), "97");
    }
    // Its init passes signals on by the older way: it ends at once, and not when patience does.
    let pid = stack.pid("ini");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM).expect("sent");
    assert_eq!(stack.exit_code("ini"), 143);
}

/// What is hidden, as far as this machine has it: by an empty folder or the null device.
const HIDDEN: &str = "for f in /proc/acpi /proc/asound /proc/interrupts /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list \
    /proc/timer_stats /proc/sched_debug /proc/scsi /sys/firmware /sys/devices/virtual/powercap /sys/devices/system/cpu/cpu0/thermal_throttle; do \
    if [ -d $f ]; then [ -z \"$(ls -A $f)\" ] || echo $f; elif [ -e $f ]; then [ \"$(stat -c %t:%T $f)\" = 1:3 ] || echo $f; fi; done";

/// What can be written to, by its mount.
const WRITABLE: &str = "for f in /proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger; do \
    [ ! -e $f ] || grep -q \" $f proc ro,\" /proc/self/mounts || echo $f; done";

#[test]
fn files_of_the_kernel_are_hidden_or_read_only() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "x-s: &s {rootfs: host, command: [sleep, infinity]}
services:
  usual: {<<: *s, cap_add: [NET_ADMIN]}
  host: {<<: *s, pid: host, network_mode: host}
  all: {<<: *s, security_opt: [systempaths=unconfined], cap_add: [NET_ADMIN]}
",
    );
    stack.up();
    for service in ["usual", "host"] {
        assert_eq!(stack.sh(service, HIDDEN), "", "hidden in {service}");
        assert_eq!(stack.sh(service, WRITABLE), "", "read-only in {service}");
        assert!(stack.sh(service, "grep ' /sys ' /proc/self/mounts").contains(" ro,"), "{service}");
    }
    assert!(stack.sh("all", HIDDEN).contains("/proc/interrupts"));
    assert!(stack.sh("all", WRITABLE).contains("/proc/sys"));
    // What a service may set of its own network is there to be set; the usual one has it read-only.
    let set = "echo 1 > /proc/sys/net/ipv4/ip_forward";
    stack.run(&["exec", "usual", "sh", "-c", set]).failure();
    stack.run(&["exec", "all", "sh", "-c", set]).success();
}

#[test]
fn a_privileged_service_may_do_what_root_of_a_user_namespace_may() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {web: {rootfs: host, privileged: true, command: [sleep, infinity]}, bound: {rootfs: host, privileged: true, security_opt: [seccomp=default], command: [sleep, infinity]}}",
    );
    stack.up();
    assert_eq!(status(&stack, "web", "1", "Seccomp"), "0");
    assert_eq!(status(&stack, "bound", "1", "Seccomp"), "2");
    assert_eq!(status(&stack, "web", "self", "CapEff"), status(&stack, "web", "self", "CapBnd"));
    assert!(stack.sh("web", HIDDEN).contains("/proc/interrupts"));
    assert!(stack.sh("web", "grep ' /sys ' /proc/self/mounts").contains(" rw,"));
    stack.sh("web", "echo 1 > /proc/sys/net/ipv4/ip_forward");
    stack.sh("web", "mount -t tmpfs x /mnt && touch /mnt/x && umount /mnt");
    stack.sh("web", "unshare -Urmpf --mount-proc true");
    // Devices of the host are seen. What may be done with them is as it is for nobody.
    let ours: Vec<String> = std::fs::read_dir("/dev")
        .expect("/dev")
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    let theirs = stack.sh("web", "ls /dev");
    let own = ["console", "core", "shm", "mqueue", "hugepages", "initctl", "log"];
    let missing: Vec<&String> =
        ours.iter().filter(|name| !own.contains(&name.as_str()) && !theirs.lines().any(|line| line == *name)).collect();
    assert_eq!(missing, Vec::<&String>::new());
    stack.sh("web", "echo x > /dev/null && [ -e /dev/pts/ptmx ]");
    stack.run(&["exec", "web", "mknod", "/tmp/disk", "b", "8", "0"]).failure();
}

/// A stack inside a service of a stack, on the host's files, with the binary mounted.
#[test]
fn nscompose_runs_in_a_privileged_service() {
    needs!(Need::Namespaces);
    let stack = Stack::new(&format!(
        "services:
  outer:
    rootfs: host
    privileged: true
    command: [sleep, infinity]
    volumes: ['{}:/usr/local/bin/nscompose:ro', './inner:/inner', 'home:/nested']
volumes: {{home: {{}}}}
",
        env!("CARGO_BIN_EXE_nscompose")
    ));
    stack.file(
        "inner/compose.yaml",
        "name: inner
services:
  web: {rootfs: host, command: [sleep, infinity]}
  next: {rootfs: host, command: [sleep, infinity], ipc: 'service:web', init: true}
",
    );
    stack.up();
    // Files that are mounted in /etc, as /etc/hosts is, must not hide the others.
    stack.sh("outer", "head -c 100000 /dev/zero > /etc/large; echo small > /etc/small; chmod 640 /etc/small");
    let inner = |arguments: &str| stack.sh("outer", &format!("cd /inner && nscompose --home /nested {arguments}"));
    inner("up -d");
    let listed = inner("ps --format json");
    assert_eq!(listed.matches(r#""running""#).count(), 2, "{listed}");
    assert_eq!(inner("exec web hostname"), "inner-web-1");
    assert_eq!(
        inner("exec web sh -c 'head -c 5 /etc/passwd; stat -c %a /etc/small; echo more >> /etc/small'"),
        "root:640"
    );
    assert_eq!(
        inner("exec web sh -c 'cat /etc/small; wc -c < /etc/large; ls -d /etc/init.d'"),
        "small\nmore\n100000\n/etc/init.d"
    );
    assert_eq!(stack.sh("outer", "cat /etc/small"), "small", "the outer one's is another");
    assert_eq!(inner("exec web sh -c 'grep ^Seccomp: /proc/self/status'"), "Seccomp:\t2");
    assert_eq!(inner("exec next cat /proc/1/comm"), "init");
    inner("down");
    assert_eq!(inner("ps --format json"), "");
    assert_eq!(stack.sh("outer", "ls -A /nested/run 2>/dev/null || true"), "");
}
