//! The filter that a container gets unless it says otherwise: the same calls as in Docker's default profile.
//!
//! The facts are those of moby/profiles (`seccomp/default_linux.go`, 2026): which calls are allowed, which with which
//! arguments, and which capability goes with which. Calls of machines that nscompose does not run on are left out. That
//! ptrace(2) needs Linux 4.8 there is always so here.

use crate::model::{
    Capabilities, Comparison, SeccompAction, SeccompArch, SeccompCondition, SeccompProfile, SeccompRule, When,
};

/// Calls that every container may make.
#[rustfmt::skip]
const ALLOWED: &[&str] = &[
    "_llseek", "_newselect", "accept", "accept4", "access", "adjtimex", "alarm", "bind", "brk", "cachestat", "capget",
    "capset", "chdir", "chmod", "chown", "chown32", "clock_adjtime", "clock_adjtime64", "clock_getres",
    "clock_getres_time64", "clock_gettime", "clock_gettime64", "clock_nanosleep", "clock_nanosleep_time64", "close",
    "close_range", "connect", "copy_file_range", "creat", "dup", "dup2", "dup3", "epoll_create", "epoll_create1",
    "epoll_ctl", "epoll_ctl_old", "epoll_pwait", "epoll_pwait2", "epoll_wait", "epoll_wait_old", "eventfd",
    "eventfd2", "execve", "execveat", "exit", "exit_group", "faccessat", "faccessat2", "fadvise64", "fadvise64_64",
    "fallocate", "fanotify_mark", "fchdir", "fchmod", "fchmodat", "fchmodat2", "fchown", "fchown32", "fchownat",
    "fcntl", "fcntl64", "fdatasync", "fgetxattr", "flistxattr", "flock", "fork", "fremovexattr", "fsetxattr", "fstat",
    "fstat64", "fstatat64", "fstatfs", "fstatfs64", "fsync", "ftruncate", "ftruncate64", "futex", "futex_requeue",
    "futex_time64", "futex_wait", "futex_waitv", "futex_wake", "futimesat", "get_robust_list", "get_thread_area",
    "getcpu", "getcwd", "getdents", "getdents64", "getegid", "getegid32", "geteuid", "geteuid32", "getgid",
    "getgid32", "getgroups", "getgroups32", "getitimer", "getpeername", "getpgid", "getpgrp", "getpid", "getppid",
    "getpriority", "getrandom", "getresgid", "getresgid32", "getresuid", "getresuid32", "getrlimit", "getrusage",
    "getsid", "getsockname", "getsockopt", "gettid", "gettimeofday", "getuid", "getuid32", "getxattr", "getxattrat",
    "inotify_add_watch", "inotify_init", "inotify_init1", "inotify_rm_watch", "io_cancel", "io_destroy",
    "io_getevents", "io_pgetevents", "io_pgetevents_time64", "io_setup", "io_submit", "ioctl", "ioprio_get",
    "ioprio_set", "ipc", "kill", "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "lchown",
    "lchown32", "lgetxattr", "link", "linkat", "listen", "listmount", "listxattr", "listxattrat", "llistxattr",
    "lremovexattr", "lseek", "lsetxattr", "lstat", "lstat64", "madvise", "map_shadow_stack", "membarrier",
    "memfd_create", "memfd_secret", "mincore", "mkdir", "mkdirat", "mknod", "mknodat", "mlock", "mlock2", "mlockall",
    "mmap", "mmap2", "mprotect", "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedreceive_time64",
    "mq_timedsend", "mq_timedsend_time64", "mq_unlink", "mremap", "mseal", "msgctl", "msgget", "msgrcv", "msgsnd",
    "msync", "munlock", "munlockall", "munmap", "name_to_handle_at", "nanosleep", "newfstatat", "open", "openat",
    "openat2", "pause", "pidfd_open", "pidfd_send_signal", "pipe", "pipe2", "pkey_alloc", "pkey_free",
    "pkey_mprotect", "poll", "ppoll", "ppoll_time64", "prctl", "pread64", "preadv", "preadv2", "prlimit64",
    "process_mrelease", "process_vm_readv", "process_vm_writev", "pselect6", "pselect6_time64", "ptrace", "pwrite64",
    "pwritev", "pwritev2", "read", "readahead", "readlink", "readlinkat", "readv", "recv", "recvfrom", "recvmmsg",
    "recvmmsg_time64", "recvmsg", "remap_file_pages", "removexattr", "removexattrat", "rename", "renameat",
    "renameat2", "restart_syscall", "rmdir", "rseq", "rt_sigaction", "rt_sigpending", "rt_sigprocmask",
    "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait", "rt_sigtimedwait_time64",
    "rt_tgsigqueueinfo", "sched_get_priority_max", "sched_get_priority_min", "sched_getaffinity", "sched_getattr",
    "sched_getparam", "sched_getscheduler", "sched_rr_get_interval", "sched_rr_get_interval_time64",
    "sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler", "sched_yield", "seccomp", "select",
    "semctl", "semget", "semop", "semtimedop", "semtimedop_time64", "send", "sendfile", "sendfile64", "sendmmsg",
    "sendmsg", "sendto", "set_robust_list", "set_thread_area", "set_tid_address", "setfsgid", "setfsgid32",
    "setfsuid", "setfsuid32", "setgid", "setgid32", "setgroups", "setgroups32", "setitimer", "setpgid", "setpriority",
    "setregid", "setregid32", "setresgid", "setresgid32", "setresuid", "setresuid32", "setreuid", "setreuid32",
    "setrlimit", "setsid", "setsockopt", "setuid", "setuid32", "setxattr", "setxattrat", "shmat", "shmctl", "shmdt",
    "shmget", "shutdown", "sigaltstack", "signalfd", "signalfd4", "sigprocmask", "sigreturn", "socketcall",
    "socketpair", "splice", "stat", "stat64", "statfs", "statfs64", "statmount", "statx", "symlink", "symlinkat",
    "sync", "sync_file_range", "syncfs", "sysinfo", "tee", "tgkill", "time", "timer_create", "timer_delete",
    "timer_getoverrun", "timer_gettime", "timer_gettime64", "timer_settime", "timer_settime64", "timerfd_create",
    "timerfd_gettime", "timerfd_gettime64", "timerfd_settime", "timerfd_settime64", "times", "tkill", "truncate",
    "truncate64", "ugetrlimit", "umask", "uname", "unlink", "unlinkat", "uretprobe", "utime", "utimensat",
    "utimensat_time64", "utimes", "vfork", "vmsplice", "wait4", "waitid", "waitpid", "write", "writev",
];

