//! Paths of the host, as text: links are not followed, and nothing has to be there.

use std::path::{Component, Path, PathBuf};

use super::Folder;

/// A path of the host, absolute: `~` is the home folder, and a relative one starts from the folder. Nothing for the home
/// folder of another user, or of nobody, and for what begins with a variable, which may be absolute.
pub(crate) fn resolve_path(text: &str, folder: &Folder<'_>) -> Option<String> {
    if !folder.paths || (folder.as_written && text.starts_with('$')) {
        return None;
    }
    let path = match text.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => PathBuf::from(format!("{}{rest}", folder.home?)),
        Some(_) => return None,
        None if has_drive(text) || text.starts_with(r"\\") => return None,
        // As Compose does it: what is absolute stays as it is written.
        None if text.starts_with('/') => return None,
        None => folder.directory.join(text),
    };
    if path.as_os_str().is_empty() {
        return None;
    }
    Some(clean(&path).to_string_lossy().into_owned())
}

/// A path without `.`, `..` and repeated slashes.
pub(crate) fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    clean
}

/// A drive letter of Windows at the beginning: the path is absolute, on some other machine.
fn has_drive(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() > 2 && bytes[0].is_ascii_alphabetic() && bytes[1] == b':' && matches!(bytes[2], b'\\' | b'/')
}
