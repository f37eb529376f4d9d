//! Planning: what is wanted and what there is, in; the operations that make the one into the other, out.
//!
//! ```text
//! Project ─┐
//! Observed ─┼─▶ up ───▶ Plan: a graph of Steps, each an Operation with its cause
//! Intent  ─┘
//! Observed ───▶ down ─▶ Plan
//! ```
//!
//! Planning is synchronous, deterministic and touches no descriptor. Every choice is made here (addresses, interface
//! names, id ranges, namespace owners, order), so that the executor decides nothing and the text of a plan is the test.

mod address;
mod down;
mod graph;
mod group;
mod hosts;
mod ids;
mod operation;
mod up;

pub use address::subnets_for;
pub use down::down;
pub use graph::{Plan, Step, StepId};
pub use ids::IdMap;
pub use operation::{
    Bridge, BridgeRemoval, Cable, ContainerSpec, FileSystem, HostsFile, Link, NamespaceSet, Operation, Source, Sources,
    UserNamespace,
};
pub use up::{Intent, PlanError, SharedPlaces, shared_places, up};
