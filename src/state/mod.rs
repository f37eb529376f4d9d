//! What a stack keeps on disk.
//!
//! ```text
//! RUNTIME/v1/PROJECT.lock          held (flock) by the supervisor for as long as it lives
//! RUNTIME/v1/PROJECT/control.sock  where it answers
//!                   /state.json    processes and control groups, to clean up after a supervisor that was killed
//!                   /supervisor.log
//!                   /hosts/SERVICE what containers see as /etc/hosts
//!                   /private/      a mount that only the supervisor and its keeper see
//! DATA/v1/volumes/PROJECT_VOLUME/  kept until somebody removes it
//! DATA/v1/stacks/PROJECT/logs/SERVICE.jsonl
//!                       /containers/SERVICE/   writable layers
//! ```
//!
//! RUNTIME is `$XDG_RUNTIME_DIR/nscompose` for a user and /run/nscompose for root, DATA `$XDG_DATA_HOME/nscompose` and
//! /var/lib/nscompose. The format version is part of the path. Files are replaced, never rewritten, but for the hosts
//! files: a bind mount shows the file that was there when it was made.

mod layout;
mod lock;
mod record;

pub use layout::{Layout, StackLayout};
pub use lock::{Lock, LockError};
pub use record::{ProcessRecord, StackRecord};

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

/// Puts `bytes` at `path` so that a reader, or a kill at any moment, finds either the old file or the new one.
///
/// It is not synced to the disk: what is in the runtime folder means nothing after a loss of power, since the processes it
/// names are gone, and 50 services would wait 600 µs each for the disk.
///
/// # Errors
/// What open(2), write(2) and rename(2) say; the old file is as it was then.
pub fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let written = File::create(&new).and_then(|mut file| file.write_all(bytes));
    written.and_then(|()| fs::rename(&new, path)).inspect_err(|_| {
        let _ = fs::remove_file(&new);
    })
}
