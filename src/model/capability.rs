//! What a process may do that others may not (capabilities(7)).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// All that there are, in the order of their numbers (linux/capability.h, Linux 5.9 and later).
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// One of them, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Capability(u8);

/// A name that is not one of a capability.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a capability")]
pub struct UnknownCapability(pub String);

impl Capability {
    /// The number that the kernel knows it by.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }

    /// The names of all, without `CAP_`.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.into_iter()
    }
}

impl FromStr for Capability {
    type Err = UnknownCapability;

    /// Reads a name in any case, with `CAP_` or without.
    fn from_str(text: &str) -> Result<Self, UnknownCapability> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let number = NAMES.iter().position(|known| *known == name);
        number.and_then(|number| u8::try_from(number).ok()).map(Self).ok_or_else(|| UnknownCapability(text.to_owned()))
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CAP_{}", NAMES[usize::from(self.0)])
    }
}

/// A set of capabilities, a bit for each by its number, as the kernel has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Capabilities(u64);

impl Capabilities {
    /// All that are known here.
    pub const ALL: Self = Self((1 << NAMES.len()) - 1);

    /// What Docker leaves to root of a container (moby, `oci/caps/defaults.go`): enough for package managers and servers.
    #[must_use]
    pub fn usual() -> Self {
        let usual = [
            "CHOWN",
            "DAC_OVERRIDE",
            "FSETID",
            "FOWNER",
            "MKNOD",
            "NET_RAW",
            "SETGID",
            "SETUID",
            "SETFCAP",
            "SETPCAP",
            "NET_BIND_SERVICE",
            "SYS_CHROOT",
            "KILL",
            "AUDIT_WRITE",
        ];
        usual.iter().filter_map(|name| name.parse().ok()).collect()
    }

    /// As the kernel has them.
    #[must_use]
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// These and those.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those that are in both.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// These but not those.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl FromIterator<Capability> for Capabilities {
    fn from_iter<I: IntoIterator<Item = Capability>>(all: I) -> Self {
        Self(all.into_iter().fold(0, |bits, one| bits | 1 << one.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_every_spelling() {
        for text in ["NET_ADMIN", "CAP_NET_ADMIN", "cap_net_admin", "Net_Admin"] {
            assert_eq!(text.parse::<Capability>().expect(text).to_string(), "CAP_NET_ADMIN");
        }
        assert_eq!("CHECKPOINT_RESTORE".parse::<Capability>().expect("the last").number(), 40);
        for wrong in ["", "CAP_", "NETADMIN", "CAP_CAP_CHOWN", "ALL"] {
            assert!(wrong.parse::<Capability>().is_err(), "{wrong:?} was taken");
        }
    }

    #[test]
    fn the_usual_ones_are_those_of_docker() {
        assert_eq!(Capabilities::usual().bits(), 0x0000_0000_a804_25fb);
        assert_eq!(Capabilities::ALL.bits(), 0x1ff_ffff_ffff);
    }
}
