//! What a service can see of the host and of others: nothing.

use std::{collections::BTreeSet, fs};

use crate::support::{Need, Stack, is_root, needs, wait_for};

const KINDS: [&str; 7] = ["pid", "net", "ipc", "mnt", "uts", "user", "cgroup"];

#[test]
fn every_namespace_is_the_services_own() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {one: {rootfs: host, command: [sleep, infinity]}, two: {rootfs: host, command: [sleep, infinity]}}",
    );
    stack.up();
    for kind in KINDS {
        let host = fs::read_link(format!("/proc/self/ns/{kind}")).expect("ours").to_string_lossy().into_owned();
        let (one, two) = (stack.namespace("one", kind), stack.namespace("two", kind));
        assert_eq!(BTreeSet::from([&host, &one, &two]).len(), 3, "{kind}: {host} {one} {two}");
    }
}

#[test]
fn the_program_is_pid_1_and_sees_only_its_own_processes() {
    needs!(Need::Namespaces);
    let stack =
        Stack::new("services: {web: {rootfs: host, command: [sh, -c, 'echo I am $$$$; sleep infinity & wait']}}");
    stack.up();
    stack.log_with("web", "I am 1\n");
    wait_for("the sleep", || {
        let seen = stack.sh("web", "cat /proc/[0-9]*/comm");
        let seen: BTreeSet<&str> = seen.lines().collect();
        assert!(seen.iter().all(|name| ["sh", "sleep", "cat"].contains(name)), "{seen:?}");
        (seen.contains("sleep")).then_some(())
    });
    assert_eq!(stack.sh("web", "stat -f -c %T /proc"), "proc");
}

#[test]
fn init_is_pid_1_and_collects_orphans() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"services: {web: {rootfs: host, init: true, command: [sh, -c, "echo $$$$; (sleep 0.01 & sleep 0.01 & sleep 0.01 &); exec sleep infinity"]}}"#,
    );
    stack.up();
    let own: u32 = stack.log_with("web", "\n").trim().parse().expect("a pid");
    assert_ne!(own, 1);
    assert_eq!(stack.sh("web", "cat /proc/1/comm"), "init");
    assert_eq!(stack.sh("web", &format!("awk '/^PPid/ {{print $2}}' /proc/{own}/status")), "1");
    wait_for("the orphans to be collected", || {
        let pids = stack.sh("web", "for p in /proc/[0-9]*; do cat $p/comm; done | sort | uniq -c");
        pids.contains("1 sleep").then_some(())
    });
}

#[test]
fn host_and_domain_name_are_its_own() {
    needs!(Need::Program("hostname"));
    let before = nix::unistd::gethostname().expect("a name");
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sleep, infinity], hostname: box, domainname: example.test}, plain: {rootfs: host, command: [sleep, infinity]}}",
    );
    stack.up();
    assert_eq!(stack.exec("web", &["hostname"]), "box");
    assert_eq!(stack.exec("web", &["cat", "/proc/sys/kernel/domainname"]), "example.test");
    assert_eq!(stack.exec("web", &["cat", "/etc/hostname"]), "box");
    assert_eq!(stack.exec("web", &["hostname", "--fqdn"]), "box.example.test");
    assert!(stack.exec("web", &["cat", "/etc/hosts"]).lines().any(|line| line.ends_with("\tbox.example.test box")));
    assert_eq!(stack.exec("plain", &["hostname"]), format!("{}-plain-1", stack.project()));
    assert_eq!(nix::unistd::gethostname().expect("a name"), before);
}

#[test]
fn only_its_own_interfaces_are_seen() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sleep, infinity]}, both: {rootfs: host, command: [sleep, infinity], networks: [a, b]}, none: {rootfs: host, command: [sleep, infinity], network_mode: none}}\nnetworks: {a: {}, b: {}}",
    );
    stack.up();
    let interfaces = |service: &str| stack.sh(service, "ls /sys/class/net | xargs");
    assert_eq!(interfaces("web"), "eth0 lo");
    assert_eq!(interfaces("both"), "eth0 eth1 lo");
    assert_eq!(interfaces("none"), "lo");
    assert!(stack.sh("none", "cat /proc/net/route").lines().count() <= 1);
}

