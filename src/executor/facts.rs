//! What is written down for the next supervisor, and what the keeper has for it: under which names.
//!
//! Facts are in a file (state/record.rs), the keeper has descriptors (docs/design/supervisor.md). A name of the keeper that ends with a slash is
//! a prefix, so that all that there is of a service can be forgotten at once.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::{
    cgroup,
    model::{Container, NetworkName, ServiceName},
    state::Stream,
};

/// Fact: whose names are to be found where.
pub(super) const NAMES: &str = "names";

/// Fact: there is a control group that was asked for.
pub(super) const GROUP: &str = "group";

/// Fact: the way out.
pub(super) const UPLINK: &str = "uplink";

/// What the facts of all networks begin with.
pub(super) const NETWORKS: &str = "network/";

/// Likewise of all sets of namespaces.
pub(super) const NAMESPACES: &str = "namespaces/";

/// Likewise of all cables.
pub(super) const LINKS: &str = "link/";

/// Likewise of what containers are made from.
pub(super) const SPECS: &str = "spec/";

/// Likewise of all containers that run, or have.
pub(super) const CONTAINERS: &str = "container/";

/// Likewise of containers that have been made and never started.
pub(super) const CREATED: &str = "created/";

/// Likewise of those that are being removed.
pub(super) const REMOVING: &str = "removing/";

/// Likewise of where containers are in their lives.
pub(super) const LIVES: &str = "life/";

/// Likewise of those whose commands after the start have been run.
pub(super) const HOOKED: &str = "hooked/";

/// Fact: the bridge of a network.
pub(super) fn network(network: &NetworkName) -> String {
    format!("{NETWORKS}{network}")
}

/// Fact: a set of namespaces.
pub(super) fn namespaces(service: &ServiceName) -> String {
    format!("{NAMESPACES}{service}")
}

/// Fact: a cable.
pub(super) fn link(service: &ServiceName, network: &NetworkName) -> String {
    format!("{LINKS}{service}/{network}")
}

/// Fact: what a container is made from.
pub(super) fn spec(service: &ServiceName) -> String {
    format!("{SPECS}{service}")
}

/// Fact: [`Began`] of a container.
pub(super) fn container(service: &ServiceName) -> String {
    format!("{CONTAINERS}{service}")
}

/// Fact: a container has been made and never started.
pub(super) fn created(service: &ServiceName) -> String {
    format!("{CREATED}{service}")
}

/// Fact: a container is being removed; whether its anonymous volumes stay.
pub(super) fn removing(service: &ServiceName) -> String {
    format!("{REMOVING}{service}")
}

/// Fact: [`Memory`](crate::life::Memory) of a container.
pub(super) fn life(service: &ServiceName) -> String {
    format!("{LIVES}{service}")
}

/// Fact: the first process of a container whose commands after the start have been run, for those that have some.
pub(super) fn hooked(service: &ServiceName) -> String {
    format!("{HOOKED}{service}")
}

/// What is written down of a container that runs: all that the next supervisor could not know from what it is made from.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Began {
    pub(super) group: Option<cgroup::Group>,
    /// Where each of its ports leads.
    pub(super) targets: Vec<SocketAddr>,
    pub(super) led_by_uplink: bool,
    /// How often the kernel had killed in its control group before.
    pub(super) killed_before: u64,
    /// It was there before this start, and stays should that not succeed.
    pub(super) known_before: bool,
    pub(super) container: Container,
}

/// What the keeper has the stack's network namespace under.
pub(super) const NETNS: &str = "netns";

/// What it has published ports of a service under.
pub(super) const PORTS: &str = "port/";

/// What it has of a container: the mounts that it has handed out.
pub(super) const MOUNTS: &str = "mounts";

/// Likewise the controlling side of its terminal.
pub(super) const TERMINAL: &str = "terminal";

/// Likewise the writing end of its standard input.
pub(super) const INPUT: &str = "input";

/// Likewise our side of its gate, while it may wait there.
pub(super) const GATE: &str = "gate";

/// Likewise the locks of its volumes and images.
pub(super) const LOCKS: &str = "lock/";

/// What the keeper has something of a service under.
pub(super) fn of_service(service: &ServiceName, what: &str) -> String {
    // Not as people write it: what begins with `web/` may be of `web/2`.
    format!("service/{}/{what}", service.file_name())
}

/// What it has the reading end of a stream's pipe under.
pub(super) fn piped(stream: Stream) -> &'static str {
    stream.name()
}

/// What it has a socket of a port under.
pub(super) fn socket_of_port(service: &ServiceName, port: usize, socket: usize) -> String {
    of_service(service, &format!("{PORTS}{port:05}/{socket}"))
}

/// What it has the namespace of a shared network under; the whole of it, as a prefix is meant.
pub(super) fn shared(network: &NetworkName) -> String {
    format!("shared/{network}/")
}
