//! `network_mode:`, `ipc:`, `pid:` and `uts:`: whose namespaces a service is in.

use super::{Context, Entry, service::Draft};
use crate::{
    diagnostics::{Diagnostic, suggest},
    model::NamespaceMode,
};

/// What one of the keys may say.
struct Modes {
    key: &'static str,
    words: &'static [(&'static str, NamespaceMode)],
    /// `service:NAME` may stand there.
    service: bool,
}

const NETWORK: Modes = Modes {
    key: "network_mode",
    words: &[("bridge", NamespaceMode::Private), ("host", NamespaceMode::Host), ("none", NamespaceMode::None)],
    service: true,
};

const IPC: Modes = Modes {
    key: "ipc",
    words: &[
        ("private", NamespaceMode::Private),
        // Every private one can be shared: who may is written in the file.
        ("shareable", NamespaceMode::Private),
        ("host", NamespaceMode::Host),
        ("none", NamespaceMode::None),
    ],
    service: true,
};

const PID: Modes = Modes { key: "pid", words: &[("host", NamespaceMode::Host)], service: true };

const UTS: Modes = Modes { key: "uts", words: &[("host", NamespaceMode::Host)], service: false };

pub(super) fn network_mode(cx: &mut Context<'_>, entry: &Entry, draft: &mut Draft) {
    if let Some(mode) = NETWORK.read(cx, entry, draft) {
        draft.service.network_mode = mode;
    }
}

pub(super) fn ipc(cx: &mut Context<'_>, entry: &Entry, draft: &mut Draft) {
    if let Some(mode) = IPC.read(cx, entry, draft) {
        draft.service.ipc = mode;
    }
}

pub(super) fn pid(cx: &mut Context<'_>, entry: &Entry, draft: &mut Draft) {
    if let Some(mode) = PID.read(cx, entry, draft) {
        draft.service.pid = mode;
    }
}

pub(super) fn uts(cx: &mut Context<'_>, entry: &Entry, draft: &mut Draft) {
    if let Some(mode) = UTS.read(cx, entry, draft) {
        draft.service.uts = mode;
    }
}

impl Modes {
    fn read(&self, cx: &mut Context<'_>, entry: &Entry, draft: &mut Draft) -> Option<NamespaceMode> {
        let key = self.key;
        let node = &entry.value;
        let text = cx.string(&format!("`{key}`"), node)?;
        if let Some((_, mode)) = self.words.iter().find(|(word, _)| *word == text) {
            return Some(mode.clone());
        }
        if let Some(name) = text.strip_prefix("service:")
            && self.service
        {
            draft.link(key, name, node.part(text.len() - name.len()..text.len()));
            // What is no name is no service either, which the check of references will say.
            return name.parse().ok().map(NamespaceMode::Service);
        }
        if text.starts_with("container:") && self.service {
            cx.unsupported(&format!("{key}: container:…"), &node.span, "share with a service: `service:NAME`");
            return None;
        }
        let mut words: Vec<&str> = self.words.iter().map(|(word, _)| *word).collect();
        if self.service {
            words.push("service:NAME");
        }
        let listed: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
        cx.push(
            Diagnostic::error(format!("`{text}` is nothing that `{key}` knows"))
                .at(&node.span)
                .did_you_mean(suggest(text, self.words.iter().map(|(word, _)| *word)))
                .hint(format!("`{key}` takes {}", listed.join(", "))),
        );
        None
    }
}
