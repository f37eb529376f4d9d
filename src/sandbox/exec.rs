//! Running a program in a container that is already there.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use nix::sched::CloneFlags;
use rustix::pipe::PipeFlags;
use serde::{Deserialize, Serialize};

use super::{
    error::{BringUpError, BringUpStep},
    keeper::fork_by_helper,
    launch::{Process, enter_cgroups, join},
    program,
    seccomp::{Filter, Filters},
    start_values,
    terminal::{self, Terminal},
};
use crate::sys::{
    Namespace, NamespaceKind, PidFd,
    process::{self, Fork},
};

/// A program to run in a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExecOrder {
    /// A process of the container, in the pid namespace of the supervisor.
    pub pid: i32,
    /// What runs.
    pub process: Process,
    /// Rows and columns of a terminal to give it; none leaves it the streams that come along.
    pub terminal: Option<(u16, u16)>,
    /// Whether a control group of version 2 comes along.
    pub cgroup: bool,
    /// How many of version 1 do.
    pub older_cgroups: usize,
}

/// The namespaces of a container in the order in which they are entered; the pid namespace counts for children.
const KINDS: [NamespaceKind; 7] = [
    NamespaceKind::User,
    NamespaceKind::Ipc,
    NamespaceKind::Uts,
    NamespaceKind::Net,
    NamespaceKind::Cgroup,
    NamespaceKind::Pid,
    NamespaceKind::Mnt,
];

/// Those of a process that are not the caller's own: entering one's own is refused for the user namespace, and for the
/// host's by the lack of rights over it once inside another.
///
/// The user namespace is the one that owns the mounts: that of the container. That of its program may be a further one.
fn namespaces_of(pid: i32) -> Result<(Vec<NamespaceKind>, Vec<OwnedFd>), BringUpError> {
    let mut found = (Vec::new(), Vec::new());
    for kind in KINDS {
        let identity = |namespace: &Namespace| -> io::Result<_> {
            let stat = rustix::fs::fstat(namespace)?;
            Ok((stat.st_dev, stat.st_ino))
        };
        let open = || -> io::Result<Option<OwnedFd>> {
            let theirs = match kind {
                NamespaceKind::User => Namespace::of_process(pid, NamespaceKind::Mnt)?.owner()?,
                kind => Namespace::of_process(pid, kind)?,
            };
            let ours = Namespace::of_thread(kind)?;
            if identity(&theirs)? == identity(&ours)? {
                Ok(None)
            } else {
                theirs.as_fd().try_clone_to_owned().map(Some)
            }
        };
        if let Some(fd) = open().map_err(|e| BringUpStep::Join(kind.proc_name().into()).failed(e))? {
            found.0.push(kind);
            found.1.push(fd);
        }
    }
    Ok(found)
}

/// The right of a process to run its program. It ends without having run it when this is dropped.
pub(super) struct Turn(OwnedFd);

impl Turn {
    pub(super) fn give(self) {
        // It may have ended.
        let _ = rustix::io::write(self.0, b"x");
    }
}

/// Waits for the turn.
fn wait(turn: BorrowedFd<'_>) -> Result<(), BringUpError> {
    let failed = |e: io::Error| BringUpStep::Internal("wait for its turn".into()).failed(e);
    match rustix::io::retry_on_intr(|| rustix::io::read(turn, &mut [0; 1])).map_err(|e| failed(e.into()))? {
        0 => Err(failed(io::Error::from_raw_os_error(libc::EPIPE))),
        _ => Ok(()),
    }
}

