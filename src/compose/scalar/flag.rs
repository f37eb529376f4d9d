//! Yes and no.

use serde::Serialize;
use serde_json::{Value as Json, json};

use super::super::{Format, Reader, Schemas};
use crate::{
    diagnostics::Diagnostic,
    yaml::tree::{Node, ScalarKind},
};

/// `true` or `false`, or a string that says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Flag(pub bool);

impl Format for Flag {
    fn omitted(&self) -> bool {
        !self.0
    }
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        let scalar = match node.scalar() {
            Some(scalar) if matches!(scalar.kind, ScalarKind::Bool | ScalarKind::String) => scalar,
            _ => {
                cx.mistyped("`true` or `false`", node);
                return None;
            }
        };
        let word = scalar.text.to_ascii_lowercase();
        let (value, odd) = match word.as_str() {
            "true" => (true, false),
            "false" => (false, false),
            "yes" | "y" | "on" => (true, true),
            "no" | "n" | "off" => (false, true),
            _ => {
                cx.mistyped("`true` or `false`", node);
                return None;
            }
        };
        if odd && !scalar.interpolated {
            let what = cx.what();
            cx.report(
                Diagnostic::warning(format!("{what} is a boolean, and `{}` is a string", scalar.text))
                    .hint(format!("write `{value}`")),
                node,
            );
        }
        Some(Self(value))
    }
    fn schema(schemas: &mut Schemas) -> Json {
        const WORDS: &str = "^([Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee]|[Yy]([Ee][Ss])?|[Nn][Oo]?|[Oo][Nn]|[Oo][Ff][Ff])$";
        schemas.or_text(json!({"type": "boolean"}), WORDS)
    }
}

/// `true` or `false`, and no string, unless a variable made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct StrictFlag(pub bool);

impl Format for StrictFlag {
    fn omitted(&self) -> bool {
        !self.0
    }
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        match node.scalar() {
            Some(scalar) if scalar.kind == ScalarKind::Bool || scalar.interpolated => {
                Flag::read(node, cx).map(|flag| Self(flag.0))
            }
            _ => {
                cx.mistyped("`true` or `false`", node);
                None
            }
        }
    }
    fn schema(schemas: &mut Schemas) -> Json {
        schemas.or_variable(json!({"type": "boolean"}))
    }
}
