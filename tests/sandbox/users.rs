//! `userns_mode: host`: without a user namespace of its own, a container is held all the same. And `cgroup`.

use std::fs;

use crate::support::{Need, Stack, is_root, needs};

fn host(kind: &str) -> String {
    fs::read_link(format!("/proc/self/ns/{kind}")).expect("ours").to_string_lossy().into_owned()
}

const REAL: &str = r#"
services:
  real: {rootfs: host, command: [sleep, infinity], userns_mode: host}
  wide: {rootfs: host, command: [sleep, infinity], userns_mode: host, network_mode: host, ipc: host, pid: host, uts: host, cgroup: host}
  side: {rootfs: host, command: [sleep, infinity], userns_mode: host, network_mode: "service:real", pid: "service:real"}
  mapped: {rootfs: host, command: [sleep, infinity]}
"#;

#[test]
fn users_of_the_host_are_those_of_whoever_makes_the_stack() {
    needs!(Need::Namespaces);
    let stack = Stack::new(REAL);
    stack.up();
    let users = stack.namespace("real", "user");
    if is_root() {
        assert_eq!(users, host("user"));
        assert_eq!(stack.sh("real", "xargs < /proc/self/uid_map"), "0 0 4294967295");
    } else {
        // An ordinary user's stack has users of its own, of which root is that user.
        assert_ne!(users, host("user"));
        assert_ne!(users, stack.namespace("mapped", "user"));
    }
    for service in ["wide", "side"] {
        assert_eq!(stack.namespace(service, "user"), users, "{service}");
    }
    assert_ne!(stack.namespace("mapped", "user"), users);
    for kind in ["net", "ipc", "pid", "uts", "mnt", "cgroup"] {
        assert_ne!(stack.namespace("real", kind), host(kind), "{kind}");
    }
    assert_eq!(stack.namespace("side", "net"), stack.namespace("real", "net"));
    assert_eq!(stack.namespace("side", "pid"), stack.namespace("real", "pid"));
    // Both find each other, and see their files as their own.
    assert!(stack.sh("real", "getent hosts mapped").contains("mapped"));
    stack.sh("real", "echo own > /etc/own && test \"$(stat -c %u /etc/own)\" = 0");
    assert!(!std::path::Path::new("/etc/own").exists());
    let traces = stack.traces();
    stack.down();
    traces.assert_gone();
}

#[test]
fn volumes_look_the_same_with_and_without_users_of_the_host() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"
services:
  real: {rootfs: host, command: [sleep, infinity], userns_mode: host, volumes: ["data:/data"]}
  mapped: {rootfs: host, command: [sleep, infinity], volumes: ["data:/data"]}
volumes: {data: }
"#,
    );
    stack.up();
    stack.sh("real", "echo real > /data/real");
    stack.sh("mapped", "cat /data/real && echo mapped > /data/mapped");
    assert_eq!(stack.sh("real", "stat -c %u:%g /data/mapped /data/real | xargs"), "0:0 0:0");
}

#[test]
fn what_a_user_namespace_keeps_from_root_is_kept_without_one() {
    needs!(Need::Program("unshare"), Need::Program("mknod"));
    let stack = Stack::new(REAL);
    stack.up();
    for service in ["real", "wide", "side"] {
        let fails = |script: &str| {
            let output = stack.run(&["exec", service, "sh", "-c", script]);
            assert_ne!(output.code, 0, "{service}: `{script}` went through: {output}");
        };
        // A value that is so anyway, should it go through; and what prints help.
        fails("cat /proc/sys/vm/swappiness > /tmp/now && cat /tmp/now > /proc/sys/vm/swappiness");
        fails("cat /proc/sys/kernel/core_pattern > /tmp/now && cat /tmp/now > /proc/sys/kernel/core_pattern");
        fails("echo h > /proc/sysrq-trigger");
        fails("mount -o remount,rw /proc/sys");
        fails("umount /proc/sys");
        fails("test -s /proc/kcore");
        fails("head -c 1 /proc/kcore | grep -q .");
        fails("cat /proc/timer_list | grep -q .");
        fails("test -e /sys/firmware/acpi");
        // Nowhere does a node that is made open its device: here one of which nothing but zeroes come.
        for folder in ["/dev", "/tmp", "/", "/dev/shm", "/run", "/etc"] {
            fails(&format!("mknod {folder}/made c 1 5 && head -c 1 {folder}/made | tr '\\0' x | grep -q x"));
        }
        // A namespace of its own gives no other /proc, and takes nothing off this one.
        fails("unshare -U -r -m -p -f mount -t proc proc /mnt");
        fails("unshare -U -r -m umount /proc/sys");
        fails("unshare -U -r -m mount -o remount,bind,rw /proc/sys");
        let options = stack.sh(
            service,
            "while read _ _ _ _ at options _; do if test $at = /sys; then echo $options; fi; done < /proc/self/mountinfo",
        );
        assert!(options.lines().all(|line| line.split(',').any(|option| option == "ro")), "{service}: {options}");
        assert!(!options.is_empty());
        // CAP_SYS_ADMIN, CAP_SYS_MODULE, CAP_SYS_RAWIO, CAP_SYS_PTRACE, CAP_NET_ADMIN
        let mask = stack.sh(service, "sed -n 's/^CapBnd:\\t//p' /proc/self/status");
        let mask = u64::from_str_radix(mask.trim(), 16).expect("a mask");
        for capability in [21, 16, 17, 19, 12] {
            assert_eq!(mask & (1 << capability), 0, "{service} has capability {capability}");
        }
    }
}

