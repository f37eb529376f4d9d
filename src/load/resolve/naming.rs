//! `dns`, `dns_search`, `dns_opt`, `extra_hosts` and `links`.

use std::collections::BTreeMap;

use super::{Context, Cursor, networks::host_name};
use crate::{
    compose::{Networking, OneOrMany, Set, Text},
    diagnostics::Diagnostic,
    model::{HostAddress, NameSettings, ServiceName},
};

/// The word for the host itself (Compose Specification, `extra_hosts`).
const HOST: &str = "host-gateway";

pub(super) fn lower(cx: &mut Context<'_>, networking: &Networking, at: Cursor<'_>) -> NameSettings {
    let mut settings = NameSettings::default();
    if let Some(servers) = &networking.dns {
        settings.servers = texts(&servers.0, at.at("dns"))
            .filter_map(|(text, at)| {
                let wrong = || at.here(Diagnostic::error(format!("`{text}` is not the address of a name server")));
                text.parse().map_err(|_| cx.push(wrong().hint("write an address, such as `9.9.9.9`"))).ok()
            })
            .collect();
    }
    if let Some(domains) = &networking.dns_search {
        settings.search = texts(domains, at.at("dns_search")).filter_map(|(text, at)| word(cx, text, at)).collect();
    }
    if let Some(options) = &networking.dns_opt {
        let items = at.at("dns_opt").items(&options.0);
        settings.options = items.filter_map(|(text, at)| word(cx, &text.0, at)).collect();
    }
    settings.hosts = hosts(cx, networking, at);
    settings.links = links(cx, networking, at);
    settings
}

/// The items of a list, or the one that stands for it.
fn texts<'t>(all: &'t OneOrMany<Set<Text>>, at: Cursor<'t>) -> impl Iterator<Item = (&'t str, Cursor<'t>)> {
    at.items(&all.0.0).map(|(text, at)| (text.0.as_str(), at))
}

/// A word of resolv.conf, which has one line for all of them.
fn word(cx: &mut Context<'_>, text: &str, at: Cursor<'_>) -> Option<String> {
    if text.is_empty() {
        return None;
    }
    if text.bytes().all(|b| b.is_ascii_graphic()) {
        return Some(text.to_owned());
    }
    cx.push(at.here(Diagnostic::error(format!("`{text}` is not one word of resolv.conf"))));
    None
}

fn hosts(cx: &mut Context<'_>, networking: &Networking, at: Cursor<'_>) -> BTreeMap<String, Vec<HostAddress>> {
    let mut hosts = BTreeMap::new();
    let Some(written) = &networking.extra_hosts else { return hosts };
    for (name, at) in at.get("extra_hosts").into_iter().flat_map(Cursor::entries) {
        let Some(addresses) = written.0.get(name) else { continue };
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
            cx.push(at.at_key(Diagnostic::error(format!("`{name}` is not a host name"))));
            continue;
        }
        let mut valid = Vec::new();
        for (text, at) in at.items(addresses) {
            match text.as_str() {
                HOST => valid.push(HostAddress::Gateway),
                text => match text.parse() {
                    Ok(address) => valid.push(HostAddress::Address(address)),
                    Err(_) => {
                        let wrong = at.here(Diagnostic::error(format!("`{text}` is not an address")));
                        cx.push(wrong.hint(format!("write one, or `{HOST}` for the host itself")));
                    }
                },
            }
        }
        hosts.insert(name.to_ascii_lowercase(), valid);
    }
    hosts
}

fn links(cx: &mut Context<'_>, networking: &Networking, at: Cursor<'_>) -> BTreeMap<String, ServiceName> {
    let mut links = BTreeMap::new();
    let Some(written) = &networking.links else { return links };
    for (text, at) in at.at("links").items(&written.0) {
        let (service, alias) = text.0.split_once(':').unwrap_or((&text.0, &text.0));
        // One that is not there has been reported.
        let Some(service) = cx.service(service) else { continue };
        let Some(alias) = host_name(cx, alias, at) else { continue };
        links.insert(alias.to_ascii_lowercase(), service);
    }
    links
}
