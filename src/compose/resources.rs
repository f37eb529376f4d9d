//! What the top level declares besides services.

use crate::compose::inherit::inherit;
use serde_json::{Value as Json, json};
use std::collections::HashMap;

use super::{
    Flag, Folder, Format, HostPath, Int, Kept, Keys, Labels, List, Map, Merger, Reader, Schemas, Text, TextOrNumber,
    TextOrWhole, Unquoted, fingerprint, mapping::mapping,
};
use crate::{
    compose::resolve_path,
    diagnostics::{Diagnostic, suggest},
    yaml::tree::{Entry, Node, Scalar, ScalarKind, Value},
};

mapping! {
    /// A network that services join.
    pub struct Network {
        /// Its name outside of the project: of one that is external, what it is called; `host` and `none` are there always.
        works name: Text,
        /// Who makes it.
        works driver: Text,
        /// `com.docker.network.` followed by `bridge.name`, `bridge.enable_icc`, `bridge.enable_ip_masquerade` (on),
        /// `bridge.host_binding_ipv4`, `driver.mtu` or `container_iface_prefix`; others are refused.
        works driver_opts: Map<TextOrNumber>,
        /// Addresses on it.
        works ipam: Ipam,
        /// It is there already, and not the project's.
        works external: External,
        /// Nothing on it reaches the outside.
        works internal: Flag,
        /// Containers of others may join.
        no_effect("it is for clusters") attachable: Flag,
        /// Labels for people and tools.
        metadata labels: Labels,
        /// There are IPv4 addresses.
        works enable_ipv4: Kept<Flag>,
        /// There are IPv6 addresses; so there are where a subnet says so.
        works enable_ipv6: Kept<Flag>,
    }
    rules {
        const NULLABLE: bool = true;
        fn long(node: Node, cx: &mut Reader<'_>) -> Node {
            renamed::<true>(node, cx)
        }
    }
}

mapping! {
    /// How the addresses of a network are given out.
    pub struct Ipam {
        /// Who gives them out.
        works driver: Text,
        /// Ranges.
        works config: IpamRanges,
        /// More for the driver.
        refused options: Map<Text>,
    }
}

/// Ranges of addresses. Those of a later file count, each over what an earlier one says of the same range.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(transparent)]
pub struct IpamRanges(pub List<IpamConfig>);

impl Format for IpamRanges {
    inherit!(List<IpamConfig>: read omitted schema visit);
    fn merge(earlier: Node, later: Node, merger: &mut Merger<'_>) -> Node {
        let subnet = |node: &Node| node.entry("subnet").and_then(|entry| Some(entry.value.scalar()?.text.clone()));
        match (&earlier.value, &later.value) {
            (Value::Sequence(before), Value::Sequence(after)) => {
                let mut by_subnet = HashMap::new();
                for old in before.iter().filter(|old| old.entries().is_some()) {
                    by_subnet.entry(subnet(old)).or_insert(old);
                }
                let ranges = after.iter().map(|range| match by_subnet.get(&subnet(range)) {
                    Some(old) if range.entries().is_some() => IpamConfig::merge((*old).clone(), range.clone(), merger),
                    _ => range.clone(),
                });
                let ranges = ranges.collect();
                later.with_value(Value::Sequence(ranges))
            }
            _ => merger.lists(earlier, later),
        }
    }
    fn keys() -> Keys {
        List::<IpamConfig>::keys()
    }
}

mapping! {
    /// A range of addresses.
    pub struct IpamConfig {
        /// The range.
        works subnet: Text,
        /// The part of it that containers get theirs from.
        works ip_range: Text,
        /// Address of the gateway.
        works gateway: Text,
        /// Addresses that are taken, by host name.
        works aux_addresses: Map<Text>,
    }
}

