//! `depends_on:`: a list of services, or a mapping of services to conditions.

use std::collections::HashMap;

use super::{
    Context, Entry, Value,
    keys::{self, Key, read as reads},
    service::Draft,
};
use crate::diagnostics::Diagnostic;

/// Nothing is kept yet: what else than `service_started` may be asked for is refused.
struct Condition;

const KEYS: [Key<Condition>; 3] =
    [reads("condition", condition), reads("restart", restart), reads("required", required)];

pub(super) fn read(cx: &mut Context<'_>, entry: &Entry, draft: &mut Draft) {
    match &entry.value.value {
        Value::Sequence(nodes) => {
            let mut seen = HashMap::new();
            for node in nodes {
                let Some(name) = cx.string("an item of `depends_on`", node) else { continue };
                if let Some(first) = seen.insert(name, &node.span) {
                    let diagnostic = Diagnostic::error(format!("`{name}` is listed twice"))
                        .at(&node.span)
                        .label(first, "first here");
                    cx.push(diagnostic);
                    continue;
                }
                draft.link("depends_on", name, node.span.clone());
            }
        }
        Value::Mapping(entries) => {
            for entry in entries {
                let what = format!("the dependency on `{}`", entry.key);
                keys::read_mapping(cx, &what, &entry.value, &KEYS, &mut Condition);
                draft.link("depends_on", &entry.key, entry.key_span.clone());
            }
        }
        Value::Scalar(_) if entry.value.is_null() => {}
        Value::Scalar(_) | Value::Broken => {
            cx.mistyped("`depends_on`", "a list of services or a mapping", &entry.value)
        }
    }
}

fn condition(cx: &mut Context<'_>, entry: &Entry, _: &mut Condition) {
    let Some(text) = cx.string("`condition`", &entry.value) else { return };
    match text {
        "service_started" => {}
        "service_healthy" | "service_completed_successfully" => {
            cx.unsupported(&format!("condition: {text}"), &entry.value.span, "use `service_started`");
        }
        other => {
            let known = ["service_started", "service_healthy", "service_completed_successfully"];
            cx.push(
                Diagnostic::error(format!("`{other}` is not a condition"))
                    .at(&entry.value.span)
                    .did_you_mean(crate::diagnostics::suggest(other, known))
                    .hint(format!("the conditions are {}", known.map(|name| format!("`{name}`")).join(", "))),
            );
        }
    }
}

fn restart(cx: &mut Context<'_>, entry: &Entry, _: &mut Condition) {
    if cx.boolean("`restart`", &entry.value) == Some(true) {
        cx.unsupported("restart: true", &entry.value.span, "");
    }
}

fn required(cx: &mut Context<'_>, entry: &Entry, _: &mut Condition) {
    if cx.boolean("`required`", &entry.value) == Some(false) {
        cx.unsupported("required: false", &entry.value.span, "");
    }
}
