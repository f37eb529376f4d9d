//! `hostname:` and `domainname:`.

use super::{Context, Cursor, said};
use crate::{compose::Text, diagnostics::Diagnostic};

/// What the kernel stores of either (`__NEW_UTS_LEN`, uname(2)).
const LONGEST: usize = 64;

pub(super) fn lower(cx: &mut Context<'_>, key: &str, text: Option<&Text>, at: Cursor<'_>) -> Option<String> {
    valid(cx, key, said(text)?, at.at(key))
}

/// The name, if it is one.
pub(super) fn valid(cx: &mut Context<'_>, key: &str, text: &str, at: Cursor<'_>) -> Option<String> {
    let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if text.len() <= LONGEST && text.bytes().all(valid) && !text.starts_with(['-', '.']) {
        return Some(text.to_owned());
    }
    let wrong = at.here(Diagnostic::error(format!("`{text}` is not a {key}")));
    cx.push(wrong.hint(format!("use letters, digits, `-`, `.` and `_`, at most {LONGEST} in all")));
    None
}
