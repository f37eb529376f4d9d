//! Folders of volumes, and what a new one gets.
//!
//! A volume is new as long as it is empty. While the first container fills it there is an empty file beside it, which that
//! container writes to when it is done: what was cut off is known by it and begun anew, even after `kill -9`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, flock},
    mount::UnmountFlags,
};

use super::{ExecutorError, Stack, operation::create_folder};
use crate::{
    model::{Volume, VolumeName, VolumeSource},
    sandbox::{Give, NewVolume, mount_memory},
    state::remove_tree,
};

/// Makes a named volume where there is none.
pub(super) fn create(name: &VolumeName, volume: &Volume, stack: &Stack) -> Result<(), ExecutorError> {
    let path = stack.layout.volume(name, volume);
    let failed = |what: &'static str| {
        let path = path.clone();
        move |source| ExecutorError::Volume { volume: name.clone(), what, path, source }
    };
    match &volume.source {
        VolumeSource::Kept if volume.external && !path.is_dir() => {
            Err(ExecutorError::NoVolume { volume: name.clone(), whole: stack.layout.whole_name(name, volume) })
        }
        VolumeSource::Kept => create_folder(&path).map_err(failed("make")),
        // It is the host's, and not ours to make.
        VolumeSource::Folder(_) if !path.is_dir() => {
            let kind = if path.exists() { io::ErrorKind::NotADirectory } else { io::ErrorKind::NotFound };
            Err(failed("find")(kind.into()))
        }
        VolumeSource::Folder(_) => Ok(()),
        // Made once in the life of a stack.
        VolumeSource::Memory(_) if is_mount_point(&path) => Ok(()),
        VolumeSource::Memory(tmpfs) => {
            create_folder(&path).and_then(|()| mount_memory(&path, tmpfs)).map_err(failed("mount files in memory on"))
        }
    }
}

/// Whether something is mounted there, and it is not only the folder that a supervisor made before it died.
fn is_mount_point(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| fs::symlink_metadata(path).map(|meta| meta.dev()).ok();
    device(path).is_some_and(|own| path.parent().and_then(device) != Some(own))
}

/// Removes a named volume, unless another stack has it mounted.
pub(super) fn remove(name: &VolumeName, volume: &Volume, stack: &Stack) -> Result<bool, ExecutorError> {
    let folder = stack.volume(name, volume);
    let failed =
        |source| ExecutorError::Volume { volume: name.clone(), what: "remove", path: folder.path.clone(), source };
    match &volume.source {
        // What is in it is the host's.
        VolumeSource::Folder(_) => absent(fs::remove_file(&folder.marker)).map_err(failed)?,
        VolumeSource::Memory(_) => {
            let _ = rustix::mount::unmount(&folder.path, UnmountFlags::DETACH);
            absent(fs::remove_dir(&folder.path)).map_err(failed)?;
        }
        VolumeSource::Kept => {
            let held = match fs::File::open(&folder.path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => None,
                // One that its owner may not read is held by nobody either: holding it is reading it.
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => None,
                other => Some(other.map_err(failed)?),
            };
            if held.as_ref().is_some_and(|held| flock(held, FlockOperation::NonBlockingLockExclusive).is_err()) {
                return Ok(false);
            }
            folder.remove().map_err(failed)?;
        }
    }
    Ok(true)
}

/// A volume and the file that tells whether it is complete.
#[derive(Debug, Clone)]
pub(super) struct VolumeFolder {
    pub(super) path: PathBuf,
    pub(super) marker: PathBuf,
}

impl VolumeFolder {
    /// Whether it is new, or may be: only then [`VolumeFolder::prepare`] has anything to do.
    pub(super) fn may_be_new(&self) -> bool {
        self.marker.exists() || is_empty(&self.path)
    }

    /// Makes the folder where there is none, and says what it gets if it is new. What is wanted is a copy of what the
    /// image has, and that it belongs to the user of the container. Nobody else may be preparing or filling it.
    pub(super) fn prepare(&self, copy_up: bool, give: Option<Give>) -> io::Result<Option<NewVolume>> {
        create_folder(&self.path)?;
        match fs::read(&self.marker) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
            Ok(text) => {
                if text.is_empty() {
                    empty(&self.path)?;
                }
                fs::remove_file(&self.marker)?;
            }
        }
        if !is_empty(&self.path) {
            return Ok(None);
        }
        if copy_up {
            fs::write(&self.marker, "")?;
        }
        Ok(Some(NewVolume { copy_up: copy_up.then(|| self.marker.clone()), give }))
    }

    /// Keeps other stacks from removing it, for as long as the file is open.
    pub(super) fn hold(&self) -> Option<fs::File> {
        let folder = fs::File::open(&self.path).ok()?;
        flock(&folder, FlockOperation::NonBlockingLockShared).is_ok().then_some(folder)
    }

    /// Takes the marker away if the volume is complete; else the next one has to see it.
    pub(super) fn settle(&self) {
        if fs::metadata(&self.marker).is_ok_and(|marker| marker.len() > 0) {
            let _ = fs::remove_file(&self.marker);
        }
    }

    /// Removes it, with all that is in it.
    pub(super) fn remove(&self) -> io::Result<()> {
        remove_tree(&self.path)?;
        // Last: as long as it is there, the rest does not count.
        absent(fs::remove_file(&self.marker))
    }
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none())
}

fn empty(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn absent(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_that_was_cut_off_is_new_again() {
        let dir = tempfile::tempdir().expect("folder");
        let volume = VolumeFolder { path: dir.path().join("volume"), marker: dir.path().join(".volume.new") };
        assert!(volume.may_be_new());
        let new = volume.prepare(true, None).expect("made").expect("new");
        assert_eq!(new.copy_up.as_ref(), Some(&volume.marker));
        // Cut off in the middle.
        fs::create_dir_all(volume.path.join("half/way")).expect("folder");
        volume.settle();
        assert!(volume.may_be_new());
        assert!(volume.prepare(true, None).expect("made").is_some());
        assert!(!volume.path.join("half").exists());
        // Complete, and killed before it was settled.
        fs::write(volume.path.join("whole"), "").expect("file");
        fs::write(&volume.marker, "complete").expect("file");
        assert!(volume.prepare(true, None).expect("made").is_none());
        assert!(volume.path.join("whole").exists() && !volume.may_be_new() && !volume.marker.exists());
    }

    #[test]
    fn what_is_not_to_be_copied_has_no_marker() {
        let dir = tempfile::tempdir().expect("folder");
        let volume = VolumeFolder { path: dir.path().join("volume"), marker: dir.path().join(".volume.new") };
        let new = volume.prepare(false, Some(Give::Always)).expect("made").expect("new");
        assert!(new.copy_up.is_none() && new.give == Some(Give::Always) && !volume.marker.exists());
        volume.remove().expect("removed");
        assert!(!volume.path.exists());
    }
}
