//! Paths of the host, as text: links are not followed, and nothing has to be there.

use std::path::{Component, Path, PathBuf};

use crate::compose::Folder;

/// A path of the host, absolute: `~` is the home folder, and a relative one starts from the folder. Nothing for the home
/// folder of another user, or of nobody, and for what begins with a variable, which may be absolute.
pub(crate) fn resolve_path(text: &str, folder: &Folder<'_>) -> Option<String> {
    if !folder.paths || (folder.as_written && text.starts_with('$')) {
        return None;
    }
    let path = match text.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => PathBuf::from(format!("{}{rest}", folder.home?)),
        Some(_) => return None,
        None if has_drive(text) => return None,
        None => folder.directory.join(text),
    };
    Some(clean(&path).to_string_lossy().into_owned())
}

/// A path without `.`, `..` and repeated slashes.
pub(super) fn clean(path: &Path) -> PathBuf {
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
pub(crate) fn has_drive(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() > 2 && bytes[0].is_ascii_alphabetic() && bytes[1] == b':' && matches!(bytes[2], b'\\' | b'/')
}

pub(super) fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

pub(super) fn absolute(directory: &Path, path: &Path) -> PathBuf {
    if is_stdin(path) { path.to_owned() } else { clean(&directory.join(path)) }
}

/// A path as people would name it from where they are.
pub(super) fn display(directory: &Path, path: &Path) -> String {
    if is_stdin(path) {
        return "<stdin>".to_owned();
    }
    match path.strip_prefix(directory) {
        Ok(below) if below.as_os_str().is_empty() => ".".to_owned(),
        Ok(below) => below.display().to_string(),
        Err(_) => path.display().to_string(),
    }
}
