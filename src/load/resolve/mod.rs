//! Phase 13: what is written becomes what can be run, and what cannot be done yet is refused.
//!
//! ```text
//! canonical tree ──refusals.rs──▶ errors, or warnings
//!        │ places of diagnostics: cursor.rs
//! compose::Project ──service.rs, and a file per thing that it lowers──▶ Parts
//! ```
//!
//! Everything has been read already, and is of its type; here is what only matters for running it. References that lead
//! nowhere have been reported, and are left out.

mod cursor;
mod dependencies;
mod devices;
mod exclusions;
mod grants;
mod hooks;
mod hostname;
mod image;
mod life;
mod limits;
mod logging;
mod mounts;
mod namespaces;
mod naming;
mod networks;
mod ports;
mod privileges;
mod process_options;
mod program;
mod published;
mod refusals;
mod replicas;
mod rootfs;
mod seccomp;
mod service;
mod tmpfs;
mod uplink;
mod volumes;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use super::{select, tree::Node, variables::Variables};
use crate::{
    compose::{self, Named},
    diagnostics::{Diagnostic, Diagnostics},
    model::{InvalidName, Network, NetworkName, Service, ServiceName, UplinkWish, Volume, VolumeName},
};
use cursor::Cursor;
use published::Published;
use refusals::Refusals;
pub(crate) use volumes::of_contents as volumes_of;

/// What a project is made of.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) services: BTreeMap<ServiceName, Service>,
    pub(super) replicas: BTreeMap<ServiceName, u32>,
    pub(super) networks: BTreeMap<NetworkName, Network>,
    pub(super) volumes: BTreeMap<VolumeName, Volume>,
    pub(super) uplink: UplinkWish,
}

/// What the lowering of one thing knows of all others, and where its mistakes go.
struct Context<'a> {
    project: &'a compose::Project,
    tree: &'a Node,
    /// Relative paths start from it.
    directory: &'a Path,
    variables: &'a Variables,
    grants: grants::Sources,
    refusals: Refusals<'a>,
    published: Published,
    profiles: seccomp::Profiles,
    networks: BTreeMap<NetworkName, Network>,
    taken: networks::Taken,
}

impl<'a> Context<'a> {
    fn push(&mut self, diagnostic: Diagnostic) {
        self.refusals.diagnostics.push(diagnostic);
    }

    /// The service of that name, if it is one that can be run.
    fn service(&self, name: &str) -> Option<ServiceName> {
        let service = self.project.services.as_ref()?.0.0.get(name)?;
        if service.program.provider.is_some() { None } else { name.parse().ok() }
    }

    /// Says it, unless it has been said of another service.
    fn push_once(&mut self, diagnostic: Diagnostic) {
        let same = |known: &Diagnostic| known.message == diagnostic.message && known.span == diagnostic.span;
        if !self.refusals.diagnostics.iter().any(same) {
            self.push(diagnostic);
        }
    }

    /// What is written of something that is declared at the top level.
    fn declared(&self, section: &str, name: &str) -> Option<&'a Node> {
        Some(&self.tree.entry(section)?.value.entry(name)?.value)
    }

    fn declares_network(&self, name: &str) -> bool {
        declares(self.project.networks.as_ref(), name)
    }

    fn declares_volume(&self, name: &str) -> bool {
        declares(self.project.volumes.as_ref(), name)
    }
}

fn declares<T>(all: Option<&Named<T>>, name: &str) -> bool {
    all.is_some_and(|all| all.0.contains_key(name))
}

