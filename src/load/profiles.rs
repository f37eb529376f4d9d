//! Phase 10: services whose profiles nobody asked for are left out.

use std::collections::HashSet;

use super::tree::{Entry, Node, Value};
use crate::diagnostics::Diagnostics;

/// What is asked for.
pub(super) struct Wanted<'a> {
    /// `*` for all.
    pub(super) profiles: &'a [String],
    /// Services by name, whose profiles are asked for with them.
    pub(super) services: &'a [String],
}

/// Takes out the services that are not wanted, and then what nobody uses.
pub(super) fn select(tree: &mut Node, wanted: &Wanted<'_>, _: &mut Diagnostics) {
    let Some(Entry { value: Node { value: Value::Mapping(services), .. }, .. }) = tree.entry_mut("services") else {
        return;
    };
    let mut asked: HashSet<String> = wanted.profiles.iter().cloned().collect();
    for service in services.iter().filter(|service| wanted.services.iter().any(|name| **name == *service.key)) {
        asked.extend(profiles(&service.value));
    }
    if asked.contains("*") {
        return;
    }
    let mut left_out = HashSet::new();
    services.retain(|service| {
        let own = profiles(&service.value);
        let stays = own.is_empty() || own.iter().any(|profile| asked.contains(profile));
        if !stays {
            left_out.insert(service.key.clone());
        }
        stays
    });
}

fn profiles(service: &Node) -> Vec<String> {
    match service.entry("profiles").map(|entry| &entry.value.value) {
        Some(Value::Sequence(nodes)) => {
            nodes.iter().filter_map(|node| node.scalar().map(|scalar| scalar.text.to_string())).collect()
        }
        _ => Vec::new(),
    }
}
