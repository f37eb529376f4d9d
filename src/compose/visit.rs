//! A walk over the keys of a tree, each with what the format knows of it.

use std::{fmt, sync::Arc};

use super::{Field, Support};
use crate::yaml::tree::{Entry, Node};

/// A key that is in a file.
pub(crate) struct Visited<'a> {
    pub(crate) field: &'static Field,
    pub(crate) entry: &'a Entry,
    /// The way to it, itself included.
    pub(crate) path: &'a Path,
}

/// The way from the root to a key.
#[derive(Default)]
pub(crate) struct Path(Vec<Step>);

enum Step {
    /// A key of the format.
    Key(&'static str),
    /// A key of the author's choice.
    Name(Arc<str>),
    /// Some item of a list.
    Item,
}

/// Who walks.
pub(crate) struct Visitor<'v> {
    path: Path,
    does: &'v mut dyn FnMut(&Visited<'_>),
}

impl<'v> Visitor<'v> {
    pub(crate) fn new(does: &'v mut dyn FnMut(&Visited<'_>)) -> Self {
        Self { path: Path::default(), does }
    }

    /// A key of a mapping, and, if it is one that works, what is below it: anything else goes as a whole.
    pub(crate) fn key(&mut self, field: &'static Field, entry: &Entry) {
        self.path.0.push(Step::Key(field.name));
        (self.does)(&Visited { field, entry, path: &self.path });
        if field.support == Support::Works {
            (field.visit)(&entry.value, self);
        }
        self.path.0.pop();
    }

    /// What stands under a name.
    pub(crate) fn name(&mut self, entry: &Entry, visit: fn(&Node, &mut Self)) {
        self.path.0.push(Step::Name(entry.key.clone()));
        visit(&entry.value, self);
        self.path.0.pop();
    }

    /// What stands in a list.
    pub(crate) fn items(&mut self, nodes: &[Node], visit: fn(&Node, &mut Self)) {
        self.path.0.push(Step::Item);
        nodes.iter().for_each(|node| visit(node, self));
        self.path.0.pop();
    }
}

impl Path {
    /// The path as the reference writes it, such as `services.*.ports[].mode`.
    pub(crate) fn pattern(&self) -> String {
        let mut pattern = String::new();
        for step in &self.0 {
            let key = match step {
                Step::Key(name) => name,
                Step::Name(_) => "*",
                Step::Item => {
                    pattern.push_str("[]");
                    continue;
                }
            };
            if !pattern.is_empty() {
                pattern.push('.');
            }
            pattern.push_str(key);
        }
        pattern
    }
}

/// What people call the key: its way from the service, the item of a list or whatever it belongs to.
impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = match &self.0[..] {
            [Step::Key(_), Step::Name(_), own @ ..] if !own.is_empty() => own,
            all => all,
        };
        let own = own.rsplit(|step| matches!(step, Step::Item)).next().unwrap_or_default();
        for (index, step) in own.iter().enumerate() {
            let dot = if index > 0 { "." } else { "" };
            match step {
                Step::Key(name) => write!(f, "{dot}{name}")?,
                Step::Name(name) => write!(f, "{dot}{name}")?,
                Step::Item => {}
            }
        }
        Ok(())
    }
}
