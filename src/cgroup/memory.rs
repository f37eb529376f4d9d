//! Memory and swap: the controller `memory`.

use std::{io, os::fd::OwnedFd, path::Path, time::Duration};

use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;

use super::{
    CgroupError,
    file::{At, field, number, write},
};
use crate::{
    model::{Effective, MemoryLimits, Swap, Usage},
    sys,
};

/// What version 1 has for no limit is a huge number that depends on the size of pages; no machine has as much.
const UNLIMITED: u64 = 1 << 60;

pub(super) fn apply(at: &At, limits: &MemoryLimits, effective: &mut Effective) -> Result<(), CgroupError> {
    match at {
        At::V2(folder) => {
            if let Some(max) = limits.max {
                let file = folder.join("memory.max");
                write(&file, &max.to_string())?;
                effective.memory = number(&file);
            }
            if let Some(reservation) = limits.reservation {
                let file = folder.join("memory.low");
                write(&file, &reservation.to_string())?;
                effective.memory_reservation = number(&file);
            }
            let file = folder.join("memory.swap.max");
            match limits.swap {
                None => {}
                Some(Swap::Unlimited) => write(&file, "max")?,
                Some(Swap::Bytes(bytes)) => write(&file, &bytes.to_string())?,
                Some(Swap::AsMemory) if !file.exists() => {}
                Some(Swap::AsMemory) => write(&file, &limits.max.unwrap_or(0).to_string())?,
            }
            effective.swap = limits.swap.and_then(|_| number(&file));
        }
        At::V1(folder) => {
            let (memory, both) = (folder.join("memory.limit_in_bytes"), folder.join("memory.memsw.limit_in_bytes"));
            if let Some(max) = limits.max {
                // The limit of both together may never be the lower one; a new group has neither.
                write(&memory, &max.to_string())?;
                effective.memory = number(&memory);
            }
            let max = limits.max.unwrap_or(0);
            match limits.swap {
                None => {}
                Some(Swap::Unlimited) => write(&both, "-1")?,
                Some(Swap::Bytes(bytes)) => write(&both, &max.saturating_add(bytes).to_string())?,
                Some(Swap::AsMemory) if !both.exists() => {}
                Some(Swap::AsMemory) => write(&both, &max.saturating_mul(2).to_string())?,
            }
            effective.swap = limits.swap.and_then(|_| {
                let both = number(&both).filter(|both| *both < UNLIMITED)?;
                Some(both.saturating_sub(effective.memory.unwrap_or(0)))
            });
            if let Some(reservation) = limits.reservation {
                let file = folder.join("memory.soft_limit_in_bytes");
                write(&file, &reservation.to_string())?;
                effective.memory_reservation = number(&file);
            }
            if let Some(swappiness) = limits.swappiness {
                write(&folder.join("memory.swappiness"), &swappiness.to_string())?;
            }
            if limits.oom_kill_disable {
                write(&folder.join("memory.oom_control"), "1")?;
            }
        }
    }
    Ok(())
}

/// As Docker counts it: without file pages that are inactive, which the kernel takes back whenever it likes.
pub(super) fn usage(at: &At, usage: &mut Usage) {
    let (all, stat, inactive, limit) = match at {
        At::V2(folder) => ("memory.current", folder.join("memory.stat"), "inactive_file", "memory.max"),
        At::V1(folder) => {
            ("memory.usage_in_bytes", folder.join("memory.stat"), "total_inactive_file", "memory.limit_in_bytes")
        }
    };
    let all = number(&at.folder().join(all));
    usage.memory = all.map(|all| all.saturating_sub(field(&stat, inactive).unwrap_or(0)));
    usage.memory_limit = number(&at.folder().join(limit)).filter(|limit| *limit < UNLIMITED);
}

/// How many processes of the group the kernel has killed for want of memory since the group was made.
pub(super) fn oom_kills(at: &At) -> Option<u64> {
    match at {
        At::V2(folder) => field(&folder.join("memory.events"), "oom_kill"),
        // Linux 4.13.
        At::V1(folder) => field(&folder.join("memory.oom_control"), "oom_kill"),
    }
}

/// Waits for kills.
#[derive(Debug)]
pub struct MemoryWatch {
    events: Option<AsyncFd<OwnedFd>>,
}

impl MemoryWatch {
    /// memory.events of version 2 is reported as modified when a number in it has grown.
    pub(super) fn of_events(file: &Path) -> io::Result<Self> {
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        inotify::add_watch(&watch, file, inotify::WatchFlags::MODIFY)?;
        Ok(Self { events: Some(sys::wait_on(watch)?) })
    }

    /// The notification of version 1 comes before the kill and not with it, and is on its way out of the kernel: looking
    /// every second costs less than a microsecond in one.
    pub(super) fn now_and_then() -> Self {
        Self { events: None }
    }

    /// Comes back when there may be news.
    pub async fn changed(&mut self) {
        let Some(events) = &self.events else { return tokio::time::sleep(Duration::from_secs(1)).await };
        if let Ok(mut ready) = events.readable().await {
            let mut buffer = [0; 4096];
            while rustix::io::read(events, &mut buffer).is_ok() {}
            ready.clear_ready();
        } else {
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_is_beside_memory_in_version_two_and_on_top_in_version_one() {
        let dir = tempfile::tempdir().expect("folder");
        let file = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect("a file");
        let names = ["memory.max", "memory.swap.max", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"];
        names.iter().for_each(|name| std::fs::write(dir.path().join(name), "").expect("a file"));
        for (swap, beside, on_top) in [
            (Swap::AsMemory, "1000000", "2000000"),
            (Swap::Bytes(0), "0", "1000000"),
            (Swap::Bytes(500_000), "500000", "1500000"),
            (Swap::Unlimited, "max", "-1"),
        ] {
            let limits = MemoryLimits { max: Some(1_000_000), swap: Some(swap), ..MemoryLimits::default() };
            names.iter().for_each(|name| std::fs::write(dir.path().join(name), "").expect("emptied"));
            let mut effective = Effective::default();
            apply(&At::V2(dir.path().into()), &limits, &mut effective).expect("applied");
            assert_eq!((file("memory.max").as_str(), file("memory.swap.max").as_str()), ("1000000", beside));
            apply(&At::V1(dir.path().into()), &limits, &mut effective).expect("applied");
            let both = file("memory.memsw.limit_in_bytes");
            assert_eq!((file("memory.limit_in_bytes").as_str(), both.as_str()), ("1000000", on_top));
        }
    }

    #[test]
    fn where_swap_is_not_counted_only_what_is_asked_for_fails() {
        let dir = tempfile::tempdir().expect("folder");
        std::fs::write(dir.path().join("memory.max"), "").expect("a file");
        let mut limits = MemoryLimits { max: Some(1), swap: Some(Swap::AsMemory), ..MemoryLimits::default() };
        let at = At::V2(dir.path().into());
        apply(&at, &limits, &mut Effective::default()).expect("applied");
        limits.swap = Some(Swap::Bytes(0));
        apply(&at, &limits, &mut Effective::default()).expect_err("there is no such file");
    }
}
