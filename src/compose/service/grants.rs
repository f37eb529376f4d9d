//! Configs and secrets that a service, or a build, may read.

use crate::compose::inherit::inherit;
use serde::{Serialize, Serializer};
use serde_json::{Value as Json, json};

use super::super::{
    Folder, Format, List, Merger, Reader, Schemas, Set, Text,
    mapping::{made_of, mapping},
    merger, untyped,
};
use crate::{
    diagnostics::Diagnostic,
    yaml::tree::{Node, ScalarKind, Value},
};

mapping! {
    /// A config or a secret that may be read.
    pub struct FileGrant {
        /// Its name in the file.
        works source: Text,
        /// Its path in the container.
        works target: Text,
        /// User that it belongs to.
        works uid: Text,
        /// Group that it belongs to.
        works gid: Text,
        /// Permission bits, in octal.
        works mode: FileMode,
    }
    rules {
        const EXPECTED: &'static str = "a name or a mapping";
        fn long(node: Node, _: &mut Reader<'_>) -> Node {
            match node.scalar() {
                Some(scalar) if scalar.kind == ScalarKind::String => {
                    let source = Node { directive: None, ..node.clone() };
                    made_of(&node, vec![("source", source)])
                }
                _ => node,
            }
        }
        fn short_schemas() -> Vec<Json> {
            vec![json!({"type": "string"})]
        }
        fn check(&self, node: &Node, cx: &mut Reader<'_>) {
            if self.source.as_ref().is_none_or(|source| source.0.is_empty()) && node.entries().is_some() {
                let what = cx.what();
                cx.report(Diagnostic::error(format!("an item of {what} has no `source`, which it needs")), node);
            }
        }
        fn identity(node: &Node) -> Option<String> {
            let text = |key: &str| Some(node.entry(key)?.value.scalar()?.text.to_string());
            text("target").or_else(|| text("source").map(|source| format!("/{source}")))
        }
    }
}

/// Secrets that a service may read: under `/run/secrets`, unless another place is named.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct SecretGrants(pub Set<FileGrant>);

/// Each target once. A secret that names none is put where all of them are.
fn once(mut node: Node) -> Node {
    if let Value::Sequence(grants) = &mut node.value {
        *grants = merger::unique(std::mem::take(grants), |node| {
            let text =
                |key: &str| Some(node.entry(key)?.value.scalar()?.text.to_string()).filter(|text| !text.is_empty());
            text("target").or_else(|| text("source").map(|source| format!("/run/secrets/{source}")))
        });
    }
    node
}

impl Format for SecretGrants {
    inherit!(Set<FileGrant>: read omitted schema keys visit);
    fn canonical(node: Node, cx: &mut Reader<'_>) -> Node {
        once(List::<FileGrant>::canonical(node, cx))
    }
    fn merge(earlier: Node, later: Node, merger: &mut Merger<'_>) -> Node {
        once(merger.lists(earlier, later))
    }
    fn settle(node: &mut Node, _: &Folder<'_>) {
        let Value::Sequence(grants) = &mut node.value else { return };
        for grant in grants {
            let source = grant.entry("source").and_then(|entry| entry.value.scalar()).map(|scalar| scalar.text.clone());
            if let Some(source) = source {
                let target = grant.text(&format!("/run/secrets/{source}"));
                grant.put_unless_said("target", target);
            }
        }
    }
}

/// Permission bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMode(pub u32);

/// As Compose prints it: a string of octal digits.
impl Serialize for FileMode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("0{:o}", self.0))
    }
}

impl Format for FileMode {
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        let scalar = cx.string_or_number(node)?;
        let mode = match scalar.kind {
            ScalarKind::Int => untyped::integer(scalar).and_then(|mode| u32::try_from(mode).ok()),
            _ => u32::from_str_radix(&scalar.text, 8).ok(),
        };
        if mode.is_none() {
            cx.report(
                Diagnostic::error(format!("`{}` is not a set of permission bits", scalar.text))
                    .hint("write them in octal, such as `0440`"),
                node,
            );
        }
        mode.map(Self)
    }
    fn schema(_: &mut Schemas) -> Json {
        json!({"type": ["number", "string"]})
    }
}
