//! What has to be known about a stack when its supervisor was killed: a journal, a line for each thing that would be left.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::StackLayout;
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

/// One thing that would be left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// The first process of a container, or of a shared pid namespace.
    Process(ProcessRecord),
    /// The folder of a control group, with whatever is in it.
    Cgroup(PathBuf),
    /// The folder of one that others may have come to use, and goes only if there is nothing in it.
    SharedCgroup(PathBuf),
    /// What an uplink has in the host's network namespace.
    Uplink {
        /// nft(8).
        nft: PathBuf,
        /// The name of its table, of the family inet.
        table: String,
        /// The name of its link.
        link: String,
    },
}

/// The journal of a running stack. Lines are added when things are made, each with one write, and never taken away: what
/// has gone since is found to be gone. It is not synced to the disk, since what it names does not survive the machine.
#[derive(Debug)]
pub struct Journal {
    file: File,
}

impl Journal {
    /// Begins the journal of a stack.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn create(layout: &StackLayout) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(layout.journal())?;
        Ok(Self { file })
    }

    /// Adds what has just been made.
    ///
    /// # Errors
    /// What write(2) says; ENOSPC on a full disk, and then whoever made it should undo it.
    pub fn add(&self, entry: &Entry) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        (&self.file).write_all(&line)
    }

    /// What the journal of a stack names; the last line may have been cut short, and is then of nothing that was used.
    pub fn read(layout: &StackLayout) -> Vec<Entry> {
        read(&layout.journal())
    }
}

fn read(path: &Path) -> Vec<Entry> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Layout;

    #[test]
    fn a_line_that_was_cut_short_hides_no_other() {
        let dir = tempfile::tempdir().expect("folder");
        let layout = Layout::new(&dir.path().join("run"), &dir.path().join("data")).stack(&"x".parse().expect("name"));
        std::fs::create_dir_all(layout.runtime()).expect("folder");
        let journal = Journal::create(&layout).expect("journal");
        let entries = [
            Entry::Process(ProcessRecord { pid: 1, start_time: 2 }),
            Entry::Cgroup("/sys/fs/cgroup/nscompose/x".into()),
        ];
        entries.iter().for_each(|entry| journal.add(entry).expect("added"));
        (&journal.file).write_all(b"{\"process\":{\"pi").expect("cut short");
        assert_eq!(Journal::read(&layout), entries);
    }

    #[test]
    fn another_process_with_the_same_number_is_not_meant() {
        let me = ProcessRecord::of(std::process::id() as i32).expect("this process");
        assert!(me.find().is_some());
        assert!(ProcessRecord { start_time: me.start_time + 1, ..me }.find().is_none());
    }
}