/// Makes a process that runs the program of the order when it is given its turn.
pub(super) fn exec(
    order: &ExecOrder,
    mut fds: Vec<OwnedFd>,
    filters: &Filters,
) -> Result<(i32, PidFd, Turn), BringUpError> {
    let incomplete =
        || BringUpStep::Internal("read an order".into()).failed(io::Error::from_raw_os_error(libc::EPROTO));
    // The hold on the process whose number the order has comes last.
    let target = PidFd::from_fd(fds.pop().ok_or_else(incomplete)?);
    let streams = 4 + usize::from(order.terminal.is_some());
    if fds.len() != streams + usize::from(order.cgroup) + order.older_cgroups {
        return Err(incomplete());
    }
    let filter = filters.of(&order.process.privileges)?;
    let (kinds, namespaces) = namespaces_of(order.pid)?;
    // Looked up by number: only if the process still lives now were they its own. And a container has its own mounts; where
    // those are ours, the program would run outside.
    if !target.is_alive() || !kinds.contains(&NamespaceKind::Mnt) {
        let gone = io::Error::from_raw_os_error(libc::ESRCH);
        return Err(BringUpStep::Join(NamespaceKind::Mnt.proc_name().into()).failed(gone));
    }
    let inner = order.process.invoker.map(|_| Namespace::of_process(order.pid, NamespaceKind::User)).transpose();
    let inner = inner.map_err(|e| BringUpStep::Join(NamespaceKind::User.proc_name().into()).failed(e))?;
    let inner = inner.as_ref().map(AsFd::as_fd);
    let cgroup = order.cgroup.then(|| fds[streams].as_fd());
    let older = &fds[fds.len() - order.older_cgroups..];
    let pipe = rustix::pipe::pipe_with(PipeFlags::CLOEXEC);
    let (turn, ours) = pipe.map_err(|e| BringUpStep::Internal("make a pipe".into()).failed(e))?;
    let work = || {
        start_values::before_entering(&order.process.options)?;
        join(&kinds, &namespaces)?;
        match process::fork(CloneFlags::CLONE_PARENT, None).map_err(|e| BringUpStep::Fork.failed(e))? {
            Fork::Child => Inside { order, fds: &fds, turn: turn.as_fd(), inner, filter: filter.as_deref() }.run(),
            Fork::Parent(child) => Ok(child.pid),
        }
    };
    let (pid, pidfd) = fork_by_helper(cgroup, |pid| enter_cgroups(older, pid), work)?;
    Ok((pid, pidfd, Turn(ours)))
}

/// The process that is in the container, on its way to the program.
struct Inside<'a> {
    order: &'a ExecOrder,
    fds: &'a [OwnedFd],
    turn: BorrowedFd<'a>,
    /// The user namespace of the program, where that is a further one.
    inner: Option<BorrowedFd<'a>>,
    filter: Option<&'a Filter>,
}

impl Inside<'_> {
    fn run(&self) -> ! {
        let Err(error) = self.become_program();
        if let Ok(status) = self.fds[3].try_clone() {
            let _ = File::from(status).write_all(&serde_json::to_vec(&error).unwrap_or_default());
        }
        // As a shell has it: 126 for what cannot be run, 127 for what is not there.
        process::exit_now(if error.errno == libc::ENOENT { 127 } else { 126 })
    }

    fn become_program(&self) -> Result<std::convert::Infallible, BringUpError> {
        let Self { order, fds, turn, inner, filter } = *self;
        program::leave_caller()?;
        let prepared = program::prepare(&order.process)?;
        match order.terminal {
            None => program::standard_streams(fds[0].as_fd(), fds[1].as_fd(), fds[2].as_fd())?,
            Some(size) => {
                let opened = Terminal::open(size, prepared.uid()).and_then(|terminal| terminal.take(fds[4].as_fd()));
                opened.and_then(|()| terminal::control()).map_err(|e| BringUpStep::Terminal.failed(e))?;
            }
        }
        // A user namespace is no folder.
        program::close_all_but(&[Some(fds[3].as_fd()), Some(turn), inner])?;
        wait(turn)?;
        prepared.enter(&order.process, inner)?;
        prepared.execute(&order.process, filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Privileges, ProcessOptions};

    #[test]
    fn a_number_that_has_come_to_mean_another_process_is_not_entered() {
        let mut ended = std::process::Command::new("true").spawn().expect("true");
        let target = PidFd::open(ended.id() as i32).expect("a hold");
        ended.wait().expect("its end");
        let process = Process {
            argv: vec!["true".to_owned()],
            environment: Vec::new(),
            working_dir: "/".into(),
            make_working_dir: false,
            user: None,
            single_id: false,
            invoker: None,
            options: ProcessOptions::default(),
            privileges: Privileges::default(),
        };
        // The number is that of somebody who lives by now: of us.
        let pid = std::process::id() as i32;
        let order = ExecOrder { pid, process, terminal: None, cgroup: false, older_cgroups: 0 };
        let null = || File::open("/dev/null").map(OwnedFd::from).expect("/dev/null");
        let fds = vec![null(), null(), null(), null(), target.as_fd().try_clone_to_owned().expect("a copy")];
        let error = exec(&order, fds, &Filters::default()).err().expect("it has ended");
        assert_eq!((error.step, error.errno), (BringUpStep::Join("mnt".to_owned()), libc::ESRCH));
    }
}
