//! The log of one service: records, one write for many, and the next file when one is full.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use jiff::Timestamp;

use super::tidy;
use crate::{
    model::LogSettings,
    state::{LogFolder, LogRecord, Stream, write_record},
};

/// Writes the log of a service, whichever container and stream it comes from. It blocks.
pub(in crate::executor) struct Writer {
    folder: LogFolder,
    state: Mutex<State>,
    tidy: Arc<Tidy>,
    closing: Arc<AtomicBool>,
}

/// The thread that compresses, which is there only while there is something to compress.
#[derive(Default)]
struct Tidy {
    /// The file that is written to, while the thread runs.
    runs: Mutex<Option<u64>>,
    ended: Condvar,
}

struct State {
    settings: LogSettings,
    /// What is the same in all records.
    attributes: String,
    file: File,
    number: u64,
    length: u64,
    /// The rest of a record of which a full disk has taken the beginning: it comes before any other.
    debt: Vec<u8>,
    lost: Lost,
}

/// What a full disk has not taken.
#[derive(Default)]
struct Lost {
    bytes: u64,
    lines: u64,
}

/// What a stream has for its log.
#[derive(Clone, Copy)]
pub(super) struct Batch<'a> {
    pub(super) stream: Stream,
    pub(super) bytes: &'a [u8],
    /// The first line has parts before it.
    pub(super) is_rest: bool,
    /// There will be no more.
    pub(super) at_end: bool,
}

/// What is about to be logged of it, and where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Intent {
    pub(super) bytes: usize,
    pub(super) time: Timestamp,
    pub(super) file: u64,
    pub(super) length: u64,
}

/// What has been logged of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Logged {
    pub(super) bytes: usize,
    pub(super) is_rest: bool,
    /// There is more of it that can be logged at once.
    pub(super) again: bool,
}

/// Records, and where each ends: in the log, and in what it was made from.
struct Records {
    out: Vec<u8>,
    ends: Vec<(usize, usize)>,
    is_rest: bool,
    /// The next one has no room.
    full: bool,
}

/// The next line, or part of one: its length, and whether the line goes on. None if the rest of it has to be waited for.
fn next_part(bytes: &[u8], at_end: bool) -> Option<(usize, bool)> {
    let head = &bytes[..bytes.len().min(LogRecord::MAX + 1)];
    if let Some(line) = memchr::memchr(b'\n', head) {
        return Some((line + 1, false));
    }
    if bytes.len() > LogRecord::MAX {
        // Not within a character, if that is what it is.
        let within = |at: &usize| bytes[*at] & 0xc0 == 0x80;
        let cut = (LogRecord::MAX - 3..=LogRecord::MAX).rev().find(|at| !within(at));
        return Some((cut.unwrap_or(LogRecord::MAX), true));
    }
    (at_end && !bytes.is_empty()).then_some((bytes.len(), false))
}

/// The records of a batch, as far as there is room for them; the first one always has.
fn records(batch: Batch<'_>, attributes: &str, time: Timestamp, room: Option<u64>, first: bool) -> Records {
    let time = time.to_string();
    let mut made = Records {
        out: Vec::with_capacity(batch.bytes.len() * 2 + 256),
        ends: Vec::new(),
        is_rest: batch.is_rest,
        full: false,
    };
    let mut at = 0;
    loop {
        let rest = &batch.bytes[at..];
        let (length, goes_on) = match next_part(rest, batch.at_end) {
            Some(part) => part,
            // The end of a line that a full disk has taken.
            None if batch.at_end && rest.is_empty() && made.is_rest => (0, false),
            None => break,
        };
        let before = made.out.len();
        write_record(&mut made.out, &rest[..length], batch.stream, attributes, &time, goes_on);
        if room.is_some_and(|room| made.out.len() as u64 > room) && !(first && before == 0) {
            made.out.truncate(before);
            made.full = true;
            break;
        }
        at += length;
        made.ends.push((made.out.len(), at));
        made.is_rest = goes_on;
    }
    made
}

