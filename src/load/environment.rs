//! Phase 11: variables of services that stand elsewhere.

use std::path::Path;

use super::{
    env_file::{EnvFile, EnvFiles},
    label_file,
    tree::{Entry, Node, Origin, Step, Value},
    variables::{Variable, Variables},
};
use crate::{
    compose::{Flag, Format, Project, Reader, Service},
    diagnostics::Diagnostics,
};

/// Files of services come after all others in messages.
const LAST: usize = 1 << 20;

/// Gives variables without a value that of the project's, if there is one.
pub(super) fn inherit(services: &mut Node, variables: &Variables) {
    let Value::Mapping(services) = &mut services.value else { return };
    for service in services {
        let Some(Entry { value: Node { value: Value::Mapping(environment), .. }, .. }) =
            service.value.entry_mut("environment")
        else {
            continue;
        };
        fill_in(environment, variables);
    }
}

/// Gives arguments of builds without a value that of the project's; without one there is nothing to say.
pub(super) fn build_arguments(build: &mut Node, variables: &Variables) {
    if let Some(Entry { value: Node { value: Value::Mapping(arguments), .. }, .. }) = build.entry_mut("args") {
        fill_in(arguments, variables);
        arguments.retain(|argument| !argument.value.is_null());
    }
}

fn fill_in(entries: &mut [Entry], variables: &Variables) {
    for entry in entries.iter_mut().filter(|entry| entry.value.is_null()) {
        if let Some(variable) = variables.get(&entry.key) {
            entry.value = filled(&entry.value, &entry.key, variable);
        }
    }
}

fn filled(node: &Node, name: &str, variable: &Variable) -> Node {
    let mut node = node.written(&variable.value);
    node.came(&Step::Variable(name.to_owned(), variable.origin.clone()));
    node
}

/// Adds what `env_file` and `label_file` say under what is there, in the tree and in the project.
///
/// Files have absolute paths, or such as start from `directory`; they are shown from `here`.
pub(super) fn fill(
    tree: &mut Node,
    project: &mut Project,
    variables: &Variables,
    (directory, here): (&Path, &Path),
    diagnostics: &mut Diagnostics,
) {
    let Some(Entry { value: Node { value: Value::Mapping(services), .. }, .. }) = tree.entry_mut("services") else {
        return;
    };
    let mut files = EnvFiles::new(here, LAST);
    for service in services {
        if ["env_file", "label_file"].iter().all(|key| service.value.entry(key).is_none()) {
            continue;
        }
        env_files(&mut service.value, variables, directory, &mut files, diagnostics);
        label_files(&mut service.value, directory, &mut files, diagnostics);
        let read = project.services.as_mut().and_then(|services| services.0.0.get_mut(&*service.key));
        if let Some(read) = read
            && let Some(again) = Service::read(&service.value, &mut Reader::new(&mut Diagnostics::new()))
        {
            **read = again;
        }
    }
}

/// Takes the items of a list of files out of a service.
fn taken(service: &mut Node, key: &str) -> Option<(Node, Vec<Node>)> {
    let Value::Mapping(entries) = &mut service.value else { return None };
    let at = entries.iter().position(|entry| &*entry.key == key)?;
    let node = entries.remove(at).value;
    match &node.value {
        Value::Sequence(items) => Some((node.clone(), items.clone())),
        _ => None,
    }
}

fn env_files(
    service: &mut Node,
    project: &Variables,
    directory: &Path,
    read: &mut EnvFiles<'_>,
    diagnostics: &mut Diagnostics,
) {
    let Some((node, items)) = taken(service, "env_file") else { return };
    let files: Vec<EnvFile> = items
        .iter()
        .filter_map(|item| {
            let path = &item.entry("path")?.value;
            let required = item.entry("required").and_then(|entry| entry.value.scalar());
            let format = item
                .entry("format")
                .and_then(|entry| Some((entry.value.scalar()?.text.to_string(), entry.value.span.clone())));
            Some(EnvFile {
                path: directory.join(&*path.scalar()?.text),
                span: path.span.clone(),
                required: required.is_none_or(|scalar| Flag::parse(&scalar.text) != Some(false)),
                format,
            })
        })
        .collect();
    let mut own = Variables::default();
    if let Some(Entry { value: Node { value: Value::Mapping(entries), .. }, .. }) = service.entry("environment") {
        for entry in entries {
            if let Some(scalar) = entry.value.scalar() {
                let origin = Origin::File(entry.value.span.clone());
                own.set(&*entry.key, Variable { value: scalar.text.to_string(), origin });
            }
        }
    }
    let found = read.variables(&files, project, &own, diagnostics);
    add(service, "environment", &node, &found);
}

fn label_files(service: &mut Node, directory: &Path, read: &mut EnvFiles<'_>, diagnostics: &mut Diagnostics) {
    let Some((node, items)) = taken(service, "label_file") else { return };
    let files: Vec<_> =
        items.iter().filter_map(|item| Some((directory.join(&*item.scalar()?.text), item.span.clone()))).collect();
    let found = label_file::labels(&files, read, diagnostics);
    add(service, "labels", &node, &found);
}

/// Puts variables under a key, as far as they are not there.
fn add(service: &mut Node, key: &str, node: &Node, variables: &Variables) {
    let empty = node.beside(Value::Mapping(Vec::new()));
    service.put(key, empty);
    let Some(entry) = service.entry_mut(key) else { return };
    entry.value.put_all(variables.iter().map(|(name, variable)| {
        let mut value = node.written(&variable.value);
        if let Origin::File(span) = &variable.origin {
            value.span = span.clone();
        }
        (name, value)
    }));
}
