//! Namespaces as descriptors: whoever holds one keeps the namespace alive and can enter it (namespaces(7)).

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    path::Path,
    thread,
};

use nix::sched::{CloneFlags, setns};
use serde::{Deserialize, Serialize};

/// The kinds of namespace that nscompose makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NamespaceKind {
    /// User and group ids (user_namespaces(7)).
    User,
    /// Process ids (pid_namespaces(7)).
    Pid,
    /// Network devices, addresses, ports (network_namespaces(7)).
    Net,
    /// System V IPC and POSIX message queues (ipc_namespaces(7)).
    Ipc,
    /// Mounts (mount_namespaces(7)).
    Mnt,
    /// Host and domain name (uts_namespaces(7)).
    Uts,
    /// Control group root (cgroup_namespaces(7)).
    Cgroup,
}

impl NamespaceKind {
    /// Its name below /proc/PID/ns.
    pub fn proc_name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Pid => "pid",
            Self::Net => "net",
            Self::Ipc => "ipc",
            Self::Mnt => "mnt",
            Self::Uts => "uts",
            Self::Cgroup => "cgroup",
        }
    }

    /// That of a name below /proc/PID/ns.
    pub fn of_proc_name(name: &str) -> Option<Self> {
        let all = [Self::User, Self::Pid, Self::Net, Self::Ipc, Self::Mnt, Self::Uts, Self::Cgroup];
        all.into_iter().find(|kind| kind.proc_name() == name)
    }

    /// The flag that makes one with clone3(2) or unshare(2).
    pub fn clone_flag(self) -> CloneFlags {
        match self {
            Self::User => CloneFlags::CLONE_NEWUSER,
            Self::Pid => CloneFlags::CLONE_NEWPID,
            Self::Net => CloneFlags::CLONE_NEWNET,
            Self::Ipc => CloneFlags::CLONE_NEWIPC,
            Self::Mnt => CloneFlags::CLONE_NEWNS,
            Self::Uts => CloneFlags::CLONE_NEWUTS,
            Self::Cgroup => CloneFlags::CLONE_NEWCGROUP,
        }
    }
}

