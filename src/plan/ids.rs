//! Which ids of the host stand behind the ids of a container.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::model::{Ids, ProjectName, ServiceName};

/// One line of uid_map and gid_map (user_namespaces(7)): ids from 0 on inside, from `outside` on in the namespace of the
/// supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    /// What id 0 of the container is.
    pub outside: u32,
    /// How many ids there are.
    pub count: u32,
}

impl fmt::Display for IdMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0:{}:{}", self.outside, self.count)
    }
}

/// Ids per user namespace as root: all that the 16-bit ids of old file formats can name, as Docker and systemd-nspawn have it.
const RANGE: u32 = 65_536;

/// First id handed out as root. From here to 0x6FFF_FFFF lie ids that systemd's scheme leaves to container managers
/// (systemd.io, "Users, Groups, UIDs and GIDs"), above everything that useradd gives to people (SUB_UID_MAX, login.defs).
const FIRST: u32 = 0x4000_0000;

/// How many ranges fit.
const SLOTS: u32 = (0x7000_0000 - FIRST) / RANGE;

/// Gives each group of a stack its ids; as root a range that depends on the names only, and differs within the stack.
pub(super) struct IdRanges<'a> {
    ids: Ids,
    project: &'a ProjectName,
    taken: BTreeSet<u32>,
}

impl<'a> IdRanges<'a> {
    pub(super) fn new(ids: Ids, project: &'a ProjectName) -> Self {
        Self { ids, project, taken: BTreeSet::new() }
    }

    /// What a group without a user namespace of its own has: all ids that whoever makes the stack has.
    pub(super) fn host(&self) -> IdMap {
        let count = match self.ids {
            Ids::Root => u32::MAX,
            Ids::Range(count) => count,
            Ids::Single => 1,
        };
        IdMap { outside: 0, count }
    }

    /// The mapping for the group that `owner` stands for.
    pub(super) fn next(&mut self, owner: &ServiceName) -> IdMap {
        match self.ids {
            // The supervisor lives in a namespace that has the user's ids already; containers have the same ones.
            Ids::Range(count) => IdMap { outside: 0, count },
            Ids::Single => IdMap { outside: 0, count: 1 },
            Ids::Root => {
                let digest = Sha256::digest(format!("{}/{owner}", self.project));
                let start = u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]]) % SLOTS;
                let slot =
                    (0..SLOTS).map(|i| (start + i) % SLOTS).find(|slot| self.taken.insert(*slot)).unwrap_or(start);
                IdMap { outside: FIRST + slot * RANGE, count: RANGE }
            }
        }
    }
}
