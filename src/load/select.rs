//! A part of a project: some services, with all that they depend on.

use std::collections::BTreeSet;

use super::{
    profiles,
    tree::{Entry, Node, Value},
};
use crate::compose::Project;

/// These services and all that they depend on; names of none are left out.
pub(super) fn with_dependencies<'a>(project: &'a Project, names: &'a [String]) -> BTreeSet<&'a str> {
    let mut kept: BTreeSet<&str> = BTreeSet::new();
    let mut next: Vec<&str> = names.iter().map(String::as_str).collect();
    while let Some(name) = next.pop() {
        let service = project.services.as_ref().and_then(|services| services.0.0.get(name));
        if let Some(service) = service
            && kept.insert(name)
        {
            let depends_on = service.lifecycle.depends_on.iter().flat_map(|depends_on| depends_on.0.0.keys());
            next.extend(depends_on.map(String::as_str));
        }
    }
    kept
}

/// Takes out the other services; true if there were any.
pub(super) fn keep_only(tree: &mut Node, project: &Project, names: &[String]) -> bool {
    let kept = with_dependencies(project, names);
    let Some(Entry { value: Node { value: Value::Mapping(services), .. }, .. }) = tree.entry_mut("services") else {
        return false;
    };
    let before = services.len();
    services.retain(|entry| kept.contains(&*entry.key));
    services.len() < before
}

/// The tree with these services alone, and what they use.
pub(super) fn narrowed(tree: &Node, project: &Project, services: &BTreeSet<&str>) -> Node {
    let mut tree = tree.clone();
    if let Some(Entry { value: Node { value: Value::Mapping(all), .. }, .. }) = tree.entry_mut("services") {
        all.retain(|entry| services.contains(&*entry.key));
    }
    profiles::keep_used(&mut tree, project, |name| services.contains(name));
    tree
}