/// Lowers a whole project. What comes back is meaningful only if `diagnostics` has no errors.
///
/// With `wanted`, the mistakes of other services do not count. Those that can be run are there all the same, since
/// addresses, ids and names are given out among all.
pub(super) fn resolve(
    project: &compose::Project,
    (directory, variables): (&Path, &Variables),
    tree: &Node,
    wanted: Option<&BTreeSet<&str>>,
    allow_unsupported: bool,
    diagnostics: &mut Diagnostics,
) -> Parts {
    let root = Cursor::root(tree);
    let services = root.get("services");
    let mut refusals = Refusals::new(diagnostics, allow_unsupported);
    match wanted {
        Some(wanted) => refusals.walk(&select::narrowed(tree, project, wanted)),
        None => refusals.walk(tree),
    }
    let grants = grants::Sources::default();
    let mut cx = Context {
        project,
        tree,
        directory,
        variables,
        grants,
        refusals,
        published: Published::default(),
        profiles: Default::default(),
        networks: BTreeMap::new(),
        taken: networks::Taken::default(),
    };
    cx.networks = networks::declared(&mut cx, root.get("networks"));
    let mut parts = Parts {
        services: BTreeMap::new(),
        replicas: BTreeMap::new(),
        networks: BTreeMap::new(),
        volumes: volumes::lower(&mut cx, root.get("volumes")),
        uplink: uplink::lower(&mut cx, root),
    };
    let is_wanted = |name: &str| wanted.is_none_or(|wanted| wanted.contains(name));
    let (first, others): (Vec<_>, Vec<_>) =
        services.iter().flat_map(|services| services.entries()).partition(|(name, _)| is_wanted(name));
    lower(&mut cx, first, &mut parts.services);
    if let Some(services) = services {
        namespaces::check_sharers(&mut cx, &parts.services, services, is_wanted);
        replicas::check(&mut cx, &parts.services, services);
    }
    let Context { refusals, published, profiles, grants, networks, taken, .. } = cx;
    refusals.finish();
    parts.networks = networks.clone();
    if !others.is_empty() {
        let mut unheard = Diagnostics::new();
        let refusals = Refusals::new(&mut unheard, true);
        let mut cx =
            Context { project, tree, directory, variables, grants, refusals, published, profiles, networks, taken };
        lower(&mut cx, others, &mut parts.services);
        drop_dependents_of_none(&mut parts.services);
    }
    parts.replicas = replicas::numbers(project, &parts.services);
    let mut used = BTreeSet::new();
    for attachment in parts.services.values().flat_map(|service| &service.networks) {
        parts.networks.entry(attachment.network.clone()).or_default();
        used.insert(attachment.network.clone());
    }
    networks::drop_predefined(&mut parts.networks, &used);
    parts
}

fn lower(cx: &mut Context<'_>, services: Vec<(&str, Cursor<'_>)>, lowered: &mut BTreeMap<ServiceName, Service>) {
    for (name, at) in services {
        let Some(service) = cx.project.services.as_ref().and_then(|services| services.0.0.get(name)) else { continue };
        let Some(name) = valid(cx, name, at) else { continue };
        if let Some(service) = service::lower(cx, &name, service, at) {
            lowered.insert(name, service);
        }
    }
}

/// Takes out services that need one that is not there.
fn drop_dependents_of_none(services: &mut BTreeMap<ServiceName, Service>) {
    let mut dependents: BTreeMap<ServiceName, Vec<ServiceName>> = BTreeMap::new();
    for (name, service) in services.iter() {
        for needed in service.dependencies() {
            dependents.entry(needed.clone()).or_default().push(name.clone());
        }
    }
    let mut gone: Vec<ServiceName> = dependents.keys().filter(|name| !services.contains_key(*name)).cloned().collect();
    while let Some(name) = gone.pop() {
        services.remove(&name);
        gone.extend(dependents.remove(&name).into_iter().flatten());
    }
}

fn valid<N: std::str::FromStr<Err = InvalidName>>(cx: &mut Context<'_>, name: &str, at: Cursor<'_>) -> Option<N> {
    // Some names the format itself does not take, which has been said.
    let taken = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    match name.parse() {
        Ok(name) => Some(name),
        Err(_) if !taken => None,
        Err(error) => {
            cx.push(at.at_key(Diagnostic::error(format!("{error}"))));
            None
        }
    }
}

/// A text that says something: an empty one, which a variable may have made, is none.
fn said(text: Option<&compose::Text>) -> Option<&str> {
    text.map(|text| text.0.as_str()).filter(|text| !text.is_empty())
}
