//! Paths of the host, as text: links are not followed, and nothing has to be there.

use std::path::{Path, PathBuf};

use crate::compose::clean;

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
