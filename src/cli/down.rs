//! `nscompose down`.

use std::collections::BTreeMap;

use super::{
    files::{file_list, options, project_name, same_stack, tell_apart},
    settings::Settings,
    stack::{Broken, DEATHS, carry_out, gone, open, open_if_up, reconnect, wait_for_end},
    when::seconds,
};
use crate::{
    diagnostics::Failure,
    load::{self, LoadOptions},
    model::ContainerState,
    supervisor::{Event, Request},
};

/// Stop the stack and remove everything of it but named volumes
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) more: super::MoreFiles,
    /// Services that are not in the file any more are removed anyway; for those who are used to it
    #[arg(long = "remove-orphans", hide = true)]
    _remove_orphans: bool,
    /// Compose file
    #[arg(value_name = "FILE")]
    words: Vec<String>,
    /// Seconds that each service may take to stop, instead of its stop_grace_period
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<u32>,
    /// Remove the named volumes that the file declares too
    #[arg(short, long)]
    volumes: bool,
}

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let words = tell_apart(&args.words, &settings.directory);
    if let Some(word) = words.services.first() {
        let failure = Failure::usage(format!("`{word}` is not a file, and `down` takes the whole stack down"));
        return Err(failure.hint(format!("`rm --stop --force {word}` stops and removes the containers of one service")));
    }
    let (name, volumes) = if args.volumes {
        // Whether all of the file could be run is of no interest any more.
        let all = LoadOptions { profiles: vec!["*".to_owned()], ..options(&words, settings)? };
        let contents = load::contents(&all)?;
        settings.printer.diagnostics(&contents.warnings);
        let volumes = contents.volumes();
        (contents.name, volumes)
    } else {
        (project_name(&words, settings)?, BTreeMap::new())
    };
    let layout = settings.layout.stack(&name);
    let there = |(name, volume)| layout.volume(name, volume).exists();
    let opened = if volumes.iter().any(there) { Some(open(&layout)?) } else { open_if_up(&layout)? };
    let Some(opened) = opened else {
        settings.printer.progress(name.as_str(), "is not up, nothing to do");
        return Ok(0);
    };
    if settings.project_name.is_none() {
        same_stack(&name, &file_list(&words, settings)?, &opened.snapshot)?;
    }
    opened.on_runtime(async |mut connection, _| {
        let request = Request::Down { timeout_ms: args.timeout.map(|seconds| u64::from(seconds) * 1000), volumes };
        let show = |event| match event {
            Event::Container(service, ContainerState::Stopping) => {
                settings.printer.progress(service.as_str(), "stopping");
            }
            Event::Container(service, ContainerState::Exited(code)) => {
                settings.printer.progress(service.as_str(), &format!("stopped with code {code}"));
            }
            Event::Removed(service) => settings.printer.progress(service.as_str(), "removed"),
            Event::Warning(text) => settings.printer.warning(&text),
            _ => {}
        };
        for death in 0.. {
            match carry_out(&mut connection, &request, show).await {
                Ok(()) if wait_for_end(&mut connection).await => {}
                // Another command is bringing it up again.
                Ok(()) => break,
                Err(Broken::Gone) if death < DEATHS => {}
                Err(error) => return Err(error.into()),
            }
            // One that was killed on its way to the end has another one come after it.
            match reconnect(&layout).await? {
                Some((again, _)) if death < DEATHS => connection = again,
                None if layout.runtime().exists() => return Err(gone()),
                _ => break,
            }
        }
        settings.printer.progress(name.as_str(), "is down");
        Ok(0)
    })
}
