//! What other stacks have running on a network that stacks share, read anew only when something has changed.

use std::{
    fmt, fs,
    os::{fd::AsFd, unix::fs::MetadataExt},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Place, SharedNetworks};
use crate::{
    model::{NetworkName, ProjectName},
    sys::PidFd,
};

/// How long after a change of the folder another one may bear the same time: file systems take it from a clock that goes on with
/// each tick of the kernel, at most 10 ms.
const TICK: Duration = Duration::from_millis(100);

/// Who is on a network besides one's own stack, as a value made of it.
///
/// Each file in the folder of the network is replaced and never written to, so that the time of the folder tells every change.
/// A supervisor that was killed tells nothing, hence the descriptors.
pub struct Neighbours<T> {
    networks: SharedNetworks,
    network: NetworkName,
    but: ProjectName,
    make: Box<dyn Fn(Vec<Place>) -> T + Send + Sync>,
    seen: Mutex<Option<Seen<T>>>,
}

struct Seen<T> {
    state: Option<FolderState>,
    /// Nothing can have changed without another state.
    settled: bool,
    owners: Vec<PidFd>,
    value: Arc<T>,
}

/// What tells one state of a folder from the next: device, inode, seconds and nanoseconds of its last change.
type FolderState = (u64, u64, i64, i64);

impl<T> Neighbours<T> {
    /// Those on `network` that are not of stack `but`; `make` is called for each new state of it.
    pub fn new(
        networks: SharedNetworks,
        network: NetworkName,
        but: ProjectName,
        make: impl Fn(Vec<Place>) -> T + Send + Sync + 'static,
    ) -> Self {
        Self { networks, network, but, make: Box::new(make), seen: Mutex::default() }
    }

    /// What there is at this moment.
    pub fn look(&self) -> Arc<T> {
        let metadata = fs::metadata(self.networks.lease_folder(&self.network)).ok();
        let state = metadata.map(|it| (it.dev(), it.ino(), it.mtime(), it.mtime_nsec()));
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = &*seen
            && seen.settled
            && seen.state == state
            && all_alive(&seen.owners)
        {
            return seen.value.clone();
        }
        let settled = state.is_none_or(|state| is_past(state.2, state.3));
        let (mut owners, mut places) = (Vec::new(), Vec::new());
        for (stack, lease, owner) in self.networks.leases_and_owners(&self.network) {
            if stack == self.but {
                continue;
            }
            let running = self.networks.running(&self.network, &stack, lease.owner);
            places
                .extend(lease.services.into_iter().filter(|(service, _)| running.contains(service)).map(|(_, at)| at));
            owners.push(owner);
        }
        let value = Arc::new((self.make)(places));
        *seen = Some(Seen { state, settled, owners, value: value.clone() });
        value
    }
}

fn all_alive(owners: &[PidFd]) -> bool {
    let mut ends: Vec<PollFd<'_>> =
        owners.iter().map(|owner| PollFd::from_borrowed_fd(owner.as_fd(), PollFlags::IN)).collect();
    ends.is_empty() || poll(&mut ends, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) == Ok(0)
}

/// Whether a time is so long ago that the next change bears another one. One in the future is not: somebody has set the clock.
fn is_past(seconds: i64, nanoseconds: i64) -> bool {
    let then = UNIX_EPOCH + Duration::new(u64::try_from(seconds).unwrap_or(0), u32::try_from(nanoseconds).unwrap_or(0));
    SystemTime::now().duration_since(then).is_ok_and(|age| age > TICK)
}

impl<T> fmt::Debug for Neighbours<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Neighbours").field("network", &self.network).field("but", &self.but).finish_non_exhaustive()
    }
}
