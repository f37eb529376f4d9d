//! `healthcheck:`: how it is known that a service is healthy.

use serde_json::{Value as Json, json};

use super::{Flag, Format, Kept, Reader, Schemas, Span, Truncated, mapping::mapping};
use crate::{
    diagnostics::Diagnostic,
    yaml::tree::{Node, ScalarKind, Value},
};

mapping! {
    /// How it is known that a service is healthy.
    pub struct Healthcheck {
        /// The probe: a command line for a shell, or a list that begins with `CMD`, `CMD-SHELL` or `NONE`.
        works test: Probe,
        /// Time a probe may take.
        works timeout: Span,
        /// Time between two probes.
        works interval: Span,
        /// How many probes fail before the service counts as unhealthy.
        works retries: Kept<Truncated<0>>,
        /// Time at the start in which a failure does not count.
        works start_period: Span,
        /// Time between two probes during that time.
        works start_interval: Span,
        /// There is no probe, even if the image has one.
        works disable: Flag,
    }
}

/// A probe.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct Probe(pub Vec<String>);

impl Format for Probe {
    fn canonical(node: Node, _: &mut Reader<'_>) -> Node {
        match node.scalar() {
            Some(scalar) if scalar.kind == ScalarKind::String => {
                let shell = Node { via: node.via.clone(), ..Node::string("CMD-SHELL", node.span.clone()) };
                let command = Node { directive: None, ..node.clone() };
                node.with_value(Value::Sequence(vec![shell, command]))
            }
            _ => node,
        }
    }
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        let Value::Sequence(nodes) = &node.value else {
            cx.mistyped("a string or a list of strings", node);
            return None;
        };
        let words: Vec<String> = nodes.iter().filter_map(|node| cx.string(node).map(str::to_owned)).collect();
        if let Some(first) = words.first()
            && !matches!(first.as_str(), "CMD" | "CMD-SHELL" | "NONE")
        {
            cx.report(
                Diagnostic::error(format!("a probe begins with `CMD`, `CMD-SHELL` or `NONE`, not with `{first}`"))
                    .hint("write `[\"CMD\", …]`, or a string for a shell"),
                nodes.first().unwrap_or(node),
            );
        }
        (!words.is_empty()).then_some(Self(words))
    }
    fn schema(_: &mut Schemas) -> Json {
        json!({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
    }
}
