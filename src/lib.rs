//! nscompose brings up the services of a Compose file straight on Linux namespaces.
//!
//! ```text
//! bytes ──yaml──▶ tree ──load──▶ Project ──plan──▶ Plan ──executor──▶ sandbox, network, cgroup ──▶ Outcome
//!                       compose   model            ▲                  │
//!                                               Observed ◀─ supervisor ─ sys (the only unsafe code)
//! ```
//!
//! docs/ARCHITECTURE.md is the map; the modules below stand in the order in which the data flows.

pub mod cli;
pub mod ui;

pub mod cgroup;
pub mod compose;
pub mod dns;
pub mod executor;
pub mod image;
pub mod life;
pub mod load;
pub mod model;
pub mod network;
pub mod plan;
pub mod sandbox;
pub mod settings;
pub mod state;
pub mod supervisor;
pub mod sys;
mod yaml;

pub mod diagnostics;
