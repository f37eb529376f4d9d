//! `nscompose create`, which `up --no-start` is, too.

use super::{
    files::{Words, check_roots, containers_of_others, load_scaled, same_stack, services, tell_apart},
    image::{Provided, provide},
    limits::leave_out,
    network::Shared,
    settings::Settings,
    stack::{DEATHS, gone, look_again, open, wait_for_end},
    up::{Others, Progress, Wanted},
    wishes::{Wishes, pull_policy, warn_of_orphans},
};
use crate::{
    diagnostics::Failure,
    model::PullPolicy,
    supervisor::{Connection, Snapshot},
};

/// Make containers, with their networks, namespaces and volumes, and start none
///
/// `start` and `up` start them.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) more: super::MoreFiles,
    #[command(flatten)]
    leniency: super::Leniency,
    #[command(flatten)]
    wishes: Wishes,
    #[command(flatten)]
    _accustomed: super::Accustomed,
    /// Compose file, or services to make containers of
    #[arg(value_name = "FILE|SERVICE")]
    words: Vec<String>,
    /// When images are looked for in their registries, instead of what `pull_policy` says: always, missing or never
    #[arg(long, value_name = "POLICY", value_parser = pull_policy)]
    pull: Option<PullPolicy>,
}

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let words = tell_apart(&args.words, &settings.directory);
    make(&words, &args.wishes, args.leniency.allow_unsupported, args.pull, settings)
}

/// Makes the containers of these services.
pub(super) fn make(
    words: &Words,
    wishes: &Wishes,
    allow_unsupported: bool,
    pull: Option<PullPolicy>,
    settings: &Settings,
) -> Result<u8, Failure> {
    let loaded = load_scaled(words, wishes.scale(), settings, allow_unsupported)?;
    let selected = services(&words.services, loaded.project.services.keys())?.into_iter().collect();
    let intent = wishes.intent(selected, true, &loaded, settings)?;
    check_roots(&loaded, &intent.services, wishes.is_alone())?;
    // Before there is a runtime, and before anything is started.
    let elsewhere = containers_of_others(&loaded.project, settings)?;
    let provided = provide(loaded.project.clone(), (&intent.services, wishes.is_alone()), pull, settings)?;
    let Provided { mut project, mut held } = provided;
    let layout = settings.layout.stack(&project.name);
    let shared = Shared::of(settings, &project);
    let mut attempt = async |mut connection: Connection, snapshot: Snapshot| -> Result<bool, Failure> {
        same_stack(&project.name, &project.files, &snapshot)?;
        if allow_unsupported {
            leave_out(&mut project, &snapshot.observed.host, &intent, &loaded, settings.printer);
        }
        warn_of_orphans(&loaded, &snapshot.observed, &intent, settings);
        let mut progress = Progress::new(settings.printer);
        let others = Others { elsewhere: &elsewhere, shared: &shared, loaded: &loaded };
        let wanted = Wanted { layout: &layout, project: &project, intent: &intent, others, foreground: false };
        // Nobody listens on ports of what is not started.
        let result = wanted.carry_through(&mut connection, snapshot, &mut progress, &mut Vec::new()).await;
        if result.is_err() {
            // What was begun has been undone. If that was all there was, let the last of it go before saying so.
            let left = look_again(&mut connection).await?;
            if left.is_none_or(|snapshot| snapshot.observed.containers.is_empty()) {
                wait_for_end(&mut connection).await;
            }
        }
        let Some(unchanged) = result? else { return Ok(false) };
        // Its containers hold their images themselves by now.
        held = None;
        if unchanged {
            settings.printer.progress(project.name.as_str(), "has all its containers already, nothing to do");
        }
        Ok(true)
    };
    // As for `up`.
    for _ in 0..DEATHS {
        if open(&layout)?.on_runtime(&mut attempt)? {
            return Ok(0);
        }
    }
    Err(gone())
}
