//! The keeper's side.

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use nix::{
    sched::CloneFlags,
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};
use rustix::event::{PollFd, PollFlags};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Order, Report, program,
    store::{KeptNamespaces, KeptProcess, Store},
    succession, wire,
};
use crate::{
    sandbox::{BringUpError, BringUpStep, exec, launch, namespaces, seccomp::Filters},
    sys::{
        PidFd,
        process::{self, Fork},
    },
};

/// What the keeper knows of where it is.
pub struct Surroundings {
    /// A folder that only its mount namespace shows.
    pub private: PathBuf,
    /// The mount namespace of the host, where the keeper may enter it: as root.
    pub host_mounts: Option<OwnedFd>,
    /// What the next supervisor gets.
    pub legacy: Legacy,
}

/// What a supervisor leaves for the one that the keeper starts after it, whatever happens to itself.
#[derive(Debug, Default)]
pub struct Legacy {
    /// What it is told.
    pub text: serde_json::Value,
    /// Its environment.
    pub environment: Vec<(String, String)>,
    /// What its command line has, for people who look for it.
    pub title: String,
    /// Descriptors that it gets with the text. One that holds a lock keeps it held for as long as the keeper lives.
    pub descriptors: Vec<OwnedFd>,
}

/// What the keeper gets first.
#[derive(Serialize, serde::Deserialize)]
pub(super) struct First {
    private: PathBuf,
    host_mounts: bool,
    text: serde_json::Value,
    environment: Vec<(String, String)>,
    title: String,
}

/// Starts the keeper as a child of the calling process, which has to be single-threaded and in the user and mount
/// namespaces that the stack's containers are to be made from. It runs this program anew, from a mount of its own
/// (`program.rs`).
///
/// The socket to talk to it and its pid come back. When the socket is closed before it was told to end, it starts a new
/// supervisor, which gets the legacy and all that is kept.
///
/// # Errors
/// What socketpair(2) and clone3(2) say; when this program has no [`super::keeper_main`] in its main.
pub fn fork_keeper(surroundings: &Surroundings) -> io::Result<(UnixStream, i32)> {
    let own_program = program::own_program()?;
    let (ours, theirs) = UnixStream::pair()?;
    let Surroundings { private, host_mounts, legacy } = surroundings;
    let fds: Vec<BorrowedFd<'_>> = host_mounts.iter().chain(&legacy.descriptors).map(AsFd::as_fd).collect();
    let first = First {
        private: private.clone(),
        host_mounts: host_mounts.is_some(),
        text: legacy.text.clone(),
        environment: legacy.environment.clone(),
        title: legacy.title.clone(),
    };
    // It waits in the socket.
    wire::send(ours.as_fd(), &first, &fds)?;
    match process::fork(CloneFlags::empty(), None)? {
        Fork::Parent(child) => Ok((ours, child.pid)),
        Fork::Child => {
            let error = program::execute(&own_program, program::NAME, theirs.as_fd(), &[], &[]);
            // To the log of the supervisor, which hears only that the socket is closed.
            let _ = rustix::io::write(rustix::stdio::stderr(), format!("cannot run the keeper: {error}\n").as_bytes());
            process::exit_now(1)
        }
    }
}

/// The keeper's life, in the program that [`fork_keeper`] has run.
pub(super) fn keep(socket: OwnedFd, first: First, descriptors: Vec<OwnedFd>) -> ExitCode {
    let First { private, host_mounts, text, environment, title } = first;
    let mut descriptors = descriptors.into_iter();
    let host_mounts = descriptors.by_ref().take(usize::from(host_mounts)).next();
    let legacy = Legacy { text, environment, title, descriptors: descriptors.collect() };
    let surroundings = Surroundings { private, host_mounts, legacy };
    // Nothing else of the supervisor's may stay open here.
    let kept = surroundings.host_mounts.iter().chain(&surroundings.legacy.descriptors).chain([&socket]);
    let kept: Vec<BorrowedFd<'_>> = kept.map(AsFd::as_fd).collect();
    let prepared = process::close_all_but(3, &kept)
        .and_then(|()| kept.iter().try_for_each(|fd| Ok(rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC)?)))
        // So is whatever it forks, until that runs a program: containers have some of it beside them, with descriptors that
        // they must not get at, and inits stay.
        .and_then(|()| process::hide());
    let _ = rustix::thread::set_name(c"nsc-keeper");
    // Whatever loses its parent in the host's pid namespace becomes ours, to be ended with the rest.
    let _ = process::become_subreaper();
    let mut keeper = KeeperProcess {
        socket: Some(socket),
        supervisor: None,
        surroundings,
        filters: Filters::default(),
        store: Store::default(),
        next: 0,
    };
    let done = prepared.and_then(|()| keeper.run());
    end_children(keeper.supervisor);
    ExitCode::from(u8::from(done.is_err()))
}

