//! Control groups (cgroups(7)): one per container, so that what belongs to it is known and can be killed as one.
//!
//! ```text
//! pure v2      /sys/fs/cgroup            nscompose/PROJECT.DIGEST/SERVICE
//! hybrid       /sys/fs/cgroup/unified    nscompose/PROJECT.DIGEST/SERVICE
//! v1 only      none
//! ```
//!
//! An ordinary user has groups where the one it is in has been delegated, that is, can be written to; else it has none.
//! Limits are not here yet. Callers see [`Hierarchy`] and [`Group`] and never a path of a hierarchy.

use std::{
    ffi::OsStr,
    fs, io,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt, fs::PermissionsExt},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags};
use sha2::{Digest, Sha256};

use crate::model::{ProjectName, ServiceName};

/// Name of the group that the groups of all stacks are in.
const ALL_STACKS: &str = "nscompose";

/// Which hierarchies this host has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where cgroup2 is mounted.
    unified: Option<PathBuf>,
    /// There is nothing but cgroup2.
    pure: bool,
    /// The group that the calling process is in, below `unified`.
    own: PathBuf,
}

impl Hierarchy {
    /// Looks at /proc/self/mountinfo and /proc/self/cgroup.
    pub fn detect() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self::parse(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
    }

    fn parse(mountinfo: &str, cgroup: &str) -> Self {
        let mount_of = |line: &str, wanted: &str| -> Option<PathBuf> {
            let (before, after) = line.split_once(" - ")?;
            (after.split(' ').next() == Some(wanted)).then(|| before.split(' ').nth(4).map(PathBuf::from))?
        };
        let unified = mountinfo.lines().find_map(|line| mount_of(line, "cgroup2"));
        let v1 = mountinfo.lines().any(|line| mount_of(line, "cgroup").is_some());
        let own = cgroup.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
        Self { pure: unified.is_some() && !v1, unified, own: PathBuf::from(own) }
    }

    /// Whether a container can have /sys/fs/cgroup as cgroup2.
    pub fn is_pure_v2(&self) -> bool {
        self.pure
    }

    /// The group of a stack, made if it can be; none where this account may not make one. `root` is whether it belongs to
    /// root of the machine, and `place` tells stacks of the same name apart that are kept in different places.
    pub fn stack(&self, project: &ProjectName, place: &Path, root: bool) -> Option<StackGroup> {
        let unified = self.unified.as_ref()?;
        let base = if root { unified.clone() } else { unified.join(&self.own) };
        let parent = base.join(ALL_STACKS);
        let digest = Sha256::digest(place.as_os_str().as_bytes());
        let path = parent.join(format!("{project}.{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2]));
        match make_folder(&parent).and_then(|()| make_folder(&path)) {
            Ok(()) => Some(StackGroup { path }),
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "no control group");
                None
            }
        }
    }
}

/// Makes a group that everybody may look into, whatever the umask: root of a container, who is somebody else outside, walks
/// there when it mounts its own part of the hierarchy.
fn make_folder(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(e),
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(0o755)),
    }
}

/// The group that the groups of a stack's containers are in.
#[derive(Debug, Clone)]
pub struct StackGroup {
    path: PathBuf,
}

impl StackGroup {
    /// Makes the group of a container.
    ///
    /// # Errors
    /// What mkdir(2) says.
    pub fn create(&self, service: &ServiceName) -> io::Result<Group> {
        make_folder(&self.path)?;
        let path = self.path.join(service.as_str());
        make_folder(&path)?;
        Ok(Group { path })
    }

    /// Removes it, and the one that all stacks are in if this was the last.
    ///
    /// # Errors
    /// EBUSY while there are groups or processes in it.
    pub fn remove(&self) -> io::Result<()> {
        remove(&self.path)?;
        remove_if_last(&self.path);
        Ok(())
    }

    /// Its folder, to be written down.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The group of a container.
#[derive(Debug)]
pub struct Group {
    path: PathBuf,
}

impl Group {
    /// The folder as a descriptor, as clone3(2) takes it.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn open(&self) -> io::Result<OwnedFd> {
        Ok(rustix::fs::open(&self.path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// Kills every process in it (cgroup.kill, Linux 5.14).
    ///
    /// # Errors
    /// What write(2) says.
    pub fn kill(&self) -> io::Result<()> {
        fs::write(self.path.join("cgroup.kill"), "1")
    }

    /// Removes it. The last process may be dying still.
    ///
    /// # Errors
    /// EBUSY while there are processes in it.
    pub fn remove(&self) -> io::Result<()> {
        remove(&self.path)
    }

    /// Its folder, to be written down.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Removes a group by its folder, as written down earlier; one that is gone is fine.
///
/// # Errors
/// EBUSY while there are processes in it.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Removes the group that all stacks are in, if that of the stack which was in `path` was the last.
pub fn remove_if_last(path: &Path) {
    if let Some(parent) = path.parent().filter(|parent| parent.file_name() == Some(OsStr::new(ALL_STACKS))) {
        let _ = fs::remove_dir(parent);
    }
}

/// Kills every process of a group by its folder, as written down earlier.
pub fn kill(path: &Path) {
    let _ = fs::write(path.join("cgroup.kill"), "1");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_told_apart() {
        let v2 = "30 1 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let pure = Hierarchy::parse(v2, "0::/user.slice/session-1.scope\n");
        assert!(pure.is_pure_v2());
        assert_eq!(pure.own, Path::new("user.slice/session-1.scope"));
        let hybrid = "31 1 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
            32 1 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let hybrid = Hierarchy::parse(hybrid, "2:cpu:/\n0::/\n");
        assert!(!hybrid.is_pure_v2());
        assert_eq!(hybrid.unified.as_deref(), Some(Path::new("/sys/fs/cgroup/unified")));
        let v1 = Hierarchy::parse("31 1 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n", "2:cpu:/\n");
        assert_eq!(v1.unified, None);
    }
}
