//! Files and devices that it sees.

use crate::compose::inherit::inherit;
use serde_json::{Value as Json, json};

use super::{
    super::{
        ByteSize, Distinct, Flag, Folder, Format, Kept, Labels, List, Map, OneOrMany, Reader, Schemas, Set, Text,
        TextOrNothing, VolumeMount,
        deploy::{DeviceCount, all_of_them, exclusive},
        mapping::{made_of, mapping},
    },
    FileGrant, SecretGrants,
};
use crate::{
    diagnostics::Diagnostic,
    yaml::tree::{Node, Scalar, ScalarKind, Value},
};

mapping! {
    /// Files and devices that it sees.
    pub struct Storage {
        /// Files and folders of the host, and volumes.
        works volumes: Set<VolumeMount>,
        /// Services whose mounts it has as well.
        works volumes_from: Distinct<Text>,
        /// Paths with files in memory.
        works tmpfs: OneOrMany<Set<Text>>,
        /// Nothing can be written to its root.
        works read_only: Flag,
        /// Size of `/dev/shm`.
        works shm_size: ByteSize,
        /// Files with settings that it may read.
        works configs: Set<FileGrant>,
        /// Files with secrets that it may read.
        works secrets: SecretGrants,
        /// More for who keeps its files.
        refused storage_opt: Map<TextOrNothing>,
        /// Devices of the host.
        works devices: Set<Device>,
        /// What it may do with devices.
        works device_cgroup_rules: Distinct<Text>,
        /// Graphics processors.
        refused gpus: Gpus,
    }
}

mapping! {
    /// A device of the host.
    pub struct Device {
        /// Path on the host.
        works source: Text,
        /// Path in the container.
        works target: Text,
        /// `r`, `w` and `m`: reading, writing, and making its node.
        works permissions: Text,
    }
    rules {
        const REQUIRED: &'static [&'static str] = &["source"];
        const EXPECTED: &'static str = "a string or a mapping";
        fn long(node: Node, cx: &mut Reader<'_>) -> Node {
            let Some(scalar) = node.scalar().filter(|scalar| scalar.kind == ScalarKind::String) else { return node };
            let at = |text: &str| Node { via: node.via.clone(), ..Node::string(text, node.span.clone()) };
            let parts: Vec<&str> = scalar.text.split(':').collect();
            let (source, target, permissions) = match parts[..] {
                [source] => (source, source, "rwm"),
                [source, ""] => (source, source, "rwm"),
                [source, "", permissions] => (source, source, permissions),
                [source, target] => (source, target, "rwm"),
                [source, target, permissions] => (source, target, permissions),
                _ => {
                    cx.report(
                        Diagnostic::error(format!("`{}` has too many colons for a device", scalar.text))
                            .hint("write `SOURCE:TARGET:PERMISSIONS`"),
                        &node,
                    );
                    return node.with_value(Value::Broken);
                }
            };
            made_of(&node, vec![("source", at(source)), ("target", at(target)), ("permissions", at(permissions))])
        }
        fn short_schemas() -> Vec<Json> {
            vec![json!({"type": "string"})]
        }
        fn identity(node: &Node) -> Option<String> {
            node.entry("target")?.value.scalar().map(|scalar| scalar.text.to_string())
        }
        fn check(&self, node: &Node, cx: &mut Reader<'_>) {
            if node.entry("source").is_some_and(|source| source.value.is_empty_text()) {
                cx.report(Diagnostic::error("the device has no `source`").hint("name its path on the host"), node);
            } else if node.entry("target").is_none_or(|target| target.value.is_empty_text()) {
                cx.report(Diagnostic::error("the device has no `target`").hint("name the path in the container"), node);
            }
        }
    }
}

/// `all`, or what is needed.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(transparent)]
pub struct Gpus(pub List<GpuRequest>);

mapping! {
    /// Graphics processors that are needed.
    pub struct GpuRequest {
        /// What they can do.
        refused capabilities: Kept<Distinct<Text>>,
        /// Who provides them.
        refused driver: Text,
        /// How many; -1 for all.
        refused count: Kept<DeviceCount>,
        /// Which ones.
        refused device_ids: Kept<Distinct<Text>>,
        /// More for the driver.
        refused options: Labels,
    }
    rules {
        fn settle_whole(node: &mut Node, _: &Folder<'_>) {
            all_of_them(node);
        }
        fn check(&self, node: &Node, cx: &mut Reader<'_>) {
            exclusive(node, cx);
        }
    }
}

impl Format for Gpus {
    inherit!(List<GpuRequest>: merge settle omitted keys visit);
    fn canonical(node: Node, cx: &mut Reader<'_>) -> Node {
        let node = match node.scalar() {
            Some(scalar) if scalar.kind == ScalarKind::String && &*scalar.text == "all" => {
                let count = Scalar { text: "-1".into(), kind: ScalarKind::Int, interpolated: false };
                let count = Node { directive: None, ..node.with_value(Value::Scalar(count)) };
                node.with_value(Value::Sequence(vec![made_of(&node, vec![("count", count)])]))
            }
            _ => node,
        };
        List::<GpuRequest>::canonical(node, cx)
    }
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Sequence(_) => List::read(node, cx).map(Self),
            _ => {
                cx.mistyped("`all` or a list", node);
                None
            }
        }
    }
    fn schema(schemas: &mut Schemas) -> Json {
        let list = List::<GpuRequest>::schema(schemas);
        let all = schemas.or_variable(json!({"enum": ["all"]}));
        json!({"anyOf": [all, list]})
    }
}
