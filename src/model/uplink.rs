//! The way out of a stack.

use std::{net::Ipv4Addr, path::PathBuf};

use serde::{Deserialize, Serialize};

/// The interface of the way out in the stack's namespace.
pub const UPLINK_INTERFACE: &str = "nsc0";

/// The address at which containers reach servers on the host's loopback: the same in every stack, so that names of the host
/// can be given out before there is an uplink. It is link-local (RFC 3927), hence of no other host that is reached by a router,
/// and the one that Podman has for it.
pub const HOST_GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 2);

/// What a file wants of the way out of its stack: `uplink` of `x-nscompose`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UplinkWish {
    /// The best that the account can have.
    #[default]
    Auto,
    /// None: what is in the stack reaches nothing outside of it. Published ports lead in all the same.
    None,
}

/// What this account can make a way out with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UplinkMeans {
    /// Nothing, and nobody expects it.
    #[default]
    None,
    /// As root: a veth pair, and rules of nftables on both sides.
    Veth {
        /// nft(8).
        nft: PathBuf,
    },
    /// As an ordinary user: pasta(1), and rules of nftables inside.
    Pasta {
        /// pasta(1).
        pasta: PathBuf,
        /// nft(8).
        nft: PathBuf,
    },
    /// A program is missing.
    Missing {
        /// Which, as it is called.
        program: String,
        /// The package that has it, in Debian and most others.
        package: String,
    },
}

impl UplinkMeans {
    /// Whether there can be a way out.
    pub fn is_there(&self) -> bool {
        matches!(self, Self::Veth { .. } | Self::Pasta { .. })
    }
}
