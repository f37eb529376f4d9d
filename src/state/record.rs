//! What has to be known about a stack when its supervisor was killed.

use std::{io, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{StackLayout, replace_file};
use crate::sys::{PidFd, process};

/// A process that is sure to be the one that was meant: a number alone may come to name another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessRecord {
    /// Its number.
    pub pid: i32,
    /// When it started, in clock ticks since boot.
    pub start_time: u64,
}

impl ProcessRecord {
    /// The process that has this number now; none when there is none.
    pub fn of(pid: i32) -> Option<Self> {
        Some(Self { pid, start_time: process::start_time(pid)? })
    }

    /// The process, if it still runs.
    pub fn find(self) -> Option<PidFd> {
        let pidfd = PidFd::open(self.pid).ok()?;
        // Checked with the hold in hand: from here on the number cannot change its meaning.
        (process::start_time(self.pid) == Some(self.start_time)).then_some(pidfd)
    }
}

/// Everything that would be left if the supervisor were killed, and how to reach it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackRecord {
    /// Processes that are the first of a pid namespace.
    pub processes: Vec<ProcessRecord>,
    /// Folders of control groups, innermost first.
    pub cgroups: Vec<PathBuf>,
}

impl StackRecord {
    /// Reads the record of a stack; none when there is none, or none that can be read.
    pub fn read(layout: &StackLayout) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(layout.record()).ok()?).ok()
    }

    /// Writes it.
    ///
    /// # Errors
    /// See [`replace_file`].
    pub fn write(&self, layout: &StackLayout) -> io::Result<()> {
        replace_file(&layout.record(), &serde_json::to_vec(self)?)
    }
}
