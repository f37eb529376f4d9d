//! What can be limited, and what a host lacks for it.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

/// One thing that can be set for the control group of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    /// Processor time in each period.
    CpuMax,
    /// Share of the processors.
    CpuShares,
    /// Which processors.
    Cpuset,
    /// Real-time scheduling.
    RealTime,
    /// Memory.
    MemoryMax,
    /// Memory that is kept.
    MemoryReservation,
    /// Swap.
    Swap,
    /// How readily memory goes to swap.
    Swappiness,
    /// Nothing is killed at the limit.
    OomKillDisable,
    /// Processes and threads.
    Pids,
    /// Share of block devices.
    IoWeight,
    /// Speed of block devices.
    IoMax,
    /// The group that the container's own is in.
    Parent,
    /// Rules for devices.
    Devices,
}

impl Setting {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::CpuMax,
        Self::CpuShares,
        Self::Cpuset,
        Self::RealTime,
        Self::MemoryMax,
        Self::MemoryReservation,
        Self::Swap,
        Self::Swappiness,
        Self::OomKillDisable,
        Self::Pids,
        Self::IoWeight,
        Self::IoMax,
        Self::Parent,
        Self::Devices,
    ];

    /// The keys of a service that ask for it.
    pub fn keys(self) -> &'static [&'static str] {
        match self {
            Self::CpuMax => &["cpus", "cpu_quota", "cpu_period", "deploy.resources.limits.cpus"],
            Self::CpuShares => &["cpu_shares"],
            Self::Cpuset => &["cpuset"],
            Self::RealTime => &["cpu_rt_runtime", "cpu_rt_period"],
            Self::MemoryMax => &["mem_limit", "deploy.resources.limits.memory"],
            Self::MemoryReservation => &["mem_reservation", "deploy.resources.reservations.memory"],
            Self::Swap => &["memswap_limit"],
            Self::Swappiness => &["mem_swappiness"],
            Self::OomKillDisable => &["oom_kill_disable"],
            Self::Pids => &["pids_limit", "deploy.resources.limits.pids"],
            Self::IoWeight => &["blkio_config.weight", "blkio_config.weight_device"],
            Self::IoMax => &[
                "blkio_config.device_read_bps",
                "blkio_config.device_read_iops",
                "blkio_config.device_write_bps",
                "blkio_config.device_write_iops",
            ],
            Self::Parent => &["cgroup_parent"],
            Self::Devices => &["device_cgroup_rules"],
        }
    }
}

/// What the control groups of this host and this account cannot do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroups {
    /// What cannot be set, and why.
    pub lacks: BTreeMap<Setting, Lack>,
    /// The rest can be set once the service manager of the account has been asked for a control group.
    pub ask: bool,
    /// Processors of the host, as a list; none if it is not known.
    pub cpus: Option<super::CpuList>,
}

/// Why something cannot be set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lack {
    /// There are no control groups.
    NoHierarchy,
    /// An ordinary user, and the group that it is in is not its own.
    NotDelegated {
        /// The group, as /proc/self/cgroup has it.
        group: PathBuf,
    },
    /// An ordinary user, and the controllers are on version 1, which is root's only.
    VersionOne,
    /// The kernel does not have this controller, or not here.
    NoController(String),
    /// The group that groups are made in has not been given this controller.
    ControllerNotDelegated {
        /// The controller.
        controller: String,
        /// The group.
        group: PathBuf,
    },
    /// The group has processes of others, so the controllers cannot be passed on (cgroups(7), "no internal processes").
    OtherProcesses {
        /// The group.
        group: PathBuf,
    },
    /// Version 2 does not have it any more.
    VersionTwo,
    /// The kernel does not count swap.
    NoSwapAccounting,
    /// The kernel has not been built with this option.
    NoKernelOption(String),
    /// There are no such processors.
    NoProcessors(super::CpuList),
    /// No device can be made or opened by more than its permissions say.
    DevicesOfUsers,
}

impl Cgroups {
    /// What of these limits cannot be set, and why.
    pub fn unmet(&self, limits: &super::Limits) -> Vec<(Setting, Lack)> {
        let lack = |setting: Setting| match (self.lacks.get(&setting), setting) {
            (Some(lack), _) => Some((setting, lack.clone())),
            (None, Setting::Cpuset) => {
                let (wanted, there) = (limits.cpu.cpus.as_ref()?, self.cpus.as_ref()?);
                let there_are = wanted.numbers().is_subset(&there.numbers());
                (!there_are).then(|| (setting, Lack::NoProcessors(there.clone())))
            }
            (None, _) => None,
        };
        limits.asks().into_iter().filter_map(lack).collect()
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHierarchy => write!(f, "no control groups are mounted"),
            Self::NotDelegated { group } => {
                write!(f, "this account may not write to the control group that it is in, `{}`", group.display())
            }
            Self::VersionOne => {
                write!(f, "the controllers of this host are on control groups version 1, which are for root only")
            }
            Self::NoController(controller) => write!(f, "the kernel offers no controller `{controller}` here"),
            Self::ControllerNotDelegated { controller, group } => {
                write!(f, "the controller `{controller}` has not been handed to the group `{}`", group.display())
            }
            Self::OtherProcesses { group } => {
                write!(f, "the control group `{}` has other processes in it", group.display())
            }
            Self::VersionTwo => write!(f, "control groups version 2 do not have it"),
            Self::NoSwapAccounting => write!(f, "the kernel does not count swap"),
            Self::NoKernelOption(option) => write!(f, "the kernel has been built without {option}"),
            Self::NoProcessors(there) => write!(f, "this host has the processors {} only", there.as_str()),
            Self::DevicesOfUsers => {
                write!(
                    f,
                    "only root can rule devices; an ordinary user's containers can make none and open what it can"
                )
            }
        }
    }
}

impl Lack {
    /// How to mend it.
    pub fn hint(&self) -> String {
        match self {
            Self::NoHierarchy => "mount them: `mount -t cgroup2 none /sys/fs/cgroup`".to_owned(),
            Self::NotDelegated { .. } => "log in through systemd (`loginctl user-status` shows a session and \
                 `user@UID.service`), or have root hand a group of version 2 to this account (chown), with the shell in it"
                .to_owned(),
            Self::VersionOne => "boot with `systemd.unified_cgroup_hierarchy=1 cgroup_no_v1=all`, or run it as root".to_owned(),
            Self::NoController(controller) => format!(
                "`cgroup_enable={controller}` on the kernel's command line, if it says `cgroup_disable={controller}` or the \
                 kernel has it off"
            ),
            Self::ControllerNotDelegated { .. } => "as root, `systemctl edit user@.service` with \
                 `[Service]` and `Delegate=cpu cpuset io memory pids`, then log in anew"
                .to_owned(),
            Self::OtherProcesses { .. } => {
                "run it in a group of its own: `systemd-run --user --scope -p Delegate=yes nscompose ...`".to_owned()
            }
            Self::VersionTwo => "remove the key".to_owned(),
            Self::NoSwapAccounting => "`swapaccount=1` on the kernel's command line, or remove the key".to_owned(),
            Self::NoKernelOption(_) => "remove the key, or use another kernel".to_owned(),
            Self::NoProcessors(_) => "name some of these".to_owned(),
            Self::DevicesOfUsers => "remove the key: its rules would change nothing".to_owned(),
        }
    }
}
