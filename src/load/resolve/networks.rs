//! `networks:` of a service: a list of names, or a mapping of names to aliases.

use std::collections::{HashMap, HashSet};

use super::{
    Context, Entry, Value,
    keys::{self, Key, later, read as reads},
    service::{Draft, Joined},
};
use crate::diagnostics::Diagnostic;

const KEYS: [Key<Vec<String>>; 9] = [
    reads("aliases", aliases),
    later("driver_opts"),
    later("gw_priority"),
    later("interface_name"),
    later("ipv4_address"),
    later("ipv6_address"),
    later("link_local_ips"),
    later("mac_address"),
    later("priority"),
];

pub(super) fn read(cx: &mut Context<'_>, entry: &Entry, draft: &mut Draft) {
    let mut joined: Vec<Joined> = Vec::new();
    match &entry.value.value {
        Value::Sequence(nodes) => {
            let mut seen = HashMap::new();
            for node in nodes {
                let Some(name) = cx.string("an item of `networks`", node) else { continue };
                if let Some(first) = seen.insert(name, &node.span) {
                    let twice = Diagnostic::error(format!("`{name}` is listed twice")).at(&node.span);
                    cx.push(twice.label(first, "first here"));
                    continue;
                }
                joined.push(Joined { network: name.to_owned(), span: node.span.clone(), aliases: Vec::new() });
            }
        }
        Value::Mapping(entries) => {
            for entry in entries.iter().filter(|entry| !entry.key.starts_with("x-")) {
                let mut aliases = Vec::new();
                let what = format!("network `{}` of a service", entry.key);
                keys::read_mapping(cx, &what, &entry.value, &KEYS, &mut aliases);
                joined.push(Joined { network: entry.key.to_string(), span: entry.key_span.clone(), aliases });
            }
        }
        Value::Scalar(_) if entry.value.is_null() => {}
        Value::Scalar(_) | Value::Broken => cx.mistyped("`networks`", "a list of networks or a mapping", &entry.value),
    }
    draft.networks = Some(joined);
}

fn aliases(cx: &mut Context<'_>, entry: &Entry, aliases: &mut Vec<String>) {
    let mut seen = HashSet::new();
    for node in cx.list("`aliases`", &entry.value) {
        let Some(alias) = cx.string("an alias", node) else { continue };
        // What a name server could answer for (RFC 1035, 2.3.4), without control characters or dots at the ends.
        let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        if alias.is_empty() || alias.len() > 253 || !alias.bytes().all(valid) || alias.starts_with(['.', '-']) {
            cx.push(
                Diagnostic::error(format!("`{alias}` is not a host name"))
                    .at(&node.span)
                    .hint("use letters, digits, `-`, `.` and `_`"),
            );
        } else if seen.insert(alias) {
            aliases.push(alias.to_owned());
        }
    }
}
