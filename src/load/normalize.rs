//! Phase 9: what is meant and not written.
//!
//! Services that name no network are on `default`; a container of the project is the service that it is of; whoever shares
//! something of another service depends on it; what has no name of its own is called after the project (Compose
//! Specification, "networks", "depends_on", "name").

use std::{collections::HashMap, sync::Arc};

use super::{
    project_name::From,
    tree::{Entry, Node, Step, Value},
    variables::Variables,
};
use crate::compose::is_external;

/// The network of services that name none.
const DEFAULT: &str = "default";

/// Writes it into the tree.
pub(super) fn normalize(tree: &mut Node, project: &str, variables: &Variables) {
    let mut uses_default = false;
    own_containers(tree, project);
    if let Some(Entry { value: Node { value: Value::Mapping(services), .. }, .. }) = tree.entry_mut("services") {
        for service in services.iter_mut().filter(|service| service.value.entries().is_some()) {
            uses_default |= default_network(&mut service.value);
            dependencies(&mut service.value);
            build(&mut service.value, variables);
            hooks(&mut service.value);
            if let Some(policy) = service.value.entry_mut("pull_policy")
                && policy.value.scalar().is_some_and(|scalar| &*scalar.text == "if_not_present")
            {
                policy.value = policy.value.written("missing");
            }
        }
    }
    if uses_default {
        let empty = tree.beside(Value::Mapping(Vec::new()));
        tree.put("networks", empty);
        if let Some(networks) = tree.entry_mut("networks") {
            let nothing = networks.value.nothing();
            networks.value.put(DEFAULT, nothing);
        }
    }
    for section in ["networks", "volumes", "configs", "secrets"] {
        let Some(Entry { value: Node { value: Value::Mapping(all), .. }, .. }) = tree.entry_mut(section) else {
            continue;
        };
        for entry in all {
            name(entry, project);
        }
    }
}

/// Writes what is there even if nothing else is added.
pub(super) fn always(tree: &mut Node, project: &str, from: Option<&From>) {
    let mut name = tree.text(project);
    match from {
        Some(From::Given) => name.came(&Step::Outside("-p")),
        Some(From::Folder) => name.came(&Step::Outside("the folder")),
        Some(From::Variable(origin)) => name.came(&Step::Variable("COMPOSE_PROJECT_NAME".to_owned(), origin.clone())),
        Some(From::Written) | None => {}
    }
    match (tree.entry_mut("name"), from) {
        (Some(entry), Some(From::Written)) => {
            if entry.value.scalar().is_none_or(|scalar| &*scalar.text != project) {
                entry.value = entry.value.written(project);
            }
        }
        (Some(entry), _) if entry.value.is_null() => entry.value = name,
        (Some(entry), _) => entry.value = name.instead_of(&entry.value),
        (None, _) => tree.put("name", name),
    }
    let none = tree.beside(Value::Mapping(Vec::new()));
    tree.put("services", none);
    for section in ["networks", "volumes"] {
        let Some(Entry { value: Node { value: Value::Mapping(all), .. }, .. }) = tree.entry_mut(section) else {
            continue;
        };
        // Declared with nothing to say is declared all the same.
        for entry in all.iter_mut().filter(|entry| entry.value.is_null()) {
            entry.value = entry.value.with_value(Value::Mapping(Vec::new()));
        }
    }
}

/// True if the service is on the default network.
fn default_network(service: &mut Node) -> bool {
    if service.entry("provider").is_some() {
        return false;
    }
    let missing = match service.entry("networks").map(|entry| &entry.value.value) {
        None => true,
        Some(Value::Mapping(networks)) => networks.is_empty(),
        Some(_) => return false,
    };
    if missing && service.entry("network_mode").is_some_and(|mode| !mode.value.is_empty_text()) {
        return false;
    }
    if missing {
        let nothing = service.nothing();
        let key_span = service.span.clone();
        let networks = service.beside(Value::Mapping(vec![Entry { key: DEFAULT.into(), key_span, value: nothing }]));
        let networks = networks;
        match service.entry_mut("networks") {
            Some(entry) => entry.value = networks,
            None => service.put("networks", networks),
        }
        return true;
    }
    service.entry("networks").is_some_and(|networks| networks.value.entry(DEFAULT).is_some())
}

/// Where a namespace can be said to be that of somebody else.
const SHARED: [&str; 4] = ["network_mode", "ipc", "pid", "uts"];

