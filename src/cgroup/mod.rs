//! Control groups (cgroups(7)): one per container, so that what belongs to it is known, can be killed as one, is counted
//! and kept within its limits.
//!
//! ```text
//! Hierarchy ──offers──▶ Cgroups, for the plan
//!     └─stack──▶ StackGroup ──create──▶ Group ──apply──▶ Effective
//!                                         └─usage──▶ Usage
//!
//!             every container             what a limit asks for
//! pure v2     BASE/nscompose/STACK/SERVICE, with all controllers that there are
//! hybrid      BASE/nscompose/STACK/SERVICE  /sys/fs/cgroup/CONTROLLER/nscompose/STACK/SERVICE
//! v1 only     that of one controller        likewise
//! ```
//!
//! `STACK` is `PROJECT.DIGEST`. `BASE` is the root of the hierarchy for root of the machine; for an ordinary user the group
//! that it is in, if that is its own, or else one that the service manager of the account makes (`systemd.rs`). There is a
//! file per controller. Callers see the types above and never a path of a hierarchy.

mod controllers;
mod cpu;
mod cpuset;
mod devices;
mod error;
mod file;
mod freezer;
mod group;
mod hierarchy;
mod io;
mod memory;
mod pids;
mod systemd;

pub use error::CgroupError;
pub use group::{Group, GroupFds, StackGroup, kill, remove, remove_if_last};
pub use hierarchy::Hierarchy;
pub use io::block_device;
pub use systemd::ask_for_scope;

/// Name of the group that the groups of all stacks are in.
const ALL_STACKS: &str = "nscompose";
