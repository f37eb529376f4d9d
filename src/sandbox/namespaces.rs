//! Namespaces that outlive the containers in them: made by a helper, held as descriptors by the supervisor.

use std::{
    fs,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use nix::sched::CloneFlags;
use rustix::{
    fs::{Gid, Mode, OFlags, Uid},
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags},
};
use serde::{Deserialize, Serialize};

use super::{
    bring_up::{make, memory},
    error::{BringUpError, BringUpStep},
    init, keeper, sysctl,
};
use crate::{
    model::{Sysctls, TmpfsMount},
    sys::{
        Namespace, NamespaceKind,
        process::{self, Fork},
    },
};

/// What to make.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct NamespaceOrder {
    /// Names the owner, for the folder of its shared memory.
    pub owner: String,
    /// First outside id and number of ids of a new user namespace; none joins the one that comes with the order, and if
    /// none does, stays in the keeper's.
    pub ids: Option<(u32, u32)>,
    /// Make a network namespace.
    pub net: bool,
    /// Make an IPC namespace, and a tmpfs for its /dev/shm.
    pub ipc: bool,
    /// Make a host name namespace with this host name.
    pub hostname: Option<String>,
    /// Size of its /dev/shm in bytes; none is Docker's default.
    pub shm_size: Option<u64>,
    /// NIS domain name in it.
    pub domainname: Option<String>,
    /// Make a pid namespace, with an init that lives until it is killed.
    pub pid: bool,
    /// What is shown of other containers; the mount namespace of each comes with the order.
    pub files: Vec<ForeignFile>,
    /// Settings of the kernel for the network and the IPC namespace.
    pub sysctls: Sysctls,
}

/// Something that a container of another stack sees, to be shown in this one too.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ForeignFile {
    /// Where it is there.
    pub path: PathBuf,
    /// Where it is seen by the keeper and the supervisor.
    pub target: PathBuf,
    /// It is a folder, and else a file.
    pub is_folder: bool,
}

/// Namespaces held by descriptors; each ends when the last of its descriptors and processes has gone.
#[derive(Debug)]
pub struct Pinned {
    namespaces: Vec<Namespace>,
    init: Option<i32>,
}

impl Pinned {
    pub(super) fn new(namespaces: impl IntoIterator<Item = Namespace>, init: Option<i32>) -> Self {
        Self { namespaces: namespaces.into_iter().collect(), init }
    }

    /// Holds one more, which was not made here.
    pub fn hold(&mut self, namespace: Namespace) {
        self.namespaces.push(namespace);
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Namespace> {
        self.namespaces.iter()
    }

    /// The namespace of this kind, if it was made.
    pub fn get(&self, kind: NamespaceKind) -> Option<&Namespace> {
        self.namespaces.iter().find(|namespace| namespace.kind() == kind)
    }

    /// The init of the pid namespace, in the pid namespace of the supervisor.
    pub fn init(&self) -> Option<i32> {
        self.init
    }
}

/// What the helper made, as descriptors.
pub(super) struct Made {
    pub(super) namespaces: Vec<(NamespaceKind, OwnedFd)>,
    pub(super) init: Option<i32>,
}

impl Made {
    /// Lets go of what `order` has made: nobody will know of it.
    pub(super) fn undo(self, order: &NamespaceOrder, private: &Path) {
        if let Some(init) = self.init {
            // The keeper has not collected it yet.
            let _ = process::signal(init, libc::SIGKILL);
        }
        if order.ipc {
            forget_shared_memory(private, &order.owner);
        }
        drop(Mounted(order.files.iter().map(|file| file.target.clone()).collect()));
    }
}

/// Docker's default size of /dev/shm.
const SHM_SIZE: u64 = 64 * 1024 * 1024;

/// Where the shared memory of a service's IPC namespace is, seen by the supervisor and the keeper only.
pub fn shared_memory(private: &Path, owner: &str) -> PathBuf {
    private.join("shm").join(owner)
}

/// Lets go of the shared memory of an IPC namespace; containers that still see it keep it.
pub fn forget_shared_memory(private: &Path, owner: &str) {
    let _ = rustix::mount::unmount(shared_memory(private, owner), UnmountFlags::DETACH);
}

/// `fds` are the user namespace to join, if there is one, and the mount namespaces that [`NamespaceOrder::files`] are in.
pub(super) fn create(order: &NamespaceOrder, mut fds: Vec<OwnedFd>, private: &Path) -> Result<Made, BringUpError> {
    let Some(users) = fds.len().checked_sub(order.files.len()) else {
        return Err(
            BringUpStep::Internal("read an order".into()).failed(std::io::Error::from_raw_os_error(libc::EPROTO))
        );
    };
    let mounts = fds.split_off(users);
    let mut made = Mounted::default();
    if order.ipc {
        let folder = shared_memory(private, &order.owner);
        mount_shm(&folder, order.shm_size.unwrap_or(SHM_SIZE)).map_err(|e| BringUpStep::SharedMemory.failed(e))?;
        made.0.push(folder);
    }
    for (file, mount) in order.files.iter().zip(&mounts) {
        show(file, mount)?;
        made.0.push(file.target.clone());
    }
    let namespaces = create_namespaces(order, fds.into_iter().next())?;
    made.0.clear();
    Ok(namespaces)
}

/// Mounts of something that may yet not come about.
#[derive(Default)]
struct Mounted(Vec<PathBuf>);

impl Drop for Mounted {
    fn drop(&mut self) {
        for target in &self.0 {
            let _ = rustix::mount::unmount(target, UnmountFlags::DETACH);
        }
    }
}

/// Shows what a container of another stack sees. Only within its mount namespace can it be cloned (open_tree(2)), and only
/// root of the machine may enter that from here.
fn show(file: &ForeignFile, mount: &OwnedFd) -> Result<(), BringUpError> {
    let failed = |e: std::io::Error| BringUpStep::MountSource(file.path.clone()).failed(e);
    let clone = || -> Result<_, BringUpError> {
        nix::sched::setns(mount, CloneFlags::CLONE_NEWNS)
            .map_err(|e| BringUpStep::Join(NamespaceKind::Mnt.proc_name().into()).failed(e))?;
        // Whatever the container has put there: it sees it already, and so may whoever shares it.
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
        let tree = rustix::mount::open_tree(rustix::fs::CWD, &file.path, flags).map_err(|e| failed(e.into()))?;
        Ok(((), vec![tree]))
    };
    let ((), trees) = keeper::helper(CloneFlags::empty(), None, |_| Ok(()), clone)?;
    let tree = trees.into_iter().next().ok_or_else(|| failed(std::io::Error::from_raw_os_error(libc::EPROTO)))?;
    let attach = || -> std::io::Result<()> {
        let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&tree)?.st_mode);
        match (file.is_folder, kind) {
            (true, rustix::fs::FileType::Directory) => fs::create_dir_all(&file.target)?,
            (false, rustix::fs::FileType::RegularFile) => {
                fs::create_dir_all(file.target.parent().unwrap_or(&file.target))?;
                fs::File::create(&file.target)?;
            }
            _ => return Err(std::io::Error::from_raw_os_error(libc::EINVAL)),
        }
        attach_at(&tree, &file.target)
    };
    attach().map_err(failed)
}

