//! What containers write: from their pipes into a file per service, line by line ([`LogLine`]).

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt},
    path::Path,
    sync::Arc,
};

use tokio::{io::unix::AsyncFd, task::JoinHandle};

use super::{spool::Spool, streams::Listeners};
use crate::state::{LogLine, Stream};

/// A log file that is only ever appended to.
pub(super) fn open(path: &Path) -> io::Result<Arc<File>> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    Ok(Arc::new(OpenOptions::new().append(true).create(true).mode(0o600).open(path)?))
}

/// Takes down line by line what comes from a pipe, or from the controlling side of a terminal, until the last program has closed
/// it, and hands it on as it comes. `pending` is what the spool has of a supervisor that has died.
pub(super) fn pump(
    reader: Arc<AsyncFd<OwnedFd>>,
    (spool, pending): (Spool, Vec<u8>),
    file: Arc<File>,
    stream: Stream,
    listeners: Arc<Listeners>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        if let Err(error) = take_down(&reader, spool, pending, &file, stream, &listeners).await {
            tracing::error!(%error, "a log line is lost");
        }
    })
}

async fn take_down(
    reader: &AsyncFd<OwnedFd>,
    mut spool: Spool,
    mut pending: Vec<u8>,
    mut file: &File,
    stream: Stream,
    listeners: &Listeners,
) -> io::Result<()> {
    let mut lost = 0_u64;
    let mut inherited = !pending.is_empty();
    loop {
        // Whole lines may be in what is inherited, and nothing may come after them for long.
        let n = if inherited { pending.len() } else { spool.fill(reader, &mut pending).await? };
        inherited = false;
        listeners.tell(stream, &pending[pending.len() - n..]);
        let time = jiff::Timestamp::now();
        let mut out = Vec::new();
        let mut write_line = |line: &[u8]| -> io::Result<()> {
            let log = String::from_utf8_lossy(line).into_owned();
            serde_json::to_writer(&mut out, &LogLine { log, stream, time })?;
            out.push(b'\n');
            Ok(())
        };
        let mut start = 0;
        while let Some(end) = pending[start..].iter().position(|byte| *byte == b'\n') {
            for part in pending[start..=start + end].chunks(LogLine::MAX) {
                write_line(part)?;
            }
            start += end + 1;
        }
        while n == 0 && start < pending.len() || pending.len() - start >= LogLine::MAX {
            let end = pending.len().min(start + LogLine::MAX);
            write_line(&pending[start..end])?;
            start = end;
        }
        // A service must not stop because a disk is full. How much is missing is said where it is missing, once that can be.
        if lost > 0 {
            let mut notice = Vec::new();
            let log = format!("nscompose: {lost} bytes of the log were lost, the disk was full\n");
            serde_json::to_writer(&mut notice, &LogLine { log, stream: Stream::Stderr, time })?;
            notice.push(b'\n');
            out.splice(0..0, notice);
        }
        // One write for all: on a file opened for appending the kernel keeps it in one piece, or a part of it on a full disk,
        // which is taken away again, since half a line would spoil the next one.
        let before = file.metadata().map(|meta| meta.len());
        if let Ok(before) = before {
            spool.begin(before, out.len(), start)?;
        }
        match file.write_all(&out) {
            Ok(()) => lost = 0,
            Err(error) => {
                if lost == 0 {
                    tracing::error!(%error, "a log cannot be written");
                }
                lost += n as u64;
                if let Ok(before) = before {
                    let _ = file.set_len(before);
                }
            }
        }
        spool.done(start)?;
        pending.drain(..start);
        if n == 0 {
            return Ok(());
        }
        // One that is never silent lets others have their turn after each piece.
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_parts_and_bytes_are_kept_in_order() {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("logs/x.jsonl");
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("pipe");
        let reader = super::super::streams::waited_for(reader).expect("reader");
        let spool = (Spool::new().expect("spool"), Vec::new());
        let task = pump(reader, spool, open(&path).expect("file"), Stream::Stderr, Arc::default());
        let long = "x".repeat(LogLine::MAX + 5);
        File::from(writer).write_all(format!("one\n\n{long}\nlast").as_bytes()).expect("write");
        task.await.expect("pump");
        let text = std::fs::read_to_string(path).expect("log");
        let lines: Vec<LogLine> = text.lines().map(|line| serde_json::from_str(line).expect("line")).collect();
        let logs: Vec<&str> = lines.iter().map(|line| line.log.as_str()).collect();
        assert_eq!(logs.concat(), format!("one\n\n{long}\nlast"));
        assert_eq!(&logs[..2], ["one\n", "\n"]);
        assert!(lines.iter().all(|line| line.stream == Stream::Stderr && line.log.len() <= LogLine::MAX));
    }
}
