//! Phase 10: services whose profiles nobody asked for are left out.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::tree::{Entry, Node, Value};
use crate::{
    compose::{MountType, Named, Project},
    diagnostics::{Diagnostic, Diagnostics, suggest},
};

/// Services that nobody asked for, each with its profiles.
pub(super) type LeftOut = BTreeMap<String, Vec<String>>;

/// What is asked for.
pub(super) struct Wanted<'a> {
    /// `*` for all.
    pub(super) profiles: &'a [String],
    /// Services by name, whose profiles are asked for with them.
    pub(super) services: &'a [String],
}

/// Warns of profiles that no service has: a slip of the pen starts nothing, and says nothing.
pub(super) fn unknown(tree: &Node, asked: &[String], diagnostics: &mut Diagnostics) {
    let services = tree.entry("services").and_then(|services| services.value.entries()).unwrap_or_default();
    let known: BTreeSet<String> = services.iter().flat_map(|service| profiles(&service.value)).collect();
    for profile in asked.iter().filter(|profile| *profile != "*" && !known.contains(*profile)) {
        let warning = Diagnostic::warning(format!("no service has the profile `{profile}`"));
        let meant = suggest(profile, known.iter().take(2_000).map(String::as_str));
        diagnostics.push(warning.did_you_mean(meant));
    }
}

/// What there is to ask for, so that these services are not left out.
pub(super) fn ask_for(profiles: &[String]) -> String {
    let mut profiles: Vec<String> = profiles.iter().map(|profile| format!("`--profile {profile}`")).collect();
    profiles.truncate(20);
    match profiles.split_last() {
        Some((last, [])) => format!("ask for it with {last}"),
        Some((last, others)) => format!("ask for one with {} or {last}", others.join(", ")),
        None => "ask for all with `--profile '*'`".to_owned(),
    }
}

/// Takes out the services that are not wanted.
pub(super) fn select(tree: &mut Node, wanted: &Wanted<'_>) -> LeftOut {
    let Some(Entry { value: Node { value: Value::Mapping(services), .. }, .. }) = tree.entry_mut("services") else {
        return LeftOut::new();
    };
    let mut asked: HashSet<String> = wanted.profiles.iter().cloned().collect();
    for service in services.iter().filter(|service| wanted.services.iter().any(|name| **name == *service.key)) {
        asked.extend(profiles(&service.value));
    }
    if asked.is_empty() {
        // A profile without a name is the one that nobody has to ask for.
        asked.insert(String::new());
    }
    let mut left_out = LeftOut::new();
    if asked.contains("*") {
        return left_out;
    }
    services.retain(|service| {
        let own = profiles(&service.value);
        let kept = own.is_empty() || own.iter().any(|profile| asked.contains(profile));
        if !kept {
            left_out.insert(service.key.to_string(), own);
        }
        kept
    });
    left_out
}

/// Takes out what is declared and not used by any service; true if there was any.
pub(super) fn drop_unused(tree: &mut Node, project: &Project) -> bool {
    keep_used(tree, project, |_| true)
}

/// Takes out what is declared and not used by any of these services; true if there was any.
pub(super) fn keep_used(tree: &mut Node, project: &Project, by: impl Fn(&str) -> bool) -> bool {
    let mut used: HashSet<(&str, &str)> = HashSet::new();
    let services = project.services.iter().flat_map(|services| &services.0.0);
    for (_, service) in services.filter(|(name, _)| by(name)) {
        let networks = service.networking.networks.iter().flat_map(|networks| networks.0.0.keys());
        used.extend(networks.map(|name| ("networks", name.as_str())));
        if service.networking.network_mode.as_ref().is_some_and(|mode| mode.0 == "bridge") {
            // Here that is the network of services that name none.
            used.insert(("networks", "default"));
        }
        for mount in service.storage.volumes.iter().flat_map(|volumes| &volumes.0) {
            if let (Some(MountType::Volume), Some(source)) = (mount.r#type, &mount.source) {
                used.insert(("volumes", source.0.as_str()));
            }
        }
        for grant in service.storage.configs.iter().flat_map(|configs| &configs.0) {
            used.extend(grant.source.as_ref().map(|source| ("configs", source.0.as_str())));
        }
        let build = service.program.build.iter().flat_map(|build| &build.secrets).flat_map(|secrets| &secrets.0);
        for grant in service.storage.secrets.iter().flat_map(|secrets| &secrets.0.0).chain(build) {
            used.extend(grant.source.as_ref().map(|source| ("secrets", source.0.as_str())));
        }
        let models = service.security.models.iter().flat_map(|models| models.0.0.keys());
        used.extend(models.map(|name| ("models", name.as_str())));
    }
    let mut dropped = false;
    for section in ["networks", "volumes", "configs", "secrets", "models"] {
        let Some(Entry { value: Node { value: Value::Mapping(all), .. }, .. }) = tree.entry_mut(section) else {
            continue;
        };
        let before = all.len();
        all.retain(|entry| used.contains(&(section, &*entry.key)));
        dropped |= all.len() < before;
    }
    dropped
}

/// Takes out of the project what is not in the tree any more.
pub(super) fn keep(tree: &Node, project: &mut Project) {
    fn section<T>(tree: &Node, name: &str, all: Option<&mut Named<T>>) {
        let (Some(entry), Some(all)) = (tree.entry(name), all) else { return };
        let kept: HashSet<&str> = entry.value.entries().unwrap_or_default().iter().map(|entry| &*entry.key).collect();
        all.0.retain(|name, _| kept.contains(name.as_str()));
    }
    section(tree, "services", project.services.as_mut().map(|services| &mut services.0));
    section(tree, "networks", project.networks.as_mut());
    section(tree, "volumes", project.volumes.as_mut());
    section(tree, "configs", project.configs.as_mut());
    section(tree, "secrets", project.secrets.as_mut());
    section(tree, "models", project.models.as_mut());
}

fn profiles(service: &Node) -> Vec<String> {
    match service.entry("profiles").map(|entry| &entry.value.value) {
        Some(Value::Sequence(nodes)) => {
            nodes.iter().filter_map(|node| node.scalar().map(|scalar| scalar.text.to_string())).collect()
        }
        _ => Vec::new(),
    }
}
