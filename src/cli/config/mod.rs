//! `nscompose config`.

mod document;
mod explain;
mod lists;
mod output;

use std::path::PathBuf;

use clap::ValueEnum;

use super::{
    files::{Words, options, tell_apart},
    settings::Settings,
};
use crate::{
    compose::Document,
    diagnostics::Failure,
    load::{self, Contents, LoadOptions},
    sys::memory,
};
use document::escaped;

/// Show what the Compose files come to: merged, with variables filled in and everything in its long form
///
/// With -q the files are checked, and nothing is shown.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) more: super::MoreFiles,
    /// How it is written; `json` goes for messages too
    #[arg(long, value_name = "FORMAT", default_value = "yaml")]
    format: Format,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    instead: Instead,
    #[command(flatten)]
    without: Without,
    /// Compose file, or services to show, with those that they depend on
    #[arg(value_name = "FILE|SERVICE")]
    words: Vec<String>,
}

/// What is printed instead of the whole.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
struct Instead {
    /// Print where a value comes from, such as services.web.ports[0], and what happened to it on its way; `.` for all.
    /// May be given several times
    #[arg(long, value_name = "PATH")]
    explain: Vec<String>,
    /// Print the names of services, each behind those that it depends on
    #[arg(long)]
    services: bool,
    /// Print the names of networks
    #[arg(long)]
    networks: bool,
    /// Print the names of volumes
    #[arg(long)]
    volumes: bool,
    /// Print the images of services
    #[arg(long)]
    images: bool,
    /// Print the models of services
    #[arg(long)]
    models: bool,
    /// Print all profiles
    #[arg(id = "all_profiles", long = "profiles")]
    profiles: bool,
    /// Print the variables that the files may name, with their values
    #[arg(long)]
    environment: bool,
    /// Print the variables that the files name, with what they say about them
    #[arg(long)]
    variables: bool,
    /// Print a fingerprint of each of these services, `*` for all
    #[arg(long, value_name = "SERVICE,…")]
    hash: Option<String>,
}

/// What is left out, or done otherwise.
#[derive(Debug, clap::Args)]
struct Without {
    /// Leave variables as they are written, and with them all services, whatever their profiles
    #[arg(long)]
    no_interpolate: bool,
    /// Add nothing that is not written, such as the default network
    #[arg(long)]
    no_normalize: bool,
    /// Leave relative paths as they are
    #[arg(long)]
    no_path_resolution: bool,
    /// Leave `env_file` and `label_file` as they are
    #[arg(long)]
    no_env_resolution: bool,
    /// Do not check that what services refer to is there
    #[arg(long)]
    no_consistency: bool,
    /// Not supported yet
    #[arg(long, hide = true)]
    resolve_image_digests: bool,
    /// Not supported yet
    #[arg(long, hide = true)]
    lock_image_digests: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Yaml,
    Json,
}

impl Args {
    /// Whether a program reads what is printed, which then has to be able to read messages too.
    pub(super) fn for_programs(&self) -> bool {
        self.format == Format::Json
    }
}

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    for (given, name) in [
        (args.without.resolve_image_digests, "--resolve-image-digests"),
        (args.without.lock_image_digests, "--lock-image-digests"),
    ] {
        if given {
            return Err(Failure::usage(format!("`{name}` is not supported yet"))
                .hint("name images by their digest, as `NAME@sha256:…`"));
        }
    }
    memory::expect_very_many_allocations();
    let words = tell_apart(&args.words, &settings.directory);
    let contents = load::contents(&load_options(args, &words, settings)?)?;
    settings.printer.diagnostics(&contents.warnings);
    known(&words, &contents)?;
    let text = match args.instead.text(args, &contents)? {
        Some(text) => text,
        None if settings.printer.is_quiet() => return Ok(0),
        None => whole(args, &contents)?,
    };
    // As above.
    std::mem::forget(contents);
    output::write(&text, args.output.as_deref(), &settings.directory, settings.printer)?;
    Ok(0)
}

fn load_options(args: &Args, words: &Words, settings: &Settings) -> Result<LoadOptions, Failure> {
    let mut options = LoadOptions { only: !words.services.is_empty(), ..options(words, settings)? };
    let Without { no_interpolate, no_normalize, no_path_resolution, no_env_resolution, no_consistency, .. } =
        args.without;
    options.no_interpolate = no_interpolate || args.instead.variables;
    options.no_normalize = no_normalize;
    options.no_path_resolution = no_path_resolution;
    options.no_env_resolution = no_env_resolution;
    options.no_consistency = no_consistency;
    if args.instead.profiles {
        options.profiles = vec!["*".to_owned()];
    }
    Ok(options)
}

/// Looks up the services that are asked for.
fn known(words: &Words, contents: &Contents) -> Result<(), Failure> {
    let services = contents.project.services.as_ref().map(|services| &services.0.0);
    let missing = words.services.iter().find(|name| services.is_none_or(|services| !services.contains_key(*name)));
    missing.map_or(Ok(()), |name| Err(lists::unknown(name, &contents.all_services)))
}

fn whole(args: &Args, contents: &Contents) -> Result<String, Failure> {
    let failed = |e: serde_json::Error| Failure::operation("the project cannot be written").caused_by(&e);
    let written = args.without.no_interpolate;
    let document = match (written, args.format) {
        (true, _) => Document::of(&contents.untyped()).map_err(failed)?,
        (false, Format::Yaml) => document::in_order(Document::of(&contents.project).map_err(failed)?),
        (false, Format::Json) => return contents.json().map(escaped).map_err(failed),
    };
    let document = document::brief(document);
    let text = match args.format {
        Format::Yaml => document::yaml(&document)?,
        Format::Json => document.json(),
    };
    // The process is about to end: taking a large document apart would be for nothing.
    std::mem::forget(document);
    Ok(if written { text } else { escaped(text) })
}

impl Instead {
    /// What is asked for instead of the whole, if anything is.
    fn text(&self, args: &Args, contents: &Contents) -> Result<Option<String>, Failure> {
        fn keys<T>(named: Option<&crate::compose::Named<T>>) -> String {
            lists::lines(named.into_iter().flat_map(|named| named.0.keys()))
        }
        if !self.explain.is_empty() {
            return explain::text(&self.explain, contents, args.format == Format::Json).map(Some);
        }
        if self.environment {
            let lines = contents.variables().into_iter().map(|(name, value)| format!("{name}={value}"));
            return Ok(Some(lists::lines(lines)));
        }
        if self.variables {
            let variables = contents.used_variables();
            let json = args.format == Format::Json;
            return if json { lists::variables_json(&variables) } else { Ok(lists::variables_table(&variables)) }
                .map(Some);
        }
        if self.profiles {
            return Ok(Some(lists::lines(lists::profiles(&contents.project))));
        }
        let project = &contents.project;
        Ok(match () {
            () if self.services => Some(lists::lines(lists::in_order(project))),
            () if self.networks => Some(keys(project.networks.as_ref())),
            () if self.volumes => Some(keys(project.volumes.as_ref())),
            () if self.images => Some(lists::lines(lists::images(project, contents.name.as_str()))),
            () if self.models => Some(lists::lines(lists::models(project))),
            () => self.hash.as_ref().map(|list| lists::hashes(contents, list)).transpose()?,
        })
    }
}
