//! A project as Docker Compose prints it in JSON.
//!
//! Tools that read that output find what they look for: it has no `x-` keys but at the top level, says `null` for a command
//! that is not given, and has some mappings even when they are empty.

use serde_json::{Map, Value as Json, json};

/// Adds what Docker Compose's own types print whether it is there or not.
pub(super) fn complete(project: &mut Json) {
    if let Json::Object(project) = project {
        // Its JSON knows no models.
        project.remove("models");
    }
    each(project.get_mut("networks"), |network| {
        let ipam = network.entry("ipam").or_insert_with(|| json!({}));
        if let Json::Object(ipam) = ipam {
            // Read, and printed nowhere.
            ipam.remove("options");
        }
    });
    each(project.get_mut("services"), |service| {
        for key in ["command", "entrypoint"] {
            service.entry(key).or_insert(Json::Null);
        }
        // Read, and printed nowhere.
        service.remove("pull_refresh_after");
        let scale = service.get("scale").cloned();
        if let Some(Json::Object(deploy)) = service.get_mut("deploy") {
            if let Some(scale) = scale {
                deploy.entry("replicas").or_insert(scale);
            }
            let reservations = deploy.get_mut("resources").and_then(|resources| resources.get_mut("reservations"));
            let generic = reservations.and_then(|kept| kept.get_mut("generic_resources"));
            for resource in generic.and_then(Json::as_array_mut).into_iter().flatten() {
                if let Some(Json::Object(spec)) = resource.get_mut("discrete_resource_spec") {
                    spec.entry("kind").or_insert_with(|| json!(""));
                    spec.entry("value").or_insert_with(|| json!(0));
                }
            }
            for key in ["resources", "placement"] {
                deploy.entry(key).or_insert_with(|| json!({}));
            }
        }
        let watched = service.get_mut("develop").and_then(|develop| develop.get_mut("watch"));
        for rule in watched.and_then(Json::as_array_mut).into_iter().flatten() {
            if let Json::Object(rule) = rule {
                rule.entry("exec").or_insert_with(|| json!({"command": null}));
            }
        }
        // Go's names of the fields, which its types give no others.
        let lists = service.get_mut("blkio_config").and_then(Json::as_object_mut).into_iter().flatten();
        for (list_name, list) in lists {
            for device in list.as_array_mut().into_iter().flatten().filter_map(Json::as_object_mut) {
                device.retain(|key, _| matches!(key.as_str(), "path" | "weight" | "rate"));
                let number = if list_name.starts_with("weight") {
                    ("weight", "Weight", json!(0))
                } else {
                    ("rate", "Rate", json!("0"))
                };
                for (key, name, none) in [("path", "Path", json!("")), number] {
                    let value = device.remove(key).unwrap_or(none);
                    device.insert(name.to_owned(), value);
                }
            }
        }
    });
}

/// Doubles each `$`, so that what is printed says the same when it is read again.
pub(super) fn escape(json: &mut Json) {
    match json {
        Json::String(text) if text.contains('$') => *text = text.replace('$', "$$"),
        Json::Array(items) => items.iter_mut().for_each(escape),
        Json::Object(entries) => {
            entries.values_mut().for_each(escape);
            if entries.keys().any(|key| key.contains('$')) {
                *entries =
                    std::mem::take(entries).into_iter().map(|(key, value)| (key.replace('$', "$$"), value)).collect();
            }
        }
        _ => {}
    }
}

fn each(all: Option<&mut Json>, mut change: impl FnMut(&mut Map<String, Json>)) {
    for (_, one) in all.and_then(Json::as_object_mut).into_iter().flatten() {
        if let Json::Object(one) = one {
            change(one);
        }
    }
}
