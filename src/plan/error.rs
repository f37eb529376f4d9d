//! Why there is no plan.

use std::net::IpAddr;

use super::{address::NoAddress, elsewhere::NotShared, limits::Unmet};
use crate::model::{NetworkName, Resource, ServiceName, limit_text};

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A service was asked for that the file does not have.
    #[error("there is no service `{0}` in the file")]
    UnknownService(ServiceName),
    /// Every private subnet overlaps a route of the host.
    #[error("no subnet is left for network `{0}`: every private range overlaps a route of this host")]
    NoSubnet(NetworkName),
    /// More services than addresses.
    #[error("the subnet of network `{0}` has no address left")]
    NoAddress(NetworkName),
    /// A service wants more of something than this account may give.
    #[error(
        "service `{service}` wants a hard limit of {} for `{resource}`, and {most} is the most that can be had here",
        limit_text(*.wanted)
    )]
    HardLimit {
        /// The service.
        service: ServiceName,
        /// What is limited.
        resource: Resource,
        /// What its `ulimits:` says; none is no limit.
        wanted: Option<u64>,
        /// The hard limit of whoever brings it up.
        most: u64,
    },
    /// A service wants to be in a group that does not exist for this account.
    #[error(
        "service `{service}` wants to be in group `{group}`, but this account has a single id, and has group 0 only"
    )]
    SingleIdGroup {
        /// The service.
        service: ServiceName,
        /// What its `group_add:` says.
        group: String,
    },
    /// Limits that cannot be set here.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Limits(Vec<Unmet>),
    /// A running service that was not asked for would lose its namespaces.
    #[error("service `{service}` runs in a namespace of `{owner}`, which is made anew, and is not asked for")]
    LeftBehind {
        /// The service that runs.
        service: ServiceName,
        /// Whose namespace it is.
        owner: ServiceName,
    },
    /// A running service that was not asked for has a namespace or volumes of one that is to have no containers.
    #[error("service `{service}` has a namespace or volumes of `{owner}`, which is to have no container, and runs")]
    OwnerGoes {
        /// The service that runs.
        service: ServiceName,
        /// Whose container goes.
        owner: ServiceName,
    },
    /// A running service that was not asked for would have volumes that nobody else has any more.
    #[error("service `{service}` has volumes of `{owner}`, which gets new ones, and is not asked for")]
    LosesVolumes {
        /// The service that runs.
        service: ServiceName,
        /// Whose volumes they are.
        owner: ServiceName,
    },
    /// A service is to be brought up without what it depends on, and cannot be.
    #[error(
        "service `{service}` is in a namespace of `{owner}`, which would have to be made anew, and `--no-deps` leaves it alone"
    )]
    WithoutOwner {
        /// The service.
        service: ServiceName,
        /// Whose namespace it is.
        owner: ServiceName,
    },
    /// A service is to be in namespaces that are kept although the file has others.
    #[error(
        "service `{service}` is in a namespace of `{owner}`, which would have to be made anew, and `--no-recreate` keeps it"
    )]
    Kept {
        /// The service.
        service: ServiceName,
        /// Whose namespace it is.
        owner: ServiceName,
    },
    /// Files are to belong to somebody who does not exist in the container.
    #[error("service `{service}` wants `{target}` to belong to {id}, an id that its container does not have")]
    MissingId {
        /// The service.
        service: ServiceName,
        /// The place of the files in the container.
        target: String,
        /// The user or group.
        id: u32,
    },
    /// A network is said to be there and is not.
    #[error("network `{network}` is external, and there is no network `{external}` that stacks share")]
    NoShared {
        /// The network of the file.
        network: NetworkName,
        /// What it is called outside.
        external: NetworkName,
    },
    /// An address that a service has chosen is not to be had.
    #[error("service `{service}` cannot have {address} on network `{network}`: {why}")]
    Address {
        /// The service.
        service: ServiceName,
        /// The network of the file.
        network: NetworkName,
        /// The address.
        address: IpAddr,
        /// What keeps it from having it.
        why: String,
    },
    /// A service wants to run as somebody who does not exist for this account.
    #[error(
        "service `{service}` wants to run as user `{user}`, but this account has a single id, and root of a container is it"
    )]
    SingleId {
        /// The service.
        service: ServiceName,
        /// What its `user:` says.
        user: String,
    },
    /// A namespace of a container of another stack that cannot be had.
    #[error(transparent)]
    Elsewhere(#[from] NotShared),
    /// A service is to have a profile that nobody would enforce.
    #[error(
        "service `{service}` asks for the AppArmor profile `{profile}`, but the kernel of this host has no AppArmor"
    )]
    NoAppArmor {
        /// The service.
        service: ServiceName,
        /// The profile.
        profile: String,
    },
    /// A service is to have a label that would mean nothing.
    #[error("service `{service}` asks for an SELinux label, but the kernel of this host has no SELinux")]
    NoSelinux {
        /// The service.
        service: ServiceName,
    },
    /// A service says when it is looked after its health and not how, and its image does not either.
    #[error(
        "service `{service}` has no health check that its keys could be about, and neither has its image `{image}`"
    )]
    NoHealthTest {
        /// The service.
        service: ServiceName,
        /// What its image is called.
        image: String,
    },
}

