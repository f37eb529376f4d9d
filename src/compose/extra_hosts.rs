//! `extra_hosts:`: names that a service finds at addresses of the author's choice.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde::{Serialize, Serializer};
use serde_json::{Value as Json, json};

use super::{Format, Merger, Reader, Schemas, located_key, merger};
use crate::{
    diagnostics::{Diagnostic, Span},
    yaml::tree::{Entry, Node, ScalarKind, Value},
};

/// The addresses of each name, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExtraHosts(pub BTreeMap<String, Vec<String>>);

/// As Compose prints it: a sorted list of `NAME=ADDRESS`.
impl Serialize for ExtraHosts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let all = self.0.iter().flat_map(|(name, all)| all.iter().map(move |one| format!("{name}={one}")));
        let mut all: Vec<String> = all.collect();
        all.sort();
        serializer.collect_seq(all)
    }
}

/// `NAME=ADDRESS` or `NAME:ADDRESS`.
fn split(text: &str) -> Option<(&str, &str)> {
    let (name, address) = text.split_once('=').or_else(|| text.split_once(':'))?;
    Some((name, bare(address)))
}

/// An IPv6 address may stand in brackets.
fn bare(address: &str) -> &str {
    address.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(address)
}

/// A name has each address once.
fn once(addresses: &mut Node) {
    if let Value::Sequence(nodes) = &mut addresses.value {
        *nodes = merger::unique(std::mem::take(nodes), super::tree_text::fingerprint);
    }
}

impl Format for ExtraHosts {
    fn omitted(&self) -> bool {
        self.0.is_empty()
    }
    fn canonical(node: Node, cx: &mut Reader<'_>) -> Node {
        if cx.undecided(&node) && node.entries().is_none() {
            return node;
        }
        let mut entries: Vec<Entry> = Vec::new();
        let mut index: HashMap<Arc<str>, usize> = HashMap::new();
        let mut add = |name: &str, key_span: &Span, place: &Node, address: Node| match index
            .get(name)
            .and_then(|at| entries.get_mut(*at))
            .map(|entry| &mut entry.value.value)
        {
            Some(Value::Sequence(all)) => all.push(address),
            _ => {
                let key: Arc<str> = name.into();
                index.insert(key.clone(), entries.len());
                let value = place.with_value(Value::Sequence(vec![address]));
                entries.push(Entry { key, key_span: key_span.clone(), value });
            }
        };
        match &node.value {
            Value::Sequence(items) => {
                super::service::twice(&node, cx);
                for item in items {
                    let Some(scalar) = item.scalar().filter(|scalar| scalar.kind == ScalarKind::String) else {
                        return node;
                    };
                    let Some((name, address)) = split(&scalar.text) else {
                        cx.report(
                            Diagnostic::error(format!("`{}` names no address", scalar.text))
                                .hint("write `NAME=ADDRESS`"),
                            item,
                        );
                        continue;
                    };
                    for address in address.split(',') {
                        add(name, &item.span, item, item.written(bare(address)));
                    }
                }
            }
            Value::Mapping(all) => {
                for entry in all {
                    let Entry { key, key_span, value: at } = entry;
                    match &at.value {
                        Value::Sequence(addresses) => {
                            addresses.iter().for_each(|address| add(key, key_span, at, address.clone()));
                        }
                        Value::Scalar(scalar) if scalar.kind == ScalarKind::String => {
                            scalar.text.split(',').for_each(|one| add(key, key_span, at, at.written(bare(one))));
                        }
                        _ => return node,
                    }
                }
            }
            Value::Scalar(_) | Value::Broken => return node,
        }
        for entry in &mut entries {
            once(&mut entry.value);
        }
        node.with_value(Value::Mapping(entries))
    }
    fn merge(earlier: Node, later: Node, merger: &mut Merger<'_>) -> Node {
        merger.mappings(earlier, later, &|_| {
            Some(|earlier, later, merger| {
                let mut addresses = merger.lists(earlier, later);
                once(&mut addresses);
                addresses
            })
        })
    }
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        let Value::Mapping(entries) = &node.value else {
            match &node.value {
                Value::Sequence(items) => items.iter().for_each(|item| {
                    cx.string(item);
                }),
                _ => cx.mistyped("a mapping or a list of `NAME=ADDRESS`", node),
            }
            return None;
        };
        let mut hosts = BTreeMap::new();
        for entry in entries {
            if entry.key.is_empty() {
                let nameless = Diagnostic::error(format!("an address of {} has no name", cx.what()));
                cx.push(located_key(nameless.hint("write `NAME=ADDRESS`, or `NAME: ADDRESS` in a mapping"), entry));
            }
            let Value::Sequence(addresses) = &entry.value.value else {
                cx.at(&entry.key, |cx| cx.mistyped("an address as a string, or a list of them", &entry.value));
                continue;
            };
            let addresses = addresses.iter().filter_map(|node| cx.string(node).map(str::to_owned)).collect();
            hosts.insert(entry.key.to_string(), addresses);
        }
        Some(Self(hosts))
    }
    fn schema(schemas: &mut Schemas) -> Json {
        schemas.define("ExtraHosts", |_| {
            json!({"anyOf": [
                {"type": "object", "additionalProperties": {
                    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
                }},
                {"type": "array", "items": {"type": "string"}},
            ]})
        })
    }
}
