//! Which system calls a service may make (seccomp(2)).

mod arch;
mod numbers;
mod profile;

pub use arch::SeccompArch;
pub use numbers::{X32_BIT, is_known as is_syscall, number as syscall_number};
pub use profile::{Comparison, KernelVersion, SeccompAction, SeccompCondition, SeccompProfile, SeccompRule, When};

use serde::{Deserialize, Serialize};

/// Which system calls a service may make.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seccomp {
    /// Those of Docker's default profile, which depend on the capabilities that it has.
    #[default]
    Default,
    /// All.
    Unconfined,
    /// Those of a profile of its own.
    Profile(Box<SeccompProfile>),
}
