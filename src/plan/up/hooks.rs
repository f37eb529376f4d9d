//! What runs before a service is started: `pre_start`.
//!
//! ```text
//! pre_start: [a, b per replica, c]      a ─┬─▶ b of web   ─┬─▶ c ─┬─▶ web
//!                                          └─▶ b of web/2 ─┘      └─▶ web/2
//! ```
//!
//! Each is a container in the namespaces of the one that it runs before, or of the first of those. So it has their networks,
//! addresses and names, and nothing is made for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use super::{Causes, Recreate, Up, fingerprint, named_volumes};
use crate::{
    model::{
        Beginning, Capabilities, Hooks, LifeSettings, Mount, MountSource, PreStart, Privileges, Rootfs, Seccomp,
        Service, ServiceName,
    },
    plan::{ContainerSpec, Operation, Plan, Source, StepId, hooks, limits},
};

/// Containers of one service before which something is run.
pub(super) struct BeforeStart<'a> {
    /// The containers that are made anew, each with what it waits for.
    pub(super) containers: Vec<(&'a ServiceName, Vec<StepId>)>,
    /// The removals of all containers of the service that there were.
    pub(super) removed: Vec<StepId>,
}

/// What is to be known of what has been run before a container.
#[derive(Clone, Default)]
pub(super) struct AfterHooks {
    /// What it waits for.
    pub(super) after: Vec<StepId>,
    /// Its volumes have had their first contents.
    volumes: Volumes,
}

/// Which volumes of a container have had their first contents, and may have been changed since.
#[derive(Clone, Copy, Default)]
struct Volumes {
    named: bool,
    own: bool,
}

impl AfterHooks {
    /// Says so of the volumes of the container.
    pub(super) fn mark(&self, spec: &mut ContainerSpec) {
        spec.files.mounts.iter_mut().for_each(|mount| self.volumes.mark(mount));
    }
}

impl Volumes {
    fn mark(self, mount: &mut Mount) {
        if let MountSource::Volume(volume) = &mut mount.source {
            let made = if volume.volume.is_some() { self.named } else { self.own && volume.of.is_none() };
            if made {
                volume.beginning = Beginning::Made;
            }
        }
    }
}

