//! Command lines: a list of words, or a string that is split like a shell splits it.

use serde::Serialize;
use serde_json::{Value as Json, json};

use super::super::{Format, Reader, Schemas};
use super::split::split;
use crate::{
    diagnostics::Diagnostic,
    yaml::tree::{Directive, Node, ScalarKind, Value},
};

/// A command line; none: what the image says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Words(pub Option<Vec<String>>);

impl Format for Words {
    fn canonical(node: Node, cx: &mut Reader<'_>) -> Node {
        if node.is_null() {
            // What the image says is a choice too: it counts over a command of an earlier file.
            return Node { directive: Some(Directive::Override), ..node };
        }
        let Some(scalar) = node.scalar().filter(|scalar| scalar.kind == ScalarKind::String) else { return node };
        if cx.undecided(&node) {
            return node;
        }
        match split(&scalar.text) {
            Ok(words) => {
                let nodes = words
                    .iter()
                    .map(|word| Node { via: node.via.clone(), ..Node::string(word, node.span.clone()) })
                    .collect();
                node.with_value(Value::Sequence(nodes))
            }
            Err(problem) => {
                let what = cx.what();
                cx.report(
                    Diagnostic::error(format!("{what} cannot be split into words: {problem}"))
                        .hint("write it as a list, one word per item"),
                    &node,
                );
                node.with_value(Value::Broken)
            }
        }
    }
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            _ if node.is_null() => Some(Self(None)),
            Value::Sequence(nodes) => {
                // All items are looked at, so that all mistakes are found.
                let words: Vec<Option<&str>> = nodes.iter().map(|node| cx.string(node)).collect();
                words.into_iter().map(|word| word.map(str::to_owned)).collect::<Option<_>>().map(Some).map(Self)
            }
            _ => {
                cx.mistyped("a string or a list of strings", node);
                None
            }
        }
    }
    fn schema(schemas: &mut Schemas) -> Json {
        schemas.define("Command", |_| {
            json!({"anyOf": [{"type": "null"}, {"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
        })
    }
}
