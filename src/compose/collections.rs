//! Lists, sets and maps of values of one type.

use crate::compose::inherit::inherit;
use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use serde_json::{Value as Json, json};

use super::{Folder, Format, Keys, Merger, Reader, Schemas, Visitor, merger, untyped};
use crate::{
    diagnostics::Diagnostic,
    yaml::tree::{Node, ScalarKind, Value},
};

/// A list; the lists of several files are appended.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct List<T>(pub Vec<T>);

/// A list in which each item stands once: of two that are the same, the later one counts.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Set<T>(pub Vec<T>);

/// A list in which no item may stand twice; those that are written in two ways, such as `5` and `"5"`, are one.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Distinct<T>(pub Vec<T>);

/// One item, or a list of them.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct OneOrMany<T>(pub T);

/// Values by names, which are letters, digits, `.`, `_` and `-`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Named<T>(pub BTreeMap<String, T>);

/// Values by keys of any kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Map<T>(pub BTreeMap<String, T>);

/// A value, or nothing, which means something too.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Nullable<T>(pub Option<T>);

/// A value that is printed whatever it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Kept<T>(pub T);

fn items(mut node: Node, change: &mut dyn FnMut(Node) -> Node) -> Node {
    if let Value::Sequence(nodes) = &mut node.value {
        *nodes = std::mem::take(nodes).into_iter().map(change).collect();
    }
    node
}

fn read_items<T: Format>(node: &Node, cx: &mut Reader<'_>) -> Option<Vec<T>> {
    match &node.value {
        Value::Sequence(nodes) => Some(nodes.iter().filter_map(|node| T::read(node, cx)).collect()),
        _ => {
            no_list::<List<T>>(node, cx);
            None
        }
    }
}

/// Says that something else stands where a list should.
pub(super) fn no_list<L: Format>(node: &Node, cx: &mut Reader<'_>) {
    match item_of::<L>(node, cx) {
        Some(hint) => cx.mistyped_with("a list", node, hint),
        None => cx.mistyped("a list", node),
    }
}

/// How to make a list of what stands where one should, if that would be right.
fn item_of<L: Format>(node: &Node, cx: &Reader<'_>) -> Option<String> {
    let scalar = node.scalar().filter(|scalar| !scalar.text.starts_with('-') && scalar.text.len() < 40)?;
    let text = match (scalar.kind, node.span.text() == &*scalar.text) {
        (ScalarKind::String, true) if !scalar.text.contains([',', ':', '[', ']', '{', '}', '#']) => {
            scalar.text.to_string()
        }
        _ if scalar.text.contains(['"', '\\', '\n']) => return None,
        _ => format!("\"{}\"", scalar.text),
    };
    let item = Node { directive: None, ..Node::string(&scalar.text, node.span.clone()) };
    let list = Node::new(node.span.clone(), Value::Sequence(vec![item]));
    cx.accepts(|cx| {
        let list = L::canonical(list, cx);
        L::read(&list, cx).is_some()
    })
    .then(|| format!("make it a list: write `[{text}]`"))
}

fn each(node: &mut Node, change: &mut dyn FnMut(&mut Node)) {
    if let Value::Sequence(nodes) = &mut node.value {
        nodes.iter_mut().for_each(change);
    }
}

fn visit_items<T: Format>(node: &Node, visitor: &mut Visitor<'_>) {
    if let Value::Sequence(nodes) = &node.value {
        visitor.items(nodes, T::visit);
    }
}

impl<T: Format> Format for List<T> {
    fn omitted(&self) -> bool {
        self.0.is_empty()
    }
    fn canonical(node: Node, cx: &mut Reader<'_>) -> Node {
        items(node, &mut |node| T::canonical(node, cx))
    }
    fn merge(earlier: Node, later: Node, merger: &mut Merger<'_>) -> Node {
        merger.lists(earlier, later)
    }
    fn settle(node: &mut Node, folder: &Folder<'_>) {
        each(node, &mut |node| T::settle(node, folder));
    }
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        read_items(node, cx).map(Self)
    }
    fn schema(schemas: &mut Schemas) -> Json {
        json!({"type": "array", "items": T::schema(schemas)})
    }
    fn keys() -> Keys {
        T::keys().below("[]")
    }
    fn visit(node: &Node, visitor: &mut Visitor<'_>) {
        visit_items::<T>(node, visitor);
    }
}

