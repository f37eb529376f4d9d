//! Which devices a container may use: a program of the kernel on its group of version 2 (Linux 4.15), or the controller
//! `devices` of version 1.
//!
//! Nothing is allowed but what a rule says. A rule allows; there are none that deny.

mod program;

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

use super::{CgroupError, file::write};
use crate::{
    model::{DeviceKind, DeviceRule},
    sys,
};

/// Puts the program for these rules on a group of version 2, in place of one that is there.
///
/// # Errors
/// EPERM without CAP_BPF over the machine; EINVAL from a kernel without CONFIG_CGROUP_BPF.
pub(super) fn attach(group: BorrowedFd<'_>, rules: &[DeviceRule]) -> io::Result<()> {
    let program = sys::bpf::load_device_program(&program::build(rules))?;
    sys::bpf::attach_device_program(group, program.as_fd())
}

/// Writes the rules to a group of version 1.
pub(super) fn write_rules(folder: &Path, rules: &[DeviceRule]) -> Result<(), CgroupError> {
    write(&folder.join("devices.deny"), "a")?;
    for rule in rules {
        // For the kernel `a` is all devices and everything, whatever follows.
        let kinds: &[DeviceKind] = match rule.kind {
            DeviceKind::All => &[DeviceKind::Block, DeviceKind::Char],
            DeviceKind::Block => &[DeviceKind::Block],
            DeviceKind::Char => &[DeviceKind::Char],
        };
        for kind in kinds {
            write(&folder.join("devices.allow"), &DeviceRule { kind: *kind, ..*rule }.to_string())?;
        }
    }
    Ok(())
}
