//! The control group of a container that is still to be made.

use std::{path::Path, sync::Arc};

use super::{files, material::Unfinished};
use crate::{
    cgroup::{Group, GroupFds},
    executor::{ExecutorError, Stack, devices, exit::bytes},
    model::Effective,
    plan::ContainerSpec,
    sandbox::SandboxError,
};

/// The group, if the stack has any.
pub(super) struct Grouped {
    pub(super) group: Option<Arc<Group>>,
    /// What the kernel has made of the limits.
    pub(super) effective: Effective,
    /// How often it had killed in it for want of memory.
    pub(super) killed_before: u64,
}

impl Grouped {
    /// Makes it, with its limits, and opens what a process is put into it by.
    pub(super) fn of(
        spec: &ContainerSpec,
        stack: &Stack,
        unfinished: &mut Unfinished,
    ) -> Result<(Self, GroupFds), ExecutorError> {
        let limits = |source| ExecutorError::Limits { service: spec.service.clone(), source };
        let group = stack.group().map(|group| group.create(&spec.service, &spec.limits)).transpose();
        let group = group.map_err(limits)?.map(Arc::new);
        unfinished.group.clone_from(&group);
        if let Some(group) = &group {
            // It may be one that was frozen when what was in it ended.
            group.thaw();
            stack.note_group(group).map_err(files(spec, "write to", &stack.layout.journal()))?;
        }
        // Devices that it is given are known by their numbers only now.
        let devices = spec.devices.clone().map(|rules| devices::rules(rules, spec)).transpose();
        let devices = devices.map_err(|source| ExecutorError::Devices { service: spec.service.clone(), source })?;
        // Before anything is in the group.
        let effective = group.as_ref().map(|group| group.apply(&spec.limits, devices.as_deref())).transpose();
        let effective = effective.map_err(limits)?.unwrap_or_default();
        let killed_before = group.as_ref().and_then(|group| group.oom_kills()).unwrap_or(0);
        let opened = group.as_ref().map(|group| group.open()).transpose();
        let opened = opened.map_err(files(spec, "open the control group of", Path::new(spec.name.as_str())))?;
        Ok((Self { group, effective, killed_before }, opened.unwrap_or_default()))
    }

    /// Why a container in it does not come to its program.
    pub(super) fn blame(&self, spec: &ContainerSpec, source: SandboxError) -> ExecutorError {
        let service = spec.service.clone();
        match &self.group {
            Some(group) if group.oom_kills().is_some_and(|kills| kills > self.killed_before) => {
                let limit = self.effective.memory.map(bytes).unwrap_or_default();
                ExecutorError::OutOfMemory { service, limit }
            }
            _ => ExecutorError::Start { service, source },
        }
    }
}
