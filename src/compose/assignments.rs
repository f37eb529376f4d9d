//! `NAME=value` in a list, or names and values in a mapping.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;
use serde_json::{Value as Json, json};

use super::{Folder, Format, Merger, Reader, Schemas, untyped};
use crate::{
    diagnostics::Diagnostic,
    yaml::tree::{Entry, Node, Scalar, ScalarKind, Value},
};

/// Texts by name; a name alone has an empty one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Labels(pub BTreeMap<String, String>);

/// Variables by name; a name alone takes its value from elsewhere, if there is one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Environment(pub BTreeMap<String, Option<String>>);

/// Reports the names of a mapping that are empty. In a list they may be: a variable may have made them so.
fn unnamed(node: &Node, what: &dyn Fn(&Reader<'_>) -> Diagnostic, cx: &mut Reader<'_>) {
    for entry in node.entries().unwrap_or_default().iter().filter(|entry| entry.key.is_empty()) {
        let place = Node::new(entry.key_span.clone(), Value::Sequence(Vec::new()));
        cx.report(what(cx), &place);
    }
}

/// The mapping that a list is short for; left alone if an item cannot be read, so that reading says so.
fn long(node: Node, cx: &Reader<'_>) -> Node {
    let Value::Sequence(items) = &node.value else { return node };
    if !items.iter().all(|item| item.scalar().is_some_and(|scalar| scalar.kind == ScalarKind::String)) {
        return node;
    }
    let unnamed = |item: &Node| {
        cx.undecided(item)
            && item.scalar().is_some_and(|scalar| scalar.text.split('=').next().unwrap_or("").contains('$'))
    };
    if items.iter().any(unnamed) {
        // Variables are filled in in items and not in keys.
        return node;
    }
    // The last of several with one name counts.
    let mut entries: Vec<Entry> = Vec::with_capacity(items.len());
    let mut index: std::collections::HashMap<Arc<str>, usize> = std::collections::HashMap::new();
    for item in items {
        let Some(entry) = assignment(item) else { continue };
        match index.get(&entry.key) {
            Some(slot) => entries[*slot] = entry,
            None => {
                index.insert(entry.key.clone(), entries.len());
                entries.push(entry);
            }
        }
    }
    node.with_value(Value::Mapping(entries))
}

fn assignment(item: &Node) -> Option<Entry> {
    let text = &item.scalar()?.text;
    let scalar = |text: &str, kind| Value::Scalar(Scalar { text: text.into(), kind, interpolated: false });
    let (key, value) = match text.split_once('=') {
        Some((key, value)) => (key, scalar(value, ScalarKind::String)),
        None => (&**text, scalar("", ScalarKind::Null)),
    };
    Some(Entry { key: key.into(), key_span: item.part(0..key.len()), value: item.with_value(value) })
}

fn merge(earlier: Node, later: Node, merger: &mut Merger<'_>) -> Node {
    merger.mappings(earlier, later, &|_| None)
}

/// Each name with its text, if it has one.
fn read(node: &Node, cx: &mut Reader<'_>) -> Option<BTreeMap<String, Option<String>>> {
    let entries = match &node.value {
        Value::Mapping(entries) => entries,
        Value::Sequence(items) => {
            items.iter().for_each(|item| wrong_item(item, cx));
            return None;
        }
        _ => {
            cx.mistyped("a mapping or a list of `NAME=value`", node);
            return None;
        }
    };
    let mut values = BTreeMap::new();
    for entry in entries {
        match &entry.value.value {
            Value::Scalar(scalar) if scalar.kind == ScalarKind::Timestamp => {
                cx.at(&entry.key, |cx| cx.mistyped("a string, a number, a boolean or nothing", &entry.value));
            }
            Value::Scalar(scalar) => {
                let text = (scalar.kind != ScalarKind::Null).then(|| untyped::text(scalar));
                values.insert(entry.key.to_string(), text);
            }
            Value::Broken => {}
            _ => cx.at(&entry.key, |cx| cx.mistyped("a string, a number, a boolean or nothing", &entry.value)),
        }
    }
    Some(values)
}

fn wrong_item(item: &Node, cx: &mut Reader<'_>) {
    if let Some([entry]) = item.entries() {
        let what = cx.what();
        cx.report(
            Diagnostic::error(format!("an item of {what} is written `NAME=value`"))
                .hint(format!("write `- {}=…`, or leave out the dashes", entry.key)),
            item,
        );
    } else {
        cx.string(item);
    }
}

fn schema(schemas: &mut Schemas) -> Json {
    schemas.define("Assignments", |_| {
        json!({"anyOf": [
            {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean", "null"]}},
            {"type": "array", "items": {"type": "string"}},
        ]})
    })
}

impl Format for Labels {
    fn omitted(&self) -> bool {
        self.0.is_empty()
    }
    fn canonical(node: Node, cx: &mut Reader<'_>) -> Node {
        unnamed(&node, &|cx| Diagnostic::error(format!("a name in {} is empty", cx.what())), cx);
        long(node, cx)
    }
    fn merge(earlier: Node, later: Node, merger: &mut Merger<'_>) -> Node {
        merge(earlier, later, merger)
    }
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        read(node, cx)
            .map(|values| Self(values.into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect()))
    }
    fn schema(schemas: &mut Schemas) -> Json {
        schema(schemas)
    }
}

impl Format for Environment {
    fn omitted(&self) -> bool {
        self.0.is_empty()
    }
    fn canonical(node: Node, cx: &mut Reader<'_>) -> Node {
        unnamed(&node, &|_| Diagnostic::error("`` is not the name of a variable"), cx);
        long(node, cx)
    }
    fn merge(earlier: Node, later: Node, merger: &mut Merger<'_>) -> Node {
        merge(earlier, later, merger)
    }
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        for entry in node.entries().unwrap_or_default() {
            if entry.key.ends_with(char::is_whitespace) {
                let place = Node::new(entry.key_span.clone(), Value::Sequence(Vec::new()));
                let diagnostic = Diagnostic::error(format!("the variable `{}` ends with a blank", entry.key));
                cx.report(diagnostic.hint("leave no blank before `=`"), &place);
            }
        }
        read(node, cx).map(Self)
    }
    fn schema(schemas: &mut Schemas) -> Json {
        schema(schemas)
    }
}

/// Folders or references of other kinds by name, for a build.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Contexts(pub BTreeMap<String, String>);

impl Format for Contexts {
    fn omitted(&self) -> bool {
        self.0.is_empty()
    }
    fn canonical(node: Node, cx: &mut Reader<'_>) -> Node {
        if let Value::Sequence(items) = &node.value {
            for item in items {
                if item.scalar().is_some_and(|scalar| !scalar.text.contains('=')) {
                    cx.report(Diagnostic::error("a context in a list is written `NAME=WHERE`"), item);
                }
            }
        }
        long(node, cx)
    }
    fn merge(earlier: Node, later: Node, merger: &mut Merger<'_>) -> Node {
        merge(earlier, later, merger)
    }
    fn settle(node: &mut Node, folder: &Folder<'_>) {
        if let Value::Mapping(entries) = &mut node.value {
            entries.iter_mut().for_each(|entry| super::build::context_path(&mut entry.value, folder));
        }
    }
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        Labels::read(node, cx).map(|labels| Self(labels.0))
    }
    fn schema(schemas: &mut Schemas) -> Json {
        schema(schemas)
    }
}
