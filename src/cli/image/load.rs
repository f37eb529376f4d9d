//! `nscompose load`.

use std::{fs::File, os::fd::AsFd, path::PathBuf};

use super::{access::with_room, install_failure, installer};
use crate::{
    cli::settings::Settings,
    diagnostics::Failure,
    image::{
        ImageEvent,
        archive::{Archive, ArchiveKind},
    },
    model::Platform,
    sandbox::as_root_of_containers,
    ui::PullProgress,
};

/// Load images from an archive that `docker save`, `podman save` or `nscompose save` has written, or from a folder
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The archive, or the folder of an OCI image layout; standard input if it is not said
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// The platform that is wanted of images for several
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
}

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let path = args.input.as_ref().map(|path| settings.directory.join(path));
    let platform = args.platform.clone().unwrap_or_else(Platform::host);
    as_root_of_containers(|| {
        let installer = installer(settings)?;
        let store = installer.store();
        let _shared = store.share().map_err(|e| super::broken(&e))?;
        let progress = std::sync::Mutex::new(PullProgress::new(settings.printer, "loaded"));
        let show = |event: ImageEvent| {
            progress.lock().unwrap_or_else(std::sync::PoisonError::into_inner).show(&event);
        };
        let what = path.as_ref().map_or_else(|| "standard input".to_owned(), |path| path.display().to_string());
        let failed = |error: &(dyn std::error::Error + 'static)| {
            with_room(Failure::operation(format!("cannot load {what}")).caused_by(error), error, store)
        };
        let archive = match &path {
            Some(path) => Archive::open(path, ArchiveKind::Any, store),
            None => {
                let stdin = std::io::stdin().as_fd().try_clone_to_owned();
                let stdin = stdin.map_err(|e| Failure::host("cannot read standard input").caused_by(&e))?;
                Archive::from_file(File::from(stdin), &PathBuf::from("standard input"), ArchiveKind::Any, store)
            }
        };
        let archive = archive.map_err(|e| failed(&e))?;
        for listed in archive.images() {
            let imported = archive.import(listed, &platform, store).map_err(|e| failed(&e))?;
            let stored = installer
                .install(&imported, &imported.names, &show)
                .map_err(|e| with_room(install_failure(&what, &e), &e, store))?;
            for name in imported
                .names
                .iter()
                .map(ToString::to_string)
                .chain(imported.names.is_empty().then(|| stored.image.id.short().to_owned()))
            {
                settings.printer.progress(&name, "loaded");
            }
        }
        Ok(0)
    })
}
