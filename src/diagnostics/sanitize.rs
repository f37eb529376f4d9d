//! Text from elsewhere made harmless for a terminal.

use std::borrow::Cow;

/// Replaces what would move the cursor, change colours or reorder text: control characters become their pictures, and
/// invisible or direction-changing characters a replacement character. One character stays one character.
pub fn sanitize(text: &str) -> Cow<'_, str> {
    if text.chars().all(|c| replacement(c).is_none()) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.chars().map(|c| replacement(c).unwrap_or(c)).collect())
    }
}

fn replacement(c: char) -> Option<char> {
    match c {
        '\t' => None,
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(c)),
        '\x7f' => Some('\u{2421}'),
        '\u{80}'..='\u{9f}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}' => Some('\u{fffd}'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_do_not_reach_the_terminal() {
        assert_eq!(sanitize("a\x1b[31mb\nc\u{202e}"), "a␛[31mb␊c\u{fffd}");
        assert!(matches!(sanitize("plain\tü"), Cow::Borrowed(_)));
    }
}