#[test]
fn control_groups_are_its_own_or_those_of_the_host() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"
services:
  own: {rootfs: host, command: [sleep, infinity], cgroup: private}
  all: {rootfs: host, command: [sleep, infinity], cgroup: host}
  real: {rootfs: host, command: [sleep, infinity], cgroup: host, userns_mode: host}
"#,
    );
    stack.up();
    assert_eq!(stack.namespace("all", "cgroup"), host("cgroup"));
    assert_ne!(stack.namespace("own", "cgroup"), host("cgroup"));
    // Each process sees its groups from the root of its namespace.
    let pid = stack.pid("all");
    assert_eq!(
        stack.sh("all", "cat /proc/1/cgroup"),
        fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it runs").trim_end()
    );
    assert!(stack.sh("own", "cat /proc/1/cgroup").lines().all(|line| line.ends_with(":/")));
    // An exec is where the container is.
    assert_eq!(stack.sh("own", "readlink /proc/self/ns/cgroup"), stack.namespace("own", "cgroup"));
    let mut ours: Vec<String> = fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with("nscompose"))
        .collect();
    ours.sort();
    let theirs = stack.sh("all", "ls /sys/fs/cgroup");
    for name in ours {
        assert!(theirs.lines().any(|line| line == name), "{name} is not among {theirs}");
    }
    for service in ["all", "real"] {
        stack.run(&["exec", service, "mkdir", "/sys/fs/cgroup/nscompose-made-inside"]).failure();
    }
}

#[test]
fn ns_shows_who_is_in_which_namespace() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        r#"
services:
  web: {rootfs: host, command: [sleep, infinity]}
  side: {rootfs: host, command: [sleep, infinity], network_mode: "service:web", pid: "service:web", ipc: host}
  ended: {rootfs: host, command: ["true"]}
"#,
    );
    assert!(stack.run(&["ns"]).success().stdout.starts_with("SERVICE"));
    stack.up();
    stack.exit_code("ended");
    let output = stack.run(&["ns", "--format", "json"]).success();
    let shown: serde_json::Value = serde_json::from_str(&output.stdout).expect("JSON");
    let cell = |service: &str, kind: &str| -> serde_json::Value {
        let rows = shown["Services"].as_array().expect("rows");
        let row = rows.iter().find(|row| row["Service"] == service).unwrap_or_else(|| panic!("{service} in {shown}"));
        row["Namespaces"][kind].clone()
    };
    for service in ["web", "side"] {
        for kind in ["user", "net", "ipc", "uts", "pid", "mnt", "cgroup"] {
            let inode = stack.namespace(service, kind);
            assert_eq!(format!("{kind}:[{}]", cell(service, kind)["Inode"]), inode, "{service} {kind}");
        }
    }
    let says = |service: &str, kind: &str, owner: &str, of: &str, pinned: bool| {
        let cell = cell(service, kind);
        assert_eq!((&cell["Owner"], &cell["OwnerKind"]), (&owner.into(), &of.into()), "{service} {kind}");
        assert_eq!(cell["Pinned"], pinned, "{service} {kind}");
    };
    says("web", "net", "web", "service", true);
    says("side", "net", "web", "service", true);
    says("side", "pid", "web", "service", true);
    says("side", "uts", "side", "service", true);
    says("side", "mnt", "side", "service", false);
    says("side", "ipc", "host", "host", false);
    says("ended", "net", "ended", "service", true);
    assert_eq!(cell("ended", "mnt"), serde_json::Value::Null);
    assert_eq!(cell("web", "net")["SharedBy"], serde_json::json!(["side"]));
    assert_eq!(cell("side", "net")["SharedBy"], serde_json::json!([]));
    assert_eq!(format!("net:[{}]", shown["Host"]["net"]), host("net"));
    assert!(shown["Stack"]["net"].is_u64());
    let table = stack.run(&["ns", "side"]).success().stdout;
    let row = table.lines().find(|line| line.starts_with("side")).expect("a row");
    assert!(row.contains(&format!("{} of web", cell("web", "net")["Inode"])), "{table}");
    assert!(!table.contains("\nweb"), "{table}");
}
