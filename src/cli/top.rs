//! `nscompose top`.

use super::{
    change::{Target, not_up},
    settings::Settings,
    stack::{gone, talk},
};
use crate::{
    diagnostics::Failure,
    supervisor::{Reply, Request},
    ui::{ProcessRow, processes_table},
};

/// Show the processes of services
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) more: super::MoreFiles,
    /// Compose file, or services to show
    #[arg(value_name = "FILE|SERVICE")]
    words: Vec<String>,
}

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let target = match Target::find(&args.words, settings)? {
        Ok(target) => target,
        Err(project) => return not_up(&project, settings),
    };
    let services = target.services;
    target.opened.on_runtime(async |mut connection, _| {
        connection.send(&Request::Processes, &[]).await.map_err(|e| talk(&e))?;
        let processes = loop {
            match connection.next().await.map_err(|e| talk(&e))? {
                Some(Reply::Processes(processes)) => break processes,
                Some(Reply::Failed(failure)) => return Err(failure),
                Some(_) => {}
                None => return Err(gone()),
            }
        };
        let wanted = processes.iter().filter(|(service, _)| services.contains(*service));
        let rows = wanted.flat_map(|(service, records)| {
            // One that has ended by now is none.
            records.iter().filter_map(move |record| ProcessRow::look(service.as_str(), record.pid, record.start_time))
        });
        settings.printer.data(&processes_table(&rows.collect::<Vec<_>>()))?;
        Ok(0)
    })
}
