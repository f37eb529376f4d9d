//! What the programs of a service may do.

use serde::{Deserialize, Serialize};

use super::{Capabilities, Seccomp};

/// What a service may do beyond, or short of, what any container may.
///
/// As text it has only what differs from any container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Privileges {
    /// Capabilities that its programs can have at most. Root of the container has all of them, others none.
    #[serde(skip_serializing_if = "is_usual")]
    pub capabilities: Capabilities,
    /// No program of it gets more rights than who runs it has, set-user-ID or not (prctl(2), PR_SET_NO_NEW_PRIVS).
    #[serde(skip_serializing_if = "is_false")]
    pub no_new_privileges: bool,
    /// System calls.
    #[serde(skip_serializing_if = "is_default")]
    pub seccomp: Seccomp,
    /// Profile of AppArmor; none leaves that of whoever runs nscompose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apparmor: Option<String>,
    /// Parts of a label of SELinux that are other than those of whoever runs nscompose.
    #[serde(skip_serializing_if = "SelinuxLabel::is_empty")]
    pub label: SelinuxLabel,
    /// Files of the kernel that are nobody's business are hidden or cannot be written to.
    #[serde(skip_serializing_if = "is_true")]
    pub hide_kernel_files: bool,
    /// It sees devices of the host, and what the kernel shows in /sys can be written to, by who may.
    #[serde(skip_serializing_if = "is_false")]
    pub host_devices: bool,
}

fn is_usual(capabilities: &Capabilities) -> bool {
    *capabilities == Capabilities::usual()
}

fn is_default(seccomp: &Seccomp) -> bool {
    *seccomp == Seccomp::Default
}

fn is_false(flag: &bool) -> bool {
    !flag
}

fn is_true(flag: &bool) -> bool {
    *flag
}

/// Parts of a label of SELinux (`USER:ROLE:TYPE:LEVEL`); none keeps what there is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelinuxLabel {
    /// User.
    pub user: Option<String>,
    /// Role.
    pub role: Option<String>,
    /// Type.
    pub kind: Option<String>,
    /// Level, with categories.
    pub level: Option<String>,
}

impl SelinuxLabel {
    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Privileges {
    /// Those of any container.
    fn default() -> Self {
        Self {
            capabilities: Capabilities::usual(),
            no_new_privileges: false,
            seccomp: Seccomp::Default,
            apparmor: None,
            label: SelinuxLabel::default(),
            hide_kernel_files: true,
            host_devices: false,
        }
    }
}
