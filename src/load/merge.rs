//! Phase 4: several files become one tree, later files weighing more (Compose Specification, "Merge").
//!
//! Mappings are merged key by key, lists are appended, anything else is replaced; [`RULES`] lists the keys for which
//! Compose does something else.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{
    resolve,
    tree::{Entry, Node, Scalar, ScalarKind, Value},
};
use crate::diagnostics::{Diagnostic, Diagnostics};

#[derive(Clone, Copy)]
enum Rule {
    /// The later value stands alone.
    Replace,
    /// A list of `NAME=value` is a mapping.
    Assignments,
    /// A list of names is a mapping of names to what they mean with no further detail.
    Names,
    /// A list whose items are the same if they have the same target.
    Targets,
    /// A list, or one item without one, in which each item stands once.
    Set,
}

/// Keys with rules of their own, `*` standing for any one key.
const RULES: [(&[&str], Rule); 8] = [
    (&["services", "*", "command"], Rule::Replace),
    (&["services", "*", "entrypoint"], Rule::Replace),
    (&["services", "*", "environment"], Rule::Assignments),
    (&["services", "*", "depends_on"], Rule::Names),
    (&["services", "*", "networks"], Rule::Names),
    (&["services", "*", "volumes"], Rule::Targets),
    (&["services", "*", "ports"], Rule::Set),
    (&["services", "*", "tmpfs"], Rule::Set),
];

/// Merges `later` over `earlier`.
pub(crate) fn merge(earlier: Node, later: Node, diagnostics: &mut Diagnostics) -> Node {
    Merger { path: Vec::new(), diagnostics }.merge(earlier, later)
}

struct Merger<'a> {
    path: Vec<Arc<str>>,
    diagnostics: &'a mut Diagnostics,
}

impl Merger<'_> {
    fn rule(&self) -> Option<Rule> {
        let matches = |pattern: &&[&str]| {
            pattern.len() == self.path.len()
                && pattern.iter().zip(&self.path).all(|(want, key)| *want == "*" || *want == &**key)
        };
        RULES.iter().find(|(pattern, _)| matches(pattern)).map(|(_, rule)| *rule)
    }

    fn merge(&mut self, earlier: Node, later: Node) -> Node {
        let rule = self.rule();
        if matches!(rule, Some(Rule::Replace)) || earlier.is_null() {
            return later;
        }
        if later.is_null() {
            return earlier;
        }
        let (earlier, later) = match rule {
            Some(Rule::Assignments) => (as_mapping(earlier, assignment), as_mapping(later, assignment)),
            // Two plain lists of names stay one.
            Some(Rule::Names) if earlier.entries().is_some() || later.entries().is_some() => {
                (as_mapping(earlier, bare_name), as_mapping(later, bare_name))
            }
            Some(Rule::Set) => (as_list(earlier), as_list(later)),
            _ => (earlier, later),
        };
        let span = later.span.clone();
        match (earlier.value, later.value) {
            (Value::Mapping(mine), Value::Mapping(theirs)) => {
                Node::new(span, Value::Mapping(self.mappings(mine, theirs)))
            }
            (Value::Sequence(mine), Value::Sequence(theirs)) => {
                let same: Option<fn(&Node) -> Option<String>> = match rule {
                    Some(Rule::Targets) => Some(resolve::mount_target),
                    Some(Rule::Set | Rule::Names) => Some(|node| Some(fingerprint(node))),
                    _ => None,
                };
                Node::new(span, Value::Sequence(sequences(mine, theirs, same)))
            }
            (Value::Scalar(_), value @ Value::Scalar(_)) => Node::new(span, value),
            (Value::Broken, _) | (_, Value::Broken) => Node::new(span, Value::Broken),
            (mine, theirs) => {
                let (mine, theirs) = (Node::new(earlier.span, mine), Node::new(span, theirs));
                self.diagnostics.push(
                    Diagnostic::error(format!(
                        "`{}` is {} here and {} in an earlier file",
                        self.path.last().map_or("", |key| key),
                        theirs.describe(),
                        mine.describe()
                    ))
                    .at(&theirs.span)
                    .label(&mine.span, "the earlier one"),
                );
                // Its type is the better guess; the other one would only be reported again.
                mine
            }
        }
    }

    fn mappings(&mut self, mut mine: Vec<Entry>, theirs: Vec<Entry>) -> Vec<Entry> {
        let index: HashMap<Arc<str>, usize> =
            mine.iter().enumerate().map(|(index, entry)| (entry.key.clone(), index)).collect();
        for entry in theirs {
            match index.get(&entry.key).and_then(|index| mine.get_mut(*index)) {
                None => mine.push(entry),
                Some(slot) => {
                    self.path.push(entry.key.clone());
                    let nothing = Node::string("", slot.value.span.clone());
                    let earlier = std::mem::replace(&mut slot.value, nothing);
                    slot.value = self.merge(earlier, entry.value);
                    slot.key_span = entry.key_span;
                    self.path.pop();
                }
            }
        }
        mine
    }
}

