//! `extra_hosts:`: names that a service finds at addresses of the author's choice.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde::{Serialize, Serializer};
use serde_json::{Value as Json, json};

use super::{Format, Merger, Reader, Schemas, merger};
use crate::{
    diagnostics::Diagnostic,
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
    (!name.is_empty()).then_some((name, bare(address)))
}

/// An IPv6 address may stand in brackets.
fn bare(address: &str) -> &str {
    address.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(address)
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
        let mut add = |name: &str, place: &Node, address: Node| match index
            .get(name)
            .and_then(|at| entries.get_mut(*at))
            .map(|entry| &mut entry.value.value)
        {
            Some(Value::Sequence(all)) => all.push(address),
            _ => {
                let key: Arc<str> = name.into();
                index.insert(key.clone(), entries.len());
                let value = place.with_value(Value::Sequence(vec![address]));
                entries.push(Entry { key, key_span: place.span.clone(), value });
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
                    address.split(',').for_each(|address| add(name, item, item.written(bare(address))));
                }
            }
            Value::Mapping(all) => {
                for entry in all {
                    match &entry.value.value {
                        Value::Sequence(addresses) => {
                            addresses.iter().for_each(|address| add(&entry.key, &entry.value, address.clone()));
                        }
                        Value::Scalar(scalar) if scalar.kind == ScalarKind::String => {
                            let node = &entry.value;
                            scalar.text.split(',').for_each(|one| add(&entry.key, node, node.written(bare(one))));
                        }
                        _ => return node,
                    }
                }
            }
            Value::Scalar(_) | Value::Broken => return node,
        }
        node.with_value(Value::Mapping(entries))
    }
    fn merge(earlier: Node, later: Node, merger: &mut Merger<'_>) -> Node {
        merger.mappings(earlier, later, &|_| {
            Some(|earlier, later, merger| {
                let mut node = merger.lists(earlier, later);
                if let Value::Sequence(nodes) = &mut node.value {
                    *nodes = merger::unique(std::mem::take(nodes), super::tree_text::fingerprint);
                }
                node
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
