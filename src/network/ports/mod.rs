//! Published ports: claimed before anything starts, then carried into the stack.
//!
//! ```text
//! [Port] ──claim──▶ [Claimed] ──serve──▶ Forwarder
//!            │                            │ accept outside, take a socket made inside the stack,
//!            ▼                            │ connect it to the container, copy both ways
//!   ClaimError: who has it                ▼
//!                                 tcp: a task per connection, udp: a session per client
//! ```
//!
//! Whatever is wrong with any of the ports is found by [`claim()`], all at once. The sockets it binds live on the host's
//! side; [`serve`] gives each of them its way in. How bytes are copied is `relay`'s alone.

mod budget;
mod claim;
mod datagram;
mod forwarder;
mod owner;
mod relay;
mod stack_sockets;
mod tcp;
mod udp;

pub use claim::{ClaimError, Claimed, PortConflict, claim};
pub use forwarder::{Forwarder, serve};
pub use owner::{PortOwner, owner_of};
