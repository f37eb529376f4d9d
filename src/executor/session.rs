//! A program that was run in a container, with all that it has begun.

use std::{fs, sync::Arc, thread, time::Duration};

use crate::sys::PidFd;

/// How often it is looked for further processes. Each time takes a fork that got away from the last one.
const ROUNDS: u32 = 50;

/// A program leads a session (setsid(2)), which what it begins is in as long as it does not begin one of its own. Those
/// that do are daemons, and end with the container.
pub(super) struct Session {
    leader: i32,
    pidfd: Arc<PidFd>,
    /// The first process of the container: who is of the session sees the same mounts. It keeps a number that has come to
    /// mean somebody else from being believed.
    container: Option<i32>,
}

impl Session {
    pub(super) fn new(leader: i32, pidfd: Arc<PidFd>, container: Option<i32>) -> Self {
        Self { leader, pidfd, container }
    }

    /// Kills all of it, and waits until nothing new comes up.
    pub(super) async fn end(self) {
        // For as long as the leader lives its number means no other, and stopped it begins nothing.
        let _ = self.pidfd.signal(libc::SIGSTOP);
        let ended = tokio::task::spawn_blocking(move || {
            let mounts = self.container.and_then(mounts_of);
            for _ in 0..ROUNDS {
                let members = self.members(mounts);
                if members.is_empty() {
                    break;
                }
                for member in members {
                    let _ = member.signal(libc::SIGKILL);
                }
                thread::sleep(Duration::from_millis(2));
            }
            let _ = self.pidfd.signal(libc::SIGKILL);
        });
        let _ = ended.await;
    }

    fn members(&self, mounts: Option<(u64, u64)>) -> Vec<PidFd> {
        let Some(mounts) = mounts else { return Vec::new() };
        let all = fs::read_dir("/proc").into_iter().flatten().flatten();
        let all = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let others = all.filter(|pid| *pid != self.leader);
        let is_one = |pid: i32| session_of(pid) == Some(self.leader) && mounts_of(pid) == Some(mounts);
        let held = others.filter(|pid| is_one(*pid)).filter_map(|pid| {
            let held = PidFd::open(pid).ok()?;
            // Looked up by number: only if it is still so once there is a hold on it was it the one.
            (is_one(pid) && held.is_alive()).then_some(held)
        });
        held.collect()
    }
}

fn mounts_of(pid: i32) -> Option<(u64, u64)> {
    let stat = rustix::fs::stat(format!("/proc/{pid}/ns/mnt")).ok()?;
    Some((stat.st_dev, stat.st_ino))
}

/// The session of a process that has not ended (proc_pid_stat(5)).
fn session_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X") { None } else { fields.nth(2)?.parse().ok() }
}
