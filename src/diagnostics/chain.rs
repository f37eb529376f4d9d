//! An error in one line.

use std::error::Error;

/// What an error says, and what each of its causes does, one after the other: for a log or a warning. A failure lists them instead
/// ([`Failure::caused_by`](super::Failure::caused_by)).
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(&format!(": {source}"));
        next = source.source();
    }
    text
}
