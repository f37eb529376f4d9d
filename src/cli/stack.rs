//! Talking to the supervisor of a stack, for the verbs.

use std::os::unix::net::UnixStream;

use crate::{
    diagnostics::Failure,
    supervisor::{Connection, Event, Reply, Request, Snapshot},
};

/// A runtime for one verb. The supervisor has been forked by then, if it was: a fork wants a process without threads.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::host("cannot start the event loop").caused_by(&e))
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

/// What there is.
pub(super) async fn observe(connection: &mut Connection) -> Result<Snapshot, Failure> {
    connection.send(&Request::Observe, &[]).await.map_err(|e| talk(&e))?;
    loop {
        match connection.next().await.map_err(|e| talk(&e))? {
            Some(Reply::Snapshot(snapshot)) => return Ok(*snapshot),
            Some(Reply::Failed(failure)) => return Err(failure),
            Some(_) => {}
            None => return Err(gone()),
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
