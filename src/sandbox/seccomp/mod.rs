//! Filters of system calls (seccomp(2)): made of a profile once, installed in each container.
//!
//! ```text
//! default.rs ──▶ SeccompProfile ──bpf.rs──▶ Filter ──sys::seccomp──▶ the kernel
//!  or a file of the stack, read by `load`    kept by the keeper for all containers that are alike
//! ```

mod bpf;
mod default;

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use libc::sock_filter;

use super::error::{BringUpError, BringUpStep};
use crate::{
    model::{Capabilities, KernelVersion, Privileges, Seccomp, SeccompArch, SeccompProfile, SeccompRule},
    sys,
};

/// A compiled filter.
#[derive(Debug)]
pub(super) struct Filter {
    program: Vec<sock_filter>,
    log: bool,
}

impl Filter {
    /// Lets it decide about all further system calls of the caller and its descendants.
    pub(super) fn install(&self) -> Result<(), BringUpError> {
        sys::seccomp::install(&self.program, self.log).map_err(|e| BringUpStep::Seccomp.failed(e))
    }
}

/// The filters of a stack. Compiling one takes longer than making a namespace, and most containers have the same.
#[derive(Debug, Default)]
pub(super) struct Filters(RefCell<HashMap<String, Rc<Filter>>>);

impl Filters {
    /// The filter for a container with these privileges, if it has one.
    pub(super) fn of(&self, privileges: &Privileges) -> Result<Option<Rc<Filter>>, BringUpError> {
        let key = match &privileges.seccomp {
            Seccomp::Unconfined => return Ok(None),
            Seccomp::Default => format!("{:x}", privileges.capabilities.bits()),
            Seccomp::Profile(profile) => format!("{:x} {profile:?}", privileges.capabilities.bits()),
        };
        if let Some(known) = self.0.borrow().get(&key) {
            return Ok(Some(known.clone()));
        }
        let filter = match &privileges.seccomp {
            Seccomp::Profile(profile) => compile(profile, privileges.capabilities),
            Seccomp::Default | Seccomp::Unconfined => compile(&default::profile(), privileges.capabilities),
        };
        // What the kernel says of a program that is too long.
        let filter = Rc::new(filter.map_err(|bpf::TooLong| BringUpStep::Seccomp.failed(rustix::io::Errno::INVAL))?);
        self.0.borrow_mut().insert(key, filter.clone());
        Ok(Some(filter))
    }
}

fn compile(profile: &SeccompProfile, capabilities: Capabilities) -> Result<Filter, bpf::TooLong> {
    let native = SeccompArch::NATIVE;
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let kernel = KernelVersion::of_release(&release).unwrap_or(KernelVersion(0, 0));
    let rules: Vec<&SeccompRule> =
        profile.rules.iter().filter(|rule| rule.applies(capabilities, native.go_name(), kernel)).collect();
    let mut interfaces = vec![native];
    let named = profile.interfaces.iter().filter(|(machine, _)| *machine == native);
    for interface in named.flat_map(|(_, others)| others).filter(|interface| interface.runs_on(native)) {
        if !interfaces.contains(interface) {
            interfaces.push(*interface);
        }
    }
    Ok(Filter { program: bpf::compile(&rules, profile.default, &interfaces)?, log: profile.log })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_that_are_alike_share_a_filter() {
        let filters = Filters::default();
        let usual = Privileges::default();
        let more = Privileges { capabilities: Capabilities::ALL, ..Privileges::default() };
        let of = |privileges| filters.of(privileges).expect("a filter").expect("a filter");
        assert!(Rc::ptr_eq(&of(&usual), &of(&usual)));
        assert!(!Rc::ptr_eq(&of(&usual), &of(&more)));
        let none = Privileges { seccomp: Seccomp::Unconfined, ..usual };
        assert!(filters.of(&none).expect("none").is_none());
    }
}
