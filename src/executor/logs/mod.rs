//! What containers write: from their pipes into a log of each service, record by record.
//!
//! ```text
//! program ══ pipes or terminal ══▶ Intake (spool.rs) ──▶ Writer (writer.rs) ──▶ logs/SERVICE/N.jsonl
//!                                    │  a thread for each container (pump.rs)      └─▶ N.jsonl.gz (tidy.rs)
//!                                    └─▶ Listeners (streams.rs)
//! ```
//!
//! A thread for each container, since writing to a file blocks: a disk that is slow for one service does not make another
//! wait, nor the supervisor. docs/design/logs.md has what is promised of them.

mod pump;
mod spool;
mod tidy;
mod writer;

use std::{
    collections::BTreeMap,
    fs, io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

pub(super) use pump::{Pump, Source, pump};
pub(super) use writer::Writer;

use crate::{
    model::{LogSettings, ServiceName},
    state::StackLayout,
};

/// The logs of a stack. Each has one writer, whatever becomes of the containers of its service.
#[derive(Default)]
pub(super) struct Logs {
    writers: Mutex<BTreeMap<ServiceName, Arc<Writer>>>,
    /// The stack is going down, and its logs with it.
    closing: Arc<AtomicBool>,
}

impl Logs {
    /// The writer of the log of a service; none if none is to be kept. Reads and writes files.
    ///
    /// # Errors
    /// What mkdir(2), open(2) and unlink(2) say.
    pub(super) fn writer(
        &self,
        layout: &StackLayout,
        service: &ServiceName,
        settings: &LogSettings,
    ) -> io::Result<Option<Arc<Writer>>> {
        let folder = layout.log(service);
        fs::create_dir_all(folder.path())?;
        if !settings.kept {
            // What was written before this was said stays.
            fs::write(folder.none(), "")?;
            return Ok(None);
        }
        match fs::remove_file(folder.none()) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let known = self.writers.lock().unwrap_or_else(PoisonError::into_inner).get(service).cloned();
        if let Some(writer) = known {
            writer.set(settings);
            return Ok(Some(writer));
        }
        let writer = Arc::new(Writer::open(folder, settings, self.closing.clone())?);
        self.writers.lock().unwrap_or_else(PoisonError::into_inner).insert(service.clone(), writer.clone());
        Ok(Some(writer))
    }

    /// Makes no more files, so that their folder can be removed.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        self.writers.lock().unwrap_or_else(PoisonError::into_inner).values().for_each(|writer| writer.wait_for_tidy());
    }
}
