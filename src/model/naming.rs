//! How a service finds names.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};

use super::ServiceName;

/// Where a container's resolver is: the address that programs written for Docker know.
pub const RESOLVER: std::net::Ipv4Addr = std::net::Ipv4Addr::new(127, 0, 0, 11);

/// What a file says of the names that a service finds, beyond those of its networks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameSettings {
    /// Name servers to ask instead of the host's for what is not the stack's (`dns`).
    pub servers: Vec<IpAddr>,
    /// Domains to look through instead of the host's (`dns_search`); a single `.` is none at all.
    pub search: Vec<String>,
    /// Options of resolv.conf(5) instead of the usual ones (`dns_opt`).
    pub options: Vec<String>,
    /// Names at addresses of the author's choice (`extra_hosts`).
    pub hosts: BTreeMap<String, Vec<HostAddress>>,
    /// Further names of other services, for this one only (`links`).
    pub links: BTreeMap<String, ServiceName>,
}

/// What an extra name leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostAddress {
    /// This address.
    Address(IpAddr),
    /// The host, at whatever address containers reach it (`host-gateway`).
    Gateway,
}

/// How the host finds names, resolv.conf(5).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostResolver {
    /// Its name servers, which may be at its loopback addresses.
    pub servers: Vec<SocketAddr>,
    /// The domains that it looks through.
    pub search: Vec<String>,
}
