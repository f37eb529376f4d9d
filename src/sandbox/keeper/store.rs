//! What the keeper keeps for the supervisor that comes after this one: whatever nobody could open again.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::OwnedFd,
};

use serde::{Deserialize, Serialize};

use crate::{
    sandbox::Pinned,
    sys::{ExitStatus, NamespaceKind, PidFd, process},
};

/// What a supervisor needs no more.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Forget {
    /// All descriptors whose names begin so.
    Descriptors(String),
    /// The namespaces of this owner.
    Namespaces(String),
    /// The process of this name.
    Process(String),
}

/// All that is kept, as the next supervisor gets it.
#[derive(Debug, Default)]
pub struct Kept {
    /// Descriptors by name.
    pub descriptors: BTreeMap<String, OwnedFd>,
    /// Namespaces by owner.
    pub namespaces: BTreeMap<String, Pinned>,
    /// Processes by name.
    pub processes: BTreeMap<String, KeptProcess>,
}

/// A process that the keeper is the parent of.
#[derive(Debug)]
pub struct KeptProcess {
    /// Its number; of one that has ended, that which it had.
    pub pid: i32,
    /// The hold on it.
    pub pidfd: PidFd,
    /// How it ended, once it has.
    pub status: Option<ExitStatus>,
}

/// The keeper's own side of it.
#[derive(Default)]
pub(super) struct Store {
    pub(super) descriptors: BTreeMap<String, OwnedFd>,
    pub(super) namespaces: BTreeMap<String, KeptNamespaces>,
    pub(super) processes: BTreeMap<String, KeptProcess>,
    /// Programs that go with the supervisor that has ordered them.
    pub(super) visitors: BTreeSet<i32>,
}

pub(super) struct KeptNamespaces {
    pub(super) namespaces: Vec<(NamespaceKind, OwnedFd)>,
    /// The init of a pid namespace, until it has been collected.
    pub(super) init: Option<i32>,
}

impl KeptNamespaces {
    /// Everything in a pid namespace ends with its init, which is not collected yet.
    fn end(self) {
        if let Some(init) = self.init {
            let _ = process::signal(init, libc::SIGKILL);
        }
    }
}

impl Store {
    pub(super) fn keep_namespaces(&mut self, owner: String, namespaces: KeptNamespaces) {
        if let Some(before) = self.namespaces.insert(owner, namespaces) {
            before.end();
        }
    }

    pub(super) fn forget(&mut self, forget: Forget) {
        match forget {
            Forget::Descriptors(prefix) => self.descriptors.retain(|name, _| !name.starts_with(&prefix)),
            Forget::Namespaces(owner) => {
                if let Some(namespaces) = self.namespaces.remove(&owner) {
                    namespaces.end();
                }
            }
            Forget::Process(name) => drop(self.processes.remove(&name)),
        }
    }

    /// A child has been collected: its number may come to mean another from now on.
    pub(super) fn ended(&mut self, pid: i32, status: ExitStatus) {
        self.visitors.remove(&pid);
        let kept = self.processes.values_mut().find(|process| process.pid == pid && process.status.is_none());
        if let Some(process) = kept {
            process.status = Some(status);
        }
        for kept in self.namespaces.values_mut().filter(|kept| kept.init == Some(pid)) {
            kept.init = None;
        }
    }
}
