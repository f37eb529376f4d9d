//! Why a control group is not what it should be.

use std::{io, path::PathBuf};

/// Something about a control group failed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// mkdir(2).
    #[error("cannot make the control group {}", path.display())]
    Make {
        /// The group.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A controller is not passed on to the groups below.
    #[error("cannot hand the controller `{controller}` on to the groups in {}", path.display())]
    Enable {
        /// The controller.
        controller: &'static str,
        /// The group.
        path: PathBuf,
        /// Why; EBUSY where it has processes (cgroups(7), "no internal processes").
        source: io::Error,
    },
    /// A value is not taken.
    #[error("the kernel does not take `{value}` for {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The value.
        value: String,
        /// Why.
        source: io::Error,
    },
    /// The kernel lacks the file for a setting.
    #[error("this kernel has no {what} for control groups")]
    Missing {
        /// What it would be.
        what: &'static str,
    },
    /// A path that names no block device.
    #[error("{} is not a block device", path.display())]
    NoDevice {
        /// The path.
        path: PathBuf,
    },
    /// A part of a block device.
    #[error("{} is a partition, and speed is limited for whole devices", path.display())]
    Partition {
        /// The path.
        path: PathBuf,
    },
    /// Whatever else about a path.
    #[error("cannot look at {}", path.display())]
    Look {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Devices cannot be ruled.
    #[error("cannot rule the devices of the container")]
    Devices(#[source] io::Error),
    /// The service manager of the account gives no control group.
    #[error("the service manager gives no control group")]
    Manager(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It says that it has, and the process has not been moved.
    #[error("the service manager has not moved the process {pid} to a control group of its own")]
    NotMoved {
        /// The process.
        pid: i32,
    },
}

impl CgroupError {
    /// How to mend it, if it can be said.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Enable { source, .. } if source.raw_os_error() == Some(libc::EBUSY) => Some(
                "a group with processes cannot have groups with limits below it; name another `cgroup_parent`".into(),
            ),
            Self::NoDevice { .. } => Some("`lsblk -p` lists the block devices of this host".into()),
            Self::Partition { .. } => Some("name the device that it is a part of".into()),
            Self::Missing { .. } => Some("remove the key, or use another kernel".into()),
            Self::Manager(_) | Self::NotMoved { .. } => {
                Some("`systemctl --user status` says whether it runs; without limits no control group is needed".into())
            }
            _ => None,
        }
    }
}
