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
        Capabilities, Hooks, LifeSettings, Mount, MountSource, PreStart, Privileges, Seccomp, Service, ServiceName,
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

impl<'a> Up<'a> {
    /// Adds what is run before these containers. What each of them waits for then comes back.
    pub(super) fn run_hooks(
        &self,
        plan: &mut Plan,
        causes: &Causes<'a>,
        before: &BeforeStart<'a>,
    ) -> BTreeMap<&'a ServiceName, Vec<StepId>> {
        // Whatever it waits for has been done before its first hook, and so before itself.
        let mut ready: BTreeMap<&ServiceName, Vec<StepId>> = before.containers.iter().cloned().collect();
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
            for (name, dependents) in runs {
                let spec = Box::new(self.hook(name, index, hook));
                let mut after: BTreeSet<StepId> = dependents.iter().flat_map(|name| &ready[*name]).copied().collect();
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
                dependents.iter().for_each(|name| drop(ready.insert(name, vec![done])));
            }
            is_begun = true;
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
            let waits = hooks::is_created(self.observed, hook) && hooks::is_created(self.observed, &before);
            goes || causes.contains_key(&before) || self.wanted.contains(&&before) && !waits
        });
        left.collect()
    }

    /// Says of the volumes of a container that something has run before it, on the same files, which has given them their first
    /// contents and may have changed them since: its owner is then what that has made it, even of one that is empty still.
    pub(super) fn leave_volumes(&self, name: &ServiceName, causes: &Causes<'a>, spec: &mut ContainerSpec) {
        let service = &self.project.services[name];
        let once = self.runs_what_is_for_all(causes, name);
        let mut fill = service.pre_start.iter().filter(|hook| hook.rootfs == service.rootfs);
        let for_all = once && fill.clone().any(|hook| !hook.per_replica);
        let for_this = fill.any(|hook| hook.per_replica);
        // Those without names are of the container that it ran for: for all, that is the first.
        let is_first = !causes.keys().any(|other| other.is_replica_of(name) && other.number() < name.number());
        for mount in &mut spec.files.mounts {
            if let MountSource::Volume(volume) = &mut mount.source {
                volume.is_filled |= for_this || for_all && (volume.volume.is_some() || is_first);
            }
        }
    }

    /// The container of a command: that of the service, with another program and perhaps other files.
    fn hook(&self, name: &ServiceName, index: u32, hook: &PreStart) -> ContainerSpec {
        let service = as_service(&self.project.services[name], hook);
        let of_service = self.container(name);
        let mut mounts = self.mounts_of_hook(name, hook);
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
            restart_with: BTreeSet::new(),
            hooks: Hooks::default(),
            config: fingerprint(&(&of_service.config, hook)),
            ..of_service
        };
        spec.files.rootfs = hook.rootfs.clone();
        spec.files.volumes.retain(|volume, _| named_volumes(&mounts).any(|mounted| mounted == volume));
        spec.files.mounts = mounts;
        spec
    }

    /// What the service has mounted, its anonymous volumes too. What another image has at these places is not meant for them.
    fn mounts_of_hook(&self, name: &ServiceName, hook: &PreStart) -> Vec<Mount> {
        let foreign = hook.rootfs != self.project.services[name].rootfs;
        let mut mounts = self.mounts(name);
        for Mount { target, source } in &mut mounts {
            if let MountSource::Volume(volume) = source {
                volume.nocopy |= foreign;
                if volume.volume.is_none() && volume.of.is_none() {
                    volume.of = Some((name.clone(), target.clone()));
                }
            }
        }
        mounts
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
