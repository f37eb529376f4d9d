//! Phase 2, first half: the bytes of a file as text.

use std::{fs::OpenOptions, io::Read, os::unix::fs::OpenOptionsExt, path::Path};

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
        // Without waiting for whoever may write into a pipe.
        let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(fail)?;
        let meta = file.metadata().map_err(fail)?;
        if !meta.is_file() && !meta.is_dir() && path != Path::new("/dev/null") {
            return Err(Diagnostic::error(format!("`{display}` is a pipe or a device, not a file"))
                .hint("`-f -` reads a Compose file from standard input"));
        }
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

/// Bytes as text, if they are UTF-8 without NUL, or UTF-16 with the byte order mark that tells it. The mark is left out.
pub(crate) fn text(order: usize, display: &str, bytes: Vec<u8>) -> Result<SourceFile, Diagnostic> {
    let bytes = match utf16(&bytes) {
        Some(Some(text)) => text.into_bytes(),
        Some(None) => {
            return Err(Diagnostic::error(format!("`{display}` begins as UTF-16 does, and is not UTF-16"))
                .hint("save it as UTF-8"));
        }
        None => bytes,
    };
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
                .hint(if valid.contains('\0') {
                    "it looks like UTF-16: save it as UTF-8"
                } else {
                    "save it as UTF-8"
                }));
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
            let diagnostic =
                Diagnostic::error("the file contains a NUL character, which no text has").at(&file.span(at..at + 1));
            // A character of ASCII beside a NUL: UTF-16 without its mark.
            Err(if at < 2 { diagnostic.hint("it looks like UTF-16: save it as UTF-8") } else { diagnostic })
        }
        None => Ok(file),
    }
}

/// The text of bytes that begin with the byte order mark of UTF-16, as some editors and shells of Windows write it. None
/// inside if it is none.
fn utf16(bytes: &[u8]) -> Option<Option<String>> {
    let unit: fn([u8; 2]) -> u16 = match bytes {
        [0xff, 0xfe, ..] => u16::from_le_bytes,
        [0xfe, 0xff, ..] => u16::from_be_bytes,
        _ => return None,
    };
    let (units, odd) = bytes.as_chunks();
    let units: Vec<u16> = units.iter().skip(1).map(|bytes| unit(*bytes)).collect();
    Some(String::from_utf16(&units).ok().filter(|_| odd.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn utf_16_is_read_if_its_mark_tells_it() {
        let little: Vec<u8> = "\u{feff}a: ü😀".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = "\u{feff}a: ü😀".encode_utf16().flat_map(u16::to_be_bytes).collect();
        for bytes in [little.clone(), big, b"\xef\xbb\xbfa: \xc3\xbc\xf0\x9f\x98\x80".to_vec()] {
            assert_eq!(text(0, "f", bytes).expect("text").text(), "a: ü😀");
        }
        for unmarked in [&little[2..], &little[2..6]] {
            let unmarked = text(0, "f", unmarked.to_vec()).expect_err("NUL").render(false);
            assert!(unmarked.contains("looks like UTF-16"), "{unmarked}");
        }
        let odd = text(0, "f", little[..little.len() - 1].to_vec()).expect_err("odd").render(false);
        assert!(odd.contains("is not UTF-16"), "{odd}");
    }
}
