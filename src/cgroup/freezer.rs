//! Freezing all processes of a group: `cgroup.freeze` of version 2 (Linux 5.2), which needs no controller, or the freezer
//! controller of version 1.

use std::path::Path;

use super::{
    CgroupError,
    file::{field, read, write},
};

const V2: &str = "cgroup.freeze";
const V1: &str = "freezer.state";

/// Whether the group of this folder can be frozen.
pub(super) fn can_freeze(folder: &Path) -> bool {
    folder.join(V2).exists() || folder.join(V1).exists()
}

/// Asks for it; the processes freeze one by one. To be asked again with version 1, where it may not come to its end.
pub(super) fn freeze(folder: &Path) -> Result<(), CgroupError> {
    let v2 = folder.join(V2);
    if v2.exists() { write(&v2, "1") } else { write(&folder.join(V1), "FROZEN") }
}

/// Whether all of them are frozen.
pub(super) fn is_frozen(folder: &Path) -> bool {
    if folder.join(V2).exists() {
        field(&folder.join("cgroup.events"), "frozen") == Some(1)
    } else {
        read(&folder.join(V1)).as_deref() == Some("FROZEN")
    }
}

/// Lets them go on. Where there is nothing that could be frozen, nothing is done.
pub(super) fn thaw(folder: &Path) {
    let (v2, v1) = (folder.join(V2), folder.join(V1));
    let thawed = if v2.exists() {
        write(&v2, "0")
    } else if v1.exists() {
        write(&v1, "THAWED")
    } else {
        Ok(())
    };
    if let Err(error) = thawed {
        tracing::warn!(%error, "a control group is not thawed");
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn both_versions_are_spoken_to_in_their_words() {
        let dir = tempfile::tempdir().expect("folder");
        let folder = dir.path();
        assert!(!can_freeze(folder));
        thaw(folder);
        fs::write(folder.join(V1), "THAWED").expect("a file");
        assert!(can_freeze(folder) && !is_frozen(folder));
        freeze(folder).expect("frozen");
        assert!(is_frozen(folder));
        fs::write(folder.join(V2), "0").expect("a file");
        fs::write(folder.join("cgroup.events"), "populated 1\nfrozen 0\n").expect("a file");
        freeze(folder).expect("frozen");
        assert_eq!(fs::read_to_string(folder.join(V2)).expect("a file"), "1");
        assert!(!is_frozen(folder), "asked for, and not done yet");
        fs::write(folder.join("cgroup.events"), "populated 1\nfrozen 1\n").expect("a file");
        assert!(is_frozen(folder));
        thaw(folder);
        assert_eq!(fs::read_to_string(folder.join(V2)).expect("a file"), "0");
    }
}
