//! What the first process of a container, and whatever is run beside it, starts with.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// What a process starts with besides its command line, environment and user. What is not set is not written either.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessOptions {
    /// Groups besides those of its user: names of the container's own group file, or numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Resource limits that the file names; others have Docker's defaults as far as the caller may set them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<Resource, ResourceLimit>,
    /// How soon it is killed when memory runs out, from -1000 to 1000 (proc_pid_oom_score_adj(5)); none is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i16>,
    /// Settings of the kernel for its namespaces.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: Sysctls,
    /// Its standard streams are a terminal of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub terminal: bool,
    /// Its standard input never ends; else there is nothing to read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stdin_open: bool,
    /// Its output is not shown by an `up` in the foreground. Nothing of the container is different for it, so it is not
    /// part of what is compared.
    #[serde(skip)]
    pub unattached: bool,
}

/// Values by name; a name is the path below /proc/sys, such as `net/ipv4/ip_forward`.
pub type Sysctls = BTreeMap<String, String>;

/// Whether a setting of the kernel belongs to one network interface, which has to be there before it can be set.
pub fn is_of_interface(sysctl: &str) -> bool {
    let mut parts = sysctl.split('/');
    let (first, _, table, interface) = (parts.next(), parts.next(), parts.next(), parts.next());
    first == Some("net")
        && matches!(table, Some("conf" | "neigh"))
        && !matches!(interface, None | Some("all" | "default" | "lo"))
}

/// Something of which the kernel bounds how much a process may use (getrlimit(2)), by the names that Docker has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Address space, in bytes.
    As,
    /// Core dumps, in bytes.
    Core,
    /// Processor time, in seconds.
    Cpu,
    /// Data segment, in bytes.
    Data,
    /// Files that are written, in bytes.
    Fsize,
    /// Locks.
    Locks,
    /// Memory that is kept from being swapped out, in bytes.
    Memlock,
    /// POSIX message queues, in bytes.
    Msgqueue,
    /// Nice value, as 20 less it.
    Nice,
    /// Descriptors.
    Nofile,
    /// Processes and threads of the user.
    Nproc,
    /// Resident set, in bytes; of no effect since Linux 2.4.30.
    Rss,
    /// Real-time priority.
    Rtprio,
    /// Processor time without a system call under real-time scheduling, in microseconds.
    Rttime,
    /// Signals that wait.
    Sigpending,
    /// Stack, in bytes.
    Stack,
}

impl Resource {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::As,
        Self::Core,
        Self::Cpu,
        Self::Data,
        Self::Fsize,
        Self::Locks,
        Self::Memlock,
        Self::Msgqueue,
        Self::Nice,
        Self::Nofile,
        Self::Nproc,
        Self::Rss,
        Self::Rtprio,
        Self::Rttime,
        Self::Sigpending,
        Self::Stack,
    ];

    /// What Compose files call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::As => "as",
            Self::Core => "core",
            Self::Cpu => "cpu",
            Self::Data => "data",
            Self::Fsize => "fsize",
            Self::Locks => "locks",
            Self::Memlock => "memlock",
            Self::Msgqueue => "msgqueue",
            Self::Nice => "nice",
            Self::Nofile => "nofile",
            Self::Nproc => "nproc",
            Self::Rss => "rss",
            Self::Rtprio => "rtprio",
            Self::Rttime => "rttime",
            Self::Sigpending => "sigpending",
            Self::Stack => "stack",
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that names nothing that can be limited.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no resource limit `{0}`")]
pub struct UnknownResource(pub String);

impl FromStr for Resource {
    type Err = UnknownResource;

    fn from_str(text: &str) -> Result<Self, UnknownResource> {
        Self::ALL.into_iter().find(|one| one.name() == text).ok_or_else(|| UnknownResource(text.to_owned()))
    }
}

/// A soft and a hard limit; none is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceLimit {
    /// The one that counts.
    pub soft: Option<u64>,
    /// What the process may raise it to.
    pub hard: Option<u64>,
}

/// A limit for people.
pub fn limit_text(limit: Option<u64>) -> String {
    limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_interfaces_are_told_from_others() {
        assert!(is_of_interface("net/ipv4/conf/eth0/rp_filter"));
        assert!(is_of_interface("net/ipv6/neigh/eth0.1/retrans_time"));
        for other in ["net/ipv4/conf/all/rp_filter", "net/ipv4/neigh/default/gc_stale_time", "net/ipv4/ip_forward"] {
            assert!(!is_of_interface(other), "{other}");
        }
    }
}
