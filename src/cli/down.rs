//! `nscompose down`.

use std::collections::{BTreeMap, BTreeSet};

use clap::ValueEnum;

use super::{
    change::{Said, carry_out_plan, milliseconds, named},
    files::{Words, file_list, options, project_name, same_stack, tell_apart},
    image::{images_of_services, remove_unused},
    settings::Settings,
    stack::{Broken, DEATHS, carry_out, gone, look_again, open, open_if_up, reconnect, wait_for_end},
    when::seconds,
};
use crate::{
    diagnostics::Failure,
    load::{self, LoadOptions},
    model::{ContainerState, Observed, ServiceName},
    plan,
    supervisor::{Event, Request},
};

/// Stop the stack and remove everything of it but named volumes
///
/// Of named services, the containers are stopped and removed; all else stays, also those that depend on them.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) more: super::MoreFiles,
    /// Services that are not in the file any more are removed anyway; for those who are used to it
    #[arg(long = "remove-orphans", hide = true)]
    _remove_orphans: bool,
    /// Compose file, or services whose containers are stopped and removed
    #[arg(value_name = "FILE|SERVICE")]
    words: Vec<String>,
    /// Seconds that each service may take to stop, instead of its stop_grace_period
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<u32>,
    /// Remove the named volumes that the file declares too; with services, their anonymous volumes only
    #[arg(short, long)]
    volumes: bool,
    /// Remove images too that no container runs any more
    #[arg(long, value_name = "WHICH", value_enum)]
    rmi: Option<Rmi>,
}

/// Which images go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Rmi {
    /// Those of all services
    All,
    /// Those that were built for the stack and have no name of their own: there are none, as nothing is built
    Local,
}

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let words = tell_apart(&args.words, &settings.directory);
    // What is wrong with the file is told before anything has gone.
    let images = match args.rmi {
        Some(Rmi::All) => images_of_services(&args.words, settings)?,
        Some(Rmi::Local) | None => Vec::new(),
    };
    if words.services.is_empty() {
        whole(args, &words, settings)?
    } else {
        of_services(args, &words, settings)?
    }
    if !images.is_empty() {
        remove_unused(&images, settings)?;
    }
    Ok(0)
}

/// Stops and removes the containers of the services that the words name.
fn of_services(args: &Args, words: &Words, settings: &Settings) -> Result<(), Failure> {
    let name = project_name(words, settings)?;
    let layout = settings.layout.stack(&name);
    let Some(opened) = open_if_up(&layout)? else {
        named(words, &BTreeMap::new(), settings)?;
        settings.printer.progress(name.as_str(), "is not up, nothing to do");
        return Ok(());
    };
    if settings.project_name.is_none() {
        same_stack(&name, &file_list(words, settings)?, &opened.snapshot)?;
    }
    let chosen: BTreeSet<ServiceName> =
        named(words, &opened.snapshot.observed.containers, settings)?.into_iter().collect();
    opened.on_runtime(async |mut connection, snapshot| {
        let grace_ms = milliseconds(args.timeout);
        let plan = |observed: &Observed| plan::remove(observed, &chosen, args.volumes, grace_ms);
        let mut said = Said::new(settings.printer);
        if !carry_out_plan((&mut connection, &layout), snapshot, plan, |event| said.show(event)).await? {
            settings.printer.progress(name.as_str(), "has no container of them");
        }
        // With the last container everything of the stack goes.
        let left = look_again(&mut connection).await?;
        if left.is_none_or(|snapshot| snapshot.observed.containers.is_empty()) {
            wait_for_end(&mut connection).await;
        }
        Ok(())
    })
}

fn whole(args: &Args, words: &Words, settings: &Settings) -> Result<(), Failure> {
    let (name, volumes) = if args.volumes {
        // Whether all of the file could be run is of no interest any more.
        let all = LoadOptions { profiles: vec!["*".to_owned()], ..options(words, settings)? };
        let contents = load::contents(&all)?;
        settings.printer.diagnostics(&contents.warnings);
        let volumes = contents.volumes();
        (contents.name, volumes)
    } else {
        (project_name(words, settings)?, BTreeMap::new())
    };
    let layout = settings.layout.stack(&name);
    let there = |(name, volume)| layout.volume(name, volume).exists();
    let opened = if volumes.iter().any(there) { Some(open(&layout)?) } else { open_if_up(&layout)? };
    let Some(opened) = opened else {
        settings.printer.progress(name.as_str(), "is not up, nothing to do");
        return Ok(());
    };
    if settings.project_name.is_none() {
        same_stack(&name, &file_list(words, settings)?, &opened.snapshot)?;
    }
    opened.on_runtime(async |mut connection, _| {
        let timeout_ms = args.timeout.map(|seconds| u64::from(seconds) * 1000);
        let request = Request::Down { timeout_ms, volumes, tenure: None };
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
        Ok(())
    })
}
