//! The standard streams of a container that is still to be made, and its log.

use std::{
    fs::File,
    io,
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::Arc,
};

use crate::{
    executor::{
        Stack,
        facts::{INPUT, of_service, piped},
        logs,
        streams::{HandedOut, Listeners, Streams, waited_for},
    },
    model::ServiceName,
    plan::ContainerSpec,
    state::Stream,
};

/// The streams of a container that is still to be made.
pub(super) struct Streamed {
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    /// The socket for what it hands out, and our end of it.
    pub(super) socket: OwnedFd,
    pub(super) handed_out: HandedOut,
    /// None while there is a terminal to be made.
    pub(super) pump: Option<logs::Pump>,
    pub(super) streams: Streams,
    pub(super) listeners: Arc<Listeners>,
    /// What the keeper is to keep of it.
    pub(super) keep: Vec<(String, OwnedFd)>,
}

/// Whose log what a container writes is in: what runs before a service is part of its story.
pub(in crate::executor) fn written_of(container: &ServiceName) -> ServiceName {
    container.replica(container.number())
}

/// Who writes the log, if one is kept.
pub(in crate::executor) async fn log_writer(
    spec: &ContainerSpec,
    stack: &Stack,
) -> io::Result<Option<Arc<logs::Writer>>> {
    let (logs, layout) = (stack.logs.clone(), stack.layout.clone());
    let (service, settings) = (written_of(&spec.service), spec.logging.clone());
    if spec.service.hook().is_some() {
        stack.objects().hooks_began.insert(spec.service.clone(), jiff::Timestamp::now());
    }
    let writer = tokio::task::spawn_blocking(move || logs.writer(&layout, &service, &settings));
    writer.await.map_err(io::Error::other)?
}

pub(super) fn streamed(spec: &ContainerSpec, stack: &Stack, writer: Option<Arc<logs::Writer>>) -> io::Result<Streamed> {
    let null = || File::open("/dev/null").map(OwnedFd::from);
    let listeners = Arc::new(Listeners::default());
    let mut streams = Streams { listeners: Arc::downgrade(&listeners), ..Streams::default() };
    let (handed_out, socket) = UnixStream::pair()?;
    let (handed_out, socket) = (HandedOut::through(handed_out)?, socket.into());
    let mut keep = Vec::new();
    if spec.process.terminal {
        let (stdin, stdout, stderr) = (null()?, null()?, null()?);
        return Ok(Streamed { stdin, stdout, stderr, socket, handed_out, pump: None, streams, listeners, keep });
    }
    let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
    let named = |what: &str| of_service(&spec.service, what);
    let stdin = if spec.process.stdin_open {
        let (reader, writer) = pipe()?;
        keep.push((named(INPUT), writer.try_clone()?));
        // Held for as long as the container is there: its input never ends.
        streams.input = Some(waited_for(writer)?);
        reader
    } else {
        null()?
    };
    let mut sources = Vec::new();
    let mut taken_down = |stream| -> io::Result<OwnedFd> {
        let (reader, writer) = pipe()?;
        keep.push((named(piped(stream)), reader.try_clone()?));
        sources.push((stream, logs::Source::Pipe(reader), stack.layout.spool(&spec.service, stream)));
        Ok(writer)
    };
    let (stdout, stderr) = (taken_down(Stream::Stdout)?, taken_down(Stream::Stderr)?);
    let pump = Some(logs::pump(sources, writer, listeners.clone(), false)?);
    Ok(Streamed { stdin, stdout, stderr, socket, handed_out, pump, streams, listeners, keep })
}
