//! A project as Docker Compose prints it in JSON.
//!
//! Tools that read that output find what they look for: it has no `x-` keys but at the top level, says `null` for a command
//! that is not given, and has some mappings even when they are empty.

use serde_json::Error;

use crate::compose::{Document, Project};

/// The text of a project. A service is made when it is written, and gone after that: all of them at once would take a sixth
/// of the memory of the process.
pub(super) fn text(project: &Project) -> Result<String, Error> {
    let mut rest = Document::of(&project.without_services())?;
    complete(&mut rest);
    let Some(services) = &project.services else { return Ok(rest.json()) };
    rest.json_with(
        "services",
        services.0.0.iter().map(|(name, service)| {
            let mut service = Document::of(service)?;
            complete_service(&mut service);
            Ok((name.as_str(), service))
        }),
    )
}

/// Adds what Docker Compose's own types print whether it is there or not, and puts the keys in its order.
fn complete(project: &mut Document) {
    // Its JSON knows no models.
    project.remove("models");
    for network in project.get_mut("networks").into_iter().flat_map(Document::values_mut) {
        network.default("ipam", EMPTY);
        if let Some(ipam) = network.get_mut("ipam") {
            // Read, and printed nowhere.
            ipam.remove("options");
        }
    }
    project.sort();
}

/// The same for a service.
fn complete_service(service: &mut Document) {
    for key in ["command", "entrypoint"] {
        service.default(key, Document::Null);
    }
    // Read, and printed nowhere.
    service.remove("pull_refresh_after");
    let scale = service.get_mut("scale").cloned();
    if let Some(deploy) = service.get_mut("deploy") {
        if let Some(scale) = scale {
            deploy.default("replicas", scale);
        }
        let reservations = deploy.get_mut("resources").and_then(|resources| resources.get_mut("reservations"));
        let generic = reservations.and_then(|kept| kept.get_mut("generic_resources"));
        for resource in generic.into_iter().flat_map(Document::values_mut) {
            if let Some(amount) = resource.get_mut("discrete_resource_spec") {
                amount.default("kind", Document::Text(String::new()));
                amount.default("value", Document::Number(0.into()));
            }
        }
        for key in ["resources", "placement"] {
            deploy.default(key, EMPTY);
        }
    }
    let watched = service.get_mut("develop").and_then(|develop| develop.get_mut("watch"));
    for rule in watched.into_iter().flat_map(Document::values_mut) {
        rule.default("exec", Document::Map(vec![("command".into(), Document::Null)]));
    }
    if let Some(Document::Map(lists)) = service.get_mut("blkio_config") {
        for (name, list) in lists {
            list.values_mut().for_each(|device| throttled(name, device));
        }
    }
    service.sort();
}

const EMPTY: Document = Document::Map(Vec::new());

/// A device has Go's names of the fields, which its types give no others.
fn throttled(list: &str, device: &mut Document) {
    let Document::Map(entries) = device else { return };
    let number = if list.starts_with("weight") {
        ("weight", "Weight", Document::Number(0.into()))
    } else {
        ("rate", "Rate", Document::Text("0".to_owned()))
    };
    let mut take = |key: &str| {
        let at = entries.iter().position(|(name, _)| name == key)?;
        Some(entries.swap_remove(at).1)
    };
    let path = take("path").unwrap_or_else(|| Document::Text(String::new()));
    let amount = take(number.0).unwrap_or(number.2);
    *entries = vec![("Path".into(), path), (number.1.into(), amount)];
}