mapping! {
    /// A place for files that outlives containers.
    pub struct Volume {
        /// Its name outside of the project.
        works name: Text,
        /// Who makes it.
        works driver: Text,
        /// More for the driver.
        works driver_opts: Map<TextOrNumber>,
        /// It is there already, and not the project's.
        works external: External,
        /// Labels for people and tools.
        metadata labels: Labels,
    }
    rules {
        const NULLABLE: bool = true;
        fn long(node: Node, cx: &mut Reader<'_>) -> Node {
            renamed::<true>(node, cx)
        }
        fn check(&self, node: &Node, cx: &mut Reader<'_>) {
            external(node, cx);
        }
        /// A local volume that is a bind mount has a path of the host.
        fn settle_whole(node: &mut Node, folder: &Folder<'_>) {
            let driver = node.entry("driver").and_then(|entry| entry.value.scalar()).map(|scalar| scalar.text.clone());
            if driver.is_none_or(|driver| &*driver != "local") {
                return;
            }
            let Value::Mapping(entries) = &mut node.value else { return };
            let Some(Entry { value: Node { value: Value::Mapping(options), .. }, .. }) =
                entries.iter_mut().find(|entry| &*entry.key == "driver_opts")
            else {
                return;
            };
            let bind = options.iter().any(|option| {
                &*option.key == "o" && option.value.scalar().is_some_and(|scalar| &*scalar.text == "bind")
            });
            for option in options.iter_mut().filter(|option| bind && &*option.key == "device") {
                if let Value::Scalar(scalar) = &mut option.value.value
                    && let Some(path) = resolve_path(&scalar.text, folder)
                {
                    scalar.text = path.into();
                }
            }
        }
    }
}

mapping! {
    /// A file with settings that services may read.
    pub struct Config {
        /// Its name outside of the project.
        metadata name: Text,
        /// File of the host that it is.
        works file: HostPath,
        /// Variable whose value it is.
        works environment: Text,
        /// What it says.
        works content: Kept<Text>,
        /// It is there already, and not the project's.
        refused("nothing keeps configs between stacks: say where it comes from with `file:` or `environment:`") external: External,
        /// Labels for people and tools.
        metadata labels: Labels,
        /// Who fills in its blanks.
        refused template_driver: Text,
    }
    rules {
        const MAIN: Option<&'static str> = Some("file");
        fn long(node: Node, cx: &mut Reader<'_>) -> Node {
            renamed::<false>(node, cx)
        }
        fn check(&self, node: &Node, cx: &mut Reader<'_>) {
            one_source::<Self>(node, &["file", "environment", "content"], cx);
        }
    }
}

mapping! {
    /// A file with a secret that services may read.
    pub struct Secret {
        /// Its name outside of the project.
        metadata name: Text,
        /// Variable whose value it is.
        works environment: Text,
        /// File of the host that it is.
        works file: HostPath,
        /// It is there already, and not the project's.
        refused("nothing keeps secrets between stacks: say where it comes from with `file:` or `environment:`") external: External,
        /// Labels for people and tools.
        metadata labels: Labels,
        /// Who keeps it.
        refused driver: Text,
        /// More for the driver.
        refused driver_opts: Map<TextOrWhole>,
        /// Who fills in its blanks.
        refused template_driver: Text,
    }
    rules {
        const MAIN: Option<&'static str> = Some("file");
        fn long(node: Node, cx: &mut Reader<'_>) -> Node {
            renamed::<false>(node, cx)
        }
        fn check(&self, node: &Node, cx: &mut Reader<'_>) {
            one_source::<Self>(node, &["file", "environment"], cx);
        }
    }
}

mapping! {
    /// A language model that services use.
    pub struct Model {
        /// Its name outside of the project.
        refused name: Text,
        /// Which model.
        refused model: Text,
        /// How much text it keeps in mind.
        refused context_size: Unquoted<Int>,
        /// Arguments for what runs it.
        refused runtime_flags: List<Text>,
    }
    rules {
        const REQUIRED: &'static [&'static str] = &["model"];
    }
}

/// Something is there already: `true`, or, as it was once written, a mapping with its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct External(pub bool);

mapping! {
    /// The name of something that is there already, as it was once written.
    pub struct ExternalName {
        /// The name.
        refused name: Text,
    }
}

impl Format for External {
    inherit!(ExternalName: keys visit);
    fn omitted(&self) -> bool {
        !self.0
    }
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Mapping(_) => ExternalName::read(node, cx).map(|_| Self(true)),
            _ => Flag::read(node, cx).map(|flag| Self(flag.0)),
        }
    }
    fn schema(schemas: &mut Schemas) -> Json {
        // The old mapping is read for its name, whatever else it says.
        json!({"anyOf": [Flag::schema(schemas), {"type": "object", "properties": {"name": {"type": "string"}}}]})
    }
}

