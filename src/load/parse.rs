//! Phase 2, second half: text to tree.
//!
//! saphyr-parser makes events of the text; they become nodes here, on a stack of our own, so that neither deep nesting nor
//! aliases can cost more than the bounds below. Aliases are expanded in place. `<<` is honoured (the merge key of YAML 1.1,
//! which Compose files use), a key that comes twice is not.

use std::{collections::HashMap, sync::Arc};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};

use super::{
    scalar,
    tree::{Entry, Node, Scalar, ScalarKind, Value},
};
use crate::diagnostics::{Diagnostic, Diagnostics, SourceFile, Span};

/// Values nested deeper than this are refused.
pub(crate) const DEEPEST: usize = 128;
/// Nodes of a file with its aliases expanded.
pub(crate) const MOST_NODES: usize = 1_000_000;
/// Text of the scalars of a file with its aliases expanded.
pub(crate) const MOST_TEXT: usize = 64 * 1024 * 1024;

/// The tree of a file; none if it holds no document.
///
/// # Errors
/// The mistake after which no further one can be found. Keys that come twice are put into `diagnostics`, and the first is
/// kept.
pub(crate) fn parse(file: &SourceFile, diagnostics: &mut Diagnostics) -> Result<Option<Node>, Diagnostic> {
    Builder {
        file,
        parser: Parser::new_from_str(file.text()),
        diagnostics,
        stack: Vec::new(),
        anchors: HashMap::new(),
        nodes: 0,
        copied: 0,
        text: 0,
        cursor: (1, 0, 0),
    }
    .run()
}

struct Builder<'a> {
    file: &'a SourceFile,
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    diagnostics: &'a mut Diagnostics,
    stack: Vec<Frame>,
    /// What an anchor stands for; none while it is being read.
    anchors: HashMap<usize, Option<Anchored>>,
    /// Values made for the tree so far, and for what anchors keep.
    nodes: usize,
    copied: usize,
    text: usize,
    /// Line, column and byte of the last place looked up.
    cursor: (usize, usize, usize),
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
    start: usize,
    /// Counters when it began, so that its cost is known when it ends.
    nodes: usize,
    text: usize,
    /// Deepest level below it.
    height: usize,
}

enum FrameKind {
    Sequence(Vec<Node>),
    Mapping { entries: Vec<Entry>, seen: HashMap<Arc<str>, Span>, merges: Vec<Node>, key: Option<Key> },
}

enum Key {
    Name(Arc<str>, Span),
    /// `<<`, not quoted.
    Merge,
    /// One that was there before; its value is dropped.
    Again,
}

