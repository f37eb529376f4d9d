//! A seccomp profile, as Docker and the OCI Runtime Specification have it, every part known to be valid.

use serde::{Deserialize, Serialize};

use super::SeccompArch;
use crate::model::Capabilities;

/// What becomes of each system call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeccompProfile {
    /// Of those that no rule is about.
    pub default: SeccompAction,
    /// The interfaces that it is for, by the machine's own; none is that one alone.
    pub interfaces: Vec<(SeccompArch, Vec<SeccompArch>)>,
    /// In the order in which they are written. Of the rules for one call, those with conditions come first.
    pub rules: Vec<SeccompRule>,
    /// What is denied is logged (SECCOMP_FILTER_FLAG_LOG).
    pub log: bool,
}

/// What is done about some calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeccompRule {
    /// Names of calls. Those that a machine does not have say nothing there.
    pub calls: Vec<String>,
    /// What is done.
    pub action: SeccompAction,
    /// All of them have to hold.
    pub conditions: Vec<SeccompCondition>,
    /// The rule is there only if all of this is so.
    pub only: When,
    /// The rule is not there if any of this is so.
    pub unless: When,
}

/// What is done about a call (seccomp(2), "Filters").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeccompAction {
    /// It is made.
    Allow,
    /// It is made and logged.
    Log,
    /// It fails with this error number.
    Errno(u16),
    /// The thread gets SIGSYS.
    Trap,
    /// A tracer decides, and gets this number; without one the call fails.
    Trace(u16),
    /// The thread ends.
    KillThread,
    /// The process ends.
    KillProcess,
}

/// What an argument has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeccompCondition {
    /// Which argument, from 0 to 5.
    pub argument: u8,
    /// How it is compared.
    pub comparison: Comparison,
    /// With what.
    pub value: u64,
}

/// How an argument is compared with a value, both unsigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// Equal.
    Equal,
    /// Not equal.
    NotEqual,
    /// Less.
    Less,
    /// Less or equal.
    LessOrEqual,
    /// Greater.
    Greater,
    /// Greater or equal.
    GreaterOrEqual,
    /// Equal in the bits of this mask.
    MaskedEqual(u64),
}

/// Circumstances of a container. Nothing in it is no condition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct When {
    /// It has these capabilities.
    pub capabilities: Capabilities,
    /// The machine is one of these, as Go calls them.
    pub machines: Vec<String>,
    /// The kernel is at least this one.
    pub kernel: Option<KernelVersion>,
}

/// The first two numbers of a kernel's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KernelVersion(pub u16, pub u16);

impl KernelVersion {
    /// The version that a release such as `6.12.3-amd64` begins with.
    #[must_use]
    pub fn of_release(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
        Some(Self(numbers.next()?.ok()?, numbers.next()?.ok()?))
    }
}

impl SeccompRule {
    /// True if it is there in a container with these capabilities.
    #[must_use]
    pub fn applies(&self, capabilities: Capabilities, machine: &str, kernel: KernelVersion) -> bool {
        let named = |when: &When| when.machines.iter().any(|name| name == machine);
        let only = (self.only.capabilities.without(capabilities).is_empty())
            && (self.only.machines.is_empty() || named(&self.only))
            && self.only.kernel.is_none_or(|least| kernel >= least);
        let unless = !self.unless.capabilities.intersection(capabilities).is_empty()
            || named(&self.unless)
            || self.unless.kernel.is_some_and(|least| kernel >= least);
        only && !unless
    }
}