struct KeeperProcess {
    /// None while there is no supervisor.
    socket: Option<OwnedFd>,
    /// The supervisor, if it is one that the keeper has started.
    supervisor: Option<i32>,
    surroundings: Surroundings,
    filters: Filters,
    store: Store,
    /// The number of the next order.
    next: u64,
}

/// Kills children but for this one, and children that they leave to us, until there are none.
fn end_children(supervisor: Option<i32>) {
    loop {
        let children = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
        let children = children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok());
        let children: Vec<i32> = children.filter(|pid| Some(*pid) != supervisor).collect();
        if children.is_empty() {
            return;
        }
        for pid in children {
            // Not collected yet, so the number cannot mean another.
            if let Ok(child) = PidFd::open(pid) {
                let _ = child.signal(libc::SIGKILL);
            }
        }
        // Waits for one; what it leaves comes up in the next round.
        if process::reap_next().is_err() {
            return;
        }
    }
}

/// Supervisors that are started at once, one after the other; those that follow wait.
const AT_ONCE: u32 = 4;

/// The longest that is waited before another one is started.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// A supervisor that has lived for so long counts as none that cannot live.
const STEADY: Duration = Duration::from_secs(10);

/// How long is waited after so many supervisors have died in a row.
fn wait_after(deaths: u32) -> Duration {
    match deaths.checked_sub(AT_ONCE) {
        None => Duration::ZERO,
        Some(more) => LONGEST_WAIT.min(Duration::from_millis(50) * 2_u32.pow(more.min(8))),
    }
}

/// Why no more orders come.
enum NoMore {
    /// The keeper is told to end.
    End,
    /// The supervisor has gone.
    Gone,
}

