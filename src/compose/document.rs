//! A project as keys and values, on its way to being printed.

use std::{borrow::Cow, fmt::Display};

use serde::{
    Serialize, Serializer,
    ser::{Error as _, Impossible, SerializeMap, SerializeSeq, SerializeStruct, SerializeTuple, SerializeTupleStruct},
};
use serde_json::Error;

/// A value whose keys stand in the order in which they came.
///
/// It is what `serde_json::Value` would be, made in half the time: a key that is a field's name is not copied, and keys
/// need no tree.
#[derive(Debug, Clone, PartialEq)]
pub enum Document {
    /// Nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(serde_json::Number),
    /// A string.
    Text(String),
    /// A list.
    List(Vec<Self>),
    /// A mapping. No key comes twice.
    Map(Vec<(Cow<'static, str>, Self)>),
}

impl Document {
    /// Anything, in the order of its fields.
    ///
    /// # Errors
    /// When it cannot be said so, such as a whole number of more than 64 bits.
    pub fn of(value: &impl Serialize) -> Result<Self, Error> {
        value.serialize(Builder)
    }

    /// The text of a JSON file.
    #[must_use]
    pub fn json(&self) -> String {
        let mut json = Json(String::new());
        json.value(self, 0);
        json.0.push('\n');
        json.0
    }

    /// The text of a JSON file that says one more thing: a mapping, whose values are made as they are written, so that
    /// there is never more than one of them. Keys are in order, those of the mapping as they come.
    ///
    /// # Errors
    /// That of the first value which cannot be made.
    pub fn json_with<'k>(
        &self,
        key: &str,
        values: impl IntoIterator<Item = Result<(&'k str, Self), Error>>,
    ) -> Result<String, Error> {
        let entries = if let Self::Map(entries) = self { &entries[..] } else { &[] };
        let (before, after) = entries.split_at(entries.partition_point(|(name, _)| **name < *key));
        let mut json = Json(String::new());
        for (at, (name, value)) in before.iter().enumerate() {
            json.entry(at, name, value, 0);
        }
        json.key(before.len(), key, 0);
        let mut count = 0;
        for value in values {
            let (name, value) = value?;
            json.entry(count, name, &value, 1);
            count += 1;
        }
        json.end(count, 1);
        for (at, (name, value)) in after.iter().enumerate() {
            json.entry(before.len() + 1 + at, name, value, 0);
        }
        json.end(entries.len() + 1, 0);
        json.0.push('\n');
        Ok(json.0)
    }

    /// Puts the keys of all mappings in order.
    pub fn sort(&mut self) {
        match self {
            Self::List(items) => items.iter_mut().for_each(Self::sort),
            Self::Map(entries) => {
                entries.iter_mut().for_each(|(_, value)| value.sort());
                if !entries.is_sorted_by(|(a, _), (b, _)| a <= b) {
                    entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
                }
            }
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Text(_) => {}
        }
    }

    /// The keys of a mapping with their values.
    pub fn entries(&self) -> Option<impl Iterator<Item = (&str, &Self)>> {
        match self {
            Self::Map(entries) => Some(entries.iter().map(|(key, value)| (&**key, value))),
            _ => None,
        }
    }

    /// The value of a key.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        let Self::Map(entries) = self else { return None };
        entries.iter_mut().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The values of a mapping, or of a list.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Self> {
        let (list, map) = match self {
            Self::List(items) => (Some(items), None),
            Self::Map(entries) => (None, Some(entries)),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Text(_) => (None, None),
        };
        list.into_iter().flatten().chain(map.into_iter().flatten().map(|(_, value)| value))
    }

    /// Puts a value under a key of a mapping that is not there yet.
    pub fn default(&mut self, key: &'static str, value: Self) {
        if let Self::Map(entries) = self
            && entries.iter().all(|(name, _)| name != key)
        {
            entries.push((key.into(), value));
        }
    }

    /// Takes a key out of a mapping.
    pub fn remove(&mut self, key: &str) {
        if let Self::Map(entries) = self {
            entries.retain(|(name, _)| name != key);
        }
    }
}

/// Lines with two blanks a level, as `serde_json` writes them at half the speed.
struct Json(String);

impl Json {
    fn line(&mut self, level: usize) {
        const BLANKS: &str = "\n                                                                ";
        match BLANKS.get(..1 + 2 * level) {
            Some(line) => self.0.push_str(line),
            None => {
                self.0.push('\n');
                (0..level).for_each(|_| self.0.push_str("  "));
            }
        }
    }

    fn text(&mut self, text: &str) {
        self.0.push('"');
        let mut rest = text;
        while let Some(at) = rest.bytes().position(|byte| matches!(byte, 0..=0x1f | b'"' | b'\\')) {
            self.0.push_str(&rest[..at]);
            match rest.as_bytes()[at] {
                b'"' => self.0.push_str("\\\""),
                b'\\' => self.0.push_str("\\\\"),
                b'\n' => self.0.push_str("\\n"),
                b'\r' => self.0.push_str("\\r"),
                b'\t' => self.0.push_str("\\t"),
                8 => self.0.push_str("\\b"),
                12 => self.0.push_str("\\f"),
                control => self.0.push_str(&format!("\\u{control:04x}")),
            }
            rest = &rest[at + 1..];
        }
        self.0.push_str(rest);
        self.0.push('"');
    }

    fn value(&mut self, document: &Document, level: usize) {
        match document {
            Document::Null => self.0.push_str("null"),
            Document::Bool(true) => self.0.push_str("true"),
            Document::Bool(false) => self.0.push_str("false"),
            Document::Number(number) => self.0.push_str(&number.to_string()),
            Document::Text(text) => self.text(text),
            Document::List(items) if items.is_empty() => self.0.push_str("[]"),
            Document::List(items) => {
                for (at, item) in items.iter().enumerate() {
                    self.0.push(if at == 0 { '[' } else { ',' });
                    self.line(level + 1);
                    self.value(item, level + 1);
                }
                self.line(level);
                self.0.push(']');
            }
            Document::Map(entries) => {
                for (at, (key, value)) in entries.iter().enumerate() {
                    self.entry(at, key, value, level);
                }
                self.end(entries.len(), level);
            }
        }
    }

    /// An entry of a mapping, of which there have been that many.
    fn entry(&mut self, before: usize, key: &str, value: &Document, level: usize) {
        self.key(before, key, level);
        self.value(value, level + 1);
    }

    fn key(&mut self, before: usize, key: &str, level: usize) {
        self.0.push(if before == 0 { '{' } else { ',' });
        self.line(level + 1);
        self.text(key);
        self.0.push_str(": ");
    }

    /// The end of a mapping of that many entries.
    fn end(&mut self, entries: usize, level: usize) {
        if entries == 0 {
            return self.0.push_str("{}");
        }
        self.line(level);
        self.0.push('}');
    }
}

impl Serialize for Document {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(number) => number.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) => serializer.collect_seq(items),
            Self::Map(entries) => serializer.collect_map(entries.iter().map(|(key, value)| (key, value))),
        }
    }
}