impl Builder<'_> {
    fn run(mut self) -> Result<Option<Node>, Diagnostic> {
        let mut root = None;
        let mut documents = 0;
        while let Some(event) = self.parser.next_event() {
            let (event, at) = event.map_err(|error| self.syntax(&error))?;
            let start = self.byte(at.start);
            let end = self.byte(at.end).max(start);
            let span = self.file.span(start..end);
            let finished = match event {
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents > 1 {
                        return Err(Diagnostic::error("the file holds more than one document")
                            .at(&span)
                            .hint("put the second one into a file of its own and name both with `-f`"));
                    }
                    None
                }
                Event::Scalar(text, style, anchor, tag) => {
                    let kind = self.kind(&text, style, tag.as_deref(), &span)?;
                    if text.contains('\0') {
                        return Err(
                            Diagnostic::error("the value contains a NUL character, which no text has").at(&span)
                        );
                    }
                    self.text += text.len();
                    let scalar = Scalar { text: text.as_ref().into(), kind, interpolated: false };
                    let plain = style == ScalarStyle::Plain && tag.is_none();
                    let node = Node::new(self.trimmed(span), Value::Scalar(scalar));
                    self.count(1, &node.span)?;
                    if anchor > 0 {
                        let (text, node) = (text.len(), node.clone());
                        self.anchors.insert(anchor, Some(Anchored { node, nodes: 1, text, height: 0 }));
                    }
                    Some((node, 0, plain))
                }
                Event::SequenceStart(anchor, tag) => {
                    self.open(FrameKind::Sequence(Vec::new()), anchor, tag.as_deref(), "seq", &span)?;
                    None
                }
                Event::MappingStart(anchor, tag) => {
                    let frame =
                        FrameKind::Mapping { entries: Vec::new(), seen: HashMap::new(), merges: Vec::new(), key: None };
                    self.open(frame, anchor, tag.as_deref(), "map", &span)?;
                    None
                }
                Event::SequenceEnd | Event::MappingEnd => self.close(end)?.map(|(node, height)| (node, height, false)),
                Event::Alias(anchor) => Some(self.alias(anchor, span)?),
                Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => None,
            };
            if let Some((node, height, plain)) = finished {
                self.place(node, height, plain, &mut root)?;
            }
        }
        Ok(root)
    }

    /// The byte of a place; saphyr counts lines from 1 and columns in characters from 0. It walks from the last place, since
    /// a line may be megabytes long.
    fn byte(&mut self, mark: Marker) -> usize {
        let text = self.file.text();
        let (line, column, mut byte) = self.cursor;
        let mut column = column;
        if line != mark.line() || column > mark.col() * 2 {
            (column, byte) = (0, self.file.line_start(mark.line()));
        }
        if column <= mark.col() {
            byte = text[byte..].char_indices().nth(mark.col() - column).map_or(text.len(), |(at, _)| byte + at);
        } else {
            byte = text[..byte].char_indices().rev().nth(column - mark.col() - 1).map_or(0, |(at, _)| at);
        }
        self.cursor = (mark.line(), mark.col(), byte);
        byte
    }

    /// The span without blanks and line breaks at its end, which a plain scalar may carry.
    fn trimmed(&self, span: Span) -> Span {
        let length = span.text().trim_end().len();
        if length == 0 { span.part(0..0) } else { span.part(0..length) }
    }

    fn syntax(&mut self, error: &saphyr_parser::ScanError) -> Diagnostic {
        let at = self.byte(*error.marker());
        if error.info().contains("unknown anchor") {
            let rest = &self.file.text()[at..];
            let end = rest.find(|c: char| c.is_whitespace() || "[]{},".contains(c)).unwrap_or(rest.len());
            return unknown_anchor(&self.file.span(at..at + end));
        }
        let span = self.file.span(at..at + 1);
        if error.info().contains("recursion limit") {
            return too_deep(&span);
        }
        let line = self.file.line(span.position().line);
        let diagnostic =
            Diagnostic::error(format!("this is not YAML: {}", error.info().trim_end_matches('.'))).at(&span);
        let indent = &line[..line.len() - line.trim_start().len()];
        if indent.contains('\t') {
            diagnostic.hint("indent with blanks: YAML allows no tabs there")
        } else {
            diagnostic
        }
    }

    fn kind(&self, text: &str, style: ScalarStyle, tag: Option<&Tag>, span: &Span) -> Result<ScalarKind, Diagnostic> {
        let Some(tag) = tag else {
            return Ok(if style == ScalarStyle::Plain { scalar::classify(text) } else { ScalarKind::String });
        };
        let wanted = match (tag.is_yaml_core_schema(), tag.suffix.as_str()) {
            (true, "str") => return Ok(ScalarKind::String),
            (false, "") if tag.handle == "!" || tag.handle.is_empty() => return Ok(ScalarKind::String),
            (true, "null") => ScalarKind::Null,
            (true, "bool") => ScalarKind::Bool,
            (true, "int") => ScalarKind::Int,
            (true, "float") => ScalarKind::Float,
            _ => return Err(unknown_tag(tag, span)),
        };
        match scalar::classify(text) {
            ScalarKind::Int if wanted == ScalarKind::Float => Ok(wanted),
            found if found == wanted => Ok(wanted),
            _ => Err(Diagnostic::error(format!("`{text}` is not what its tag `{}` says", shown(tag))).at(span)),
        }
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

    fn open(
        &mut self,
        kind: FrameKind,
        anchor: usize,
        tag: Option<&Tag>,
        expected: &str,
        span: &Span,
    ) -> Result<(), Diagnostic> {
        if let Some(tag) = tag
            && !(tag.is_yaml_core_schema() && tag.suffix == expected)
        {
            return Err(unknown_tag(tag, span));
        }
        if self.stack.len() >= DEEPEST {
            return Err(too_deep(span));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, None);
        }
        let start = span.bytes().start;
        self.stack.push(Frame { kind, anchor, start, nodes: self.nodes, text: self.text, height: 0 });
        self.count(1, span)
    }

    fn close(&mut self, end: usize) -> Result<Option<(Node, usize)>, Diagnostic> {
        let Some(frame) = self.stack.pop() else { return Ok(None) };
        let value = match frame.kind {
            FrameKind::Sequence(nodes) => Value::Sequence(nodes),
            FrameKind::Mapping { mut entries, mut seen, merges, .. } => {
                for source in merges {
                    let Value::Mapping(more) = source.value else { continue };
                    for entry in more {
                        if !seen.contains_key(&entry.key) {
                            seen.insert(entry.key.clone(), entry.key_span.clone());
                            entries.push(entry);
                        }
                    }
                }
                Value::Mapping(entries)
            }
        };
        let node = Node::new(self.trimmed(self.file.span(frame.start..end)), value);
        let height = frame.height + 1;
        if frame.anchor > 0 {
            let anchored =
                Anchored { node: node.clone(), nodes: self.nodes - frame.nodes, text: self.text - frame.text, height };
            // What an anchor keeps is a copy too.
            self.copied += anchored.nodes;
            self.count(0, &node.span)?;
            self.anchors.insert(frame.anchor, Some(anchored));
        }
        Ok(Some((node, height)))
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<(Node, usize, bool), Diagnostic> {
        let (nodes, text, height) = match self.anchors.get(&anchor) {
            Some(Some(anchored)) => (anchored.nodes, anchored.text, anchored.height),
            Some(None) => return Err(Diagnostic::error("an alias stands inside of what it repeats").at(&span)),
            None => return Err(unknown_anchor(&span)),
        };
        // The cost is paid before the copy is made.
        self.text += text;
        self.count(nodes, &span)?;
        if self.stack.len() + height > DEEPEST {
            return Err(too_deep(&span));
        }
        match self.anchors.get(&anchor) {
            Some(Some(anchored)) => Ok((Node { span, ..anchored.node.clone() }, height, false)),
            _ => Err(unknown_anchor(&span)),
        }
    }

    /// Puts a finished node where it belongs: into the collection that is open, or at the root.
    fn place(&mut self, node: Node, height: usize, plain: bool, root: &mut Option<Node>) -> Result<(), Diagnostic> {
        let Some(frame) = self.stack.last_mut() else {
            *root = Some(node);
            return Ok(());
        };
        frame.height = frame.height.max(height);
        // An open frame's own height reaches its parent when it is closed.
        match &mut frame.kind {
            FrameKind::Sequence(nodes) => nodes.push(node),
            FrameKind::Mapping { entries, seen, merges, key } => match key.take() {
                None => *key = Some(read_key(node, plain, seen, self.diagnostics)?),
                Some(Key::Merge) => merges.extend(merge_sources(node)?),
                Some(Key::Name(name, key_span)) => entries.push(Entry { key: name, key_span, value: node }),
                Some(Key::Again) => {}
            },
        }
        Ok(())
    }
}

