//! `nscompose images`.

use clap::ValueEnum;

use super::{broken, find, installer, own, share, store, users};
use crate::{
    cli::settings::Settings,
    diagnostics::Failure,
    image::{DamagedThing, store::Stored},
    sandbox::as_root_of_containers,
    ui::{ImageRow, images_json, images_table},
};

/// List the images that are here
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Images to list, by name or ID; all if none is named
    #[arg(value_name = "IMAGE")]
    words: Vec<String>,
    /// List those that have lost their name too
    #[arg(short, long)]
    all: bool,
    /// Check that everything is still what it was, instead of listing
    #[arg(long)]
    check: bool,
    /// With --check, take away what is damaged and unpack anew what can be
    #[arg(long, requires = "check")]
    repair: bool,
    /// List IDs only
    #[arg(short, long)]
    quiet: bool,
    /// How to list them
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    #[default]
    Table,
    /// For programs: an array of objects
    Json,
}

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    if args.check {
        return check(args.repair, settings);
    }
    let store = store(settings);
    let entries = store.entries().map_err(|e| broken(&e))?;
    let mut wanted = Vec::new();
    if args.words.is_empty() {
        wanted.extend(entries.iter().filter(|entry| args.all || entry.name.is_some()));
    }
    for word in &args.words {
        wanted.extend(find(word, &entries)?);
    }
    let images: Result<Vec<Stored>, _> = wanted.into_iter().map(|entry| store.open(entry.clone())).collect();
    let images = images.map_err(|e| broken(&e))?;
    if args.quiet {
        let mut ids: Vec<&str> = images.iter().map(|stored| stored.image.id.short()).collect();
        ids.dedup();
        return settings.printer.data(&ids.iter().map(|id| format!("{id}\n")).collect::<String>()).map(|()| 0);
    }
    let users = users(settings);
    let rows: Vec<ImageRow> = images
        .iter()
        .map(|stored| ImageRow::new(stored, users.get(&stored.image.id).map_or(&[], Vec::as_slice)))
        .collect();
    settings.printer.data(&match args.format {
        Format::Table => images_table(&rows, jiff::Timestamp::now()),
        Format::Json => images_json(&rows),
    })?;
    Ok(0)
}

fn check(repair: bool, settings: &Settings) -> Result<u8, Failure> {
    let damaged = as_root_of_containers(|| {
        let installer = installer(settings)?;
        // Who removes has the store alone: an image that is damaged may be one that is about to be run.
        let _held = if repair { own(settings) } else { share(settings) }?;
        let printer = settings.printer;
        let damages = installer.check(repair, |layer| printer.progress(layer, "checking")).map_err(|e| broken(&e))?;
        let told: Vec<String> = damages
            .iter()
            .map(|damage| {
                let what = match &damage.what {
                    DamagedThing::Blob(digest) => format!("blob {}", digest.short()),
                    DamagedThing::Layer(digest) => format!("unpacked layer {}", digest.short()),
                    DamagedThing::Name(name) => format!("name {name}"),
                };
                format!("{what} of {}: {}", damage.images.join(", "), damage.why)
            })
            .collect();
        Ok(told)
    })?;
    if damaged.is_empty() {
        settings.printer.progress("images", "are what they should be");
        return Ok(0);
    }
    let failure = Failure::operation("something of the images is damaged").note("what", damaged);
    Err(if repair {
        failure.hint("what no container runs has been taken away or unpacked anew; `nscompose pull` brings the rest")
    } else {
        failure.hint("`nscompose images --check --repair` takes it away, and `nscompose pull` brings it again")
    })
}
