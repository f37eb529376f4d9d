//! Phase 11: variables of services that stand elsewhere.

use std::path::Path;

use super::{
    dotenv,
    sources::Sources,
    tree::{Entry, Node, Step, Value},
    variables::{Variable, Variables},
};
use crate::diagnostics::Diagnostics;

/// Gives variables without a value that of the project's, if there is one.
pub(super) fn inherit(services: &mut Node, variables: &Variables) {
    let Value::Mapping(services) = &mut services.value else { return };
    for service in services {
        let Some(Entry { value: Node { value: Value::Mapping(environment), .. }, .. }) =
            service.value.entry_mut("environment")
        else {
            continue;
        };
        for entry in environment.iter_mut().filter(|entry| entry.value.is_null()) {
            if let Some(variable) = variables.get(&entry.key) {
                entry.value = filled(&entry.value, &entry.key, variable);
            }
        }
    }
}

fn filled(node: &Node, name: &str, variable: &Variable) -> Node {
    let mut node = node.text(&variable.value);
    node.came(&Step::Variable(name.to_owned(), variable.origin.clone()));
    node
}

/// Adds what `env_file` and `label_file` say under what is there.
pub(super) fn fill(tree: &mut Node, variables: &Variables, sources: &mut Sources, diagnostics: &mut Diagnostics) {
    let Some(Entry { value: Node { value: Value::Mapping(services), .. }, .. }) = tree.entry_mut("services") else {
        return;
    };
    for service in services {
        env_files(&mut service.value, variables, sources, diagnostics);
        label_files(&mut service.value, sources, diagnostics);
    }
}

fn taken(service: &mut Node, key: &str) -> Option<Entry> {
    let Value::Mapping(entries) = &mut service.value else { return None };
    let at = entries.iter().position(|entry| &*entry.key == key)?;
    Some(entries.remove(at))
}

fn env_files(service: &mut Node, variables: &Variables, sources: &mut Sources, diagnostics: &mut Diagnostics) {
    let Some(Entry { value: files, .. }) = taken(service, "env_file") else { return };
    let Value::Sequence(items) = &files.value else { return };
    let mut together = Variables::default();
    for item in items {
        let Some((path, required)) = item.entry("path").and_then(|entry| entry.value.scalar()).map(|scalar| {
            let required = item.entry("required").and_then(|entry| entry.value.scalar());
            (scalar.text.clone(), required.is_none_or(|scalar| &*scalar.text == "true"))
        }) else {
            continue;
        };
        let Some(file) = sources.optional(Path::new(&*path), required, &item.span, diagnostics) else { continue };
        for (name, variable) in dotenv::parse(&file, variables, diagnostics).iter() {
            together.set(name, variable.clone());
        }
    }
    let empty = files.beside(Value::Mapping(Vec::new()));
    service.put("environment", empty);
    let Some(environment) = service.entry_mut("environment") else { return };
    for (name, variable) in together.iter() {
        let mut value = files.text(&variable.value);
        if let super::tree::Origin::File(span) = &variable.origin {
            value.span = span.clone();
        }
        environment.value.put(name, value);
    }
}

fn label_files(service: &mut Node, sources: &mut Sources, diagnostics: &mut Diagnostics) {
    let Some(Entry { value: files, .. }) = taken(service, "label_file") else { return };
    let Value::Sequence(items) = &files.value else { return };
    let mut together = Variables::default();
    for item in items {
        let Some(path) = item.scalar().map(|scalar| scalar.text.clone()) else { continue };
        let Some(file) = sources.optional(Path::new(&*path), true, &item.span, diagnostics) else { continue };
        for (name, variable) in dotenv::parse(&file, &Variables::default(), diagnostics).iter() {
            together.set(name, variable.clone());
        }
    }
    let empty = files.beside(Value::Mapping(Vec::new()));
    service.put("labels", empty);
    let Some(labels) = service.entry_mut("labels") else { return };
    for (name, variable) in together.iter() {
        labels.value.put(name, files.text(&variable.value));
    }
}
