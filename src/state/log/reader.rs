//! A log as one stream of lines, through all its files, and through what is added to them meanwhile.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    mem,
};

use flate2::read::MultiGzDecoder;
use jiff::Timestamp;

use super::{
    LogFolder, LogRecord, Stream, Times,
    tail::{last_lines, last_lines_of},
};

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// What was written, without its line break.
    pub text: Vec<u8>,
    /// Which of the two streams it came from.
    pub stream: Stream,
    /// When its first part came.
    pub time: Timestamp,
    /// It had a line break. It has none when it is the last of its program, or so long that it comes in pieces.
    pub ended: bool,
    /// The next piece of its stream goes on with it.
    pub goes_on: bool,
    /// Lines before it have been removed before they could be read.
    pub after_gap: bool,
}

/// Longest line that is put together in memory, in bytes; a longer one comes in pieces.
const LONGEST: usize = 1024 * 1024;

/// How much is read at a time.
const BLOCK: usize = 64 * 1024;

/// Reads a log from its beginning.
pub struct LogReader {
    folder: LogFolder,
    file: Option<Open>,
    /// What has been read and not been looked at, from `at` on.
    buffer: Vec<u8>,
    at: usize,
    /// How far `buffer` is known to have no line break.
    searched: usize,
    times: Times,
    /// Lines that go on, of either stream.
    open: [Option<LogLine>; 2],
    gap: bool,
}

struct Open {
    number: u64,
    source: Source,
    /// There is a later file, so nothing is added to this one any more. It has to be read once more after that was seen.
    is_final: bool,
}

enum Source {
    Plain(File),
    Compressed(Box<MultiGzDecoder<File>>),
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.read(buffer),
            Self::Compressed(decoder) => decoder.read(buffer),
        }
    }
}

impl LogReader {
    /// The log in this folder, which need not be there yet.
    pub fn new(folder: LogFolder) -> Self {
        Self {
            folder,
            file: None,
            buffer: Vec::new(),
            at: 0,
            searched: 0,
            times: Times::default(),
            open: [None, None],
            gap: false,
        }
    }

    /// Whether it is said that no log is kept.
    pub fn is_none(&self) -> bool {
        self.folder.none().exists()
    }

    /// Goes to the last `lines` of what is there. To be called before anything is read.
    ///
    /// # Errors
    /// What open(2) and read(2) say.
    pub fn skip_to_last(&mut self, lines: u64) -> io::Result<()> {
        let mut wanted = lines;
        for file in self.folder.files()?.into_iter().rev() {
            // What has been removed meanwhile is older than what there is.
            let Some(mut source) = self.source(file.number)? else { break };
            let begin = match &source {
                Source::Plain(file) => last_lines(file, wanted)?,
                Source::Compressed(_) => last_lines_of(&mut source, wanted)?,
            };
            let begin = match begin {
                Ok(begin) => begin,
                Err(found) => {
                    wanted -= found;
                    continue;
                }
            };
            match &mut source {
                Source::Plain(file) => {
                    file.seek(SeekFrom::Start(begin))?;
                }
                Source::Compressed(_) => {
                    let Some(again) = self.source(file.number)? else { break };
                    source = again;
                    io::copy(&mut (&mut source).take(begin), &mut io::sink())?;
                }
            }
            self.file = Some(Open { number: file.number, source, is_final: false });
            return Ok(());
        }
        Ok(())
    }

