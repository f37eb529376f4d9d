//! Keys of a service that exclude each other.

use super::{Context, Cursor};
use crate::{
    diagnostics::Diagnostic,
    model::{NamespaceMode, Service, ServiceName},
};

pub(super) fn check(cx: &mut Context<'_>, name: &ServiceName, service: &Service, at: Cursor<'_>) {
    network(cx, name, service, at);
    names_of_others(cx, service, at);
    shared_memory(cx, name, service, at);
    names_without_a_network(cx, name, service, at);
}

/// Name servers answer in a network namespace, for whoever is in there.
fn names_without_a_network(cx: &mut Context<'_>, name: &ServiceName, service: &Service, at: Cursor<'_>) {
    let Some(mode) = at.get("network_mode") else { return };
    let (keys, why, hint): (&[&str], &str, String) = match &service.network_mode {
        NamespaceMode::Private => return,
        NamespaceMode::Service(owner) => (
            &["dns", "dns_search", "dns_opt", "extra_hosts", "links"],
            "finds the names that its network has",
            format!("say it at service `{owner}`, whose network it is"),
        ),
        NamespaceMode::Container(other) => (
            &["dns", "dns_search", "dns_opt", "extra_hosts", "links"],
            "finds the names that its network has",
            format!("its network is that of container `{other}`"),
        ),
        NamespaceMode::Host => (
            &["dns", "dns_search", "dns_opt", "links"],
            "finds the names that the host finds",
            "remove one of the two".to_owned(),
        ),
        NamespaceMode::None => {
            (&["dns", "dns_search", "dns_opt", "links"], "has no network to ask on", "remove one of the two".to_owned())
        }
    };
    let settings = &service.names;
    for key in keys.iter().filter_map(|key| at.get(key)) {
        let said = match key.key() {
            "dns" => !settings.servers.is_empty(),
            "dns_search" => !settings.search.is_empty(),
            "dns_opt" => !settings.options.is_empty(),
            "extra_hosts" => !settings.hosts.is_empty(),
            _ => !settings.links.is_empty(),
        };
        if said {
            let wrong = Diagnostic::error(format!("`{}` has no effect: service `{name}` {why}", key.key()));
            let wrong = key.at_key(wrong).label(mode.key_span(), "with its network chosen here");
            cx.push(wrong.hint(hint.clone()));
        }
    }
}

/// Its size is that of an IPC namespace of the service's own.
fn shared_memory(cx: &mut Context<'_>, name: &ServiceName, service: &Service, at: Cursor<'_>) {
    let Some((size, ipc)) = at.get("shm_size").filter(|_| service.files.shm_size.is_some()).zip(at.get("ipc")) else {
        return;
    };
    let (problem, hint) = match &service.ipc {
        NamespaceMode::Private => return,
        NamespaceMode::Host => {
            ("has the `/dev/shm` of the host, which has a size".to_owned(), "remove `shm_size`".to_owned())
        }
        NamespaceMode::Container(other) => {
            (format!("has the `/dev/shm` of container `{other}`"), "remove `shm_size`".to_owned())
        }
        NamespaceMode::None => ("has no `/dev/shm`".to_owned(), "remove one of the two".to_owned()),
        NamespaceMode::Service(owner) => {
            let theirs = cx.project.services.as_ref().and_then(|services| services.0.0.get(owner.as_str()));
            let theirs = theirs.and_then(|service| service.storage.shm_size).map(|size| size.0);
            if theirs.and_then(|size| u64::try_from(size).ok()) == service.files.shm_size {
                return;
            }
            (
                format!("has the `/dev/shm` of `{owner}`, which is of another size"),
                format!("set it at service `{owner}`"),
            )
        }
    };
    let wrong = size.at_key(Diagnostic::error(format!("service `{name}` {problem}")));
    cx.push(wrong.label(ipc.key_span(), "its IPC namespace is chosen here").hint(hint));
}

/// Ports want a network namespace of the service's own.
fn network(cx: &mut Context<'_>, name: &ServiceName, service: &Service, at: Cursor<'_>) {
    let Some(mode) = at.get("network_mode").or_else(|| at.get("networks")) else { return };
    let hint = match &service.network_mode {
        NamespaceMode::Private => return,
        NamespaceMode::Host => "remove `ports`: on the network of the host every port is reachable".to_owned(),
        NamespaceMode::Service(owner) => format!("publish them at service `{owner}`, whose network it is"),
        NamespaceMode::Container(owner) => {
            format!("publish them in the stack of container `{owner}`, whose network it is")
        }
        NamespaceMode::None => "remove one of the two".to_owned(),
    };
    if let Some(ports) = at.get("ports").filter(|_| !service.ports.is_empty()) {
        let none = format!("service `{name}` publishes ports and has no network of its own to publish them from");
        let none = ports.at_key(Diagnostic::error(none)).label(mode.key_span(), "with its network chosen here");
        cx.push(none.hint(hint));
    }
}

/// A host name is of the namespace, and only who has it for its own can choose one.
fn names_of_others(cx: &mut Context<'_>, service: &Service, at: Cursor<'_>) {
    let Some(uts) = at.get("uts") else { return };
    let whose = match &service.uts {
        NamespaceMode::Private | NamespaceMode::None => return,
        NamespaceMode::Host => "the host".to_owned(),
        NamespaceMode::Service(owner) => format!("service `{owner}`"),
        NamespaceMode::Container(owner) => format!("container `{owner}`"),
    };
    for (key, value) in [("hostname", &service.hostname), ("domainname", &service.domainname)] {
        if let Some(name) = at.get(key).filter(|_| value.is_some()) {
            let wrong = Diagnostic::error(format!("`{key}` would change the name of {whose} itself"));
            let wrong = name.at_key(wrong).label(uts.key_span(), format!("its name is that of {whose}"));
            cx.push(wrong.hint("remove one of the two"));
        }
    }
}
