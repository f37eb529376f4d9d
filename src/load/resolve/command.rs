//! `command:` and `entrypoint:`: a list, or a string that is split like a shell splits it. Empty means none.

use super::{Context, Entry, Node, Value, service::Draft, words};
use crate::diagnostics::Diagnostic;

pub(super) fn command(cx: &mut Context<'_>, entry: &Entry, draft: &mut Draft) {
    draft.service.command = read(cx, "`command`", &entry.value);
}

pub(super) fn entrypoint(cx: &mut Context<'_>, entry: &Entry, draft: &mut Draft) {
    draft.service.entrypoint = read(cx, "`entrypoint`", &entry.value);
}

fn read(cx: &mut Context<'_>, what: &str, node: &Node) -> Option<Vec<String>> {
    let words = match &node.value {
        _ if node.is_null() => return None,
        Value::Sequence(nodes) => {
            let item = format!("an item of {what}");
            nodes.iter().filter_map(|node| cx.string(&item, node).map(str::to_owned)).collect()
        }
        Value::Scalar(_) => match words::split(cx.string(what, node)?) {
            Ok(words) => words,
            Err(problem) => {
                cx.push(
                    Diagnostic::error(format!("{what} cannot be split into words: {problem}"))
                        .at(&node.span)
                        .hint("write it as a list, one word per item"),
                );
                return None;
            }
        },
        Value::Mapping(_) => {
            cx.mistyped(what, "a string or a list of strings", node);
            return None;
        }
    };
    Some(words).filter(|words: &Vec<String>| !words.is_empty())
}
