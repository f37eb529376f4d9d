//! `hostname:` and `domainname:`.

use super::{Context, Entry, service::Draft};
use crate::diagnostics::Diagnostic;

/// What the kernel stores of either (`__NEW_UTS_LEN`, uname(2)).
const LONGEST: usize = 64;

pub(super) fn hostname(cx: &mut Context<'_>, entry: &Entry, draft: &mut Draft) {
    draft.service.hostname = read(cx, "hostname", entry);
}

pub(super) fn domainname(cx: &mut Context<'_>, entry: &Entry, draft: &mut Draft) {
    draft.service.domainname = read(cx, "domainname", entry);
}

fn read(cx: &mut Context<'_>, key: &str, entry: &Entry) -> Option<String> {
    let text = cx.string(&format!("`{key}`"), &entry.value)?;
    let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if !text.is_empty() && text.len() <= LONGEST && text.bytes().all(valid) && !text.starts_with(['-', '.']) {
        return Some(text.to_owned());
    }
    cx.push(
        Diagnostic::error(format!("`{text}` is not a {key}"))
            .at(&entry.value.span)
            .hint(format!("use letters, digits, `-`, `.` and `_`, at most {LONGEST} in all")),
    );
    None
}
