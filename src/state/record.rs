//! What has to be known about a stack when its supervisor was killed: what would be left, and what there is, for the next
//! supervisor to go on from.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

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

/// One line of the journal: something that would be left.
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
    /// Which run of the machine all this is of (/proc/sys/kernel/random/boot_id).
    Boot(String),
}

/// One line of what the next supervisor is told.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word<T> {
    /// Something is there, and like this; what was said of the same before counts no more.
    Fact(String, T),
    /// It is there no more.
    Gone(String),
}

/// What a supervisor that has died has written down.
#[derive(Debug, Default, PartialEq)]
pub struct Past {
    /// What would be left, in the order in which it was made.
    pub entries: Vec<Entry>,
    /// What there is, by name.
    pub facts: BTreeMap<String, Value>,
}

/// What is written down of a running stack, in two files:
///
/// - the journal proper, in the runtime folder: what would be left of the stack, for whoever cleans up. What is in it stays;
///   what has gone since is found to be gone;
/// - facts, in the folder that only the supervisor and its keeper see, which is in memory: what there is, for the next
///   supervisor to go on from. Containers' specifications are among them, and with these passwords and secrets.
///
/// Each line is added with one write when what it says has come to be. When a file has grown to a multiple of what still counts
/// it is written anew beside itself and renamed. Neither is synced to the disk, since what they name does not survive the
/// machine.
#[derive(Debug)]
pub struct Journal {
    left: Lines,
    facts: Lines,
}

impl Journal {
    /// Begins the journal of a stack.
    ///
    /// # Errors
    /// What open(2) and write(2) say.
    pub fn create(layout: &StackLayout) -> io::Result<Self> {
        let left = Lines::open(layout.journal(), entries_anew)?;
        left.add(&Entry::Boot(boot_id()))?;
        Ok(Self { left, facts: Lines::open(layout.facts(), facts_anew)? })
    }

    /// Goes on with the journal of a supervisor that has died, and says what is in it.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn reopen(layout: &StackLayout) -> io::Result<(Self, Past)> {
        let past = Past { entries: entries_of(&layout.journal()), facts: facts_of(&layout.facts()) };
        let left = Lines::go_on(layout.journal(), entries_anew)?;
        Ok((Self { left, facts: Lines::go_on(layout.facts(), facts_anew)? }, past))
    }

    /// Adds what has just been made.
    ///
    /// # Errors
    /// What write(2) says; ENOSPC on a full disk, and then whoever made it should undo it. Nothing of it is in the journal.
    pub fn add(&self, entry: &Entry) -> io::Result<()> {
        self.left.add(entry)
    }

    /// Adds what there is.
    ///
    /// # Errors
    /// Those of [`Self::add`].
    pub fn put(&self, name: &str, fact: &impl Serialize) -> io::Result<()> {
        self.facts.add(&Word::Fact(name.to_owned(), fact))
    }

    /// Adds that it is there no more.
    ///
    /// # Errors
    /// Those of [`Self::add`].
    pub fn strike(&self, name: &str) -> io::Result<()> {
        self.facts.add(&Word::<()>::Gone(name.to_owned()))
    }

    /// What the journal of a stack names; the last line may have been cut short, and is then of nothing that was used. Processes
    /// of another run of the machine are none.
    pub fn read(layout: &StackLayout) -> Vec<Entry> {
        entries_of(&layout.journal())
    }
}

/// A file to which lines of JSON are added.
#[derive(Debug)]
struct Lines {
    path: PathBuf,
    /// What still counts of one, as text.
    counts: fn(&Path) -> io::Result<Vec<u8>>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: File,
    /// Bytes of the file.
    size: u64,
    /// Bytes of it when it was written anew.
    compact: u64,
}

/// A file is not written anew before it has so many bytes more than when that was done last, and then not before it is so many
/// times as large.
const GROWTH: (u64, u64) = (64 * 1024, 4);

