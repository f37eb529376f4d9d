//! nscompose brings up the services of a Compose file straight on Linux namespaces.
//!
//! ```text
//! bytes ──load──▶ Project ──plan──▶ Plan ──executor──▶ sandbox, network, cgroup ──▶ Outcome
//!                  model            ▲                  │
//!                                Observed ◀─ supervisor ─ sys (the only unsafe code)
//! ```
//!
//! docs/ARCHITECTURE.md is the map; the modules below stand in the order in which the data flows.

pub mod diagnostics;
pub mod load;
pub mod model;
pub mod sys;
