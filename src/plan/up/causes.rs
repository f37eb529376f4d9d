//! What has to be touched, and why.

use std::collections::{BTreeMap, BTreeSet};

use super::{Up, in_order};
use crate::{
    model::{ContainerState, MountSource, NetworkAttachment, NetworkName, Rootfs, ServiceName, VolumeMount},
    plan::{PlanError, Source},
};

impl<'a> Up<'a> {
    /// What has to be started, each with its reason.
    pub(super) fn causes(&self) -> BTreeMap<&'a ServiceName, String> {
        let mut causes: BTreeMap<&ServiceName, String> = BTreeMap::new();
        for name in &self.wanted {
            let cause = match self.observed.containers.get(*name) {
                None => "it is not there yet".to_owned(),
                Some(container) if container.config != self.config(name) => {
                    match &self.project.services[*name].rootfs {
                        Rootfs::Layers(image) if container.image.as_ref().is_some_and(|id| *id != image.id) => {
                            "its image has changed".to_owned()
                        }
                        _ => "its configuration has changed".to_owned(),
                    }
                }
                Some(_) if self.namespaces_differ(name) => {
                    let on = |attachment: &&NetworkAttachment| self.network_changes(&attachment.network);
                    match self.project.services[*name].networks.iter().find(on) {
                        Some(attachment) => format!("its network {} has changed", attachment.network),
                        None if self.is_moved(name) => "its addresses have changed".to_owned(),
                        None => "its namespaces have changed".to_owned(),
                    }
                }
                Some(container) => match container.state {
                    ContainerState::Exited(code) => format!("it has exited with code {code}"),
                    _ => continue,
                },
            };
            causes.insert(name, cause);
        }
        // Whoever shares a namespace that is made anew has to be started again in the new one.
        for name in &self.wanted {
            let sources = self.groups.sources(name);
            for source in [&sources.user, &sources.net, &sources.ipc, &sources.uts, &sources.pid] {
                let Source::Of(owner) = source else { continue };
                if owner != *name && self.namespaces_differ(owner) && self.observed.namespaces.contains_key(owner) {
                    causes
                        .entry(name)
                        .or_insert_with(|| format!("it shares a namespace of {owner}, which is made anew"));
                }
            }
        }
        // Anonymous volumes go with the container that they are of. Those come first, since whoever has their volumes depends
        // on them.
        for name in &self.wanted {
            let mounts = self.mounts(name);
            let owners = mounts.iter().filter_map(|mount| match &mount.source {
                MountSource::Volume(VolumeMount { of: Some((owner, _)), .. }) => Some(owner),
                _ => None,
            });
            let is_new = |owner: &&ServiceName| {
                self.observed.containers.contains_key(*owner) && causes.contains_key(*owner) && !self.only_ended(owner)
            };
            if let Some(owner) = owners.into_iter().find(is_new).cloned() {
                causes.entry(name).or_insert_with(|| format!("it has volumes of {owner}, which is made anew"));
            }
        }
        causes
    }

    /// Namespaces that are made anew take every container in them along, so all of these have to be brought up again.
    pub(super) fn nobody_is_left_behind(&self, causes: &BTreeMap<&'a ServiceName, String>) -> Result<(), PlanError> {
        let alive = self.observed.containers.iter().filter(|(_, container)| container.state.is_up());
        for name in alive.map(|(name, _)| name).filter(|name| self.project.services.contains_key(*name)) {
            if self.wanted.contains(&name) {
                continue;
            }
            let sources = self.groups.sources(name);
            for source in [&sources.user, &sources.net, &sources.ipc, &sources.uts, &sources.pid] {
                let Source::Of(owner) = source else { continue };
                if causes.contains_key(owner)
                    && self.namespaces_differ(owner)
                    && self.observed.namespaces.contains_key(owner)
                {
                    return Err(PlanError::LeftBehind { service: name.clone(), owner: owner.clone() });
                }
            }
        }
        Ok(())
    }

    /// What is wanted, and besides it all that runs on a network that changes, or has to give its address up.
    pub(super) fn with_moved(&self) -> Vec<&'a ServiceName> {
        let moved: BTreeSet<&ServiceName> =
            self.observed.namespaces.keys().filter(|name| self.is_moved(name)).collect();
        let touched = |name: &&ServiceName| {
            let sources = self.groups.sources(name);
            let own = [&sources.user, &sources.net, &sources.ipc, &sources.uts, &sources.pid];
            own.into_iter().any(|source| matches!(source, Source::Of(owner) if moved.contains(owner)))
        };
        let runs =
            |name: &&ServiceName| self.observed.containers.get(*name).is_some_and(|container| container.state.is_up());
        let more: BTreeSet<ServiceName> =
            self.project.services.keys().filter(|name| runs(name) && touched(name)).cloned().collect();
        if more.is_empty() {
            return self.wanted.clone();
        }
        let wanted: BTreeSet<ServiceName> = self.wanted.iter().copied().cloned().chain(more.iter().cloned()).collect();
        // In the order of all; those that `more` depends on and that nobody asked for stay as they are.
        in_order(self.project, &wanted).into_iter().filter(|name| wanted.contains(*name)).collect()
    }

    /// Whether the namespaces of a service that there are have another network, or another address, than they shall have.
    pub(super) fn is_moved(&self, name: &ServiceName) -> bool {
        let Some(service) = self.project.services.get(name) else { return false };
        service.networks.iter().any(|attachment| {
            let network = &attachment.network;
            let there = self.observed.addresses.get(name).and_then(|networks| networks.get(network));
            there.is_some_and(|there| {
                let mut there = there.clone();
                there.sort();
                self.network_changes(network) || there != self.addresses.of(name, network)
            })
        })
    }

    /// Whether a bridge that there is has to be made anew.
    pub(super) fn network_changes(&self, network: &NetworkName) -> bool {
        let known = self.project.networks.contains_key(network);
        let there = self.observed.networks.get(network).filter(|_| known);
        there.is_some_and(|there| there.config != self.bridge(network).config)
    }

    /// Whether the container only has to be started again.
    pub(super) fn only_ended(&self, name: &ServiceName) -> bool {
        let container = &self.observed.containers[name];
        !container.state.is_alive() && container.config == self.config(name) && !self.namespaces_differ(name)
    }

    pub(super) fn namespaces_differ(&self, name: &ServiceName) -> bool {
        self.observed.namespaces.get(name) != Some(&self.namespaces_fingerprint(name))
    }
}
