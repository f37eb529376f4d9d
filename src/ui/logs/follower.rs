//! The logs of a stack, merged by time, and what is added to them.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, VecDeque},
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;

use crate::{
    model::ServiceName,
    state::{LogFolder, LogLine, LogReader},
    sys,
};

/// Which lines are wanted of each service.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogRange {
    /// None before this time.
    pub since: Option<Timestamp>,
    /// None after this time.
    pub until: Option<Timestamp>,
    /// Only so many of those that are there, the last ones.
    pub tail: Option<u64>,
}

/// Reads the logs of a stack, and what is added to them: of each service a line at a time, so that it makes no difference
/// how much there is.
pub struct LogFollower {
    folder: PathBuf,
    wanted: BTreeSet<String>,
    /// Services of which every replica is wanted, those too that come later.
    whole: BTreeSet<String>,
    range: LogRange,
    services: Vec<Service>,
    known: BTreeSet<String>,
    /// The services that have a line, the one with the earliest first. Those of one time come in the order of their names.
    heads: BinaryHeap<Reverse<(Timestamp, usize)>>,
    /// The service whose line goes on.
    open: Option<usize>,
    /// There may be more to read than the last time.
    changed: bool,
    /// What is there at the beginning has been found.
    began: bool,
    watch: Option<AsyncFd<OwnedFd>>,
}

struct Service {
    name: String,
    reader: LogReader,
    head: Option<LogLine>,
    /// The last lines of a range that ends, which are known only once all have been read.
    last: VecDeque<LogLine>,
    /// The clock may have been set back, but lines stay in their order.
    time: Timestamp,
    /// It has come to the end of its range.
    ended: bool,
}

impl LogFollower {
    /// For the logs in `folder`; of these services only, or of all when there are none. To be called on a runtime.
    pub fn new(folder: &Path, wanted: impl IntoIterator<Item = String>, range: LogRange) -> Self {
        Self {
            folder: folder.to_owned(),
            wanted: wanted.into_iter().collect(),
            whole: BTreeSet::new(),
            range,
            services: Vec::new(),
            known: BTreeSet::new(),
            heads: BinaryHeap::new(),
            open: None,
            changed: true,
            began: false,
            watch: None,
        }
    }

    /// Of all replicas of these services, too, whenever they come.
    #[must_use]
    pub fn with_all_of(mut self, services: impl IntoIterator<Item = String>) -> Self {
        self.whole.extend(services);
        self
    }

