//! What is wrong with the text of a file, before it is a tree.

use saphyr_parser::ScanError;

use super::{DEEPEST, place::Places, slip};
use crate::diagnostics::{Diagnostic, SourceFile, Span};

/// The first character that YAML has no place for (YAML 1.2.2, 5.1 "Character Set"), of which terminals take some for
/// commands.
pub(super) fn unprintable(file: &SourceFile) -> Option<Diagnostic> {
    let text = file.text();
    let odd = |c: char| {
        matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{7f}'..='\u{84}' | '\u{86}'..='\u{9f}'
            | '\u{fffe}' | '\u{ffff}')
    };
    // Looking at bytes first: most files are without any of these.
    let suspect = |byte: &u8| matches!(byte, 0..=8 | 0xb | 0xc | 0xe..=0x1f | 0x7f | 0xc2 | 0xef);
    // By blocks and without a branch for each byte, which compilers make fast code of.
    let block = |bytes: &[u8]| bytes.iter().fold(false, |any, byte| any | suspect(byte));
    if !text.as_bytes().chunks(4096).any(block) {
        return None;
    }
    let (at, character) = text.char_indices().find(|(_, c)| odd(*c))?;
    let code = u32::from(character);
    let diagnostic = Diagnostic::error(format!("the file contains the control character U+{code:04X}"))
        .at(&file.span(at..at + character.len_utf8()));
    Some(diagnostic.hint(format!("in double quotes it can be written as `\\u{code:04x}`")))
}

pub(super) fn syntax(file: &SourceFile, places: &Places<'_>, error: &ScanError) -> Diagnostic {
    let at = places.byte(error.marker().index());
    let rest = &file.text()[at..];
    if error.info().contains("unknown anchor") {
        let end = rest.find(|c: char| c.is_whitespace() || "[]{},".contains(c)).unwrap_or(rest.len());
        return unknown_anchor(&file.span(at..at + end));
    }
    let span = file.span(at..at + rest.chars().next().map_or(0, char::len_utf8));
    if error.info().contains("recursion limit") {
        return too_deep(&span);
    }
    if let Some(slip) = slip::find(file.text(), at, error.info()) {
        let diagnostic = Diagnostic::error(format!("this is not YAML: {}", slip.message)).at(&file.span(slip.at));
        let diagnostic = match slip.label {
            Some((place, text)) => diagnostic.label(&file.span(place), text),
            None => diagnostic,
        };
        return diagnostic.hint(slip.hint);
    }
    let diagnostic = Diagnostic::error(format!("this is not YAML: {}", error.info().trim_end_matches('.'))).at(&span);
    match hint(file.line(span.position().line)) {
        Some(hint) => diagnostic.hint(hint),
        None => diagnostic,
    }
}

/// How to mend the mistakes that are made most.
fn hint(line: &str) -> Option<&'static str> {
    let flow = line.find(['[', '{']);
    if flow.is_some_and(|at| line[at..].contains("${")) && !line.contains(['"', '\'']) {
        return Some("inside of `[ ]` and `{ }` a variable has to stand in quotes: `\"${NAME}\"`");
    }
    None
}

pub(super) fn unknown_anchor(span: &Span) -> Diagnostic {
    Diagnostic::error(format!("nothing before this place is anchored as `{}`", span.text().trim_start_matches('*')))
        .at(span)
}

pub(super) fn too_deep(span: &Span) -> Diagnostic {
    Diagnostic::error(format!("values are nested deeper than {DEEPEST} levels")).at(span)
}
