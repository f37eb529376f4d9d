//! Services and their namespaces, as a table and as JSON.

use std::collections::BTreeMap;

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::model::{ContainerState, Inodes, Namespaces, Observed, ServiceName};

/// The kinds in the order of the columns.
const KINDS: [&str; 7] = ["user", "net", "ipc", "uts", "pid", "mnt", "cgroup"];

/// Who is in which namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NamespaceMatrix {
    host: Inodes,
    stack: Inodes,
    services: Vec<MatrixRow>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct MatrixRow {
    service: String,
    name: Option<String>,
    pid: Option<i32>,
    namespaces: BTreeMap<String, MatrixCell>,
}

/// A namespace as one service has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct MatrixCell {
    inode: u64,
    /// A service, `host`, `stack`, or, of another stack, the name of a container.
    owner: String,
    owner_kind: OwnerKind,
    /// Other services of the stack that are in it.
    shared_by: Vec<String>,
    /// The supervisor holds it: it outlives its processes.
    pinned: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum OwnerKind {
    Service,
    Stack,
    Host,
    Container,
}

impl NamespaceMatrix {
    /// Of all services, or of those in `wanted`.
    pub fn new(found: &Namespaces, observed: &Observed, wanted: &[ServiceName]) -> Self {
        let seen = |service: &ServiceName, kind: &str| -> Option<u64> {
            let service = found.services.get(service)?;
            service.of_process.get(kind).or_else(|| service.held.get(kind)).copied()
        };
        let holder =
            |kind: &str, inode: u64| found.services.iter().find(|(_, service)| service.held.get(kind) == Some(&inode));
        let cell = |name: &ServiceName, kind: &str| -> Option<MatrixCell> {
            let inode = seen(name, kind)?;
            let held = holder(kind, inode);
            let (owner, owner_kind) = match held {
                _ if found.host.get(kind) == Some(&inode) => ("host".to_owned(), OwnerKind::Host),
                _ if found.stack.get(kind) == Some(&inode) => ("stack".to_owned(), OwnerKind::Stack),
                Some((holder, service)) => match service.elsewhere.get(kind) {
                    Some(container) => (container.clone(), OwnerKind::Container),
                    None => (holder.to_string(), OwnerKind::Service),
                },
                None => (name.to_string(), OwnerKind::Service),
            };
            let others = found.services.keys().filter(|other| *other != name && other.as_str() != owner);
            let shared_by = others.filter(|other| seen(other, kind) == Some(inode)).map(ToString::to_string);
            let pinned = held.is_some() || owner_kind == OwnerKind::Stack;
            Some(MatrixCell { inode, shared_by: shared_by.collect(), owner, owner_kind, pinned })
        };
        let services = found.services.keys().filter(|name| wanted.is_empty() || wanted.contains(name));
        let services = services.map(|name| MatrixRow {
            service: name.to_string(),
            name: observed.containers.get(name).map(|container| container.name.clone()),
            pid: observed
                .containers
                .get(name)
                .filter(|container| matches!(container.state, ContainerState::Running | ContainerState::Stopping))
                .and_then(|container| container.pid),
            namespaces: KINDS.iter().filter_map(|kind| Some(((*kind).to_owned(), cell(name, kind)?))).collect(),
        });
        Self { host: found.host.clone(), stack: found.stack.clone(), services: services.collect() }
    }

    /// A table for people, without lines: a namespace of the service's own is its inode alone, or `pinned` behind it.
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        let heads = KINDS.iter().map(|kind| kind.to_uppercase());
        table.set_header(std::iter::once("SERVICE".to_owned()).chain(heads));
        for (name, inodes) in [("(host)", &self.host), ("(stack)", &self.stack)] {
            if !inodes.is_empty() {
                let cells = KINDS.iter().map(|kind| inodes.get(*kind).map_or("-".to_owned(), ToString::to_string));
                table.add_row(std::iter::once(name.to_owned()).chain(cells));
            }
        }
        for row in &self.services {
            let cells = KINDS.iter().map(|kind| match row.namespaces.get(*kind) {
                None => "-".to_owned(),
                Some(cell) if cell.owner_kind != OwnerKind::Service || cell.owner != row.service => {
                    format!("{} of {}", cell.inode, cell.owner)
                }
                Some(cell) if cell.pinned => format!("{} pinned", cell.inode),
                Some(cell) => cell.inode.to_string(),
            });
            table.add_row(std::iter::once(row.service.clone()).chain(cells));
        }
        table.lines().map(|line| format!("{}\n", line.trim())).collect()
    }

    /// The same as an object.
    pub fn json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("plain data has a JSON form");
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ServiceNamespaces;

    fn inodes(all: &[(&str, u64)]) -> Inodes {
        all.iter().map(|(kind, inode)| ((*kind).to_owned(), *inode)).collect()
    }

    #[test]
    fn each_namespace_has_one_owner() {
        let mut found = Namespaces {
            host: inodes(&[("user", 1), ("net", 2)]),
            stack: inodes(&[("net", 3)]),
            services: BTreeMap::new(),
        };
        let name = |name: &str| -> ServiceName { name.parse().expect("a name") };
        let mut add = |service: &str, of_process: &[(&str, u64)], held: &[(&str, u64)], elsewhere: &[&str]| {
            let elsewhere = elsewhere.iter().map(|kind| ((*kind).to_owned(), "other-1".to_owned())).collect();
            let known = ServiceNamespaces { of_process: inodes(of_process), held: inodes(held), elsewhere };
            found.services.insert(name(service), known);
        };
        add("ended", &[], &[("user", 10), ("net", 11)], &[]);
        add("far", &[("user", 20), ("net", 21)], &[("user", 20), ("net", 21)], &["user", "net"]);
        add("guest", &[("user", 10), ("net", 11), ("mnt", 12)], &[], &[]);
        add("open", &[("user", 1), ("net", 2), ("mnt", 14)], &[], &[]);
        let matrix = NamespaceMatrix::new(&found, &Observed::default(), &[]);
        let shown: Vec<String> =
            matrix.table().lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            shown,
            [
                "SERVICE USER NET IPC UTS PID MNT CGROUP",
                "(host) 1 2 - - - - -",
                "(stack) - 3 - - - - -",
                "ended 10 pinned 11 pinned - - - - -",
                "far 20 of other-1 21 of other-1 - - - - -",
                "guest 10 of ended 11 of ended - - - 12 -",
                "open 1 of host 2 of host - - - 14 -",
            ]
        );
        let row = &matrix.services[0].namespaces["net"];
        assert_eq!((row.pinned, &row.shared_by[..]), (true, &["guest".to_owned()][..]));
        assert_eq!(NamespaceMatrix::new(&found, &Observed::default(), &[name("open")]).services.len(), 1);
    }
}
