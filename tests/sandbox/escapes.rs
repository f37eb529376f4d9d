//! Ways out of a container that others have found, each of which has to be closed.

use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
};

use nscompose::model::Rootfs;

use crate::support::{
    Need, Run, Stack,
    image::{self, ImageBuilder, KEEP, up_on},
    is_root, needs, wait_for,
};

/// Descriptors that something of ours could have while a container is made: more than there are.
const NUMBERS: std::ops::Range<u32> = 3..40;

/// CVE-2024-21626: the working directory is a link to a descriptor that leads outside.
#[test]
fn no_working_directory_leads_out_through_a_descriptor() {
    needs!(Need::Namespaces);
    let services: String = NUMBERS
        .map(|n| format!("  s{n}: {{rootfs: host, command: [sleep, infinity], working_dir: /proc/self/fd/{n}}}\n"))
        .collect();
    let stack = Stack::new(&format!(
        "services:\n  web: {{rootfs: host, command: [sleep, infinity], tmpfs: [/links]}}\n{services}"
    ));
    stack.run(&["up", "-d", "web"]).success();
    stack.sh(
        "web",
        &format!("for n in $(seq {} {}); do ln -s /proc/self/fd/$n /links/$n; done", NUMBERS.start, NUMBERS.end),
    );
    for n in NUMBERS {
        for folder in [format!("/proc/self/fd/{n}"), format!("/links/{n}"), format!("/proc/self/fd/{n}/../..")] {
            stack.run(&["exec", "-w", &folder, "web", "pwd"]).failure();
        }
        let failed = stack.run(&["up", "-d", &format!("s{n}")]).failure();
        assert!(failed.stderr.contains("working directory"), "{failed}");
    }
}

/// The same by a link in the files of a service, which its working directory goes through.
#[test]
fn no_link_of_an_image_makes_a_working_directory_of_a_descriptor() {
    needs!(Need::StaticBusybox);
    let services: String = NUMBERS
        .map(|n| format!("  s{n}: {{rootfs: ./root, command: [sleep, infinity], working_dir: /links/{n}}}\n"))
        .collect();
    let stack = Stack::new(&format!("services:\n{services}"));
    let root = stack.path("root");
    image::busybox_root(&root);
    fs::create_dir(root.join("links")).expect("a folder");
    for n in NUMBERS {
        symlink(format!("/proc/self/fd/{n}"), root.join(format!("links/{n}"))).expect("a link");
    }
    for n in NUMBERS {
        stack.run(&["up", "-d", &format!("s{n}")]).failure();
    }
}

/// The first process of a shared pid namespace, and an init, are ours, with the host's files or more rights than others have.
#[test]
fn nothing_of_ours_in_a_container_can_be_looked_into() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services:
  web: {rootfs: host, command: [sleep, infinity]}
  near: {rootfs: host, pid: 'service:web', cap_add: [ALL], security_opt: [seccomp=unconfined], command: [sleep, infinity]}
  ini: {rootfs: host, init: true, privileged: true, command: [sleep, infinity]}
",
    );
    stack.up();
    for service in ["near", "ini"] {
        assert!(["nsc-init", "init"].contains(&stack.exec(service, &["cat", "/proc/1/comm"]).as_str()));
        for path in ["root", "cwd", "exe"] {
            stack.run(&["exec", service, "readlink", &format!("/proc/1/{path}")]).failure();
        }
        for path in ["environ", "maps", "root/etc/passwd", "fd/0"] {
            stack.run(&["exec", service, "head", "-c1", &format!("/proc/1/{path}")]).failure();
        }
        stack.run(&["exec", "-w", "/proc/1/root", service, "pwd"]).failure();
        stack.run(&["exec", "-w", "/proc/1/cwd", service, "pwd"]).failure();
        stack.run(&["exec", service, "nsenter", "-t", "1", "-m", "true"]).failure();
    }
}

