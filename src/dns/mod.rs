//! Names of a stack: a zone, and a server for it in every network namespace.
//!
//! ```text
//!  network namespace of a container │ supervisor                                  │ the host's network
//!                                   │                                             │
//!  program ──▶ 127.0.0.11:53 ───────┼─▶ Server ──▶ answer ──▶ Zone                │
//!                                   │      └──── what is not the stack's ──▶ Upstream ──▶ resolvers
//! ```
//!
//! [`Zone`] is a value that says who finds what, and is replaced as a whole. [`Server`] has the sockets of one client, which is
//! whoever is in a network namespace: so it knows who asks without looking at addresses, and names are those of the networks
//! that both sides are on. Messages are hickory-proto's; `answer` is pure, from bytes to bytes. What is not the stack's
//! business is forwarded from the host's network, so it works without a way out of the stack. At which port of 127.0.0.11 the
//! sockets are, and how port 53 leads there, is for whoever starts a server.

mod answer;
mod server;
mod upstream;
mod zone;

pub use server::{Directory, Server, Sockets};
pub use upstream::{HostServers, host_resolver};
pub use zone::{Client, Found, Neighbours, NetworkNames, Upstreams, Zone};

/// The port of DNS (RFC 1035, 4.2).
pub const PORT: u16 = 53;
