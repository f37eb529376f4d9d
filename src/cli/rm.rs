//! `nscompose rm`.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, BufRead},
};

use super::{
    change::{carry_out_plan, named},
    files::{project_name, tell_apart},
    settings::Settings,
    stack::{look_again, open_if_up, wait_for_end},
    up::Progress,
};
use crate::{
    diagnostics::Failure,
    model::{Observed, ServiceName},
    plan,
};

/// Remove containers that do not run
///
/// Named volumes stay. Anonymous ones stay for the next containers of their services, until the last container of the stack goes.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Compose file, or services whose containers are removed
    #[arg(value_name = "FILE|SERVICE")]
    words: Vec<String>,
    /// Ask nothing
    #[arg(short, long)]
    force: bool,
    /// Stop those that run, and remove them too
    #[arg(short, long)]
    stop: bool,
    /// Remove their anonymous volumes too
    #[arg(short, long)]
    volumes: bool,
    /// Those that have ended are removed anyway; for those who are used to it
    #[arg(short = 'a', long = "all", hide = true)]
    _all: bool,
}

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let words = tell_apart(&args.words, &settings.directory);
    let name = project_name(&words, settings)?;
    let layout = settings.layout.stack(&name);
    let nothing = |more: &str| settings.printer.progress(name.as_str(), &format!("has no container to remove{more}"));
    let Some(opened) = open_if_up(&layout)? else {
        named(&words, &BTreeMap::new(), settings)?;
        nothing("");
        return Ok(0);
    };
    let observed = &opened.snapshot.observed;
    let chosen_from = named(&words, &observed.containers, settings)?;
    let chosen = choose(observed, &chosen_from, args.stop);
    if chosen.is_empty() {
        let is_none = choose(observed, &chosen_from, true).is_empty();
        nothing(if is_none { "" } else { " that does not run; `--stop` stops those that do, and removes them" });
        return Ok(0);
    }
    if !args.force && !is_agreed(&chosen, settings)? {
        settings.printer.progress(name.as_str(), "stays as it is");
        return Ok(0);
    }
    opened.on_runtime(async |mut connection, snapshot| {
        let mut progress = Progress::new(settings.printer);
        let plan = |observed: &Observed| {
            // What has been started meanwhile is not removed unasked.
            let still = choose(observed, &chosen_from, args.stop);
            plan::remove(observed, &still.intersection(&chosen).cloned().collect(), args.volumes, None)
        };
        carry_out_plan((&mut connection, &layout), snapshot, plan, |event| progress.show(event)).await?;
        // With the last container everything of the stack goes.
        let left = look_again(&mut connection).await?;
        if left.is_none_or(|snapshot| snapshot.observed.containers.is_empty()) {
            wait_for_end(&mut connection).await;
        }
        Ok(0)
    })
}

/// Those of the named services, or of all, that do not run; with `stop` the others too.
fn choose(observed: &Observed, named: &[ServiceName], stop: bool) -> BTreeSet<ServiceName> {
    let containers = observed.containers.iter();
    let chosen = containers
        .filter(|(name, _)| name.hook().is_none())
        .filter(|(name, container)| (named.is_empty() || named.contains(name)) && (stop || !container.state.is_up()));
    chosen.map(|(name, _)| name.clone()).collect()
}

/// Asks whoever is there; the end of the input is no answer.
fn is_agreed(chosen: &BTreeSet<ServiceName>, settings: &Settings) -> Result<bool, Failure> {
    let names: Vec<&str> = chosen.iter().map(ServiceName::as_str).collect();
    settings.printer.ask(&format!("remove {}? [y/N] ", names.join(", ")));
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    if read.map_err(|e| Failure::host("cannot read the answer").caused_by(&e))? == 0 {
        return Err(Failure::usage("nobody is there to say whether containers may be removed")
            .hint("`--force` removes them without a question"));
    }
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
