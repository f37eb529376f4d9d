//! Places in the text of a file.

use std::{
    fmt,
    hash::{Hash, Hasher},
    ops::Range,
    sync::{Arc, OnceLock},
};

/// A text with the name that people know it by. Cloning it is cheap.
#[derive(Clone)]
pub struct SourceFile(Arc<Inner>);

struct Inner {
    order: usize,
    path: String,
    text: String,
    lines: OnceLock<Vec<usize>>,
}

impl SourceFile {
    /// A file as it is displayed; `order` is its place among the files of one run, which diagnostics are sorted by.
    pub fn new(order: usize, path: impl Into<String>, text: impl Into<String>) -> Self {
        Self(Arc::new(Inner { order, path: path.into(), text: text.into(), lines: OnceLock::new() }))
    }

    /// The path as it is displayed.
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// A range of bytes of this file. What lies outside of it or inside a character is moved to the nearest boundary.
    pub fn span(&self, bytes: Range<usize>) -> Span {
        let start = self.boundary(bytes.start);
        let end = self.boundary(bytes.end).max(start);
        Span { file: self.clone(), start: narrow(start), end: narrow(end) }
    }

    /// The byte at which line `line` (from 1) begins; the end of the text for a line that is not there.
    pub fn line_start(&self, line: usize) -> usize {
        self.lines().get(line.saturating_sub(1)).copied().unwrap_or(self.0.text.len())
    }

    /// The bytes of line `line` (from 1), its line break left out.
    pub fn line(&self, line: usize) -> &str {
        let text = &self.0.text[self.line_start(line)..self.line_start(line + 1)];
        text.strip_suffix('\n').map_or(text, |text| text).trim_end_matches('\r')
    }

    /// Line and column of a byte.
    pub fn position(&self, byte: usize) -> Position {
        let byte = self.boundary(byte);
        let line = self.lines().partition_point(|start| *start <= byte).max(1);
        let column = self.0.text[self.line_start(line)..byte].chars().count() + 1;
        Position { line, column }
    }

    fn boundary(&self, byte: usize) -> usize {
        let mut byte = byte.min(self.0.text.len());
        while !self.0.text.is_char_boundary(byte) {
            byte -= 1;
        }
        byte
    }

    /// Where lines begin. A lone carriage return breaks a line too, as it does in YAML.
    fn lines(&self) -> &[usize] {
        self.0.lines.get_or_init(|| {
            let bytes = self.0.text.as_bytes();
            let breaks = bytes.iter().enumerate().filter(|(at, byte)| match byte {
                b'\n' => true,
                b'\r' => bytes.get(at + 1) != Some(&b'\n'),
                _ => false,
            });
            std::iter::once(0).chain(breaks.map(|(at, _)| at + 1)).collect()
        })
    }

    pub(super) fn order(&self) -> usize {
        self.0.order
    }
}

impl fmt::Debug for SourceFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceFile({:?})", self.0.path)
    }
}

impl PartialEq for SourceFile {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for SourceFile {}

impl Hash for SourceFile {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

/// A line and a column, both from 1; a column is a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

/// A range of bytes of a file.
///
/// Each node of a tree has one or two, so it is kept small; no file that is read is anywhere near as long as this can say.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Span {
    file: SourceFile,
    start: u32,
    end: u32,
}

fn narrow(byte: usize) -> u32 {
    u32::try_from(byte).unwrap_or(u32::MAX)
}

impl Span {
    /// The file it lies in.
    pub fn file(&self) -> &SourceFile {
        &self.file
    }

    /// The bytes it covers.
    pub fn bytes(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// The text it covers.
    pub fn text(&self) -> &str {
        &self.file.text()[self.bytes()]
    }

    /// Line and column at which it begins.
    pub fn position(&self) -> Position {
        self.file.position(self.bytes().start)
    }

    /// A part of this span, by bytes from its beginning.
    #[must_use]
    pub fn part(&self, bytes: Range<usize>) -> Self {
        let whole = self.bytes();
        let end = whole.start.saturating_add(bytes.end).min(whole.end);
        self.file.span(whole.start.saturating_add(bytes.start).min(end)..end)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { line, column } = self.position();
        write!(f, "{}:{line}:{column}", self.file.path())
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}+{}", self.end - self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_characters_and_every_line_break_counts() {
        let file = SourceFile::new(0, "f", "a\r\nüx\rb\n");
        let at = |needle: &str| {
            let byte = file.text().find(needle).expect("needle");
            file.span(byte..byte + needle.len()).to_string()
        };
        assert_eq!(at("a"), "f:1:1");
        assert_eq!(at("x"), "f:2:2");
        assert_eq!(at("b"), "f:3:1");
        assert_eq!(file.span(99..100).to_string(), "f:4:1");
        assert_eq!((file.line(1), file.line(2), file.line(3), file.line(4)), ("a", "üx", "b", ""));
    }

    #[test]
    fn a_span_never_splits_a_character() {
        let file = SourceFile::new(0, "f", "üü");
        assert_eq!(file.span(1..3).text(), "ü");
        assert_eq!(file.span(0..4).part(2..99).text(), "ü");
    }
}