impl State {
    /// Writes as much as the disk takes.
    fn put(&mut self, mut bytes: &[u8]) -> usize {
        let mut written = 0;
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(0) => break,
                Ok(n) => {
                    written += n;
                    bytes = &bytes[n..];
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if self.lost.bytes == 0 {
                        tracing::error!(%error, "a log cannot be written");
                    }
                    break;
                }
            }
        }
        self.length += written as u64;
        written
    }

    /// Writes all of them, or counts what is lost: a service must not stop because a disk is full.
    fn write(&mut self, records: &Records, bytes: &[u8], time: Timestamp) {
        if !self.debt.is_empty() {
            let debt = std::mem::take(&mut self.debt);
            let written = self.put(&debt);
            self.debt = debt[written..].to_vec();
        }
        // How much is missing is said where it is missing, once that can be.
        if self.debt.is_empty() && self.lost.bytes > 0 {
            let Lost { bytes, lines } = self.lost;
            let text = format!("nscompose: {lines} lines of the log were lost, the disk was full ({bytes} bytes)\n");
            let mut notice = Vec::new();
            write_record(&mut notice, text.as_bytes(), Stream::Stderr, &self.attributes, &time.to_string(), false);
            let written = self.put(&notice);
            if written > 0 {
                self.lost = Lost::default();
                self.debt = notice[written..].to_vec();
            }
        }
        let written = if self.debt.is_empty() && self.lost.bytes == 0 { self.put(&records.out) } else { 0 };
        if written == records.out.len() {
            return;
        }
        // The record that is torn is finished later, those after it are lost.
        let torn = records.ends.iter().position(|(end, _)| *end > written).unwrap_or(0);
        let begin = torn.checked_sub(1).map_or(0, |before| records.ends[before].0);
        let kept = if written > begin {
            self.debt = records.out[written..records.ends[torn].0].to_vec();
            records.ends[torn].1
        } else {
            torn.checked_sub(1).map_or(0, |before| records.ends[before].1)
        };
        let lost = &bytes[kept..records.ends.last().map_or(kept, |(_, end)| *end)];
        self.lost.bytes += lost.len() as u64;
        self.lost.lines += memchr::memchr_iter(b'\n', lost).count().max(usize::from(!lost.is_empty())) as u64;
    }
}

