//! The keeper's side.

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
    process::ExitCode,
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

use super::{Order, Report, program, wire};
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
}

/// Starts the keeper as a child of the calling process, which has to be single-threaded and in the user and mount
/// namespaces that the stack's containers are to be made from. It runs this program anew, from a mount of its own
/// (`program.rs`).
///
/// The socket to talk to it and its pid come back. It ends when the socket is closed, and ends whatever it has made before
/// that: nobody would hear of it any more.
///
/// # Errors
/// What socketpair(2) and clone3(2) say; when this program has no [`super::keeper_main`] in its main.
pub fn fork_keeper(surroundings: &Surroundings) -> io::Result<(UnixStream, i32)> {
    let own_program = program::own_program()?;
    let (ours, theirs) = UnixStream::pair()?;
    let host_mounts: Vec<BorrowedFd<'_>> = surroundings.host_mounts.iter().map(AsFd::as_fd).collect();
    // It waits in the socket.
    wire::send(ours.as_fd(), &surroundings.private, &host_mounts)?;
    match process::fork(CloneFlags::empty(), None)? {
        Fork::Parent(child) => Ok((ours, child.pid)),
        Fork::Child => {
            let error = program::execute(&own_program, theirs.as_fd());
            // To the log of the supervisor, which hears only that the socket is closed.
            let _ = rustix::io::write(rustix::stdio::stderr(), format!("cannot run the keeper: {error}\n").as_bytes());
            process::exit_now(1)
        }
    }
}

/// The keeper's life, in the program that [`fork_keeper`] has run.
pub(super) fn keep(socket: OwnedFd, surroundings: Surroundings) -> ExitCode {
    // Nothing of the supervisor's may stay open here: its lock would outlive it.
    let kept: Vec<BorrowedFd<'_>> =
        [Some(socket.as_fd()), surroundings.host_mounts.as_ref().map(AsFd::as_fd)].into_iter().flatten().collect();
    let prepared = process::close_all_but(3, &kept)
        .and_then(|()| kept.iter().try_for_each(|fd| Ok(rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC)?)))
        // So is whatever it forks, until that runs a program: containers have some of it beside them, with descriptors that
        // they must not get at, and inits stay.
        .and_then(|()| process::hide());
    let _ = rustix::thread::set_name(c"nsc-keeper");
    // Whatever loses its parent in the host's pid namespace becomes ours, to be ended with the rest.
    let _ = process::become_subreaper();
    let keeper = KeeperProcess { socket, surroundings, filters: Filters::default() };
    let done = prepared.and_then(|()| keeper.run());
    end_children();
    ExitCode::from(u8::from(done.is_err()))
}

struct KeeperProcess {
    socket: OwnedFd,
    surroundings: Surroundings,
    filters: Filters,
}

/// Kills children, and children that they leave to us, until there are none.
fn end_children() {
    loop {
        let children = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
        for pid in children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()) {
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

impl KeeperProcess {
    fn run(&self) -> io::Result<()> {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGCHLD);
        signals.thread_block()?;
        let children = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let mut id = 0;
        loop {
            let mut ready =
                [PollFd::new(&self.socket, PollFlags::IN), PollFd::from_borrowed_fd(children.as_fd(), PollFlags::IN)];
            match rustix::event::poll(&mut ready, None) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            let (order, child) = (!ready[0].revents().is_empty(), !ready[1].revents().is_empty());
            if child {
                while children.read_signal()?.is_some() {}
                self.report_exits()?;
            }
            if order {
                let Some((order, fds)) = wire::receive::<Order>(self.socket.as_fd())? else { return Ok(()) };
                self.carry_out(id, order, fds)?;
                id += 1;
            }
        }
    }

    fn report_exits(&self) -> io::Result<()> {
        loop {
            match process::reap_any() {
                Ok(Some((pid, status))) => self.send(&Report::Exited { pid, status }, &[])?,
                Ok(None) => return Ok(()),
                Err(e) if e.raw_os_error() == Some(libc::ECHILD) => return Ok(()),
                Err(e) => return Err(e),
            }
        }
    }

    fn carry_out(&self, id: u64, order: Order, fds: Vec<OwnedFd>) -> io::Result<()> {
        let started = |result: Result<(i32, PidFd), BringUpError>| match result {
            Ok((pid, pidfd)) => self.send(&Report::Started { id, pid }, &[pidfd.as_fd()]),
            Err(error) => self.send(&Report::Failed { id, error }, &[]),
        };
        match order {
            Order::Namespaces(order) => match namespaces::create(&order, fds, &self.surroundings.private) {
                Ok(made) => {
                    let (kinds, fds): (Vec<_>, Vec<OwnedFd>) = made.namespaces.into_iter().unzip();
                    let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
                    self.send(&Report::Namespaces { id, kinds, init: made.init }, &fds)
                }
                Err(error) => self.send(&Report::Failed { id, error }, &[]),
            },
            Order::Launch(launch) => started(launch::launch(&launch, fds, &self.surroundings, &self.filters)),
            Order::Exec(order) => started(exec::exec(&order, fds, &self.filters)),
        }
    }

    fn send(&self, report: &Report, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        wire::send(self.socket.as_fd(), report, fds)
    }
}

/// Runs `work` in a fork of the keeper, made with `flags` and straight into `cgroup`, and hands over what comes of it, with
/// descriptors. Before `work` begins, `meanwhile` can do to the fork what only its parent can, such as write its id maps.
///
/// # Errors
/// What `work` or `meanwhile` says, or that the fork could not be made.
pub(in crate::sandbox) fn helper<T: Serialize + DeserializeOwned>(
    flags: CloneFlags,
    cgroup: Option<BorrowedFd<'_>>,
    meanwhile: impl FnOnce(i32) -> Result<(), BringUpError>,
    work: impl FnOnce() -> Result<(T, Vec<OwnedFd>), BringUpError>,
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
            let (answer, fds) = match work() {
                Ok((value, fds)) => (Ok(value), fds),
                Err(error) => (Err(error), Vec::new()),
            };
            let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
            let sent = wire::send(theirs.as_fd(), &answer, &fds);
            process::exit_now(i32::from(sent.is_err()))
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
