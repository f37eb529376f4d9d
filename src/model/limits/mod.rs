//! What a service may use of the machine.
//!
//! ```text
//! keys of the file ──load──▶ Limits ──asks──▶ Setting ──Cgroups::lack──▶ none, or why it cannot be had here
//! ```

mod device_rule;
mod setting;
mod usage;

use std::{collections::BTreeSet, path::PathBuf};

use serde::{Deserialize, Serialize};

pub use device_rule::{DeviceAccess, DeviceKind, DeviceRule, InvalidDeviceRule};
pub use setting::{Cgroups, Lack, Setting};
pub use usage::{Effective, Usage};

/// What the processes of a container may use together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Processor time.
    pub cpu: CpuLimits,
    /// Memory.
    pub memory: MemoryLimits,
    /// Most processes and threads (pids.max).
    pub pids: Option<u64>,
    /// Block devices.
    pub io: IoLimits,
    /// Group that its own is made in, below where nscompose may make groups: plain names with slashes between them.
    pub parent: Option<PathBuf>,
    /// Devices that may be used besides the usual ones, and rules that take some away; the last one that fits counts.
    pub devices: Vec<DeviceRule>,
}

/// Processor time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuLimits {
    /// The most in each period.
    pub bandwidth: Option<Bandwidth>,
    /// Share against other groups, from 2 to 262144, of which 1024 is usual (cpu.shares of version 1).
    pub shares: Option<u64>,
    /// The processors that it may run on.
    pub cpus: Option<CpuList>,
    /// Real-time scheduling in each period; one of the two alone keeps the kernel's value for the other.
    pub realtime: RealTime,
}

/// Processor time in a period (CFS bandwidth control).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bandwidth {
    /// Microseconds of one processor in each period; none is no limit.
    pub quota_us: Option<u64>,
    /// Length of a period in microseconds, from 1000 to 1000000.
    pub period_us: u64,
}

impl Bandwidth {
    /// What periods are when nobody says, in microseconds (Docker, and the kernel's own default).
    pub const DEFAULT_PERIOD_US: u64 = 100_000;
}

/// Real-time scheduling (cpu.rt_period_us and cpu.rt_runtime_us of version 1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RealTime {
    /// Microseconds of a period.
    pub period_us: Option<u64>,
    /// Microseconds in each.
    pub runtime_us: Option<u64>,
}

/// A list of processors such as `0-2,7` (cpuset(7), "List format").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CpuList(String);

/// A text that is no list of processors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a list of processors")]
pub struct InvalidCpuList(String);

impl std::str::FromStr for CpuList {
    type Err = InvalidCpuList;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidCpuList(text.to_owned());
        let number = |text: &str| text.trim().parse::<u16>().map_err(|_| invalid());
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            if number(first)? > number(last)? {
                return Err(invalid());
            }
        }
        Ok(Self(text.chars().filter(|c| !c.is_whitespace()).collect()))
    }
}

impl CpuList {
    /// As the kernel reads it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The processors by number.
    pub fn numbers(&self) -> BTreeSet<u16> {
        let parts = self.0.split(',').filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?)
        });
        parts.flatten().collect()
    }
}

/// Memory, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryLimits {
    /// The most; beyond it the kernel kills.
    pub max: Option<u64>,
    /// What others do not take from it while there is any (memory.low; the soft limit of version 1).
    pub reservation: Option<u64>,
    /// The most of swap.
    pub swap: Option<Swap>,
    /// How readily it goes to swap, from 0 to 100 (version 1 only).
    pub swappiness: Option<u8>,
    /// Wait where the limit would kill (version 1 only).
    pub oom_kill_disable: bool,
}

/// How much swap a container may use beside its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Swap {
    /// As much as there is.
    Unlimited,
    /// So many bytes, not counting its memory.
    Bytes(u64),
    /// As much as it may have memory, because the file does not say (Docker: "twice the size of memory" in all). Where swap
    /// cannot be counted nothing is lost.
    AsMemory,
}

/// Block devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoLimits {
    /// Share against other groups, from 10 to 1000.
    pub weight: Option<u16>,
    /// The same for single devices.
    pub device_weights: Vec<DeviceValue>,
    /// Bytes read in a second.
    pub read_bps: Vec<DeviceValue>,
    /// Reads in a second.
    pub read_iops: Vec<DeviceValue>,
    /// Bytes written in a second.
    pub write_bps: Vec<DeviceValue>,
    /// Writes in a second.
    pub write_iops: Vec<DeviceValue>,
}

