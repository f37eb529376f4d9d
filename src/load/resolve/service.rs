//! One service.

use super::{
    Context, Cursor, dependencies, devices, exclusions, hooks, hostname, life, limits, logging, mounts, namespaces,
    naming, networks, ports, privileges, process_options, program, rootfs,
};
use crate::{
    compose,
    diagnostics::Diagnostic,
    model::{Service, ServiceName},
};

/// The service as it is run; none if it is not to be run at all, or has no files to run on, which has been said.
pub(super) fn lower(
    cx: &mut Context<'_>,
    name: &ServiceName,
    service: &compose::Service,
    at: Cursor<'_>,
) -> Option<Service> {
    let compose::Service { program, naming, lifecycle, networking, storage, .. } = service;
    if program.provider.is_some() {
        // It is no container; that it is left out has been said.
        return None;
    }
    program::has_command(cx, name, program, at);
    let mut modes = namespaces::lower(cx, networking, at);
    modes.network = networks::predefined(cx, networking, modes.network, at);
    let rootfs = rootfs::lower(cx, name, program, at);
    let mut process = process_options::lower(cx, service, &modes, at);
    let [hostname, domainname] =
        [("hostname", &naming.hostname), ("domainname", &naming.domainname)].map(|(key, name)| {
            let of_sysctl = process_options::take_name(cx, &mut process, key, at);
            hostname::lower(cx, key, name.as_ref(), at).or(of_sysctl)
        });
    let lowered = Service {
        rootfs: crate::model::Rootfs::Host,
        entrypoint: program::words(program.entrypoint.as_ref()),
        command: program::words(program.command.as_ref()),
        environment: program::environment(cx, program, at),
        unset: program::unset(program),
        working_dir: program::working_dir(cx, program, at),
        user: program::user(cx, program, at),
        container_name: container_name(cx, naming, at),
        hostname,
        domainname,
        mounts: mounts::lower(cx, name, storage, at),
        files: devices::files(cx, name, storage, at),
        depends_on: dependencies::lower(cx, lifecycle, &modes, at),
        networks: networks::lower(cx, name, networking, &modes.network, at),
        names: naming::lower(cx, networking, at),
        ports: ports::lower(cx, name, networking, at),
        network_mode: modes.network,
        ipc: modes.ipc,
        private_ipc: modes.private_ipc,
        pid: modes.pid,
        uts: modes.uts,
        userns_mode: modes.users,
        cgroup: modes.cgroup,
        init: program.init.is_some_and(|init| init.0.0),
        read_only: storage.read_only.is_some_and(|read_only| read_only.0),
        process,
        privileges: privileges::lower(cx, service, at),
        limits: limits::lower(cx, service, at),
        logging: logging::lower(cx, name, service, at),
        stop_signal: stop_signal(cx, lifecycle, at),
        stop_grace_period: lifecycle.stop_grace_period.map_or(Service::DEFAULT_STOP_GRACE_PERIOD, |span| span.0),
        hooks: hooks::lower(cx, lifecycle, at),
        pre_start: Vec::new(),
        life: life::lower(cx, service, at),
    };
    exclusions::check(cx, name, &lowered, at);
    let pre_start = hooks::before_start(cx, lifecycle, (&lowered, rootfs.as_ref()), at);
    Some(Service { rootfs: rootfs?, pre_start, ..lowered })
}

/// The format takes whatever has a name somewhere in it, as Compose does; Docker refuses it later.
fn container_name(
    cx: &mut Context<'_>,
    naming: &compose::Naming,
    at: Cursor<'_>,
) -> Option<crate::model::ContainerName> {
    let text = naming.container_name.as_ref().map(|name| name.0.as_str()).filter(|name| !name.is_empty())?;
    let at = at.at("container_name");
    text.parse().map_err(|error| cx.push(at.here(Diagnostic::error(format!("{error}"))))).ok()
}

fn stop_signal(
    cx: &mut Context<'_>,
    lifecycle: &compose::Lifecycle,
    at: Cursor<'_>,
) -> Option<crate::model::StopSignal> {
    let text = super::said(lifecycle.stop_signal.as_ref())?;
    text.parse().map_err(|error| cx.push(at.at("stop_signal").here(Diagnostic::error(format!("{error}"))))).ok()
}