impl KeeperProcess {
    fn run(&mut self) -> io::Result<()> {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGCHLD);
        signals.thread_block()?;
        let children = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let mut deaths = 0;
        loop {
            let began = Instant::now();
            match self.serve(&children)? {
                NoMore::End => return Ok(()),
                NoMore::Gone => self.socket = None,
            }
            for pid in std::mem::take(&mut self.store.visitors) {
                let _ = process::signal(pid, libc::SIGKILL);
            }
            if began.elapsed() >= STEADY {
                deaths = 0;
            }
            // Whoever knocks meanwhile waits in the queue of the control socket, which is part of the legacy.
            while self.socket.is_none() {
                deaths += 1;
                self.wait(&children, wait_after(deaths))?;
                match succession::start(&self.surroundings.legacy, self.next, &self.store) {
                    Ok((socket, pid)) => (self.socket, self.supervisor) = (Some(socket), Some(pid)),
                    Err(error) => {
                        let text = format!("cannot start a new supervisor, trying again: {error}\n");
                        let _ = rustix::io::write(rustix::stdio::stderr(), text.as_bytes());
                    }
                }
            }
        }
    }

    /// Collects children for so long.
    fn wait(&mut self, children: &SignalFd, patience: Duration) -> io::Result<()> {
        let end = Instant::now() + patience;
        loop {
            while children.read_signal()?.is_some() {}
            self.collect()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            let left = rustix::event::Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            let mut ready = [PollFd::from_borrowed_fd(children.as_fd(), PollFlags::IN)];
            match rustix::event::poll(&mut ready, Some(&left)) {
                Err(rustix::io::Errno::INTR) => {}
                other => drop(other?),
            }
        }
    }

    /// Takes orders until there are no more.
    fn serve(&mut self, children: &SignalFd) -> io::Result<NoMore> {
        loop {
            let Some(socket) = &self.socket else { return Ok(NoMore::Gone) };
            let mut ready =
                [PollFd::new(socket, PollFlags::IN), PollFd::from_borrowed_fd(children.as_fd(), PollFlags::IN)];
            match rustix::event::poll(&mut ready, None) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            let (order, child) = (!ready[0].revents().is_empty(), !ready[1].revents().is_empty());
            if child {
                while children.read_signal()?.is_some() {}
                self.collect()?;
            }
            if order && let Some(socket) = &self.socket {
                // A message that was begun and not ended is nobody's word.
                let (order, fds) = match wire::receive_what_fits::<Order>(socket.as_fd()) {
                    Ok(Some(order)) => order,
                    Ok(None) => return Ok(NoMore::Gone),
                    Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Ok(NoMore::Gone),
                    Err(e) => return Err(e),
                };
                let id = self.next;
                self.next += 1;
                if matches!(order, Order::End) {
                    return Ok(NoMore::End);
                }
                self.carry_out(id, order, fds)?;
            }
        }
    }

    /// Collects children that have ended, and tells of them.
    fn collect(&mut self) -> io::Result<()> {
        loop {
            match process::reap_any() {
                Ok(Some((pid, _))) if Some(pid) == self.supervisor => self.supervisor = None,
                Ok(Some((pid, status))) => {
                    self.store.ended(pid, status);
                    self.send(&Report::Exited { pid, status }, &[])?;
                }
                Ok(None) => return Ok(()),
                Err(e) if e.raw_os_error() == Some(libc::ECHILD) => return Ok(()),
                Err(e) => return Err(e),
            }
        }
    }

    fn carry_out(&mut self, id: u64, order: Order, mut fds: Vec<OwnedFd>) -> io::Result<()> {
        let lost = || {
            let step = BringUpStep::Internal("keep what a new supervisor needs".to_owned());
            step.failed(io::Error::from_raw_os_error(libc::EMFILE))
        };
        match order {
            Order::Namespaces(order) => {
                let made = match namespaces::create(&order, fds, &self.surroundings.private) {
                    Ok(made) => made,
                    Err(error) => return self.send(&Report::Failed { id, error }, &[]),
                };
                let kinds = made.namespaces.iter().map(|(kind, _)| *kind).collect();
                let fds: Vec<BorrowedFd<'_>> = made.namespaces.iter().map(|(_, fd)| fd.as_fd()).collect();
                match self.send(&Report::Namespaces { id, kinds, init: made.init }, &fds) {
                    Err(e) if is_want_of_room(&e) => {
                        made.undo(&order, &self.surroundings.private);
                        self.send(&Report::Failed { id, error: BringUpStep::MakeNamespaces.failed(e) }, &[])
                    }
                    sent => {
                        let kept = KeptNamespaces { namespaces: made.namespaces, init: made.init };
                        self.store.keep_namespaces(order.owner, kept);
                        sent
                    }
                }
            }
            Order::Launch { launch, name, keep } => {
                let Some(own) = fds.len().checked_sub(keep.len()) else {
                    return self.send(&Report::Failed { id, error: lost() }, &[]);
                };
                let kept = fds.split_off(own);
                match launch::launch(&launch, fds, &self.surroundings, &self.filters) {
                    Ok((pid, pidfd)) => {
                        if self.tell_started(id, pid, &pidfd)? {
                            self.store.descriptors.extend(keep.into_iter().zip(kept));
                            self.store.processes.insert(name, KeptProcess { pid, pidfd, status: None });
                        }
                        Ok(())
                    }
                    Err(error) => self.send(&Report::Failed { id, error }, &[]),
                }
            }
            Order::Exec { order, stays } => match exec::exec(&order, fds, &self.filters) {
                Ok((pid, pidfd, turn)) => {
                    if self.tell_started(id, pid, &pidfd)? {
                        if !stays {
                            self.store.visitors.insert(pid);
                        }
                        turn.give();
                    }
                    Ok(())
                }
                Err(error) => self.send(&Report::Failed { id, error }, &[]),
            },
            Order::Keep(names) if names.len() != fds.len() => self.send(&Report::Failed { id, error: lost() }, &[]),
            Order::Keep(names) => {
                self.store.descriptors.extend(names.into_iter().zip(fds));
                self.send(&Report::Done { id }, &[])
            }
            Order::Forget(all) => {
                all.into_iter().for_each(|one| self.store.forget(one));
                self.send(&Report::Done { id }, &[])
            }
            Order::KillAll => {
                end_children(self.supervisor);
                self.send(&Report::Done { id }, &[])
            }
            // Taken before.
            Order::End => Ok(()),
        }
    }

    /// Tells the supervisor, if there is one; that it has gone is seen when the next order is waited for.
    fn send(&self, report: &Report, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        match self.socket.as_ref().map_or(Ok(()), |socket| wire::send(socket.as_fd(), report, fds)) {
            Err(e) if matches!(e.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => Ok(()),
            other => other,
        }
    }

    /// Tells of a process that does not run its program yet, with the hold on it. Where that finds no room on its way the process is
    /// ended, and the order has failed: false then.
    fn tell_started(&self, id: u64, pid: i32, pidfd: &PidFd) -> io::Result<bool> {
        match self.send(&Report::Started { id, pid }, &[pidfd.as_fd()]) {
            Err(e) if is_want_of_room(&e) => {
                // Who hears of the failure removes its files.
                let _ = pidfd.signal(libc::SIGKILL).and_then(|()| pidfd.ends_within(DYING));
                self.send(&Report::Failed { id, error: BringUpStep::Fork.failed(e) }, &[]).map(|()| false)
            }
            sent => sent.map(|()| true),
        }
    }
}

