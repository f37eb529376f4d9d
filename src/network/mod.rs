//! The network of a stack: bridges in its network namespace, cables into those of the containers, published ports.
//!
//! ```text
//! host ┊ stack                               ┊ container
//!      ┊                                     ┊
//!  port ─ Forwarder ─── address ──┐          ┊
//!      ┊                   bridge ┴─ veth ═══┊═══ eth0
//! ```
//!
//! [`Netlink`] is verbs on one socket; packets stay inside. [`claim`] takes the ports of the host before anything starts,
//! [`serve`] leads them into the stack. Which addresses and names there are is decided elsewhere.

mod netlink;
mod ports;

pub use netlink::{Bridge, Netlink, NetworkError, host_routes, quiet};
pub use ports::{Claimed, Forwarder, PortConflict, PortOwner, claim, serve};