impl Writer {
    /// Goes on with the log in this folder, which is there.
    ///
    /// # Errors
    /// What open(2) says.
    pub(super) fn open(folder: LogFolder, settings: &LogSettings, closing: Arc<AtomicBool>) -> io::Result<Self> {
        let number = folder.files()?.last().map_or(1, |last| last.number + u64::from(!last.plain));
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(folder.plain(number))?;
        let length = file.metadata()?.len();
        let state = State {
            settings: settings.clone(),
            attributes: attributes(settings),
            file,
            number,
            length,
            debt: Vec::new(),
            lost: Lost::default(),
        };
        let writer = Self { folder, state: Mutex::new(state), tidy: Arc::default(), closing };
        writer.tidy_up(&writer.state());
        Ok(writer)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on with other settings, those of the container that comes next.
    pub(super) fn set(&self, settings: &LogSettings) {
        let mut state = self.state();
        state.settings = settings.clone();
        state.attributes = attributes(settings);
        self.tidy_up(&state);
    }

    /// Logs what is complete of a batch, as far as it fits the file that is written to. `note` hears of it before.
    pub(super) fn log(&self, batch: Batch<'_>, note: impl FnOnce(Intent)) -> Logged {
        let mut state = self.state();
        let time = Timestamp::now();
        let room = |state: &State| state.settings.max_size.map(|most| most.saturating_sub(state.length));
        let mut made = records(batch, &state.attributes, time, room(&state), state.length == 0);
        if made.ends.is_empty() && made.full {
            let limit = if self.rotate(&mut state) { room(&state) } else { None };
            made = records(batch, &state.attributes, time, limit, true);
        }
        let Some((_, bytes)) = made.ends.last().copied() else {
            return Logged { bytes: 0, is_rest: batch.is_rest, again: false };
        };
        note(Intent { bytes, time, file: state.number, length: state.length });
        state.write(&made, batch.bytes, time);
        Logged { bytes, is_rest: made.is_rest, again: made.full }
    }

    /// Logs what a writer was about to log that has been killed, as far as it is not there.
    ///
    /// # Errors
    /// What open(2) and write(2) say.
    pub(super) fn log_again(&self, batch: Batch<'_>, intent: Intent) -> io::Result<()> {
        let state = self.state();
        let mut made = records(batch, &state.attributes, intent.time, None, true);
        // It was about so much, whatever has come since.
        let length = made.ends.iter().find(|(_, bytes)| *bytes == intent.bytes).map_or(0, |(length, _)| *length);
        made.out.truncate(length);
        let mut file = OpenOptions::new().append(true).open(self.folder.plain(intent.file))?;
        let there = file.metadata()?.len().saturating_sub(intent.length) as usize;
        file.write_all(made.out.get(there..).unwrap_or_default())?;
        drop(state);
        self.settle();
        Ok(())
    }

    /// Closes a record of which only the beginning is there, so that it does not spoil the next one.
    pub(super) fn settle(&self) {
        let mut state = self.state();
        let length = state.file.metadata().map_or(state.length, |meta| meta.len());
        state.length = length;
        if length > 0 && state.debt.is_empty() {
            let mut last = [0];
            let read = File::open(self.folder.plain(state.number)).and_then(|f| f.read_exact_at(&mut last, length - 1));
            if read.is_ok() && last != *b"\n" {
                tracing::warn!(folder = %self.folder.path().display(), "the last record of a log was not finished");
                state.put(b"\n");
            }
        }
    }

    /// Begins the next file; false if that cannot be.
    fn rotate(&self, state: &mut State) -> bool {
        if !state.debt.is_empty() || self.closing.load(Ordering::SeqCst) {
            return false;
        }
        let next = self.folder.plain(state.number + 1);
        match OpenOptions::new().append(true).create_new(true).mode(0o600).open(&next) {
            Ok(file) => {
                state.file = file;
                state.number += 1;
                state.length = 0;
                self.tidy_up(state);
                true
            }
            Err(error) => {
                tracing::warn!(path = %next.display(), %error, "a log goes on in a file that is full");
                false
            }
        }
    }

    /// Removes files that are too many, and has the others compressed.
    fn tidy_up(&self, state: &State) {
        if state.settings.max_size.is_some() {
            let first = (state.number + 1).saturating_sub(u64::from(state.settings.max_files));
            tidy::remove_below(&self.folder, first);
        }
        if !state.settings.compress || state.number == 1 {
            return;
        }
        let mut runs = self.tidy.runs.lock().unwrap_or_else(PoisonError::into_inner);
        if runs.replace(state.number).is_some() {
            return;
        }
        let (folder, tidy, closing) = (self.folder.clone(), self.tidy.clone(), self.closing.clone());
        let most = u64::from(state.settings.max_files);
        let compress = move || {
            let mut current = 0;
            loop {
                let mut runs = tidy.runs.lock().unwrap_or_else(PoisonError::into_inner);
                let latest = runs.unwrap_or(current);
                if closing.load(Ordering::SeqCst) || latest == current {
                    *runs = None;
                    tidy.ended.notify_all();
                    return;
                }
                drop(runs);
                current = latest;
                while tidy::compress_one(&folder, current, &closing) {}
                // One that was being compressed when it should have gone.
                tidy::remove_below(&folder, (current + 1).saturating_sub(most));
            }
        };
        if thread::Builder::new().name("compress".to_owned()).spawn(compress).is_err() {
            *runs = None;
        }
    }

    /// Waits until nothing is compressed any more.
    pub(super) fn wait_for_tidy(&self) {
        let mut runs = self.tidy.runs.lock().unwrap_or_else(PoisonError::into_inner);
        while runs.is_some() {
            runs = self.tidy.ended.wait(runs).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// What is the same in all records, as JSON; nothing if there is nothing.
fn attributes(settings: &LogSettings) -> String {
    if settings.attributes.is_empty() {
        return String::new();
    }
    serde_json::to_string(&settings.attributes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::state::LogReader;

    fn writer(folder: &LogFolder, settings: &LogSettings) -> Writer {
        Writer::open(folder.clone(), settings, Arc::default()).expect("a writer")
    }

    fn log(writer: &Writer, text: &str) {
        let mut bytes = text.as_bytes();
        loop {
            let batch = Batch { stream: Stream::Stdout, bytes, is_rest: false, at_end: false };
            let logged = writer.log(batch, |_| {});
            bytes = &bytes[logged.bytes..];
            if !logged.again {
                assert_eq!(bytes, b"");
                return;
            }
        }
    }

    fn lines(folder: &LogFolder) -> Vec<String> {
        let mut reader = LogReader::new(folder.clone());
        let lines = std::iter::from_fn(|| reader.next_line().expect("read"));
        lines.map(|line| String::from_utf8(line.text).expect("text")).collect()
    }

    #[test]
    fn parts_end_at_lines_or_at_characters() {
        const MAX: usize = LogRecord::MAX;
        let text = |n: usize, end: &str| format!("{}{end}", "x".repeat(n)).into_bytes();
        assert_eq!(next_part(b"", true), None);
        assert_eq!(next_part(b"\n\n", false), Some((1, false)));
        assert_eq!(next_part(b"ab", false), None);
        assert_eq!(next_part(b"ab", true), Some((2, false)));
        assert_eq!(next_part(&text(MAX, "\n"), false), Some((MAX + 1, false)));
        assert_eq!(next_part(&text(MAX, ""), false), None);
        assert_eq!(next_part(&text(MAX, "x"), false), Some((MAX, true)));
        assert_eq!(next_part(&text(MAX - 1, "é"), false), Some((MAX - 1, true)));
        assert_eq!(next_part(&text(MAX - 3, "\u{1f980}"), false), Some((MAX - 3, true)));
        assert_eq!(next_part(&[0x80; MAX + 1], false), Some((MAX, true)));
    }

    #[test]
    fn files_are_no_larger_and_no_more_than_was_said() {
        let dir = tempfile::tempdir().expect("folder");
        let folder = LogFolder::new(dir.path().to_owned());
        let settings = LogSettings { max_size: Some(1000), max_files: 3, compress: true, ..LogSettings::default() };
        let all: Vec<String> = (0..200).map(|i| format!("line {i}")).collect();
        let one = writer(&folder, &settings);
        log(&one, &(all[..100].join("\n") + "\n"));
        one.wait_for_tidy();
        drop(one);
        // The next one goes on where it was.
        let one = writer(&folder, &settings);
        all[100..].iter().for_each(|line| log(&one, &format!("{line}\n")));
        one.wait_for_tidy();
        let files = folder.files().expect("files");
        assert_eq!(files.len(), 3);
        assert!(files[0].compressed && files[1].compressed && !files[0].plain && files[2].plain, "{files:?}");
        for file in files.iter().filter(|file| file.plain) {
            assert!(fs::metadata(folder.plain(file.number)).expect("a file").len() <= 1000);
        }
        let kept = lines(&folder);
        assert!(kept.len() > 20 && all.ends_with(&kept), "{kept:?}");
        // A record that is larger than a file is in one of its own.
        log(&one, &("y".repeat(5000) + "\n"));
        log(&one, "z\n");
        assert_eq!(lines(&folder).iter().map(String::len).rev().take(2).collect::<Vec<_>>(), [1, 5000]);
    }

    #[test]
    fn a_torn_record_is_closed() {
        let dir = tempfile::tempdir().expect("folder");
        let folder = LogFolder::new(dir.path().to_owned());
        fs::write(folder.plain(4), "{\"log\":\"to").expect("written");
        let one = writer(&folder, &LogSettings::default());
        one.settle();
        log(&one, "next\n");
        one.settle();
        log(&one, "last\n");
        assert_eq!(lines(&folder), ["next", "last"]);
        assert_eq!(fs::read_to_string(folder.plain(4)).expect("read").lines().count(), 3);
    }

    #[test]
    fn what_was_about_to_be_written_is_written_once() {
        let time = "2026-01-02T03:04:05Z".parse().expect("a time");
        let batch = Batch { stream: Stream::Stderr, bytes: b"a\nb\nunended", is_rest: false, at_end: false };
        let whole = records(batch, "", time, None, true).out;
        for written in 0..=whole.len() {
            let dir = tempfile::tempdir().expect("folder");
            let folder = LogFolder::new(dir.path().to_owned());
            let mut text = b"{}\n".to_vec();
            text.extend_from_slice(&whole[..written]);
            fs::write(folder.plain(1), text).expect("written");
            let one = writer(&folder, &LogSettings::default());
            one.log_again(batch, Intent { bytes: 4, time, file: 1, length: 3 }).expect("written");
            log(&one, "c\n");
            assert_eq!(lines(&folder), ["a", "b", "c"], "{written}");
        }
    }
}
