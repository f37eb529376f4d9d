//! The way of a container to its gate.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use super::{Start, files, grouped::Grouped};
use crate::{
    executor::{
        ExecutorError,
        facts::{MOUNTS, TERMINAL, of_service},
        family::Family,
        logs,
        streams::{HandedOut, Listeners, waited_for},
    },
    plan::Source,
    sandbox::Gate,
    state::Stream,
};

/// A container that is on its way: what is heard of it.
pub(super) struct Way {
    pub(super) gate: Gate,
    pub(super) handed_out: HandedOut,
    pub(super) writer: Option<Arc<logs::Writer>>,
    pub(super) listeners: Arc<Listeners>,
    /// None while there is a terminal to be made.
    pub(super) pump: Option<logs::Pump>,
    pub(super) family: Arc<Family>,
}

impl Way {
    /// Waits until the container is ready for its program, takes what it hands out, and has that kept.
    pub(super) async fn reach_gate(
        &mut self,
        start: &Start<'_>,
        pid: i32,
        grouped: &Grouped,
    ) -> Result<(), ExecutorError> {
        let (spec, stack) = (start.spec, start.stack);
        stack.note_process(pid).map_err(files(spec, "write to", &stack.layout.journal()))?;
        let way = async {
            let keep = self.take(start).await;
            self.gate.ready().await.map_err(|source| grouped.blame(spec, source))?;
            if keep.is_empty() {
                return Ok(());
            }
            // Answers come in their order, so this one is there by the time anything is written down.
            let failed = |source| ExecutorError::Keep { service: spec.service.clone(), source };
            stack.keeper.keep(keep).await.map_err(failed)
        };
        start.attempt.wait_for(way, &spec.service, stack).await
    }

    /// Takes what it hands out: its mount namespace, and the controlling side of its terminal if it has one. What the keeper is to keep
    /// of it comes back.
    async fn take(&mut self, start: &Start<'_>) -> Vec<(String, OwnedFd)> {
        let (spec, stack) = (start.spec, start.stack);
        // None comes if something goes wrong before, which is told at the gate.
        let lost = |error: io::Error| tracing::error!(%error, "what a container handed out is lost");
        let kept =
            |what: &str, fd: BorrowedFd<'_>| Some((of_service(&spec.service, what), fd.try_clone_to_owned().ok()?));
        let mounts = self.handed_out.next().await.map_err(lost).unwrap_or(None);
        let mounts = mounts.filter(|_| spec.namespaces.pid != Source::New);
        let mut keep = Vec::from_iter(mounts.as_ref().and_then(|mounts| kept(MOUNTS, mounts.as_fd())));
        self.family.know(mounts);
        if spec.process.terminal {
            let side = self.handed_out.next().await.and_then(|side| side.map(waited_for).transpose());
            if let Some(side) = side.map_err(lost).unwrap_or(None) {
                keep.extend(kept(TERMINAL, side.get_ref().as_fd()));
                let spool = stack.layout.spool(&spec.service, Stream::Stdout);
                let sources = vec![(Stream::Stdout, logs::Source::Terminal(side.clone()), spool)];
                self.pump = logs::pump(sources, self.writer.take(), self.listeners.clone(), false).map_err(lost).ok();
                if let Some(container) = stack.objects().containers.get_mut(&spec.service) {
                    container.streams.input = spec.process.stdin_open.then(|| side.clone());
                    container.streams.terminal = Some(side);
                }
            }
        }
        keep
    }
}
