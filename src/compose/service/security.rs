//! What it is allowed, and what it is given by the platform.

use crate::compose::inherit::inherit;
use serde_json::{Value as Json, json};

use super::{
    super::{Distinct, Flag, Format, Named, Nullable, Reader, Schemas, Set, StrictFlag, Text, mapping::mapping},
    lifecycle::{by_name, no_names, twice},
};
use crate::yaml::tree::Node;

mapping! {
    /// What it is allowed, and what it is given by the platform.
    pub struct Security {
        /// Capabilities that it has besides the usual ones; `ALL` for all.
        works cap_add: Set<Text>,
        /// Capabilities that it has not; `ALL` for none but those that are added.
        works cap_drop: Set<Text>,
        /// It has all capabilities, sees devices of the host, and nothing of the kernel is hidden or filtered.
        works privileged: Flag,
        /// `no-new-privileges`, `seccomp=`, `apparmor=`, `label=`, `systempaths=`.
        works security_opt: Distinct<Text>,
        /// Credentials of Windows.
        no_effect("it is for Windows") credential_spec: Box<CredentialSpec>,
        /// It may talk to the engine.
        refused use_api_socket: StrictFlag,
        /// Language models that it uses.
        refused models: ModelGrants,
    }
}

mapping! {
    /// Credentials of Windows.
    pub struct CredentialSpec {
        /// A config that holds them.
        refused config: Text,
        /// A file that holds them.
        refused file: Text,
        /// A key of the registry that holds them.
        refused registry: Text,
    }
}

/// Language models that a service uses.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(transparent)]
pub struct ModelGrants(pub Named<Nullable<ModelGrant>>);

mapping! {
    /// How a service learns of a model.
    pub struct ModelGrant {
        /// Variable with its address.
        refused endpoint_var: Text,
        /// Variable with its name.
        refused model_var: Text,
    }
}

impl Format for ModelGrants {
    inherit!(Named<Nullable<ModelGrant>>: merge settle omitted keys visit);
    fn canonical(node: Node, cx: &mut Reader<'_>) -> Node {
        if cx.undecided(&node) && node.entries().is_none() {
            return node;
        }
        twice(&node, cx);
        let node = by_name(node, Node::nothing);
        Named::<Nullable<ModelGrant>>::canonical(node, cx)
    }
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        if node.entries().is_none() {
            no_names(node, cx);
            return None;
        }
        Named::read(node, cx).map(Self)
    }
    fn schema(schemas: &mut Schemas) -> Json {
        let named = Named::<Nullable<ModelGrant>>::schema(schemas);
        json!({"anyOf": [{"type": "array", "items": {"type": "string"}, "uniqueItems": true}, named]})
    }
}
