//! One container: its namespaces, its root, its first process.
//!
//! ```text
//! supervisor ── Keeper (client) ══ socket ══ keeper process (single-threaded, in the user namespace of the stack)
//!                                              │ fork
//!            namespaces::create ◀──────────────┤   a process that makes namespaces, hands out their descriptors, ends
//!                                              │
//!            launch::launch ◀──────────────────┤   overlay and bind mounts, made detached with the keeper's rights
//!               └─ fork: joins the namespaces  │
//!                    └─ fork: bring_up ◀───────┘   the container: attach mounts, pivot, credentials, gate, exec
//! ```
//!
//! The keeper is forked before the supervisor starts its runtime, because a process with threads must not run arbitrary
//! code between fork and exec. It is the parent of every container, so it knows how each of them ended.
//!
//! Networks, control groups and what to run are left to others: they arrive as descriptors and as a [`Launch`].

mod bind;
mod bring_up;
mod capabilities;
mod copy_up;
mod credentials;
mod error;
mod exec;
mod files_of;
mod gate;
mod host_view;
mod in_root;
mod init;
mod inner_ids;
mod keeper;
mod labels;
mod launch;
mod masks;
mod namespaces;
mod overlay;
mod program;
mod seccomp;
mod start_values;
mod sysctl;
mod terminal;
mod user_namespace;

pub use error::{BringUpError, BringUpStep, SandboxError};
pub use exec::ExecOrder;
pub use files_of::enter_files_of;
pub use gate::{Gate, runs};
pub use host_view::HostView;
pub use keeper::{
    Forget, Inheritance, Keeper, Kept, KeptProcess, Legacy, Started, Surroundings, fork_keeper, inherit, keeper_main,
};
pub use launch::{
    BindSource, Give, Launch, LaunchFds, LaunchMount, LaunchSource, NewVolume, Owner, Process, Root, SharedFiles,
};
pub use namespaces::{ForeignFile, NamespaceOrder, Pinned, forget_shared_memory, mount_memory, shared_memory};
pub use start_values::hard_limits;
pub use user_namespace::{
    StackIds, UserNamespaceError, as_root_of_containers, diagnose, enter, in_initial_user_namespace,
    in_process_of_its_own, let_in, more_ids_hint, refused,
};
