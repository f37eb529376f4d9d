//! Log lines of several services as one stream.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, BufWriter, Read, Write},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use anstyle::{AnsiColor, Color, Style};
use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;

use crate::{model::ServiceName, state::LogLine, sys};

/// How lines are shown.
#[derive(Debug, Clone, Copy)]
pub struct LogStyle {
    /// The service in front of each line.
    pub prefix: bool,
    /// Colours for the services.
    pub color: bool,
    /// The time in front of each line.
    pub timestamps: bool,
}

/// Prints lines with the service in front, padded so that the text lines up.
pub struct LogPrinter {
    style: LogStyle,
    width: usize,
    colors: BTreeMap<String, Style>,
    /// What stands in front of the lines of each service.
    labels: BTreeMap<String, String>,
    /// The service whose line is not ended yet: what it says next goes on behind it.
    unended: Option<String>,
}

/// Told apart easily and readable on dark and light; red is for errors.
const COLORS: [AnsiColor; 6] =
    [AnsiColor::Cyan, AnsiColor::Yellow, AnsiColor::Green, AnsiColor::Magenta, AnsiColor::Blue, AnsiColor::BrightCyan];

impl LogPrinter {
    /// For these services.
    pub fn new(style: LogStyle, services: impl IntoIterator<Item = String>) -> Self {
        let services: BTreeSet<String> = services.into_iter().collect();
        let names: Vec<ServiceName> = services.iter().filter_map(|name| name.clone().try_into().ok()).collect();
        let several: BTreeSet<&str> = names.iter().filter(|n| n.number() > 1).map(ServiceName::service).collect();
        let labels = names.iter().map(|name| (name.to_string(), label(name, several.contains(name.service()))));
        let labels: BTreeMap<String, String> = labels.collect();
        let width = labels.values().map(String::len).max().unwrap_or(0);
        let colors = services.into_iter().zip(COLORS.into_iter().cycle());
        let colors = colors.map(|(name, color)| (name, Style::new().fg_color(Some(Color::Ansi(color))))).collect();
        Self { style, width, colors, labels, unended: None }
    }

    /// Writes lines, in the order in which they are given, to standard output.
    ///
    /// # Errors
    /// What write(2) says; EPIPE when nobody reads any more.
    pub fn print(&mut self, lines: &[(String, LogLine)]) -> io::Result<()> {
        let mut out = BufWriter::new(io::stdout().lock());
        for (service, line) in lines {
            let goes_on = self.unended.as_deref() == Some(service.as_str());
            if !goes_on && self.unended.take().is_some() {
                // Another service's line does not go behind it.
                writeln!(out)?;
            }
            if self.style.prefix && !goes_on {
                let style = self.colors.get(service).copied().filter(|_| self.style.color).unwrap_or_default();
                // One that has come since is in no list.
                let of_new = || ServiceName::try_from(service.clone()).ok().map(|name| label(&name, name.number() > 1));
                let shown = self.labels.get(service).cloned().or_else(of_new).unwrap_or_default();
                write!(out, "{style}{shown:width$} |{style:#} ", width = self.width)?;
            }
            if self.style.timestamps && !goes_on {
                write!(out, "{:.9} ", line.time)?;
            }
            out.write_all(line.log.as_bytes())?;
            // A very long line comes in parts; a short one without an end is the last of its service.
            let has_more = !line.log.ends_with('\n') && line.log.len() >= LogLine::MAX;
            if !line.log.ends_with('\n') && !has_more {
                writeln!(out)?;
            }
            self.unended = has_more.then(|| service.clone());
        }
        out.flush()
    }
}

/// What stands in front of lines: the service, and the number of the container where there are several.
fn label(name: &ServiceName, is_one_of_several: bool) -> String {
    if is_one_of_several { format!("{}-{}", name.service(), name.number()) } else { name.service().to_owned() }
}

/// Reads the log files of a stack, and what is added to them.
pub struct LogFollower {
    folder: PathBuf,
    services: BTreeSet<String>,
    files: BTreeMap<String, Tail>,
    watch: Option<AsyncFd<OwnedFd>>,
}

struct Tail {
    file: File,
    /// Bytes of a line whose end has not been written yet.
    rest: Vec<u8>,
}

impl LogFollower {
    /// For the logs in `folder`; of these services only, or of all when there are none. To be called on a runtime.
    pub fn new(folder: &Path, services: impl IntoIterator<Item = String>) -> Self {
        let mut follower = Self {
            folder: folder.to_owned(),
            services: services.into_iter().collect(),
            files: BTreeMap::new(),
            watch: None,
        };
        follower.watch();
        follower
    }

    /// The folder may not be there yet.
    fn watch(&mut self) {
        if self.watch.is_none() {
            let watch = || -> io::Result<AsyncFd<OwnedFd>> {
                let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
                inotify::add_watch(&watch, &self.folder, inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE)?;
                sys::wait_on(watch)
            };
            self.watch = watch().ok();
        }
    }

    /// Waits until there may be more to read.
    pub async fn changed(&mut self) {
        let was_watched = self.watch.is_some();
        self.watch();
        if !was_watched && self.watch.is_some() {
            // What was written before there was a watch brings no event.
            return;
        }
        match &mut self.watch {
            // It comes with the first container.
            None => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
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

    /// Everything that has been added since the last call, by time.
    ///
    /// # Errors
    /// What read(2) says.
    pub fn read(&mut self) -> io::Result<Vec<(String, LogLine)>> {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_str().and_then(|name| name.strip_suffix(".jsonl"));
            let Some(service) = name.and_then(ServiceName::from_file_name) else { continue };
            let wanted = self.services.is_empty() || self.services.contains(service.as_str());
            if wanted && !self.files.contains_key(service.as_str()) {
                let tail = Tail { file: File::open(entry.path())?, rest: Vec::new() };
                self.files.insert(service.into(), tail);
            }
        }
        let mut lines = Vec::new();
        for (service, tail) in &mut self.files {
            tail.file.read_to_end(&mut tail.rest)?;
            let end = tail.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            for line in tail.rest[..end].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                // A line that cannot be read is damaged; the others are not.
                if let Ok(line) = serde_json::from_slice::<LogLine>(line) {
                    lines.push((service.clone(), line));
                }
            }
            tail.rest.drain(..end);
        }
        lines.sort_by_key(|(_, line)| line.time);
        Ok(lines)
    }
}