struct Builder;

fn number(number: Option<serde_json::Number>) -> Result<Document, Error> {
    number.map(Document::Number).ok_or_else(|| Error::custom("a number has more than 64 bits"))
}

impl Serializer for Builder {
    type Ok = Document;
    type Error = Error;
    type SerializeSeq = List;
    type SerializeTuple = List;
    type SerializeTupleStruct = List;
    type SerializeTupleVariant = Impossible<Document, Error>;
    type SerializeMap = Map;
    type SerializeStruct = Map;
    type SerializeStructVariant = Impossible<Document, Error>;

    fn serialize_bool(self, value: bool) -> Result<Document, Error> {
        Ok(Document::Bool(value))
    }
    fn serialize_i8(self, value: i8) -> Result<Document, Error> {
        self.serialize_i64(value.into())
    }
    fn serialize_i16(self, value: i16) -> Result<Document, Error> {
        self.serialize_i64(value.into())
    }
    fn serialize_i32(self, value: i32) -> Result<Document, Error> {
        self.serialize_i64(value.into())
    }
    fn serialize_i64(self, value: i64) -> Result<Document, Error> {
        Ok(Document::Number(value.into()))
    }
    fn serialize_i128(self, value: i128) -> Result<Document, Error> {
        number(serde_json::Number::from_i128(value))
    }
    fn serialize_u8(self, value: u8) -> Result<Document, Error> {
        self.serialize_u64(value.into())
    }
    fn serialize_u16(self, value: u16) -> Result<Document, Error> {
        self.serialize_u64(value.into())
    }
    fn serialize_u32(self, value: u32) -> Result<Document, Error> {
        self.serialize_u64(value.into())
    }
    fn serialize_u64(self, value: u64) -> Result<Document, Error> {
        Ok(Document::Number(value.into()))
    }
    fn serialize_u128(self, value: u128) -> Result<Document, Error> {
        number(serde_json::Number::from_u128(value))
    }
    fn serialize_f32(self, value: f32) -> Result<Document, Error> {
        self.serialize_f64(value.into())
    }
    fn serialize_f64(self, value: f64) -> Result<Document, Error> {
        Ok(serde_json::Number::from_f64(value).map_or(Document::Null, Document::Number))
    }
    fn serialize_char(self, value: char) -> Result<Document, Error> {
        Ok(Document::Text(value.to_string()))
    }
    fn serialize_str(self, text: &str) -> Result<Document, Error> {
        Ok(Document::Text(text.to_owned()))
    }
    fn serialize_bytes(self, bytes: &[u8]) -> Result<Document, Error> {
        Ok(Document::List(bytes.iter().map(|byte| Document::Number((*byte).into())).collect()))
    }
    fn serialize_none(self) -> Result<Document, Error> {
        Ok(Document::Null)
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Document, Error> {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<Document, Error> {
        Ok(Document::Null)
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<Document, Error> {
        Ok(Document::Null)
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<Document, Error> {
        self.serialize_str(variant)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<Document, Error> {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Document, Error> {
        Ok(Document::Map(vec![(variant.into(), value.serialize(Self)?)]))
    }
    fn serialize_seq(self, length: Option<usize>) -> Result<List, Error> {
        Ok(List(Vec::with_capacity(length.unwrap_or_default())))
    }
    fn serialize_tuple(self, length: usize) -> Result<List, Error> {
        self.serialize_seq(Some(length))
    }
    fn serialize_tuple_struct(self, _: &'static str, length: usize) -> Result<List, Error> {
        self.serialize_seq(Some(length))
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Error> {
        Err(Error::custom(format!("`{variant}` has no form")))
    }
    fn serialize_map(self, length: Option<usize>) -> Result<Map, Error> {
        Ok(Map { entries: Vec::with_capacity(length.unwrap_or_default()), key: Cow::Borrowed("") })
    }
    fn serialize_struct(self, _: &'static str, length: usize) -> Result<Map, Error> {
        self.serialize_map(Some(length))
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Error> {
        Err(Error::custom(format!("`{variant}` has no form")))
    }
    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<Document, Error> {
        Ok(Document::Text(value.to_string()))
    }
}

struct List(Vec<Document>);

impl SerializeSeq for List {
    type Ok = Document;
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.0.push(value.serialize(Builder)?);
        Ok(())
    }
    fn end(self) -> Result<Document, Error> {
        Ok(Document::List(self.0))
    }
}

impl SerializeTuple for List {
    type Ok = Document;
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        SerializeSeq::serialize_element(self, value)
    }
    fn end(self) -> Result<Document, Error> {
        SerializeSeq::end(self)
    }
}

impl SerializeTupleStruct for List {
    type Ok = Document;
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        SerializeSeq::serialize_element(self, value)
    }
    fn end(self) -> Result<Document, Error> {
        SerializeSeq::end(self)
    }
}

struct Map {
    entries: Vec<(Cow<'static, str>, Document)>,
    key: Cow<'static, str>,
}

impl SerializeMap for Map {
    type Ok = Document;
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.key = match key.serialize(Builder)? {
            Document::Text(key) => key.into(),
            _ => return Err(Error::custom("a key is not a string")),
        };
        Ok(())
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        let key = std::mem::take(&mut self.key);
        self.entries.push((key, value.serialize(Builder)?));
        Ok(())
    }
    fn end(self) -> Result<Document, Error> {
        Ok(Document::Map(self.entries))
    }
}

impl SerializeStruct for Map {
    type Ok = Document;
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Error> {
        self.entries.push((Cow::Borrowed(key), value.serialize(Builder)?));
        Ok(())
    }
    fn end(self) -> Result<Document, Error> {
        SerializeMap::end(self)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn json_is_what_serde_json_writes() {
        let odd: String = (0..0x100).filter_map(char::from_u32).collect();
        let value = serde_json::json!({
            "": [], "a": {}, "b": [1, -1.5, true, null, "x\"y"], "c": {"d": {"e": [[[[{"f": odd}]]]]}}, "$": "$A\u{2028}",
        });
        let document = Document::of(&value).expect("a document");
        assert_eq!(document.json().trim_end(), serde_json::to_string_pretty(&value).expect("JSON"));
        assert_eq!(serde_json::to_value(&document).expect("a value"), value);
    }

    #[test]
    fn keys_keep_their_order_until_they_are_sorted() {
        #[derive(Serialize)]
        struct Both {
            z: Option<i128>,
            #[serde(flatten)]
            more: BTreeMap<String, f64>,
        }
        let both = Both { z: Some(1), more: [("b".to_owned(), 1.5), ("a".to_owned(), f64::NAN)].into() };
        let mut document = Document::of(&both).expect("a document");
        assert_eq!(document.json(), "{\n  \"z\": 1,\n  \"a\": null,\n  \"b\": 1.5\n}\n");
        document.sort();
        assert_eq!(document.json(), "{\n  \"a\": null,\n  \"b\": 1.5,\n  \"z\": 1\n}\n");
        assert!(Document::of(&Both { z: Some(i128::MAX), more: BTreeMap::new() }).is_err());
    }

    #[test]
    fn a_mapping_that_is_made_as_it_is_written_is_as_if_it_had_been_there() {
        for rest in [serde_json::json!({}), serde_json::json!({"a": 1, "b": {}, "n": [], "z": {"y": 1}})] {
            for mapping in [serde_json::json!({}), serde_json::json!({"k": {"l": [1, 2]}, "m": {}})] {
                let document = |value: &serde_json::Value| Document::of(value).expect("a document");
                let entries = mapping.as_object().into_iter().flatten();
                let values = entries.map(|(name, value)| Ok((&**name, document(value))));
                let written = document(&rest).json_with("key", values).expect("text");
                let mut whole = rest.clone();
                whole["key"] = mapping.clone();
                assert_eq!(written.trim_end(), serde_json::to_string_pretty(&whole).expect("JSON"));
            }
        }
        let failed = Document::Map(Vec::new()).json_with("key", [Err(Error::custom("no"))]);
        assert!(failed.is_err());
    }
}
