//! Phase 2, first half: the bytes of a file as text.

use std::{fs::File, io::Read, path::Path};

use crate::diagnostics::{Diagnostic, SourceFile};

/// No Compose file is this long; a device or a mistake is.
pub(crate) const MOST_BYTES: u64 = 16 * 1024 * 1024;

/// Reads a whole file, `-` being standard input.
pub(crate) fn read(order: usize, path: &Path, display: &str) -> Result<SourceFile, Diagnostic> {
    let fail = |error: std::io::Error| {
        let diagnostic = Diagnostic::error(format!("cannot read `{display}`: {error}"));
        match error.kind() {
            std::io::ErrorKind::NotFound => {
                Diagnostic::error(format!("`{display}` does not exist")).hint(format!("looked for {}", path.display()))
            }
            _ => diagnostic,
        }
    };
    let bytes = if path == Path::new("-") {
        take(&mut std::io::stdin().lock()).map_err(fail)?
    } else {
        let mut file = File::open(path).map_err(fail)?;
        let meta = file.metadata().map_err(fail)?;
        if meta.is_dir() {
            return Err(Diagnostic::error(format!("`{display}` is a folder, not a file"))
                .hint("name the file in it, or go there and name none"));
        }
        if meta.len() > MOST_BYTES {
            return Err(too_long(display));
        }
        take(&mut file).map_err(fail)?
    };
    if bytes.len() as u64 > MOST_BYTES {
        return Err(too_long(display));
    }
    text(order, display, bytes)
}

fn too_long(display: &str) -> Diagnostic {
    Diagnostic::error(format!("`{display}` is longer than {} MiB", MOST_BYTES >> 20))
        .hint("this is hardly a file for nscompose")
}

fn take(from: &mut dyn Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Bytes as text, if they are UTF-8 without NUL. A byte order mark at the beginning is left out.
pub(crate) fn text(order: usize, display: &str, bytes: Vec<u8>) -> Result<SourceFile, Diagnostic> {
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let byte = error.as_bytes()[at];
            let valid = String::from_utf8_lossy(&error.as_bytes()[..at]).into_owned();
            // The excerpt ends where the trouble begins, with a replacement character in the place of the byte.
            let file = SourceFile::new(order, display, format!("{valid}\u{fffd}"));
            return Err(Diagnostic::error(format!("the file is not UTF-8: byte 0x{byte:02x} begins no character"))
                .at(&file.span(at..at + 3))
                .hint("save it as UTF-8"));
        }
    };
    let text = match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    };
    let nul = text.find('\0');
    let file = SourceFile::new(order, display, text);
    match nul {
        Some(at) => {
            Err(Diagnostic::error("the file contains a NUL character, which no text has").at(&file.span(at..at + 1)))
        }
        None => Ok(file),
    }
}
