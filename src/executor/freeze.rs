//! Freezing the processes of a container, and letting them go on.
//!
//! Where the container has a control group, the group is frozen: none of its processes knows, nor can one of them do
//! anything about it. An ordinary user without delegation has no groups; there each process is stopped with SIGSTOP, which
//! their parents hear of (waitpid(2) with WUNTRACED, SIGCHLD), and which another process of the same user can undo.

use std::{
    collections::BTreeSet,
    fs, io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{RwLock, RwLockReadGuard},
    time::{Instant, sleep},
};

use super::family::{Family, members_of};
use crate::{cgroup, sys::PidFd};

/// How long processes may take to freeze. One that waits for a disk or a network file system does not until it has its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was frozen with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Means {
    /// The control group.
    Group,
    /// SIGSTOP to each process.
    Signals,
}

/// Why a container is not frozen.
#[derive(Debug, thiserror::Error)]
pub(super) enum FreezeError {
    #[error("it has ended")]
    Ended,
    #[error("some of its processes wait for the kernel, and do not stop")]
    Stuck,
    #[error(transparent)]
    Group(#[from] cgroup::CgroupError),
    #[error("its processes cannot be found")]
    Processes(#[source] io::Error),
}

/// The processes of a container, to be frozen.
pub(super) struct Freezer {
    pid: i32,
    pidfd: Arc<PidFd>,
    group: Option<Arc<cgroup::Group>>,
    /// Its pid namespace is nobody else's.
    own_pids: bool,
    family: Arc<Family>,
    /// Held by those who bring a further process in, which a helper does that would be frozen on its way, and the keeper with it.
    gate: RwLock<()>,
    frozen: AtomicBool,
}

impl Freezer {
    pub(super) fn new(
        pid: i32,
        pidfd: Arc<PidFd>,
        group: Option<Arc<cgroup::Group>>,
        own_pids: bool,
        family: Arc<Family>,
    ) -> Self {
        Self { pid, pidfd, group, own_pids, family, gate: RwLock::new(()), frozen: AtomicBool::new(false) }
    }

    /// Keeps it from being frozen until it is dropped; none if it is frozen, or about to be.
    pub(super) fn enter(&self) -> Option<RwLockReadGuard<'_, ()>> {
        let inside = self.gate.try_read().ok()?;
        (!self.frozen.load(Ordering::SeqCst)).then_some(inside)
    }

    /// Freezes it, and waits until all of its processes are.
    pub(super) async fn freeze(&self) -> Result<Means, FreezeError> {
        let _alone = self.gate.write().await;
        let group = self.group.as_ref().filter(|group| group.can_freeze());
        // From here on whoever ends the container thaws it.
        self.frozen.store(true, Ordering::SeqCst);
        let frozen = match group {
            Some(group) => self.freeze_group(group).await.map(|()| Means::Group),
            None => self.stop_all().await.map(|()| Means::Signals),
        };
        if frozen.is_err() {
            self.thaw();
        }
        frozen
    }

    async fn freeze_group(&self, group: &cgroup::Group) -> Result<(), FreezeError> {
        let since = Instant::now();
        loop {
            group.freeze()?;
            if group.is_frozen() {
                return Ok(());
            }
            sleep(Duration::from_millis(2)).await;
            // Before it is asked for again: it may have been thawed for good.
            self.may_go_on(since)?;
        }
    }

    /// Whoever is stopped makes no further process, so there is an end to it.
    async fn stop_all(&self) -> Result<(), FreezeError> {
        let since = Instant::now();
        let mut asked = BTreeSet::new();
        loop {
            let mut all = true;
            for (pid, process) in self.members().map_err(FreezeError::Processes)? {
                match state_of(pid) {
                    None | Some('T' | 't' | 'Z' | 'X') => {}
                    // It waits in vfork(2) for a child that is stopped, or for a disk, and stops before it does anything else.
                    Some('D') if asked.contains(&pid) => {}
                    Some(_) => {
                        all = false;
                        asked.insert(pid);
                        let _ = process.signal(libc::SIGSTOP);
                    }
                }
            }
            if all {
                return Ok(());
            }
            sleep(Duration::from_millis(2)).await;
            self.may_go_on(since)?;
        }
    }

    fn may_go_on(&self, since: Instant) -> Result<(), FreezeError> {
        match () {
            () if !self.pidfd.is_alive() || !self.is_frozen() => Err(FreezeError::Ended),
            () if since.elapsed() >= PATIENCE => Err(FreezeError::Stuck),
            () => Ok(()),
        }
    }

    /// It may be frozen by a supervisor that has died: whoever ends it thaws it first.
    pub(super) fn may_be_frozen(&self) {
        self.frozen.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::SeqCst)
    }

    /// Lets its processes go on, if they are frozen.
    pub(super) fn thaw(&self) {
        if !self.frozen.swap(false, Ordering::SeqCst) {
            return;
        }
        match self.group.as_ref().filter(|group| group.can_freeze()) {
            Some(group) => group.thaw(),
            None => {
                for (_, process) in self.members().unwrap_or_default() {
                    let _ = process.signal(libc::SIGCONT);
                }
            }
        }
    }

    /// All processes of the container, its first one among them, with their numbers.
    pub(super) fn members(&self) -> io::Result<Vec<(i32, PidFd)>> {
        let mut found = if self.own_pids {
            let namespace = fs::File::open(format!("/proc/{}/ns/pid", self.pid))?;
            // Looked up by number, so it is the right one only if the process has not ended.
            if !self.pidfd.is_alive() {
                return Ok(Vec::new());
            }
            members_of("pid", &namespace)?
        } else {
            self.family.members()?
        };
        let known: BTreeSet<i32> = found.iter().map(|(pid, _)| *pid).collect();
        let more = self.group.iter().flat_map(|group| group.members());
        found.extend(more.filter(|(pid, _)| !known.contains(pid)));
        found.sort_by_key(|(pid, _)| *pid);
        Ok(found)
    }
}

/// What proc_pid_stat(5) says a process does; none when there is none.
fn state_of(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}
