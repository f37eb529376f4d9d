//! Quotes and brackets of a text that is no YAML, as far as they can be told: for saying what was forgotten.

use std::ops::Range;

/// A bracket that opens.
pub(super) struct Bracket {
    pub(super) at: usize,
    /// Where it is closed, and whether by a bracket of its kind.
    pub(super) closed: Option<(usize, bool)>,
}

/// What was found.
#[derive(Default)]
pub(super) struct Scan {
    pub(super) brackets: Vec<Bracket>,
    /// Texts in quotes, with these.
    pub(super) quoted: Vec<Range<usize>>,
    open: Vec<usize>,
}

impl Scan {
    pub(super) fn of(text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut scan = Self::default();
        let (mut at, mut line) = (0, 0);
        // Whether a value may begin here: quotes and brackets inside of a plain text are part of it.
        let mut fresh = true;
        while let Some(&byte) = bytes.get(at) {
            let blank_before = at == 0 || bytes[at - 1].is_ascii_whitespace();
            let blank_after = bytes.get(at + 1).is_none_or(u8::is_ascii_whitespace);
            let flow = !scan.open.is_empty();
            match byte {
                b'\n' => {
                    fresh = true;
                    line = at + 1;
                }
                b' ' | b'\t' | b'\r' => {}
                b'#' if blank_before => {
                    at = end_of_line(bytes, at);
                    continue;
                }
                b'[' | b'{' if fresh || flow => {
                    scan.open.push(scan.brackets.len());
                    scan.brackets.push(Bracket { at, closed: None });
                    fresh = true;
                }
                b']' | b'}' if flow => {
                    scan.close(at, byte, bytes);
                    fresh = false;
                }
                b',' if flow => fresh = true,
                b':' if blank_after || flow && at > 0 && matches!(bytes[at - 1], b'"' | b'\'') => fresh = true,
                b'"' | b'\'' if fresh => {
                    let end = end_of_quoted(bytes, at);
                    scan.quoted.push(at..end);
                    fresh = false;
                    at = end;
                    continue;
                }
                b'|' | b'>' if fresh && !flow => {
                    at = end_of_block(bytes, line, at);
                    continue;
                }
                b'-' | b'?' if fresh && blank_after => {}
                b'&' | b'*' | b'!' if fresh => {
                    at += bytes[at..].iter().take_while(|byte| !byte.is_ascii_whitespace() && **byte != b',').count();
                    continue;
                }
                _ => fresh = false,
            }
            at += 1;
        }
        scan
    }

    fn close(&mut self, at: usize, closing: u8, bytes: &[u8]) {
        let Some(bracket) = self.open.pop().map(|index| &mut self.brackets[index]) else { return };
        bracket.closed = Some((at, closing == closing_of(bytes[bracket.at])));
    }

    /// The last bracket before this place that is never closed.
    pub(super) fn unclosed(&self, before: usize) -> Option<&Bracket> {
        self.brackets.iter().rev().find(|bracket| bracket.at < before && bracket.closed.is_none())
    }

    /// The innermost pair of brackets around this place, or ending there.
    pub(super) fn around(&self, at: usize) -> Option<&Bracket> {
        let around = |bracket: &&Bracket| bracket.at < at && bracket.closed.is_some_and(|(end, _)| end >= at);
        self.brackets.iter().rev().find(around)
    }
}

pub(super) fn closing_of(bracket: u8) -> u8 {
    if bracket == b'[' { b']' } else { b'}' }
}

fn end_of_line(bytes: &[u8], from: usize) -> usize {
    from + bytes[from..].iter().take_while(|byte| **byte != b'\n').count()
}

/// Behind the closing quote.
fn end_of_quoted(bytes: &[u8], start: usize) -> usize {
    let quote = bytes[start];
    let mut at = start + 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' if quote == b'"' => at += 1,
            _ if byte == quote && quote == b'\'' && bytes.get(at + 1) == Some(&quote) => at += 1,
            _ if byte == quote => return at + 1,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

/// Behind the lines of a block: those that are indented further than the one in which it begins.
fn end_of_block(bytes: &[u8], line: usize, from: usize) -> usize {
    let indent = |line: usize| bytes[line..].iter().take_while(|byte| **byte == b' ').count();
    let mut at = end_of_line(bytes, from);
    while at < bytes.len() {
        let next = at + 1;
        let empty = bytes[next.min(bytes.len())..].trim_ascii_start().is_empty() || {
            let end = end_of_line(bytes, next);
            bytes[next..end].trim_ascii().is_empty()
        };
        if !empty && indent(next) <= indent(line) {
            break;
        }
        at = end_of_line(bytes, next.min(bytes.len()));
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unclosed(text: &str) -> Option<usize> {
        Scan::of(text).unclosed(text.len()).map(|bracket| bracket.at)
    }

    #[test]
    fn a_bracket_that_is_never_closed_is_found() {
        assert_eq!(unclosed("a: [1\nb: [2]\n"), Some(3));
        assert_eq!(unclosed("a: {b: [c, '}'], d: \"}\"\n"), Some(3));
    }

    #[test]
    fn brackets_in_texts_open_nothing() {
        for text in
            ["a: b[c\n", "a: it's [\n", "# [\na: 'x['\n", "a: |\n  [\n\n  {\nb: c\n", "a: \"\\\"[\"\n", "a: *x[\n"]
        {
            assert_eq!(unclosed(text), None, "{text}");
        }
    }
}
