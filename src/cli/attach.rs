//! `nscompose attach`.

use std::{
    io::{self, IsTerminal},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    str::FromStr,
};

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe,
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
};

use super::{
    change::one_container,
    files::{project_name, tell_apart},
    settings::Settings,
    stack::{gone, open_if_up, talk},
    terminal::{self, Raw},
    typed::{InBackground, typed},
};
use crate::{
    diagnostics::Failure,
    supervisor::{AttachRequest, Connection, Reply, Request},
};

/// Connect to the standard streams of a running service
///
/// What it writes from now on is shown, and with `stdin_open: true` what is typed goes to its standard input. Its exit code is
/// the service's. On a terminal with `tty: true`, Ctrl-P Ctrl-Q leaves the service running.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Do not hand on standard input
    #[arg(long)]
    no_stdin: bool,
    /// Hand signals on to the service
    #[arg(long, value_name = "true|false", default_value_t = true, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", action = clap::ArgAction::Set)]
    sig_proxy: bool,
    /// What to type to leave the service alone: characters, or ctrl- and one of a-z @ ^ [ \ ] _, with commas
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    detach_keys: Keys,
    /// Which container of the service, by its number [default: the first]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    index: Option<u32>,
    /// [FILE] SERVICE
    #[arg(value_name = "FILE|SERVICE", required = true)]
    words: Vec<String>,
}

/// A sequence of bytes that somebody types.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Keys(Vec<u8>);

impl FromStr for Keys {
    type Err = String;

    /// As Docker reads them (moby/term, `ascii.go`).
    fn from_str(text: &str) -> Result<Self, String> {
        let key = |key: &str| -> Option<u8> {
            match (key.as_bytes(), key.strip_prefix("ctrl-").map(str::as_bytes)) {
                ([byte], _) if byte.is_ascii() => Some(*byte),
                (_, Some([b'@'])) => Some(0),
                (_, Some([byte @ b'a'..=b'z'])) => Some(byte - b'a' + 1),
                (_, Some([byte @ b'['..=b'_'])) => Some(byte - b'[' + 27),
                _ => None,
            }
        };
        let keys: Option<Vec<u8>> = text.split(',').map(key).collect();
        keys.map(Self).ok_or_else(|| format!("`{text}` is no list of keys such as `ctrl-p,ctrl-q`"))
    }
}

/// Looks for the keys in what is typed. The beginning of them is held back until it is known how it goes on.
struct KeyWatch {
    keys: Vec<u8>,
    matched: usize,
}

impl KeyWatch {
    fn new(keys: Keys) -> Self {
        Self { keys: keys.0, matched: 0 }
    }

    /// What to pass on; none once all of the keys have come.
    fn pass(&mut self, typed: &[u8]) -> Option<Vec<u8>> {
        let mut passed = Vec::with_capacity(typed.len());
        for byte in typed {
            if *byte != self.keys[self.matched] {
                // What was held back was no beginning; this byte may be one.
                passed.extend_from_slice(&self.keys[..self.matched]);
                self.matched = 0;
            }
            if *byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    return None;
                }
            } else {
                passed.push(*byte);
            }
        }
        Some(passed)
    }
}

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let words = tell_apart(&args.words, &settings.directory);
    if words.services.len() != 1 {
        return Err(Failure::usage("`attach` needs one service").hint("nscompose attach SERVICE"));
    }
    let name = project_name(&words, settings)?;
    let Some(opened) = open_if_up(&settings.layout.stack(&name))? else {
        return Err(Failure::operation(format!("stack `{name}` is not up")).hint("`nscompose up -d` brings it up"));
    };
    opened.on_runtime(async |mut connection, snapshot| {
        let service = one_container((&words.services[0], args.index), &words, &snapshot.observed.containers, settings)?;
        let broken = |e: io::Error| Failure::host("cannot make a pipe").caused_by(&e);
        let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|e| broken(e.into()));
        let ((out, their_out), (err, their_err), (their_typed, typed)) = (pipe()?, pipe()?, pipe()?);
        let input = !args.no_stdin;
        // Nobody else has our ends, so they can be what they have to be for both sides.
        for fd in [&out, &their_out, &err, &their_err, &typed, &their_typed] {
            rustix::io::ioctl_fionbio(fd, true).map_err(|e| broken(e.into()))?;
        }
        let is_terminal = io::stdout().is_terminal();
        let request = AttachRequest { service, input, terminal: is_terminal.then(terminal::size) };
        let fds: Vec<BorrowedFd<'_>> =
            [their_out.as_fd(), their_err.as_fd()].into_iter().chain(input.then(|| their_typed.as_fd())).collect();
        connection.send(&Request::Attach(request), &fds).await.map_err(|e| talk(&e))?;
        drop((their_out, their_err, their_typed));
        let (has_terminal, takes_input) = match connection.next().await.map_err(|e| talk(&e))? {
            Some(Reply::Attached { terminal, input }) => (terminal, input),
            Some(Reply::Failed(failure)) => return Err(failure),
            Some(_) => return Err(Failure::internal("the supervisor answers something else than what was asked")),
            None => return Err(gone()),
        };
        let hands_in = input && takes_input;
        // Whatever is typed is the service's, down to Ctrl-C; its own terminal makes of it what it will.
        let raw = has_terminal && hands_in && io::stdin().is_terminal();
        let raw = if raw { Some(Raw::begin().map_err(broken)?) } else { None };
        let (leave, mut left) = mpsc::channel(1);
        let mut shown = JoinSet::new();
        let ours = |stream: BorrowedFd<'_>| stream.try_clone_to_owned().map_err(broken);
        shown.spawn(show(out, ours(io::stdout().as_fd())?, leave.clone()));
        shown.spawn(show(err, ours(io::stderr().as_fd())?, leave.clone()));
        if hands_in {
            let watch = has_terminal.then(|| KeyWatch::new(args.detach_keys.clone()));
            hand_in(typed, watch, leave.clone()).map_err(broken)?;
        }
        let result = until_exit(&mut connection, args.sig_proxy, &mut left).await;
        if !matches!(result, Ok(None)) {
            // The last of the output, which ends with the service.
            let all = async { while shown.join_next().await.is_some() {} };
            let _ = tokio::time::timeout(std::time::Duration::from_secs(1), all).await;
        }
        drop(raw);
        match result? {
            Some(code) => Ok(code),
            None => {
                settings.printer.progress(&args.words[args.words.len() - 1], "runs on without you");
                Ok(0)
            }
        }
    })
}

