//! The end of a container: told with its reason, once everything of it is down.

use std::sync::Arc;

use tokio::sync::{mpsc::UnboundedSender, watch};

use super::{Change, family::Family, life::EndTeller, logs::Pump};
use crate::{cgroup, model::ServiceName, sys::ExitStatus};

/// Waits for the end of a container, and for the last of its log, and tells of it.
pub(super) async fn tell_exit(
    pid: i32,
    mut exit: watch::Receiver<Option<ExitStatus>>,
    family: Arc<Family>,
    pump: Option<Pump>,
    memory: Option<Kills>,
    changes: UnboundedSender<Change>,
    life: EndTeller,
) {
    let Ok(status) = exit.wait_for(Option::is_some).await.map(|status| *status) else { return };
    let code = status.map_or(255, ExitStatus::shell_code);
    // With a pid namespace of its own everything in it has ended. In a shared one nobody else ends what it has left, which
    // would hold the pipes open; something that cannot be killed must not keep the news back.
    let _ = tokio::task::spawn_blocking(move || family.end()).await;
    if let Some(pump) = pump {
        pump.drained().await;
    }
    // Why it has ended comes before that it has.
    if let Some(kills) = memory {
        kills.tell_now(0, &changes);
    }
    life.tell(pid, code).await;
}

/// An amount of memory for people.
pub(super) fn bytes(bytes: u64) -> String {
    match bytes {
        _ if bytes.is_multiple_of(1 << 30) => format!("{} GiB", bytes >> 30),
        _ if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ => format!("{bytes} bytes"),
    }
}

/// What the kernel kills of a container for want of memory.
pub(super) struct Kills {
    pub(super) service: ServiceName,
    pub(super) pid: i32,
    pub(super) group: Arc<cgroup::Group>,
    /// How many there had been when it was started: the group outlives what runs in it.
    pub(super) before: u64,
}

impl Kills {
    /// Tells of them if there are more than `known`; how many there are comes back.
    fn tell_now(&self, known: u64, changes: &UnboundedSender<Change>) -> u64 {
        let kills = self.group.oom_kills().unwrap_or(0).saturating_sub(self.before);
        if kills > known {
            let _ = changes.send(Change::OutOfMemory(self.service.clone(), self.pid, kills));
        }
        kills
    }

    /// Tells of them until it has ended, as they happen.
    pub(super) async fn tell(self, mut exit: watch::Receiver<Option<ExitStatus>>, changes: UnboundedSender<Change>) {
        let mut known = 0;
        let mut watch = match self.group.watch_memory() {
            Ok(watch) => watch,
            Err(error) => return tracing::warn!(%error, "kills are told only when a container ends"),
        };
        loop {
            tokio::select! {
                _ = exit.wait_for(Option::is_some) => return,
                () = watch.changed() => known = self.tell_now(known, &changes),
            }
        }
    }
}
