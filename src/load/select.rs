//! A part of a project: some services, with all that they depend on.

use std::collections::BTreeSet;

use super::tree::{Entry, Node, Value};
use crate::compose::Project;

/// Takes out the other services; true if there were any.
pub(super) fn keep_only(tree: &mut Node, project: &Project, names: &[String]) -> bool {
    let Some(Entry { value: Node { value: Value::Mapping(services), .. }, .. }) = tree.entry_mut("services") else {
        return false;
    };
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
    let before = services.len();
    services.retain(|entry| kept.contains(&*entry.key));
    services.len() < before
}
