//! `network_mode:`, `ipc:`, `pid:` and `uts:`: whose namespaces a service is in.

use super::{Context, Cursor, said};
use crate::{
    compose::{Networking, Text},
    diagnostics::{Diagnostic, suggest},
    model::{NamespaceMode, ServiceName},
};

/// Where the namespaces of a service come from.
pub(super) struct Modes {
    pub(super) network: NamespaceMode,
    pub(super) ipc: NamespaceMode,
    pub(super) pid: NamespaceMode,
    pub(super) uts: NamespaceMode,
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
    /// `service:NAME` may stand there.
    service: bool,
}

const NETWORK: Key = Key {
    name: "network_mode",
    words: &[("bridge", NamespaceMode::Private), ("host", NamespaceMode::Host), ("none", NamespaceMode::None)],
    service: true,
};

const IPC: Key = Key {
    name: "ipc",
    words: &[
        ("private", NamespaceMode::Private),
        // Every private one can be shared: who may is written in the file.
        ("shareable", NamespaceMode::Private),
        ("host", NamespaceMode::Host),
        ("none", NamespaceMode::None),
    ],
    service: true,
};

const PID: Key = Key { name: "pid", words: &[("host", NamespaceMode::Host)], service: true };

const UTS: Key = Key { name: "uts", words: &[("host", NamespaceMode::Host)], service: false };

pub(super) fn lower(cx: &mut Context<'_>, networking: &Networking, at: Cursor<'_>) -> Modes {
    Modes {
        network: NETWORK.lower(cx, networking.network_mode.as_ref(), at),
        ipc: IPC.lower(cx, networking.ipc.as_ref(), at),
        pid: PID.lower(cx, networking.pid.as_ref(), at),
        uts: UTS.lower(cx, networking.uts.as_ref(), at),
    }
}

impl Key {
    fn lower(&self, cx: &mut Context<'_>, text: Option<&Text>, at: Cursor<'_>) -> NamespaceMode {
        let Some(text) = said(text) else { return NamespaceMode::Private };
        if let Some((_, mode)) = self.words.iter().find(|(word, _)| *word == text) {
            return mode.clone();
        }
        if self.service {
            if let Some(name) = text.strip_prefix("service:") {
                // Of one that is not there it has been said.
                return cx.service(name).map_or(NamespaceMode::Private, NamespaceMode::Service);
            }
            if text.starts_with("container:") {
                // It has been refused.
                return NamespaceMode::Private;
            }
        }
        let mut words: Vec<&str> = self.words.iter().map(|(word, _)| *word).collect();
        if self.service {
            words.push("service:NAME");
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
