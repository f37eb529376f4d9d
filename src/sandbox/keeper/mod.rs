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
//!
//! It outlives its supervisor: what that one could not open again it keeps (`store.rs`), and when the socket closes without
//! an [`Order::End`] it starts another one, which gets all of it (`succession.rs`).

mod client;
mod process;
mod program;
mod store;
mod succession;
pub(super) mod wire;

use serde::{Deserialize, Serialize};

pub use client::{Keeper, Started};
pub use process::{Legacy, Surroundings, fork_keeper};
pub(super) use process::{fork_by_helper, helper, helper_that_undoes};
pub use program::keeper_main;
pub use store::{Forget, Kept, KeptProcess};
pub use succession::{Inheritance, inherit};

use super::{BringUpError, ExecOrder, Launch, NamespaceOrder};
use crate::sys::{ExitStatus, NamespaceKind};

/// What the supervisor asks for.
#[derive(Debug, Serialize, Deserialize)]
enum Order {
    /// Make namespaces. Comes with the user namespace to join, if one is, and with mount namespaces of other containers.
    /// They are kept under the owner that the order names.
    Namespaces(NamespaceOrder),
    /// Make a container. Comes with what [`super::LaunchFds`] lists, and behind that with descriptors to keep under the names
    /// in `keep`; the process is kept as `name`.
    Launch { launch: Box<Launch>, name: String, keep: Vec<String> },
    /// Run a program in a container. If it does not stay, it goes with the supervisor that has ordered it, as it would with
    /// its client.
    Exec { order: Box<ExecOrder>, stays: bool },
    /// Keep the descriptors that come along, under these names.
    Keep(Vec<String>),
    /// Let go of these.
    Forget(Vec<Forget>),
    /// Kill all children, and tell when they have gone.
    KillAll,
    /// Kill all children and end.
    End,
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
    /// The order has been carried out, and nothing comes of it.
    Done { id: u64 },
    /// A process that was made earlier has ended.
    Exited { pid: i32, status: ExitStatus },
}
