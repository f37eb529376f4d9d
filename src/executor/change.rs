//! What an operation changed, told as it happens.

use std::{net::IpAddr, sync::Arc};

use tokio::sync::Notify;

use crate::{
    model::{Container, ContainerState, Health, NetworkName, ObservedNetwork, ProbeLog, ServiceName, StopSignal},
    plan::{StepId, Until, Wait},
};

/// One change of the stack.
#[derive(Debug, Clone)]
pub enum Change {
    /// A step has begun.
    Began(StepId),
    /// A step is done.
    Done(StepId),
    /// A step that was done is being undone, since a later one failed.
    Undoing(StepId),
    /// A bridge is there.
    Network(NetworkName, ObservedNetwork),
    /// A bridge is gone.
    NetworkRemoved(NetworkName),
    /// The namespaces of a service are there, with their fingerprint.
    Namespaces(ServiceName, String),
    /// They are gone.
    NamespacesRemoved(ServiceName),
    /// A service has these addresses on a network.
    Addresses(ServiceName, NetworkName, Vec<IpAddr>),
    /// It has none there any more.
    Detached(ServiceName, NetworkName),
    /// A container is there.
    Container(ServiceName, Box<Container>),
    /// The one with this first process is somewhere else in its life.
    State(ServiceName, i32, ContainerState),
    /// The one with this first process has been sent a signal.
    Signalled(ServiceName, i32, StopSignal),
    /// A container has been stopped because that was asked for.
    Stopped(ServiceName),
    /// Somebody has looked at the health of the one with this first process: what that came to, and the latest looks.
    Health(ServiceName, i32, Health, ProbeLog),
    /// It is gone.
    ContainerRemoved(ServiceName),
    /// Limits can be set from now on.
    GroupGiven,
    /// The kernel has killed so many processes, in all, of the one with this first process, for want of memory.
    OutOfMemory(ServiceName, i32, u64),
    /// The way out is made, or cannot be had, as this fingerprint asked for it.
    Uplink(String),
    /// A service is being waited for; told anew every second.
    Waiting(Waiting),
    /// It is not waited for any more.
    Waited(ServiceName, Until),
    /// Whoever keeps the picture lets this know when all changes before are in it.
    Sync(Arc<Notify>),
    /// Something that people may want to know.
    Notice(String),
    /// Something that people should know and that stops nothing.
    Warning(String),
}

/// A service that is being waited for.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Waiting {
    /// For what.
    pub wait: Wait,
    /// Milliseconds that have gone by.
    pub elapsed_ms: u64,
    /// What the last probe wrote.
    pub probe: Option<String>,
    /// The code that it has ended with, where it is started again.
    pub exited: Option<i32>,
}