impl Lines {
    fn open(path: PathBuf, counts: fn(&Path) -> io::Result<Vec<u8>>) -> io::Result<Self> {
        let file = append_to(&path)?;
        Ok(Self { path, counts, inner: Mutex::new(Inner { file, size: 0, compact: 0 }) })
    }

    fn go_on(path: PathBuf, counts: fn(&Path) -> io::Result<Vec<u8>>) -> io::Result<Self> {
        let written = write_anew(&path, counts).or_else(|_| {
            // The disk is full. What was cut short goes, and the rest stays as it is.
            let bytes = std::fs::read(&path)?;
            let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1) as u64;
            let file = append_to(&path)?;
            file.set_len(whole)?;
            Ok::<_, io::Error>((file, whole))
        });
        let (file, size) = written?;
        Ok(Self { path, counts, inner: Mutex::new(Inner { file, size, compact: size }) })
    }

    fn add(&self, line: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(line)?;
        line.push(b'\n');
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = inner.file.write_all(&line) {
            // A part of it may be there, and would spoil the next one.
            let _ = inner.file.set_len(inner.size);
            return Err(error);
        }
        inner.size += line.len() as u64;
        if inner.size > inner.compact + GROWTH.0 && inner.size > inner.compact * GROWTH.1 {
            match write_anew(&self.path, self.counts) {
                Ok((file, size)) => *inner = Inner { file, size, compact: size },
                // It only takes more room.
                Err(_) => inner.compact = inner.size,
            }
        }
        Ok(())
    }
}

/// Which run of the machine this is.
fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