impl<T: Format> Format for Set<T> {
    fn omitted(&self) -> bool {
        self.0.is_empty()
    }
    fn canonical(node: Node, cx: &mut Reader<'_>) -> Node {
        let mut node = items(node, &mut |node| T::canonical(node, cx));
        if let Value::Sequence(nodes) = &mut node.value {
            *nodes = merger::unique(std::mem::take(nodes), T::identity);
        }
        node
    }
    fn merge(earlier: Node, later: Node, merger: &mut Merger<'_>) -> Node {
        let mut node = merger.lists(earlier, later);
        if let Value::Sequence(nodes) = &mut node.value {
            *nodes = merger::unique(std::mem::take(nodes), T::identity);
        }
        node
    }
    fn settle(node: &mut Node, folder: &Folder<'_>) {
        each(node, &mut |node| T::settle(node, folder));
    }
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        read_items(node, cx).map(Self)
    }
    fn schema(schemas: &mut Schemas) -> Json {
        json!({"type": "array", "items": T::schema(schemas)})
    }
    fn keys() -> Keys {
        T::keys().below("[]")
    }
    fn visit(node: &Node, visitor: &mut Visitor<'_>) {
        visit_items::<T>(node, visitor);
    }
}

impl<T: Format> Format for Distinct<T> {
    fn omitted(&self) -> bool {
        self.0.is_empty()
    }
    fn canonical(node: Node, cx: &mut Reader<'_>) -> Node {
        items(node, &mut |node| T::canonical(node, cx))
    }
    fn merge(earlier: Node, later: Node, merger: &mut Merger<'_>) -> Node {
        merger.lists(earlier, later)
    }
    fn settle(node: &mut Node, folder: &Folder<'_>) {
        each(node, &mut |node| T::settle(node, folder));
        if let Value::Sequence(nodes) = &mut node.value {
            let mut seen = HashMap::new();
            nodes.retain(|node| {
                let Some(scalar) = node.scalar() else { return true };
                let written = (scalar.kind == ScalarKind::String, scalar.text.clone());
                // What is written twice in the same way is a mistake, which reading reports.
                *seen.entry(untyped::text(scalar)).or_insert_with(|| written.clone()) == written
            });
        }
    }
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        if let Value::Sequence(nodes) = &node.value {
            let mut seen = HashMap::new();
            for node in nodes {
                let Some(text) = super::tree_text::fingerprint(node) else { continue };
                if let Some(first) = seen.insert(text, &node.span) {
                    let twice = match node.scalar() {
                        Some(scalar) => format!("`{}` is listed twice", scalar.text),
                        None => "this is listed twice".to_owned(),
                    };
                    let first = first.clone();
                    cx.report(Diagnostic::error(twice).label(&first, "first here").hint("remove one of the two"), node);
                }
            }
        }
        read_items(node, cx).map(Self)
    }
    fn schema(schemas: &mut Schemas) -> Json {
        json!({"type": "array", "items": T::schema(schemas), "uniqueItems": true})
    }
    fn keys() -> Keys {
        T::keys().below("[]")
    }
    fn visit(node: &Node, visitor: &mut Visitor<'_>) {
        visit_items::<T>(node, visitor);
    }
}

impl<T: Format> Format for OneOrMany<T> {
    inherit!(T: merge settle omitted keys visit);
    fn canonical(node: Node, cx: &mut Reader<'_>) -> Node {
        let node = match &node.value {
            Value::Scalar(_) if !node.is_null() => {
                let item = Node { directive: None, ..node.clone() };
                node.with_value(Value::Sequence(vec![item]))
            }
            _ => node,
        };
        T::canonical(node, cx)
    }
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Sequence(_) => T::read(node, cx).map(Self),
            _ => {
                cx.mistyped("a string or a list", node);
                None
            }
        }
    }
    fn schema(schemas: &mut Schemas) -> Json {
        json!({"anyOf": [{"type": "string"}, T::schema(schemas)]})
    }
}

fn values(mut node: Node, cx: &mut Reader<'_>, change: fn(Node, &mut Reader<'_>) -> Node) -> Node {
    if let Value::Mapping(entries) = &mut node.value {
        for entry in entries.iter_mut() {
            let value = std::mem::replace(&mut entry.value, Node::new(entry.key_span.clone(), Value::Broken));
            entry.value = cx.at(&entry.key, |cx| change(value, cx));
        }
    }
    node
}

