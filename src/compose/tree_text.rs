//! Trees as text.

use crate::yaml::tree::{Node, Value};

/// A text that two values share if they say the same.
pub(crate) fn fingerprint(node: &Node) -> Option<String> {
    Some(match &node.value {
        Value::Broken => return None,
        Value::Scalar(scalar) => scalar.text.to_string(),
        Value::Sequence(nodes) => {
            format!("[{}]", nodes.iter().map(fingerprint).collect::<Option<Vec<_>>>()?.join("\0"))
        }
        Value::Mapping(entries) => {
            let mut parts = Vec::with_capacity(entries.len());
            for entry in entries {
                parts.push(format!("{}\0{}", entry.key, fingerprint(&entry.value)?));
            }
            parts.sort();
            format!("{{{}}}", parts.join("\0"))
        }
    })
}
