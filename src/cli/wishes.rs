//! What is asked for beyond the file, by `up`, `create` and `plan` alike.

use std::collections::BTreeSet;

use super::{files::Scale, settings::Settings, when::seconds};
use crate::{
    compose::Flag,
    diagnostics::Failure,
    load::Loaded,
    model::{Observed, PullPolicy, ServiceName},
    plan::{self, Intent, Recreate},
};

/// As Docker Compose has them.
#[derive(Debug, clap::Args)]
pub(super) struct Wishes {
    /// Make containers anew although nothing of them has changed
    #[arg(long, conflicts_with = "no_recreate")]
    force_recreate: bool,
    /// Keep containers that are there as they are, although the file says something else by now
    #[arg(long, conflicts_with_all = ["always_recreate_deps", "renew_anon_volumes"])]
    no_recreate: bool,
    /// Make containers anew that the named services depend on
    #[arg(long)]
    always_recreate_deps: bool,
    /// Leave out what the named services depend on
    #[arg(long)]
    no_deps: bool,
    /// Remove containers of services that the file does not have any more [env: COMPOSE_REMOVE_ORPHANS]. With
    /// COMPOSE_IGNORE_ORPHANS nobody is warned of those that stay
    #[arg(long)]
    remove_orphans: bool,
    /// Give containers that are made anew new anonymous volumes, instead of those of the ones before
    #[arg(short = 'V', long)]
    renew_anon_volumes: bool,
    /// How many containers a service has, whatever the file says
    #[arg(long, value_name = "SERVICE=NUMBER")]
    scale: Vec<Scale>,
    /// Seconds that containers may take to stop, instead of their stop_grace_period
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<u32>,
}

impl Wishes {
    /// Whether what the named services depend on is left out.
    pub(super) fn is_alone(&self) -> bool {
        self.no_deps
    }

    /// How many containers services have, whatever the file says.
    pub(super) fn scale(&self) -> &[Scale] {
        &self.scale
    }

    /// Says so.
    pub(super) fn scale_to(&mut self, scale: Vec<Scale>) {
        self.scale = scale;
    }

    /// Milliseconds that containers may take to stop, instead of what their file says.
    pub(super) fn timeout_ms(&self) -> Option<u64> {
        self.timeout.map(|seconds| u64::from(seconds) * 1000)
    }

    /// All of it, for these services.
    pub(super) fn intent(
        &self,
        services: BTreeSet<ServiceName>,
        no_start: bool,
        loaded: &Loaded,
        settings: &Settings,
    ) -> Result<Intent, Failure> {
        let recreate = |always: bool| match (always, self.no_recreate) {
            (_, true) => Recreate::Never,
            (true, _) => Recreate::Always,
            (false, false) => Recreate::Changed,
        };
        // Docker Compose has both from the environment and from `.env`.
        let says = |name: &str| loaded.variable(name).is_some_and(is_true);
        let remove_orphans = self.remove_orphans || says("COMPOSE_REMOVE_ORPHANS");
        if remove_orphans && says(IGNORE) {
            let failure =
                Failure::usage(format!("orphans are to be removed, and {IGNORE} says that they are left alone"));
            return Err(failure.hint("say one of the two"));
        }
        Ok(Intent {
            services,
            no_dependencies: self.no_deps,
            recreate: recreate(self.force_recreate),
            recreate_dependencies: recreate(self.always_recreate_deps),
            renew_volumes: self.renew_anon_volumes,
            grace_ms: self.timeout_ms(),
            no_start,
            declared: loaded.all_services.iter().filter_map(|name| name.parse().ok()).collect(),
            remove_orphans,
            pools: settings.address_pools()?,
            wait: false,
            wait_timeout_ms: None,
        })
    }
}

/// The variable by which nobody is warned of orphans.
const IGNORE: &str = "COMPOSE_IGNORE_ORPHANS";

/// What Docker Compose takes for yes (Go's strconv.ParseBool, and `y`), and what a Compose file does.
fn is_true(text: &str) -> bool {
    let text = text.trim();
    matches!(text, "1" | "t" | "T") || Flag::parse(text) == Some(true)
}

/// Names the containers that the files do not have, and that stay, unless COMPOSE_IGNORE_ORPHANS says not to.
pub(super) fn warn_of_orphans(loaded: &Loaded, observed: &Observed, intent: &Intent, settings: &Settings) {
    if loaded.variable(IGNORE).is_some_and(is_true) {
        return;
    }
    let orphans = plan::orphans(&loaded.project, observed, intent);
    let say = |text: String| settings.printer.warning(&text);
    for orphan in orphans.gone.iter().filter(|_| !intent.remove_orphans) {
        let how = "`--remove-orphans` and `down` remove it";
        say(format!("service `{orphan}` has a container and is not in the file any more; {how}"));
    }
    for (orphan, files) in &orphans.elsewhere {
        let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        let whence = if files.is_empty() { "files that are not known".to_owned() } else { files.join(", ") };
        say(format!("service `{orphan}` has a container that comes from {whence}, and is left alone"));
    }
}

/// Milliseconds after which nothing is waited for any more; 0 seconds are no limit.
pub(super) fn wait_timeout_ms(seconds: Option<u32>) -> Option<u64> {
    seconds.filter(|seconds| *seconds > 0).map(|seconds| u64::from(seconds) * 1000)
}

/// Those of `pull_policy` that make sense on a command line.
pub(super) fn pull_policy(text: &str) -> Result<PullPolicy, String> {
    match text {
        "always" | "missing" | "never" => text.parse().map_err(|e: crate::model::InvalidPullPolicy| e.to_string()),
        _ => Err("it may be `always`, `missing` or `never`".to_owned()),
    }
}
