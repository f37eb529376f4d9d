//! What the tag of a value says: its type, or how it is merged.

use std::borrow::Cow;

use saphyr_parser::{ScalarStyle, Tag};

use crate::{
    diagnostics::{Diagnostic, Diagnostics, Span, suggest},
    yaml::{
        scalar,
        tree::{Directive, ScalarKind},
    },
};

/// A tag, as far as it means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning<'a> {
    Directive(Directive),
    /// `!!name`.
    Core(&'a str),
    /// `!`, which says nothing about a plain scalar here.
    Nothing,
    Unknown,
}

pub(super) fn meaning(tag: &Tag) -> Meaning<'_> {
    // `!<!reset>` and `!<tag:yaml.org,2002:str>` come without a handle.
    let (handle, suffix) = (tag.handle.as_str(), tag.suffix.as_str());
    if let Some(core) = suffix.strip_prefix("tag:yaml.org,2002:").filter(|_| handle.is_empty()) {
        return Meaning::Core(core);
    }
    let local = match handle {
        "!" => suffix,
        "" => suffix.strip_prefix('!').unwrap_or("\0"),
        _ if tag.is_yaml_core_schema() => return Meaning::Core(suffix),
        _ => return Meaning::Unknown,
    };
    match local {
        "" => Meaning::Nothing,
        "reset" => Meaning::Directive(Directive::Reset),
        "override" => Meaning::Directive(Directive::Override),
        _ => Meaning::Unknown,
    }
}

/// The types of YAML 1.1 that a tag may name; those of collections change nothing, as any other tag on them.
const CORE: [&str; 14] = [
    "str",
    "null",
    "bool",
    "int",
    "float",
    "timestamp",
    "binary",
    "merge",
    "map",
    "seq",
    "set",
    "omap",
    "pairs",
    "value",
];

/// Tells that a tag changes nothing, as Compose lets stand any tag; it may be a slip of the pen.
pub(super) fn warn_unknown(tag: &Tag, span: &Span, diagnostics: &mut Diagnostics) {
    match meaning(tag) {
        Meaning::Unknown => {}
        Meaning::Core(name) if !CORE.contains(&name) => {}
        _ => return,
    }
    let shown = shown(tag);
    let candidate = suggest(&shown, ["!reset", "!override"]);
    diagnostics
        .push(Diagnostic::warning(format!("the tag `{shown}` means nothing here")).at(span).did_you_mean(candidate));
}

/// Text and type of a scalar with a tag.
pub(super) fn scalar<'t>(
    text: Cow<'t, str>,
    style: ScalarStyle,
    tag: &Tag,
    span: &Span,
) -> Result<(Cow<'t, str>, ScalarKind), Diagnostic> {
    let wanted = match meaning(tag) {
        Meaning::Nothing if style == ScalarStyle::Plain => {
            let kind = scalar::classify(&text);
            return Ok((text, kind));
        }
        Meaning::Core("null") => ScalarKind::Null,
        Meaning::Core("bool") => ScalarKind::Bool,
        Meaning::Core("int") => ScalarKind::Int,
        Meaning::Core("float") => ScalarKind::Float,
        Meaning::Core("timestamp") => ScalarKind::Timestamp,
        Meaning::Core("binary") => {
            let text = decode(&text).and_then(|bytes| String::from_utf8(bytes).ok());
            let wrong = || Diagnostic::error("this is not text in base 64, which its tag `!!binary` says").at(span);
            return Ok((text.ok_or_else(wrong)?.into(), ScalarKind::String));
        }
        _ => return Ok((text, ScalarKind::String)),
    };
    match scalar::classify(&text) {
        ScalarKind::Int if wanted == ScalarKind::Float => Ok((text, wanted)),
        found if found == wanted => Ok((text, wanted)),
        _ => Err(Diagnostic::error(format!("`{text}` is not what its tag `{}` says", shown(tag))).at(span)),
    }
}

/// Base 64 with padding, broken into lines as one likes.
fn decode(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let body = digits.strip_suffix(b"==").or(digits.strip_suffix(b"=")).unwrap_or(&digits);
    if !digits.len().is_multiple_of(4) {
        return None;
    }
    let mut bytes = Vec::with_capacity(body.len() / 4 * 3 + 2);
    for chunk in body.chunks(4) {
        let mut bits = 0_u32;
        for digit in chunk {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        bits <<= 6 * (4 - chunk.len());
        bytes.extend(bits.to_be_bytes()[1..].iter().take(chunk.len() - 1));
    }
    Some(bytes)
}

/// A tag as it is written.
pub(super) fn shown(tag: &Tag) -> String {
    if tag.is_yaml_core_schema() { format!("!!{}", tag.suffix) } else { format!("{}{}", tag.handle, tag.suffix) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_64() {
        for (text, bytes) in
            [("", Some("")), ("aGVsbG8=", Some("hello")), ("aGVs\n bG8h", Some("hello!")), ("aA==", Some("h"))]
        {
            assert_eq!(decode(text).as_deref(), bytes.map(str::as_bytes));
        }
        for wrong in ["a", "aGVsbG8", "a===", "====", "?GVs"] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
    }
}
