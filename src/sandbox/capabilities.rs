//! What root of a container may do (capabilities(7)).

use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets};

/// What Docker leaves to root of a container (moby, `oci/caps/defaults.go`): enough for package managers and servers.
const DEFAULT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// Takes everything beyond the default out of the bounding set, so that no program run from here on can have it.
/// Needs CAP_SETPCAP, so it comes before the user changes.
pub(super) fn bound() -> io::Result<()> {
    for bit in 0..64 {
        let Some(one) = CapabilitySet::from_bits(1 << bit) else { continue };
        // EINVAL marks the end of what this kernel knows.
        match rustix::thread::capability_is_in_bounding_set(one) {
            Ok(true) if !DEFAULT.contains(one) => rustix::thread::remove_capability_from_bounding_set(one)?,
            Ok(_) | Err(rustix::io::Errno::INVAL) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Leaves the calling process what the default has, and only as far as it still has it after a change of user.
pub(super) fn limit() -> io::Result<()> {
    rustix::thread::clear_ambient_capability_set()?;
    let now = rustix::thread::capabilities(None)?;
    let sets = CapabilitySets {
        effective: now.effective & DEFAULT,
        permitted: now.permitted & DEFAULT,
        inheritable: CapabilitySet::empty(),
    };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}
