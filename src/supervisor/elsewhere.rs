//! Containers of other stacks of the account, whose namespaces a file asks for.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
};

use super::{Snapshot, observe};
use crate::{
    diagnostics::Failure,
    model::{Container, ContainerElsewhere, ProjectName},
    state::{Layout, StackLayout},
    sys::{NamespaceKind, host_name_of, inode_of, process::start_time},
};

/// The running containers of all stacks but `own` that have one of these names. One that is not found does not run.
///
/// # Errors
/// When two stacks have containers of one name.
pub fn containers_elsewhere(
    layout: &Layout,
    own: &ProjectName,
    names: &BTreeSet<String>,
) -> Result<BTreeMap<String, ContainerElsewhere>, Failure> {
    let mut found: BTreeMap<String, ContainerElsewhere> = BTreeMap::new();
    if names.is_empty() {
        return Ok(found);
    }
    for project in layout.stacks().into_iter().filter(|project| project != own) {
        let stack = layout.stack(&project);
        let Some(snapshot) = look(&stack) else { continue };
        let wanted = snapshot.observed.containers.values().filter(|container| names.contains(&container.name));
        for container in wanted {
            let Some(pid) = container.pid.filter(|_| container.state.is_alive()) else { continue };
            let Ok(known) = describe(&project, container, pid) else { continue };
            // What was read is of this process only if the number has not come to mean another.
            let same = look(&stack).is_some_and(|again| again.observed.containers.values().any(|c| c == container));
            if !same {
                continue;
            }
            if let Some(other) = found.insert(container.name.clone(), known) {
                let text =
                    format!("stacks `{}` and `{project}` both have a container `{}`", other.project, container.name);
                return Err(Failure::operation(text)
                    .hint("give one of them another `container_name`, so that it is clear which is meant"));
            }
        }
    }
    Ok(found)
}

/// What a stack says that there is; none when nobody answers.
fn look(stack: &StackLayout) -> Option<Snapshot> {
    observe(&stack.connect().ok()?).ok().flatten()
}

fn describe(project: &ProjectName, container: &Container, pid: i32) -> io::Result<ContainerElsewhere> {
    let started = start_time(pid).ok_or(io::ErrorKind::NotFound)?;
    let unless_host = |kind| -> io::Result<Option<u64>> {
        let inode = inode_of(Some(pid), kind)?;
        Ok(Some(inode).filter(|inode| inode_of(None, kind).ok() != Some(*inode)))
    };
    let user = inode_of(Some(pid), NamespaceKind::User)?;
    Ok(ContainerElsewhere {
        project: project.clone(),
        pid,
        started,
        ids: ids(&fs::read_to_string(format!("/proc/{pid}/uid_map"))?),
        user,
        host_users: unless_host(NamespaceKind::User)?.is_none(),
        net: unless_host(NamespaceKind::Net)?,
        ipc: unless_host(NamespaceKind::Ipc)?,
        pids: unless_host(NamespaceKind::Pid)?,
        uts: unless_host(NamespaceKind::Uts)?,
        hostname: host_name_of(pid)?,
        private_ipc: container.private_ipc,
    })
}

/// First outside id and number of ids of the first line of a map (user_namespaces(7)).
fn ids(map: &str) -> (u32, u32) {
    let mut fields = map.split_ascii_whitespace().skip(1).map(|field| field.parse().ok());
    (fields.next().flatten().unwrap_or(0), fields.next().flatten().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_the_map() {
        assert_eq!(ids("         0 1073741824      65536\n"), (1_073_741_824, 65_536));
        assert_eq!(ids(""), (0, 0));
    }
}
