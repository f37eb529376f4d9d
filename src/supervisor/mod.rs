//! The process that a running stack has: it holds the namespaces, carries plans out, keeps the logs and answers.
//!
//! ```text
//! up ── start ──fork──▶ supervisor ──fork──▶ keeper ──fork──▶ containers
//!  │                      │
//!  │                      ├─ dispatcher: owns the picture of the stack, one job at a time
//!  │                      ├─ connection (a task per client): Request in, Reply out
//!  └─ Connection ═════════┘      control socket, owner only
//! ```
//!
//! Tasks share messages, not locks: connections ask the dispatcher, the executor tells it of changes, and only the
//! dispatcher changes the picture. It ends when a job is done, nothing is left and nobody is connected.

mod client;
mod connection;
mod dispatcher;
mod elsewhere;
mod host;
mod protocol;
mod start;

pub use client::{Connection, observe};
pub use elsewhere::containers_elsewhere;
pub use host::{host, is_root_of_machine, more_ids_hint, owner_of};
pub use protocol::{AttachRequest, Event, ExecRequest, Reply, Request, Snapshot};
pub use start::{connect, connect_or_start, successor_main};
