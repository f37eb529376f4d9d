//! `nscompose tag`.

use super::{broken, find, no_digest, share_if_there, store};
use crate::{cli::settings::Settings, diagnostics::Failure, image::store::Entry, model::ImageName};

/// Give an image a further name
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The image by name or ID
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Its further name
    #[arg(value_name = "NAME")]
    name: String,
}

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let name: ImageName = args.name.parse().map_err(|e| Failure::usage(format!("{e}")))?;
    if name.digest().is_some() {
        return Err(no_digest());
    }
    let store = store(settings);
    // Before looking: what is found stays until it has its name.
    let _held = share_if_there(settings)?;
    let entries = store.entries().map_err(|e| broken(&e))?;
    let entry = find(&args.image, &entries)?[0].clone();
    // What a registry calls it belongs to the name that it was pulled under.
    let same = entry.name.as_ref().is_some_and(|old| old.familiar_repository() == name.familiar_repository());
    let registry_digest = entry.registry_digest.clone().filter(|_| same);
    store.name(&Entry { name: Some(name.clone()), registry_digest, ..entry }).map_err(|e| broken(&e))?;
    settings.printer.progress(&name.to_string(), "tagged");
    Ok(0)
}
