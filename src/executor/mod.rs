//! Carrying a plan out: the steps in their order, what is independent at the same time, undone in reverse when one fails.
//!
//! ```text
//! Plan ──▶ run: walks the graph ──▶ operation: one effect ──▶ sandbox, network, cgroup
//!              │                        │
//!              └── Change ──────────────┴──▶ whoever keeps the picture of the stack
//! ```
//!
//! It takes no decisions: every choice is in the plan. It holds what the operations make ([`Stack`]): namespaces, links,
//! running processes, published ports.

mod adopt;
mod change;
mod container;
mod devices;
mod elsewhere;
mod error;
mod exit;
mod family;
mod inspect;
mod logs;
mod mounts;
mod names;
mod operation;
mod root;
mod run;
mod shared_network;
mod spool;
mod stack;
mod stop;
mod streams;
mod uplink;
mod volume;

pub use adopt::Inherited;
pub use change::Change;
pub use error::ExecutorError;
pub use run::run;
pub use shared_network::AskForNetwork;
pub use stack::{Exec, ExecError, Stack, Starting};
pub use streams::{Attached, Input, Output};
pub use uplink::remove_uplink;
