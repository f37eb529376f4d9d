//! The thread that takes down what a container writes.

use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};
use tokio::{io::unix::AsyncFd, sync::oneshot, time::timeout};

use super::{
    spool::{self, Mark, Spool},
    writer::{Batch, Intent, Writer},
};
use crate::{executor::streams::Listeners, state::Stream};

/// How much is taken at a time; a pipe holds no more, unless somebody has told it to.
const BLOCK: usize = 64 * 1024;

/// How long nothing may come from a container that has ended while somebody still holds the other end.
const SILENCE: Duration = Duration::from_secs(2);

/// How long the rest of its log may take.
const LONGEST: Duration = Duration::from_secs(60);

/// What is taken down.
pub(in crate::executor) enum Source {
    /// The end of a pipe.
    Pipe(OwnedFd),
    /// The controlling side of a terminal.
    Terminal(Arc<AsyncFd<OwnedFd>>),
}

impl Source {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Pipe(pipe) => pipe.as_fd(),
            Self::Terminal(side) => side.get_ref().as_fd(),
        }
    }
}

/// A thread that takes down what a container writes, until nobody can write any more.
pub(in crate::executor) struct Pump {
    ended: oneshot::Receiver<()>,
    waits: Arc<AtomicBool>,
}

impl Pump {
    /// Waits until all has been taken down that a container has left which has ended. Who holds the other end of its streams
    /// nonetheless, and says nothing, is not waited for.
    pub(in crate::executor) async fn drained(mut self) {
        let began = Instant::now();
        while timeout(SILENCE, &mut self.ended).await.is_err() {
            if self.waits.load(Ordering::SeqCst) || began.elapsed() > LONGEST {
                return;
            }
        }
    }
}

/// Starts it, with what there is to take down and where that is kept meanwhile; without a writer it is thrown away once
/// listeners have it. With `resume` it goes on with what another one has taken from the same streams, which was killed.
///
/// # Errors
/// What pthread_create(3) says.
pub(in crate::executor) fn pump(
    sources: Vec<(Stream, Source, PathBuf)>,
    writer: Option<Arc<Writer>>,
    listeners: Arc<Listeners>,
    resume: bool,
) -> io::Result<Pump> {
    let (end, ended) = oneshot::channel::<()>();
    let waits = Arc::new(AtomicBool::new(false));
    let shared = waits.clone();
    let run = move || {
        // Dropped when all has been done.
        let _end = end;
        let mut intakes: Vec<Intake> = sources.into_iter().map(Intake::new).collect();
        if let Some(writer) = &writer {
            intakes.iter_mut().for_each(|intake| intake.begin(writer, resume));
            writer.settle();
        }
        while !intakes.is_empty() {
            let ready = wait(&intakes, &shared);
            let mut ready = ready.into_iter();
            intakes.retain_mut(|intake| !ready.next().unwrap_or(false) || intake.turn(writer.as_deref(), &listeners));
        }
    };
    thread::Builder::new().name("log".to_owned()).stack_size(512 * 1024).spawn(run)?;
    Ok(Pump { ended, waits })
}

/// Which of them have something, or have ended.
fn wait(intakes: &[Intake], waits: &AtomicBool) -> Vec<bool> {
    let mut fds: Vec<PollFd<'_>> =
        intakes.iter().map(|intake| PollFd::from_borrowed_fd(intake.source.fd(), PollFlags::IN)).collect();
    waits.store(true, Ordering::SeqCst);
    while let Err(Errno::INTR) = poll(&mut fds, None) {}
    waits.store(false, Ordering::SeqCst);
    fds.iter().map(|fd| !fd.revents().is_empty()).collect()
}

/// One stream on its way to the log.
struct Intake {
    stream: Stream,
    source: Source,
    path: PathBuf,
    /// None where it cannot be: then what has been taken is in memory alone.
    spool: Option<Spool>,
    /// What has been taken and not been logged.
    pending: Vec<u8>,
    /// The line that begins there has parts before it.
    is_rest: bool,
}

impl Intake {
    fn new((stream, source, path): (Stream, Source, PathBuf)) -> Self {
        Self { stream, source, path, spool: None, pending: Vec::new(), is_rest: false }
    }

    fn begin(&mut self, writer: &Writer, resume: bool) {
        // Nothing has been taken by one that was killed before it had a spool.
        if !resume || !self.path.exists() {
            self.spool = keep(Spool::create(&self.path), &self.path);
            return;
        }
        let Some((spool, mark, pending)) = keep(Spool::resume(&self.path), &self.path) else { return };
        (self.spool, self.pending, self.is_rest) = (Some(spool), pending, mark.is_rest);
        let bytes = (mark.to - mark.from) as usize;
        if bytes > 0 || mark.at_end {
            let Self { stream, is_rest, .. } = *self;
            let batch = Batch { stream, bytes: &self.pending, is_rest, at_end: mark.at_end };
            let intent = Intent { bytes, time: mark.time, file: mark.file, length: mark.length };
            if let Err(error) = writer.log_again(batch, intent) {
                tracing::error!(%error, "what was being written when the supervisor was killed is lost");
            }
            let text = &self.pending[..bytes];
            let is_rest = !mark.at_end && text.last().is_some_and(|last| *last != b'\n');
            self.logged(bytes, is_rest);
        }
        self.log(Some(writer), false);
    }

