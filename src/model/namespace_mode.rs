//! How a service gets one of its namespaces.

use serde::{Deserialize, Serialize};

use super::{ContainerName, ServiceName};

/// Where a namespace of a service comes from.
///
/// Which variants a key accepts is the loader's business: `none` makes sense for `network_mode` and `ipc` only, and
/// `userns_mode` and `cgroup` know nothing but a namespace of one's own and that of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NamespaceMode {
    /// A namespace of its own; for the network, wired to the networks of the file.
    #[default]
    Private,
    /// A namespace of its own with nothing in it: a network with only a loopback interface, or no /dev/shm.
    None,
    /// The namespace of the host.
    Host,
    /// The namespace of another service of the file.
    Service(ServiceName),
    /// The namespace of a container of another stack; one of the same stack is a [`NamespaceMode::Service`].
    Container(ContainerName),
}

impl NamespaceMode {
    /// The service whose namespace is shared, if one is.
    pub fn service(&self) -> Option<&ServiceName> {
        match self {
            Self::Service(name) => Some(name),
            Self::Private | Self::None | Self::Host | Self::Container(_) => None,
        }
    }

    /// The container of another stack whose namespace is shared, if one is.
    pub fn container(&self) -> Option<&ContainerName> {
        match self {
            Self::Container(name) => Some(name),
            Self::Private | Self::None | Self::Host | Self::Service(_) => None,
        }
    }
}