    /// Containers that have a log in `folder`: `web`, `web/2`.
    pub fn services_in(folder: &Path) -> BTreeSet<String> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| ServiceName::from_file_name(entry.file_name().to_str()?));
        names.map(String::from).collect()
    }

    /// Those of the services of which no log is kept.
    pub fn without_log(&self) -> impl Iterator<Item = &str> {
        self.services.iter().filter(|service| service.reader.is_none()).map(|service| service.name.as_str())
    }

    /// Waits until there may be more to read.
    pub async fn changed(&mut self) {
        let was_watched = self.watch.is_some();
        self.watch_all();
        if was_watched || self.watch.is_none() {
            match &mut self.watch {
                // The folder comes with the first container; or there is no watch to be had.
                None => tokio::time::sleep(Duration::from_millis(20)).await,
                Some(watch) => {
                    if let Ok(mut ready) = watch.readable_mut().await {
                        // What happened does not matter; the files say it.
                        let mut events = [0; 4096];
                        while rustix::io::read(ready.get_inner(), &mut events).is_ok_and(|n| n > 0) {}
                        ready.clear_ready();
                    }
                }
            }
        }
        // What was written before there was a watch brings no event.
        self.changed = true;
    }

    /// There may be more to read, whatever is watched.
    pub fn look_again(&mut self) {
        self.changed = true;
    }

    /// The next line with its service; none if there is none until something changes.
    ///
    /// # Errors
    /// What read(2) says.
    pub fn next_line(&mut self) -> io::Result<Option<(&str, LogLine)>> {
        if self.changed {
            self.changed = false;
            self.look_for_services()?;
            for i in 0..self.services.len() {
                self.advance(i)?;
            }
            self.began = true;
        }
        let next = match self.open.take().filter(|open| self.services[*open].head.is_some()) {
            Some(open) => {
                // What it has in the heap is this one.
                self.heads.retain(|Reverse((_, i))| *i != open);
                Some(open)
            }
            None => self.heads.pop().map(|Reverse((_, i))| i),
        };
        let Some(i) = next else { return Ok(None) };
        let Some(line) = self.services[i].head.take() else { return Ok(None) };
        self.advance(i)?;
        self.open = line.goes_on.then_some(i);
        Ok(Some((&self.services[i].name, line)))
    }

    /// The beginnings of lines of which there will be no more.
    pub fn unended(&mut self) -> Vec<(String, LogLine)> {
        let range = self.range;
        let of = |service: &mut Service| {
            let name = service.name.clone();
            let lines: Vec<LogLine> = service.reader.unended().filter(|line| range.has(line.time)).collect();
            lines.into_iter().map(move |line| (name.clone(), line))
        };
        let mut lines: Vec<(String, LogLine)> = self.services.iter_mut().flat_map(of).collect();
        lines.sort_by_key(|(_, line)| line.time);
        lines
    }

    /// Sees to it that a service has a line, if there is one.
    fn advance(&mut self, i: usize) -> io::Result<()> {
        let service = &mut self.services[i];
        if service.head.is_some() {
            return Ok(());
        }
        // With an end and a number of lines before it all have to be read first.
        let last = self.range.tail.filter(|_| self.range.until.is_some() && !self.began);
        while !service.ended
            && let Some(line) = service.reader.next_line()?
        {
            service.time = service.time.max(line.time);
            if self.range.until.is_some_and(|until| line.time > until) {
                service.ended = true;
                break;
            }
            if !self.range.has(line.time) {
                continue;
            }
            let Some(most) = last else {
                service.head = Some(line);
                break;
            };
            service.last.push_back(line);
            if service.last.len() as u64 > most {
                service.last.pop_front();
            }
        }
        if let Some(line) = service.last.pop_front() {
            service.time = line.time;
            // What is read after them comes after them.
            if let Some(later) = service.head.replace(line) {
                service.last.push_back(later);
            }
        }
        if service.head.is_some() {
            self.heads.push(Reverse((service.time, i)));
        }
        Ok(())
    }

    fn look_for_services(&mut self) -> io::Result<()> {
        let mut found = Self::services_in(&self.folder);
        let is_whole = |name: &String| {
            !self.whole.is_empty()
                && ServiceName::try_from(name.clone()).is_ok_and(|name| self.whole.contains(name.service()))
        };
        let is_wanted = |name: &String| self.wanted.is_empty() || self.wanted.contains(name) || is_whole(name);
        found.retain(|name| !self.known.contains(name) && is_wanted(name));
        for name in found {
            let folder = LogFolder::new(self.log_of(&name));
            if let Some(watch) = &self.watch
                && inotify::add_watch(watch.get_ref(), folder.path(), EVENTS).is_err()
            {
                self.watch = None;
            }
            let mut reader = LogReader::new(folder);
            // What comes while it is looked at is all of it new.
            match (self.range, self.began) {
                (_, true) => {}
                (LogRange { tail: Some(tail), until: None, .. }, _) => reader.skip_to_last(tail)?,
                (LogRange { since: Some(since), .. }, _) => reader.skip_before(since)?,
                _ => {}
            }
            let (head, last, time) = (None, VecDeque::new(), Timestamp::MIN);
            self.known.insert(name.clone());
            self.services.push(Service { name, reader, head, last, time, ended: false });
        }
        Ok(())
    }

    /// The folder of the log of a container.
    fn log_of(&self, name: &str) -> PathBuf {
        self.folder.join(name.replacen('/', "@", 1))
    }

    /// Watches the folder, which may not be there yet, and those of services.
    fn watch_all(&mut self) {
        if self.watch.is_none() {
            let watch = || -> io::Result<AsyncFd<OwnedFd>> {
                let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
                inotify::add_watch(&watch, &self.folder, EVENTS)?;
                for service in &self.services {
                    inotify::add_watch(&watch, self.log_of(&service.name), EVENTS)?;
                }
                sys::wait_on(watch)
            };
            self.watch = watch().ok();
        }
    }
}

