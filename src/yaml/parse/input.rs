//! The text of a file as the parser wants it: character by character, fast where characters are single bytes.

use saphyr_parser::Input;

/// A place in a text from which the parser reads on.
///
/// The parser looks at each character about five times. Its own input of a `str` decodes one of any length each time; here
/// a byte and a table tell what it is, and only what is no ASCII is decoded, apart from the way that nearly all take.
pub(super) struct Text<'a> {
    text: &'a str,
    at: usize,
    /// How far the parser has asked to look ahead, which it wants to be told again. All of the text is at hand.
    ahead: usize,
}

/// How much room the parser makes for a word before it reads it. It begins a text with room for 32 bytes: with more than a
/// part of that, nearly every text would be moved.
const WORD: usize = 8;

/// What a byte is to the parser.
type Class = u8;
/// A blank or a tab.
const BLANK: Class = 1;
/// The end of a line.
const BREAK: Class = 2;
/// NUL, which the end of the text counts as.
const NUL: Class = 4;
/// `,[]{}`
const FLOW: Class = 8;
const COLON: Class = 16;
const DIGIT: Class = 32;
/// A letter, `-` or `_`.
const WORDLY: Class = 64;
/// A part of a longer character.
const LONG: Class = 128;

const CLASSES: [Class; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b' ' | b'\t' => BLANK,
            b'\n' | b'\r' => BREAK,
            0 => NUL,
            b',' | b'[' | b']' | b'{' | b'}' => FLOW,
            b':' => COLON,
            b'0'..=b'9' => DIGIT,
            b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'_' => WORDLY,
            0x80.. => LONG,
            _ => 0,
        };
        byte += 1;
    }
    classes
};

impl<'a> Text<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0, ahead: 0 }
    }

    #[inline]
    fn byte(&self, nth: usize) -> Option<u8> {
        self.text.as_bytes().get(self.at + nth).copied()
    }

    #[inline]
    fn class(&self, nth: usize) -> Class {
        self.byte(nth).map_or(NUL, |byte| CLASSES[usize::from(byte)])
    }

    #[inline]
    fn is(&self, classes: Class) -> bool {
        self.class(0) & classes != 0
    }

    /// A character that is looked for by decoding all on the way to it.
    #[cold]
    #[inline(never)]
    fn decoded(&self, nth: usize) -> Option<char> {
        self.text.get(self.at..)?.chars().nth(nth)
    }

    /// Whether a line goes on here. A byte order mark inside of a text ends whatever it stands in.
    #[inline]
    fn line_goes_on(&self) -> bool {
        match self.class(0) {
            LONG => self.peek() != '\u{feff}',
            class => class & (BREAK | NUL) == 0,
        }
    }

    /// Goes on as long as it may, and says over how many characters.
    #[inline]
    fn skip_while(&mut self, goes_on: impl Fn(&Self) -> bool) -> usize {
        let mut count = 0;
        while goes_on(self) {
            self.skip();
            count += 1;
        }
        count
    }
}

