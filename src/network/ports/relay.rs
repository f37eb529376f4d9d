//! Copies bytes between the two connections of a published TCP port.

use std::io;

use tokio::{io::copy_bidirectional_with_sizes, net::TcpStream};

/// For each direction: large enough that a system call is not most of the work, small enough for thousands.
const BUFFER: usize = 32 * 1024;

/// Copies both ways until both are done. The end of one direction is passed on as such, with the other still open; a
/// side that reads slowly slows the other one down; a connection that breaks takes the other with it, by a reset.
///
/// # Errors
/// What read(2) or write(2) said on either.
pub(super) async fn relay(mut outside: TcpStream, mut inside: TcpStream) -> io::Result<()> {
    let outcome = copy_bidirectional_with_sizes(&mut outside, &mut inside, BUFFER, BUFFER).await;
    if let Err(error) = outcome {
        reset(&outside);
        reset(&inside);
        return Err(error);
    }
    Ok(())
}

/// Makes the peer see a reset when the connection is dropped, and not an orderly end.
pub(super) fn reset(connection: &TcpStream) {
    // It is being given up either way.
    let _ = connection.set_zero_linger();
}
