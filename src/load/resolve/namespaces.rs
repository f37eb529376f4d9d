//! `network_mode:`, `ipc:`, `pid:`, `uts:`, `userns_mode:` and `cgroup:`: whose namespaces a service is in.

use std::collections::BTreeMap;

use super::{Context, Cursor, said};
use crate::{
    compose::{CgroupMode, Networking, Text},
    diagnostics::{Diagnostic, suggest},
    model::{NamespaceMode, Service, ServiceName},
};

/// Where the namespaces of a service come from.
pub(super) struct Modes {
    pub(super) network: NamespaceMode,
    pub(super) ipc: NamespaceMode,
    pub(super) private_ipc: bool,
    pub(super) pid: NamespaceMode,
    pub(super) uts: NamespaceMode,
    pub(super) users: NamespaceMode,
    pub(super) cgroup: NamespaceMode,
}

impl Modes {
    /// Services whose namespaces are shared.
    pub(super) fn owners(&self) -> impl Iterator<Item = &ServiceName> {
        [&self.network, &self.ipc, &self.pid, &self.uts].into_iter().filter_map(|mode| mode.service())
    }
}

/// What one of the keys may say.
struct Key {
    name: &'static str,
    words: &'static [(&'static str, NamespaceMode)],
    /// `service:NAME` and `container:NAME` may stand there.
    shared: bool,
}

const NETWORK: Key = Key {
    name: "network_mode",
    words: &[("bridge", NamespaceMode::Private), ("host", NamespaceMode::Host), ("none", NamespaceMode::None)],
    shared: true,
};

const IPC: Key = Key {
    name: "ipc",
    words: &[
        ("private", NamespaceMode::Private),
        // Each can be shared, unless the file says `private`: who shares it is written there too.
        ("shareable", NamespaceMode::Private),
        ("host", NamespaceMode::Host),
        ("none", NamespaceMode::None),
    ],
    shared: true,
};

const PID: Key = Key { name: "pid", words: &[("host", NamespaceMode::Host)], shared: true };

/// Docker knows `host` alone.
const UTS: Key = Key { name: "uts", words: &[("host", NamespaceMode::Host)], shared: true };

const USERS: Key = Key { name: "userns_mode", words: &[("host", NamespaceMode::Host)], shared: false };

pub(super) fn lower(cx: &mut Context<'_>, networking: &Networking, at: Cursor<'_>) -> Modes {
    Modes {
        network: NETWORK.lower(cx, networking.network_mode.as_ref(), at),
        ipc: IPC.lower(cx, networking.ipc.as_ref(), at),
        private_ipc: said(networking.ipc.as_ref()).is_some_and(|ipc| NOT_SHARED.contains(&ipc)),
        pid: PID.lower(cx, networking.pid.as_ref(), at),
        uts: UTS.lower(cx, networking.uts.as_ref(), at),
        users: USERS.lower(cx, networking.userns_mode.as_ref(), at),
        cgroup: match networking.cgroup {
            Some(CgroupMode::Host) => NamespaceMode::Host,
            Some(CgroupMode::Private) | None => NamespaceMode::Private,
        },
    }
}

/// Refuses what services that share something say against each other. All services count, those of which one is wanted
/// are meant.
pub(super) fn check_sharers(
    cx: &mut Context<'_>,
    services: &BTreeMap<ServiceName, Service>,
    all: Cursor<'_>,
    is_wanted: impl Fn(&str) -> bool,
) {
    for (name, service) in services.iter().filter(|(name, _)| is_wanted(name.as_str())) {
        for (key, mode) in service.sharing() {
            let Some((owner, other)) = mode.service().and_then(|owner| services.get_key_value(owner)) else { continue };
            let Some(place) = all.get(name.as_str()).and_then(|service| service.get(key)) else { continue };
            let theirs = all.get(owner.as_str()).unwrap_or(all);
            if key == IPC.name
                && other.private_ipc
                && let Some(said) = theirs.get(IPC.name)
            {
                let message =
                    format!("service `{name}` shares the ipc of service `{owner}`, which says that nobody does");
                let wrong = place.here(Diagnostic::error(message)).label(said.span(), "it is for itself alone");
                cx.push(wrong.hint(format!("say `ipc: shareable` at service `{owner}`")));
            }
            if service.userns_mode != other.userns_mode {
                let host = if service.userns_mode == NamespaceMode::Host { name } else { owner };
                let less = if host == name { owner } else { name };
                let message = format!(
                    "services `{name}` and `{owner}` share a namespace, and only `{host}` has the users of the host"
                );
                let mut wrong = place.here(Diagnostic::error(message));
                if let Some(users) = all.get(host.as_str()).and_then(|service| service.get(USERS.name)) {
                    wrong = wrong.label(users.key_span(), "said here");
                }
                // As rights over the namespace go with its user namespace (user_namespaces(7)), one of them would have more
                // of them, or less, than its own line says.
                cx.push(wrong.hint(format!("say `userns_mode: host` at `{less}` too, or at neither of them")));
            }
        }
    }
}

/// Words of `ipc` that keep others out, as in Docker.
const NOT_SHARED: [&str; 2] = ["private", "none"];

impl Key {
    fn lower(&self, cx: &mut Context<'_>, text: Option<&Text>, at: Cursor<'_>) -> NamespaceMode {
        let Some(text) = said(text) else { return NamespaceMode::Private };
        if let Some((_, mode)) = self.words.iter().find(|(word, _)| *word == text) {
            return mode.clone();
        }
        if self.shared {
            if let Some(name) = text.strip_prefix("service:") {
                // Of one that is not there it has been said.
                return cx.service(name).map_or(NamespaceMode::Private, NamespaceMode::Service);
            }
            if let Some(name) = text.strip_prefix("container:") {
                // Of another stack: one of this has become the service that it is of.
                return match name.parse() {
                    Ok(name) => NamespaceMode::Container(name),
                    Err(error) => {
                        cx.push(at.at(self.name).here(Diagnostic::error(format!("{error}"))));
                        NamespaceMode::Private
                    }
                };
            }
        }
        let mut words: Vec<&str> = self.words.iter().map(|(word, _)| *word).collect();
        if self.shared {
            words.extend(["service:NAME", "container:NAME"]);
        }
        let listed: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
        let wrong = Diagnostic::error(format!("`{text}` is nothing that `{}` knows", self.name));
        cx.push(
            at.at(self.name)
                .here(wrong)
                .did_you_mean(suggest(text, self.words.iter().map(|(word, _)| *word)))
                .hint(format!("`{}` takes {}", self.name, listed.join(", "))),
        );
        NamespaceMode::Private
    }
}
