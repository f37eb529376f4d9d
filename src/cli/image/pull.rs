//! `nscompose pull`.

use super::{
    provide::pull,
    services::{Wanted, wanted},
};
use crate::{
    cli::{MoreFiles, settings::Settings},
    diagnostics::Failure,
    model::{ImageRequest, Platform, PullPolicy},
    sandbox::as_root_of_containers,
};

/// Pull images: those of the stack's services, or those that are named
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    pub(in crate::cli) more: MoreFiles,
    /// Compose file, services of it, or images
    #[arg(value_name = "FILE|SERVICE|IMAGE")]
    words: Vec<String>,
    /// The platform that is wanted of images that are named
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// Pull the images of services that the named ones depend on, too
    #[arg(long)]
    include_deps: bool,
    /// Which images are pulled: all, or those that are not here
    #[arg(long, value_name = "POLICY", value_parser = ["always", "missing"], default_value = "always")]
    policy: String,
}

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let Wanted { mut images, skipped } = wanted(&args.words, args.platform.as_ref(), args.include_deps, settings)?;
    for service in skipped {
        settings.printer.progress(&service, "has no image to pull");
    }
    let store = super::store(settings);
    let _held = super::share(settings)?;
    if args.policy == "missing" {
        let now = jiff::Timestamp::now().as_second();
        let missing = |request: &ImageRequest| {
            let request = ImageRequest { pull_policy: PullPolicy::Missing, ..request.clone() };
            !matches!(store.look_for(&request, now), Ok(crate::image::Found::Here(_)))
        };
        images.retain(missing);
    }
    let requests: Vec<&ImageRequest> = images.iter().collect();
    as_root_of_containers(|| pull(&requests, settings).map(|_| ()))?;
    Ok(0)
}