/// A mapping in which the name of what is external stood below `external`, as it was once written.
///
/// `STRICT`: nothing else may stand there.
fn renamed<const STRICT: bool>(mut node: Node, cx: &mut Reader<'_>) -> Node {
    let Some(external) = node.entry("external").map(|entry| entry.value.clone()) else { return node };
    if external.entries().is_none() {
        return node;
    }
    if STRICT {
        cx.at(&"external".into(), |cx| ExternalName::read(&external, cx));
    }
    if let Some(old) = external.entry("name") {
        let what = cx.what();
        let said = |node: &Node| node.scalar().is_some_and(|scalar| !scalar.text.is_empty());
        match node.entry("name") {
            Some(new) if said(&new.value) && said(&old.value) && fingerprint(&new.value) != fingerprint(&old.value) => {
                cx.report(
                    Diagnostic::error(format!("{what} has two names"))
                        .label(&new.key_span, "the other one")
                        .hint("write `name:` and `external: true`"),
                    &old.value,
                )
            }
            Some(_) => {}
            None => {
                let obsolete = Diagnostic::warning(format!("{what} has its name in an obsolete place"));
                cx.report(obsolete.hint("write `name:` and `external: true`"), &old.value);
                node.put("name", old.value.clone());
            }
        }
    }
    if let Some(entry) = node.entry_mut("external") {
        // It is written, if in another way: refusing it is a matter of whether it is there.
        let yes = Scalar { text: "true".into(), kind: ScalarKind::Bool, interpolated: false };
        entry.value = external.with_value(Value::Scalar(yes));
    }
    node
}

/// Whether something is there already, and not the project's.
pub(crate) fn is_external(node: &Node) -> bool {
    node.entry("external").is_some_and(|entry| {
        let yes = |scalar: &Scalar| Flag::parse(&scalar.text) == Some(true);
        entry.value.entries().is_some() || entry.value.scalar().is_some_and(yes)
    })
}

/// What is not the project's cannot be described by it.
fn external(node: &Node, cx: &mut Reader<'_>) {
    if !is_external(node) {
        return;
    }
    for entry in node.entries().unwrap_or_default() {
        // An empty one is what nothing said comes to.
        let empty = entry.value.entries().is_some_and(<[_]>::is_empty);
        if !matches!(&*entry.key, "name" | "external") && !entry.key.starts_with("x-") && !empty {
            let what = cx.what();
            let place = Node::new(entry.key_span.clone(), Value::Sequence(Vec::new()));
            cx.report(
                Diagnostic::error(format!("{what} is external, so `{}` cannot be said here", entry.key))
                    .hint("remove the key, or `external`"),
                &place,
            );
        }
    }
}

/// What it is comes from one place.
fn one_source<T: super::Mapping>(node: &Node, sources: &[&str], cx: &mut Reader<'_>) {
    // Compose takes the whole folder of the project for a file without a name, which nobody means.
    let hints = [("file", "name a file, such as `./settings.conf`"), ("environment", "name a variable")];
    for (key, hint) in hints {
        if let Some(entry) = node.entry(key).filter(|entry| entry.value.is_empty_text()) {
            let diagnostic = Diagnostic::error(format!("the `{key}` of {} is empty", cx.what()));
            return cx.report(diagnostic.hint(hint), &entry.value);
        }
    }
    let mut found = sources.iter().filter_map(|source| node.entry(source));
    let (first, second) = (found.next(), found.next());
    let elsewhere = ["external", "driver"].iter().any(|key| node.entry(key).is_some());
    if first.is_none() && !elsewhere {
        let listed: Vec<String> = sources.iter().map(|source| format!("`{source}`")).collect();
        // A slip in its key has been reported.
        let slips = node.entries().unwrap_or_default().iter().filter(|entry| T::field(&entry.key).is_none());
        if slips.into_iter().any(|entry| suggest(&entry.key, sources.iter().copied()).is_some()) {
            return;
        }
        let what = cx.what();
        let message = format!("{what} has none of {}, and needs one", listed.join(", "));
        cx.report(Diagnostic::error(message).hint("say where it comes from, as with `file: ./NAME`"), node);
    }
    if let (Some(first), Some(second)) = (first, second) {
        let what = cx.what();
        let place = Node::new(second.key_span.clone(), Value::Sequence(Vec::new()));
        cx.report(
            Diagnostic::error(format!("{what} has both `{}` and `{}`", first.key, second.key))
                .label(&first.key_span, "the first one")
                .hint("remove one of the two"),
            &place,
        );
    }
}
