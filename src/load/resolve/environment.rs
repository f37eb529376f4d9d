//! `environment:`: a mapping, or a list of `NAME=value`. A name without a value takes the caller's, or is left out.

use super::{Context, Entry, Node, Value, service::Draft};
use crate::diagnostics::{Diagnostic, Span};

pub(super) fn read(cx: &mut Context<'_>, entry: &Entry, draft: &mut Draft) {
    match &entry.value.value {
        Value::Mapping(entries) => {
            for entry in entries {
                let value = match &entry.value.value {
                    _ if entry.value.is_null() => None,
                    // As it is written: `1.10` stays `1.10`.
                    Value::Scalar(scalar) => Some(&*scalar.text),
                    _ => {
                        let what = format!("the variable `{}`", entry.key);
                        cx.mistyped(&what, "a string, a number, a boolean or nothing", &entry.value);
                        continue;
                    }
                };
                set(cx, draft, &entry.key, value, &entry.key_span);
            }
        }
        Value::Sequence(nodes) => {
            for node in nodes {
                let Some(text) = item(cx, node) else { continue };
                match text.split_once('=') {
                    Some((name, value)) => set(cx, draft, name, Some(value), &node.part(0..name.len())),
                    None => set(cx, draft, text, None, &node.span),
                }
            }
        }
        Value::Scalar(_) if entry.value.is_null() => {}
        Value::Scalar(_) | Value::Broken => {
            cx.mistyped("`environment`", "a mapping or a list of `NAME=value`", &entry.value)
        }
    }
}

fn item<'n>(cx: &mut Context<'_>, node: &'n Node) -> Option<&'n str> {
    if let Some([entry]) = node.entries() {
        cx.push(
            Diagnostic::error("a variable in a list is written `NAME=value`")
                .at(&entry.key_span)
                .hint(format!("write `- {}=…`, or leave out the dash of each variable", entry.key)),
        );
        return None;
    }
    cx.string("a variable in a list", node)
}

fn set(cx: &mut Context<'_>, draft: &mut Draft, name: &str, value: Option<&str>, span: &Span) {
    if name.is_empty() || name.contains('=') {
        cx.push(Diagnostic::error(format!("`{name}` is not the name of a variable")).at(span));
        return;
    }
    match value.or_else(|| cx.surroundings.variables.get(name).map(String::as_str)) {
        Some(value) => {
            draft.service.environment.insert(name.to_owned(), value.to_owned());
        }
        None => {
            draft.service.environment.remove(name);
        }
    }
}
