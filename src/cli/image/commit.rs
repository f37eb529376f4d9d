//! `nscompose commit`.

use std::fs;

use super::{broken, container, installer, no_digest, share, store};
use crate::{
    cli::{MoreFiles, settings::Settings},
    diagnostics::{Failure, FailureKind},
    image::{
        Changes,
        pack::{PackOptions, Packing},
        unpack::OverlayAttributes,
    },
    model::ImageName,
    sandbox::{as_root_of_containers, in_initial_user_namespace},
};

/// Make an image of a service's container: its image, and what it has written since
///
/// What is in volumes and other mounts is not part of it. The container goes on meanwhile.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    pub(in crate::cli) more: MoreFiles,
    /// [FILE] SERVICE [IMAGE]
    #[arg(value_name = "SERVICE [IMAGE]", required = true, num_args = 1..=3)]
    words: Vec<String>,
    /// Who made it
    #[arg(short, long, value_name = "NAME")]
    author: Option<String>,
    /// What it is
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
}

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let mut words = args.words.clone();
    let found = container::find(&mut words, settings)?;
    let name = words.first().map(|word| word.parse::<ImageName>()).transpose();
    let name = name.map_err(|e| Failure::usage(e.to_string()))?;
    if name.as_ref().is_some_and(|name| name.digest().is_some()) {
        return Err(no_digest());
    }
    let service = &found.service;
    let Some(id) = &found.container.image else {
        return Err(Failure::operation(format!("service `{service}` runs on no image"))
            .hint("only what runs on an image can become one"));
    };
    let store = store(settings);
    // Before looking: what is found stays until the new image has it too.
    let _held = share(settings)?;
    let entries = store.entries().map_err(|e| broken(&e))?;
    let entry = entries.into_iter().find(|entry| entry.id == *id);
    let entry = entry.ok_or_else(|| Failure::operation(format!("the image of service `{service}` is not here")))?;
    let base = store.open(entry).map_err(|e| broken(&e))?;
    let upper = found.layout.container(service).join("upper");
    let first_id = first_id(found.pid()?)?;
    let id = as_root_of_containers(|| {
        let installer = installer(settings)?;
        let attributes = match in_initial_user_namespace() {
            true => OverlayAttributes::Trusted,
            false => OverlayAttributes::User,
        };
        let changes = Changes {
            upper: &upper,
            packing: PackOptions { packing: Packing::Layer(attributes), first_id },
            author: args.author.as_deref(),
            message: args.message.as_deref(),
        };
        let stored = installer.commit(&base, &changes, name.as_ref());
        let stored = stored.map_err(|e| {
            Failure::new(FailureKind::Operation, format!("cannot make an image of service `{service}`")).caused_by(&e)
        })?;
        Ok(stored.image.id)
    })?;
    settings.printer.data(&format!("{id}\n"))?;
    Ok(0)
}

/// What id 0 of a container is on disk. For an ordinary user's containers it is 0, as all of them have the same ids.
fn first_id(pid: i32) -> Result<u32, Failure> {
    if !in_initial_user_namespace() || !nix::unistd::geteuid().is_root() {
        return Ok(0);
    }
    let path = format!("/proc/{pid}/uid_map");
    let map = fs::read_to_string(&path).map_err(|e| Failure::operation(format!("cannot read {path}")).caused_by(&e))?;
    let mut fields = map.split_whitespace();
    Ok(fields.nth(1).and_then(|first| first.parse().ok()).unwrap_or(0))
}
