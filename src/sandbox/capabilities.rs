//! What the processes of a container may do (capabilities(7)).
//!
//! As in Docker, root of a container has all that its bounding set has, and anybody else has none until a set-user-ID
//! program gives them. Nothing is inheritable or ambient.

use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::model::Capabilities;

fn kernels(capabilities: Capabilities) -> CapabilitySet {
    CapabilitySet::from_bits_retain(capabilities.bits())
}

/// Takes all but these out of the bounding set, so that no program run from here on can have more. Needs CAP_SETPCAP, so it
/// comes before the user changes.
pub(super) fn bound(to: Capabilities) -> io::Result<()> {
    for bit in 0..64 {
        let Some(one) = CapabilitySet::from_bits(1 << bit) else { continue };
        // EINVAL marks the end of what this kernel knows.
        match rustix::thread::capability_is_in_bounding_set(one) {
            Ok(true) if !kernels(to).contains(one) => rustix::thread::remove_capability_from_bounding_set(one)?,
            Ok(_) | Err(rustix::io::Errno::INVAL) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Lets what the calling process has survive its change of user, to be given up later by [`limit`]. It is not effective after
/// it, and execve(2) ends it.
pub(super) fn keep() -> io::Result<()> {
    Ok(rustix::thread::set_keep_capabilities(true)?)
}

/// What installing a filter of system calls takes.
pub(super) const TO_FILTER: CapabilitySet = CapabilitySet::SYS_ADMIN;

/// Leaves the calling process these, and `besides`; those that it has not, and that the kernel does not know, are not given.
pub(super) fn limit(to: Capabilities, besides: CapabilitySet) -> io::Result<()> {
    rustix::thread::clear_ambient_capability_set()?;
    let permitted = rustix::thread::capabilities(None)?.permitted & (kernels(to) | besides);
    let sets = CapabilitySets { effective: permitted, permitted, inheritable: CapabilitySet::empty() };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}
