//! What has to be touched, and why.

use std::{collections::BTreeSet, net::IpAddr};

use super::{Causes, Recreate, Up, in_order};
use crate::{
    model::{Container, ContainerState, MountSource, NetworkAttachment, NetworkName, Rootfs, ServiceName, VolumeMount},
    plan::{
        Cause, Difference, PlanError, Source,
        cause::{differences, merged},
    },
};

impl<'a> Up<'a> {
    /// What has to be started, or made, each with its reason.
    pub(super) fn causes(&self) -> Causes<'a> {
        let mut causes = Causes::new();
        for name in self.wanted.iter().copied().filter(|name| !self.kept.contains(name)) {
            let cause = match self.observed.containers.get(name) {
                None => "it is not there yet".into(),
                Some(container) if container.config != self.config(name) => self.what_differs(name, container),
                Some(_) if self.namespaces_differ(name) => self.why_elsewhere(name),
                Some(_) if self.policy(name) == Recreate::Always => match self.is_asked_for(name) {
                    true => "`--force-recreate` asks for it".into(),
                    false => "`--always-recreate-deps` asks for it".into(),
                },
                Some(_) if self.intent.no_start => continue,
                Some(container) => match container.state {
                    // It has done what it is there for.
                    ContainerState::Exited(0) if self.is_job(name) => continue,
                    ContainerState::Exited(code) => format!("it has exited with code {code}").into(),
                    ContainerState::Created => "it has been made and not started".into(),
                    _ => continue,
                },
            };
            causes.insert(name, cause);
        }
        // One that is kept and has ended is started as it is, if nothing of it has changed.
        for name in self.kept.iter().copied().filter(|_| !self.intent.no_start) {
            let container = &self.observed.containers[name];
            if container.config == self.config(name) {
                match container.state {
                    ContainerState::Exited(0) if self.is_job(name) => None,
                    ContainerState::Exited(code) => {
                        causes.insert(name, format!("it has exited with code {code}").into())
                    }
                    ContainerState::Created => causes.insert(name, "it has been made and not started".into()),
                    _ => None,
                };
            }
        }
        // Whoever shares a namespace that is made anew has to be started again in the new one.
        for name in &self.wanted {
            for owner in self.owners(name) {
                if owner != *name && self.namespaces_differ(owner) && self.observed.namespaces.contains_key(owner) {
                    causes
                        .entry(name)
                        .or_insert_with(|| format!("it shares a namespace of {owner}, which is made anew").into());
                }
            }
        }
        self.restarts(&mut causes);
        // Anonymous volumes that are not kept go with the container that they are of. Those come first, since whoever has their
        // volumes depends on them.
        for name in self.wanted.iter().copied().filter(|_| self.intent.renew_volumes) {
            let is_new = |owner: &ServiceName| causes.contains_key(owner) && self.is_replaced(owner);
            if let Some(owner) = self.lenders(name).into_iter().find(is_new) {
                causes.entry(name).or_insert_with(|| format!("it has volumes of {owner}, which is made anew").into());
            }
        }
        self.restarts(&mut causes);
        causes
    }

    /// Adds those that are to be started again with what they depend on; those that are to stay as they are do.
    fn restarts(&self, causes: &mut Causes<'a>) {
        let there = |name: &ServiceName| self.observed.containers.contains_key(name);
        if self.intent.no_start {
            return;
        }
        // In their order, so that it goes on from one to the next.
        for name in self.wanted.iter().copied().filter(|name| there(name) && !self.kept.contains(name)) {
            let restarts = self.project.services[name].depends_on.iter().filter(|dependency| dependency.restart);
            let mut restarts = restarts.map(|dependency| &dependency.service);
            if let Some(on) = restarts.find(|on| causes.contains_key(on) && there(on)) {
                causes.entry(name).or_insert_with(|| format!("it restarts with {on}, which is started again").into());
            }
        }
    }

    /// Those whose anonymous volumes a service has.
    pub(super) fn lenders(&self, name: &ServiceName) -> Vec<ServiceName> {
        let mounts = self.mounts(name).into_iter();
        let owners = mounts.filter_map(|mount| match mount.source {
            MountSource::Volume(VolumeMount { of: Some((owner, _)), .. }) => Some(owner),
            _ => None,
        });
        owners.collect()
    }

    /// Why a container is not what the file says.
    fn what_differs(&self, name: &ServiceName, container: &Container) -> Cause {
        let otherwise = match &self.project.services[name].rootfs {
            Rootfs::Layers(image) if container.image.as_ref().is_some_and(|id| *id != image.id) => {
                "its image has changed"
            }
            _ => "its configuration has changed",
        };
        Cause::of(differences(&container.origin.record, &self.origin(name).record), otherwise)
    }

    /// Why a container that is what the file says has to be in other namespaces.
    fn why_elsewhere(&self, name: &ServiceName) -> Cause {
        let on = |attachment: &&NetworkAttachment| self.network_changes(&attachment.network);
        let otherwise = match self.project.services[name].networks.iter().find(on) {
            Some(attachment) => format!("its network {} has changed", attachment.network),
            None if self.is_moved(name) => return self.moves(name),
            None => "its namespaces have changed".to_owned(),
        };
        Cause::of(self.namespaces_differences(name), otherwise)
    }

    /// From which addresses to which others a service moves.
    fn moves(&self, name: &ServiceName) -> Cause {
        let text = |addresses: &[IpAddr]| match addresses {
            [] => "none".to_owned(),
            all => all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        };
        let networks = self.observed.addresses.get(name).into_iter().flatten();
        let moves = networks.filter(|(network, _)| self.project.networks.contains_key(*network));
        let moves = moves.filter_map(|(network, there)| {
            let mut there = there.clone();
            there.sort();
            let then = self.addresses.of(name, network);
            (there != then).then(|| format!("its address on {network} {} → {}", text(&there), text(then)))
        });
        moves.collect::<Vec<_>>().join(", ").into()
    }

    /// What differs of what the namespaces of a service are made from: of its networks, of its own keys, and of those of the one
    /// that stands for its group.
    pub(super) fn namespaces_differences(&self, name: &ServiceName) -> Vec<Difference> {
        let mut found = Vec::new();
        for owner in [name, self.groups.leader(name)] {
            let networks = &self.project.services[owner].networks;
            for attachment in networks {
                found = merged(found, self.network_differences(&attachment.network));
            }
            if let Some(container) = self.observed.containers.get(owner) {
                found = merged(found, differences(&container.origin.record, &self.origin(owner).record));
            }
        }
        found
    }

    pub(super) fn network_differences(&self, network: &NetworkName) -> Vec<Difference> {
        let there = self.observed.networks.get(network).filter(|_| self.network_changes(network));
        there.map(|there| differences(&there.record, &self.bridge(network).record)).unwrap_or_default()
    }

    /// Whether somebody has named it, or nobody has named any.
    fn is_asked_for(&self, name: &ServiceName) -> bool {
        self.intent.asks_for(name)
    }

    pub(super) fn policy(&self, name: &ServiceName) -> Recreate {
        if self.is_asked_for(name) { self.intent.recreate } else { self.intent.recreate_dependencies }
    }

    /// Containers that stay as they are whatever the file says. A network that is made anew takes all on it along.
    pub(super) fn kept_as_they_are(&self) -> BTreeSet<&'a ServiceName> {
        let moves = |name: &ServiceName| self.owners(name).any(|owner| self.is_moved(owner));
        let wanted = self.wanted.iter().copied();
        let never = wanted.filter(|name| self.policy(name) == Recreate::Never && !moves(name));
        never.filter(|name| self.observed.containers.contains_key(*name)).collect()
    }

    /// Whose namespaces a service is in, its own among them.
    pub(super) fn owners(&self, name: &ServiceName) -> impl Iterator<Item = &ServiceName> {
        let sources = self.groups.sources(name);
        let all = [&sources.user, &sources.net, &sources.ipc, &sources.uts, &sources.pid];
        all.into_iter().filter_map(|source| match source {
            Source::Of(owner) => Some(owner),
            Source::New | Source::Host => None,
        })
    }

    /// Nobody is started in namespaces that are not there, or are not those that the file says.
    pub(super) fn namespaces_are_there(&self, causes: &Causes<'a>) -> Result<(), PlanError> {
        for name in causes.keys() {
            for owner in self.owners(name).filter(|owner| *owner != *name && !causes.contains_key(*owner)) {
                let there = self.observed.namespaces.get(owner);
                let as_said = there == Some(&self.namespaces_fingerprint(owner));
                match self.kept.contains(owner) {
                    // Those that are not there are made for whoever is in them.
                    _ if as_said || there.is_none() => {}
                    true => return Err(PlanError::Kept { service: (*name).clone(), owner: owner.clone() }),
                    false if self.intent.no_dependencies => {
                        return Err(PlanError::WithoutOwner { service: (*name).clone(), owner: owner.clone() });
                    }
                    false => {}
                }
            }
        }
        Ok(())
    }

    /// Namespaces that are made anew take every container in them along, so all of these have to be brought up again.
    pub(super) fn nobody_is_left_behind(&self, causes: &Causes<'a>) -> Result<(), PlanError> {
        let alive = self.observed.containers.iter().filter(|(_, container)| container.state.is_up());
        for name in alive.map(|(name, _)| name).filter(|name| self.project.services.contains_key(*name)) {
            if self.wanted.contains(&name) {
                continue;
            }
            let renewed = |owner: &ServiceName| {
                self.intent.renew_volumes && causes.contains_key(owner) && self.is_replaced(owner)
            };
            if let Some(owner) = self.lenders(name).into_iter().find(renewed) {
                return Err(PlanError::LosesVolumes { service: name.clone(), owner });
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
        in_order(self.project, &wanted, false).into_iter().filter(|name| wanted.contains(*name)).collect()
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

    /// Whether there is a container that another one takes the place of, instead of being started again.
    pub(super) fn is_replaced(&self, name: &ServiceName) -> bool {
        self.observed.containers.get(name).is_some_and(|container| {
            let same = container.config == self.config(name) && !self.namespaces_differ(name);
            container.state.is_up() || !same || self.policy(name) == Recreate::Always
        })
    }

    pub(super) fn namespaces_differ(&self, name: &ServiceName) -> bool {
        !self.kept.contains(name) && self.observed.namespaces.get(name) != Some(&self.namespaces_fingerprint(name))
    }
}
