//! What a stack keeps on disk.
//!
//! ```text
//! RUNTIME/v1/PROJECT.lock          held (flock) by the supervisor for as long as it lives
//! RUNTIME/v1/PROJECT/control.sock  where it answers
//!                   /journal       processes and control groups, to clean up after a supervisor and a keeper that were killed
//!                   /events.jsonl    what happened to its containers, and events.1.jsonl what happened before
//!                   /supervisor.log
//!                   /private/      a tmpfs that only the supervisor and its keeper see: hosts/SERVICE and the like, and facts,
//!                                  what there is, for the supervisor that comes after one that was killed
//! RUNTIME/v1/.networks/            who has which address, and runs, on networks that stacks share (shared.rs)
//! DATA/v1/networks/NAME.json       what such a network is like, until somebody removes it
//! DATA/v1/volumes/PROJECT_VOLUME/  kept until somebody removes it
//! DATA/v1/stacks/PROJECT/logs/SERVICE/           lines that a service has written (log/)
//!                       /containers/SERVICE/   writable layers
//! ```
//!
//! RUNTIME is `$XDG_RUNTIME_DIR/nscompose` for a user and /run/nscompose for root, DATA `$XDG_DATA_HOME/nscompose` and
//! /var/lib/nscompose. The format version is part of the path. The journal is only added to. The
//! hosts files are written in place: a bind mount shows the file that was there when it was made.

mod events;
mod layout;
mod lock;
mod log;
mod neighbours;
mod record;
mod remove_tree;
mod shared;

pub use events::{EventLog, Happening};
pub use layout::{Layout, StackLayout};
pub use lock::{HOST_NETWORK_LOCK, Lock, LockError};
pub use log::{LogFile, LogFolder, LogLine, LogReader, LogRecord, Stream, Times, write_record};
pub use neighbours::Neighbours;
pub use record::{Entry, Journal, Past, ProcessRecord};
pub use remove_tree::remove_tree;
pub use shared::{Definition, FolderLock, Lease, Place, SharedNetworks};
