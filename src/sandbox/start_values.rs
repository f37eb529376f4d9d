//! What a process starts with whatever its caller had set: limits, priorities and the like, as a daemon started with the
//! machine would hand them on, and as the file says.
//!
//! Most is done by the helper before it enters the container's user namespace ([`before_entering`]), since some of it takes
//! a right over the machine; resource limits last of all, since they count from then on ([`limit`]).

use std::{collections::BTreeMap, fs};

use rustix::{
    process::{Rlimit, getrlimit, setrlimit},
    thread::CapabilitySet,
};

use super::{
    error::{BringUpError, BringUpStep},
    user_namespace::in_initial_user_namespace,
};
use crate::{
    model::{ProcessOptions, Resource, ResourceLimit},
    sys::process,
};

/// What a limit is when the file does not name it: those of a process that systemd starts for Docker, but for the number
/// of descriptors, which is that of Docker from 29 on. None is no limit.
const fn default(resource: Resource) -> ResourceLimit {
    const MIB: u64 = 1024 * 1024;
    let (soft, hard) = match resource {
        Resource::Memlock => (Some(8 * MIB), Some(8 * MIB)),
        Resource::Msgqueue => (Some(819_200), Some(819_200)),
        Resource::Nice | Resource::Rtprio => (Some(0), Some(0)),
        // Programs that use select(2), or close every descriptor there could be, do not take a high one well.
        Resource::Nofile => (Some(1024), Some(524_288)),
        Resource::Stack => (Some(8 * MIB), None),
        Resource::As
        | Resource::Core
        | Resource::Cpu
        | Resource::Data
        | Resource::Fsize
        | Resource::Locks
        | Resource::Nproc
        | Resource::Rss
        | Resource::Rttime
        | Resource::Sigpending => (None, None),
    };
    ResourceLimit { soft, hard }
}

fn kernels(resource: Resource) -> rustix::process::Resource {
    use rustix::process::Resource as Kernel;
    match resource {
        Resource::As => Kernel::As,
        Resource::Core => Kernel::Core,
        Resource::Cpu => Kernel::Cpu,
        Resource::Data => Kernel::Data,
        Resource::Fsize => Kernel::Fsize,
        Resource::Locks => Kernel::Locks,
        Resource::Memlock => Kernel::Memlock,
        Resource::Msgqueue => Kernel::Msgqueue,
        Resource::Nice => Kernel::Nice,
        Resource::Nofile => Kernel::Nofile,
        Resource::Nproc => Kernel::Nproc,
        Resource::Rss => Kernel::Rss,
        Resource::Rtprio => Kernel::Rtprio,
        Resource::Rttime => Kernel::Rttime,
        Resource::Sigpending => Kernel::Sigpending,
        Resource::Stack => Kernel::Stack,
    }
}

/// The smaller of two limits.
fn least(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

/// As many descriptors as the kernel lets anybody have (fs.nr_open, proc_sys_fs(5)).
fn most_descriptors() -> Option<u64> {
    fs::read_to_string("/proc/sys/fs/nr_open").ok()?.trim().parse().ok()
}

/// Whether hard limits can be raised: CAP_SYS_RESOURCE counts in the initial user namespace only (setrlimit(2)).
fn may_raise() -> bool {
    let now = rustix::thread::capabilities(None).map(|sets| sets.effective).unwrap_or(CapabilitySet::empty());
    now.contains(CapabilitySet::SYS_RESOURCE) && in_initial_user_namespace()
}

/// The most that a hard limit of a container can be for whoever calls this; those that are not here can be anything.
pub fn hard_limits() -> BTreeMap<Resource, u64> {
    let may_raise = may_raise();
    let bound = |resource| match (resource, may_raise) {
        (Resource::Nofile, true) => most_descriptors(),
        (_, true) => None,
        (_, false) => getrlimit(kernels(resource)).maximum,
    };
    Resource::ALL.into_iter().filter_map(|resource| Some((resource, bound(resource)?))).collect()
}

/// What is to be set.
fn wanted(options: &ProcessOptions, resource: Resource) -> ResourceLimit {
    match (options.limits.get(&resource), resource) {
        // The kernel knows no endless number of descriptors and refuses it to anybody.
        (Some(limit), Resource::Nofile) => {
            let most = most_descriptors();
            ResourceLimit { soft: limit.soft.or(most), hard: limit.hard.or(most) }
        }
        (Some(limit), _) => *limit,
        (None, _) => default(resource),
    }
}

/// Takes back what only a right over the machine takes back, and gives what only that gives. Whoever has none keeps what the
/// caller had.
///
/// # Errors
/// When the kernel refuses what the file says of the OOM score.
pub(super) fn before_entering(options: &ProcessOptions) -> Result<(), BringUpError> {
    for resource in Resource::ALL {
        let now = getrlimit(kernels(resource));
        let hard = wanted(options, resource).hard;
        if now.maximum.is_some_and(|now| hard.is_none_or(|hard| hard > now)) {
            // What the file says and cannot be had is an error later; the plan has said so, if it could know.
            let _ = setrlimit(kernels(resource), Rlimit { current: now.current, maximum: hard });
        }
    }
    process::reset_scheduling();
    process::reset_attributes();
    // The default of the kernel: anonymous memory and headers of programs (core(5)). From a change of user on such files
    // belong to root of the machine.
    let _ = fs::write("/proc/self/coredump_filter", "0x33");
    match (options.oom_score_adj, fs::write("/proc/self/oom_score_adj", options.oom_score_adj.unwrap_or(0).to_string()))
    {
        // Whoever was given a floor above 0 keeps it.
        (_, Ok(())) | (None, Err(_)) => Ok(()),
        (Some(score), Err(error)) => Err(BringUpStep::OomScore(score).failed(error)),
    }
}

/// Sets the resource limits: the last thing before the program, since they count from then on.
///
/// # Errors
/// When one of the file cannot be had.
pub(super) fn limit(options: &ProcessOptions) -> Result<(), BringUpError> {
    for resource in Resource::ALL {
        let wanted = wanted(options, resource);
        let limit = Rlimit { current: wanted.soft, maximum: wanted.hard };
        if options.limits.contains_key(&resource) {
            setrlimit(kernels(resource), limit).map_err(|e| BringUpStep::Limit(resource).failed(e))?;
        } else {
            let maximum = least(limit.maximum, getrlimit(kernels(resource)).maximum);
            let _ = setrlimit(kernels(resource), Rlimit { current: least(limit.current, maximum), maximum });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_file_says_goes_before_the_default() {
        let mut options = ProcessOptions::default();
        assert_eq!(wanted(&options, Resource::Nofile).soft, Some(1024));
        options.limits.insert(Resource::Nofile, ResourceLimit { soft: Some(5), hard: None });
        let limit = wanted(&options, Resource::Nofile);
        assert_eq!((limit.soft, limit.hard), (Some(5), most_descriptors()));
        assert_eq!(least(None, Some(3)), Some(3));
        assert_eq!(least(Some(4), Some(3)), Some(3));
        assert_eq!(least(None, None), None);
    }
}
