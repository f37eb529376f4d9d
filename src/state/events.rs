//! What happened to the containers of a stack: an object a line, with the fields that `docker compose events --json` has.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::StackLayout;

/// One thing that happened to a container. Its fields are in the order in which Docker Compose has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happening {
    /// What, in Docker's words: `create`, `start`, `die`, `kill`, `stop`, `pause`, `unpause`, `oom`, `destroy`, or
    /// `health_status: healthy`.
    pub action: String,
    /// More about it: `name` is that of the container, `image` what it was made from, `exitCode` how its first process ended,
    /// `signal` the number of what it was sent.
    pub attributes: BTreeMap<String, String>,
    /// What the container is called, which tells it from all others of the account.
    pub id: String,
    /// Its service.
    pub service: String,
    /// When.
    pub time: Timestamp,
    /// Always `container`.
    #[serde(rename = "type")]
    pub kind: String,
}

impl Happening {
    /// Something that happens now to the container that is called `name`.
    pub fn now(action: impl Into<String>, service: impl Into<String>, name: &str) -> Self {
        Self {
            action: action.into(),
            attributes: BTreeMap::from([("name".to_owned(), name.to_owned())]),
            id: name.to_owned(),
            service: service.into(),
            time: Timestamp::now(),
            kind: "container".to_owned(),
        }
    }

    /// The same with one more attribute.
    #[must_use]
    pub fn with(mut self, attribute: &str, value: impl ToString) -> Self {
        self.attributes.insert(attribute.to_owned(), value.to_string());
        self
    }

    /// How the first process ended, as a shell would show it, when it did.
    pub fn exit_code(&self) -> Option<i32> {
        self.attributes.get("exitCode")?.parse().ok().filter(|_| self.action == "die")
    }
}

/// The events of a stack on disk, so that they can be asked for later. There are at least the last mebibyte of them, about
/// five thousand, and at most two.
#[derive(Debug)]
pub struct EventLog {
    layout: StackLayout,
    file: Option<File>,
    size: u64,
}

/// How large a file may become before another one is begun.
const MAX: u64 = 1 << 20;

impl EventLog {
    /// Goes on with those that there are.
    pub fn open(layout: &StackLayout) -> Self {
        Self { layout: layout.clone(), file: None, size: 0 }
    }

    /// Adds one, with one write.
    ///
    /// # Errors
    /// What write(2) says.
    pub fn add(&mut self, happening: &Happening) -> io::Result<()> {
        let mut line = serde_json::to_vec(happening)?;
        line.push(b'\n');
        if self.size + line.len() as u64 > MAX {
            fs::rename(self.layout.events(), self.layout.older_events())?;
            self.file = None;
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let path = self.layout.events();
                let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
                self.size = file.metadata()?.len();
                self.file.insert(file)
            }
        };
        file.write_all(&line)?;
        self.size += line.len() as u64;
        Ok(())
    }

    /// Those that are still known, the oldest first. A line that is no event, such as one that a full disk has cut off, is none.
    pub fn read(layout: &StackLayout) -> Vec<Happening> {
        let lines = |path: PathBuf| {
            // As bytes: what a killed supervisor has left half way need not be text.
            File::open(path).into_iter().flat_map(|file| BufReader::new(file).split(b'\n').map_while(Result::ok))
        };
        let lines = lines(layout.older_events()).chain(lines(layout.events()));
        lines.filter_map(|line| serde_json::from_slice(&line).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Layout;

    #[test]
    fn the_latest_are_kept_in_order() {
        let dir = tempfile::tempdir().expect("folder");
        let layout = Layout::new(dir.path(), dir.path()).stack(&"x".parse().expect("a name"));
        fs::create_dir_all(layout.runtime()).expect("folder");
        assert_eq!(EventLog::read(&layout), []);
        let mut log = EventLog::open(&layout);
        let long = "x".repeat(1000);
        let count = 3 * MAX as usize / 1000;
        for i in 0..count {
            let event = Happening::now("die", "web", "x-web-1").with("exitCode", i).with("long", &long);
            log.add(&event).expect("written");
        }
        // Another supervisor goes on, and what cannot be read is left out.
        fs::OpenOptions::new()
            .append(true)
            .open(layout.events())
            .and_then(|mut file| file.write_all(b"{\"action\": \"ha\n"))
            .expect("written");
        EventLog::open(&layout).add(&Happening::now("start", "web", "x-web-1")).expect("written");
        let mut read = EventLog::read(&layout);
        assert_eq!(read.pop().map(|event| event.action).as_deref(), Some("start"));
        let codes: Vec<i32> = read.iter().filter_map(Happening::exit_code).collect();
        assert_eq!(codes.len(), read.len());
        assert!(codes.len() > MAX as usize / 1200 && codes.len() < count, "{}", codes.len());
        assert!(codes.windows(2).all(|pair| pair[0] + 1 == pair[1]));
        assert_eq!(codes.last(), Some(&(count as i32 - 1)));
    }
}