/// CVE-2019-5736, first half: the executable of what runs beside a container cannot be opened for writing, by nobody.
#[test]
fn the_executable_of_the_keeper_is_on_a_read_only_mount() {
    needs!(Need::Namespaces);
    let stack = Stack::new("services: {web: {rootfs: host, init: true, command: [sleep, infinity]}}");
    stack.up();
    let status = fs::read_to_string(format!("/proc/{}/status", stack.pid("web"))).expect("it runs");
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:\t")).expect("a parent").to_owned();
    for pid in [parent, stack.pid("web").to_string()] {
        // Truncation asks the mount first. Were it not for that, the kernel would say that it is being executed.
        let error = fs::OpenOptions::new().write(true).truncate(true).open(format!("/proc/{pid}/exe"));
        let error = error.expect_err("read-only").raw_os_error();
        assert_eq!(error, Some(libc::EROFS), "{pid}");
    }
}

/// CVE-2019-5736 as it goes: somebody enters by a script for the interpreter /proc/self/exe, and so runs our binary inside.
#[test]
fn our_binary_is_not_written_to_by_who_is_entered() {
    needs!(Need::Program("python3"));
    let before = fs::metadata(env!("CARGO_BIN_EXE_nscompose")).expect("the binary").modified().expect("a time");
    let script = r#"
import os
open('/tmp/script', 'w').write('#!/proc/self/exe\n')
os.chmod('/tmp/script', 0o755)
held = None
print('ready', flush=True)
while held is None:
    for p in os.listdir('/proc'):
        if p.isdigit() and int(p) > 1:
            try:
                fd = os.open('/proc/%s/exe' % p, os.O_RDONLY)
                head = os.pread(fd, 1 << 26, 0)
                if b'nsc-keeper' in head:
                    held = fd
                    break
                os.close(fd)
            except OSError:
                pass
while True:
    try:
        os.open('/proc/self/fd/%d' % held, os.O_WRONLY | os.O_TRUNC)
        print('wrote', flush=True)
        break
    except OSError as e:
        print('refused', e.errno, flush=True)
        if e.errno != 26:
            break
"#;
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [python3, /attack.py], volumes: ['./attack.py:/attack.py:ro']}}",
    );
    stack.file("attack.py", script);
    stack.up();
    stack.log_with("web", "ready");
    let log = wait_for("the attack", || {
        stack.run(&["exec", "web", "/tmp/script"]);
        let log = stack.log("web");
        (log.contains("refused") || log.contains("wrote")).then_some(log)
    });
    assert_eq!(log, format!("ready\nrefused {}\n", libc::EROFS));
    assert_eq!(fs::metadata(env!("CARGO_BIN_EXE_nscompose")).expect("the binary").modified().expect("a time"), before);
}

/// Mount points are resolved in the new root, whatever links are on the way.
#[test]
fn links_on_the_way_to_a_mount_point_stay_inside() {
    needs!(Need::StaticBusybox);
    let stack = Stack::new(
        "x-s: &s {rootfs: ./root, command: [sleep, infinity]}
services:
  up: {<<: *s, volumes: ['./data:/up/etc/inside']}
  far: {<<: *s, volumes: ['./data:/far/inside']}
  proc: {<<: *s, volumes: ['./data:/proc-link/self/attr']}
  fd: {<<: *s, volumes: ['./data:/fd-link/8/x']}
  loop: {<<: *s, volumes: ['./data:/loop/x']}
",
    );
    let (root, outside) = (stack.path("root"), stack.path("outside"));
    image::busybox_root(&root);
    fs::create_dir(&outside).expect("a folder");
    stack.file("data/mark", "it");
    symlink("../../../../../..", root.join("up")).expect("a link");
    symlink(&outside, root.join("far")).expect("a link");
    symlink("/proc", root.join("proc-link")).expect("a link");
    symlink("/proc/self/fd", root.join("fd-link")).expect("a link");
    symlink("/loop", root.join("loop")).expect("a link");
    stack.run(&["up", "-d", "up", "far"]).success();
    assert_eq!(stack.exec("up", &["cat", "/etc/inside/mark"]), "it");
    assert_eq!(stack.exec("far", &["cat", &format!("{}/inside/mark", outside.display())]), "it");
    assert_eq!(fs::read_dir(&outside).expect("a folder").count(), 0);
    assert!(!fs::exists("/etc/inside").expect("looked"));
    for service in ["proc", "fd", "loop"] {
        let failed = stack.run(&["up", "-d", service]).failure();
        assert!(failed.stderr.contains("mount point"), "{failed}");
    }
}

