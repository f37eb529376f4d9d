//! Talking to the supervisor of a stack, for the verbs.

use std::{os::unix::net::UnixStream, time::Duration};

use tokio::runtime::Runtime;

use crate::{
    diagnostics::Failure,
    state::StackLayout,
    supervisor::{Connection, Event, Reply, Request, Snapshot, connect, connect_or_start},
};

/// A runtime for one verb, without threads.
pub(super) fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::host("cannot start the event loop").caused_by(&e))
}

/// Opens a stack, starting its supervisor if need be, and looks at what there is. One that is just ending may still have
/// taken the connection, and closes it without a word; then there is another to be had.
pub(super) fn open(layout: &StackLayout, runtime: &Runtime) -> Result<(Connection, Snapshot), Failure> {
    for _ in 0..ATTEMPTS {
        if let Some(opened) = try_open(connect_or_start(layout)?, runtime)? {
            return Ok(opened);
        }
    }
    Err(gone())
}

/// Opens a stack that is up; none when it is not.
pub(super) fn open_if_up(layout: &StackLayout, runtime: &Runtime) -> Result<Option<(Connection, Snapshot)>, Failure> {
    for _ in 0..ATTEMPTS {
        let Some(stream) = connect(layout)? else { return Ok(None) };
        if let Some(opened) = try_open(stream, runtime)? {
            return Ok(Some(opened));
        }
    }
    Err(gone())
}

/// How many supervisors in a row may end just when they are spoken to.
const ATTEMPTS: u32 = 100;

fn try_open(stream: UnixStream, runtime: &Runtime) -> Result<Option<(Connection, Snapshot)>, Failure> {
    // Not while the runtime runs: a supervisor is started by forking, and has a runtime of its own.
    runtime.block_on(async {
        let mut connection = connection(stream)?;
        match observe(&mut connection).await? {
            Some(snapshot) => Ok(Some((connection, snapshot))),
            None => {
                tokio::time::sleep(Duration::from_millis(10)).await;
                Ok(None)
            }
        }
    })
}

pub(super) fn connection(stream: UnixStream) -> Result<Connection, Failure> {
    Connection::new(stream).map_err(|e| talk(&e))
}

pub(super) fn talk(error: &std::io::Error) -> Failure {
    Failure::host("cannot talk to the supervisor of the stack").caused_by(error)
}

pub(super) fn gone() -> Failure {
    Failure::internal("the supervisor of the stack ended in the middle of its work")
        .hint("`nscompose down` removes what it left")
}

/// What there is; none when the supervisor has gone.
pub(super) async fn observe(connection: &mut Connection) -> Result<Option<Snapshot>, Failure> {
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
    mut on_event: impl FnMut(Event),
) -> Result<(), Failure> {
    connection.send(request, &[]).await.map_err(|e| talk(&e))?;
    loop {
        match connection.next().await.map_err(|e| talk(&e))? {
            Some(Reply::Done) => return Ok(()),
            Some(Reply::Failed(failure)) => return Err(failure),
            Some(Reply::Event(event)) => on_event(event),
            Some(_) => {}
            None => return Err(gone()),
        }
    }
}

/// Waits until the supervisor has ended, and with it everything of the stack.
pub(super) async fn wait_for_end(connection: &mut Connection) {
    while let Ok(Some(_)) = connection.next().await {}
}
