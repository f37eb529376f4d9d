//! Running a command with an end in sight.

use std::{
    ffi::OsStr,
    io::{Read, Write},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Longest that any command may take; nothing in the tests needs a tenth of it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `condition` gives something.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "still waiting for {what} after {PATIENCE:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A command to run.
#[must_use]
pub(crate) struct Run {
    command: Command,
    stdin: Option<Vec<u8>>,
}

impl Run {
    /// With nothing of the caller's environment but a plain PATH.
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        Self { command, stdin: None }
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub(crate) fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn dir(mut self, folder: impl AsRef<Path>) -> Self {
        self.command.current_dir(folder);
        self
    }

    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Starts it; it goes on while the test does.
    #[track_caller]
    pub(crate) fn start(mut self) -> Started {
        let shown = format!("{:?}", self.command);
        self.command.stdin(if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().unwrap_or_else(|e| panic!("{shown}: {e}"));
        let stdout = Collected::from(child.stdout.take().expect("a pipe"));
        let stderr = Collected::from(child.stderr.take().expect("a pipe"));
        if let (Some(bytes), Some(mut pipe)) = (self.stdin, child.stdin.take()) {
            // The other side may not read it all.
            thread::spawn(move || drop(pipe.write_all(&bytes)));
        }
        Started { child, shown, stdout, stderr, ended: false }
    }

    /// Runs it to its end.
    #[track_caller]
    pub(crate) fn run(self) -> Output {
        self.start().wait()
    }
}

/// What a stream has brought so far, taken down by a thread.
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

impl Collected {
    fn from(mut stream: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let shared = bytes.clone();
        let thread = thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = stream.read(&mut buffer) {
                shared.lock().expect("no panic").extend_from_slice(&buffer[..n]);
            }
        });
        Self { bytes, thread }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().expect("no panic")).into_owned()
    }
}

/// A command that runs. It is killed when the test is done with it.
pub(crate) struct Started {
    child: Child,
    shown: String,
    stdout: Collected,
    stderr: Collected,
    ended: bool,
}

impl Started {
    pub(crate) fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub(crate) fn stdout(&self) -> String {
        self.stdout.text()
    }

    pub(crate) fn stderr(&self) -> String {
        self.stderr.text()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("the command runs");
    }

    /// Waits until it has written `text` to standard output.
    #[track_caller]
    pub(crate) fn expect_stdout(&mut self, text: &str) {
        self.expect(text, |started| started.stdout());
    }

    /// Waits until it has written `text` to standard error.
    #[track_caller]
    pub(crate) fn expect_stderr(&mut self, text: &str) {
        self.expect(text, |started| started.stderr());
    }

    #[track_caller]
    fn expect(&mut self, text: &str, stream: impl Fn(&Self) -> String) {
        let started = Instant::now();
        while !stream(self).contains(text) {
            let ended = self.child.try_wait().expect("our child");
            // What it wrote last may be on its way still.
            let last = ended.is_some() && self.stdout.thread.is_finished() && self.stderr.thread.is_finished();
            if last && stream(self).contains(text) {
                return;
            }
            assert!(
                !last && started.elapsed() < PATIENCE,
                "{}: `{text}` did not come ({ended:?})\n--- stdout\n{}\n--- stderr\n{}",
                self.shown,
                self.stdout(),
                self.stderr()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("our child").is_none()
    }

    /// Waits for its end, and for that of its output.
    #[track_caller]
    pub(crate) fn wait(mut self) -> Output {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("our child") {
                break status;
            }
            if started.elapsed() >= PATIENCE {
                let _ = self.child.kill();
                panic!(
                    "{} has not ended after {PATIENCE:?}\n--- stdout\n{}\n--- stderr\n{}",
                    self.shown,
                    self.stdout(),
                    self.stderr()
                );
            }
            thread::sleep(Duration::from_millis(2));
        };
        self.ended = true;
        while !(self.stdout.thread.is_finished() && self.stderr.thread.is_finished()) {
            assert!(started.elapsed() < PATIENCE, "{}: somebody keeps its output open", self.shown);
            thread::sleep(Duration::from_millis(2));
        }
        Output {
            // As a shell has it.
            code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()),
            command: self.shown.clone(),
            stdout: self.stdout(),
            stderr: self.stderr(),
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// How a command ended.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) command: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// It ended with this code.
    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self}");
        self
    }

    /// It ended well.
    #[track_caller]
    pub(crate) fn success(self) -> Self {
        self.code(0)
    }

    /// It ended with an error.
    #[track_caller]
    pub(crate) fn failure(self) -> Self {
        assert_ne!(self.code, 0, "{self}");
        self
    }

    #[track_caller]
    pub(crate) fn stdout_is(self, text: &str) -> Self {
        assert_eq!(self.stdout, text, "{self}");
        self
    }

    #[track_caller]
    pub(crate) fn stdout_has(self, text: &str) -> Self {
        assert!(self.stdout.contains(text), "`{text}` is missing from stdout\n{self}");
        self
    }

    #[track_caller]
    pub(crate) fn stderr_has(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "`{text}` is missing from stderr\n{self}");
        self
    }

    #[track_caller]
    pub(crate) fn stderr_lacks(self, text: &str) -> Self {
        assert!(!self.stderr.contains(text), "`{text}` is in stderr\n{self}");
        self
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { code, command, stdout, stderr } = self;
        write!(f, "{command} ended with {code}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}
