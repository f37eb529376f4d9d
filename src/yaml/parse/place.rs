//! Characters to bytes: the parser counts characters, and spans are bytes of the file.

use super::mend::Mended;

/// A mark is kept for every so many characters, so that a lookup walks less than that far.
const STRIDE: usize = 64;

/// The bytes at which the characters of a text stand.
pub(super) struct Places<'a> {
    text: &'a str,
    /// The byte of every `STRIDE`th character; empty if each character is one byte.
    marks: Vec<usize>,
    /// The text is not that of the file, but this one.
    mended: Option<&'a Mended>,
}

impl<'a> Places<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let marks = if text.is_ascii() {
            Vec::new()
        } else {
            text.char_indices().step_by(STRIDE).map(|(byte, _)| byte).collect()
        };
        Self { text, marks, mended: None }
    }

    /// The bytes of the file at which the characters of its mended text stand.
    pub(super) fn of_mended(mended: &'a Mended) -> Self {
        Self { mended: Some(mended), ..Self::new(&mended.text) }
    }

    /// The byte of a character; the end of the text for one that is not there.
    pub(super) fn byte(&self, character: usize) -> usize {
        let byte = self.byte_of_text(character);
        self.mended.map_or(byte, |mended| mended.origin(byte))
    }

    fn byte_of_text(&self, character: usize) -> usize {
        if self.marks.is_empty() {
            return character.min(self.text.len());
        }
        let Some(&mark) = self.marks.get(character / STRIDE) else { return self.text.len() };
        let mut rest = self.text[mark..].char_indices();
        rest.nth(character % STRIDE).map_or(self.text.len(), |(byte, _)| mark + byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_is_found() {
        for text in ["", "plain", &"aü😀\r\n".repeat(50)] {
            let places = Places::new(text);
            for (index, (byte, _)) in text.char_indices().enumerate() {
                assert_eq!(places.byte(index), byte);
            }
            assert_eq!(places.byte(text.chars().count()), text.len());
            assert_eq!(places.byte(usize::MAX), text.len());
        }
    }
}
