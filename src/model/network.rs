//! Networks of a file and how a service joins one.

use serde::{Deserialize, Serialize};

use super::NetworkName;

/// A network of the file: one bridge in the network namespace of the stack.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Nothing on it reaches beyond it.
    #[serde(default)]
    pub internal: bool,
}

/// One network that a service is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkAttachment {
    /// The network, declared in the file or the implicit `default`.
    pub network: NetworkName,
    /// Further names under which the service is found on this network.
    pub aliases: Vec<String>,
}
