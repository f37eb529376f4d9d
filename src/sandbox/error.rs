//! What can go wrong while a container comes up, step by step.

use std::{io, path::PathBuf};

use serde::{Deserialize, Serialize};

/// A container did not come up. It crosses process borders as JSON, hence the error number and not an `io::Error`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("cannot {step}{}", reason(*errno))]
pub struct BringUpError {
    /// What was being done.
    pub step: BringUpStep,
    /// What the kernel said (errno(3)); 0 where it is not the kernel that says no.
    pub errno: i32,
}

fn reason(errno: i32) -> String {
    if errno == 0 {
        return String::new();
    }
    // The standard library's text ends with " (os error N)", which tells people nothing more.
    let text = io::Error::from_raw_os_error(errno).to_string();
    format!(": {}", text.split(" (os error").next().unwrap_or_default().to_lowercase())
}

/// The steps of bringing a container up, in the order in which they happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum BringUpStep {
    /// clone3(2) or unshare(2) with new namespaces.
    #[error("make namespaces")]
    MakeNamespaces,
    /// uid_map and gid_map.
    #[error("map the ids of a user namespace")]
    MapIds,
    /// sethostname(2).
    #[error("set the host name `{0}`")]
    HostName(String),
    /// The tmpfs behind /dev/shm.
    #[error("make the shared memory of the IPC namespace")]
    SharedMemory,
    /// Overlay of the root.
    #[error("mount the root file system over {}", .0.display())]
    Root(PathBuf),
    /// More layers than overlayfs takes (OVL_MAX_STACK).
    #[error("put {0} layers over each other, of which the kernel takes 500")]
    TooManyLayers(usize),
    /// The source of a bind mount.
    #[error("take {} as the source of a mount", .0.display())]
    MountSource(PathBuf),
    /// setns(2).
    #[error("join the {0} namespace")]
    Join(String),
    /// The second clone3(2).
    #[error("start the first process")]
    Fork,
    /// cgroup.procs of version 1.
    #[error("put a process into its control groups")]
    ControlGroup,
    /// The place of a mount inside the container.
    #[error("make the mount point {} in the container", .0.display())]
    MountPoint(PathBuf),
    /// Files that an image has made for the user's number.
    #[error("give the files of the user's number to the user")]
    HandOver,
    /// A device that the container may not open.
    #[error("open the device {} in the container", .0.display())]
    Device(PathBuf),
    /// The first contents of a volume.
    #[error("copy what the image has at {} into the volume", .0.display())]
    CopyUp(PathBuf),
    /// Attaching a mount.
    #[error("mount on {} in the container", .0.display())]
    Mount(PathBuf),
    /// What is to be hidden of /proc and /sys.
    #[error("hide files of the kernel in {}", .0.display())]
    Mask(PathBuf),
    /// pivot_root(2).
    #[error("make the new root the root")]
    Pivot,
    /// chdir(2).
    #[error("enter the working directory {}", .0.display())]
    WorkingDir(PathBuf),
    /// chdir(2) led to a folder that is not below the root.
    #[error("enter the working directory {}, which leads out of the container", .0.display())]
    Outside(PathBuf),
    /// No such name.
    #[error("find user `{0}` in /etc/passwd of the container")]
    UnknownUser(String),
    /// No such name either.
    #[error("find group `{0}` in /etc/group of the container")]
    UnknownGroup(String),
    /// A group of `group_add` that has no id in the container.
    #[error("add group `{0}`")]
    AddGroup(String),
    /// A write to /proc/sys: the name, with dots, and the value.
    #[error("set the sysctl `{0}` to `{1}`")]
    Sysctl(String, String),
    /// setrlimit(2).
    #[error("set the resource limit `{0}`")]
    Limit(crate::model::Resource),
    /// /proc/self/oom_score_adj.
    #[error("set the OOM score adjustment to {0}")]
    OomScore(i16),
    /// setgroups(2), setresgid(2), setresuid(2).
    #[error("become user `{0}`")]
    BecomeUser(String),
    /// capset(2), prctl(2).
    #[error("drop capabilities")]
    Capabilities,
    /// Files in /proc/thread-self/attr.
    #[error("take on the AppArmor profile or SELinux label")]
    Label,
    /// seccomp(2).
    #[error("install the filter of system calls")]
    Seccomp,
    /// Pseudo terminal of an exec.
    #[error("open a terminal in the container")]
    Terminal,
    /// execve(2).
    #[error("run `{0}`")]
    Exec(String),
    /// Anything around processes and descriptors that should not fail.
    #[error("{0}")]
    Internal(String),
}

impl BringUpStep {
    /// This step, failed for the reason that `error` has.
    pub fn failed(self, error: impl Into<io::Error>) -> BringUpError {
        BringUpError { step: self, errno: error.into().raw_os_error().unwrap_or(libc::EIO) }
    }

    /// This step, failed without the kernel having been asked.
    pub fn impossible(self) -> BringUpError {
        BringUpError { step: self, errno: 0 }
    }
}

/// Something that was asked of the keeper failed.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A container or its namespaces did not come up.
    #[error(transparent)]
    BringUp(#[from] BringUpError),
    /// The keeper process has gone.
    #[error("the process that keeps the containers of this stack has ended")]
    KeeperGone,
    /// Talking to it failed.
    #[error("cannot talk to the process that keeps the containers of this stack")]
    Talk(#[source] io::Error),
    /// Somebody has killed it on its way, or the kernel has.
    #[error("it has ended before its program ran")]
    Ended,
}
