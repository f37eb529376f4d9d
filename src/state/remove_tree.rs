//! Removing folders whose files may be anybody's.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

/// Removes a folder with all that is in it, if it is there. To root of an account's containers a folder without permissions
/// is no obstacle; with a single id, one that nobody may enter has to be opened first.
///
/// # Errors
/// What unlinkat(2) says; the rest of the folder is in any state then.
pub fn remove_tree(folder: &Path) -> io::Result<()> {
    let absent = |removed: io::Result<()>| match removed {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    match absent(fs::remove_dir_all(folder)) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            make_passable(folder);
            absent(fs::remove_dir_all(folder))
        }
        other => other,
    }
}

fn make_passable(folder: &Path) {
    let _ = fs::set_permissions(folder, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            make_passable(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_that_nobody_may_enter_go_too() {
        let dir = tempfile::tempdir().expect("folder");
        let closed = dir.path().join("a/closed");
        fs::create_dir_all(closed.join("below")).expect("folders");
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).expect("closed");
        remove_tree(&dir.path().join("a")).expect("removed");
        assert!(!dir.path().join("a").exists());
        remove_tree(&dir.path().join("a")).expect("what is not there is removed");
    }
}
