//! Tables of the keys that a mapping may have.

use super::{Context, Entry, Node};
use crate::diagnostics::Diagnostic;

/// A key of a mapping that is read into a `T`.
pub(super) struct Key<T> {
    pub(super) name: &'static str,
    pub(super) support: Support<T>,
}

pub(super) enum Support<T> {
    /// Read by this function.
    Read(fn(&mut Context<'_>, &Entry, &mut T)),
    /// Of no effect on Linux or for a single machine, so that leaving it out loses nothing; said as a warning.
    NoEffect,
    /// Read by an earlier phase.
    Earlier,
    /// Known to the specification, not to this version; a hint may say what to do instead.
    Later(&'static str),
}

pub(super) const fn read<T>(name: &'static str, function: fn(&mut Context<'_>, &Entry, &mut T)) -> Key<T> {
    Key { name, support: Support::Read(function) }
}

pub(super) const fn no_effect<T>(name: &'static str) -> Key<T> {
    Key { name, support: Support::NoEffect }
}

pub(super) const fn earlier<T>(name: &'static str) -> Key<T> {
    Key { name, support: Support::Earlier }
}

pub(super) const fn later<T>(name: &'static str) -> Key<T> {
    Key { name, support: Support::Later("") }
}

pub(super) const fn instead<T>(name: &'static str, hint: &'static str) -> Key<T> {
    Key { name, support: Support::Later(hint) }
}

/// Reads a mapping, each key by the table, in the order of the file. `x-` keys are nobody's business but their author's.
pub(super) fn read_mapping<T>(cx: &mut Context<'_>, what: &str, node: &Node, table: &[Key<T>], into: &mut T) {
    let Some(entries) = node.entries() else {
        if !node.is_null() {
            cx.mistyped(what, "a mapping", node);
        }
        return;
    };
    for entry in entries {
        if entry.key.starts_with("x-") {
            continue;
        }
        match table.iter().find(|key| key.name == &*entry.key).map(|key| &key.support) {
            Some(Support::Read(function)) => function(cx, entry, into),
            Some(Support::Earlier) => {}
            Some(Support::NoEffect) => {
                let text = format!("`{}` has no effect on a single Linux machine", entry.key);
                cx.push(Diagnostic::warning(text).at(&entry.key_span));
            }
            Some(Support::Later(hint)) => cx.unsupported(&entry.key, &entry.key_span, hint),
            None => {
                let meant = cx.suggest(&entry.key, table.iter().map(|key| key.name));
                cx.push(
                    Diagnostic::error(format!("{what} has no key `{}`", entry.key))
                        .at(&entry.key_span)
                        .did_you_mean(meant),
                );
            }
        }
    }
}
