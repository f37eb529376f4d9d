//! Mappings with known keys: one declaration says the keys, their types, what they mean and what is done about them.
//!
//! ```text
//! mapping! {                              ┌─▶ a struct, each field optional, that serializes as the canonical form
//!     /// What it is.                     ├─▶ reading, with all mistakes and a did-you-mean
//!     pub struct Thing {                  ├─▶ long forms, merging, paths, key by key
//!         /// What the key says.   ───────┼─▶ JSON Schema with descriptions
//!         works key: Type,                ├─▶ what `up` refuses
//!     }                                   └─▶ the reference of keys
//! }
//! ```

use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::{Field, Folder, Group, Merger, Reader, Schemas, Visitor};
use crate::{
    diagnostics::Diagnostic,
    yaml::tree::{Entry, Node, ScalarKind, Value},
};

/// A mapping with known keys.
pub(crate) trait Mapping: Default {
    /// Name of its schema.
    const NAME: &'static str;
    /// What it is, from its doc comment.
    const DOC: &'static [&'static str];
    /// Keys that must be there.
    const REQUIRED: &'static [&'static str] = &[];
    /// Keys that begin with `x-` may be there.
    const EXTENSIBLE: bool = true;
    /// Nothing at all is an empty one.
    const NULLABLE: bool = false;
    /// What it takes, for messages.
    const EXPECTED: &'static str = "a mapping";
    /// The key that a text is probably meant for that stands in its place.
    const MAIN: Option<&'static str> = None;

    /// The key of that name.
    fn field(name: &str) -> Option<&'static Field>;
    /// All keys, in order.
    fn fields() -> Vec<&'static Field>;
    /// All keys, in order, with what they are about.
    fn groups() -> Vec<Group>;
    /// Reads the value of a key; false if there is no such key.
    fn set(&mut self, name: &str, node: &Node, cx: &mut Reader<'_>) -> bool;
    /// Takes a key that begins with `x-`.
    fn extend(&mut self, name: &str, node: &Node);

    /// The mapping that a short form stands for.
    fn long(node: Node, _: &mut Reader<'_>) -> Node {
        node
    }
    /// JSON Schemas of the short forms.
    fn short_schemas() -> Vec<Json> {
        Vec::new()
    }
    /// What makes one the same as another in a set.
    fn identity(node: &Node) -> Option<String> {
        super::tree_text::fingerprint(node)
    }
    /// What there is to settle that depends on more than one key; the keys come after it.
    fn settle_whole(_: &mut Node, _: &Folder<'_>) {}
    /// Merges as a whole, where going key by key is not right.
    fn merge_whole(earlier: Node, later: Node, merger: &mut Merger<'_>) -> Node {
        merge::<Self>(earlier, later, merger)
    }
    /// What no single key can know.
    fn check(&self, _: &Node, _: &mut Reader<'_>) {}
}

pub(crate) fn canonical<T: Mapping>(node: Node, cx: &mut Reader<'_>) -> Node {
    // A short form may be cut at the wrong place where a variable stands.
    let mut node = if node.scalar().is_some() && cx.undecided(&node) { node } else { T::long(node, cx) };
    if let Value::Mapping(entries) = &mut node.value {
        for entry in entries {
            if let Some(field) = T::field(&entry.key) {
                let value = std::mem::replace(&mut entry.value, Node::new(entry.key_span.clone(), Value::Broken));
                entry.value = cx.at(&entry.key, |cx| (field.canonical)(value, cx));
            }
        }
    }
    node
}

pub(crate) fn merge<T: Mapping>(earlier: Node, later: Node, merger: &mut Merger<'_>) -> Node {
    merger.mappings(earlier, later, &|key| T::field(key).map(|field| field.merge))
}

pub(crate) fn settle<T: Mapping>(node: &mut Node, folder: &Folder<'_>) {
    T::settle_whole(node, folder);
    if let Value::Mapping(entries) = &mut node.value {
        for entry in entries {
            if let Some(field) = T::field(&entry.key) {
                (field.settle)(&mut entry.value, folder);
            }
        }
    }
}

pub(crate) fn read<T: Mapping>(node: &Node, cx: &mut Reader<'_>) -> Option<T> {
    let mut value = T::default();
    match &node.value {
        Value::Mapping(entries) => {
            // The nearest key above that is known. Looking for it anew each time would take too long in a file of mistakes.
            let mut above = None;
            for entry in entries {
                if cx.at(&entry.key, |cx| value.set(&entry.key, &entry.value, cx)) {
                    above = Some(entry);
                    continue;
                }
                if T::EXTENSIBLE && entry.key.starts_with("x-") {
                    if cx.extension() {
                        value.extend(&entry.key, &entry.value);
                    }
                } else {
                    unknown::<T>(entry, above, cx);
                }
            }
            for key in T::REQUIRED {
                if node.entry(key).is_none() {
                    let what = cx.what();
                    cx.report(Diagnostic::error(format!("{what} has no `{key}`, which it needs")), node);
                }
            }
            value.check(node, cx);
        }
        _ if T::NULLABLE && node.is_null() => return None,
        _ => {
            match meant_for::<T>(node, cx) {
                Some(hint) => cx.mistyped_with(T::EXPECTED, node, hint),
                None => cx.mistyped(T::EXPECTED, node),
            }
            return None;
        }
    }
    Some(value)
}

/// The mapping that a text was probably meant to be, if that would be right.
fn meant_for<T: Mapping>(node: &Node, cx: &Reader<'_>) -> Option<String> {
    let key = T::MAIN?;
    let text = &*node.scalar().filter(|scalar| scalar.kind == ScalarKind::String)?.text;
    if text.len() >= 40
        || text != node.span.text()
        || text.split_once(':').is_some_and(|(key, _)| T::field(key).is_some())
    {
        return None;
    }
    let mapping = made_of(node, vec![(key, Node::string(text, node.span.clone()))]);
    cx.accepts(|cx| read::<T>(&mapping, cx).is_some()).then(|| format!("write `{key}: {text}` below the name"))
}

fn unknown<T: Mapping>(entry: &Entry, above: Option<&Entry>, cx: &mut Reader<'_>) {
    let fields = T::fields();
    let meant = cx.suggest(&entry.key, fields.iter().map(|field| field.name));
    let what = cx.what();
    let place = Node { span: entry.key_span.clone(), ..entry.value.with_value(Value::Sequence(Vec::new())) };
    let diagnostic = Diagnostic::error(format!("{what} has no key `{}`", entry.key)).did_you_mean(meant);
    // What belongs to a key may have been indented like it.
    let diagnostic = match above.filter(|above| meant.is_none() && above.value.is_null() && !above.value.is_implied()) {
        Some(above) => diagnostic.hint(format!("if it belongs to `{}`, indent it further", above.key)),
        None => diagnostic,
    };
    cx.report(diagnostic, &place);
}

pub(crate) fn visit<T: Mapping>(node: &Node, visitor: &mut Visitor<'_>) {
    for entry in node.entries().unwrap_or_default() {
        if let Some(field) = T::field(&entry.key) {
            visitor.key(field, entry);
        }
    }
}

pub(crate) fn schema<T: Mapping>(schemas: &mut Schemas) -> Json {
    schemas.define(T::NAME, |schemas| {
        let mut properties = serde_json::Map::new();
        for field in T::fields() {
            properties.insert(field.name.to_owned(), described((field.schema)(schemas), field.doc));
        }
        let mut mapping = json!({
            "type": "object",
            "properties": properties,
            "additionalProperties": false,
        });
        if T::EXTENSIBLE {
            mapping["patternProperties"] = json!({"^x-": {}});
        }
        if !T::REQUIRED.is_empty() {
            mapping["required"] = json!(T::REQUIRED);
        }
        let mut forms = T::short_schemas();
        if T::NULLABLE {
            forms.push(json!({"type": "null"}));
        }
        if !forms.is_empty() {
            forms.push(mapping);
            mapping = json!({"anyOf": forms});
        }
        described(mapping, T::DOC)
    })
}

/// The schema with a description, wrapped if it is a reference: what stands beside `$ref` counts for nothing in draft 7.
fn described(schema: Json, doc: &[&str]) -> Json {
    let text = doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
    let mut schema = if schema.get("$ref").is_some() { json!({"allOf": [schema]}) } else { schema };
    if let Some(object) = schema.as_object_mut() {
        object.insert("description".to_owned(), text.trim().into());
    }
    schema
}

/// A node that is a mapping of these entries, at the place of `node`.
pub(crate) fn made_of(node: &Node, entries: Vec<(&str, Node)>) -> Node {
    let entries = entries
        .into_iter()
        .map(|(key, value)| Entry { key: Arc::from(key), key_span: node.span.clone(), value })
        .collect();
    node.with_value(Value::Mapping(entries))
}

/// Declares a mapping: see the module.
macro_rules! mapping {
    (
        $(#[doc = $doc:literal])*
        pub struct $name:ident {
            $(
                $(#[doc = $field_doc:literal])*
                $support:ident $(($hint:literal))? $field:ident $(as $key:literal)?: $type:ty,
            )*
            $( ..$group:ident: $group_type:ty, )*
        }
        $(rules { $($rules:tt)* })?
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
        pub struct $name {
            $(
                $(#[doc = $field_doc])*
                #[serde(skip_serializing_if = "crate::compose::omitted")]
                pub $field: Option<$type>,
            )*
            $(
                #[doc = concat!("See [`", stringify!($group_type), "`].")]
                #[serde(flatten)]
                pub $group: $group_type,
            )*
            /// Keys that begin with `x-`, which are the author's own.
            #[serde(flatten)]
            pub extensions: $crate::compose::Extensions,
        }

        impl $crate::compose::Mapping for $name {
            const NAME: &'static str = stringify!($name);
            const DOC: &'static [&'static str] = &[$($doc),*];

            fn field(name: &str) -> Option<&'static $crate::compose::Field> {
                match name {
                    $(
                        $crate::compose::mapping::key!($field $($key)?) => Some(const {
                            &$crate::compose::Field::of::<$type>(
                                $crate::compose::mapping::key!($field $($key)?),
                                &[$($field_doc),*],
                                $crate::compose::mapping::support!($support $($hint)?),
                            )
                        }),
                    )*
                    _ => {
                        $(
                            if let Some(field) = <$group_type as $crate::compose::Mapping>::field(name) {
                                return Some(field);
                            }
                        )*
                        None
                    }
                }
            }

            fn fields() -> Vec<&'static $crate::compose::Field> {
                let names: &[&str] = &[$($crate::compose::mapping::key!($field $($key)?)),*];
                #[allow(unused_mut, reason = "only a mapping with groups adds to it")]
                let mut fields: Vec<_> = names.iter().filter_map(|name| Self::field(name)).collect();
                $( fields.extend(<$group_type as $crate::compose::Mapping>::fields()); )*
                fields
            }

            fn groups() -> Vec<$crate::compose::Group> {
                let names: &[&str] = &[$($crate::compose::mapping::key!($field $($key)?)),*];
                let fields: Vec<_> = names.iter().filter_map(|name| Self::field(name)).collect();
                #[allow(unused_mut, reason = "only a mapping with groups adds to it")]
                let mut groups = vec![$crate::compose::Group { doc: Self::DOC, fields }];
                $( groups.extend(<$group_type as $crate::compose::Mapping>::groups()); )*
                groups.retain(|group| !group.fields.is_empty());
                groups
            }

            fn set(
                &mut self,
                name: &str,
                node: &$crate::yaml::tree::Node,
                cx: &mut $crate::compose::Reader<'_>,
            ) -> bool {
                match name {
                    $(
                        $crate::compose::mapping::key!($field $($key)?) => {
                            self.$field = <$type as $crate::compose::Format>::read(node, cx);
                            true
                        }
                    )*
                    _ => {
                        $(
                            if <$group_type as $crate::compose::Mapping>::set(&mut self.$group, name, node, cx) {
                                return true;
                            }
                        )*
                        let _ = (node, cx);
                        false
                    }
                }
            }

            fn extend(&mut self, name: &str, node: &$crate::yaml::tree::Node) {
                self.extensions.insert(name.to_owned(), $crate::compose::Untyped::of(node));
            }

            $($($rules)*)?
        }

        impl $crate::compose::Format for $name {
            fn canonical(
                node: $crate::yaml::tree::Node,
                cx: &mut $crate::compose::Reader<'_>,
            ) -> $crate::yaml::tree::Node {
                $crate::compose::mapping::canonical::<Self>(node, cx)
            }
            fn merge(
                earlier: $crate::yaml::tree::Node,
                later: $crate::yaml::tree::Node,
                merger: &mut $crate::compose::Merger<'_>,
            ) -> $crate::yaml::tree::Node {
                <Self as $crate::compose::Mapping>::merge_whole(earlier, later, merger)
            }
            fn settle(node: &mut $crate::yaml::tree::Node, folder: &$crate::compose::Folder<'_>) {
                $crate::compose::mapping::settle::<Self>(node, folder);
            }
            fn identity(node: &$crate::yaml::tree::Node) -> Option<String> {
                <Self as $crate::compose::Mapping>::identity(node)
            }
            fn read(
                node: &$crate::yaml::tree::Node,
                cx: &mut $crate::compose::Reader<'_>,
            ) -> Option<Self> {
                $crate::compose::mapping::read::<Self>(node, cx)
            }
            fn schema(schemas: &mut $crate::compose::Schemas) -> serde_json::Value {
                $crate::compose::mapping::schema::<Self>(schemas)
            }
            fn keys() -> $crate::compose::Keys {
                $crate::compose::Keys {
                    below: String::new(),
                    groups: <Self as $crate::compose::Mapping>::groups(),
                }
            }
            fn visit(node: &$crate::yaml::tree::Node, visitor: &mut $crate::compose::Visitor<'_>) {
                $crate::compose::mapping::visit::<Self>(node, visitor);
            }
        }
    };
}

/// The key of a field: its name, unless it says another.
macro_rules! key {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $key:literal) => {
        $key
    };
}

macro_rules! support {
    (works) => {
        $crate::compose::Support::Works
    };
    (loaded) => {
        $crate::compose::Support::Loaded
    };
    (metadata) => {
        $crate::compose::Support::Metadata
    };
    (no_effect $why:literal) => {
        $crate::compose::Support::NoEffect($why)
    };
    (refused) => {
        $crate::compose::Support::Refused("")
    };
    (refused $hint:literal) => {
        $crate::compose::Support::Refused($hint)
    };
}

pub(crate) use {key, mapping, support};