    /// Takes what there is and logs it; false when there will be no more.
    fn turn(&mut self, writer: Option<&Writer>, listeners: &Listeners) -> bool {
        let had = self.pending.len();
        let taken = self.take();
        listeners.tell(self.stream, &self.pending[had..]);
        let at_end = match taken {
            Ok(n) => n == 0,
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => false,
            Err(error) => {
                tracing::error!(%error, "the output of a container cannot be read");
                true
            }
        };
        self.log(writer, at_end);
        !at_end
    }

    fn take(&mut self) -> io::Result<usize> {
        if let (Some(spool), Source::Pipe(pipe)) = (&mut self.spool, &self.source) {
            match spool.take(pipe.as_fd(), BLOCK, &mut self.pending) {
                Err(e) if !matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                    self.give_up(&e);
                }
                other => return other,
            }
        }
        let had = self.pending.len();
        let n = match spool::read(self.source.fd(), BLOCK, &mut self.pending) {
            // The last process has closed the terminal (pty(7)).
            Err(e) if e.raw_os_error() == Some(libc::EIO) => 0,
            other => other?,
        };
        if let Some(Err(error)) = self.spool.as_mut().map(|spool| spool.add(&self.pending[had..])) {
            self.give_up(&error);
        }
        Ok(n)
    }

    /// Goes on without a spool: one that lacks something would be worse than none.
    fn give_up(&mut self, error: &io::Error) {
        tracing::warn!(path = %self.path.display(), %error, "what is taken from a container is in memory alone");
        self.spool = None;
        let _ = fs::remove_file(&self.path);
    }

    /// Logs what is complete.
    fn log(&mut self, writer: Option<&Writer>, at_end: bool) {
        let Some(writer) = writer else { return self.pending.clear() };
        loop {
            let Self { stream, is_rest, .. } = *self;
            let batch = Batch { stream, bytes: &self.pending, is_rest, at_end };
            let (spool, pending) = (&mut self.spool, self.pending.len());
            let mut failed = None;
            let logged = writer.log(batch, |Intent { bytes, time, file, length }| {
                let Some(spool) = spool else { return };
                let from = spool.size() - pending as u64;
                let whole = at_end && bytes == pending;
                let to = from + bytes as u64;
                failed = spool.note(&Mark { from, to, is_rest, at_end: whole, time, file, length }).err();
            });
            if let Some(error) = failed {
                self.give_up(&error);
            }
            if logged.bytes > 0 || logged.is_rest != is_rest {
                self.logged(logged.bytes, logged.is_rest);
            }
            if !logged.again {
                return;
            }
        }
    }

    /// So much of what is pending is in the log now.
    fn logged(&mut self, bytes: usize, is_rest: bool) {
        self.pending.drain(..bytes);
        self.is_rest = is_rest;
        let Some(spool) = &mut self.spool else { return };
        let from = spool.size() - self.pending.len() as u64;
        let time = jiff::Timestamp::UNIX_EPOCH;
        let mark = Mark { from, to: from, is_rest, at_end: false, time, file: 0, length: 0 };
        if let Err(error) = spool.note(&mark) {
            self.give_up(&error);
        }
    }
}

