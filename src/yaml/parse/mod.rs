//! Phase 2, second half: text to trees.
//!
//! saphyr-parser makes events of the text; they become nodes here, on a stack of our own, so that neither deep nesting nor
//! aliases can cost more than the bounds below. Aliases are expanded in place. `<<` is honoured (the merge key of YAML 1.1,
//! which Compose files use), a key that comes twice is not.
//!
//! ```text
//! text ── problem.rs, input.rs ──▶ events ── leaf.rs, tag.rs ──▶ nodes ── mapping.rs ──▶ a tree for each document
//!  ▲            │
//!  └─ mend.rs ──┘
//! ```

mod input;
mod intern;
mod leaf;
mod mapping;
mod mend;
mod place;
mod problem;
mod scan;
mod slip;
mod tag;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, collections::HashMap};

use saphyr_parser::{Event, Parser, Tag};

use super::tree::{Directive, Node, Step, Value, Via};
use crate::diagnostics::{Diagnostic, Diagnostics, SourceFile, Span};
use input::Text;
use intern::Interner;
use mapping::Mapping;
use place::Places;

/// Values nested deeper than this are refused.
pub(crate) const DEEPEST: usize = 128;
/// Nodes of a file with its aliases expanded.
pub(crate) const MOST_NODES: usize = 1_000_000;
/// Text of the scalars of a file with its aliases expanded.
pub(crate) const MOST_TEXT: usize = 64 * 1024 * 1024;

/// The trees of a file, one for each document; none if it holds nothing but comments. A document of nothing is null.
///
/// Compose takes the documents of a file for files of their own, with the difference that an anchor reaches into those
/// that follow.
///
/// # Errors
/// The mistake after which no further one can be found. Keys that are wrong are put into `diagnostics`: of two that are the
/// same, the first is kept.
pub(crate) fn parse(file: &SourceFile, diagnostics: &mut Diagnostics) -> Result<Vec<Node>, Diagnostic> {
    if let Some(diagnostic) = problem::unprintable(file) {
        return Err(diagnostic);
    }
    let mut found = Diagnostics::new();
    let parsed = match Builder::new(file, file.text(), Places::new(file.text()), &mut found).run() {
        Err(Failure::Syntax(first)) => match mend::mend(file.text()) {
            Some(mended) => {
                found = Diagnostics::new();
                Builder::new(file, &mended.text, Places::of_mended(&mended), &mut found).run()
            }
            None => Err(Failure::Syntax(first)),
        },
        parsed => parsed,
    };
    diagnostics.extend(found);
    parsed.map_err(|(Failure::Syntax(diagnostic) | Failure::Other(diagnostic))| diagnostic)
}

/// Why there is no tree.
enum Failure {
    /// The text is no YAML.
    Syntax(Diagnostic),
    Other(Diagnostic),
}

impl From<Diagnostic> for Failure {
    fn from(diagnostic: Diagnostic) -> Self {
        Self::Other(diagnostic)
    }
}

struct Builder<'a> {
    file: &'a SourceFile,
    parser: Parser<'a, Text<'a>>,
    places: Places<'a>,
    texts: Interner,
    diagnostics: &'a mut Diagnostics,
    stack: Vec<Frame>,
    documents: Vec<Node>,
    /// What an anchor stands for; none while it is being read.
    anchors: HashMap<usize, Option<Anchored>>,
    /// Values made for the tree so far, and for what anchors keep.
    nodes: usize,
    copied: usize,
    text: usize,
    /// Values with `!reset` so far.
    resets: usize,
    /// Open collections with `!override`, below which directives mean nothing.
    overriding: usize,
}

/// A node that an alias may repeat, with what repeating it costs.
struct Anchored {
    node: Node,
    nodes: usize,
    text: usize,
    height: usize,
}

/// A collection that is being read.
struct Frame {
    kind: FrameKind,
    anchor: usize,
    directive: Option<Directive>,
    start: usize,
    /// Counters when it began, so that its cost is known when it ends.
    nodes: usize,
    text: usize,
    resets: usize,
    /// Deepest level below it.
    height: usize,
}

enum FrameKind {
    Sequence(Vec<Node>),
    Mapping(Box<Mapping>),
}

/// A node that is complete.
struct Finished {
    node: Node,
    height: usize,
    /// It is `<<`, and not a text that looks so.
    merge: bool,
}

type Tagged<'a> = Option<Cow<'a, Tag>>;

impl<'a> Builder<'a> {
    fn new(file: &'a SourceFile, text: &'a str, places: Places<'a>, diagnostics: &'a mut Diagnostics) -> Self {
        Self {
            file,
            parser: Parser::new(Text::new(text)),
            places,
            texts: Interner::new(),
            diagnostics,
            stack: Vec::new(),
            documents: Vec::new(),
            anchors: HashMap::new(),
            nodes: 0,
            copied: 0,
            text: 0,
            resets: 0,
            overriding: 0,
        }
    }

