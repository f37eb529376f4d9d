//! `nscompose push`.

use std::sync::{Arc, Mutex, PoisonError};

use super::{
    access::{access, registry_failure},
    broken,
    services::{Wanted, wanted},
    share_if_there, store,
};
use crate::{
    cli::{MoreFiles, settings::Settings},
    diagnostics::Failure,
    image::{ImageEvent, push, registry::Registry},
    ui::PullProgress,
};

/// Push images to their registries: those of the stack's services, or those that are named
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    pub(in crate::cli) more: MoreFiles,
    /// Compose file, services of it, or images
    #[arg(value_name = "FILE|SERVICE|IMAGE")]
    words: Vec<String>,
}

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let Wanted { images, .. } = wanted(&args.words, None, false, settings)?;
    let store = store(settings);
    // Nobody may take a blob away from when it is found until it has been read.
    let _held = share_if_there(settings)?;
    let mut pushes = Vec::new();
    for request in &images {
        let Some(name) = request.source.registry() else { continue };
        let stored = store.find(name, request.platform.as_ref()).map_err(|e| broken(&e))?;
        let absent = || Failure::operation(format!("there is no image `{name}`")).hint("`nscompose images` lists them");
        pushes.push((name.clone(), stored.ok_or_else(absent)?));
    }
    let progress = Mutex::new(PullProgress::new(settings.printer, "pushed"));
    let event: Arc<dyn Fn(ImageEvent) + Send + Sync> =
        Arc::new(move |event| progress.lock().unwrap_or_else(PoisonError::into_inner).show(&event));
    let access = access(settings)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::host("cannot start the event loop").caused_by(&e))?;
    runtime.block_on(async {
        let told = event.clone();
        let registry = Registry::new(access, move |news| told(ImageEvent::Warning(news.to_string())));
        for (name, stored) in &pushes {
            let pushed = push(&registry, &store, name, stored, &event).await;
            pushed.map_err(|e| registry_failure(&format!("cannot push `{name}`"), &e))?;
        }
        Ok(0)
    })
}
