//! Making processes and holding on to them: clone3(2), pidfd_open(2), waitid(2).

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::sched::CloneFlags;
use rustix::process::{Pid, PidfdFlags};

/// A process held by a descriptor: it cannot come to mean another process that got the same number (pidfd_open(2)).
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// Holds on to the process that has the number `pid` now.
    ///
    /// # Errors
    /// ESRCH when there is none.
    pub fn open(pid: i32) -> io::Result<Self> {
        let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self(rustix::process::pidfd_open(pid, PidfdFlags::empty())?))
    }

    /// Takes a descriptor that is known to be a pidfd.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Sends a signal by number.
    ///
    /// # Errors
    /// ESRCH when the process is gone; EINVAL when there is no such signal.
    pub fn signal(&self, number: i32) -> io::Result<()> {
        // Real-time signals are not in rustix's `Signal`, hence the raw call.
        // SAFETY: the descriptor is open for as long as `self`; a null siginfo makes the kernel fill one in.
        let done = unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, self.0.as_raw_fd(), number, std::ptr::null::<u8>(), 0)
        };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Whether the process still runs; a zombie does not.
    pub fn is_alive(&self) -> bool {
        let mut poll = [rustix::event::PollFd::new(&self.0, rustix::event::PollFlags::IN)];
        matches!(rustix::event::poll(&mut poll, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(0))
    }

    /// Waits for the end of the process, which is left for its parent to collect; whether it came in time.
    ///
    /// # Errors
    /// What poll(2) said.
    pub fn ends_within(&self, patience: Duration) -> io::Result<bool> {
        let end = Instant::now() + patience;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let left = rustix::event::Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            let mut poll = [rustix::event::PollFd::new(&self.0, rustix::event::PollFlags::IN)];
            match rustix::event::poll(&mut poll, Some(&left)) {
                Err(rustix::io::Errno::INTR) => {}
                ended => return Ok(ended? > 0),
            }
        }
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sends a signal by number to a process by number: only for a child of the caller, whose number stays its own until the
/// caller collects it.
///
/// # Errors
/// ESRCH when there is none; EINVAL when there is no such signal.
pub fn signal(child: i32, number: i32) -> io::Result<()> {
    // SAFETY: the call touches no memory.
    if unsafe { libc::kill(child, number) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitStatus {
    /// It called exit(2) with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl ExitStatus {
    /// The code a shell would show: the code itself, or 128 and the signal.
    pub fn shell_code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// Collects one child that has ended, without waiting: its number and how it ended.
///
/// # Errors
/// ECHILD when there are no children.
pub fn reap_any() -> io::Result<Option<(i32, ExitStatus)>> {
    reap(libc::P_ALL, 0, libc::WNOHANG)
}

/// Waits until some child has ended and collects it.
///
/// # Errors
/// ECHILD when there are no children.
pub fn reap_next() -> io::Result<()> {
    match reap(libc::P_ALL, 0, 0) {
        Err(e) if e.kind() != io::ErrorKind::Interrupted => Err(e),
        _ => Ok(()),
    }
}

/// Waits until the child `pid` has ended and collects it.
///
/// # Errors
/// ECHILD when it is not a child of the caller.
pub fn reap_child(pid: i32) -> io::Result<ExitStatus> {
    let id = libc::id_t::try_from(pid).map_err(|_| io::ErrorKind::InvalidInput)?;
    loop {
        match reap(libc::P_PID, id, 0) {
            Ok(Some((_, status))) => return Ok(status),
            Ok(None) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// waitid(2); the one of rustix does not tell which child it was.
fn reap(kind: libc::idtype_t, id: libc::id_t, options: i32) -> io::Result<Option<(i32, ExitStatus)>> {
    // SAFETY: siginfo_t is plain data for which all zeroes is a valid value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `info` outlives the call, which writes nothing else.
    let done = unsafe { libc::waitid(kind, id, &raw mut info, options | libc::WEXITED) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: waitid filled in the child fields, or left them zero when nothing had ended (WNOHANG).
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    if pid == 0 {
        return Ok(None);
    }
    let status = if info.si_code == libc::CLD_EXITED { ExitStatus::Code(status) } else { ExitStatus::Signal(status) };
    Ok(Some((pid, status)))
}

/// linux/sched.h; the constant of the libc crate has the wrong width.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of [`fork`] the caller is on.
#[derive(Debug)]
pub enum Fork {
    /// The calling process, with its new child.
    Parent(Child),
    /// The child.
    Child,
}

/// A child just made.
#[derive(Debug)]
pub struct Child {
    /// Its number in the pid namespace of the caller.
    pub pid: i32,
    /// The hold on it.
    pub pidfd: PidFd,
}

/// Clones the calling process with clone3(2): new namespaces and CLONE_PARENT from `flags`, straight into the control
/// group whose folder `cgroup` is (Linux 5.7).
///
/// The child runs on with everything the caller had, so the caller has to be single-threaded: another thread's lock,
/// held at this moment, would stay held in the child for ever.
///
/// # Errors
/// What clone3(2) says: EPERM without the right to make a namespace, ENOSPC or EUSERS past a user.max_*_namespaces limit,
/// EAGAIN past RLIMIT_NPROC or pids.max.
///
/// # Panics
/// When the process has more than one thread.
pub fn fork(flags: CloneFlags, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Fork> {
    assert!(is_single_threaded(), "fork in a process with several threads");
    let mut pidfd: libc::c_int = -1;
    let mut flags = flags.bits() as u64 | libc::CLONE_PIDFD as u64;
    // With CLONE_PARENT the signal is that of the caller's own creation, and naming one is EINVAL.
    let exit_signal = if flags & libc::CLONE_PARENT as u64 == 0 { libc::SIGCHLD as u64 } else { 0 };
    if cgroup.is_some() {
        flags |= CLONE_INTO_CGROUP;
    }
    let mut args = [
        flags,
        (&raw mut pidfd) as u64,
        0, // child_tid
        0, // parent_tid
        exit_signal,
        0, // stack: as with fork, the child goes on with a copy of ours
        0, // stack_size
        0, // tls
        0, // set_tid
        0, // set_tid_size
        cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
    ];
    // SAFETY: `args` has the layout of struct clone_args up to `cgroup` (88 bytes, Linux 5.7) and outlives the call, as
    // does `pidfd`. No CLONE_VM: the child has its own copy of all memory, and with one thread nothing in it is half done.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, args.as_mut_ptr(), size_of_val(&args)) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => {
            // SAFETY: the kernel has just opened it for us (CLONE_PIDFD) and nobody else knows of it.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Fork::Parent(Child { pid: pid as i32, pidfd: PidFd(pidfd) }))
        }
    }
}

/// Ends the process at once: no destructors, no flushing, which after [`fork`] would be the parent's to do.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit never returns and touches no memory of ours.
    unsafe { libc::_exit(code) }
}

fn is_single_threaded() -> bool {
    std::fs::read_dir("/proc/self/task").map_or(true, |tasks| tasks.take(2).count() == 1)
}

/// Gives every signal its default action and unblocks all, so that a program starts as if nothing had been set.
pub fn reset_signals() {
    for number in 1..=64 {
        if number == libc::SIGKILL || number == libc::SIGSTOP {
            continue;
        }
        // The raw call also reaches the two real-time signals that the C library keeps for itself and refuses to touch.
        let action = [0_u64; 4]; // struct kernel_sigaction: SIG_DFL, no flags, no restorer, empty mask
        // SAFETY: `action` has the kernel's layout (handler, flags, restorer, 8-byte mask) or is longer than it, and
        // setting a default action runs no code of ours. EINVAL for a number the kernel does not know changes nothing.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, number, action.as_ptr(), std::ptr::null::<u8>(), 8);
        }
    }
    let _ = nix::sys::signal::SigSet::empty().thread_set_mask();
}

/// Gives the calling process the scheduling that a process has by default: no real-time or idle policy, nice value 0, the
/// default priority for disks, every processor, the default memory policy. What it has no right to take back stays.
pub fn reset_scheduling() {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    const MPOL_DEFAULT: libc::c_int = 0;
    // SAFETY: the first call reads `parameter`, which outlives it; the others get numbers, and null for a set of nodes that
    // they do not look at. What they refuse stays as it was.
    unsafe {
        let parameter: libc::sched_param = std::mem::zeroed();
        libc::sched_setscheduler(0, libc::SCHED_OTHER, &raw const parameter);
        libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, 0);
        libc::syscall(libc::SYS_set_mempolicy, MPOL_DEFAULT, std::ptr::null::<libc::c_ulong>(), 0);
    }
    let _ = rustix::process::setpriority_process(None, 0);
    // The kernel leaves out those that the control group does not have, or that are not there.
    let mut all = rustix::thread::CpuSet::new();
    (0..rustix::thread::CpuSet::MAX_CPU).for_each(|cpu| all.set(cpu));
    let _ = rustix::thread::sched_setaffinity(None, &all);
}

/// Takes back what prctl(2) and personality(2) hand on to children and through exec.
pub fn reset_attributes() {
    /// That of init_task (kernel/time/timer.c): 50 microseconds.
    const TIMER_SLACK: libc::c_ulong = 50_000;
    /// linux/personality.h.
    const PER_LINUX: libc::c_ulong = 0;
    let _ = nix::sys::prctl::set_timerslack(TIMER_SLACK);
    // SAFETY: both calls take numbers only.
    unsafe {
        libc::personality(PER_LINUX);
        libc::prctl(libc::PR_SET_THP_DISABLE, 0, 0, 0, 0);
    }
}

/// Blocks every signal, so that [`next_signal`] takes them one by one.
pub fn block_signals() {
    let _ = nix::sys::signal::SigSet::all().thread_block();
}

/// Waits for a blocked signal and takes it; real-time ones too, which nix's set does not name.
pub fn next_signal() -> i32 {
    let mut number = 0;
    // SAFETY: a full set is valid for all bits set, and both live through the call.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigwait(&raw const all, &raw mut number);
    }
    number
}

/// Marks every descriptor from `first` on as closed by exec (close_range(2), Linux 5.11).
///
/// # Errors
/// ENOSYS on an older kernel.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    close_range(first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC)
}

/// Closes every descriptor from `first` on but those in `keep`. Whoever calls this must never again use or drop an owner of
/// one that is closed: it is for the child side of [`fork`], which does not return.
///
/// # Errors
/// ENOSYS before Linux 5.9.
pub fn close_all_but(first: u32, keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut keep: Vec<u32> = keep.iter().filter_map(|fd| u32::try_from(fd.as_raw_fd()).ok()).collect();
    keep.sort_unstable();
    let mut from = first;
    for fd in keep.into_iter().filter(|fd| *fd >= first) {
        if fd > from {
            close_range(from, fd - 1, 0)?;
        }
        from = fd + 1;
    }
    close_range(from, u32::MAX, 0)
}

fn close_range(first: u32, last: u32, flags: u32) -> io::Result<()> {
    // SAFETY: changes the descriptor table only; the callers answer for owners that are still alive.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Keeps every other process from looking into this one (ptrace(2), pidfd_getfd(2), /proc/PID/fd) until it runs a program:
/// while it brings a container up it is in there already, with descriptors that the container must not have.
///
/// # Errors
/// What prctl(2) says.
pub fn hide() -> io::Result<()> {
    Ok(rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?)
}

/// Makes a program that is about to be started die when the calling thread ends, however that happens
/// (PR_SET_PDEATHSIG). It keeps that through exec unless the program is set-user-ID or has capabilities of its own.
pub fn die_with_parent(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    let parent = Some(rustix::process::getpid());
    // SAFETY: what runs between fork and exec are system calls only, with no memory of ours.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
            // It has ended already, and nothing more comes.
            if rustix::process::getppid() != parent {
                exit_now(1);
            }
            Ok(())
        });
    }
}

