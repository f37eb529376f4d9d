//! A project as Docker Compose prints it in JSON.
//!
//! Tools that read that output find what they look for: it has no `x-` keys but at the top level, says `null` for a command
//! that is not given, and has some mappings even when they are empty.

use serde_json::{Map, Value as Json, json};

/// Adds what Docker Compose's own types print whether it is there or not.
pub(super) fn complete(project: &mut Json) {
    each(project.get_mut("networks"), |network| {
        network.entry("ipam").or_insert_with(|| json!({}));
    });
    each(project.get_mut("services"), |service| {
        for key in ["command", "entrypoint"] {
            service.entry(key).or_insert(Json::Null);
        }
        if let Some(Json::Object(deploy)) = service.get_mut("deploy") {
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
        for list in service.get_mut("blkio_config").and_then(Json::as_object_mut).into_iter().flat_map(Map::values_mut)
        {
            for device in list.as_array_mut().into_iter().flatten().filter_map(Json::as_object_mut) {
                for (key, name) in [("path", "Path"), ("weight", "Weight"), ("rate", "Rate")] {
                    if let Some(value) = device.remove(key) {
                        device.insert(name.to_owned(), value);
                    }
                }
            }
        }
    });
}

fn each(all: Option<&mut Json>, mut change: impl FnMut(&mut Map<String, Json>)) {
    for (_, one) in all.and_then(Json::as_object_mut).into_iter().flatten() {
        if let Json::Object(one) = one {
            change(one);
        }
    }
}