#[test]
fn root_inside_is_not_root_outside() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity]}}");
    stack.up();
    assert_eq!(stack.exec("web", &["id", "-u"]), "0");
    let status = fs::read_to_string(format!("/proc/{}/status", stack.pid("web"))).expect("it runs");
    let ids = |field: &str| -> Vec<u32> {
        let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a field");
        line.split_whitespace().filter_map(|id| id.parse().ok()).collect()
    };
    let (uids, gids) = (ids("Uid:"), ids("Gid:"));
    if is_root() {
        assert!(uids.iter().chain(&gids).all(|id| *id >= 0x4000_0000), "{uids:?} {gids:?}");
    } else {
        assert_eq!(uids, [nix::unistd::getuid().as_raw(); 4]);
        assert_eq!(gids, [nix::unistd::getgid().as_raw(); 4]);
    }
}

#[test]
fn two_services_of_root_have_no_id_in_common() {
    needs!(Need::Root);
    let stack = Stack::new(
        "services: {one: {rootfs: host, command: [sleep, infinity]}, two: {rootfs: host, command: [sleep, infinity]}}",
    );
    stack.up();
    assert_ne!(stack.exec("one", &["cat", "/proc/self/uid_map"]), stack.exec("two", &["cat", "/proc/self/uid_map"]));
}

#[test]
fn the_kernel_cannot_be_touched() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity]}}");
    stack.up();
    for script in [
        "echo x > /proc/sysrq-trigger",
        "echo 1 > /proc/sys/kernel/panic",
        "echo core > /proc/sys/kernel/core_pattern",
        "mknod /dev/mine b 8 0",
        "echo 1 > /sys/kernel/uevent_seqnum",
    ] {
        stack.run(&["exec", "web", "sh", "-c", script]).failure();
    }
    assert!(!stack.sh("web", "ls /dev").contains("sda"));
}

#[test]
fn nothing_of_nscompose_stays_open_in_a_program() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {web: {rootfs: host, command: [sleep, infinity]}}");
    stack.up();
    // The one that ls opens is 3.
    assert_eq!(stack.sh("web", "ls /proc/1/fd | xargs"), "0 1 2");
    assert_eq!(stack.sh("web", "exec ls /proc/self/fd | xargs"), "0 1 2 3");
}

#[test]
fn control_groups_are_its_own() {
    needs!(Need::Cgroups);
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sleep, infinity]}, db: {rootfs: host, command: [sleep, infinity]}}",
    );
    stack.up();
    let outside = fs::read_to_string(format!("/proc/{}/cgroup", stack.pid("web"))).expect("it runs");
    // The stack's group has a digest behind its name, for stacks of the same name elsewhere.
    let mut lines = outside.lines().filter(|line| line.starts_with("0::"));
    let group = format!("/nscompose/{}.", stack.project());
    assert!(lines.any(|line| line.contains(&group) && line.ends_with("/web")), "{outside}");
    assert!(stack.sh("web", "cat /proc/1/cgroup").lines().any(|line| line == "0::/"));
}

#[test]
fn nothing_that_comes_in_can_be_looked_into_on_its_way() {
    needs!(Need::Program("python3"));
    // Root of the container looks at whatever turns up beside it, for as long as programs are being sent in.
    let script = "import os\\nprint('looking', flush=True)\\nwhile not os.path.exists('/ctl/enough'):\\n for p in os.listdir('/proc'):\\n  try:\\n   for f in os.listdir('/proc/%s/fd' % p):\\n    t = os.readlink('/proc/%s/fd/%s' % (p, f))\\n    if p.isdigit() and int(p) > 1 and not t.startswith(('pipe:', '/dev/', '/lib', '/usr', '/etc')):\\n     print('saw', p, f, t, flush=True)\\n  except OSError:\\n   pass\\nprint('done', flush=True)";
    let stack = Stack::new(&format!(
        "services: {{web: {{rootfs: host, command: [python3, -c, \"{script}\"], volumes: ['./ctl:/ctl']}}}}"
    ));
    stack.file("ctl/x", "");
    stack.up();
    stack.log_with("web", "looking");
    for _ in 0..30 {
        stack.run(&["exec", "web", "true"]).success();
    }
    stack.file("ctl/enough", "");
    assert_eq!(stack.log_with("web", "done"), "looking\ndone\n");
}

#[test]
fn command_lines_of_ours_tell_nothing_of_the_host() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services:
  a: {rootfs: host, command: [sleep, infinity], init: true}
  b: {rootfs: host, command: [sleep, infinity]}
  c: {rootfs: host, command: [sleep, infinity], init: true, pid: 'service:b'}
",
    );
    stack.up();
    for service in ["a", "c"] {
        let lines = stack.sh(service, "for pid in 1 $(pidof init); do tr '\\0' ' ' < /proc/$pid/cmdline; echo; done");
        assert!(lines.contains("nsc"), "{lines}");
        assert!(!lines.contains(stack.project()), "{lines}");
    }
}
