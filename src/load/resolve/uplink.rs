//! `x-nscompose:`, what the Compose Specification has no word for.

use super::{Context, Cursor};
use crate::{diagnostics::Diagnostic, model::UplinkWish};

/// The key at the top level.
const KEY: &str = "x-nscompose";

/// The way out that the file asks for: `x-nscompose: {uplink: none}` wants none.
pub(super) fn lower(cx: &mut Context<'_>, root: Cursor<'_>) -> UplinkWish {
    let Some(at) = root.get(KEY).filter(|at| !at.node.is_null()) else { return UplinkWish::Auto };
    if at.node.entries().is_none() {
        cx.push(at.here(Diagnostic::error(format!("`{KEY}` is not a mapping"))).hint("write `uplink: none` below it"));
        return UplinkWish::Auto;
    }
    let mut wish = UplinkWish::Auto;
    for (key, at) in at.entries() {
        if key != "uplink" {
            let unknown = Diagnostic::error(format!("`{KEY}` has no key `{key}`"));
            cx.push(at.at_key(unknown).hint("its one key is `uplink`"));
            continue;
        }
        match at.node.scalar().map(|scalar| &*scalar.text) {
            Some("auto") => {}
            Some("none") => wish = UplinkWish::None,
            other => {
                let said = other.map_or("this".to_owned(), |text| format!("`{text}`"));
                let wrong = Diagnostic::error(format!("{said} is not an uplink"));
                cx.push(at.here(wrong).hint("use `auto` or `none`"));
            }
        }
    }
    wish
}
