//! Files of variables with `format: raw`: what stands behind `=` is the value, to the last blank and quote.

use super::dotenv::Statements;
use crate::diagnostics::{Diagnostic, Diagnostics, SourceFile};

/// Compose refuses longer lines.
const LONGEST_LINE: usize = 65_535;

/// Finds the statements of a file. What is wrong with them goes to `diagnostics`.
pub(crate) fn read(file: &SourceFile, diagnostics: &mut Diagnostics) -> Statements {
    let mut statements = Statements::new(file);
    let mut next = 0;
    for line in file.text().split('\n') {
        let start = next;
        next += line.len() + 1;
        if line.len() > LONGEST_LINE {
            diagnostics.push(
                Diagnostic::error(format!("the line is longer than {LONGEST_LINE} bytes"))
                    .at(&file.span(start..start + 1))
                    .hint("without `format: raw`, a line may be longer"),
            );
            continue;
        }
        let line = line.strip_suffix('\r').unwrap_or(line);
        let text = line.trim_start();
        let start = start + line.len() - text.len();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        let place = start..start + name.len();
        if name.is_empty() || name.contains([' ', '\t']) {
            let message = match name {
                "" => "the variable has no name".to_owned(),
                _ => "the name of a variable has no blanks in it".to_owned(),
            };
            diagnostics.push(
                Diagnostic::error(message)
                    .at(&file.span(start..start + name.len().max(1)))
                    .hint("with `format: raw`, a line is `NAME=value` with nothing around the name"),
            );
            continue;
        }
        match value {
            None => statements.inherit(name, place),
            Some("") => statements.set(name, String::new(), place),
            Some(value) => {
                let start = place.end + 1;
                statements.set(name, value.to_owned(), start..start + value.len());
            }
        }
    }
    statements
}
