//! What is typed, or comes in by our standard input otherwise.

use std::io;

use nix::sys::signal::{SigSet, Signal};
use tokio::sync::mpsc;

/// What becomes of the input when we are in the background of a shell, where the terminal is read by others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InBackground {
    /// We are stopped until the shell brings us back, as job control has it (SIGTTIN).
    Stops,
    /// There is none, and what we show goes on (EIO).
    Ends,
}

/// Begins to read, until there is no more. A thread reads, since our standard input is shared with whoever called us and must
/// stay blocking for them; it ends with the process.
pub(super) fn typed(background: InBackground) -> mpsc::Receiver<Vec<u8>> {
    let (typed, queue) = mpsc::channel(16);
    std::thread::spawn(move || {
        if background == InBackground::Ends {
            let mut signals = SigSet::empty();
            signals.add(Signal::SIGTTIN);
            let _ = signals.thread_block();
        }
        let mut buffer = vec![0; 4096];
        while let Ok(n @ 1..) = rustix::io::read(io::stdin(), &mut buffer) {
            if typed.blocking_send(buffer[..n].to_vec()).is_err() {
                return;
            }
        }
    });
    queue
}
