//! `nscompose export`.

use std::{
    fs::{self, File},
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
};

use super::container;
use crate::{
    cli::{MoreFiles, settings::Settings},
    diagnostics::Failure,
    image::pack::{PackError, PackOptions, Packing, pack},
    sandbox::{enter_files_of, in_process_of_its_own},
};

/// Write all files of a service's container to a tar archive
///
/// What is in volumes and other mounts is not part of it.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    pub(in crate::cli) more: MoreFiles,
    /// [FILE] SERVICE
    #[arg(value_name = "SERVICE", required = true, num_args = 1..=2)]
    words: Vec<String>,
    /// The file; standard output if it is not said
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let mut words = args.words.clone();
    let found = container::find(&mut words, settings)?;
    if let Some(word) = words.first() {
        return Err(Failure::usage(format!("`{word}` is one word too many")));
    }
    let service = &found.service;
    if found.container.image.is_none() {
        return Err(Failure::operation(format!("service `{service}` runs on no image"))
            .hint("its files are in the folder that `rootfs:` names, or are the host's"));
    }
    let pid = found.pid()?;
    let output = args.output.as_ref().map(|path| settings.directory.join(path));
    if output.is_none() && io::stdout().is_terminal() {
        return Err(Failure::usage("an archive is nothing for a terminal")
            .hint("name a file with -o FILE, or send it on with `| …`"));
    }
    // Before the files of the container are all that is to be seen.
    let mut file = match &output {
        None => None,
        Some(path) => Some(
            File::create(path)
                .map_err(|e| Failure::operation(format!("cannot write {}", path.display())).caused_by(&e))?,
        ),
    };
    let done = in_process_of_its_own(|| {
        let failed = |e: &dyn std::error::Error| {
            Failure::operation(format!("cannot read the files of service `{service}`")).caused_by(e)
        };
        let root = enter_files_of(pid).map_err(|e| failed(&e))?;
        rustix::process::fchdir(&root).map_err(|e| failed(&io::Error::from(e)))?;
        // Here ids are what the container sees.
        let options = PackOptions { packing: Packing::Whole, first_id: 0 };
        let packed = match &mut file {
            Some(file) => pack(Path::new("."), file as &mut dyn Write, &options),
            None => pack(Path::new("."), io::stdout().lock(), &options),
        };
        match packed {
            Ok(_) => Ok(()),
            // Whoever read it has had enough.
            Err(PackError::Write(e)) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(error) => Err(failed(&error)),
        }
    });
    if done.is_err()
        && let Some(path) = &output
    {
        // Half an archive is none.
        let _ = fs::remove_file(path);
    }
    done.map(|()| 0)
}
