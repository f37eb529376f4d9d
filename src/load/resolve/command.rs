//! `command:` and `entrypoint:`: a list, or a string that is split like a shell splits it. Empty means none.

use super::{Context, Entry, Node, Value, service::Draft};
use crate::{diagnostics::Diagnostic, load::words};

pub(super) fn command(cx: &mut Context<'_>, entry: &Entry, draft: &mut Draft) {
    match read(cx, "`command`", &entry.value) {
        Some(words) => draft.service.command = Some(words).filter(|words| !words.is_empty()),
        None => draft.misread_command = true,
    }
}

pub(super) fn entrypoint(cx: &mut Context<'_>, entry: &Entry, draft: &mut Draft) {
    match read(cx, "`entrypoint`", &entry.value) {
        Some(words) => draft.service.entrypoint = Some(words).filter(|words| !words.is_empty()),
        None => draft.misread_command = true,
    }
}

/// The words, empty if nothing is there; none if there was a mistake.
fn read(cx: &mut Context<'_>, what: &str, node: &Node) -> Option<Vec<String>> {
    match &node.value {
        _ if node.is_null() => Some(Vec::new()),
        Value::Sequence(nodes) => {
            let item = format!("an item of {what}");
            // All items are looked at, so that all mistakes are found.
            let words: Vec<Option<&str>> = nodes.iter().map(|node| cx.string(&item, node)).collect();
            words.into_iter().map(|word| word.map(str::to_owned)).collect()
        }
        Value::Scalar(_) => match words::split(cx.string(what, node)?) {
            Ok(words) => Some(words),
            Err(problem) => {
                cx.push(
                    Diagnostic::error(format!("{what} cannot be split into words: {problem}"))
                        .at(&node.span)
                        .hint("write it as a list, one word per item"),
                );
                None
            }
        },
        Value::Mapping(_) | Value::Broken => {
            cx.mistyped(what, "a string or a list of strings", node);
            None
        }
    }
}
