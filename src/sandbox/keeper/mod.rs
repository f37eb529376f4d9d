//! The keeper: a single-threaded process that makes namespaces and containers and is the parent of all of them.
//!
//! ```text
//! supervisor                keeper                     helper (a fork, short-lived)
//!   Order ────────────────▶ poll: socket, SIGCHLD ───▶ joins namespaces, forks the container as the keeper's child
//!   Report ◀─────────────── Namespaces, Started, Failed ◀── what came of it
//!          ◀─────────────── Exited
//! ```
//!
//! It decides nothing and knows nothing of services. Answers come in the order of the orders; an exit comes after the
//! `Started` that made its process known.

mod client;
mod process;
mod program;
pub(super) mod wire;

use serde::{Deserialize, Serialize};

pub use client::{Keeper, Started};
pub(super) use process::helper;
pub use process::{Surroundings, fork_keeper};
pub use program::keeper_main;

use super::{BringUpError, ExecOrder, Launch, NamespaceOrder};
use crate::sys::{ExitStatus, NamespaceKind};

/// What the supervisor asks for.
#[derive(Debug, Serialize, Deserialize)]
enum Order {
    /// Make namespaces. Comes with the user namespace to join, if one is, and with mount namespaces of other containers.
    Namespaces(NamespaceOrder),
    /// Make a container. Comes with what [`super::LaunchFds`] lists.
    Launch(Box<Launch>),
    /// Run a program in a container.
    Exec(Box<ExecOrder>),
}

/// What the keeper answers; `id` is that of the order.
#[derive(Debug, Serialize, Deserialize)]
enum Report {
    /// Namespaces were made; a descriptor of each kind in `kinds` comes along.
    Namespaces { id: u64, kinds: Vec<NamespaceKind>, init: Option<i32> },
    /// A process was made; its pidfd comes along.
    Started { id: u64, pid: i32 },
    /// The order could not be carried out.
    Failed { id: u64, error: BringUpError },
    /// A process that was made earlier has ended.
    Exited { pid: i32, status: ExitStatus },
}
