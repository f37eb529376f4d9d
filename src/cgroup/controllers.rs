//! Which controllers a limit needs.

use std::collections::BTreeSet;

use crate::model::{Limits, Setting};

/// The controllers that nscompose knows, by the names of version 2.
pub(super) const ALL: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

/// Those that count what is used, and are given to each container where they cost nothing more.
pub(super) const COUNTING: [&str; 4] = ["cpu", "io", "memory", "pids"];

/// What version 1 calls a controller.
pub(super) fn version_one(controller: &str) -> &str {
    if controller == "io" { "blkio" } else { controller }
}

/// The controller that a setting is one of; none where it is of no controller.
pub(super) fn of(setting: Setting) -> Option<&'static str> {
    match setting {
        Setting::CpuMax | Setting::CpuShares | Setting::RealTime => Some("cpu"),
        Setting::Cpuset => Some("cpuset"),
        Setting::MemoryMax
        | Setting::MemoryReservation
        | Setting::Swap
        | Setting::Swappiness
        | Setting::OomKillDisable => Some("memory"),
        Setting::Pids => Some("pids"),
        Setting::IoWeight | Setting::IoMax => Some("io"),
        Setting::Parent | Setting::Devices => None,
    }
}

/// Those that these limits need.
pub(super) fn needed(limits: &Limits) -> BTreeSet<&'static str> {
    limits.asks().into_iter().filter_map(of).collect()
}
