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

impl Flag {
    /// What a text says, in the words that Compose knows.
    #[must_use]
    pub fn parse(text: &str) -> Option<bool> {
        let is = |words: [&str; 4]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
        match () {
            () if is(["true", "yes", "y", "on"]) => Some(true),
            () if is(["false", "no", "n", "off"]) => Some(false),
            () => None,
        }
    }
}

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
        let Some(value) = Self::parse(&scalar.text) else {
            cx.mistyped("`true` or `false`", node);
            return None;
        };
        let odd = !["true", "false"].iter().any(|word| scalar.text.eq_ignore_ascii_case(word));
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