/// Somebody in a shared volume swaps a folder for a link while others are mounting into it.
#[test]
fn a_volume_that_others_change_leads_no_mount_outside() {
    needs!(Need::Program("python3"));
    let victims: String = (0..8)
        .map(|n| {
            format!("  v{n}: {{rootfs: host, command: ['true'], volumes: ['shared:/v', './data:/v/way/point{n}']}}\n")
        })
        .collect();
    let stack = Stack::new(&format!(
        "services:
  swap: {{rootfs: host, command: [python3, /swap.py], volumes: ['shared:/v', './swap.py:/swap.py:ro']}}
{victims}volumes: {{shared: {{}}}}
"
    ));
    let outside = stack.path("outside");
    fs::create_dir(&outside).expect("a folder");
    stack.file("data/mark", "it");
    // The folder and each of the links change places for half of the time.
    stack.file(
        "swap.py",
        &format!(
            "import ctypes, os
c = ctypes.CDLL(None)
os.makedirs('/v/way', exist_ok=True)
targets = ['/proc', '/proc/self/fd/8', '../../../../../../../..{0}', '{0}', '{0}']
for i, target in enumerate(targets): os.symlink(target, '/v/link%d' % i)
def swap(i): c.renameat2(-100, b'/v/way', -100, b'/v/link%d' % i, 2)
print('ready', flush=True)
n = 0
while True:
 n = (n + 1) % len(targets)
 swap(n)
 swap(n)
",
            outside.display()
        ),
    );
    stack.run(&["up", "-d", "swap"]).success();
    stack.log_with("swap", "ready");
    for round in 0..6 {
        for n in 0..8 {
            // One that has ended is started again. It may fail, in a folder that is none at this moment; it must not do its
            // work elsewhere.
            stack.run(&["up", "-d", &format!("v{n}")]);
        }
        assert_eq!(fs::read_dir(&outside).expect("a folder").count(), 0, "in round {round}");
        for n in 0..8 {
            assert!(!fs::exists(format!("/v/way/point{n}")).expect("looked"));
        }
    }
}

/// CVE-2025-31133 and CVE-2025-52565: devices of the image in the place of those that hide things, or of the console.
#[test]
fn devices_are_the_machines_own_whatever_an_image_has_in_their_place() {
    needs!(Need::StaticBusybox);
    let stack = Stack::new("services: {web: {rootfs: ./root, command: [sleep, infinity]}}");
    let root = stack.path("root");
    image::busybox_root(&root);
    fs::create_dir(root.join("dev")).expect("a folder");
    for device in ["null", "console", "pts", "shm"] {
        symlink("/proc/sys/kernel/core_pattern", root.join("dev").join(device)).expect("a link");
    }
    stack.up();
    assert_eq!(stack.sh("web", "busybox stat -c %F:%t:%T /dev/null"), "character special file:1:3");
    assert_eq!(stack.sh("web", "busybox stat -c %t:%T /proc/interrupts"), "1:3");
    assert_eq!(stack.sh("web", "ls /dev/console 2>&1 | busybox grep -c core_pattern; busybox true"), "0");
    assert!(
        stack.sh("web", "cat /proc/mounts").lines().any(|line| line.contains(" /proc/sys ") && line.contains("ro,"))
    );
}