/// Passes signals on until the service has ended, with its code, or until it is left, which is none.
async fn until_exit(
    connection: &mut Connection,
    pass_on: bool,
    left: &mut mpsc::Receiver<()>,
) -> Result<Option<u8>, Failure> {
    let broken = |e: io::Error| Failure::host("cannot catch signals").caused_by(&e);
    let caught = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
        SignalKind::quit(),
        SignalKind::user_defined1(),
        SignalKind::user_defined2(),
    ];
    let (proxied, mut to_pass) = mpsc::channel(16);
    for kind in caught.into_iter().filter(|_| pass_on) {
        let mut signals = signal(kind).map_err(broken)?;
        let proxied = proxied.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() && proxied.send(kind.as_raw_value()).await.is_ok() {}
        });
    }
    let mut resized: Signal = signal(SignalKind::window_change()).map_err(broken)?;
    let is_terminal = io::stdout().is_terminal();
    loop {
        let request = tokio::select! {
            reply = connection.next() => match reply.map_err(|e| talk(&e))? {
                Some(Reply::Exited(code)) => return Ok(Some(u8::try_from(code).unwrap_or(u8::MAX))),
                Some(Reply::Failed(failure)) => return Err(failure),
                Some(_) => continue,
                None => return Err(gone()),
            },
            Some(()) = left.recv() => return Ok(None),
            Some(number) = to_pass.recv() => Request::Signal(number),
            _ = resized.recv(), if is_terminal => {
                let (rows, columns) = terminal::size();
                Request::Resize(rows, columns)
            }
        };
        connection.send(&request, &[]).await.map_err(|e| talk(&e))?;
    }
}

/// Writes what comes from a pipe to one of our streams. When nobody reads that any more there is no reason to stay.
async fn show(from: OwnedFd, to: OwnedFd, leave: mpsc::Sender<()>) {
    let Ok(mut from) = pipe::Receiver::from_owned_fd(from) else { return };
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        if terminal::write_all(to.as_fd(), &buffer[..n]).is_err() {
            let _ = leave.send(()).await;
            return;
        }
    }
}

/// Hands on what is typed, until the keys to leave come.
fn hand_in(to: OwnedFd, mut watch: Option<KeyWatch>, leave: mpsc::Sender<()>) -> io::Result<()> {
    let mut to = pipe::Sender::from_owned_fd(to)?;
    let mut queue = typed(InBackground::Stops);
    tokio::spawn(async move {
        while let Some(bytes) = queue.recv().await {
            let passed = match &mut watch {
                None => Some(bytes),
                Some(watch) => watch.pass(&bytes),
            };
            let Some(passed) = passed else {
                let _ = leave.send(()).await;
                return;
            };
            if to.write_all(&passed).await.is_err() {
                return;
            }
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_docker_reads_them() {
        let keys = |text: &str| text.parse::<Keys>().map(|keys| keys.0);
        assert_eq!(keys("ctrl-p,ctrl-q"), Ok(vec![16, 17]));
        assert_eq!(keys("a,ctrl-@,ctrl-[,ctrl-_"), Ok(vec![b'a', 0, 27, 31]));
        for wrong in ["", "ctrl-", "ctrl-P", "ab", "ctrl-p,"] {
            assert!(keys(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_the_whole_sequence_leaves() {
        let mut watch = KeyWatch::new(Keys(vec![16, 17]));
        assert_eq!(watch.pass(b"ab\x10"), Some(b"ab".to_vec()));
        assert_eq!(watch.pass(b"c"), Some(b"\x10c".to_vec()));
        assert_eq!(watch.pass(b"\x10\x10x"), Some(b"\x10\x10x".to_vec()));
        assert_eq!(watch.pass(b"\x10"), Some(Vec::new()));
        assert_eq!(watch.pass(b"\x11"), None);
    }
}
