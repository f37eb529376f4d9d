//! What phases 2 to 4 work on: a YAML tree that knows where each key and value stands.

use std::{collections::HashSet, sync::Arc};

use crate::diagnostics::{Diagnostic, Span};

/// A value, where it was written, and how it came from there to where it is now.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// Where it was written: for a value reached through an alias, where its anchor stands. The alias is a step on its way.
    pub(crate) span: Span,
    pub(crate) value: Value,
    /// The last of the steps on its way; none for most.
    pub(crate) via: Option<Arc<Via>>,
    /// What the author says about merging it.
    pub(crate) directive: Option<Directive>,
}

/// A step on the way of a value, newest first.
#[derive(Debug)]
pub(crate) struct Via {
    pub(crate) step: Step,
    pub(crate) before: Option<Arc<Via>>,
    /// How many steps there are, this one included.
    steps: usize,
}

impl Via {
    /// A step after others. A hostile file makes thousands: those that come after so many are not noted, as nobody reads
    /// them, and memory and the stack they are taken apart on have an end.
    pub(crate) fn new(step: Step, before: Option<Arc<Self>>) -> Arc<Self> {
        const MOST: usize = 100;
        match before {
            Some(before) if before.steps >= MOST => before,
            before => {
                let steps = before.as_ref().map_or(0, |before| before.steps) + 1;
                Arc::new(Self { step, before, steps })
            }
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// `*name`, standing here.
    Alias(Span),
    /// `<<`, standing here.
    MergeKey(Span),
    /// The variable, whose value was set there.
    Variable(String, Origin),
    /// `extends:` of the service, standing here.
    Extends(Span),
    /// `include:`, standing here.
    Include(Span),
    /// It stands for what an earlier file, or the service that is extended, said here.
    Replaced(Span),
    /// It is not written, but follows from what stands at its place.
    Implied,
    /// It is written in no file: this says where it is from.
    Outside(&'static str),
}

/// Where the value of a variable was set.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// The environment of the caller.
    Environment,
    /// A file of variables, at this place.
    File(Span),
    /// nscompose itself, as it does for `COMPOSE_PROJECT_NAME`.
    Built,
}

/// The tags of Compose's own (Compose Specification, "Merge", "Reset value" and "Replace value").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Directive {
    /// `!reset`: the key is taken out of what earlier files say.
    Reset,
    /// `!override`: the value stands for what earlier files say, instead of being merged with it.
    Override,
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    Scalar(Scalar),
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
    /// Something was wrong with it and has been reported: whoever wants it makes do without, and says nothing.
    Broken,
}

/// A key with its value. Keys of one mapping differ; they stand in the order in which they were written.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: Arc<str>,
    pub(crate) key_span: Span,
    pub(crate) value: Node,
}

/// A scalar as it was written, and what the core schema makes of it.
#[derive(Debug, Clone)]
pub(crate) struct Scalar {
    pub(crate) text: Arc<str>,
    pub(crate) kind: ScalarKind,
    /// A variable was filled in: the text may be read as whatever type is wanted, as Compose does.
    pub(crate) interpolated: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScalarKind {
    Null,
    Bool,
    Int,
    Float,
    /// A date or a point in time. Compose takes it for no string, except where any value may stand.
    Timestamp,
    String,
}

impl Node {
    pub(crate) fn new(span: Span, value: Value) -> Self {
        Self { span, value, via: None, directive: None }
    }

    pub(crate) fn string(text: &str, span: Span) -> Self {
        let scalar = Scalar { text: text.into(), kind: ScalarKind::String, interpolated: false };
        Self::new(span, Value::Scalar(scalar))
    }

    pub(crate) fn null(span: Span) -> Self {
        Self::new(span, Value::Scalar(Scalar { text: "".into(), kind: ScalarKind::Null, interpolated: false }))
    }

    /// Takes out whatever stands below this node and is marked with `!reset`.
    pub(crate) fn drop_resets(&mut self) {
        let reset = |node: &Node| node.directive == Some(Directive::Reset);
        match &mut self.value {
            Value::Sequence(nodes) => {
                nodes.retain(|node| !reset(node));
                nodes.iter_mut().for_each(Node::drop_resets);
            }
            Value::Mapping(entries) => {
                entries.retain(|entry| !reset(&entry.value));
                entries.iter_mut().for_each(|entry| entry.value.drop_resets());
            }
            Value::Scalar(_) | Value::Broken => {}
        }
    }

    /// A node of another value in the place of this one, with its way.
    pub(crate) fn with_value(&self, value: Value) -> Self {
        Self { span: self.span.clone(), value, via: self.via.clone(), directive: self.directive }
    }

    /// Notes a step that this value, and all that is inside of it, has made.
    pub(crate) fn came(&mut self, step: &Step) {
        self.came_first(&Via::new(step.clone(), None));
    }

    /// `first` is shared by all that have made no step before.
    fn came_first(&mut self, first: &Arc<Via>) {
        self.via = Some(match self.via.take() {
            None => first.clone(),
            before => Via::new(first.step.clone(), before),
        });
        match &mut self.value {
            Value::Sequence(nodes) => nodes.iter_mut().for_each(|node| node.came_first(first)),
            Value::Mapping(entries) => entries.iter_mut().for_each(|entry| entry.value.came_first(first)),
            Value::Scalar(_) | Value::Broken => {}
        }
    }

    /// How many values there are in it, itself included.
    pub(crate) fn size(&self) -> usize {
        1 + match &self.value {
            Value::Sequence(nodes) => nodes.iter().map(Node::size).sum(),
            Value::Mapping(entries) => entries.iter().map(|entry| entry.value.size()).sum(),
            Value::Scalar(_) | Value::Broken => 0,
        }
    }

