//! What services have mounted.

use std::collections::{BTreeMap, BTreeSet};

use super::{Causes, Up};
use crate::{
    model::{Mount, MountSource, ServiceName, VolumeMount, VolumeName},
    plan::{Operation, Plan, StepId},
};

impl<'a> Up<'a> {
    pub(super) fn create_volumes(&self, plan: &mut Plan, causes: &Causes<'a>) -> BTreeMap<VolumeName, StepId> {
        let mut made = BTreeMap::new();
        for name in causes.keys() {
            for volume in named_volumes(&self.mounts(name)) {
                made.entry(volume.clone()).or_insert_with(|| {
                    let kind = self.project.volumes.get(volume).cloned().unwrap_or_default();
                    plan.add(Operation::CreateVolume(volume.clone(), kind), format!("{name} mounts it"), [])
                });
            }
        }
        made
    }

    /// The mounts of a service: its own, and what it has of others.
    pub(super) fn mounts(&self, name: &ServiceName) -> Vec<Mount> {
        let mut mounts = Vec::new();
        self.collect_mounts(name, false, &mut mounts, &mut BTreeSet::new());
        mounts
    }

    /// Those of them that others can have, too.
    pub(super) fn lent(&self, name: &ServiceName) -> Vec<Mount> {
        let mut mounts = self.mounts(name);
        mounts.retain(|mount| !matches!(mount.source, MountSource::Tmpfs(_) | MountSource::Grant(_)));
        mounts
    }

    /// The first that is mounted at a place stays, as in Docker (moby, `daemon/volumes.go`): what a service has of its own
    /// goes before what it has of others.
    pub(super) fn collect_mounts(
        &self,
        name: &ServiceName,
        read_only: bool,
        mounts: &mut Vec<Mount>,
        seen: &mut BTreeSet<ServiceName>,
    ) {
        if !seen.insert(name.clone()) {
            return;
        }
        let Some(service) = self.project.services.get(name) else { return };
        let is_other = seen.len() > 1;
        for mount in &service.mounts {
            if mounts.iter().any(|known| known.target == mount.target) {
                continue;
            }
            let mut mount = mount.clone();
            match &mut mount.source {
                MountSource::Bind(bind) => bind.read_only |= read_only,
                MountSource::Volume(volume) => {
                    volume.read_only |= read_only;
                    if is_other && volume.volume.is_none() && volume.of.is_none() {
                        volume.of = Some((name.clone(), mount.target.clone()));
                    }
                }
                MountSource::Image(_) => {}
                // They are not volumes.
                MountSource::Tmpfs(_) | MountSource::Grant(_) if is_other => continue,
                MountSource::Tmpfs(_) | MountSource::Grant(_) => {}
            }
            mounts.push(mount);
        }
        for from in &service.files.volumes_from {
            self.collect_mounts(&from.service, read_only || from.read_only, mounts, seen);
        }
    }
}

pub(super) fn named_volumes(mounts: &[Mount]) -> impl Iterator<Item = &VolumeName> {
    mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Volume(VolumeMount { volume, .. }) => volume.as_ref(),
        MountSource::Bind(_) | MountSource::Tmpfs(_) | MountSource::Grant(_) | MountSource::Image(_) => None,
    })
}

/// Whether it is an anonymous volume of the service's own.
pub(super) fn is_anonymous(mount: &Mount) -> bool {
    matches!(&mount.source, MountSource::Volume(VolumeMount { volume: None, of: None, .. }))
}