fn settle_values(node: &mut Node, folder: &Folder<'_>, change: fn(&mut Node, &Folder<'_>)) {
    if let Value::Mapping(entries) = &mut node.value {
        entries.iter_mut().for_each(|entry| change(&mut entry.value, folder));
    }
}

/// What a name looks like.
const NAME_PATTERN: &str = "^[a-zA-Z0-9._-]+$";

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

impl<T: Format> Format for Named<T> {
    fn omitted(&self) -> bool {
        self.0.is_empty()
    }
    fn canonical(node: Node, cx: &mut Reader<'_>) -> Node {
        values(node, cx, T::canonical)
    }
    fn merge(earlier: Node, later: Node, merger: &mut Merger<'_>) -> Node {
        merger.mappings(earlier, later, &|_| Some(T::merge))
    }
    fn settle(node: &mut Node, folder: &Folder<'_>) {
        settle_values(node, folder, T::settle);
    }
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        let Value::Mapping(entries) = &node.value else {
            cx.mistyped("a mapping of names", node);
            return None;
        };
        let mut named = BTreeMap::new();
        for entry in entries {
            if !is_name(&entry.key) {
                let place = Node::new(entry.key_span.clone(), Value::Sequence(Vec::new()));
                let what = cx.what();
                cx.report(
                    Diagnostic::error(format!("`{}` is not a name that {what} may have", entry.key))
                        .hint("use letters, digits, `.`, `_` and `-`"),
                    &place,
                );
            }
            if let Some(value) = cx.at(&entry.key, |cx| T::read(&entry.value, cx)) {
                named.insert(entry.key.to_string(), value);
            }
        }
        Some(Self(named))
    }
    fn schema(schemas: &mut Schemas) -> Json {
        json!({
            "type": "object",
            "patternProperties": {NAME_PATTERN: T::schema(schemas)},
            "additionalProperties": false,
        })
    }
    fn keys() -> Keys {
        T::keys().below(".*")
    }
    fn visit(node: &Node, visitor: &mut Visitor<'_>) {
        node.entries().unwrap_or_default().iter().for_each(|entry| visitor.name(entry, T::visit));
    }
}

impl<T: Format> Format for Map<T> {
    fn omitted(&self) -> bool {
        self.0.is_empty()
    }
    fn canonical(node: Node, cx: &mut Reader<'_>) -> Node {
        values(node, cx, T::canonical)
    }
    fn merge(earlier: Node, later: Node, merger: &mut Merger<'_>) -> Node {
        merger.mappings(earlier, later, &|_| Some(T::merge))
    }
    fn settle(node: &mut Node, folder: &Folder<'_>) {
        settle_values(node, folder, T::settle);
    }
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        let Value::Mapping(entries) = &node.value else {
            cx.mistyped("a mapping", node);
            return None;
        };
        let mut map = BTreeMap::new();
        for entry in entries {
            if let Some(value) = cx.at(&entry.key, |cx| T::read(&entry.value, cx)) {
                map.insert(entry.key.to_string(), value);
            }
        }
        Some(Self(map))
    }
    fn schema(schemas: &mut Schemas) -> Json {
        json!({"type": "object", "additionalProperties": T::schema(schemas)})
    }
    fn keys() -> Keys {
        T::keys().below(".*")
    }
    fn visit(node: &Node, visitor: &mut Visitor<'_>) {
        node.entries().unwrap_or_default().iter().for_each(|entry| visitor.name(entry, T::visit));
    }
}

impl<T: Format> Format for Nullable<T> {
    inherit!(T: merge settle keys visit);
    fn canonical(node: Node, cx: &mut Reader<'_>) -> Node {
        if node.is_null() { node } else { T::canonical(node, cx) }
    }
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        if node.is_null() { Some(Self(None)) } else { T::read(node, cx).map(Some).map(Self) }
    }
    fn schema(schemas: &mut Schemas) -> Json {
        json!({"anyOf": [{"type": "null"}, T::schema(schemas)]})
    }
}

impl<T: Format> Format for Kept<T> {
    inherit!(T: canonical merge settle read schema keys visit);
}

/// What few have, and takes much room: whoever has none has only a pointer's worth of it.
impl<T: Format> Format for Box<T> {
    inherit!(T: canonical merge settle schema keys visit);
    fn identity(node: &Node) -> Option<String> {
        T::identity(node)
    }
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        T::read(node, cx).map(Self::new)
    }
    fn omitted(&self) -> bool {
        T::omitted(self)
    }
}
