//! Keys of a service that exclude each other.

use super::{Context, Cursor};
use crate::{
    diagnostics::Diagnostic,
    model::{NamespaceMode, Service, ServiceName},
};

pub(super) fn check(cx: &mut Context<'_>, name: &ServiceName, service: &Service, at: Cursor<'_>) {
    network(cx, name, service, at);
    names_of_the_host(cx, service, at);
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

/// Ports want a network namespace of the service's own.
fn network(cx: &mut Context<'_>, name: &ServiceName, service: &Service, at: Cursor<'_>) {
    let Some(mode) = at.get("network_mode") else { return };
    let hint = match &service.network_mode {
        NamespaceMode::Private => return,
        NamespaceMode::Host => "remove `ports`: on the network of the host every port is reachable".to_owned(),
        NamespaceMode::Service(owner) => format!("publish them at service `{owner}`, whose network it is"),
        NamespaceMode::None => "remove one of the two".to_owned(),
    };
    if let Some(ports) = at.get("ports").filter(|_| !service.ports.is_empty()) {
        let none = format!("service `{name}` publishes ports and has no network of its own to publish them from");
        let none = ports.at_key(Diagnostic::error(none)).label(mode.key_span(), "with its network chosen here");
        cx.push(none.hint(hint));
    }
}

fn names_of_the_host(cx: &mut Context<'_>, service: &Service, at: Cursor<'_>) {
    let Some(uts) = at.get("uts").filter(|_| service.uts == NamespaceMode::Host) else { return };
    for key in ["hostname", "domainname"] {
        if let Some(name) = at.get(key) {
            let wrong = Diagnostic::error(format!("`{key}` would change the name of the host itself"));
            let wrong = name.at_key(wrong).label(uts.key_span(), "its name is the host's");
            cx.push(wrong.hint("remove one of the two"));
        }
    }
}
