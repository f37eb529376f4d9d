//! What a container uses, and what its limits have become.

use serde::{Deserialize, Serialize};

use super::Bandwidth;

/// Limits as the kernel has them, which rounds; none where the file sets none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effective {
    /// Processor time in each period.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cpu: Option<Bandwidth>,
    /// Share of the processors: cpu.weight, from 1 to 10000, or cpu.shares of version 1.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cpu_weight: Option<u64>,
    /// The processors it may run on, as a list.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cpuset: Option<String>,
    /// Bytes of memory.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub memory: Option<u64>,
    /// Bytes of memory that are kept for it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub memory_reservation: Option<u64>,
    /// Bytes of swap, without memory.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub swap: Option<u64>,
    /// Processes and threads.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pids: Option<u64>,
}

impl Effective {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What a container uses at one moment; none is what is not counted here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Microseconds of processors since its control group was made.
    pub cpu_us: Option<u64>,
    /// Microseconds in which it had to wait for its next period.
    pub throttled_us: Option<u64>,
    /// Bytes of memory, without files that are cached and have not been used for a while.
    pub memory: Option<u64>,
    /// The most that it may be.
    pub memory_limit: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// The most that there may be.
    pub pids_limit: Option<u64>,
    /// Bytes read from block devices.
    pub read: Option<u64>,
    /// Bytes written to block devices.
    pub written: Option<u64>,
    /// Bytes received by its interfaces.
    pub received: Option<u64>,
    /// Bytes sent by them.
    pub sent: Option<u64>,
}
