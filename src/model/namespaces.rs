//! Which namespaces there are of a stack at one moment, by their inodes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ServiceName;

/// Inodes of namespaces by their kind, as the files below /proc/PID/ns are called (namespaces(7)).
pub type Inodes = BTreeMap<String, u64>;

/// The namespaces of a stack, read from living processes and from descriptors that hold them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// Those that the stack was started in.
    pub host: Inodes,
    /// Those that are the stack's and no service's: the network with its bridges; for an ordinary user the users.
    pub stack: Inodes,
    /// Those of services.
    pub services: BTreeMap<ServiceName, ServiceNamespaces>,
}

/// The namespaces of one service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceNamespaces {
    /// Those that its first process is in; none when it does not run.
    pub of_process: Inodes,
    /// Those that are held for it, whether it runs or not.
    pub held: Inodes,
    /// Those of these that are of containers of other stacks, with their names.
    pub elsewhere: BTreeMap<String, String>,
}
