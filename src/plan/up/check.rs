//! Whether a service can have here what it asks for.

use crate::{
    model::{Grant, GrantSource, Invoker, Mount, MountSource, Observed, Rootfs, Service, ServiceName, UserSpec},
    plan::{IdMap, PlanError},
};

/// The profile of AppArmor that is none.
const UNCONFINED: &str = "unconfined";

/// Whether there are the ids, privileges and limits that a service asks for. `in_host` is whether it has the user namespace of
/// the host.
///
/// # Errors
/// The first that cannot be had.
pub(super) fn service(
    observed: &Observed,
    name: &ServiceName,
    service: &Service,
    ids: IdMap,
    in_host: bool,
) -> Result<(), PlanError> {
    let invoker = as_invoker(observed, service.user.as_ref());
    if let Some((target, id)) = missing_id(&service.mounts, ids.count, invoker.filter(|_| !in_host)) {
        return Err(PlanError::MissingId { service: name.clone(), target, id });
    }
    let single = ids.count == 1;
    if let (true, None, Some(user)) = (single, invoker, &service.user)
        && !matches!(user.user.as_str(), "0" | "root")
    {
        return Err(PlanError::SingleId { service: name.clone(), user: user.to_string() });
    }
    let nobodys = |group: &&String| single && *group != "root" && group.parse::<u32>() != Ok(0);
    if let Some(group) = service.process.groups.iter().find(nobodys) {
        return Err(PlanError::SingleIdGroup { service: name.clone(), group: group.clone() });
    }
    let privileges = &service.privileges;
    if let Some(profile) = privileges.apparmor.as_ref().filter(|profile| *profile != UNCONFINED)
        && !observed.host.modules.apparmor
    {
        return Err(PlanError::NoAppArmor { service: name.clone(), profile: profile.clone() });
    }
    if !privileges.label.is_empty() && !observed.host.modules.selinux {
        return Err(PlanError::NoSelinux { service: name.clone() });
    }
    if let Rootfs::Layers(image) = &service.rootfs
        && service.life.wants_test()
    {
        return Err(PlanError::NoHealthTest { service: name.clone(), image: image.name.clone() });
    }
    for (resource, limit) in &service.process.limits {
        let Some(most) = observed.host.hard_limits.get(resource) else { continue };
        if limit.hard.is_none_or(|hard| hard > *most) {
            let (service, resource, wanted) = (name.clone(), *resource, limit.hard);
            return Err(PlanError::HardLimit { service, resource, wanted, most: *most });
        }
    }
    Ok(())
}

/// The ordinary user, where a service runs as that user by number: then what it writes is to be theirs.
pub(super) fn as_invoker(observed: &Observed, user: Option<&UserSpec>) -> Option<Invoker> {
    let invoker = observed.host.invoker?;
    (user?.user.parse() == Ok(invoker.uid) && invoker.uid != 0).then_some(invoker)
}

/// An id that a mount wants and the container does not have. The number of the user takes the place of a root that is nobody
/// where it is not one of the range itself.
fn missing_id(mounts: &[Mount], count: u32, invoker: Option<Invoker>) -> Option<(String, u32)> {
    let missing = |id: u32, own: Option<u32>| match own {
        Some(own) => id != own && (id >= count || (id == 0 && own >= count)),
        None => id >= count,
    };
    mounts.iter().find_map(|mount| {
        let ids = match &mount.source {
            MountSource::Tmpfs(tmpfs) => [tmpfs.uid, tmpfs.gid],
            MountSource::Grant(Grant { source: GrantSource::Copy { uid, gid, .. }, .. }) => [*uid, *gid],
            _ => return None,
        };
        let own = [invoker.map(|own| own.uid), invoker.map(|own| own.gid)];
        let (id, _) = ids.into_iter().zip(own).find(|(id, own)| id.is_some_and(|id| missing(id, *own)))?;
        Some((mount.target.display().to_string(), id?))
    })
}