fn create_namespaces(order: &NamespaceOrder, user: Option<OwnedFd>) -> Result<Made, BringUpError> {
    let wanted = [
        (order.ids.is_some(), NamespaceKind::User),
        (order.net, NamespaceKind::Net),
        (order.ipc, NamespaceKind::Ipc),
        (order.hostname.is_some(), NamespaceKind::Uts),
    ];
    let kinds: Vec<NamespaceKind> = wanted.iter().filter(|(make, _)| *make).map(|(_, kind)| *kind).collect();
    let flags: CloneFlags = kinds.iter().map(|kind| kind.clone_flag()).collect();

    let write_maps = |pid: i32| -> Result<(), BringUpError> {
        let Some((outside, count)) = order.ids else { return Ok(()) };
        for map in ["uid_map", "gid_map"] {
            let ours = fs::read_to_string(format!("/proc/self/{map}"));
            let written = ours.and_then(|ours| fs::write(format!("/proc/{pid}/{map}"), extents(&ours, outside, count)));
            written.map_err(|e| BringUpStep::MapIds.failed(e))?;
        }
        Ok(())
    };
    let inside = |joined: Option<&OwnedFd>| -> Result<Vec<OwnedFd>, BringUpError> {
        if let Some(user) = joined {
            join_user(user)?;
            nix::sched::unshare(flags).map_err(|e| BringUpStep::MakeNamespaces.failed(e))?;
        } else {
            become_root()?;
        }
        if let Some(name) = &order.hostname {
            nix::unistd::sethostname(name).map_err(|e| BringUpStep::HostName(name.clone()).failed(e))?;
        }
        if let Some(name) = &order.domainname {
            rustix::system::setdomainname(name.as_bytes())
                .map_err(|e| BringUpStep::HostName(name.clone()).failed(e))?;
        }
        sysctl::write(&order.sysctls)?;
        kinds
            .iter()
            .map(|kind| {
                let fd = Namespace::of_thread(*kind).and_then(|namespace| namespace.as_fd().try_clone_to_owned());
                fd.map_err(|e| BringUpStep::Internal(format!("open the {} namespace", kind.proc_name())).failed(e))
            })
            .collect()
    };

    let (init, fds): (Option<i32>, Vec<OwnedFd>) = match (&user, order.pid) {
        (None, false) => keeper::helper(flags, None, write_maps, || Ok((None, inside(None)?)))?,
        (Some(user), false) => {
            keeper::helper(CloneFlags::empty(), None, |_| Ok(()), || Ok((None, inside(Some(user))?)))?
        }
        // The first process of a pid namespace has to be made by one that is in the user namespace already, and has to be
        // the keeper's own child, so that its end is seen.
        (user, true) => {
            let first = if user.is_some() { CloneFlags::empty() } else { flags };
            let work = || {
                let mut fds = inside(user.as_ref())?;
                nix::sched::unshare(CloneFlags::CLONE_NEWPID).map_err(|e| BringUpStep::MakeNamespaces.failed(e))?;
                match process::fork(CloneFlags::CLONE_PARENT, None)
                    .map_err(|e| BringUpStep::MakeNamespaces.failed(e))?
                {
                    Fork::Child => init::hold(),
                    Fork::Parent(child) => {
                        // That of our children and not that of the child: looking into another process is refused after a
                        // change of user (ptrace(2), dumpable).
                        let pid = Namespace::of_children().and_then(|namespace| namespace.as_fd().try_clone_to_owned());
                        let pid = pid.inspect_err(|_| {
                            let _ = child.pidfd.signal(libc::SIGKILL);
                        });
                        fds.push(pid.map_err(|e| BringUpStep::Internal("open the pid namespace".into()).failed(e))?);
                        Ok((Some(child.pid), fds))
                    }
                }
            };
            // Until the keeper collects it, its number means no other.
            let kill = |init: Option<i32>| init.into_iter().for_each(|pid| drop(process::signal(pid, libc::SIGKILL)));
            keeper::helper_that_undoes(first, None, write_maps, work, kill)?
        }
    };
    let kinds = kinds.into_iter().chain(order.pid.then_some(NamespaceKind::Pid));
    Ok(Made { namespaces: kinds.zip(fds).collect(), init })
}

