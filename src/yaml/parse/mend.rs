//! What Compose's YAML library reads and ours refuses, written so that ours reads it too.
//!
//! The YAML specification wants the lines of `[ … ]`, `{ … }` and quoted texts indented further than what they belong to,
//! a blank in front of `#` and no tab behind `:`. libyaml and its descendants never cared, and people write
//!
//! ```yaml
//! command: [
//!   serve
//! ]
//! ```
//!
//! So a file that is refused is gone through once more. Nothing here decides what is valid: the mended text is parsed like
//! any other, and each place in it leads back to one in the file.

/// Blanks that mending may add to a file.
const MOST_ADDED: usize = 1024 * 1024;

/// A text that means what another one does, and is written with more care.
#[derive(Debug)]
pub(super) struct Mended {
    pub(super) text: String,
    /// Bytes of `text` with the bytes of the file they stand for: what follows a pair runs on in step with the file, as far
    /// as the next pair.
    steps: Vec<(usize, usize)>,
}

impl Mended {
    /// The byte of the file that a byte of the text stands for.
    pub(super) fn origin(&self, byte: usize) -> usize {
        let next = self.steps.partition_point(|(mended, _)| *mended <= byte);
        let (mended, origin) = next.checked_sub(1).map_or((0, 0), |at| self.steps[at]);
        let bound = self.steps.get(next).map_or(usize::MAX, |(_, origin)| *origin);
        (origin + (byte - mended)).min(bound)
    }
}

/// The text, mended; none if there is nothing to mend.
pub(super) fn mend(text: &str) -> Option<Mended> {
    let mut mender = Mender {
        text,
        at: 0,
        line: 0,
        copied: 0,
        added: 0,
        flow: 0,
        pad: 0,
        mended: Mended { text: String::with_capacity(text.len() + 64), steps: Vec::new() },
    };
    mender.run();
    if mender.mended.steps.is_empty() || mender.added > MOST_ADDED {
        return None;
    }
    mender.copy(text.len());
    Some(mender.mended)
}

struct Mender<'a> {
    text: &'a str,
    at: usize,
    /// Where the line begins.
    line: usize,
    /// The text up to here is in `mended`.
    copied: usize,
    added: usize,
    /// Open brackets.
    flow: usize,
    /// How far the outermost open bracket is from the beginning of its line.
    pad: usize,
    mended: Mended,
}