/// Calls that go with a capability.
const WITH_CAPABILITY: &[(&str, &[&str])] = &[
    ("DAC_READ_SEARCH", &["open_by_handle_at"]),
    (
        "SYS_ADMIN",
        &[
            "bpf",
            "clone",
            "clone3",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "lsm_get_self_attr",
            "lsm_list_modules",
            "lsm_set_self_attr",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "perf_event_open",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "syslog",
            "umount",
            "umount2",
            "unshare",
        ],
    ),
    ("SYS_BOOT", &["reboot"]),
    ("SYS_CHROOT", &["chroot"]),
    ("SYS_MODULE", &["delete_module", "init_module", "finit_module"]),
    ("SYS_PACCT", &["acct"]),
    ("SYS_PTRACE", &["kcmp", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev", "ptrace"]),
    ("SYS_RAWIO", &["iopl", "ioperm"]),
    ("SYS_TIME", &["settimeofday", "stime", "clock_settime", "clock_settime64"]),
    ("SYS_TTY_CONFIG", &["vhangup"]),
    ("SYS_NICE", &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    ("SYSLOG", &["syslog"]),
    ("BPF", &["bpf"]),
    ("PERFMON", &["perf_event_open"]),
];

/// Calls of some machines, as Go calls these.
const OF_MACHINE: &[(&str, &[&str])] = &[
    ("amd64", &["arch_prctl", "modify_ldt"]),
    ("arm64", &["arm_fadvise64_64", "arm_sync_file_range", "sync_file_range2", "breakpoint", "cacheflush", "set_tls"]),
];

/// Values of personality(2): Linux as it is, a Linux 2.6 (PER_LINUX32 with and without UNAME26), and what only asks.
const PERSONALITIES: [u64; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Families of socket(2) that are left out, for each a reason: AF_DECnet (12), AF_ECONET (19), AF_ATMSVC (20), AF_IRDA (23),
/// AF_WANPIPE (24), AF_ISDN (34) and AF_CAIF (37) are gone from the kernel or going; AF_ALG (38) opens the kernel's
/// cryptography, with a history of holes; AF_VSOCK (40) leads to the hypervisor and knows no network namespaces.
const NO_FAMILY: [u64; 9] = [12, 19, 20, 23, 24, 34, 37, 38, 40];

/// The last family that there is (AF_MCTP). What comes later has to be looked at first.
const LAST_FAMILY: u64 = 45;

/// Flags of clone(2) that make namespaces: NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const NEW_NAMESPACES: u64 = 0x7e02_0000;

/// The profile.
pub(super) fn profile() -> SeccompProfile {
    let calls = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let allow = |names: &[&str]| SeccompRule {
        calls: calls(names),
        action: SeccompAction::Allow,
        conditions: Vec::new(),
        only: When::default(),
        unless: When::default(),
    };
    let allow_if = |name: &str, comparison, value| SeccompRule {
        conditions: vec![SeccompCondition { argument: 0, comparison, value }],
        ..allow(&[name])
    };
    let with =
        |name: &str| When { capabilities: name.parse().into_iter().collect::<Capabilities>(), ..When::default() };

    let mut rules = vec![allow(ALLOWED)];
    // A family is allowed by itself or below the first that is not: few comparisons for the usual ones.
    rules.push(allow_if("socket", Comparison::Less, NO_FAMILY[0]));
    rules.extend(
        (NO_FAMILY[0]..=LAST_FAMILY)
            .filter(|family| !NO_FAMILY.contains(family))
            .map(|family| allow_if("socket", Comparison::Equal, family)),
    );
    rules.extend(PERSONALITIES.iter().map(|value| allow_if("personality", Comparison::Equal, *value)));
    rules.extend(OF_MACHINE.iter().map(|(machine, names)| SeccompRule {
        only: When { machines: vec![(*machine).to_owned()], ..When::default() },
        ..allow(names)
    }));
    rules.extend(
        WITH_CAPABILITY.iter().map(|(capability, names)| SeccompRule { only: with(capability), ..allow(names) }),
    );
    rules.push(SeccompRule {
        unless: with("SYS_ADMIN"),
        ..allow_if("clone", Comparison::MaskedEqual(NEW_NAMESPACES), 0)
    });
    // Its flags are in memory, where no filter can look. A C library that hears of no such call takes clone(2).
    rules.push(SeccompRule {
        action: SeccompAction::Errno(libc::ENOSYS as u16),
        unless: with("SYS_ADMIN"),
        ..allow(&["clone3"])
    });
    SeccompProfile {
        default: SeccompAction::Errno(libc::EPERM as u16),
        interfaces: vec![
            (SeccompArch::X86_64, vec![SeccompArch::X86, SeccompArch::X32]),
            (SeccompArch::AArch64, vec![SeccompArch::Arm]),
        ],
        rules,
        log: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Capability, is_syscall};

    #[test]
    fn every_name_means_something() {
        for call in profile().rules.iter().flat_map(|rule| &rule.calls) {
            assert!(is_syscall(call), "{call}");
        }
        for (capability, _) in WITH_CAPABILITY {
            assert!(capability.parse::<Capability>().is_ok(), "{capability}");
        }
    }
}
