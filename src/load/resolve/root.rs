//! The top level of a file.

use std::collections::{BTreeMap, HashMap};

use super::{
    Context, Entry, Node,
    keys::{self, Key, instead, later, read as reads},
    service::{self, Draft},
};
use crate::{
    diagnostics::Diagnostic,
    model::{Network, NetworkName, Volume, VolumeName},
};

/// What the top level declares, references not yet checked.
#[derive(Default)]
pub(super) struct Root {
    /// In file order.
    pub(super) services: Vec<Draft>,
    /// Services whose names are no names: known all the same, so that references to them are not reported too.
    pub(super) misnamed: HashMap<String, ()>,
    pub(super) networks: BTreeMap<NetworkName, Network>,
    pub(super) volumes: BTreeMap<VolumeName, Volume>,
}

const KEYS: [Key<Root>; 9] = [
    // Settled before variables were filled in.
    keys::earlier("name"),
    reads("services", services),
    reads("networks", networks),
    reads("volumes", volumes),
    reads("version", version),
    instead("include", "name the other file with a second `-f`"),
    instead("configs", "mount a file with `volumes:`"),
    instead("secrets", "mount a file with `volumes:`"),
    later("models"),
];

const NETWORK_KEYS: [Key<Network>; 10] = [
    later("attachable"),
    later("driver"),
    later("driver_opts"),
    later("enable_ipv4"),
    later("enable_ipv6"),
    later("external"),
    later("internal"),
    later("ipam"),
    later("labels"),
    later("name"),
];

const VOLUME_KEYS: [Key<Volume>; 5] =
    [later("driver"), later("driver_opts"), later("external"), later("labels"), later("name")];

pub(super) fn read(cx: &mut Context<'_>, tree: &Node) -> Option<Root> {
    let mut root = Root::default();
    keys::read_mapping(cx, "a Compose file", tree, &KEYS, &mut root);
    let declared = tree.entry("services").and_then(|entry| entry.value.entries()).is_some_and(|all| !all.is_empty());
    if !declared {
        let place = tree.entry("services").map_or(tree.span.part(0..0), |entry| entry.key_span.clone());
        cx.push(Diagnostic::error("no service is declared").at(&place).hint("declare at least one under `services:`"));
        return None;
    }
    Some(root)
}

fn services(cx: &mut Context<'_>, entry: &Entry, root: &mut Root) {
    let Some(entries) = entry.value.entries() else {
        if !entry.value.is_null() {
            cx.mistyped("`services`", "a mapping of names to services", &entry.value);
        }
        return;
    };
    for entry in entries.iter().filter(|entry| !entry.key.starts_with("x-")) {
        match entry.key.parse() {
            Ok(name) => root.services.push(service::read(cx, name, entry)),
            Err(error) => {
                cx.push(Diagnostic::error(format!("{error}")).at(&entry.key_span));
                root.misnamed.insert(entry.key.to_string(), ());
            }
        }
    }
}

fn networks(cx: &mut Context<'_>, entry: &Entry, root: &mut Root) {
    declared(cx, entry, "network", &NETWORK_KEYS, &mut root.networks);
}

fn volumes(cx: &mut Context<'_>, entry: &Entry, root: &mut Root) {
    declared(cx, entry, "volume", &VOLUME_KEYS, &mut root.volumes);
}

/// `NAME: {…}` for each of what is declared.
fn declared<N, T>(cx: &mut Context<'_>, entry: &Entry, what: &str, table: &[Key<T>], into: &mut BTreeMap<N, T>)
where
    N: std::str::FromStr<Err = crate::model::InvalidName> + Ord,
    T: Default,
{
    let Some(entries) = entry.value.entries() else {
        if !entry.value.is_null() {
            cx.mistyped(&format!("`{}`", entry.key), &format!("a mapping of names to {what}s"), &entry.value);
        }
        return;
    };
    for entry in entries.iter().filter(|entry| !entry.key.starts_with("x-")) {
        match entry.key.parse() {
            Ok(name) => {
                let mut value = T::default();
                keys::read_mapping(cx, &format!("{what} `{}`", entry.key), &entry.value, table, &mut value);
                into.insert(name, value);
            }
            Err(error) => cx.push(Diagnostic::error(format!("{error}")).at(&entry.key_span)),
        }
    }
}

fn version(cx: &mut Context<'_>, entry: &Entry, _: &mut Root) {
    cx.push(Diagnostic::warning("`version` is obsolete and means nothing").at(&entry.key_span).hint("remove the line"));
}
