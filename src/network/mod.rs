//! Wires a stack: bridges, a veth pair per container and network, addresses, routes, and the ports it publishes.
//!
//! ```text
//!  host                     │ network namespace of the stack          │ network namespace of a container
//!                           │                                         │
//!  client ──▶ claimed port  │        bridge ◀── host end ── veth ──────┼── peer: address, default route
//!                │          │       ▲      (one RTM_NEWLINK message)  │            (one batch: configure)
//!                ▼          │       │ gateway address                 │
//!            Forwarder ─────┼─▶ socket made inside ───────────────────┼─▶ target port
//! ```
//!
//! Order: `add_bridge`, per container `add_link` and, on a socket opened in there, `configure`, then `settle` for the new
//! outer ends and their bridge. [`netlink`] makes and removes links, addresses and routes; [`ports`] claims what is published before anything starts
//! and then carries it; [`local_port`] lends a port of loopback to the name server; [`listening`] sees who listens; [`uplink`] is the way out of the stack, and the firewall that goes with it. Which addresses and names are used is the plan's choice, the order is the executor's. Names of
//! services are `dns`'s; the namespaces themselves come from `sys`.

pub mod listening;
pub mod local_port;
pub mod netlink;
pub mod ports;
pub mod uplink;

/// What stays on a bridge of `netns` passes by iptables and nftables no more. A new namespace sends it there wherever br_netfilter is
/// there (`brnf_sysctl_defaults`, net/bridge/br_netfilter_hooks.c), as it is beside Docker: each packet between two containers
/// would be tracked as a connection and looked up in the rules of the stack, which accept it anyway.
pub fn keep_bridges_from_netfilter(netns: &crate::sys::Netns) {
    // Without br_netfilter there is nothing to be written. Where it cannot be, packets only take longer.
    let _ = netns.run(|| {
        ["iptables", "ip6tables", "arptables"]
            .iter()
            .try_for_each(|of| std::fs::write(format!("/proc/sys/net/bridge/bridge-nf-call-{of}"), "0"))
    });
}
