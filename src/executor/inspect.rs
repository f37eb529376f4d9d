//! Looking at the namespaces that there are.

use super::Stack;
use crate::{
    model::{Inodes, Namespaces},
    sandbox::StackIds,
    sys::{NamespaceKind, inode_of},
};

/// All that a container has one of.
const KINDS: [NamespaceKind; 7] = [
    NamespaceKind::User,
    NamespaceKind::Net,
    NamespaceKind::Ipc,
    NamespaceKind::Uts,
    NamespaceKind::Pid,
    NamespaceKind::Mnt,
    NamespaceKind::Cgroup,
];

impl Stack {
    /// The namespaces of the stack as they are now. What cannot be read, since its process has just ended, is left out.
    pub fn look_at_namespaces(&self) -> Namespaces {
        let mut found = Namespaces::default();
        for kind in KINDS {
            let Ok(inode) = inode_of(None, kind) else { continue };
            // The supervisor has mounts of its own, and for an ordinary user its own users; all else is where it was started.
            let own = kind == NamespaceKind::Mnt || (kind == NamespaceKind::User && self.ids != StackIds::Root);
            let whose = if own { &mut found.stack } else { &mut found.host };
            whose.insert(kind.proc_name().to_owned(), inode);
        }
        // What is shown as the stack's are the users that its containers have.
        if let Some(Ok(inode)) = self.known_users_of_host().map(|users| users.inode()) {
            found.stack.insert(NamespaceKind::User.proc_name().to_owned(), inode);
        }
        if let Ok(inode) = self.netns.inode() {
            found.stack.insert(NamespaceKind::Net.proc_name().to_owned(), inode);
        }
        let objects = self.objects();
        for (service, owned) in &objects.namespaces {
            let known = found.services.entry(service.clone()).or_default();
            let held =
                owned.pinned.iter().filter_map(|held| Some((held.kind().proc_name().to_owned(), held.inode().ok()?)));
            known.held = held.collect();
            known.elsewhere =
                owned.elsewhere.iter().map(|(kind, name)| (kind.proc_name().to_owned(), name.clone())).collect();
        }
        for (service, running) in &objects.containers {
            let of_process: Inodes = KINDS
                .into_iter()
                .filter_map(|kind| Some((kind.proc_name().to_owned(), inode_of(Some(running.pid), kind).ok()?)))
                .collect();
            // Looked up by number: only if the process still lives now were they its own.
            let alive = running.exit.borrow().is_none() && running.pidfd.is_alive();
            let known = found.services.entry(service.clone()).or_default();
            known.of_process = if alive { of_process } else { Inodes::new() };
        }
        found
    }
}