/// The inode of the namespace that a process is in, or, without one, the calling thread: what tells it from others for as
/// long as it lives (namespaces(7)).
///
/// # Errors
/// What readlink(2) says; EACCES or EPERM when the process is not ours to look into.
pub fn inode_of(pid: Option<i32>, kind: NamespaceKind) -> io::Result<u64> {
    let of = pid.map_or_else(|| "thread-self".to_owned(), |pid| pid.to_string());
    let link = std::fs::read_link(format!("/proc/{of}/ns/{}", kind.proc_name()))?;
    let inode = link.to_str().and_then(|link| link.split_once('[')?.1.strip_suffix(']')?.parse().ok());
    inode.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The host name that a process sees. Its namespace is entered for it, by a thread that ends then.
///
/// # Errors
/// What open(2) says of the namespace, and setns(2): EPERM without rights over it.
pub fn host_name_of(pid: i32) -> io::Result<String> {
    let namespace = Namespace::of_process(pid, NamespaceKind::Uts)?;
    on_new_thread(|| {
        namespace.enter()?;
        nix::unistd::gethostname()?.into_string().map_err(|_| io::ErrorKind::InvalidData.into())
    })
}

/// A namespace kept alive by this descriptor.
#[derive(Debug)]
pub struct Namespace {
    kind: NamespaceKind,
    fd: OwnedFd,
}

impl Namespace {
    /// The namespace of `kind` that process `pid` is in.
    ///
    /// # Errors
    /// What open(2) says; EACCES or EPERM when the process is not ours to look into (ptrace access mode, proc(5)).
    pub fn of_process(pid: i32, kind: NamespaceKind) -> io::Result<Self> {
        Self::open(kind, Path::new(&format!("/proc/{pid}/ns/{}", kind.proc_name())))
    }

    /// The namespace of `kind` that the calling thread is in.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn of_thread(kind: NamespaceKind) -> io::Result<Self> {
        Self::open(kind, Path::new(&format!("/proc/thread-self/ns/{}", kind.proc_name())))
    }

    /// The pid namespace that children of the calling thread will be in, once the first of them is there.
    ///
    /// # Errors
    /// What open(2) says; ENOENT before there is a child.
    pub fn of_children() -> io::Result<Self> {
        Self::open(NamespaceKind::Pid, Path::new("/proc/thread-self/ns/pid_for_children"))
    }

    /// Takes a descriptor that is known to be a namespace of `kind`, such as one received from another process.
    pub fn from_fd(kind: NamespaceKind, fd: OwnedFd) -> Self {
        Self { kind, fd }
    }

    fn open(kind: NamespaceKind, path: &Path) -> io::Result<Self> {
        Ok(Self { kind, fd: File::open(path)?.into() })
    }

    /// What tells it from others ([`inode_of`]).
    ///
    /// # Errors
    /// What fstat(2) says.
    pub fn inode(&self) -> io::Result<u64> {
        Ok(rustix::fs::fstat(&self.fd)?.st_ino)
    }

    /// What it is a namespace of.
    pub fn kind(&self) -> NamespaceKind {
        self.kind
    }

    /// The user namespace that owns it (ioctl_nsfs(2), NS_GET_USERNS).
    ///
    /// # Errors
    /// EPERM when that is not the caller's own, or one below it.
    pub fn owner(&self) -> io::Result<Self> {
        const NS_GET_USERNS: libc::Ioctl = 0xb701;
        // SAFETY: the request takes no argument, and the descriptor is open for as long as the call lasts.
        let fd = unsafe { libc::ioctl(self.fd.as_raw_fd(), NS_GET_USERNS) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows of it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { kind: NamespaceKind::User, fd })
    }

    /// Moves the calling thread into it (setns(2)); for [`NamespaceKind::Pid`], only its future children.
    ///
    /// # Errors
    /// What setns(2) says; EINVAL for a user namespace from a process with several threads.
    pub fn enter(&self) -> io::Result<()> {
        Ok(setns(&self.fd, self.kind.clone_flag())?)
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A network namespace kept alive by this descriptor.
#[derive(Debug)]
pub struct Netns(Namespace);

impl Netns {
    /// Makes a new, empty network namespace, owned by the user namespace of the caller.
    ///
    /// # Errors
    /// What unshare(2) says: EPERM without CAP_SYS_ADMIN, ENOSPC past user.max_net_namespaces.
    pub fn create() -> io::Result<Self> {
        on_new_thread(|| {
            nix::sched::unshare(CloneFlags::CLONE_NEWNET)?;
            Ok(Self(Namespace::of_thread(NamespaceKind::Net)?))
        })
    }

    /// What tells it from others ([`inode_of`]).
    ///
    /// # Errors
    /// What fstat(2) says.
    pub fn inode(&self) -> io::Result<u64> {
        self.0.inode()
    }

    /// Takes a descriptor that is known to be a network namespace.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(Namespace::from_fd(NamespaceKind::Net, fd))
    }

    /// Runs `f` inside the namespace, on a thread of its own: the caller stays where it was, and a socket that `f` makes
    /// belongs to the namespace for as long as it lives.
    ///
    /// # Errors
    /// When the thread cannot be started or setns(2) fails, and whatever `f` says.
    pub fn run<T, F>(&self, f: F) -> io::Result<T>
    where
        T: Send,
        F: FnOnce() -> io::Result<T> + Send,
    {
        on_new_thread(|| {
            self.0.enter()?;
            f()
        })
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Runs `f` on a thread that ends with it, so that whatever `f` does to its own namespaces ends there too.
fn on_new_thread<T: Send>(f: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        thread::Builder::new()
            .name("netns".into())
            .stack_size(128 * 1024)
            .spawn_scoped(scope, f)?
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