    /// It is not written, but follows from what is.
    pub(crate) fn is_implied(&self) -> bool {
        let mut via = self.via.as_deref();
        while let Some(step) = via {
            if matches!(step.step, Step::Implied) {
                return true;
            }
            via = step.before.as_deref();
        }
        false
    }

    /// This value, noting that it stands where `earlier` stood.
    pub(crate) fn instead_of(mut self, earlier: &Self) -> Self {
        self.came(&Step::Replaced(earlier.span.clone()));
        self
    }

    /// Says in a diagnostic where this value was written, and which aliases and merge keys of the file brought it to where
    /// it counts.
    pub(crate) fn locate(&self, diagnostic: Diagnostic) -> Diagnostic {
        let mut diagnostic = diagnostic.at(&self.span);
        let mut via = self.via.as_deref();
        while let Some(Via { step, before, .. }) = via {
            diagnostic = match step {
                Step::Alias(at) => diagnostic.label(at, "used here by the alias"),
                Step::MergeKey(at) => diagnostic.label(at, "merged in here"),
                Step::Variable(..)
                | Step::Extends(_)
                | Step::Include(_)
                | Step::Replaced(_)
                | Step::Implied
                | Step::Outside(_) => diagnostic,
            };
            via = before.as_deref();
        }
        diagnostic
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.kind == ScalarKind::Null)
    }

    pub(crate) fn is_empty_text(&self) -> bool {
        self.scalar().is_some_and(|scalar| scalar.text.is_empty())
    }

    /// The scalar, unless it is null.
    pub(crate) fn scalar(&self) -> Option<&Scalar> {
        match &self.value {
            Value::Scalar(scalar) if scalar.kind != ScalarKind::Null => Some(scalar),
            _ => None,
        }
    }

    pub(crate) fn entries(&self) -> Option<&[Entry]> {
        match &self.value {
            Value::Mapping(entries) => Some(entries),
            _ => None,
        }
    }

    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries()?.iter().find(|entry| &*entry.key == key)
    }

    pub(crate) fn entry_mut(&mut self, key: &str) -> Option<&mut Entry> {
        match &mut self.value {
            Value::Mapping(entries) => entries.iter_mut().find(|entry| &*entry.key == key),
            _ => None,
        }
    }

    /// A text that is written there, in its long form.
    pub(crate) fn written(&self, text: &str) -> Self {
        Self { via: self.via.clone(), ..Self::string(text, self.span.clone()) }
    }

    /// Puts a value under a key that is not there yet.
    pub(crate) fn put(&mut self, key: &str, value: Node) {
        if let Value::Mapping(entries) = &mut self.value
            && !entries.iter().any(|entry| &*entry.key == key)
        {
            entries.push(Entry { key: key.into(), key_span: value.span.clone(), value });
        }
    }

    /// Puts a value under a key that is not there yet, or says nothing: an empty text, which a variable may have made.
    pub(crate) fn put_unless_said(&mut self, key: &str, value: Node) {
        match self.entry_mut(key) {
            Some(entry) if entry.value.is_empty_text() => entry.value = value,
            Some(_) => {}
            None => self.put(key, value),
        }
    }

    /// Puts values under keys that are not there yet.
    pub(crate) fn put_all<K: Into<Arc<str>>>(&mut self, values: impl IntoIterator<Item = (K, Node)>) {
        let Value::Mapping(entries) = &mut self.value else { return };
        let mut known: HashSet<Arc<str>> = entries.iter().map(|entry| entry.key.clone()).collect();
        for (key, value) in values {
            let key = key.into();
            if known.insert(key.clone()) {
                entries.push(Entry { key, key_span: value.span.clone(), value });
            }
        }
    }

    /// Another value at the same place, which is not written there.
    pub(crate) fn beside(&self, value: Value) -> Self {
        let via = Some(Via::new(Step::Implied, self.via.clone()));
        Self { span: self.span.clone(), value, via, directive: None }
    }

    /// A text at the same place that is not written there.
    pub(crate) fn text(&self, text: &str) -> Self {
        self.beside(Value::Scalar(Scalar { text: text.into(), kind: ScalarKind::String, interpolated: false }))
    }

    /// `true` or `false` at the same place.
    pub(crate) fn flag(&self, flag: bool) -> Self {
        let text = if flag { "true" } else { "false" };
        self.beside(Value::Scalar(Scalar { text: text.into(), kind: ScalarKind::Bool, interpolated: false }))
    }

    /// Nothing at the same place.
    pub(crate) fn nothing(&self) -> Self {
        self.beside(Value::Scalar(Scalar { text: "".into(), kind: ScalarKind::Null, interpolated: false }))
    }

    /// What it is, with its article, for messages.
    pub(crate) fn describe(&self) -> &'static str {
        match &self.value {
            Value::Mapping(_) => "a mapping",
            Value::Sequence(_) => "a list",
            Value::Broken => "something broken",
            Value::Scalar(scalar) => match scalar.kind {
                ScalarKind::Null => "nothing",
                ScalarKind::Bool => "a boolean",
                ScalarKind::Int | ScalarKind::Float => "a number",
                ScalarKind::Timestamp => "a date",
                ScalarKind::String => "a string",
            },
        }
    }

    /// The place of a part of a scalar, where its text is the text of the file; else the place of the whole.
    pub(crate) fn part(&self, range: std::ops::Range<usize>) -> Span {
        let Value::Scalar(scalar) = &self.value else { return self.span.clone() };
        let written = self.span.text();
        for quote in [0, 1] {
            let inner = written.get(quote..written.len().saturating_sub(quote));
            if inner == Some(&*scalar.text) {
                return self.span.part(range.start.saturating_add(quote)..range.end.saturating_add(quote));
            }
        }
        self.span.clone()
    }
}
