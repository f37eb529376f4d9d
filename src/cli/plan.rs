//! `nscompose plan`.

use clap::ValueEnum;

use super::{
    files::{check_roots, containers_of_others, load_scaled, same_stack, services, tell_apart},
    image::look_only,
    limits::{leave_out, no_plan_of},
    network::Shared,
    settings::Settings,
    when::seconds,
    wishes::{Wishes, pull_policy, wait_timeout_ms, warn_of_orphans},
};
use crate::{
    diagnostics::Failure,
    model::{Observed, PullPolicy},
    plan::{self, Intent},
    supervisor::{host, observe},
};

/// Show what `up` would do, each step with its reason, and touch nothing
///
/// It takes what `up` takes. It exits with 0 when there is nothing to do and with 2 when there is; a mistake on the command
/// line is 1 here.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) more: super::MoreFiles,
    #[command(flatten)]
    leniency: super::Leniency,
    #[command(flatten)]
    wishes: Wishes,
    /// Compose file, or services to bring up
    #[arg(value_name = "FILE|SERVICE")]
    words: Vec<String>,
    /// How it is shown
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Make containers and start none
    #[arg(long)]
    no_start: bool,
    /// When images are looked for in their registries, instead of what `pull_policy` says: always, missing or never
    #[arg(long, value_name = "POLICY", value_parser = pull_policy)]
    pull: Option<PullPolicy>,
    /// It changes no plan; for those who put `plan` in the place of `up`
    #[arg(short = 'd', long = "detach", hide = true)]
    _detach: bool,
    /// Wait, as `up --wait` does
    #[arg(
        long,
        conflicts_with_all = [
            "_abort_on_container_exit", "_abort_on_container_failure", "_exit_code_from", "_attach", "_attach_dependencies"
        ]
    )]
    wait: bool,
    /// Seconds after which nothing is waited for any more; 0 is no limit
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    wait_timeout: Option<u32>,
    /// It changes no plan either
    #[arg(long = "abort-on-container-exit", hide = true, conflicts_with_all = ["_detach", "_abort_on_container_failure"])]
    _abort_on_container_exit: bool,
    /// Likewise
    #[arg(long = "abort-on-container-failure", hide = true, conflicts_with = "_detach")]
    _abort_on_container_failure: bool,
    /// Likewise
    #[arg(long = "exit-code-from", hide = true, conflicts_with_all = ["_detach", "_abort_on_container_failure"])]
    _exit_code_from: Option<String>,
    /// Likewise
    #[arg(long = "attach", hide = true, conflicts_with_all = ["_detach", "_attach_dependencies"])]
    _attach: Vec<String>,
    /// Likewise
    #[arg(long = "no-attach", hide = true)]
    _no_attach: Vec<String>,
    /// Likewise
    #[arg(long = "attach-dependencies", hide = true, conflicts_with = "_detach")]
    _attach_dependencies: bool,
    #[command(flatten)]
    _accustomed: super::Accustomed,
    /// Likewise: nothing is built
    #[arg(long = "quiet-build", hide = true)]
    _quiet_build: bool,
    /// Likewise
    #[arg(long = "no-log-prefix", hide = true)]
    _no_log_prefix: bool,
    /// Likewise
    #[arg(long = "no-color", hide = true)]
    _no_color: bool,
    /// Likewise
    #[arg(long = "timestamps", hide = true)]
    _timestamps: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people: what becomes of which containers, and then each step
    #[default]
    Text,
    /// For programs: an object
    Json,
    /// A graph for `dot` of graphviz
    Dot,
}

/// Exit code for a plan that changes something, as of `terraform plan -detailed-exitcode`.
pub(super) const CHANGES: u8 = 2;

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let words = tell_apart(&args.words, &settings.directory);
    let loaded = load_scaled(&words, args.wishes.scale(), settings, args.leniency.allow_unsupported)?;
    let selected = services(&words.services, loaded.project.services.keys())?.into_iter().collect();
    for named in args._exit_code_from.iter().chain(&args._attach).chain(&args._no_attach) {
        services(std::slice::from_ref(named), loaded.project.services.keys())?;
    }
    let intent = Intent {
        wait: args.wait,
        wait_timeout_ms: wait_timeout_ms(args.wait_timeout),
        ..args.wishes.intent(selected, args.no_start, &loaded, settings)?
    };
    let alone = args.wishes.is_alone();
    check_roots(&loaded, &intent.services, alone)?;
    let running = settings.layout.stack(&loaded.project.name).connect().ok();
    let running = running.and_then(|stream| observe(&stream).ok().flatten());
    let mut observed = match running {
        Some(snapshot) => {
            same_stack(&loaded.project.name, &loaded.project.files, &snapshot)?;
            snapshot.observed
        }
        None => Observed { host: host()?, ..Observed::default() },
    };
    observed.host.containers = containers_of_others(&loaded.project, settings)?;
    Shared::of(settings, &loaded.project).look(&mut observed)?;
    let mut project = look_only(loaded.project.clone(), (&intent.services, alone), args.pull, &observed, settings)?;
    if args.leniency.allow_unsupported {
        leave_out(&mut project, &observed.host, &intent, &loaded, settings.printer);
    }
    let plan = plan::up(&project, &observed, &intent).map_err(|e| no_plan_of(&e, &loaded))?;
    warn_of_orphans(&loaded, &observed, &intent, settings);
    if plan.is_empty() && args.format == Format::Text {
        settings.printer.progress(project.name.as_str(), "is up already, nothing to do");
    }
    settings.printer.data(&match args.format {
        Format::Text if plan.is_empty() => String::new(),
        Format::Text => format!("{}\n{plan}", plan.summary()),
        Format::Json => format!("{:#}\n", plan.json()),
        Format::Dot => plan.dot(),
    })?;
    Ok(if plan.is_empty() { 0 } else { CHANGES })
}
