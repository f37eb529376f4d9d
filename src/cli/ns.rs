//! `nscompose ns`.

use clap::ValueEnum;

use super::{
    change::named,
    files::{project_name, tell_apart},
    settings::Settings,
    stack::{gone, open_if_up, talk},
};
use crate::{
    diagnostics::Failure,
    model::{Namespaces, Observed},
    supervisor::{Reply, Request},
    ui::NamespaceMatrix,
};

/// Show which namespaces the services are in: whose each is, and what is held
///
/// In the table, `pinned` is behind a namespace of the service's own that outlives its container, and `of NAME` behind one
/// that is another service's, the host's, the stack's, or, by its container, another stack's. The inodes are read from
/// living processes and from what holds them.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) more: super::MoreFiles,
    /// Compose file, or services to list
    #[arg(value_name = "FILE|SERVICE")]
    words: Vec<String>,
    /// How to list them
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    #[default]
    Table,
    /// For programs: an object
    Json,
}

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let words = tell_apart(&args.words, &settings.directory);
    let layout = settings.layout.stack(&project_name(&words, settings)?);
    let (found, observed) = match open_if_up(&layout)? {
        None => (Namespaces::default(), Observed::default()),
        Some(opened) => opened.on_runtime(async |mut connection, snapshot| {
            connection.send(&Request::Namespaces, &[]).await.map_err(|e| talk(&e))?;
            loop {
                match connection.next().await.map_err(|e| talk(&e))? {
                    Some(Reply::Namespaces(found)) => return Ok((*found, snapshot.observed)),
                    Some(Reply::Failed(failure)) => return Err(failure),
                    Some(_) => {}
                    None => return Err(gone()),
                }
            }
        })?,
    };
    let wanted = named(&words, &observed.containers, settings)?;
    let matrix = NamespaceMatrix::new(&found, &observed, &wanted);
    settings.printer.data(&match args.format {
        Format::Table => matrix.table(),
        Format::Json => matrix.json(),
    })?;
    Ok(0)
}