/// What the kernel offers beside files, in a container with all capabilities and without a filter.
#[test]
fn the_kernel_gives_root_of_a_container_nothing_of_the_machine() {
    needs!(Need::Program("python3"));
    let stack = Stack::new(
        "services: {web: {rootfs: host, privileged: true, command: [sleep, infinity]}, all: {rootfs: host, privileged: true, pid: host, command: [sleep, infinity]}}",
    );
    let before = fs::read_to_string("/proc/sys/kernel/core_pattern").expect("readable");
    stack.up();
    for script in [
        "echo '|/tmp/x' > /proc/sys/kernel/core_pattern",
        "echo h > /proc/sysrq-trigger",
        "echo /tmp/x > /proc/sys/kernel/modprobe",
        "mknod /tmp/disk b 8 0",
        "mknod /tmp/memory c 1 1",
        "mkdir /tmp/c && mount -t cgroup -o memory c /tmp/c && echo /x > /tmp/c/release_agent",
        "mkdir /tmp/d && mount -t debugfs d /tmp/d",
        "mkdir /tmp/e && mount -t ext4 /dev/vda /tmp/e",
        "head -c1 /dev/mem",
        "dmesg -n 1",
        "modprobe dummy",
        "date -s @0",
    ] {
        stack.run(&["exec", "web", "sh", "-c", script]).failure();
    }
    assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern").expect("readable"), before);
    // Processes of the host are seen with `pid: host`, and that is all.
    let ours = std::process::id();
    for path in ["root", "exe", "cwd"] {
        stack.run(&["exec", "all", "readlink", &format!("/proc/{ours}/{path}")]).failure();
    }
    for pid in [ours.to_string(), stack.supervisor().expect("a supervisor").to_string()] {
        for path in ["environ", "mem", "fd/0", "root/etc/passwd"] {
            stack.run(&["exec", "all", "head", "-c1", &format!("/proc/{pid}/{path}")]).failure();
        }
        stack.run(&["exec", "all", "nsenter", "-t", &pid, "-m", "true"]).failure();
        stack.run(&["exec", "-w", &format!("/proc/{pid}/root"), "all", "true"]).failure();
        let trace = format!(
            "import ctypes, sys; c = ctypes.CDLL(None, use_errno=True); sys.exit(0 if c.ptrace(0x4206, {pid}, 0, 0) == 0 else 1)"
        );
        stack.run(&["exec", "all", "python3", "-c", &trace]).failure();
    }
    if is_root() {
        // An ordinary user's services may signal what is the user's.
        stack.run(&["exec", "all", "kill", "-0", &ours.to_string()]).failure();
    }
}

/// Keys of the caller's session are not handed on.
#[test]
fn keys_of_the_caller_stay_outside() {
    needs!(Need::Program("python3"));
    let stack = Stack::new(
        "services: {web: {rootfs: host, command: [sleep, infinity], security_opt: [seccomp=unconfined, systempaths=unconfined]}}",
    );
    // A session of its own, with a key, in which everything is started.
    let start = format!(
        "import ctypes, os; c = ctypes.CDLL(None); c.syscall({}, 1, None); assert c.syscall({}, b'user', b'nscompose-test', b'secret', 6, -3) > 0; os.execv('{}', ['nscompose', '--home', '{}', 'up', '-d'])",
        libc::SYS_keyctl,
        libc::SYS_add_key,
        env!("CARGO_BIN_EXE_nscompose"),
        stack.home().display(),
    );
    let run = Run::new("python3").args(["-c", &start]).dir(stack.path("")).env("HOME", stack.user_home());
    run.run().success();
    let search = format!(
        "import ctypes; c = ctypes.CDLL(None); print(c.syscall({}, 10, -3, b'user', b'nscompose-test', 0))",
        libc::SYS_keyctl
    );
    assert_eq!(stack.exec("web", &["python3", "-c", &search]), "-1");
}

/// The keeper and the supervisor of an ordinary user's stack, from a container that has the users of the host, sees the host's
/// processes and has all capabilities: what takes them over is the user outside.
#[test]
fn users_of_the_host_are_not_those_that_look_after_the_stack() {
    needs!(Need::OrdinaryUser, Need::Program("python3"), Need::Program("nsenter"));
    let stack = Stack::new(
        "services:
  web: {rootfs: host, userns_mode: host, pid: host, privileged: true, command: [sleep, infinity]}
  own: {rootfs: host, userns_mode: host, privileged: true, init: true, command: [sleep, infinity]}
",
    );
    stack.up();
    let status = fs::read_to_string(format!("/proc/{}/status", stack.pid("web"))).expect("it runs");
    let keeper = status.lines().find_map(|line| line.strip_prefix("PPid:\t")).expect("a parent");
    let supervisor = stack.supervisor().expect("a supervisor").to_string();
    for pid in [keeper, supervisor.as_str()] {
        for path in ["root", "cwd", "exe", "ns/mnt"] {
            stack.run(&["exec", "web", "readlink", &format!("/proc/{pid}/{path}")]).failure();
        }
        for path in ["environ", "mem", "fd/0", "root/etc/passwd"] {
            stack.run(&["exec", "web", "head", "-c1", &format!("/proc/{pid}/{path}")]).failure();
        }
        stack.run(&["exec", "web", "nsenter", "-t", pid, "-m", "true"]).failure();
        let trace = format!(
            "import ctypes, sys; c = ctypes.CDLL(None, use_errno=True); sys.exit(0 if c.ptrace(0x4206, {pid}, 0, 0) == 0 else 1)"
        );
        stack.run(&["exec", "web", "python3", "-c", &trace]).failure();
    }
    stack.run(&["exec", "own", "readlink", "/proc/1/exe"]).failure();
    // All the same both have the same users, with the same ids.
    assert_eq!(stack.namespace("web", "user"), stack.namespace("own", "user"));
    assert_ne!(
        stack.namespace("web", "user"),
        fs::read_link(format!("/proc/{}/ns/user", supervisor)).expect("ours").to_string_lossy()
    );
}

