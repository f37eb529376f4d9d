//! Limits against what the host can do, and the rules for devices.

use std::fmt;

use crate::model::{DeviceRule, Host, Ids, Lack, Project, Service, ServiceName, Setting};

/// A limit that cannot be set here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmet {
    /// Whose it is.
    pub service: ServiceName,
    /// What it is.
    pub setting: Setting,
    /// Why it cannot.
    pub lack: Lack,
}

impl Unmet {
    /// The sentence, with the key that the file has it under.
    pub fn message(&self, key: &str) -> String {
        format!("`{key}` of service `{}` cannot be had here: {}", self.service, self.lack)
    }
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message(self.setting.keys()[0]))
    }
}

/// What of these services cannot be set.
pub(super) fn unmet<'a>(host: &Host, services: impl Iterator<Item = (&'a ServiceName, &'a Service)>) -> Vec<Unmet> {
    let all = services.flat_map(|(name, service)| {
        let unmet = host.cgroups.unmet(&service.limits);
        unmet.into_iter().map(|(setting, lack)| Unmet { service: name.clone(), setting, lack })
    });
    all.collect()
}

/// Leaves out of a project what cannot be set here; that comes back.
pub fn leave_out_unmet(project: &mut Project, host: &Host) -> Vec<Unmet> {
    let left_out = unmet(host, project.services.iter());
    for Unmet { service, setting, .. } in &left_out {
        if let Some(service) = project.services.get_mut(service) {
            service.limits.drop(*setting);
        }
    }
    left_out
}

/// The devices that a container may use. Only root of the machine can rule them, and only where there is root of the machine
/// could a container get at more than its user may.
pub(super) fn devices(host: &Host, service: &Service) -> Option<Vec<DeviceRule>> {
    // A privileged one may use all.
    (host.ids == Ids::Root && !service.privileges.host_devices)
        .then(|| DeviceRule::usual().into_iter().chain(service.limits.devices.clone()).collect())
}
