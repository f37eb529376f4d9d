//! Numbers.

use serde::{Serialize, Serializer};
use serde_json::{Value as Json, json};

use super::super::{Format, Reader, Schemas, untyped};
use crate::{
    diagnostics::Diagnostic,
    yaml::tree::{Node, ScalarKind},
};

/// A whole number as a text. With underscores it is one for us, and a text for most editors.
const WHOLE: &str = "^[+-]?[0-9][0-9_]*$";

/// A whole number between two others, or a string that says one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Int<const MIN: i64 = { i64::MIN }, const MAX: i64 = { i64::MAX }>(pub i64);

impl<const MIN: i64, const MAX: i64> Format for Int<MIN, MAX> {
    fn omitted(&self) -> bool {
        self.0 == 0
    }
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        let scalar = cx.string_or_number(node)?;
        let number = match scalar.kind {
            ScalarKind::Int => untyped::integer(scalar),
            // `5.0` is a whole number in JSON Schema, and so it is here.
            ScalarKind::Float => untyped::float(scalar)
                .filter(|number| number.fract() == 0.0 && number.abs() < 1e18)
                .map(|number| number as i128),
            _ => scalar.text.parse::<i128>().ok(),
        };
        match number.and_then(|number| i64::try_from(number).ok()) {
            Some(number) if (MIN..=MAX).contains(&number) => Some(Self(number)),
            Some(number) => {
                let what = cx.what();
                let range = match (MIN, MAX) {
                    (min, i64::MAX) => format!("at least {min}"),
                    (min, max) => format!("from {min} to {max}"),
                };
                cx.report(Diagnostic::error(format!("{what} is a number {range}, and this is {number}")), node);
                None
            }
            None => {
                let what = cx.what();
                cx.report(Diagnostic::error(format!("{what} is a whole number, and this is `{}`", scalar.text)), node);
                None
            }
        }
    }
    fn schema(schemas: &mut Schemas) -> Json {
        let mut number = json!({"type": "integer"});
        if MIN != i64::MIN {
            number["minimum"] = json!(MIN);
        }
        if MAX != i64::MAX {
            number["maximum"] = json!(MAX);
        }
        schemas.or_text(number, WHOLE)
    }
}

/// A number of which Compose takes the whole part, or a string that says a whole one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Truncated<const MIN: i64 = { i64::MIN }>(pub i64);

impl<const MIN: i64> Format for Truncated<MIN> {
    fn omitted(&self) -> bool {
        self.0 == 0
    }
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        let fraction = node.scalar().filter(|scalar| scalar.kind == ScalarKind::Float).and_then(untyped::float);
        if let Some(number) = fraction.filter(|number| number.fract() != 0.0 && number.abs() < 1e18) {
            let what = cx.what();
            cx.report(
                Diagnostic::warning(format!("{what} is a whole number: the fraction is dropped"))
                    .hint(format!("write `{}`", number.trunc())),
                node,
            );
            return Some(Self(number.trunc() as i64));
        }
        Int::<MIN, { i64::MAX }>::read(node, cx).map(|number| Self(number.0))
    }
    fn schema(schemas: &mut Schemas) -> Json {
        schemas.or_text(json!({"type": "number"}), WHOLE)
    }
}

/// A number that may have a fraction, or a string that says one. Single precision, as Compose keeps it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decimal(pub f32);

/// With the few digits that single precision has, and without a fraction if there is none.
impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.0.to_string();
        if let Ok(whole) = text.parse::<i64>() {
            return serializer.serialize_i64(whole);
        }
        serializer.serialize_f64(text.parse().unwrap_or(f64::from(self.0)))
    }
}

impl Format for Decimal {
    fn omitted(&self) -> bool {
        self.0 == 0.0
    }
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        let scalar = cx.string_or_number(node)?;
        let number = match scalar.kind {
            ScalarKind::Int => untyped::integer(scalar).map(|number| number as f32),
            _ => scalar.text.parse::<f32>().ok(),
        };
        if number.is_none_or(|number| !number.is_finite()) {
            let what = cx.what();
            cx.report(Diagnostic::error(format!("{what} is a number, and this is `{}`", scalar.text)), node);
            return None;
        }
        number.map(Self)
    }
    fn schema(schemas: &mut Schemas) -> Json {
        schemas.or_text(json!({"type": "number"}), "^[+-]?([0-9][0-9_]*\\.?[0-9]*|\\.[0-9]+)([eE][+-]?[0-9]+)?$")
    }
}