    /// Leaves out files that have been ended before this time. To be called before anything is read.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn skip_before(&mut self, time: Timestamp) -> io::Result<()> {
        let is_older = |source: &Source| {
            let file = match source {
                Source::Plain(file) => file,
                // It keeps the time of what it was made from.
                Source::Compressed(decoder) => decoder.get_ref(),
            };
            let modified = file.metadata().and_then(|meta| meta.modified());
            modified.is_ok_and(|modified| Timestamp::try_from(modified).is_ok_and(|modified| modified < time))
        };
        for file in self.folder.files()? {
            if let Some(source) = self.source(file.number)?
                && !is_older(&source)
            {
                self.file = Some(Open { number: file.number, source, is_final: false });
                break;
            }
        }
        Ok(())
    }

    /// The next line; none when there is none yet.
    ///
    /// # Errors
    /// What open(2) and read(2) say, and what is wrong with a compressed file.
    pub fn next_line(&mut self) -> io::Result<Option<LogLine>> {
        while let Some(record) = self.next_record()? {
            if let Some(line) = self.join(record) {
                return Ok(Some(line));
            }
        }
        Ok(None)
    }

    /// The beginnings of lines of which there will be no more.
    pub fn unended(&mut self) -> impl Iterator<Item = LogLine> {
        let open: Vec<LogLine> = mem::take(&mut self.open).into_iter().flatten().collect();
        open.into_iter().filter(|line| !line.text.is_empty())
    }

    /// Puts the parts of a line together.
    fn join(&mut self, LogRecord { mut log, stream, time, partial }: LogRecord) -> Option<LogLine> {
        let ended = log.last() == Some(&b'\n');
        if ended {
            log.pop();
        }
        let open = &mut self.open[stream as usize];
        let mut line = match open.take() {
            Some(mut line) => {
                line.text.append(&mut log);
                line
            }
            None => LogLine { text: log, stream, time, ended: false, goes_on: false, after_gap: false },
        };
        line.ended = ended;
        if partial && line.text.len() < LONGEST {
            *open = Some(line);
            return None;
        }
        if partial {
            *open = Some(LogLine { text: Vec::new(), ..line.clone() });
        }
        line.goes_on = partial;
        line.after_gap = mem::take(&mut self.gap);
        Some(line)
    }

    fn next_record(&mut self) -> io::Result<Option<LogRecord>> {
        loop {
            if let Some(length) = memchr::memchr(b'\n', &self.buffer[self.searched..]) {
                let end = self.searched + length;
                let record = LogRecord::read(&self.buffer[self.at..end], &mut self.times);
                (self.at, self.searched) = (end + 1, end + 1);
                // One that cannot be read is damaged, and the others are not.
                match record {
                    Some(record) => return Ok(Some(record)),
                    None => continue,
                }
            }
            if !self.read_more()? {
                return Ok(None);
            }
        }
    }

    /// Whether there is more in the buffer now.
    fn read_more(&mut self) -> io::Result<bool> {
        self.buffer.drain(..self.at);
        (self.at, self.searched) = (0, self.buffer.len());
        loop {
            let Some(open) = &mut self.file else {
                if self.open_after(0)? {
                    continue;
                }
                return Ok(false);
            };
            let had = self.buffer.len();
            self.buffer.resize(had + BLOCK, 0);
            let read = open.source.read(&mut self.buffer[had..]);
            self.buffer.truncate(had + *read.as_ref().unwrap_or(&0));
            if read? > 0 {
                return Ok(true);
            }
            let number = open.number;
            if !open.is_final && matches!(open.source, Source::Plain(_)) {
                if !self.folder.files()?.iter().any(|file| file.number > number) {
                    return Ok(false);
                }
                open.is_final = true;
                continue;
            }
            // What is left has no line break and never will.
            self.buffer.clear();
            self.searched = 0;
            if !self.open_after(number)? {
                return Ok(false);
            }
        }
    }

    /// Opens the first file with a larger number.
    fn open_after(&mut self, number: u64) -> io::Result<bool> {
        for file in self.folder.files()?.into_iter().filter(|file| file.number > number) {
            if let Some(source) = self.source(file.number)? {
                self.gap |= number > 0 && file.number > number + 1;
                self.file = Some(Open { number: file.number, source, is_final: false });
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A file in one of its forms; none when it has been removed.
    fn source(&self, number: u64) -> io::Result<Option<Source>> {
        // The compressed one is there before the other goes.
        for compressed in [false, true] {
            let path = if compressed { self.folder.compressed(number) } else { self.folder.plain(number) };
            match File::open(path) {
                Ok(file) if compressed => return Ok(Some(Source::Compressed(Box::new(MultiGzDecoder::new(file))))),
                Ok(file) => return Ok(Some(Source::Plain(file))),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use flate2::{Compression, write::GzEncoder};

    use super::{super::write_record, *};

    const TIME: &str = "2026-01-02T03:04:05Z";

    fn record(log: &str, stream: Stream, partial: bool) -> Vec<u8> {
        let mut out = Vec::new();
        write_record(&mut out, log.as_bytes(), stream, "", TIME, partial);
        out
    }

    fn texts(reader: &mut LogReader) -> Vec<String> {
        std::iter::from_fn(|| reader.next_line().expect("read"))
            .map(|line| {
                let text = String::from_utf8(line.text).expect("text");
                format!("{}{text}{}", if line.after_gap { "GAP " } else { "" }, if line.ended { "" } else { "…" })
            })
            .collect()
    }

    #[test]
    fn files_are_one_stream_whatever_happens_to_them_meanwhile() {
        let dir = tempfile::tempdir().expect("folder");
        let folder = LogFolder::new(dir.path().join("web"));
        let mut reader = LogReader::new(folder.clone());
        assert!(texts(&mut reader).is_empty());
        fs::create_dir(folder.path()).expect("folder");
        let compress = |number| {
            let plain = fs::read(folder.plain(number)).expect("a file");
            let mut encoder =
                GzEncoder::new(File::create(folder.compressed(number)).expect("file"), Compression::fast());
            encoder.write_all(&plain).expect("written");
            encoder.finish().expect("written");
            fs::remove_file(folder.plain(number)).expect("removed");
        };
        let add = |number, text: &[u8]| {
            let file = fs::OpenOptions::new().append(true).create(true).open(folder.plain(number));
            file.expect("a file").write_all(text).expect("written");
        };
        let line = |text: &str| record(&format!("{text}\n"), Stream::Stdout, false);
        add(1, &line("a"));
        add(1, &line("b")[..10]);
        assert_eq!(texts(&mut reader), ["a"]);
        add(1, &line("b")[10..]);
        add(1, &line("c"));
        compress(1);
        add(2, &line("d"));
        add(3, &line("e"));
        compress(2);
        assert_eq!(texts(&mut reader), ["b", "c", "d", "e"]);
        // What is torn stays so.
        add(3, b"{\"log\":\"to\n{\"log\":\"rn");
        add(4, &line("f"));
        add(6, &line("g"));
        assert_eq!(texts(&mut reader), ["f", "GAP g"]);
        let all = ["a", "b", "c", "d", "e", "f", "GAP g"];
        assert_eq!(texts(&mut LogReader::new(folder.clone())), all);
        for wanted in [0, 1, 2, 4, 6, 7, 100] {
            let mut reader = LogReader::new(folder.clone());
            reader.skip_to_last(wanted).expect("read");
            let from = all.len().saturating_sub(wanted as usize);
            // What comes first comes after nothing.
            let shown: Vec<String> = texts(&mut reader).iter().map(|text| text.replace("GAP ", "")).collect();
            assert_eq!(shown.join(" "), all[from..].join(" ").replace("GAP ", ""), "{wanted}");
        }
    }

    #[test]
    fn parts_are_joined_each_stream_for_itself() {
        let dir = tempfile::tempdir().expect("folder");
        let folder = LogFolder::new(dir.path().to_owned());
        let long = "x".repeat(LogRecord::MAX);
        let (out, err) = (Stream::Stdout, Stream::Stderr);
        let mut bytes = record("one ", out, true);
        bytes.extend(record("error\n", err, false));
        bytes.extend(record("line\n", out, false));
        bytes.extend(record("unended", out, false));
        bytes.extend((0..100).flat_map(|_| record(&long, err, true)));
        bytes.extend(record("\n", err, false));
        bytes.extend(record("open", out, true));
        fs::write(folder.plain(1), bytes).expect("written");
        let mut reader = LogReader::new(folder);
        let lines: Vec<LogLine> = std::iter::from_fn(|| reader.next_line().expect("read")).collect();
        let shown: Vec<&[u8]> = lines.iter().take(3).map(|line| &line.text[..]).collect();
        assert_eq!(shown, [&b"error"[..], b"one line", b"unended"]);
        assert!(lines[1].ended && !lines[2].ended && !lines[2].goes_on);
        let pieces = &lines[3..];
        assert!(pieces.len() == 2 && pieces[0].goes_on && !pieces[1].goes_on && pieces[1].ended);
        assert_eq!(pieces.iter().map(|piece| piece.text.len()).sum::<usize>(), 100 * long.len());
        assert_eq!(reader.unended().map(|line| line.text).collect::<Vec<_>>(), [b"open"]);
    }
}
