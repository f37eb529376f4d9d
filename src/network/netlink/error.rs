//! What can go wrong on a netlink socket.

use std::{fmt, io, net::IpAddr};

use ipnet::IpNet;

/// A netlink verb that failed, and on what.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// No socket.
    #[error("cannot open a netlink socket in the network namespace")]
    Open {
        /// What setns(2) or socket(2) said.
        source: io::Error,
    },
    /// No bridge.
    #[error("cannot add bridge `{name}`")]
    AddBridge {
        /// The bridge.
        name: String,
        /// What the kernel said.
        source: Refusal,
    },
    /// No veth pair.
    #[error("cannot add the veth pair `{name}` and `{peer}`")]
    AddLink {
        /// Its outer end.
        name: String,
        /// Its inner end.
        peer: String,
        /// What the kernel said.
        source: Refusal,
    },
    /// No such interface.
    #[error("cannot find interface `{name}`")]
    FindLink {
        /// The interface.
        name: String,
        /// What the kernel said.
        source: Refusal,
    },
    /// An interface that stays down.
    #[error("cannot bring interface `{name}` up")]
    SetUp {
        /// The interface.
        name: String,
        /// What the kernel said.
        source: Refusal,
    },
    /// No address.
    #[error("cannot add address {address} to interface `{name}`")]
    AddAddress {
        /// The address.
        address: IpNet,
        /// The interface.
        name: String,
        /// What the kernel said.
        source: Refusal,
    },
    /// No route.
    #[error("cannot add a default route by {gateway} through interface `{name}`")]
    AddRoute {
        /// The gateway.
        gateway: IpAddr,
        /// The interface.
        name: String,
        /// What the kernel said.
        source: Refusal,
    },
    /// No route to one address.
    #[error("cannot add a route to {to} by {gateway} through interface `{name}`")]
    AddRouteTo {
        /// Where it leads.
        to: IpAddr,
        /// The gateway.
        gateway: IpAddr,
        /// The interface.
        name: String,
        /// What the kernel said.
        source: Refusal,
    },
    /// A rule for what comes in by an interface.
    #[error("cannot set what becomes of packets from interface `{name}`")]
    Refuse {
        /// The interface.
        name: String,
        /// What the kernel said.
        source: Refusal,
    },
    /// An interface that stays.
    #[error("cannot delete interface `{name}`")]
    DeleteLink {
        /// The interface.
        name: String,
        /// What the kernel said.
        source: Refusal,
    },
    /// No list.
    #[error("cannot list the {what} of the network namespace")]
    List {
        /// What was to be listed.
        what: &'static str,
        /// What the kernel said.
        source: Refusal,
    },
}

/// How the kernel refused a request: the error number, and often a sentence (extended acknowledgement).
#[derive(Debug)]
pub struct Refusal {
    error: io::Error,
    sentence: Option<String>,
}

impl Refusal {
    pub(super) fn new(error: io::Error, sentence: Option<String>) -> Self {
        Self { error, sentence }
    }

    pub(super) fn unreadable() -> Self {
        io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer could not be read").into()
    }

    /// The error number, when the kernel gave one.
    pub fn raw_os_error(&self) -> Option<i32> {
        self.error.raw_os_error()
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::new(error, None)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.sentence {
            None => write!(f, "{}", self.error),
            Some(sentence) => write!(f, "{}: {sentence}", self.error),
        }
    }
}

impl std::error::Error for Refusal {}
