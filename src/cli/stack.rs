//! Talking to the supervisor of a stack, for the verbs.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use crate::{
    diagnostics::{Failure, FailureKind},
    model::Port,
    plan::PlanError,
    state::{Lock, StackLayout},
    supervisor::{
        Connection, Event, Reply, Request, Snapshot, connect, connect_or_start, more_ids_hint, observe, owner_of,
    },
};

/// A stack that answers, and what it said there is.
pub(super) struct Opened {
    stream: UnixStream,
    pub(super) snapshot: Snapshot,
}

impl Opened {
    /// Goes on with the connection on a runtime. Only from here on is there one: a supervisor is started by forking, which
    /// a runtime does not survive (its signal pipe is one for the whole process).
    pub(super) fn on_runtime<T>(
        self,
        verb: impl AsyncFnOnce(Connection, Snapshot) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| Failure::host("cannot start the event loop").caused_by(&e))?;
        runtime.block_on(async { verb(connection(self.stream)?, self.snapshot).await })
    }
}

/// How many supervisors in a row may end just when they are spoken to.
const ATTEMPTS: u32 = 200;

/// Opens a stack, starting its supervisor if need be. One that is just ending may still have taken the connection, and
/// closes it without a word; then there is another to be had.
pub(super) fn open(layout: &StackLayout) -> Result<Opened, Failure> {
    layout.layout().create().map_err(|e| Failure::host("cannot make nscompose's folders").caused_by(&e))?;
    for _ in 0..ATTEMPTS {
        if let Some(opened) = look(connect_or_start(layout)?)? {
            return Ok(opened);
        }
    }
    Err(gone())
}

/// Opens a stack that is up; none when it is not.
pub(super) fn open_if_up(layout: &StackLayout) -> Result<Option<Opened>, Failure> {
    for _ in 0..ATTEMPTS {
        let Some(stream) = connect(layout)? else { return Ok(None) };
        if let Some(opened) = look(stream)? {
            return Ok(Some(opened));
        }
    }
    Err(gone())
}

/// The same, but a supervisor that was killed has nothing started in its place.
pub(super) fn connect_if_up(layout: &StackLayout) -> Result<Option<Opened>, Failure> {
    for _ in 0..ATTEMPTS {
        let stream = match layout.connect() {
            Ok(stream) => stream,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(e) => return Err(talk(&e)),
        };
        if let Some(opened) = look(stream)? {
            return Ok(Some(opened));
        }
    }
    Err(gone())
}

fn look(stream: UnixStream) -> Result<Option<Opened>, Failure> {
    let silent = |e: &std::io::Error| matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
    let seen = observe(&stream).map_err(|e| if silent(&e) { mute() } else { talk(&e) });
    match seen? {
        Some(snapshot) => Ok(Some(Opened { stream, snapshot })),
        None => {
            std::thread::sleep(Duration::from_millis(10));
            Ok(None)
        }
    }
}

pub(super) fn connection(stream: UnixStream) -> Result<Connection, Failure> {
    Connection::new(stream).map_err(|e| talk(&e))
}

pub(super) fn talk(error: &std::io::Error) -> Failure {
    match is_end(error) {
        true => gone(),
        false => Failure::host("cannot talk to the supervisor of the stack").caused_by(error),
    }
}

/// Whether an error says that nobody is there any more.
fn is_end(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected};
    matches!(error.kind(), BrokenPipe | ConnectionReset | NotConnected)
}

/// Adds who has these ports, as far as it can be seen from here.
pub(super) fn name_owners(failure: Failure, taken: &[Port]) -> Failure {
    let owners = taken.iter().filter_map(|port| {
        let ip = port.host_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let published = port.published?;
        let owner = owner_of(SocketAddr::new(ip, published), port.protocol)?;
        Some(format!("port {published}/{}: {owner}", port.protocol))
    });
    let owners: Vec<String> = owners.collect();
    if owners.is_empty() { failure } else { failure.note("who has it", owners) }
}

/// Why there is nothing to carry out.
pub(super) fn no_plan(error: &PlanError) -> Failure {
    let failure = Failure::from_error(FailureKind::Operation, error);
    match (error, error.hint()) {
        (PlanError::SingleId { .. } | PlanError::SingleIdGroup { .. }, _) => failure.hint(more_ids_hint()),
        (_, Some(hint)) => failure.hint(hint),
        (_, None) => failure,
    }
}

