//! A project as it is written out: values in an order that is meant to be read, as YAML or as JSON.

use crate::{compose::Document, diagnostics::Failure};

/// Sections of a project in the order in which they are written.
const SECTIONS: [&str; 9] =
    ["name", "include", "services", "networks", "volumes", "secrets", "configs", "models", "version"];

/// The sections of a project and the keys of its services in the order that Docker Compose has.
pub(super) fn in_order(mut document: Document) -> Document {
    if let Document::Map(sections) = &mut document {
        sections.sort_by_key(|(key, _)| SECTIONS.iter().position(|section| section == key).unwrap_or(usize::MAX));
    }
    for service in section(&mut document, "services") {
        if let Document::Map(keys) = service {
            keys.sort_by(|(a, _), (b, _)| (a != "profiles", a).cmp(&(b != "profiles", b)));
        }
    }
    document
}

/// Leaves out what says nothing: that a service has no command of its own, and that a network has no addresses.
pub(super) fn brief(mut document: Document) -> Document {
    for service in section(&mut document, "services") {
        if let Document::Map(keys) = service {
            keys.retain(|(key, value)| !(matches!(&**key, "command" | "entrypoint") && *value == Document::Null));
        }
    }
    for network in section(&mut document, "networks") {
        if let Document::Map(keys) = network {
            keys.retain(|(key, value)| !(key == "ipam" && *value == Document::Map(Vec::new())));
        }
    }
    document
}

pub(super) fn yaml(document: &Document) -> Result<String, Failure> {
    // Folding would need a reader that unfolds as we fold; long lines are no trouble.
    let options = serde_saphyr::ser_options! { compact_list_indent: false, folded_wrap_chars: usize::MAX };
    serde_saphyr::to_string_with_options(document, options)
        .map_err(|e| Failure::internal("cannot write the project as YAML").caused_by(&e))
}

/// A `$` of a project stands doubled in what is written, so that it is read as itself.
pub(super) fn escaped(text: String) -> String {
    if text.contains('$') { text.replace('$', "$$") } else { text }
}

/// The values of a section.
fn section<'d>(document: &'d mut Document, name: &str) -> impl Iterator<Item = &'d mut Document> {
    document.get_mut(name).into_iter().flat_map(Document::values_mut)
}