/// The lines that map ids from 0 on to `count` ids of ours from `outside` on. The kernel takes no line that is not within a
/// single line of our own map (user_namespaces(7)), so they are split where ours are.
pub(super) fn extents(ours: &str, outside: u32, count: u32) -> String {
    let lines = ours.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace().map(|field| field.parse::<u64>().ok());
        let (first, _, length) = (fields.next()??, fields.next()?, fields.next()??);
        let (from, to) = (first.max(u64::from(outside)), (first + length).min(u64::from(outside) + u64::from(count)));
        (from < to).then(|| format!("{} {from} {}\n", from - u64::from(outside), to - from))
    });
    lines.collect()
}

/// Enters a user namespace and becomes its root.
pub(super) fn join_user(user: &OwnedFd) -> Result<(), BringUpError> {
    nix::sched::setns(user, CloneFlags::CLONE_NEWUSER)
        .map_err(|e| BringUpStep::Join(NamespaceKind::User.proc_name().into()).failed(e))?;
    become_root()
}

/// Becomes root of the user namespace that the caller is in: it came with ids that mean nobody there, and whoever is nobody
/// cannot make files (EOVERFLOW).
fn become_root() -> Result<(), BringUpError> {
    let failed = |e: rustix::io::Errno| BringUpStep::BecomeUser("root".into()).failed(e);
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).map_err(failed)?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).map_err(failed)?;
    // Groups of the caller are not the container's; with a single id they cannot be dropped and are nobody's anyway.
    match rustix::thread::set_thread_groups(&[]) {
        Ok(()) | Err(rustix::io::Errno::PERM) => Ok(()),
        Err(e) => Err(failed(e)),
    }
}

/// Mounts files in memory on `folder`, for the supervisor and the keeper to see; ids are those of the stack's user namespace.
///
/// # Errors
/// What fsconfig(2) and move_mount(2) say.
pub fn mount_memory(folder: &Path, tmpfs: &TmpfsMount) -> std::io::Result<()> {
    let (options, attributes) = memory(tmpfs);
    let mount = make("tmpfs", &options, attributes)?;
    let at = rustix::fs::open(folder, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(&mount, "", &at, "", flags)?)
}

fn mount_shm(folder: &Path, size: u64) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    let fs = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&fs, "mode", "1777")?;
    rustix::mount::fsconfig_set_string(&fs, "size", size.to_string())?;
    rustix::mount::fsconfig_create(&fs)?;
    let attributes =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount = rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    attach_at(&mount, folder)
}

fn attach_at(mount: &OwnedFd, place: &Path) -> std::io::Result<()> {
    let at = rustix::fs::open(place, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, "", &at, "", flags)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_split_where_ours_are() {
        assert_eq!(extents("0 0 4294967295\n", 1_073_741_824, 65_536), "0 1073741824 65536\n");
        assert_eq!(extents("0 1000 1\n1 100000 65536\n", 0, 65_537), "0 0 1\n1 1 65536\n");
        assert_eq!(extents("0 1000 1\n1 100000 65536\n", 0, 1), "0 0 1\n");
        assert_eq!(extents("0 0 10\n", 20, 5), "");
    }
}