/// A spool, if it can be had.
fn keep<T>(made: io::Result<T>, path: &Path) -> Option<T> {
    made.inspect_err(|error| tracing::warn!(path = %path.display(), %error, "what is taken is in memory alone")).ok()
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::Write,
        process::{Command, Stdio},
        sync::atomic::AtomicUsize,
    };

    use super::*;
    use crate::{
        model::LogSettings,
        state::{LogFolder, LogLine, LogReader, LogRecord},
    };

    fn open(folder: &Path, settings: &LogSettings) -> Arc<Writer> {
        Arc::new(Writer::open(LogFolder::new(folder.to_owned()), settings, Arc::default()).expect("a writer"))
    }

    fn wait_for_end(pump: Pump) {
        let _ = pump.ended.blocking_recv();
    }

    fn lines(folder: &Path) -> Vec<LogLine> {
        let mut reader = LogReader::new(LogFolder::new(folder.to_owned()));
        std::iter::from_fn(|| reader.next_line().expect("read")).collect()
    }

    #[test]
    fn lines_parts_and_bytes_are_kept_in_order() {
        let dir = tempfile::tempdir().expect("folder");
        let log = dir.path().join("log");
        fs::create_dir(&log).expect("folder");
        let (reader, pipe) = rustix::pipe::pipe().expect("pipe");
        let sources = vec![(Stream::Stderr, Source::Pipe(reader), dir.path().join("spool"))];
        let pump = pump(sources, Some(open(&log, &LogSettings::default())), Arc::default(), false).expect("a thread");
        let mut pipe = File::from(pipe);
        let long = "x".repeat(LogRecord::MAX * 3 + 5);
        pipe.write_all(format!("one\n\n{long}\n").as_bytes()).expect("written");
        pipe.write_all(b"\xff\0\r\nlast").expect("written");
        drop(pipe);
        wait_for_end(pump);
        let lines = lines(&log);
        let texts: Vec<&[u8]> = lines.iter().map(|line| &line.text[..]).collect();
        assert_eq!(texts, [b"one", &b""[..], long.as_bytes(), b"\xff\0\r", b"last"]);
        assert!(lines.iter().all(|line| line.stream == Stream::Stderr));
        assert!(!lines[4].ended && lines[..4].iter().all(|line| line.ended));
    }

    /// Where the process that is killed finds its folder; its standard input is the pipe.
    const FOLDER: &str = "NSCOMPOSE_TEST_LOG_FOLDER";

    fn settings() -> LogSettings {
        LogSettings { max_size: Some(20_000), max_files: 1_000_000, compress: true, ..LogSettings::default() }
    }

    /// Not a test by itself: what [`whoever_is_killed_loses_no_line_and_writes_none_twice`] starts and kills.
    #[test]
    fn takes_down_what_comes_in() {
        let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
        let reader = rustix::stdio::stdin().try_clone_to_owned().expect("a pipe");
        let spool = folder.join("spool");
        let resume = spool.exists();
        let sources = vec![(Stream::Stdout, Source::Pipe(reader), spool)];
        wait_for_end(
            pump(sources, Some(open(&folder.join("log"), &settings())), Arc::default(), resume).expect("runs"),
        );
    }

    #[test]
    fn whoever_is_killed_loses_no_line_and_writes_none_twice() {
        let dir = tempfile::tempdir().expect("folder");
        let log = dir.path().join("log");
        fs::create_dir(&log).expect("folder");
        // Those that are started must not hold its other end.
        let (reader, pipe) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("pipe");
        let program = std::env::current_exe().expect("this one");
        let start = || {
            let name = "executor::logs::pump::tests::takes_down_what_comes_in";
            let mut command = Command::new(&program);
            command.args(["--exact", name]).env(FOLDER, dir.path()).stdout(Stdio::null()).stderr(Stdio::null());
            Killed(command.stdin(reader.try_clone().expect("a pipe")).spawn().expect("a process"))
        };
        let text = |i: usize| format!("{i} {}", "y".repeat(if i.is_multiple_of(100) { 40_000 } else { i * 7919 % 60 }));
        // It is never far ahead of what has been read, or the first one would take all of it.
        let allowed = Arc::new(AtomicUsize::new(0));
        let shared = allowed.clone();
        let writing = thread::spawn(move || {
            let mut pipe = File::from(pipe);
            for i in 0..LINES {
                while i >= shared.load(Ordering::SeqCst) {
                    thread::yield_now();
                }
                // Nobody says that a line comes at once.
                let line = format!("{}\n", text(i));
                let (first, rest) = line.split_at(line.len() / 2);
                pipe.write_all(first.as_bytes()).and_then(|()| pipe.write_all(rest.as_bytes())).expect("written");
            }
        });
        let mut seen = 0;
        let mut reader_of_log = LogReader::new(LogFolder::new(log.clone()));
        let began = Instant::now();
        for _ in 0..25 {
            let child = start();
            let upto = seen + 400;
            allowed.store(upto + 2000, Ordering::SeqCst);
            // In the middle of it: there is more to come.
            while seen < upto {
                match reader_of_log.next_line().expect("read") {
                    Some(line) => {
                        assert_eq!(line.text, text(seen).as_bytes());
                        seen += 1;
                    }
                    None => thread::yield_now(),
                }
                assert!(began.elapsed() < Duration::from_secs(60), "line {seen} does not come");
            }
            drop(child);
        }
        allowed.store(LINES, Ordering::SeqCst);
        let mut child = start();
        writing.join().expect("a thread");
        assert!(child.0.wait().expect("ended").success());
        while let Some(line) = reader_of_log.next_line().expect("read") {
            assert_eq!(line.text, text(seen).as_bytes());
            seen += 1;
        }
        assert_eq!(seen, LINES);
        assert_eq!(lines(&log).len(), LINES);
    }

    const LINES: usize = 20_000;

    /// A process that is killed when it is dropped.
    struct Killed(std::process::Child);

    impl Drop for Killed {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}
