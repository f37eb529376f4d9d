//! A project as it is written out: values in an order that is meant to be read, as YAML or as JSON.

use serde::Serialize;

use crate::{compose::Document, diagnostics::Failure};

/// Sections of a project in the order in which they are written.
const SECTIONS: [&str; 9] =
    ["name", "include", "services", "networks", "volumes", "secrets", "configs", "models", "version"];

/// Anything, in the order of its fields.
pub(super) fn document(value: &impl Serialize) -> Result<Document, Failure> {
    Document::of(value).map_err(|e| Failure::operation("the project cannot be written").caused_by(&e))
}

/// Puts the sections of a project and the keys of its services into the order that Docker Compose has.
pub(super) fn put_in_order(project: &mut Document) {
    if let Document::Map(sections) = project {
        sections.sort_by_key(|(key, _)| SECTIONS.iter().position(|section| section == key).unwrap_or(usize::MAX));
    }
    for service in values(project, "services") {
        if let Document::Map(keys) = service {
            keys.sort_by(|(a, _), (b, _)| (a != "profiles", a).cmp(&(b != "profiles", b)));
        }
    }
}

/// Leaves out what says nothing: that a service has no command of its own, and that a network has no addresses.
pub(super) fn abridge(project: &mut Document) {
    for service in values(project, "services") {
        if let Document::Map(keys) = service {
            keys.retain(|(key, value)| !(matches!(&**key, "command" | "entrypoint") && *value == Document::Null));
        }
    }
    for network in values(project, "networks") {
        if let Document::Map(keys) = network {
            keys.retain(|(key, value)| !(key == "ipam" && *value == Document::Map(Vec::new())));
        }
    }
}

/// The values of a section.
fn values<'d>(project: &'d mut Document, section: &str) -> impl Iterator<Item = &'d mut Document> {
    project.get_mut(section).into_iter().flat_map(Document::values_mut)
}

pub(super) fn yaml(document: &Document) -> Result<String, Failure> {
    // Folding would need a reader that unfolds as we fold; long lines are no trouble.
    let options = serde_saphyr::ser_options! { compact_list_indent: false, folded_wrap_chars: usize::MAX };
    serde_saphyr::to_string_with_options(document, options)
        .map_err(|e| Failure::internal("cannot write the project as YAML").caused_by(&e))
}

pub(super) fn json(document: &Document) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(document)
        .map_err(|e| Failure::internal("cannot write the project as JSON").caused_by(&e))?;
    Ok(text + "\n")
}

/// A `$` of a project stands doubled in what is written, so that it is read as itself.
pub(super) fn escaped(text: &str) -> String {
    text.replace('$', "$$")
}
