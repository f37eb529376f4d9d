//! Paths of the host, as text: links are not followed, and nothing has to be there.

use std::path::{Path, PathBuf};

use crate::{compose::clean, diagnostics::Diagnostic};

pub(super) fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

pub(super) fn absolute(directory: &Path, path: &Path) -> PathBuf {
    if is_stdin(path) { path.to_owned() } else { clean(&directory.join(path)) }
}

/// What there is to say of a path that is none, but somewhere in the network: nothing is fetched.
pub(super) fn remote(text: &str) -> Option<Diagnostic> {
    let scheme = ["https://", "http://", "git://", "ssh://", "oci://"].iter().any(|scheme| text.starts_with(scheme));
    let remote = scheme || (text.starts_with("git@") && text.contains(':'));
    remote.then(|| {
        Diagnostic::error(format!("`{text}` is remote, and nothing is fetched from elsewhere"))
            .hint("fetch it yourself, as with `git clone`, and name the file")
    })
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