/// Appends; an item that is the same as an earlier one takes its place.
fn sequences(mut mine: Vec<Node>, theirs: Vec<Node>, same: Option<fn(&Node) -> Option<String>>) -> Vec<Node> {
    let Some(identity) = same else {
        mine.extend(theirs);
        return mine;
    };
    let mut index: HashMap<String, usize> =
        mine.iter().enumerate().filter_map(|(index, node)| Some((identity(node)?, index))).collect();
    // What one file says twice is its own mistake, which a later phase has to see.
    let mut seen = HashSet::new();
    for node in theirs {
        let key = identity(&node);
        match key.as_ref().and_then(|key| index.get(key)) {
            Some(slot) if key.clone().is_some_and(|key| seen.insert(key)) => mine[*slot] = node,
            _ => {
                if let Some(key) = key
                    && seen.insert(key.clone())
                {
                    index.insert(key, mine.len());
                }
                mine.push(node);
            }
        }
    }
    mine
}

fn as_list(node: Node) -> Node {
    match node.value {
        Value::Scalar(_) => Node::new(node.span.clone(), Value::Sequence(vec![node])),
        _ => node,
    }
}

/// A list as the mapping it is short for; left alone if an item cannot be read, so that a later phase says so.
fn as_mapping(node: Node, entry: fn(&Node) -> Option<Entry>) -> Node {
    let Value::Sequence(items) = &node.value else { return node };
    let Some(entries) = items.iter().map(entry).collect::<Option<Vec<_>>>() else { return node };
    // The last of several with one name counts.
    let mut unique: Vec<Entry> = Vec::with_capacity(entries.len());
    let mut index: HashMap<Arc<str>, usize> = HashMap::new();
    for entry in entries {
        match index.get(&entry.key) {
            Some(slot) => unique[*slot] = entry,
            None => {
                index.insert(entry.key.clone(), unique.len());
                unique.push(entry);
            }
        }
    }
    Node::new(node.span, Value::Mapping(unique))
}

fn assignment(node: &Node) -> Option<Entry> {
    let text = &node.scalar()?.text;
    let (key, value) = match text.split_once('=') {
        Some((key, value)) => (key, Node::string(value, node.span.clone())),
        None => (&**text, null(node)),
    };
    Some(Entry { key: key.into(), key_span: node.span.clone(), value })
}

fn bare_name(node: &Node) -> Option<Entry> {
    let key = node.scalar()?.text.clone();
    Some(Entry { key, key_span: node.span.clone(), value: null(node) })
}

fn null(node: &Node) -> Node {
    let scalar = Scalar { text: "".into(), kind: ScalarKind::Null, interpolated: false };
    Node::new(node.span.clone(), Value::Scalar(scalar))
}

/// A text that two nodes share if they say the same.
fn fingerprint(node: &Node) -> String {
    match &node.value {
        Value::Broken => String::new(),
        Value::Scalar(scalar) => scalar.text.to_string(),
        Value::Sequence(nodes) => format!("[{}]", nodes.iter().map(fingerprint).collect::<Vec<_>>().join("\0")),
        Value::Mapping(entries) => {
            let mut parts: Vec<String> =
                entries.iter().map(|entry| format!("{}\0{}", entry.key, fingerprint(&entry.value))).collect();
            parts.sort();
            format!("{{{}}}", parts.join("\0"))
        }
    }
}