impl Input for Text<'_> {
    #[inline]
    fn lookahead(&mut self, count: usize) {
        self.ahead = self.ahead.max(count);
    }

    #[inline]
    fn buflen(&self) -> usize {
        self.ahead
    }

    #[inline]
    fn bufmaxlen(&self) -> usize {
        WORD
    }

    #[inline]
    fn raw_read_ch(&mut self) -> char {
        let character = self.peek();
        self.skip();
        character
    }

    #[inline]
    fn raw_read_non_breakz_ch(&mut self) -> Option<char> {
        self.line_goes_on().then(|| self.raw_read_ch())
    }

    #[inline]
    fn skip(&mut self) {
        self.at += match self.byte(0) {
            Some(0..0x80) => 1,
            Some(_) => self.decoded(0).map_or(0, char::len_utf8),
            None => 0,
        };
    }

    #[inline]
    fn skip_n(&mut self, count: usize) {
        (0..count).for_each(|_| self.skip());
    }

    #[inline]
    fn peek(&self) -> char {
        self.peek_opt().unwrap_or('\0')
    }

    #[inline]
    fn peek_nth(&self, n: usize) -> char {
        if (0..n).all(|nth| matches!(self.byte(nth), Some(0..0x80))) {
            match self.byte(n) {
                Some(byte @ 0..0x80) => return char::from(byte),
                Some(_) => {}
                None => return '\0',
            }
        }
        self.decoded(n).unwrap_or('\0')
    }

    #[inline]
    fn peek_opt(&self) -> Option<char> {
        match self.byte(0) {
            Some(byte @ 0..0x80) => Some(char::from(byte)),
            Some(_) => self.decoded(0),
            None => None,
        }
    }

    #[inline]
    fn next_can_be_plain_scalar(&self, in_flow: bool) -> bool {
        match self.class(0) & (COLON | FLOW | LONG) {
            0 => true,
            // Only here does the next one matter.
            COLON => self.class(1) & (BLANK | BREAK | NUL) == 0 && !(in_flow && self.class(1) & FLOW != 0),
            FLOW => !in_flow,
            _ => self.peek() != '\u{feff}',
        }
    }

    #[inline]
    fn next_is_blank_or_break(&self) -> bool {
        self.is(BLANK | BREAK)
    }

    #[inline]
    fn next_is_blank_or_breakz(&self) -> bool {
        self.is(BLANK | BREAK | NUL)
    }

    #[inline]
    fn next_is_blank(&self) -> bool {
        self.is(BLANK)
    }

    #[inline]
    fn next_is_break(&self) -> bool {
        self.is(BREAK)
    }

    #[inline]
    fn next_is_breakz(&self) -> bool {
        self.is(BREAK | NUL)
    }

    #[inline]
    fn next_is_z(&self) -> bool {
        self.is(NUL)
    }

    #[inline]
    fn next_is_flow(&self) -> bool {
        self.is(FLOW)
    }

    #[inline]
    fn next_is_digit(&self) -> bool {
        self.is(DIGIT)
    }

    #[inline]
    fn next_is_alpha(&self) -> bool {
        self.is(DIGIT | WORDLY)
    }

    #[inline]
    fn skip_while_non_breakz(&mut self) -> usize {
        self.skip_while(Self::line_goes_on)
    }

    #[inline]
    fn skip_while_blank(&mut self) -> usize {
        self.skip_while(Self::next_is_blank)
    }
}

#[cfg(test)]
mod tests {
    use saphyr_parser::{Parser, StrInput};

    use super::*;

    /// All that the parser makes of a text, be it the mistake that it ends with.
    fn events(source: impl Input) -> Vec<String> {
        Parser::new(source)
            .map(|event| format!("{event:?}"))
            .scan(true, |on, event| {
                let this = *on;
                *on &= event.starts_with("Ok");
                this.then_some(event)
            })
            .collect()
    }

    #[test]
    fn the_parser_makes_the_same_of_it_as_of_its_own_input() {
        let words = [
            "a",
            "ü: b",
            "😀",
            ": ",
            "- ",
            "\n",
            "\r\n",
            "\r",
            "\n  ",
            "\n      ",
            " ",
            "\t",
            "# c",
            " #ü",
            "'",
            "\"",
            "\\",
            "\\u00e4",
            "[",
            "]",
            "{",
            "}",
            ",",
            "&a ",
            "*a",
            "!t ",
            "!!str ",
            "|",
            ">-",
            ">2+",
            "--- ",
            "...\n",
            "%YAML 1.2\n",
            "?",
            "\u{feff}",
            "\0",
            "<<: ",
            "a long text of more than a few words: and a value",
            "http://example.com:80/ü",
            "\u{2028}",
        ];
        // Any numbers do, as long as they are the same each time: a linear congruential generator.
        let mut state = 1_u64;
        let mut next = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        for _ in 0..5_000 {
            let text: String = (0..=next(16)).map(|_| words[next(words.len())]).collect();
            assert_eq!(events(Text::new(&text)), events(StrInput::new(&text)), "{text:?}");
        }
        let deep = format!("a:\n{0}b: |\n{0} {0}x\n{0} ü\n{0} {0}y\n", " ".repeat(150));
        assert_eq!(events(Text::new(&deep)), events(StrInput::new(&deep)));
    }
}