pub(super) fn gone() -> Failure {
    Failure::internal("the supervisor of the stack ended in the middle of its work")
        .hint("`nscompose ps` shows what there is, and `nscompose down` removes it")
}

/// What to say when there is no supervisor any more to go on with.
pub(super) fn went_away(layout: &StackLayout) -> Failure {
    if layout.runtime().exists() { gone() } else { Failure::operation("the stack was taken down meanwhile") }
}

fn mute() -> Failure {
    Failure::host("the supervisor of the stack does not answer, nor does one that takes its place").hint(
        "its log, supervisor.log in the runtime folder, may say why; killing the process `nsc-keeper` ends the stack",
    )
}

/// Why something that was asked for has not come to its end.
#[derive(Debug)]
pub(super) enum Broken {
    /// The supervisor has gone. There may be another one by now.
    Gone,
    /// It cannot be done.
    Failed(Failure),
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Broken> for Failure {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Gone => gone(),
            Broken::Failed(failure) => failure,
        }
    }
}

/// What an error of the connection means.
pub(super) fn broken(error: &std::io::Error) -> Broken {
    if is_end(error) { Broken::Gone } else { Broken::Failed(talk(error)) }
}

/// How many deaths of supervisors a command gets over.
pub(super) const DEATHS: u32 = 100;

/// How long a supervisor may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Connects to the supervisor that has come after one that has gone, and says what there is; none when nobody has, and the stack
/// has gone.
pub(super) async fn reconnect(layout: &StackLayout) -> Result<Option<(Connection, Snapshot)>, Failure> {
    let began = Instant::now();
    for _ in 0..ATTEMPTS {
        let stream = loop {
            match layout.connect() {
                Ok(stream) => break stream,
                // As long as somebody has its lock, the stack has a keeper, and a supervisor that died while it removed the last of
                // it has another one after it.
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                    if !Lock::is_held(&layout.lock()) || began.elapsed() > PATIENCE {
                        return Ok(None);
                    }
                }
                Err(e) => return Err(talk(&e)),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let mut connection = connection(stream)?;
        let look = tokio::time::timeout(PATIENCE, look_again(&mut connection)).await;
        if let Some(snapshot) = look.map_err(|_| mute())?? {
            return Ok(Some((connection, snapshot)));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err(gone())
}

/// What there is now, on a connection that is otherwise idle; none when the supervisor has gone.
pub(super) async fn look_again(connection: &mut Connection) -> Result<Option<Snapshot>, Failure> {
    if connection.send(&Request::Observe, &[]).await.is_err() {
        return Ok(None);
    }
    loop {
        match connection.next().await.map_err(|e| talk(&e))? {
            Some(Reply::Snapshot(snapshot)) => return Ok(Some(*snapshot)),
            Some(Reply::Failed(failure)) => return Err(failure),
            Some(_) => {}
            None => return Ok(None),
        }
    }
}

/// Sends a request that is worked on for a while, and waits for its end.
pub(super) async fn carry_out(
    connection: &mut Connection,
    request: &Request,
    on_event: impl FnMut(Event),
) -> Result<(), Broken> {
    connection.send(request, &[]).await.map_err(|e| broken(&e))?;
    until_done(connection, on_event).await
}

/// Waits for the end of what has been asked for.
pub(super) async fn until_done(connection: &mut Connection, mut on_event: impl FnMut(Event)) -> Result<(), Broken> {
    loop {
        match connection.next().await.map_err(|e| broken(&e))? {
            Some(Reply::Done) => return Ok(()),
            Some(Reply::Failed(failure)) => return Err(failure.into()),
            Some(Reply::Event(event)) => on_event(event),
            Some(_) => {}
            None => return Err(Broken::Gone),
        }
    }
}

/// Waits until the supervisor has ended, and with it everything of the stack; or until another command has it do something, and
/// it does not end. Whether it has ended comes back.
pub(super) async fn wait_for_end(connection: &mut Connection) -> bool {
    loop {
        match connection.next().await {
            Ok(Some(Reply::Event(Event::PlanBegan))) => return false,
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return true,
        }
    }
}
