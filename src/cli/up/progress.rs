//! What happens, said as it happens.

use std::time::Instant;

use super::Submitted;
use crate::{
    model::{ContainerState, Health, ServiceName},
    supervisor::Event,
    ui::{Printer, WaitProgress, memory_size},
};

/// What is said of kills for want of memory.
fn out_of_memory(service: &ServiceName, kills: u64, limit: Option<u64>) -> String {
    let limit = limit.map(|limit| format!(", {}", memory_size(limit))).unwrap_or_default();
    let killed = if kills == 1 { "a process".to_owned() } else { format!("{kills} processes in all") };
    format!("service `{service}` has used up its limit of memory{limit}: the kernel killed {killed} of it")
}

/// Prints what happens.
pub(in crate::cli) struct Progress {
    pub(super) printer: Printer,
    started: Instant,
    pub(super) waits: WaitProgress,
}

impl Progress {
    pub(in crate::cli) fn new(printer: Printer) -> Self {
        Self { printer, started: Instant::now(), waits: WaitProgress::new(printer) }
    }

    /// Says why containers that people know are made anew.
    pub(in crate::cli) fn announce(&mut self, submitted: &Submitted) {
        let printer = self.printer;
        self.waits.suspended(|| {
            for (service, cause) in &submitted.anew {
                printer.progress(service.as_str(), &format!("is made anew: {cause}"));
            }
        });
    }

    pub(in crate::cli) fn show(&mut self, event: &Event) {
        match event {
            Event::Waiting(waiting) => return self.waits.show(waiting),
            Event::Waited(service, until) => return self.waits.ended(service, *until),
            _ => {}
        }
        self.waits.suspended(|| self.print(event));
    }

    fn print(&self, event: &Event) {
        match event {
            Event::Container(service, ContainerState::Running) => {
                let ms = self.started.elapsed().as_millis();
                self.printer.progress(service.as_str(), &format!("started after {ms} ms"));
            }
            Event::Container(service, ContainerState::Stopping) => self.printer.progress(service.as_str(), "stopping"),
            Event::Container(service, ContainerState::Exited(code)) => {
                self.printer.progress(service.as_str(), &format!("exited with code {code}"));
            }
            Event::Container(service, ContainerState::Restarting(code)) => {
                self.printer.progress(service.as_str(), &format!("exited with code {code}, is started again"));
            }
            Event::Container(service, ContainerState::Paused) => self.printer.progress(service.as_str(), "paused"),
            Event::Container(service, ContainerState::Created) => self.printer.progress(service.as_str(), "created"),
            Event::Container(_, ContainerState::Starting) => {}
            Event::Health(service, Health::Healthy) => self.printer.progress(service.as_str(), "healthy"),
            Event::Health(service, Health::Unhealthy) => self.printer.progress(service.as_str(), "unhealthy"),
            Event::Health(_, Health::Starting) => {}
            Event::OutOfMemory { service, kills, limit } => {
                self.printer.warning(&out_of_memory(service, *kills, *limit));
            }
            Event::Unpaused(service) => self.printer.progress(service.as_str(), "goes on"),
            Event::Removed(service) => self.printer.progress(service.as_str(), "removed"),
            Event::Queued => {
                self.printer.progress("the stack", "is being changed by another command, which is waited for");
            }
            Event::Notice(text) => self.printer.progress("host", text),
            Event::Warning(text) => self.printer.warning(text),
            Event::PlanBegan | Event::PlanEnded | Event::Owned(_) | Event::Disowned => {}
            Event::Began(step) | Event::Done(step) | Event::Undoing(step) => tracing::debug!(step),
            // Said with the failure that follows, or shown already.
            Event::PortTaken(_) | Event::Waiting(_) | Event::Waited(..) => {}
        }
    }
}
