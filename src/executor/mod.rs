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
mod facts;
mod family;
mod freeze;
mod hooks;
mod inspect;
mod life;
mod logs;
mod mounts;
mod names;
mod operation;
mod probe;
mod root;
mod run;
mod session;
mod shared_network;
mod stack;
mod stop;
mod streams;
mod uplink;
mod volume;
mod wait;

pub use adopt::Inherited;
pub use change::{Change, Waiting};
pub use error::{ExecutorError, MORE_DESCRIPTORS, is_out_of_descriptors};
pub use hooks::HookError;
pub use run::run;
pub use shared_network::AskForNetwork;
pub use stack::{Exec, ExecError, Stack, Starting};
pub use streams::{Attached, Input, Output};
pub use uplink::remove_uplink;
pub use wait::{Unmet, Why};
