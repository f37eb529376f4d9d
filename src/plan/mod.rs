//! Planning: what is wanted and what there is, in; the operations that make the one into the other, out.
//!
//! ```text
//! Project ─┐
//! Observed ─┼─▶ up ───▶ Plan: a graph of Steps, each an Operation with its cause
//! Intent  ─┘
//! Observed ───▶ down, remove, stop, start, restart, kill, pause, unpause ─▶ Plan
//! ```
//!
//! Planning is synchronous, deterministic and touches no descriptor. Every choice is made here (addresses, interface
//! names, id ranges, namespace owners, order), so that the executor decides nothing and the text of a plan is the test.

mod address;
mod cause;
mod down;
mod elsewhere;
mod error;
mod graph;
mod group;
mod hooks;
mod ids;
mod kill;
mod limits;
mod names;
mod operation;
mod pause;
mod record;
mod remove;
mod replicas;
mod restart;
mod select;
mod show;
mod start;
mod stop;
mod up;
mod uplink;
mod wait;

pub use address::subnets_for;
pub use cause::{Cause, Difference};
pub use down::down;
pub use elsewhere::NotShared;
pub use error::PlanError;
pub use graph::{Plan, Step, StepId};
pub use ids::IdMap;
pub use kill::kill;
pub use limits::{Unmet, leave_out_unmet};
pub use names::{NameClient, NamedNetwork, NamedService, Names};
pub use operation::{
    Bridge, BridgeRemoval, Cable, ContainerSpec, FileSystem, Foreign, Link, NamespaceSet, Operation, Route, Shared,
    Source, Sources, Uplink, UplinkBridge, UserNamespace,
};
pub use pause::{pause, unpause};
pub use remove::remove;
pub use replicas::expand;
pub use restart::restart;
pub use show::Action;
pub use start::{StartWish, start};
pub use stop::stop;
pub use up::{Intent, Orphans, Recreate, SharedPlaces, orphans, shared_places, up};
pub use wait::{Never, Until, Verdict, Wait};
