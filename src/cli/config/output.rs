//! Where what is written goes: standard output, or a file that is replaced as a whole.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::Path,
};

use crate::{diagnostics::Failure, ui::Printer};

/// Writes a text to a file, a relative one from `directory`, or to standard output.
pub(super) fn write(text: &str, to: Option<&Path>, directory: &Path, printer: Printer) -> Result<(), Failure> {
    let Some(path) = to else { return printer.data(text) };
    let failed = |e: io::Error| Failure::operation(format!("cannot write {}", path.display())).caused_by(&e);
    replace(&directory.join(path), text).map_err(failed)
}

/// Nobody sees half of it, and what was there stays if it cannot be written.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    // A link stays one: what it leads to is replaced.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let old = fs::metadata(&path).ok();
    if old.as_ref().is_some_and(|old| !old.is_file()) {
        // A device or a pipe; a folder says that it is one.
        return OpenOptions::new().write(true).open(&path)?.write_all(text.as_bytes());
    }
    let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?.to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&temporary)?;
        if let Some(old) = &old {
            file.set_permissions(old.permissions())?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_file_is_replaced_and_keeps_its_permissions_and_links() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        replace(&file, "one").expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("permissions");
        symlink("file", &link).expect("a link");
        replace(&link, "two").expect("written");
        assert_eq!(fs::read_to_string(&file).expect("there"), "two");
        assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 2, "nothing is left");
        assert!(replace(folder.path(), "x").is_err());
        assert!(replace(&folder.path().join("no/file"), "x").is_err());
    }
}