const EVENTS: inotify::WatchFlags = inotify::WatchFlags::MODIFY.union(inotify::WatchFlags::CREATE);

impl LogRange {
    fn has(&self, time: Timestamp) -> bool {
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time <= until)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::state::{Stream, write_record};

    fn follower(folder: &Path, range: LogRange) -> LogFollower {
        LogFollower::new(folder, [], range)
    }

    fn add(folder: &Path, service: &str, number: u64, lines: &[(i64, &str)]) {
        let folder = LogFolder::new(folder.join(service));
        fs::create_dir_all(folder.path()).expect("folder");
        let mut out = Vec::new();
        for (second, text) in lines {
            let time = Timestamp::from_second(*second).expect("a time").to_string();
            let text = format!("{text}\n");
            write_record(&mut out, text.as_bytes(), Stream::Stdout, "", &time, false);
        }
        let file = fs::OpenOptions::new().append(true).create(true).open(folder.plain(number));
        file.expect("file").write_all(&out).expect("written");
    }

    fn all(follower: &mut LogFollower) -> String {
        let mut texts = Vec::new();
        while let Some((service, line)) = follower.next_line().expect("read") {
            texts.push(format!("{service}:{}", String::from_utf8(line.text).expect("text")));
        }
        texts.join(" ")
    }

    fn at(second: i64) -> Option<Timestamp> {
        Some(Timestamp::from_second(second).expect("a time"))
    }

    #[test]
    fn lines_are_merged_by_time_and_chosen() {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path();
        // The clock of a is set back once.
        add(path, "a", 1, &[(10, "1"), (30, "3"), (20, "x")]);
        add(path, "a", 2, &[(60, "6")]);
        add(path, "b", 1, &[(20, "2"), (30, "3"), (50, "5"), (60, "6")]);
        let mut follower_of_all = follower(path, LogRange::default());
        assert_eq!(all(&mut follower_of_all), "a:1 b:2 a:3 a:x b:3 b:5 a:6 b:6");
        for (range, expected) in [
            (LogRange { tail: Some(2), ..LogRange::default() }, "a:x b:5 a:6 b:6"),
            (LogRange { tail: Some(0), ..LogRange::default() }, ""),
            (LogRange { since: at(50), ..LogRange::default() }, "b:5 a:6 b:6"),
            (LogRange { until: at(30), ..LogRange::default() }, "a:1 b:2 a:3 a:x b:3"),
            (LogRange { until: at(30), tail: Some(1), ..LogRange::default() }, "a:x b:3"),
            (LogRange { since: at(30), until: at(50), tail: None }, "a:3 b:3 b:5"),
            (LogRange { since: at(55), until: None, tail: Some(2) }, "a:6 b:6"),
        ] {
            assert_eq!(all(&mut follower(path, range)), expected, "{range:?}");
        }
        // What comes later is there once something is said to have changed.
        add(path, "a", 3, &[(80, "8")]);
        add(path, "c", 1, &[(70, "7")]);
        assert_eq!(all(&mut follower_of_all), "");
        follower_of_all.changed = true;
        assert_eq!(all(&mut follower_of_all), "c:7 a:8");
        let mut one = LogFollower::new(path, ["c".to_owned()], LogRange::default());
        assert_eq!(all(&mut one), "c:7");
    }
}