impl Mender<'_> {
    fn run(&mut self) {
        // Whether a value may begin here: a quote or a bracket inside of a plain text is nothing but a character.
        let mut fresh = true;
        while let Some(byte) = self.peek(0) {
            if self.added > MOST_ADDED {
                return;
            }
            match byte {
                b'\n' | b'\r' => {
                    fresh = true;
                    self.next_line(if self.flow > 0 { self.pad } else { 0 }, false);
                }
                b' ' | b'\t' => self.at += 1,
                b'#' if self.after(b" \t\r\n") => self.comment(),
                b'#' if self.after(b"\"']},") && (fresh || self.flow > 0) => {
                    self.insert(" ");
                    self.comment();
                }
                b'"' | b'\'' if fresh => self.quoted(byte),
                b'[' | b'{' if fresh || self.flow > 0 => {
                    if self.flow == 0 {
                        self.pad = self.at - self.line;
                    }
                    self.flow += 1;
                    self.at += 1;
                    fresh = true;
                }
                b']' | b'}' if self.flow > 0 => {
                    self.flow -= 1;
                    self.at += 1;
                    fresh = true;
                }
                b',' if self.flow > 0 => {
                    self.at += 1;
                    fresh = true;
                }
                b':' if self.peek(1).is_none_or(|next| b" \t\r\n".contains(&next)) => {
                    self.at += 1;
                    self.no_tabs();
                    fresh = true;
                }
                // The specification has no text that is `-` alone there, and `[cat, -]` is written.
                b'-' if fresh && self.flow > 0 && self.peek(1).is_some_and(|next| b",]}".contains(&next)) => {
                    self.insert("\"");
                    self.at += 1;
                    self.insert("\"");
                }
                b'-' | b'?' if fresh && self.peek(1).is_none_or(|next| b" \t\r\n".contains(&next)) => self.at += 1,
                b'|' | b'>' if fresh && self.flow == 0 => self.block_scalar(),
                b'*' if fresh => self.alias(),
                b'&' | b'!' if fresh => self.skip_while(|byte| !b" \t\r\n,[]{}".contains(&byte)),
                _ => {
                    self.at += 1;
                    fresh = false;
                }
            }
        }
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.as_bytes().get(self.at + ahead).copied()
    }

    fn after(&self, bytes: &[u8]) -> bool {
        self.at.checked_sub(1).is_none_or(|before| bytes.contains(&self.text.as_bytes()[before]))
    }

    fn skip_while(&mut self, test: impl Fn(u8) -> bool) {
        while self.peek(0).is_some_and(&test) {
            self.at += 1;
        }
    }

    fn comment(&mut self) {
        self.skip_while(|byte| byte != b'\n' && byte != b'\r');
    }

    /// At a line break: moves what stands in the next line to column `pad`, if it is further to the left.
    fn next_line(&mut self, pad: usize, quoted: bool) {
        self.at += 1;
        self.line = self.at;
        self.skip_while(|byte| byte == b' ');
        let text = self.peek(0).is_some_and(|byte| !b"\t\r\n".contains(&byte) && (quoted || byte != b'#'));
        let indent = self.at - self.line;
        // A marker of a document ends whatever is open.
        let marker = indent == 0 && ["---", "..."].iter().any(|marker| self.text[self.at..].starts_with(marker));
        if !text || marker || indent >= pad {
            return;
        }
        let missing = pad - indent;
        if self.added + missing > MOST_ADDED {
            self.added = MOST_ADDED + 1;
        } else {
            self.insert(&" ".repeat(missing));
        }
    }

    /// Behind a colon: tabs become blanks.
    fn no_tabs(&mut self) {
        while let Some(b' ' | b'\t') = self.peek(0) {
            if self.peek(0) == Some(b'\t') {
                self.insert(" ");
                self.remove(1);
            } else {
                self.at += 1;
            }
        }
    }

    fn quoted(&mut self, quote: u8) {
        let pad = if self.flow > 0 { self.pad } else { self.at - self.line };
        self.at += 1;
        while let Some(byte) = self.peek(0) {
            if self.added > MOST_ADDED {
                return;
            }
            match byte {
                b'\n' | b'\r' => self.next_line(pad, true),
                // The specification has no `\'`.
                b'\\' if quote == b'"' && self.peek(1) == Some(b'\'') => self.remove(1),
                b'\\' if quote == b'"' && !matches!(self.peek(1), Some(b'\n' | b'\r')) => self.at += 2,
                b'\'' if quote == b'\'' && self.peek(1) == Some(b'\'') => self.at += 2,
                _ => {
                    self.at += 1;
                    if byte == quote {
                        return;
                    }
                }
            }
        }
    }

    /// Skips the text below `|` or `>`, which is as it is.
    fn block_scalar(&mut self) {
        let blanks = |line: &str| line.len() - line.trim_start_matches(' ').len();
        let outside = blanks(&self.text[self.line..self.at]);
        self.skip_while(|byte| matches!(byte, b'|' | b'>' | b'+' | b'-' | b'0'..=b'9'));
        if self.peek(0) == Some(b'#') {
            self.insert(" ");
        }
        self.comment();
        while self.at < self.text.len() {
            let line = self.text[self.at..].trim_start_matches(['\n', '\r']);
            let start = self.text.len() - line.len();
            let end = line.find(['\n', '\r']).map_or(self.text.len(), |end| start + end);
            let line = &self.text[start..end];
            if !line.trim_start_matches(' ').is_empty() && blanks(line) <= outside {
                return;
            }
            self.at = end;
        }
    }

    /// `*name: value`, where the name would swallow the colon.
    fn alias(&mut self) {
        self.skip_while(|byte| !b" \t\r\n,[]{}".contains(&byte));
        if self.text[..self.at].ends_with(':') {
            self.at -= 1;
            self.insert(" ");
        }
    }

    fn copy(&mut self, to: usize) {
        self.mended.text.push_str(&self.text[self.copied..to]);
        self.copied = to;
    }

    fn insert(&mut self, text: &str) {
        self.copy(self.at);
        self.mended.steps.push((self.mended.text.len(), self.at));
        self.mended.text.push_str(text);
        self.mended.steps.push((self.mended.text.len(), self.at));
        self.added += text.len();
    }

    fn remove(&mut self, bytes: usize) {
        self.copy(self.at);
        self.at += bytes;
        self.copied = self.at;
        self.mended.steps.push((self.mended.text.len(), self.at));
        // A removal costs a step as an insertion does.
        self.added += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::mend;

    #[test]
    fn what_is_mended() {
        for (text, mended) in [
            ("a:\tb\nc: \t d", "a: b\nc:   d"),
            ("a: [\n  b,\n\n]\nc: d\n", "a: [\n   b,\n\n   ]\nc: d\n"),
            ("a: {\nb: [c\n]}", "a: {\n   b: [c\n   ]}"),
            ("a: \"b\n\n c\\\n\td\\\ne\"\ne: f", "a: \"b\n\n   c\\\n\td\\\n   e\"\ne: f"),
            ("a: 'it''s\nb'\n", "a: 'it''s\n   b'\n"),
            ("a: \"b\\'c\\\\\" #d", "a: \"b'c\\\\\" #d"),
            ("a: \"b\"#c\nd: [e,#f\n g]#h", "a: \"b\" #c\nd: [e, #f\n   g] #h"),
            ("a: |#b\n  c:\td\n e: \"\\'\"\nf:\tg", "a: | #b\n  c:\td\n e: \"\\'\"\nf: g"),
            ("[cat, -, -b, -]", "[cat, \"-\", -b, \"-\"]"),
            ("*a: b\nc: {*d: e}", "*a : b\nc: {*d : e}"),
        ] {
            let found = mend(text).expect("something to mend");
            assert_eq!(found.text, mended);
            // What is in both stands for itself.
            for (at, character) in found.text.char_indices().filter(|(_, c)| c.is_alphanumeric()) {
                assert!(text[found.origin(at)..].starts_with(character), "{text:?} at {at}");
            }
        }
    }

    #[test]
    fn what_is_fine_stays() {
        for text in [
            "",
            "a: b\n",
            "a: b#c \"d\n e\" [f\ng]\n",
            "a: |\n  b:\tc\n\n  [\n]d: e\n",
            "- [a, 'b', \"c\"] # d\n- {e: *f, g: h}\n",
            "url: http://a:80/#b\n",
        ] {
            assert!(mend(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn it_ends_in_bounded_time() {
        let wide = format!("{}[\n{}", " ".repeat(100_000), "a,\n".repeat(100_000));
        assert!(mend(&wide).is_none());
        assert!(mend(&format!("\"{}", "\\'".repeat(2_000_000))).is_none());
    }
}
