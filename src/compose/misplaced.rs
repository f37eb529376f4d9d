//! Keys that stand a level too high or too low, as happens when a block is indented wrongly.
//!
//! They are told from what stands there by their names and by what they hold: once for all that were moved together. Then they
//! are put where they belong, so that nothing else is said about them, or about what refers to them.

use std::{collections::HashSet, sync::Arc};

use super::{Mapping, Project, Service};
use crate::{
    diagnostics::{Diagnostic, Diagnostics},
    yaml::tree::{Entry, Node, Value},
};

/// Reports them, and puts them right.
pub(crate) fn misplaced(tree: &mut Node, diagnostics: &mut Diagnostics) {
    too_high(tree, diagnostics);
    too_low(tree, diagnostics);
}

/// Services, and keys of services, at the top level.
fn too_high(tree: &mut Node, diagnostics: &mut Diagnostics) {
    let Value::Mapping(top) = &mut tree.value else { return };
    let odd = |entry: &Entry| Project::field(&entry.key).is_none() && !entry.key.starts_with("x-");
    if !top.iter().any(odd) {
        return;
    }
    let (mut services, mut keys) = (Vec::new(), Vec::new());
    for entry in std::mem::take(top) {
        if odd(&entry) && is_service(&entry.value) {
            services.push(entry);
        } else if odd(&entry) && Service::field(&entry.key).is_some() {
            keys.push(entry);
        } else {
            top.push(entry);
        }
    }
    if let Some(first) = services.first() {
        let message = format!("`{}` is a service, and stands at the top level", short(&first.key));
        let hint = "put the services under `services:`, indented";
        diagnostics.push(Diagnostic::error(message).at(&first.key_span).hint(hint));
    }
    if let Some(first) = keys.first() {
        let message = format!("`{}` is a key of a service, and stands at the top level", short(&first.key));
        let hint = "indent it, and what belongs to it, like the other keys of its service";
        diagnostics.push(Diagnostic::error(message).at(&first.key_span).hint(hint));
    }
    let section = top.iter_mut().find(|entry| &*entry.key == "services").map(|entry| &mut entry.value);
    if let Some(Value::Mapping(all)) = section.map(|section| &mut section.value) {
        if let Some(last) = all.last_mut() {
            keys.into_iter().for_each(|key| put(&mut last.value, key));
        }
        let known: HashSet<Arc<str>> = all.iter().map(|entry| entry.key.clone()).collect();
        all.extend(services.into_iter().filter(|entry| !known.contains(&entry.key)));
    } else if let Some(first) = services.first() {
        let key_span = first.key_span.clone();
        let value = Node::new(key_span.clone(), Value::Mapping(services));
        top.retain(|entry| &*entry.key != "services");
        top.push(Entry { key: Arc::from("services"), key_span, value });
    }
}

/// Sections, and keys of services, among the services.
fn too_low(tree: &mut Node, diagnostics: &mut Diagnostics) {
    let Some(section) = tree.entry_mut("services") else { return };
    let Value::Mapping(services) = &mut section.value.value else { return };
    let odd = |entry: &Entry| {
        let said = !entry.value.is_null() && !matches!(entry.value.value, Value::Broken);
        said && Service::field(&entry.key).is_some() && !is_service(&entry.value)
    };
    if !services.iter().any(odd) {
        return;
    }
    let mut sections = Vec::new();
    let mut said = false;
    for entry in std::mem::take(services) {
        if !odd(&entry) {
            services.push(entry);
        } else if Project::field(&entry.key).is_some() && entry.value.entries().is_some() {
            let message = format!("`{}` stands among the services, and is a section of its own", short(&entry.key));
            let hint = "it is indented too far: begin it where `services:` begins";
            diagnostics.push(Diagnostic::error(message).at(&entry.key_span).hint(hint));
            sections.push(entry);
        } else {
            let owner = services.last_mut();
            if !std::mem::replace(&mut said, true) {
                let message = format!("`{}` is a key of a service, and stands among the services", short(&entry.key));
                let hint = match &owner {
                    Some(owner) => format!("if it belongs to `{}`, indent it further", short(&owner.key)),
                    None => "indent it below the name of a service".to_owned(),
                };
                diagnostics.push(Diagnostic::error(message).at(&entry.key_span).hint(hint));
            }
            if let Some(owner) = owner {
                put(&mut owner.value, entry);
            }
        }
    }
    sections.into_iter().for_each(|section| put(tree, section));
}

/// It has keys, and they are those of a service.
fn is_service(node: &Node) -> bool {
    let known = |entry: &Entry| Service::field(&entry.key).is_some();
    node.entries().is_some_and(|all| all.iter().any(known))
}

/// Puts an entry into a mapping, or into nothing, which becomes one.
fn put(into: &mut Node, entry: Entry) {
    if into.is_null() {
        into.value = Value::Mapping(Vec::new());
    }
    match &mut into.value {
        Value::Mapping(entries) if !entries.iter().any(|other| other.key == entry.key) => entries.push(entry),
        _ => {}
    }
}

/// Names of a hostile file may be as long as the file.
fn short(name: &str) -> &str {
    name.char_indices().nth(200).map_or(name, |(cut, _)| &name[..cut])
}
