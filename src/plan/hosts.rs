//! The names that each service knows: the text of its hosts file (hosts(5)).

use std::fmt::Write;

use super::{HostsFile, Source, address::Addresses, group::Groups};
use crate::model::{Project, ServiceName};

/// The hosts files of all services that own a network namespace, in the order of their names. One that is of another stack
/// comes with its own.
pub(super) fn files(project: &Project, groups: &Groups, addresses: &Addresses) -> Vec<HostsFile> {
    let owners = project.services.iter().filter(|(name, service)| {
        groups.sources(name).net == Source::Of((*name).clone()) && service.network_mode.container().is_none()
    });
    owners
        .map(|(name, _)| name)
        .map(|owner| HostsFile { service: owner.clone(), text: text(project, groups, addresses, owner) })
        .collect()
}

/// Every service on a network of `owner`, at its address there; on several shared networks, at one address per network,
/// nearest first in the order of the owner's networks.
fn text(project: &Project, groups: &Groups, addresses: &Addresses, owner: &ServiceName) -> String {
    let mut text = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    let service = &project.services[owner];
    if service.networks.is_empty() {
        let _ = writeln!(text, "127.0.0.1\t{}", own_names(project, owner).join(" "));
    }
    for attachment in &service.networks {
        let network = &attachment.network;
        for (name, other) in &project.services {
            // A service that shares somebody's network is found where that one is.
            let Source::Of(at) = &groups.sources(name).net else { continue };
            let Some(address) = addresses.of(at, network) else { continue };
            let mut names = vec![name.to_string(), container_name(project, name)];
            let aliases = other.networks.iter().filter(|a| a.network == *network).flat_map(|a| &a.aliases);
            names.extend(aliases.cloned());
            if name == owner {
                names.splice(..0, own_names(project, name));
            }
            let mut seen = Vec::new();
            names.retain(|name| {
                !seen.contains(name) && {
                    seen.push(name.clone());
                    true
                }
            });
            let _ = writeln!(text, "{address}\t{}", names.join(" "));
        }
    }
    text
}

/// What a service itself is called, as in Docker: its full name comes first, which is the one that `hostname --fqdn` finds, and
/// the bare one is there too, unless it is that of another service.
fn own_names(project: &Project, service: &ServiceName) -> Vec<String> {
    let hostname = hostname(project, service);
    let bare = hostname.split('.').next().unwrap_or_default().to_owned();
    let full = project.services[service].domainname.as_ref().map(|domain| format!("{hostname}.{domain}"));
    let foreign = project.services.keys().any(|other| other != service && other.as_str() == bare);
    let names = full.into_iter().chain([hostname]);
    let given = names.clone().any(|name| name == bare);
    names.chain((!bare.is_empty() && !foreign && !given).then_some(bare)).collect()
}

/// What the container of a service is called.
pub(super) fn container_name(project: &Project, service: &ServiceName) -> String {
    match project.services[service].container_name.as_ref() {
        Some(name) => name.to_string(),
        None => format!("{}-{service}-1", project.name),
    }
}

/// The host name of a service: its own, or the name of its container, cut to what the kernel takes (uname(2): 64 bytes).
pub(super) fn hostname(project: &Project, service: &ServiceName) -> String {
    let mut name = project.services[service].hostname.clone().unwrap_or_else(|| container_name(project, service));
    name.truncate(64);
    name
}
