//! What others see of a container.

use crate::{
    executor::life::Attempt,
    model::{Container, ContainerState, Effective, Health, ProbeLog, PublishedPort, Rootfs},
    plan::ContainerSpec,
};

pub(super) fn observed(
    spec: &ContainerSpec,
    pid: i32,
    ports: Vec<PublishedPort>,
    limits: Effective,
    attempt: &Attempt,
) -> Container {
    Container {
        state: ContainerState::Running,
        health: spec.life.health.as_ref().map(|_| Health::Starting),
        restarts: attempt.restarts,
        pid: Some(pid),
        ports,
        limits,
        ..made(spec)
    }
}

/// The container of `spec` that has not been started.
pub(in crate::executor) fn made(spec: &ContainerSpec) -> Container {
    Container {
        name: spec.name.clone(),
        state: ContainerState::Created,
        health: None,
        probes: ProbeLog::default(),
        restarts: 0,
        pid: None,
        config: spec.config.clone(),
        origin: spec.origin.clone(),
        image: match &spec.files.rootfs {
            Rootfs::Layers(image) => Some(image.id.clone()),
            _ => None,
        },
        dependencies: spec.dependencies.clone(),
        depends_on: spec.depends_on.clone(),
        private_ipc: spec.files.private_ipc,
        command: spec.argv.clone(),
        ports: Vec::new(),
        stop_signal: spec.stop_signal,
        stop_grace_ms: spec.stop_grace_ms,
        started_ms: jiff::Timestamp::now().as_millisecond(),
        limits: Effective::default(),
        oom_kills: 0,
    }
}