    fn run(mut self) -> Result<Vec<Node>, Failure> {
        while let Some(event) = self.parser.next_event() {
            let (event, at) =
                event.map_err(|error| Failure::Syntax(problem::syntax(self.file, &self.places, &error)))?;
            let start = self.places.byte(at.start.index());
            let end = self.places.byte(at.end.index());
            let finished = match event {
                Event::Scalar(text, style, anchor, tag) => {
                    Some(self.scalar(text, style, anchor, tag, self.file.span(start..end))?)
                }
                Event::SequenceStart(anchor, tag) => {
                    self.open(FrameKind::Sequence(Vec::new()), anchor, tag, self.file.span(start..end))?;
                    None
                }
                Event::MappingStart(anchor, tag) => {
                    let mapping = FrameKind::Mapping(Box::default());
                    self.open(mapping, anchor, tag, self.file.span(start..end))?;
                    None
                }
                Event::SequenceEnd | Event::MappingEnd => self.close(end)?,
                Event::Alias(anchor) => Some(self.alias(anchor, self.file.span(start..end))?),
                Event::Nothing
                | Event::StreamStart
                | Event::StreamEnd
                | Event::DocumentStart(_)
                | Event::DocumentEnd => None,
            };
            if let Some(finished) = finished {
                self.place(finished)?;
            }
        }
        Ok(self.documents)
    }

    fn count(&mut self, nodes: usize, span: &Span) -> Result<(), Diagnostic> {
        self.nodes += nodes;
        if self.nodes + self.copied > MOST_NODES || self.text > MOST_TEXT {
            return Err(Diagnostic::error("the file is too large with its aliases expanded")
                .at(span)
                .hint(format!("at most {MOST_NODES} values and {} MiB of text are read", MOST_TEXT >> 20)));
        }
        Ok(())
    }

    fn open(&mut self, kind: FrameKind, anchor: usize, tag: Tagged<'a>, span: Span) -> Result<(), Diagnostic> {
        if self.stack.len() >= DEEPEST {
            return Err(problem::too_deep(&span));
        }
        let directive = self.directive(tag.as_deref(), &span);
        if anchor > 0 {
            self.anchors.insert(anchor, None);
        }
        self.overriding += usize::from(directive == Some(Directive::Override));
        let start = span.bytes().start;
        let (nodes, text, resets) = (self.nodes, self.text, self.resets);
        self.stack.push(Frame { kind, anchor, directive, start, nodes, text, resets, height: 0 });
        self.count(1, &span)
    }

    fn close(&mut self, end: usize) -> Result<Option<Finished>, Diagnostic> {
        let Some(frame) = self.stack.pop() else { return Ok(None) };
        self.overriding -= usize::from(frame.directive == Some(Directive::Override));
        let mut directive = frame.directive;
        let value = match frame.kind {
            FrameKind::Sequence(nodes) => Value::Sequence(nodes),
            FrameKind::Mapping(mapping) => {
                let (entries, replaces) = mapping.close();
                if replaces && directive.is_none() {
                    directive = Some(Directive::Override);
                }
                Value::Mapping(entries)
            }
        };
        let span = trimmed(self.file.span(frame.start..end.max(frame.start)));
        let mut node = Node { directive, ..Node::new(span, value) };
        let mut height = frame.height + 1;
        if directive == Some(Directive::Reset) {
            (node.value, height) = (Node::null(node.span.clone()).value, 0);
        }
        if frame.anchor > 0 {
            let mut copy = node.clone();
            if self.resets > frame.resets {
                // As in Compose, a `!reset` inside of what an anchor names counts where it was written, and an alias
                // repeats the rest.
                copy.drop_resets();
            }
            let anchored =
                Anchored { node: copy, nodes: self.nodes - frame.nodes, text: self.text - frame.text, height };
            // What an anchor keeps is a copy too.
            self.copied += anchored.nodes;
            self.count(0, &node.span)?;
            self.anchors.insert(frame.anchor, Some(anchored));
        }
        Ok(Some(Finished { node, height, merge: false }))
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<Finished, Diagnostic> {
        let (nodes, text, height) = match self.anchors.get(&anchor) {
            Some(Some(anchored)) => (anchored.nodes, anchored.text, anchored.height),
            Some(None) => return Err(Diagnostic::error("an alias stands inside of what it repeats").at(&span)),
            None => return Err(problem::unknown_anchor(&span)),
        };
        // The cost is paid before the copy is made.
        self.text += text;
        self.count(nodes, &span)?;
        if self.stack.len() + height > DEEPEST {
            return Err(problem::too_deep(&span));
        }
        let Some(Some(anchored)) = self.anchors.get(&anchor) else { return Err(problem::unknown_anchor(&span)) };
        let mut node = anchored.node.clone();
        node.via = Some(Via::new(Step::Alias(span), node.via.take()));
        if self.overriding > 0 {
            node.directive = None;
        }
        Ok(Finished { node, height, merge: false })
    }

    /// Puts a finished node where it belongs: into the collection that is open, or at the root.
    fn place(&mut self, finished: Finished) -> Result<(), Diagnostic> {
        let Finished { node, height, merge } = finished;
        let Some(frame) = self.stack.last_mut() else {
            if node.directive == Some(Directive::Reset) {
                return Err(Diagnostic::error("`!reset` cannot take away a whole file").at(&node.span));
            }
            self.documents.push(node);
            return Ok(());
        };
        // An open frame's own height reaches its parent when it is closed.
        frame.height = frame.height.max(height);
        match &mut frame.kind {
            FrameKind::Sequence(nodes) => nodes.push(node),
            FrameKind::Mapping(mapping) => mapping.take(node, merge, self.diagnostics)?,
        }
        Ok(())
    }
}

/// The span without blanks and line breaks at its end, which a plain scalar may carry.
fn trimmed(span: Span) -> Span {
    let text = span.text();
    let length = text.trim_end().len();
    if length == text.len() { span } else { span.part(0..length) }
}
