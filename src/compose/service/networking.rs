//! Whom it can talk to.

use crate::compose::inherit::inherit;
use serde_json::{Value as Json, json};

use super::{
    super::{
        Distinct, ExtraHosts, Format, Map, Named, Nullable, OneOrMany, Ports, Reader, Schemas, Set, Text, TextOrNumber,
        TextOrWhole, Truncated, Unquoted, choice::choice, mapping::mapping, untyped,
    },
    lifecycle::{by_name, no_names, twice},
};
use crate::yaml::tree::{Node, Value};

mapping! {
    /// Whom it can talk to, and whose namespaces it is in.
    pub struct Networking {
        /// Whose network namespace it is in: `bridge`, `host`, `none`, `service:NAME` or `container:NAME`.
        works network_mode: Text,
        /// Whose System V and POSIX objects it sees: `private`, `shareable`, `host`, `none`, `service:NAME` or
        /// `container:NAME`.
        works ipc: Text,
        /// Whose processes it sees: its own, or those of `host`, `service:NAME` or `container:NAME`.
        works pid: Text,
        /// Whose host name it has: its own, or that of `host`, `service:NAME` or `container:NAME`.
        works uts: Text,
        /// Whose users it has: its own, or those of the `host`; as an ordinary user these are those of the stack.
        works userns_mode: Text,
        /// Whose control groups it sees: `private` ones or those of the `host`.
        works cgroup: CgroupMode,
        /// How its container is isolated, on Windows.
        no_effect("it is for Windows") isolation: Text,
        /// Networks that it joins; `default` unless it is given.
        works networks: NetworkAttachments,
        /// Ports that others can reach from outside.
        works ports: Ports,
        /// Ports that other services may use, for people.
        metadata expose: Set<ExposedPort>,
        /// Name servers.
        works dns: NameServers,
        /// Options of the resolver.
        works dns_opt: Set<Text>,
        /// Domains that are looked through for names.
        works dns_search: OneOrMany<Set<Text>>,
        /// Names that it finds at addresses of the author's choice.
        works extra_hosts: ExtraHosts,
        /// Other services, by other names.
        works links: Set<Text>,
        /// Containers outside of the project.
        refused("containers of other projects are reached on a network that both are on") external_links: Distinct<Text>,
        /// Hardware address.
        works mac_address: Text,
    }
}

/// Name servers; what a variable made of nothing is left out.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(transparent)]
pub struct NameServers(pub OneOrMany<Set<Text>>);

impl Format for NameServers {
    inherit!(OneOrMany<Set<Text>>: merge read omitted schema);
    fn canonical(node: Node, cx: &mut Reader<'_>) -> Node {
        let mut node = OneOrMany::<Set<Text>>::canonical(node, cx);
        if let Value::Sequence(nodes) = &mut node.value {
            nodes.retain(|node| node.scalar().is_none_or(|scalar| !scalar.text.is_empty()));
        }
        node
    }
}

choice! {
    /// Whose control groups it sees.
    pub enum CgroupMode {
        /// Those of the host.
        Host = "host",
        /// Its own.
        Private = "private",
    }
}

/// A port, or a range of them, with a protocol.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct ExposedPort(pub String);

impl Format for ExposedPort {
    fn omitted(&self) -> bool {
        self.0.is_empty()
    }
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        TextOrWhole::read(node, cx).map(|text| Self(text.0))
    }
    /// However it is written: `80`, `"80"` and `0x50` are one.
    fn identity(node: &Node) -> Option<String> {
        node.scalar().map(untyped::text)
    }
    fn schema(schemas: &mut Schemas) -> Json {
        TextOrWhole::schema(schemas)
    }
}

/// Networks that a service joins; nothing more is said of some.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(transparent)]
pub struct NetworkAttachments(pub Named<Nullable<NetworkAttachment>>);

mapping! {
    /// How a service joins a network.
    pub struct NetworkAttachment {
        /// Further names that it has there.
        works aliases: Set<Text>,
        /// Name of its link.
        works interface_name: Text,
        /// Its IPv4 address.
        works ipv4_address: Text,
        /// Its IPv6 address.
        works ipv6_address: Text,
        /// Further addresses, of the link.
        works link_local_ips: Set<Text>,
        /// Hardware address of its link.
        works mac_address: Text,
        /// `com.docker.network.endpoint.ifname` and `com.docker.network.endpoint.sysctls`; others are refused.
        works driver_opts: Map<TextOrNumber>,
        /// Networks are joined in this order, the highest first.
        works priority: Unquoted<Truncated>,
        /// The network with the highest one is the way out.
        works gw_priority: Unquoted<Truncated>,
    }
}

impl Format for NetworkAttachments {
    inherit!(Named<Nullable<NetworkAttachment>>: merge settle omitted keys visit);
    fn canonical(node: Node, cx: &mut Reader<'_>) -> Node {
        if cx.undecided(&node) && node.entries().is_none() {
            return node;
        }
        twice(&node, cx);
        Named::<Nullable<NetworkAttachment>>::canonical(by_name(node, Node::nothing), cx)
    }
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        if node.entries().is_none() {
            no_names(node, cx);
            return None;
        }
        Named::read(node, cx).map(Self)
    }
    fn schema(schemas: &mut Schemas) -> Json {
        let named = Named::<Nullable<NetworkAttachment>>::schema(schemas);
        json!({"anyOf": [{"type": "array", "items": {"type": "string"}, "uniqueItems": true}, named]})
    }
}