fn lines_of<T: DeserializeOwned>(path: &Path) -> Vec<T> {
    let bytes = std::fs::read(path).unwrap_or_default();
    bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

fn entries_of(path: &Path) -> Vec<Entry> {
    let mut entries: Vec<Entry> = lines_of(path);
    if entries.iter().any(|entry| matches!(entry, Entry::Boot(boot) if *boot != boot_id())) {
        // Numbers of processes and their times come again, and nothing is there that runs.
        entries.retain(|entry| !matches!(entry, Entry::Process(_)));
    }
    entries
}

fn facts_of(path: &Path) -> BTreeMap<String, Value> {
    let mut facts = BTreeMap::new();
    for word in lines_of::<Word<Value>>(path) {
        match word {
            Word::Fact(name, fact) => drop(facts.insert(name, fact)),
            Word::Gone(name) => drop(facts.remove(&name)),
        }
    }
    facts
}

fn entries_anew(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut line = |entry: &Entry| -> io::Result<()> {
        serde_json::to_writer(&mut text, entry)?;
        text.push(b'\n');
        Ok(())
    };
    line(&Entry::Boot(boot_id()))?;
    let entries = entries_of(path);
    for (i, entry) in entries.iter().enumerate() {
        let counts = match entry {
            Entry::Process(process) => process.find().is_some(),
            Entry::Boot(_) => false,
            // Each time that a service is started.
            entry => !entries[..i].contains(entry),
        };
        if counts {
            line(entry)?;
        }
    }
    Ok(text)
}

fn facts_anew(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    for (name, fact) in facts_of(path) {
        serde_json::to_writer(&mut text, &Word::Fact(name, fact))?;
        text.push(b'\n');
    }
    Ok(text)
}

/// Writes what counts beside a file and puts it into its place.
fn write_anew(path: &Path, counts: fn(&Path) -> io::Result<Vec<u8>>) -> io::Result<(File, u64)> {
    let text = counts(path)?;
    let new = path.with_extension("new");
    let _ = std::fs::remove_file(&new);
    let written = append_to(&new).and_then(|mut file| {
        file.write_all(&text)?;
        std::fs::rename(&new, path)?;
        Ok(file)
    });
    match written {
        Ok(file) => Ok((file, text.len() as u64)),
        Err(error) => {
            let _ = std::fs::remove_file(&new);
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Layout;

    #[test]
    fn a_line_that_was_cut_short_hides_no_other() {
        let dir = tempfile::tempdir().expect("folder");
        let layout = Layout::new(&dir.path().join("run"), &dir.path().join("data")).stack(&"x".parse().expect("name"));
        std::fs::create_dir_all(layout.private()).expect("folder");
        let journal = Journal::create(&layout).expect("journal");
        let entries = [
            Entry::Process(ProcessRecord { pid: 1, start_time: 2 }),
            Entry::Cgroup("/sys/fs/cgroup/nscompose/x".into()),
        ];
        entries.iter().for_each(|entry| journal.add(entry).expect("added"));
        let cut_short = |journal: &Journal| {
            for lines in [&journal.left, &journal.facts] {
                lines.inner.lock().expect("whole").file.write_all(b"{\"process\":{\"pi").expect("cut short");
            }
        };
        cut_short(&journal);
        assert_eq!(Journal::read(&layout)[1..], entries);
        // The next supervisor's lines are not spoiled by it.
        let (journal, past) = Journal::reopen(&layout).expect("reopened");
        assert_eq!(past.entries[1..], entries);
        journal.put("a", &1).expect("added");
        cut_short(&journal);
        let past = Journal::reopen(&layout).expect("reopened").1;
        // There is no such process.
        assert_eq!(past.entries, [Entry::Boot(boot_id()), entries[1].clone()]);
        assert_eq!(past.facts, [("a".to_owned(), Value::from(1))].into());
    }

    fn journal_in(dir: &tempfile::TempDir) -> (StackLayout, Journal) {
        let layout = Layout::new(&dir.path().join("run"), &dir.path().join("data")).stack(&"x".parse().expect("name"));
        std::fs::create_dir_all(layout.private()).expect("folder");
        let journal = Journal::create(&layout).expect("journal");
        (layout, journal)
    }

    #[test]
    fn it_does_not_grow_with_what_has_gone() {
        let dir = tempfile::tempdir().expect("folder");
        let (layout, journal) = journal_in(&dir);
        let long = "x".repeat(1000);
        journal.put("stays", &long).expect("added");
        for i in 0..2000 {
            journal.put(&format!("comes/{i}"), &long).expect("added");
            journal.strike(&format!("comes/{i}")).expect("added");
        }
        let size = std::fs::metadata(layout.facts()).expect("there").len();
        assert!(size < 2 * GROWTH.0, "{size}");
        let (_, past) = Journal::reopen(&layout).expect("reopened");
        assert_eq!(past.facts.keys().collect::<Vec<_>>(), ["stays"]);
        assert_eq!(std::fs::read_dir(layout.private()).expect("there").count(), 1);
    }

    #[test]
    fn nothing_of_another_run_of_the_machine_is_killed() {
        let dir = tempfile::tempdir().expect("folder");
        let (layout, journal) = journal_in(&dir);
        let me = ProcessRecord::of(std::process::id() as i32).expect("this process");
        let group = Entry::Cgroup("/sys/fs/cgroup/nscompose/x".into());
        journal.add(&Entry::Process(me)).expect("added");
        journal.add(&group).expect("added");
        assert!(Journal::read(&layout).contains(&Entry::Process(me)));
        let text = std::fs::read_to_string(layout.journal()).expect("text");
        std::fs::write(layout.journal(), text.replace(&boot_id(), "another")).expect("written");
        let entries = Journal::read(&layout);
        assert!(!entries.contains(&Entry::Process(me)) && entries.contains(&group), "{entries:?}");
    }

    #[test]
    fn another_process_with_the_same_number_is_not_meant() {
        let me = ProcessRecord::of(std::process::id() as i32).expect("this process");
        assert!(me.find().is_some());
        assert!(ProcessRecord { start_time: me.start_time + 1, ..me }.find().is_none());
    }
}