/// How long a process that has been killed may take to have ended.
const DYING: Duration = Duration::from_secs(1);

/// Whether a message with descriptors could not be sent at all, and one without could.
fn is_want_of_room(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// Runs `work` in a helper that forks a child of the keeper and tells its number, which means no other until the keeper
/// collects it. The rest is as for [`helper`].
///
/// # Errors
/// As for [`helper`]; or that there is no descriptor left to hold the child by, which is killed then.
pub(in crate::sandbox) fn fork_by_helper(
    cgroup: Option<BorrowedFd<'_>>,
    meanwhile: impl FnOnce(i32) -> Result<(), BringUpError>,
    work: impl FnOnce() -> Result<i32, BringUpError>,
) -> Result<(i32, PidFd), BringUpError> {
    let (pid, _) = helper(CloneFlags::empty(), cgroup, meanwhile, || Ok((work()?, Vec::new())))?;
    let held = PidFd::open(pid).inspect_err(|_| drop(process::signal(pid, libc::SIGKILL)));
    Ok((pid, held.map_err(|e| BringUpStep::Fork.failed(e))?))
}

/// Runs `work` in a fork of the keeper, made with `flags` and straight into `cgroup`, and hands over what comes of it, with
/// descriptors. Before `work` begins, `meanwhile` can do to the fork what only its parent can, such as write its id maps.
///
/// # Errors
/// What `work` or `meanwhile` says, that the fork could not be made, or that there was no room for the descriptors.
pub(in crate::sandbox) fn helper<T: Serialize + DeserializeOwned>(
    flags: CloneFlags,
    cgroup: Option<BorrowedFd<'_>>,
    meanwhile: impl FnOnce(i32) -> Result<(), BringUpError>,
    work: impl FnOnce() -> Result<(T, Vec<OwnedFd>), BringUpError>,
) -> Result<(T, Vec<OwnedFd>), BringUpError> {
    helper_that_undoes(flags, cgroup, meanwhile, work, drop)
}

/// The same; the helper does `undo` when what it has made cannot be handed over.
pub(in crate::sandbox) fn helper_that_undoes<T: Serialize + DeserializeOwned>(
    flags: CloneFlags,
    cgroup: Option<BorrowedFd<'_>>,
    meanwhile: impl FnOnce(i32) -> Result<(), BringUpError>,
    work: impl FnOnce() -> Result<(T, Vec<OwnedFd>), BringUpError>,
    undo: impl FnOnce(T),
) -> Result<(T, Vec<OwnedFd>), BringUpError> {
    let internal = |what: &str| BringUpStep::Internal(what.to_owned());
    let (ours, theirs) = UnixStream::pair().map_err(|e| internal("make a socket").failed(e))?;
    let step = if flags.is_empty() { BringUpStep::Fork } else { BringUpStep::MakeNamespaces };
    match process::fork(flags, cgroup).map_err(|e| step.failed(e))? {
        Fork::Child => {
            drop(ours);
            // The parent's go-ahead, or its end.
            let go = wire::receive::<()>(theirs.as_fd());
            if !matches!(go, Ok(Some(_))) {
                process::exit_now(70);
            }
            let answer = match work() {
                Ok((value, fds)) => {
                    let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
                    let sent = wire::send(theirs.as_fd(), &Ok::<_, BringUpError>(&value), &fds);
                    sent.map_err(|e| {
                        undo(value);
                        internal("hand over what it has made").failed(e)
                    })
                }
                Err(error) => Err(error),
            };
            let told = answer.or_else(|error| wire::send(theirs.as_fd(), &Err::<(), _>(error), &[]));
            process::exit_now(i32::from(told.is_err()))
        }
        Fork::Parent(child) => {
            drop(theirs);
            let prepared = meanwhile(child.pid)
                .and_then(|()| wire::send(ours.as_fd(), &(), &[]).map_err(|e| internal("start a helper").failed(e)));
            let answer = prepared.and_then(|()| {
                let answer = wire::receive::<Result<T, BringUpError>>(ours.as_fd());
                let answer = answer.map_err(|e| internal("hear from a helper").failed(e))?;
                let ended = || internal("hear from a helper").failed(io::Error::from_raw_os_error(libc::ECHILD));
                let (value, fds) = answer.ok_or_else(ended)?;
                Ok((value?, fds))
            });
            drop(ours);
            if answer.is_err() {
                let _ = child.pidfd.signal(libc::SIGKILL);
            }
            // It is collected with the others: its end, in which the kernel takes its memory down, need not be waited for.
            answer
        }
    }
}
