//! A project as it is written out: values in an order that is meant to be read, as YAML or as JSON.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, SeqAccess, Visitor},
    ser::{SerializeMap, SerializeSeq},
};

use crate::diagnostics::Failure;

/// Sections of a project in the order in which they are written.
const SECTIONS: [&str; 9] =
    ["name", "include", "services", "networks", "volumes", "secrets", "configs", "models", "version"];

/// A value whose keys stand in an order of ours.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Document {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
}

impl Document {
    /// Anything, in the order of its fields.
    pub(super) fn of(value: &impl Serialize) -> Result<Self, Failure> {
        // By way of a text, which keeps that order.
        serde_json::to_string(value)
            .and_then(|text| serde_json::from_str(&text))
            .map_err(|e| Failure::internal("cannot write the project").caused_by(&e))
    }

    /// The sections of a project and the keys of its services in the order that Docker Compose has.
    pub(super) fn in_order(mut self) -> Self {
        if let Self::Map(sections) = &mut self {
            sections.sort_by_key(|(key, _)| SECTIONS.iter().position(|section| section == key).unwrap_or(usize::MAX));
        }
        for service in self.section("services") {
            if let Self::Map(keys) = service {
                keys.sort_by(|(a, _), (b, _)| (a != "profiles", a).cmp(&(b != "profiles", b)));
            }
        }
        self
    }

    /// Leaves out what says nothing: that a service has no command of its own, and that a network has no addresses.
    pub(super) fn brief(mut self) -> Self {
        for service in self.section("services") {
            if let Self::Map(keys) = service {
                keys.retain(|(key, value)| !(matches!(&**key, "command" | "entrypoint") && *value == Self::Null));
            }
        }
        for network in self.section("networks") {
            if let Self::Map(keys) = network {
                keys.retain(|(key, value)| !(key == "ipam" && *value == Self::Map(Vec::new())));
            }
        }
        self
    }

    pub(super) fn yaml(&self) -> Result<String, Failure> {
        // Folding would need a reader that unfolds as we fold; long lines are no trouble.
        let options = serde_saphyr::ser_options! { compact_list_indent: false, folded_wrap_chars: usize::MAX };
        serde_saphyr::to_string_with_options(self, options)
            .map_err(|e| Failure::internal("cannot write the project as YAML").caused_by(&e))
    }

    pub(super) fn json(&self) -> Result<String, Failure> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|e| Failure::internal("cannot write the project as JSON").caused_by(&e))?;
        Ok(text + "\n")
    }

    /// The values of a section.
    fn section(&mut self, name: &str) -> impl Iterator<Item = &mut Self> {
        let section = match self {
            Self::Map(sections) => sections.iter_mut().find(|(key, _)| key == name).map(|(_, value)| value),
            _ => None,
        };
        let values = match section {
            Some(Self::Map(values)) => Some(values),
            _ => None,
        };
        values.into_iter().flatten().map(|(_, value)| value)
    }
}

/// A `$` of a project stands doubled in what is written, so that it is read as itself.
pub(super) fn escaped(text: &str) -> String {
    text.replace('$', "$$")
}

impl Serialize for Document {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(number) => number.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| list.serialize_element(item))?;
                list.end()
            }
            Self::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                entries.iter().try_for_each(|(key, value)| map.serialize_entry(key, value))?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Build)
    }
}

struct Build;

impl<'de> Visitor<'de> for Build {
    type Value = Document;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E>(self) -> Result<Document, E> {
        Ok(Document::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Document, E> {
        Ok(Document::Bool(value))
    }
    fn visit_i64<E>(self, number: i64) -> Result<Document, E> {
        Ok(Document::Number(number.into()))
    }
    fn visit_u64<E>(self, number: u64) -> Result<Document, E> {
        Ok(Document::Number(number.into()))
    }
    fn visit_f64<E>(self, number: f64) -> Result<Document, E> {
        Ok(serde_json::Number::from_f64(number).map_or(Document::Null, Document::Number))
    }
    fn visit_str<E>(self, text: &str) -> Result<Document, E> {
        Ok(Document::Text(text.to_owned()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Document, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Document::List(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Document, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Document::Map(entries))
    }
}
