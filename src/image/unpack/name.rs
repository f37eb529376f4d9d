//! Names of members.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::PathBuf};

use super::UnpackError;

/// Longest that the path of a file may be (PATH_MAX without the final NUL), so that everybody can name it later.
pub(super) const MAX_PATH: usize = 4095;
/// Longest name that a file system takes (NAME_MAX).
const MAX_COMPONENT: usize = 255;
/// So many folders may be inside each other. Whoever removes a tree holds a descriptor for each, and may have 1024.
pub(super) const MAX_DEPTH: usize = 256;

/// The name in the form that the rest works with: relative to the root of the layer, without `.`, `..` and double slashes;
/// empty for the root. `..` is taken away as text, as Docker does.
pub(super) fn clean(raw: &[u8]) -> Result<Vec<u8>, UnpackError> {
    if raw.is_empty() {
        return Err(UnpackError::name(raw, "it has no name"));
    }
    let mut components: Vec<&[u8]> = Vec::new();
    for component in raw.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                components.pop().ok_or_else(|| UnpackError::name(raw, "it leads out of the layer"))?;
            }
            _ => components.push(component),
        }
    }
    let path = components.join(&b'/');
    check(&path, raw)?;
    Ok(path)
}

/// Whether a path without `.` and `..` can be one of a file.
pub(super) fn check(path: &[u8], raw: &[u8]) -> Result<(), UnpackError> {
    let why = if path.contains(&0) {
        "it has a NUL in it"
    } else if path.len() > MAX_PATH {
        "it is longer than 4095 bytes"
    } else if path.split(|byte| *byte == b'/').any(|component| component.len() > MAX_COMPONENT) {
        "a part of it is longer than 255 bytes"
    } else if path.iter().filter(|byte| **byte == b'/').count() >= MAX_DEPTH {
        "it is more than 256 folders deep"
    } else {
        return Ok(());
    };
    Err(UnpackError::name(raw, why))
}

/// The folder that a clean path is in, and its last component.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

/// `name` in the folder `parent`.
pub(super) fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

/// For messages: a name may be as long as a megabyte.
pub(super) fn shown(name: &[u8]) -> PathBuf {
    OsStr::from_bytes(&name[..name.len().min(MAX_PATH)]).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_relative_and_plain() {
        for (raw, path) in [
            ("a", "a"),
            ("./a/", "a"),
            ("/a//b/./c", "a/b/c"),
            ("a/../b", "b"),
            ("./", ""),
            ("/", ""),
            (".", ""),
            ("a/..", ""),
            ("...", "..."),
        ] {
            assert_eq!(clean(raw.as_bytes()).expect("valid"), path.as_bytes(), "{raw}");
        }
    }

    #[test]
    fn names_that_no_file_can_have_are_refused() {
        let long = "x".repeat(256);
        let deep = "d/".repeat(257);
        let longest = format!("{}/", "y".repeat(200)).repeat(21);
        for raw in ["", "..", "../a", "/..", "a/../..", "a/../../b", "a\0b", &long, &deep, &longest] {
            assert!(clean(raw.as_bytes()).is_err(), "{raw}");
        }
        assert!(clean("d/".repeat(256).as_bytes()).is_ok());
        assert!(clean(&long.as_bytes()[1..]).is_ok());
    }

    #[test]
    fn a_path_has_a_folder_and_a_name() {
        assert_eq!(split(b"a/b/c"), (&b"a/b"[..], &b"c"[..]));
        assert_eq!(split(b"a"), (&b""[..], &b"a"[..]));
        assert_eq!(join(b"", b"a"), b"a");
        assert_eq!(join(b"a", b"b"), b"a/b");
    }
}
