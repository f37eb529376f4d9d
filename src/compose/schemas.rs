//! The JSON Schema of the format (draft 7), collected type by type.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

/// Definitions so far.
#[derive(Debug, Default)]
pub(crate) struct Schemas(BTreeMap<&'static str, Json>);

impl Schemas {
    /// A reference to the definition of that name, which is made if there is none yet.
    pub(crate) fn define(&mut self, name: &'static str, make: impl FnOnce(&mut Self) -> Json) -> Json {
        if !self.0.contains_key(name) {
            // Stands for itself while it is being made, so that a type may contain itself.
            self.0.insert(name, Json::Null);
            let schema = make(self);
            self.0.insert(name, schema);
        }
        json!({ "$ref": format!("#/definitions/{name}") })
    }

    /// What the schema allows, or a text with a variable, which may turn out to be that.
    pub(crate) fn or_variable(&mut self, schema: Json) -> Json {
        let variable = self.define("Variable", |_| {
            json!({"description": "A text with a variable, such as `${NAME}`.", "type": "string", "pattern": "\\$"})
        });
        json!({"anyOf": [schema, variable]})
    }

    /// A text of that shape, or one with a variable.
    pub(crate) fn pattern(&mut self, pattern: &str) -> Json {
        self.or_variable(json!({"type": "string", "pattern": pattern}))
    }

    /// What the schema allows, or a text that says it in that shape, or one with a variable.
    pub(crate) fn or_text(&mut self, schema: Json, pattern: &str) -> Json {
        self.or_variable(json!({"anyOf": [schema, {"type": "string", "pattern": pattern}]}))
    }

    /// The whole document.
    pub(crate) fn document(self, root: Json) -> Json {
        json!({
            "$schema": "http://json-schema.org/draft-07/schema#",
            "$id": "urn:nscompose:compose-file",
            "title": "Compose file, as nscompose reads it",
            "allOf": [root],
            "definitions": self.0,
        })
    }
}