impl IoLimits {
    /// Every device that is named, with the key below `blkio_config` that does.
    pub fn devices(&self) -> impl Iterator<Item = (&'static str, &DeviceValue)> {
        [
            ("weight_device", &self.device_weights),
            ("device_read_bps", &self.read_bps),
            ("device_read_iops", &self.read_iops),
            ("device_write_bps", &self.write_bps),
            ("device_write_iops", &self.write_iops),
        ]
        .into_iter()
        .flat_map(|(key, values)| values.iter().map(move |value| (key, value)))
    }
}

/// A number for a block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceValue {
    /// Its node on the host.
    pub path: PathBuf,
    /// The number.
    pub value: u64,
}

impl Limits {
    /// What has to be set for it, the rules for devices included only if the file has some.
    pub fn asks(&self) -> BTreeSet<Setting> {
        let Self { cpu, memory, pids, io, parent, devices } = self;
        let all = [
            (Setting::CpuMax, cpu.bandwidth.is_some()),
            (Setting::CpuShares, cpu.shares.is_some()),
            (Setting::Cpuset, cpu.cpus.is_some()),
            (Setting::RealTime, cpu.realtime != RealTime::default()),
            (Setting::MemoryMax, memory.max.is_some()),
            (Setting::MemoryReservation, memory.reservation.is_some()),
            (Setting::Swap, memory.swap.is_some_and(|swap| swap != Swap::AsMemory)),
            (Setting::Swappiness, memory.swappiness.is_some()),
            (Setting::OomKillDisable, memory.oom_kill_disable),
            (Setting::Pids, pids.is_some()),
            (Setting::IoWeight, io.weight.is_some() || !io.device_weights.is_empty()),
            (
                Setting::IoMax,
                [&io.read_bps, &io.read_iops, &io.write_bps, &io.write_iops].iter().any(|values| !values.is_empty()),
            ),
            (Setting::Parent, parent.is_some()),
            (Setting::Devices, !devices.is_empty()),
        ];
        all.into_iter().filter(|(_, asked)| *asked).map(|(setting, _)| setting).collect()
    }

    /// Leaves one out.
    pub fn drop(&mut self, setting: Setting) {
        match setting {
            Setting::CpuMax => self.cpu.bandwidth = None,
            Setting::CpuShares => self.cpu.shares = None,
            Setting::Cpuset => self.cpu.cpus = None,
            Setting::RealTime => self.cpu.realtime = RealTime::default(),
            Setting::MemoryMax => {
                self.memory.max = None;
                // It counts from the limit on.
                self.memory.swap = None;
            }
            Setting::MemoryReservation => self.memory.reservation = None,
            Setting::Swap => self.memory.swap = None,
            Setting::Swappiness => self.memory.swappiness = None,
            Setting::OomKillDisable => self.memory.oom_kill_disable = false,
            Setting::Pids => self.pids = None,
            Setting::IoWeight => {
                self.io.weight = None;
                self.io.device_weights.clear();
            }
            Setting::IoMax => {
                let IoLimits { read_bps, read_iops, write_bps, write_iops, .. } = &mut self.io;
                [read_bps, read_iops, write_bps, write_iops].into_iter().for_each(Vec::clear);
            }
            Setting::Parent => self.parent = None,
            Setting::Devices => self.devices.clear(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors() {
        let list: CpuList = "0-2, 7".parse().expect("a list");
        assert_eq!(list.as_str(), "0-2,7");
        assert_eq!(list.numbers(), BTreeSet::from([0, 1, 2, 7]));
        for wrong in ["", "a", "3-1", "1,", "-1", "0-", "99999"] {
            assert!(wrong.parse::<CpuList>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_left_out_is_not_asked_for() {
        let mut limits = Limits {
            cpu: CpuLimits {
                bandwidth: Some(Bandwidth { quota_us: Some(1000), period_us: 1000 }),
                shares: Some(2),
                cpus: "0".parse().ok(),
                realtime: RealTime { period_us: Some(1), runtime_us: None },
            },
            memory: MemoryLimits {
                max: Some(1),
                reservation: Some(1),
                swap: Some(Swap::Bytes(1)),
                swappiness: Some(1),
                oom_kill_disable: true,
            },
            pids: Some(1),
            io: IoLimits {
                weight: Some(10),
                read_bps: vec![DeviceValue { path: "/dev/x".into(), value: 1 }],
                ..IoLimits::default()
            },
            parent: Some("x".into()),
            devices: vec!["c 1:3 r".parse().expect("a rule")],
        };
        let asked = limits.asks();
        assert_eq!(asked.len(), Setting::ALL.len());
        for setting in asked {
            limits.drop(setting);
            assert!(!limits.asks().contains(&setting), "{setting:?}");
        }
        assert_eq!(limits, Limits::default());
    }
}
