//! What every type of the format can do, and what the code knows of each key.

use serde_json::Value as Json;

use super::{Merger, Reader, Schemas, Visitor};
use crate::yaml::tree::Node;

/// A type that a value of a Compose file may have.
///
/// Everything but [`read`](Self::read) and [`schema`](Self::schema) works on the tree, so that each value keeps its place
/// and its way until the end.
pub(crate) trait Format: Sized {
    /// The long form of what may be written in a short one. What it cannot make sense of it leaves alone, for `read` to
    /// report; a short form with a mistake inside it reports, and leaves something broken.
    fn canonical(node: Node, _: &mut Reader<'_>) -> Node {
        node
    }

    /// `later` over `earlier`, both canonical and neither null.
    fn merge(earlier: Node, later: Node, _: &mut Merger<'_>) -> Node {
        later.instead_of(&earlier)
    }

    /// Settles what depends on the file alone, once it is merged: relative paths of the host become absolute, and what is
    /// left out and has a default is put in.
    fn settle(_: &mut Node, _: &Folder<'_>) {}

    /// What makes a canonical value the same as another in a set, the later one replacing the earlier.
    fn identity(node: &Node) -> Option<String> {
        super::tree_text::fingerprint(node)
    }

    /// Reads a canonical value; what is wrong with it is reported, and nothing comes back.
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self>;

    /// True for what Compose does not print: an empty text, an empty list, zero, `false`.
    fn omitted(&self) -> bool {
        false
    }

    /// The JSON Schema of all that may be written, short forms included.
    fn schema(schemas: &mut Schemas) -> Json;

    /// The keys of a mapping, of the items of a list, or of the values of a map.
    fn keys() -> Keys {
        Keys::default()
    }

    /// Visits each key of a canonical value, in order.
    fn visit(_: &Node, _: &mut Visitor<'_>) {}
}

/// What relative paths start from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Folder<'a> {
    pub(crate) directory: &'a std::path::Path,
    /// The home folder, for `~`.
    pub(crate) home: Option<&'a str>,
    /// Relative paths become absolute.
    pub(crate) paths: bool,
    /// Variables stand as they are written.
    pub(crate) as_written: bool,
}

/// A key of a mapping.
pub(crate) struct Field {
    pub(crate) name: &'static str,
    /// What it says, from its doc comment.
    pub(crate) doc: &'static [&'static str],
    pub(crate) support: Support,
    pub(crate) canonical: fn(Node, &mut Reader<'_>) -> Node,
    pub(crate) merge: fn(Node, Node, &mut Merger<'_>) -> Node,
    pub(crate) settle: fn(&mut Node, &Folder<'_>),
    pub(crate) schema: fn(&mut Schemas) -> Json,
    pub(crate) keys: fn() -> Keys,
    pub(crate) visit: fn(&Node, &mut Visitor<'_>),
}

/// Keys that may stand in a value.
#[derive(Default)]
pub(crate) struct Keys {
    /// The way to them from the value: `.*` by a name, `[]` by an item of a list.
    pub(crate) below: String,
    pub(crate) groups: Vec<Group>,
}

/// Keys that belong together.
pub(crate) struct Group {
    /// What they are about.
    pub(crate) doc: &'static [&'static str],
    pub(crate) fields: Vec<&'static Field>,
}

impl Keys {
    /// The same keys, one step further away.
    pub(crate) fn below(mut self, step: &str) -> Self {
        self.below.insert_str(0, step);
        self
    }
}

/// What `up` makes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Support {
    /// It does what the specification says.
    Works,
    /// It has done its work once the file is loaded.
    Loaded,
    /// It tells people and tools something, and nothing that runs is any different for it.
    Metadata,
    /// Leaving it out loses nothing that is worth an error; a warning says so, and why.
    NoEffect(&'static str),
    /// Refused; a hint may say what to do instead.
    Refused(&'static str),
}

impl Field {
    pub(crate) const fn of<T: Format>(name: &'static str, doc: &'static [&'static str], support: Support) -> Self {
        Self {
            name,
            doc,
            support,
            canonical: T::canonical,
            merge: T::merge,
            settle: T::settle,
            schema: T::schema,
            keys: T::keys,
            visit: T::visit,
        }
    }
}

/// For serde: nothing is there, or nothing that is printed.
pub(crate) fn omitted<T: Format>(value: &Option<T>) -> bool {
    value.as_ref().is_none_or(T::omitted)
}