impl<'a> Up<'a> {
    /// Adds what is run before these containers.
    pub(super) fn run_hooks(
        &self,
        plan: &mut Plan,
        causes: &Causes<'a>,
        before: &BeforeStart<'a>,
    ) -> BTreeMap<&'a ServiceName, AfterHooks> {
        // Whatever it waits for has been done before its first hook, and so before itself.
        let ready = before.containers.iter().map(|(name, after)| {
            let after = after.clone();
            (*name, AfterHooks { after, ..AfterHooks::default() })
        });
        let mut ready: BTreeMap<&ServiceName, AfterHooks> = ready.collect();
        let Some((first, _)) = before.containers.first() else { return ready };
        let all: Vec<&ServiceName> = before.containers.iter().map(|(name, _)| *name).collect();
        let once = self.runs_what_is_for_all(causes, first);
        let mut is_begun = false;
        for (index, hook) in (0_u32..).zip(&self.project.services[*first].pre_start) {
            if !hook.per_replica && !once {
                continue;
            }
            let runs: Vec<(&ServiceName, Vec<&ServiceName>)> = match hook.per_replica {
                true => all.iter().map(|name| (*name, vec![*name])).collect(),
                false => vec![(*first, all.clone())],
            };
            let fills = self.fills_volumes(first, hook);
            let known = ready.clone();
            for (name, dependents) in runs {
                let spec = Box::new(self.hook(name, index, hook, known[name].volumes));
                let after = dependents.iter().flat_map(|name| &ready[*name].after);
                let mut after: BTreeSet<StepId> = after.copied().collect();
                if let Some(ready) = ready.get_mut(name) {
                    ready.volumes.own |= fills;
                }
                if !hook.per_replica && !is_begun {
                    // None of the old ones sees what it does.
                    after.extend(&before.removed);
                }
                if self.intent.no_start {
                    plan.add(Operation::Create(spec), hooks::cause(name, index), after);
                    continue;
                }
                let run = hooks::Run {
                    hook: spec.service.clone(),
                    start: Operation::Start(spec),
                    dependents: dependents.iter().copied().cloned().collect(),
                    within_ms: self.intent.wait_timeout_ms,
                    cause: &hooks::cause(name, index),
                };
                let done = hooks::add(plan, run, after);
                for name in dependents {
                    ready.entry(name).or_default().after = vec![done];
                }
            }
            ready.values_mut().for_each(|ready| ready.volumes.named |= fills);
            is_begun |= !hook.per_replica;
        }
        ready
    }

    /// Whether a container has what its hooks have done still to come: it is a new one, and not one that is only started again.
    pub(super) fn wants_hooks(&self, causes: &Causes<'a>, name: &ServiceName) -> bool {
        causes.contains_key(name) && !self.project.services[name].pre_start.is_empty() && self.is_anew(causes, name)
    }

    fn is_anew(&self, causes: &Causes<'a>, name: &ServiceName) -> bool {
        let Some(container) = self.observed.containers.get(name) else { return true };
        let renewed = |owner: &ServiceName| causes.contains_key(owner) && self.is_replaced(owner);
        hooks::is_created(self.observed, name)
            || container.config != self.config(name)
            || self.owners(name).any(|owner| self.namespaces_differ(owner))
            || self.policy(name) == Recreate::Always
            || self.intent.renew_volumes && (self.is_replaced(name) || self.lenders(name).iter().any(renewed))
    }

    /// Whether what runs once for all containers of a service runs: when none of them stays, as in Docker Compose.
    fn runs_what_is_for_all(&self, causes: &Causes<'a>, name: &ServiceName) -> bool {
        let mut there = self.observed.containers.keys().filter(|other| other.hook().is_none());
        !there.any(|other| {
            other.is_replica_of(name)
                && !self.surplus.contains_key(other)
                && !(causes.contains_key(other) && self.is_anew(causes, other))
        })
    }

    /// Containers of commands that are left: of one that was made and not started, or of a supervisor that was killed.
    pub(super) fn left_hooks(&self, causes: &Causes<'a>) -> BTreeSet<&'a ServiceName> {
        let left = self.observed.containers.keys().filter(|name| name.hook().is_some()).filter(|hook| {
            let before = hook.replica(hook.number());
            let goes = self.gone.contains(&before) || self.surplus.contains_key(&before);
            let waits = hooks::is_to_come(self.observed, hook) && hooks::is_created(self.observed, &before);
            goes || causes.contains_key(&before) || self.wanted.contains(&&before) && !waits
        });
        left.collect()
    }

    /// The container of a command: that of the service, with another program and perhaps other files.
    fn hook(&self, name: &ServiceName, index: u32, hook: &PreStart, known: Volumes) -> ContainerSpec {
        let service = as_service(&self.project.services[name], hook);
        let of_service = self.container(name);
        let mut mounts = self.mounts_of_hook(name, hook, known);
        mounts.sort_by_key(|mount| mount.target.components().count());
        let mut spec = ContainerSpec {
            service: name.with_hook(index),
            name: format!("{}-pre_start.{index}", of_service.name),
            argv: hook.argv(),
            environment: service.environment.clone(),
            working_dir: service.working_dir.clone().unwrap_or_else(|| PathBuf::from("/")),
            user: service.user.clone(),
            invoker: self.as_invoker(service.user.as_ref()).filter(|_| of_service.namespaces.user != Source::Host),
            process: service.process.clone(),
            privileges: Privileges { apparmor: of_service.privileges.apparmor.clone(), ..service.privileges.clone() },
            devices: limits::devices(&self.observed.host, &service),
            ports: Vec::new(),
            life: service.life.policy(),
            depends_on: Vec::new(),
            hooks: Hooks::default(),
            config: fingerprint(&(&of_service.config, hook)),
            ..of_service
        };
        spec.files.volumes_image = match &self.project.services[name].rootfs {
            Rootfs::Layers(image) if hook.rootfs != self.project.services[name].rootfs => Some(image.clone()),
            _ => None,
        };
        spec.files.rootfs = hook.rootfs.clone();
        spec.files.volumes.retain(|volume, _| named_volumes(&mounts).any(|mounted| mounted == volume));
        spec.files.mounts = mounts;
        spec
    }

    /// What the service has mounted, its anonymous volumes too.
    fn mounts_of_hook(&self, name: &ServiceName, hook: &PreStart, known: Volumes) -> Vec<Mount> {
        let service = &self.project.services[name];
        let mut mounts = self.mounts(name);
        for mount in &mut mounts {
            if let MountSource::Volume(volume) = &mut mount.source
                && hook.run.user != service.user
            {
                volume.beginning = Beginning::Ownerless;
            }
            known.mark(mount);
            if let MountSource::Volume(volume) = &mut mount.source {
                volume.nocopy |= !self.fills_volumes(name, hook);
                if volume.volume.is_none() && volume.of.is_none() {
                    volume.of = Some((name.clone(), mount.target.clone()));
                }
            }
        }
        mounts
    }

    /// Whether a command gives new volumes what they would have from the service: on the same files, or with its image at hand.
    fn fills_volumes(&self, name: &ServiceName, hook: &PreStart) -> bool {
        let service = &self.project.services[name];
        hook.rootfs == service.rootfs || matches!(service.rootfs, Rootfs::Layers(_))
    }
}

/// The service as it would be if it ran the command.
pub(super) fn as_service(service: &Service, hook: &PreStart) -> Service {
    let mut service = service.clone();
    service.environment.clone_from(&hook.run.environment);
    service.working_dir.clone_from(&hook.run.working_dir);
    service.user.clone_from(&hook.run.user);
    service.rootfs = hook.rootfs.clone();
    service.life = LifeSettings::default();
    // Nobody attaches to it.
    (service.process.terminal, service.process.stdin_open) = (false, false);
    if hook.run.privileged {
        service.privileges = Privileges {
            capabilities: Capabilities::ALL,
            hide_kernel_files: false,
            host_devices: true,
            seccomp: Seccomp::Unconfined,
            ..service.privileges
        };
    }
    service
}