impl PlanError {
    /// How to mend it, if it can be said in general.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::LeftBehind { .. } | Self::LosesVolumes { .. } => Some("name both services, or none: then all are brought up".to_owned()),
            Self::OwnerGoes { service, owner } => Some(format!("`nscompose scale {}=0 {owner}=0` takes both away", service.service())),
            Self::WithoutOwner { owner, .. } => {
                Some(format!("leave out `--no-deps`, or bring up `{owner}` first"))
            }
            Self::Kept { .. } => Some("leave out `--no-recreate`, and look at `nscompose plan` before".to_owned()),
            Self::UnknownService(_)
            | Self::SingleId { .. }
            | Self::SingleIdGroup { .. }
            | Self::Limits(_) => None,
            Self::MissingId { .. } => Some(
                "leave out `uid` and `gid`, or name an id that it has: with a single id that is 0, or else as many as /etc/subuid and /etc/subgid give the account".to_owned(),
            ),
            Self::HardLimit { resource: Resource::Nofile, .. } => Some(
                "ask for less, or raise `fs.nr_open` or the hard limit of whoever runs nscompose: limits.conf(5)".to_owned(),
            ),
            Self::HardLimit { .. } => Some(
                "ask for less, or raise the hard limit of whoever runs nscompose: limits.conf(5), or `ulimit -H` in a shell of root"
                    .to_owned(),
            ),
            Self::Elsewhere(error) => Some(error.hint().to_owned()),
            Self::NoAppArmor { .. } => Some(
                "leave it out, or start the kernel with `lsm=` and `apparmor` in it; `apparmor=unconfined` works everywhere"
                    .to_owned(),
            ),
            Self::NoSelinux { .. } => Some("leave it out; `label=disable` works everywhere".to_owned()),
            Self::NoHealthTest { .. } => Some("add a `test` to `healthcheck`, or `x-nscompose: {ready: {listen: PORT}}`".to_owned()),
            Self::NoAddress(_) => Some("a larger `subnet` or `ip_range` has more".to_owned()),
            Self::NoSubnet(_) => Some(
                "`ip route` shows the routes; a narrower one leaves room, and so does `networks.default_address_pools` of \
                 config.yaml or NSCOMPOSE_ADDRESS_POOLS"
                    .to_owned(),
            ),
            Self::NoShared { external, .. } => {
                Some(format!("`nscompose network create {external}` makes it; without `external: true` it is the stack's own"))
            }
            Self::Address { .. } => Some("choose another one, or none".to_owned()),
        }
    }
}

impl From<NoAddress> for PlanError {
    fn from(error: NoAddress) -> Self {
        match error {
            NoAddress::Subnet(network) => Self::NoSubnet(network),
            NoAddress::Host(network) => Self::NoAddress(network),
            NoAddress::Shared { network, external } => Self::NoShared { network, external },
            NoAddress::Chosen { service, network, address, why } => Self::Address { service, network, address, why },
        }
    }
}
