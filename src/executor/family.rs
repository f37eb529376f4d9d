//! The processes of a container beside its first one, wherever they have gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use crate::{cgroup, sys::PidFd};

/// How often it is looked for further processes. Each time takes a fork that got away from the last one.
const ROUNDS: u32 = 200;

/// What the processes of a container are known by when their first one has ended: in a pid namespace that is not the
/// container's own nobody ends them then, and what has lost its parent cannot be told from others by that.
///
/// It is their control group, and where there is none their mount namespace, which is the container's alone. Who has made a
/// further one is found by his parents only, if they are still there.
pub(super) struct Family {
    group: Option<Arc<cgroup::Group>>,
    /// Held open, so that no other one gets its number meanwhile.
    mounts: Mutex<Option<OwnedFd>>,
}

impl Family {
    /// `group` is the control group of a container that has no pid namespace of its own; whatever is in one ends with it.
    pub(super) fn new(group: Option<Arc<cgroup::Group>>) -> Self {
        Self { group, mounts: Mutex::new(None) }
    }

    /// Takes note of the mount namespace of a container that has no pid namespace of its own.
    pub(super) fn know(&self, mounts: Option<OwnedFd>) {
        *self.mounts.lock().unwrap_or_else(PoisonError::into_inner) = mounts;
    }

    /// All of them that are there now, the first one too while it lives, with their numbers.
    ///
    /// # Errors
    /// What fstat(2) says.
    pub(super) fn members(&self) -> io::Result<Vec<(i32, PidFd)>> {
        let mounts = self.mounts.lock().unwrap_or_else(PoisonError::into_inner);
        mounts.as_ref().map_or_else(|| Ok(Vec::new()), |mounts| members_of("mnt", mounts))
    }

    /// Kills all of them and lets go of the namespace, so that nothing keeps the container's files busy. Waits until they
    /// have ended, so it is for a thread that may.
    pub(super) fn end(&self) {
        let mounts = self.mounts.lock().unwrap_or_else(PoisonError::into_inner).take();
        let identity = mounts.as_ref().and_then(|mounts| identity(rustix::fs::fstat(mounts)).ok());
        // With version 1 SIGKILL does not reach what is frozen.
        self.group.iter().for_each(|group| group.thaw());
        for _ in 0..ROUNDS {
            let found = identity.map(|identity| members("mnt", identity)).unwrap_or_default();
            let mut found: Vec<PidFd> = found.into_iter().map(|(_, member)| member).collect();
            // One by one and not by cgroup.kill: of a group that has once been killed so, the kernel also kills what is later made
            // straight into it (CLONE_INTO_CGROUP, seen in Linux 6.18), and the service may be started again.
            found.extend(self.group.iter().flat_map(|group| group.processes()));
            if found.is_empty() {
                return;
            }
            for member in &found {
                let _ = member.signal(libc::SIGKILL);
            }
            thread::sleep(Duration::from_millis(5));
        }
        tracing::warn!("processes of a container do not end");
    }
}

type Identity = (u64, u64);

fn identity(stat: rustix::io::Result<rustix::fs::Stat>) -> io::Result<Identity> {
    let stat = stat?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Processes that are in a namespace of this kind (`mnt`, `pid`), and their descendants, none of them ended.
pub(super) fn members_of(kind: &str, namespace: &impl std::os::fd::AsFd) -> io::Result<Vec<(i32, PidFd)>> {
    Ok(members(kind, identity(rustix::fs::fstat(namespace))?))
}

fn members(kind: &str, namespace: Identity) -> Vec<(i32, PidFd)> {
    let is_member =
        |pid: i32| identity(rustix::fs::stat(format!("/proc/{pid}/ns/{kind}"))).is_ok_and(|own| own == namespace);
    let all: Vec<i32> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    let mut members: BTreeSet<i32> = all.iter().copied().filter(|pid| is_member(*pid)).collect();
    if members.is_empty() {
        return Vec::new();
    }
    let parents: BTreeMap<i32, i32> = all.iter().filter_map(|pid| Some((*pid, parent(*pid)?))).collect();
    loop {
        let more = parents.iter().filter(|(pid, parent)| members.contains(parent) && !members.contains(pid));
        let more: Vec<i32> = more.map(|(pid, _)| *pid).collect();
        if more.is_empty() {
            break;
        }
        members.extend(more);
    }
    // Looked up by number: only if it is still so once there is a hold on it was it the one.
    let held = members.into_iter().filter_map(|pid| {
        let held = PidFd::open(pid).ok()?;
        let same = is_member(pid) || parent(pid) == parents.get(&pid).copied();
        (same && held.is_alive()).then_some((pid, held))
    });
    held.collect()
}

/// The parent of a process that has not ended.
fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X") { None } else { fields.next()?.parse().ok() }
}