fn read_key(
    node: Node,
    plain: bool,
    seen: &mut HashMap<Arc<str>, Span>,
    diagnostics: &mut Diagnostics,
) -> Result<Key, Diagnostic> {
    let Value::Scalar(scalar) = node.value else {
        return Err(Diagnostic::error("a key is a single word, not a list or a mapping").at(&node.span));
    };
    if scalar.kind == ScalarKind::Null {
        return Err(Diagnostic::error("a key is missing here").at(&node.span));
    }
    if let Some(first) = seen.get(&scalar.text) {
        let diagnostic = Diagnostic::error(format!("the key `{}` comes twice", scalar.text))
            .at(&node.span)
            .label(first, "first here");
        diagnostics.push(match &*scalar.text {
            "<<" => diagnostic.hint("list them instead: `<<: [*one, *two]`"),
            _ => diagnostic.hint("remove one of the two"),
        });
        return Ok(Key::Again);
    }
    seen.insert(scalar.text.clone(), node.span.clone());
    if plain && &*scalar.text == "<<" { Ok(Key::Merge) } else { Ok(Key::Name(scalar.text, node.span)) }
}

/// The mappings that `<<` names, the strongest first.
fn merge_sources(node: Node) -> Result<Vec<Node>, Diagnostic> {
    let wrong = |node: &Node| {
        Diagnostic::error(format!("`<<` takes a mapping or a list of mappings, not {}", node.describe())).at(&node.span)
    };
    match node.value {
        Value::Mapping(_) => Ok(vec![node]),
        Value::Sequence(nodes) => match nodes.iter().find(|node| node.entries().is_none()) {
            Some(other) => Err(wrong(other)),
            None => Ok(nodes),
        },
        Value::Scalar(_) | Value::Broken => Err(wrong(&node)),
    }
}

fn shown(tag: &Tag) -> String {
    if tag.is_yaml_core_schema() { format!("!!{}", tag.suffix) } else { format!("{}{}", tag.handle, tag.suffix) }
}

fn unknown_tag(tag: &Tag, span: &Span) -> Diagnostic {
    let shown = shown(tag);
    match shown.as_str() {
        "!reset" | "!override" => Diagnostic::error(format!("`{shown}` is not supported yet")).at(span),
        _ => Diagnostic::error(format!("the tag `{shown}` means nothing here")).at(span),
    }
}

fn unknown_anchor(span: &Span) -> Diagnostic {
    Diagnostic::error(format!("nothing before this place is anchored as `{}`", span.text().trim_start_matches('*')))
        .at(span)
}

fn too_deep(span: &Span) -> Diagnostic {
    Diagnostic::error(format!("values are nested deeper than {DEEPEST} levels")).at(span)
}