/// `export` reads the files of a container from inside, with descriptors of the host and, as root, with root's ids.
#[test]
fn who_exports_a_container_cannot_be_looked_into_by_it() {
    needs!(Need::StaticBusybox);
    let script = "while :; do for p in /proc/[0-9]*; do read c 2>/dev/null <$$p/comm && [ \"$$c\" = nscompose ] && \
        readlink $$p/root >/dev/null 2>&1 && echo caught $$p; done; echo round; done";
    let stack = Stack::new(&format!(
        "services:
  {KEEP}
  web: {{rootfs: ./image, pid: host, cap_add: [SYS_PTRACE], security_opt: [seccomp=unconfined], command: [sh, -c, {script:?}]}}
"
    ));
    let _ = stack.run(&["up", "-d", "keep"]).success();
    let image = ImageBuilder::new(&stack).busybox().build();
    up_on(&stack, &Rootfs::Layers(Box::new(image)), &["web"]).unwrap_or_else(|e| panic!("{}", e.render(false)));
    stack.log_with("web", "round");
    // It waits for its reader, who has seen that it has begun.
    let export = format!(
        "{} --home {} export web | {{ head -c1 >/dev/null; : >begun; while ! test -e go; do sleep 0.05; done; cat >/dev/null; }}",
        env!("CARGO_BIN_EXE_nscompose"),
        stack.home().display()
    );
    let export = Run::new("sh").args(["-c", &export]).dir(stack.path("")).env("HOME", stack.user_home()).start();
    wait_for("the export", || stack.path("begun").exists().then_some(()));
    let rounds = || stack.log("web").matches("round").count();
    let before = rounds();
    wait_for("two more rounds", || (rounds() > before + 2).then_some(()));
    let log = stack.log("web");
    stack.file("go", "");
    export.wait().success();
    assert!(!log.contains("caught"), "it was looked into: {log}");
}

/// What names addresses for one service is nothing that another one can write to.
#[test]
fn no_service_says_whom_others_ask_for_names() {
    needs!(Need::Namespaces);
    let stack = Stack::new(
        "services:
  web: {rootfs: host, command: [sleep, infinity]}
  db: {rootfs: host, command: [sleep, infinity]}
",
    );
    stack.up();
    stack.sh("web", "echo nameserver 192.0.2.66 > /etc/resolv.conf || true");
    assert!(!stack.exec("db", &["cat", "/etc/resolv.conf"]).contains("192.0.2.66"));
    stack.sh("web", "echo 192.0.2.66 db > /etc/hosts || true");
    assert!(!stack.exec("db", &["cat", "/etc/hosts"]).contains("192.0.2.66"));
}

/// A pipe with a name is a file of the host, and stays its owner's, whoever a program writes to it as.
#[test]
fn a_named_pipe_stays_that_of_its_owner() {
    needs!(Need::Ids, Need::Program("mkfifo"));
    let stack = Stack::new("services: {web: {rootfs: host, userns_mode: host, command: [sleep, infinity]}}");
    stack.up();
    let script = format!(
        "mkfifo pipe && {{ cat pipe & }} && {} --home {} exec -u 33 web sh -c 'echo written >&1' >pipe && wait",
        env!("CARGO_BIN_EXE_nscompose"),
        stack.home().display()
    );
    let run = Run::new("sh").args(["-c", &script]).dir(stack.path("")).env("HOME", stack.user_home());
    run.run().success().stdout_is("written\n");
    let (pipe, ours) =
        (fs::metadata(stack.path("pipe")).expect("a pipe"), fs::metadata(stack.path("")).expect("a folder"));
    assert_eq!((pipe.uid(), pipe.gid()), (ours.uid(), ours.gid()));
}
