//! `nscompose save`.

use std::{
    fs::{self, File},
    io::{self, IsTerminal},
    path::PathBuf,
};

use clap::ValueEnum;

use super::{broken, find, share_if_there, store};
use crate::{
    cli::settings::Settings,
    diagnostics::Failure,
    image::{
        archive::{ArchiveError, SaveFormat, is_broken_pipe, save, save_layout},
        store::Stored,
    },
};

/// Write images to an archive that `docker load`, `podman load` and `nscompose load` read
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Images by name or ID
    #[arg(value_name = "IMAGE", required = true)]
    words: Vec<String>,
    /// The file, or the folder for `oci-dir`; standard output if it is not said
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// How they are written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// As `docker save` writes them, which is an OCI image layout too
    #[default]
    DockerArchive,
    /// An OCI image layout in an archive
    OciArchive,
    /// An OCI image layout in a folder
    OciDir,
}

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let store = store(settings);
    // Nobody may take a blob away from when it is found until it has been read.
    let _shared = share_if_there(settings)?;
    let entries = store.entries().map_err(|e| broken(&e))?;
    let mut images: Vec<Stored> = Vec::new();
    for word in &args.words {
        for entry in find(word, &entries)? {
            images.push(store.open(entry.clone()).map_err(|e| broken(&e))?);
        }
    }
    let output = args.output.as_ref().map(|path| settings.directory.join(path));
    let format = match args.format {
        Format::DockerArchive => SaveFormat::Docker,
        Format::OciArchive => SaveFormat::Oci,
        Format::OciDir => {
            let folder = output.ok_or_else(|| Failure::usage("a folder needs a place: name it with -o FOLDER"))?;
            save_layout(&store, &images, &folder).map_err(|e| failed(&e))?;
            return Ok(0);
        }
    };
    match output {
        None if io::stdout().is_terminal() => Err(Failure::usage("an archive is nothing for a terminal")
            .hint("name a file with -o FILE, or send it on with `| …`")),
        None => match save(&store, &images, format, &mut io::stdout().lock()) {
            Err(error) if is_broken_pipe(&error) => Ok(0),
            other => other.map(|()| 0).map_err(|e| failed(&e)),
        },
        Some(path) => {
            let file = |e: &io::Error| Failure::operation(format!("cannot write {}", path.display())).caused_by(e);
            let mut out = File::create(&path).map_err(|e| file(&e))?;
            save(&store, &images, format, &mut out).map(|()| 0).map_err(|error| {
                // Half an archive is none.
                let _ = fs::remove_file(&path);
                failed(&error)
            })
        }
    }
}

fn failed(error: &ArchiveError) -> Failure {
    Failure::operation("cannot save the images").caused_by(error)
}