/// `container:NAME` of a container of this project means its service: that is who has to be there first.
fn own_containers(tree: &mut Node, project: &str) {
    let container = |node: &Node| -> Option<String> {
        let scalar = node.scalar()?;
        scalar.text.strip_prefix("container:").map(str::to_owned)
    };
    let Some(Entry { value: Node { value: Value::Mapping(services), .. }, .. }) = tree.entry_mut("services") else {
        return;
    };
    let named = |service: &Node, key: &str| service.entry(key).and_then(|entry| container(&entry.value));
    if !services.iter().any(|service| SHARED.iter().any(|key| named(&service.value, key).is_some())) {
        return;
    }
    let names: HashMap<String, Arc<str>> = services
        .iter()
        .map(|service| {
            let own = service.value.entry("container_name").and_then(|entry| entry.value.scalar());
            let own = own.map(|scalar| scalar.text.to_string()).filter(|name| !name.is_empty());
            (own.unwrap_or_else(|| format!("{project}-{}-1", service.key)), service.key.clone())
        })
        .collect();
    for service in services.iter_mut() {
        for key in SHARED {
            let Some(service_of) = named(&service.value, key).and_then(|name| names.get(&name).cloned()) else {
                continue;
            };
            if let Some(entry) = service.value.entry_mut(key) {
                entry.value = entry.value.written(&format!("service:{service_of}"));
            }
        }
    }
}

/// Who shares something of another service depends on it.
fn dependencies(service: &mut Node) {
    let mut implied: Vec<(String, Node, bool)> = Vec::new();
    let text = |node: &Node| node.scalar().map(|scalar| scalar.text.to_string());
    let list = |key: &str| match service.entry(key).map(|entry| &entry.value.value) {
        Some(Value::Sequence(nodes)) => nodes.clone(),
        _ => Vec::new(),
    };
    for node in list("links") {
        if let Some(link) = text(&node) {
            let name = link.split_once(':').filter(|(_, alias)| !alias.contains(':')).map_or(&*link, |(name, _)| name);
            implied.push((name.to_owned(), node, true));
        }
    }
    for key in ["network_mode", "ipc", "pid", "uts", "cgroup"] {
        let Some(entry) = service.entry(key) else { continue };
        if let Some(name) = text(&entry.value).as_deref().and_then(|text| text.strip_prefix("service:")) {
            implied.push((name.to_owned(), entry.value.clone(), true));
        }
    }
    for node in list("volumes_from") {
        if let Some(from) = text(&node).filter(|from| !from.starts_with("container:")) {
            implied.push((from.split(':').next().unwrap_or_default().to_owned(), node, false));
        }
    }
    if implied.is_empty() {
        return;
    }
    let empty = service.beside(Value::Mapping(Vec::new()));
    service.put("depends_on", empty);
    let Some(depends_on) = service.entry_mut("depends_on") else { return };
    depends_on.value.put_all(implied.into_iter().map(|(name, node, restart)| {
        let entry = |key: &str, value: Node| Entry { key: key.into(), key_span: node.span.clone(), value };
        let mut entries = vec![entry("condition", node.text("service_started"))];
        if restart {
            entries.push(entry("restart", node.flag(true)));
        }
        entries.push(entry("required", node.flag(true)));
        let value = node.beside(Value::Mapping(entries));
        (name, value)
    }));
}

/// What runs before a service runs on the image of the service, unless it says another (compose-go, `loader/normalize.go`).
fn hooks(service: &mut Node) {
    let said = |key: &str| service.entry(key).filter(|entry| !entry.value.is_null() && !entry.value.is_empty_text());
    if said("rootfs").is_some() {
        return;
    }
    let Some(image) = said("image").and_then(|entry| Some(entry.value.scalar()?.text.clone())) else { return };
    let Some(hooks) = service.entry_mut("pre_start") else { return };
    let Value::Sequence(hooks) = &mut hooks.value.value else { return };
    for hook in hooks.iter_mut().filter(|hook| hook.entries().is_some()) {
        let image = hook.text(&image);
        hook.put_unless_said("image", image);
    }
}

fn build(service: &mut Node, variables: &Variables) {
    let Some(build) = service.entry_mut("build") else { return };
    super::environment::build_arguments(&mut build.value, variables);
    if build.value.entry("dockerfile_inline").is_none_or(|inline| inline.value.is_empty_text()) {
        let dockerfile = build.value.text("Dockerfile");
        build.value.put_unless_said("dockerfile", dockerfile);
    }
}

/// What is external is called what it is called; anything else after the project.
fn name(entry: &mut Entry, project: &str) {
    if entry.value.is_null() {
        entry.value = entry.value.beside(Value::Mapping(Vec::new()));
    }
    let external = entry.value.entry("external").map(|external| external.value.clone());
    let name = match external {
        Some(external) if external.entries().is_some() => {
            let name = external.entry("name").filter(|name| !name.value.is_empty_text());
            name.map(|name| name.value.clone()).unwrap_or_else(|| external.text(&entry.key))
        }
        Some(external) if is_external(&entry.value) => external.text(&entry.key),
        _ => entry.value.text(&format!("{project}_{}", entry.key)),
    };
    entry.value.put_unless_said("name", name);
}