/// Leaves the keys that the caller's session holds (keyrings(7)): they would be readable in a container.
pub fn leave_session_keyring() {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: a null name asks for a new anonymous keyring; the call touches no memory of ours. A kernel without keyrings
    // answers ENOSYS, and then there is nothing to leave.
    unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<u8>());
    }
}

/// Makes the calling process the parent of its orphaned descendants (PR_SET_CHILD_SUBREAPER).
///
/// # Errors
/// What prctl(2) says.
pub fn become_subreaper() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// When the process `pid` was started, in clock ticks since boot: with the number it names one process for good
/// (proc_pid_stat(5), field 22). None when there is no such process, or only its zombie.
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the command in parentheses and may itself hold spaces and parentheses.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X") { None } else { fields.nth(18)?.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_time_names_a_process() {
        let me = std::process::id() as i32;
        assert_eq!(start_time(me), start_time(me));
        assert!(start_time(me).is_some());
        assert_eq!(start_time(i32::MAX), None);
    }

    #[test]
    fn a_pidfd_knows_whether_its_process_lives_and_signals_it() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
        let pidfd = PidFd::open(child.id() as i32).expect("pidfd");
        assert!(pidfd.is_alive());
        pidfd.signal(libc::SIGKILL).expect("signal");
        child.wait().expect("wait");
        assert!(!pidfd.is_alive());
        assert_eq!(pidfd.signal(0).expect_err("gone").raw_os_error(), Some(libc::ESRCH));
    }
}
