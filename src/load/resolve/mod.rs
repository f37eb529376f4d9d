//! Phase 5: the merged tree becomes the parts of a project.
//!
//! ```text
//! tree ──keys.rs: one table per kind of mapping──▶ drafts ──references.rs, cycle.rs──▶ Parts
//!            │
//!            └─ a small function per key, in the file named after it
//! ```
//!
//! A draft is a service whose references are still names with their places. To add a key: a line in the table of its
//! mapping, a function, a field of the model.

mod byte_size;
mod command;
mod context;
mod cycle;
mod depends_on;
mod duration;
mod environment;
mod hostname;
mod keys;
mod mounts;
mod namespaces;
mod networks;
mod ports;
mod references;
mod root;
mod rootfs;
mod service;

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
};

pub(super) use mounts::target as mount_target;

use super::tree::{Entry, Node, Scalar, ScalarKind, Value};
use crate::{
    diagnostics::Diagnostics,
    model::{Network, NetworkName, Service, ServiceName, Volume, VolumeName},
};
use context::Context;

/// What a file is read against.
pub(super) struct Surroundings<'a> {
    /// Folder that relative paths start from.
    pub(super) directory: &'a Path,
    /// The environment, `.env` included.
    pub(super) variables: &'a BTreeMap<String, String>,
}

/// What a project is made of.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) services: BTreeMap<ServiceName, Service>,
    pub(super) networks: BTreeMap<NetworkName, Network>,
    pub(super) volumes: BTreeMap<VolumeName, Volume>,
}

/// Reads a whole tree. What comes back is meaningful only if `diagnostics` has no errors.
pub(super) fn resolve(tree: &Node, surroundings: &Surroundings<'_>, diagnostics: &mut Diagnostics) -> Option<Parts> {
    let mut cx = Context::new(surroundings, diagnostics);
    let root = root::read(&mut cx, tree)?;
    references::check(&mut cx, root)
}

/// A path without `.`, `..` and repeated slashes, as text: links are not followed.
pub(super) fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    clean
}
