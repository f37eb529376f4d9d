//! Namespaces of containers of other stacks, and the files that go with them.

use std::io;

use super::{ExecutorError, Stack};
use crate::{
    plan::{Foreign, NamespaceSet, Shared},
    sandbox::{ForeignFile, shared_memory},
    sys::{Namespace, NamespaceKind, PidFd, process::start_time},
};

pub(super) fn kind(shared: Shared) -> NamespaceKind {
    match shared {
        Shared::Net => NamespaceKind::Net,
        Shared::Ipc => NamespaceKind::Ipc,
        Shared::Uts => NamespaceKind::Uts,
        Shared::Pid => NamespaceKind::Pid,
    }
}

/// The namespace of the container, if it is still that which the plan means.
pub(super) fn open(set: &NamespaceSet, foreign: &Foreign, kind: NamespaceKind) -> Result<Namespace, ExecutorError> {
    let opened = open_of(foreign.process, kind)
        .and_then(|namespace| if namespace.inode()? == foreign.inode { Ok(namespace) } else { Err(gone()) });
    opened.map_err(|source| ExecutorError::Elsewhere {
        service: set.service.clone(),
        container: foreign.container.clone(),
        project: foreign.project.clone(),
        source,
    })
}

/// What comes with the network and the IPC namespace of a container elsewhere: its hosts file, and its shared memory. Each
/// with the mount namespace that it is to be taken from.
pub(super) fn files(set: &NamespaceSet, stack: &Stack) -> Result<Vec<(ForeignFile, Namespace)>, ExecutorError> {
    let mut files = Vec::new();
    for (shared, foreign) in &set.elsewhere {
        let file = match shared {
            Shared::Net => {
                let target = stack.layout.hosts_elsewhere(&set.service);
                ForeignFile { path: "/etc/hosts".into(), target, is_folder: false }
            }
            Shared::Ipc => {
                let target = shared_memory(&stack.layout.private(), &set.service.file_name());
                ForeignFile { path: "/dev/shm".into(), target, is_folder: true }
            }
            Shared::Uts | Shared::Pid => continue,
        };
        let opened = open_of(foreign.process, NamespaceKind::Mnt);
        let opened = opened.map_err(|source| ExecutorError::Elsewhere {
            service: set.service.clone(),
            container: foreign.container.clone(),
            project: foreign.project.clone(),
            source,
        });
        files.push((file, opened?));
    }
    Ok(files)
}

fn open_of((pid, started): (i32, u64), kind: NamespaceKind) -> io::Result<Namespace> {
    let held = PidFd::open(pid)?;
    if start_time(pid) != Some(started) {
        return Err(gone());
    }
    let namespace = Namespace::of_process(pid, kind)?;
    // Looked up by number: as long as it lives, that means this process and no other.
    if held.is_alive() { Ok(namespace) } else { Err(gone()) }
}

fn gone() -> io::Error {
    io::Error::from_raw_os_error(libc::ESRCH)
}
