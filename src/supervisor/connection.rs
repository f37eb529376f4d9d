//! The supervisor's side of one connection.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf, pipe},
    },
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender},
        oneshot,
    },
    task::JoinSet,
};

use super::{
    AttachRequest, ExecRequest, Reply, Request,
    dispatcher::{Apply, Ask, ConnectionId},
};
use crate::{
    diagnostics::{Failure, FailureKind},
    executor::{Exec, ExecError, Input, MORE_DESCRIPTORS, Output, Stack, is_out_of_descriptors},
    sandbox::{BringUpStep, SandboxError, more_ids_hint},
    state::Stream,
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
            Request::Namespaces => {
                let _ = replies.send(Reply::Namespaces(Box::new(stack.look_at_namespaces())));
            }
            Request::Apply { plan, generation, files, foreground } => {
                let owner = foreground.then_some(id);
                let _ = asks.send(Ask::Apply(Apply {
                    plan,
                    generation,
                    files,
                    client: id,
                    owner,
                    replies: replies.clone(),
                }));
            }
            Request::Own => {
                let _ = asks.send(Ask::Own(id, replies.clone()));
            }
            Request::Down { timeout_ms, volumes, tenure } => {
                let _ = asks.send(Ask::Down { client: id, timeout_ms, volumes, tenure, replies: replies.clone() });
            }
            Request::Kill => {
                let _ = asks.send(Ask::Kill);
                let _ = replies.send(Reply::Done);
            }
            Request::Stats => {
                let _ = replies.send(Reply::Stats(stack.usage()));
            }
            Request::Processes => {
                let _ = replies.send(Reply::Processes(stack.processes().await));
            }
            Request::Events { since } => {
                let _ = asks.send(Ask::Events { id, since, replies: replies.clone() });
            }
            Request::Exec(request) => {
                let reply = exec(request, fds, requests, stack).await?;
                let _ = replies.send(reply);
            }
            Request::Attach(request) => {
                let reply = attach(request, fds, requests, replies, stack).await?;
                let _ = replies.send(reply);
            }
            Request::Resize(rows, columns) => stack.resize((rows, columns)),
            Request::SharedNetwork(name) => {
                if let (Some(netns), Some(socket)) = (stack.shared_network(&name), fds.first()) {
                    give(socket.as_fd(), netns.as_fd()).await;
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

/// Sends a byte with a descriptor, or without where there is no room for one.
async fn give(socket: BorrowedFd<'_>, fd: BorrowedFd<'_>) {
    let mut patience = sys::fds::Patience::default();
    while let Err(error) = sys::fds::send(socket, b"n", &[fd]) {
        match patience.after(&error) {
            Some(wait) => tokio::time::sleep(wait).await,
            None => return drop(sys::fds::send(socket, b"n", &[])),
        }
    }
}

/// Runs a program, passes signals on to it, and kills it when the client hangs up, whether it has come to the program or not.
async fn exec(request: ExecRequest, fds: Vec<OwnedFd>, requests: &mut Requests, stack: &Stack) -> io::Result<Reply> {
    let detach = request.detach;
    let exec = Exec {
        service: request.service,
        argv: request.argv,
        environment: request.environment,
        user: request.user,
        working_dir: request.working_dir,
        terminal: request.terminal,
        privileged: request.privileged,
        stays: detach,
    };
    // An order that has been given is carried out in any case, and comes back soon.
    let starting = match stack.exec(exec, fds).await {
        Ok(starting) => starting,
        Err(error) => return Ok(Reply::Failed(failure(&error))),
    };
    let (pidfd, mut exit) = (starting.started.pidfd.clone(), starting.started.exit.clone());
    // From here on it may wait for anything: a file system that does not answer, say.
    let runs = starting.runs();
    tokio::pin!(runs);
    let mut running = false;
    loop {
        tokio::select! {
            ran = &mut runs, if !running => match ran {
                Ok(()) if detach => return Ok(Reply::Done),
                Ok(()) => running = true,
                Err(error) => return Ok(Reply::Failed(failure(&error))),
            },
            ended = exit.wait_for(Option::is_some), if running => {
                let status = ended.ok().and_then(|status| *status);
                return Ok(match status {
                    Some(status) => Reply::Exited(status.shell_code()),
                    None => Reply::Failed(Failure::operation("how the program ended is not known")),
                });
            }
            request = requests.next() => match request? {
                Some((Request::Signal(number), _)) => {
                    let _ = pidfd.signal(number);
                }
                Some(_) => {}
                None => {
                    let _ = pidfd.signal(libc::SIGKILL);
                    return Ok(Reply::Done);
                }
            }
        }
    }
}

/// Connects the client with a running service until that ends or the client hangs up.
async fn attach(
    request: AttachRequest,
    fds: Vec<OwnedFd>,
    requests: &mut Requests,
    replies: &UnboundedSender<Reply>,
    stack: &Stack,
) -> io::Result<Reply> {
    let wanted = 2 + usize::from(request.input);
    if fds.len() != wanted {
        return Ok(Reply::Failed(failure(&ExecError::Descriptors { wanted, came: fds.len() })));
    }
    let (attached, output) = match stack.attach(&request.service) {
        Ok(attached) => attached,
        Err(error) => return Ok(Reply::Failed(failure(&error))),
    };
    let mut fds = fds.into_iter();
    let mut writer = || fds.next().ok_or(io::ErrorKind::UnexpectedEof.into()).and_then(pipe::Sender::from_owned_fd);
    let (out, err) = (writer()?, writer()?);
    let input = attached.input();
    let _ = replies.send(Reply::Attached { terminal: attached.has_terminal(), input: input.is_some() });
    if let Some(size) = request.terminal {
        attached.resize(size, true);
    }
    // Tasks of their own, so that a client that does not read keeps nothing up. They end with this function.
    let mut typing = JoinSet::new();
    if let (Some(typed), Some(input)) = (fds.next(), input) {
        let typed = pipe::Receiver::from_owned_fd(typed)?;
        typing.spawn(hand_in(typed, input));
    }
    let mut showing = JoinSet::new();
    showing.spawn(hand_out(output, out, err));
    let mut exit = attached.exit.clone();
    let mut shown = None;
    let mut ended = None;
    loop {
        tokio::select! {
            overrun = showing.join_next(), if shown.is_none() => {
                let overrun = overrun.is_some_and(|overrun| overrun.unwrap_or(false));
                if overrun {
                    let failure = Failure::operation("the output came faster than it was read, and some would be missing");
                    return Ok(Reply::Failed(failure.hint("`nscompose logs` has all of it")));
                }
                shown = Some(());
            }
            status = exit.wait_for(Option::is_some), if ended.is_none() => {
                ended = Some(status.ok().and_then(|status| *status));
            }
            request = requests.next() => match request? {
                Some((Request::Signal(number), _)) => {
                    let _ = attached.pidfd.signal(number);
                }
                Some((Request::Resize(rows, columns), _)) => attached.resize((rows, columns), false),
                Some(_) => {}
                None => return Ok(Reply::Done),
            },
            // Something that it has left may hold the pipes; nobody waits for that for long.
            () = tokio::time::sleep(LAST_OUTPUT), if ended.is_some() && shown.is_none() => shown = Some(()),
        }
        if let (Some(status), Some(())) = (ended, shown) {
            // Who asks what runs after this has come back is told that the service does not.
            let mut told = attached.told.clone();
            let _ = tokio::time::timeout(LAST_OUTPUT, told.wait_for(|told| *told)).await;
            return Ok(match status {
                Some(status) => Reply::Exited(status.shell_code()),
                None => Reply::Failed(Failure::operation("how the service ended is not known")),
            });
        }
    }
}

/// How long the last output of a service that has ended may take.
const LAST_OUTPUT: Duration = Duration::from_secs(3);

/// Writes what a container writes to who is attached; true if that was too slow.
async fn hand_out(mut output: Output, mut out: pipe::Sender, mut err: pipe::Sender) -> bool {
    while let Some((stream, bytes)) = output.next().await {
        let pipe = match stream {
            Stream::Stdout => &mut out,
            Stream::Stderr => &mut err,
        };
        if pipe.write_all(&bytes).await.is_err() {
            return false;
        }
    }
    output.was_overrun()
}

/// Hands in what somebody types, to its end or that of the container's input.
async fn hand_in(mut typed: pipe::Receiver, input: Input) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(n @ 1..) = typed.read(&mut buffer).await {
        if input.write(&buffer[..n]).await.is_err() {
            return;
        }
    }
}

fn failure(error: &ExecError) -> Failure {
    let failure = Failure::from_error(FailureKind::Operation, error);
    match error {
        ExecError::NotRunning(_) => failure.hint("`nscompose ps` shows what runs"),
        ExecError::Sandbox(source) if is_out_of_descriptors(source) => failure.hint(MORE_DESCRIPTORS),
        ExecError::Paused(service) => failure.hint(format!("`nscompose unpause {service}` lets it go on")),
        ExecError::Sandbox(SandboxError::BringUp(error)) => match &error.step {
            // As a shell has it.
            BringUpStep::Exec(program) if error.errno == libc::ENOENT => {
                failure.hint(format!("the container has no program `{program}`")).with_exit_code(127)
            }
            // As Docker has it, too.
            BringUpStep::WorkingDir(_) if error.errno == libc::ENOENT => failure.with_exit_code(127),
            BringUpStep::Exec(_) | BringUpStep::WorkingDir(_) => failure.with_exit_code(126),
            BringUpStep::BecomeUser(_) | BringUpStep::AddGroup(_) if error.errno == libc::EINVAL => {
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
