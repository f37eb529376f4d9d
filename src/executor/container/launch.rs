//! The order by which the keeper makes a container.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use crate::{
    cgroup::GroupFds,
    executor::{ExecutorError, Stack, root::layers},
    plan::{ContainerSpec, Source},
    sandbox::{Launch, LaunchMount, Process, Root, SandboxError, SharedFiles},
    sys::NamespaceKind,
};

/// Rows and columns of a terminal that nobody looks at.
const DEFAULT_TERMINAL: (u16, u16) = (24, 80);

/// What runs, and as whom.
pub(in crate::executor) fn process(spec: &ContainerSpec) -> Process {
    let mut environment: Vec<(String, String)> =
        spec.environment.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let is_free = |name: &str| !spec.environment.contains_key(name) && !spec.unset.contains(name);
    if is_free("HOSTNAME") {
        environment.push(("HOSTNAME".to_owned(), spec.hostname.clone()));
    }
    // As in Docker.
    if spec.process.terminal && is_free("TERM") {
        environment.push(("TERM".to_owned(), "xterm".to_owned()));
    }
    Process {
        argv: spec.argv.clone(),
        environment,
        working_dir: spec.working_dir.clone(),
        make_working_dir: true,
        user: spec.user.clone(),
        single_id: spec.ids.count == 1,
        invoker: spec.invoker,
        options: spec.process.clone(),
        privileges: spec.privileges.clone(),
    }
}

/// The whole of it.
pub(super) fn launch(
    spec: &ContainerSpec,
    stack: &Stack,
    root: Root,
    folder: &Path,
    mounts: Vec<LaunchMount>,
    join: Vec<NamespaceKind>,
    cgroup: &GroupFds,
) -> Launch {
    Launch {
        root,
        read_only: spec.files.read_only,
        folder: folder.to_owned(),
        volumes_image: spec.files.volumes_image.as_ref().map(|image| layers(image, stack)),
        mounts,
        shared: SharedFiles {
            proc: spec.namespaces.pid != Source::Host,
            sys: spec.namespaces.net != Source::Host,
            mqueue: spec.namespaces.ipc != Source::Host,
            shm_of: match &spec.namespaces.ipc {
                Source::Of(owner) if spec.files.shm => Some(owner.file_name()),
                Source::Of(_) | Source::New | Source::Host => None,
            },
            host_shm: spec.files.shm && spec.namespaces.ipc == Source::Host,
            cgroup2: stack.hierarchy.is_pure_v2(),
            host_cgroups: spec.namespaces.cgroup == Source::Host,
        },
        outside: spec.ids.outside,
        new_pid: spec.namespaces.pid == Source::New,
        new_cgroup: spec.namespaces.cgroup == Source::New,
        init: spec.init,
        join,
        cgroup: cgroup.v2.is_some(),
        older_cgroups: cgroup.v1.len(),
        terminal: spec.process.terminal.then(|| stack.objects().terminal_size.unwrap_or(DEFAULT_TERMINAL)),
        process: process(spec),
    }
}

/// The namespaces that the container joins, each with its descriptor.
pub(super) async fn namespaces(
    spec: &ContainerSpec,
    stack: &Stack,
) -> Result<(Vec<NamespaceKind>, Vec<OwnedFd>), ExecutorError> {
    let sources = &spec.namespaces;
    let (mut join, mut fds) = (Vec::new(), Vec::new());
    if sources.user == Source::Host {
        let failed = |source| ExecutorError::Namespaces { service: spec.service.clone(), source };
        if let Some(users) = stack.users_of_host().await.map_err(failed)? {
            join.push(NamespaceKind::User);
            fds.push(users.as_fd().try_clone_to_owned().map_err(|e| failed(SandboxError::Talk(e)))?);
        }
    }
    for (source, kind) in [
        (&sources.user, NamespaceKind::User),
        (&sources.net, NamespaceKind::Net),
        (&sources.ipc, NamespaceKind::Ipc),
        (&sources.uts, NamespaceKind::Uts),
        (&sources.pid, NamespaceKind::Pid),
    ] {
        if let Source::Of(owner) = source {
            join.push(kind);
            fds.push(stack.pinned(owner, kind)?);
        }
    }
    Ok((join, fds))
}
