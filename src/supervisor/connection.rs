//! The supervisor's side of one connection.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use tokio::{
    io::{AsyncWriteExt, Interest},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender},
        oneshot,
    },
};

use super::{
    ExecRequest, Reply, Request,
    dispatcher::{Apply, Ask, ConnectionId},
};
use crate::{
    diagnostics::{Failure, FailureKind},
    executor::{Exec, ExecError, Stack},
    sandbox::{BringUpStep, SandboxError, more_ids_hint},
    sys,
};

/// Longest request that is believed; a plan of a thousand services is about two megabytes.
const MAX_REQUEST: usize = 64 * 1024 * 1024;

/// Whether the client runs under the account of the supervisor.
pub(super) fn is_owner(stream: &UnixStream) -> bool {
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == nix::unistd::geteuid().as_raw() => true,
        peer => {
            tracing::warn!(?peer, "a client of another account was turned away");
            false
        }
    }
}

/// Answers one client until it hangs up.
pub(super) async fn serve(
    id: ConnectionId,
    stream: OwnedReadHalf,
    replies: UnboundedSender<Reply>,
    stack: Arc<Stack>,
    asks: UnboundedSender<Ask>,
) {
    let mut requests = Requests { stream, bytes: Vec::new(), fds: Vec::new() };
    if let Err(error) = answer(id, &mut requests, &replies, &stack, &asks).await {
        tracing::warn!(%error, "a client is not understood");
        let _ = replies.send(Reply::Failed(Failure::internal("the request was not understood").caused_by(&error)));
    }
    let _ = asks.send(Ask::Closed(id));
}

/// Writes replies until there can be no more. The socket comes back, to be closed when its time has come.
pub(super) async fn write_replies(mut writer: OwnedWriteHalf, mut queue: UnboundedReceiver<Reply>) -> OwnedWriteHalf {
    while let Some(reply) = queue.recv().await {
        let Ok(mut line) = serde_json::to_vec(&reply) else { continue };
        line.push(b'\n');
        if writer.write_all(&line).await.is_err() {
            break;
        }
    }
    writer
}

async fn answer(
    id: ConnectionId,
    requests: &mut Requests,
    replies: &UnboundedSender<Reply>,
    stack: &Stack,
    asks: &UnboundedSender<Ask>,
) -> io::Result<()> {
    while let Some((request, fds)) = requests.next().await? {
        match request {
            Request::Observe => {
                let (answer, snapshot) = oneshot::channel();
                let _ = asks.send(Ask::Observe(answer));
                if let Ok(snapshot) = snapshot.await {
                    let _ = replies.send(Reply::Snapshot(Box::new(snapshot)));
                }
            }
            Request::Apply { plan, generation, files, foreground } => {
                let owner = foreground.then_some(id);
                let _ = asks.send(Ask::Apply(Apply { plan, generation, files, owner, replies: replies.clone() }));
            }
            Request::Down { timeout_ms, volumes } => {
                let _ = asks.send(Ask::Down { timeout_ms, volumes, replies: replies.clone() });
            }
            Request::Kill => {
                let _ = asks.send(Ask::Kill);
                let _ = replies.send(Reply::Done);
            }
            Request::Exec(request) => {
                let reply = exec(request, fds, requests, stack).await?;
                let _ = replies.send(reply);
            }
            Request::SharedNetwork(name) => {
                if let (Some(netns), Some(socket)) = (stack.shared_network(&name), fds.first()) {
                    let _ = sys::fds::send(socket.as_fd(), b"n", &[netns.as_fd()]);
                }
                drop(fds);
                let _ = replies.send(Reply::Done);
            }
            // The program it was meant for has just ended.
            Request::Signal(_) => {}
        }
    }
    Ok(())
}

/// Runs a program, passes signals on to it, and kills it when the client hangs up.
async fn exec(request: ExecRequest, fds: Vec<OwnedFd>, requests: &mut Requests, stack: &Stack) -> io::Result<Reply> {
    let exec = Exec {
        service: request.service,
        argv: request.argv,
        environment: request.environment,
        user: request.user,
        working_dir: request.working_dir,
        terminal: request.terminal,
    };
    let mut started = match stack.exec(exec, fds).await {
        Ok(started) => started,
        Err(error) => return Ok(Reply::Failed(failure(&error))),
    };
    loop {
        tokio::select! {
            ended = started.exit.wait_for(Option::is_some) => {
                let status = ended.ok().and_then(|status| *status);
                return Ok(match status {
                    Some(status) => Reply::Exited(status.shell_code()),
                    None => Reply::Failed(Failure::operation("how the program ended is not known")),
                });
            }
            request = requests.next() => match request? {
                Some((Request::Signal(number), _)) => {
                    let _ = started.pidfd.signal(number);
                }
                Some(_) => {}
                None => {
                    let _ = started.pidfd.signal(libc::SIGKILL);
                    return Ok(Reply::Done);
                }
            }
        }
    }
}

fn failure(error: &ExecError) -> Failure {
    let failure = Failure::from_error(FailureKind::Operation, error);
    match error {
        ExecError::NotRunning(_) => failure.hint("`nscompose ps` shows what runs"),
        ExecError::Sandbox(SandboxError::BringUp(error)) => match &error.step {
            // As a shell has it.
            BringUpStep::Exec(program) if error.errno == libc::ENOENT => {
                failure.hint(format!("the container has no program `{program}`")).with_exit_code(127)
            }
            BringUpStep::Exec(_) => failure.with_exit_code(126),
            BringUpStep::BecomeUser(_) if error.errno == libc::EINVAL => {
                failure.hint(format!("this id does not exist in the container: {}", more_ids_hint()))
            }
            _ => failure,
        },
        _ => failure,
    }
}

/// Requests as they come in, with their descriptors.
struct Requests {
    stream: OwnedReadHalf,
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl Requests {
    /// The next request; none when the client has hung up. Nothing is lost when the future is dropped half way.
    async fn next(&mut self) -> io::Result<Option<(Request, Vec<OwnedFd>)>> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.bytes[searched..].iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.bytes.drain(..=searched + end).collect();
                return Ok(Some((serde_json::from_slice(&line)?, std::mem::take(&mut self.fds))));
            }
            searched = self.bytes.len();
            if searched > MAX_REQUEST {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the request is too long"));
            }
            let stream: &UnixStream = self.stream.as_ref();
            let mut buffer = vec![0; 64 * 1024];
            let received = stream.async_io(Interest::READABLE, || sys::fds::receive(stream.as_fd(), &mut buffer)).await;
            match received {
                Ok((0, _)) => return Ok(None),
                Ok((n, fds)) => {
                    self.bytes.extend_from_slice(&buffer[..n]);
                    self.fds.extend(fds);
                }
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(e) => return Err(e),
            }
        }
    }
}
