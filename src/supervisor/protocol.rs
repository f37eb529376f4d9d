//! What is said over the control socket: a line of JSON each.
//!
//! A connection carries one request after another. `Observe`, `Namespaces`, `Stats`, `Processes` and `Exec` get one reply; `Events` gets
//! a `Happened` for each, for as long as there are any; `Attach` gets
//! `Attached`, and `Exited` when the service has ended; `Apply` gets events as long as it
//! waits for another, and then `Stale`, or `Accepted`; that and `Down` get events, then `Done` or `Failed`. The descriptors of an `Exec` come with its first byte. When nothing is left of a stack, connections
//! are closed by the end of the supervisor: whoever waits for that knows that everything has been removed.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    diagnostics::Failure,
    executor::Waiting,
    model::{
        ContainerState, Health, Namespaces, NetworkName, Observed, Port, ServiceName, Usage, UserSpec, Volume,
        VolumeName,
    },
    plan::{Plan, Until},
    state::{Happening, ProcessRecord},
};

/// What a client asks for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// What is there.
    Observe,
    /// Which namespaces there are.
    Namespaces,
    /// Carry a plan out.
    Apply {
        /// The plan, made from what `Observe` said.
        plan: Plan,
        /// What it was made from ([`Snapshot::generation`]): a plan for what is no longer so is not carried out.
        generation: u64,
        /// The files it came from.
        files: Vec<PathBuf>,
        /// The stack belongs to this connection: it goes down when the connection closes, however that happens. Events go
        /// on after `Done`.
        foreground: bool,
    },
    /// The stack belongs to this connection from now on, in the place of one that was broken by the death of the supervisor;
    /// events come then. `Failed` where it belongs to somebody else, or to nobody.
    Own,
    /// Stop and remove everything.
    Down {
        /// Milliseconds that every service may take to stop, instead of what the file says.
        timeout_ms: Option<u64>,
        /// Named volumes to remove too.
        volumes: BTreeMap<VolumeName, Volume>,
        /// What [`Event::Owned`] said, for one who means the stack that he owns and none that comes after it: nothing is done then.
        tenure: Option<u64>,
    },
    /// Kill every container.
    Kill,
    /// Say what the containers use.
    Stats,
    /// Say which processes the containers have.
    Processes,
    /// Say what happens to containers from now on, and before that what has happened since this moment, if there is one.
    Events {
        /// The moment.
        since: Option<jiff::Timestamp>,
    },
    /// Run a program in a container. Three descriptors come along, and a fourth for the terminal if it has one.
    Exec(ExecRequest),
    /// Hand over the network namespace of a network that stacks share, through a socket that comes along; it is closed without
    /// a descriptor when the stack is not on that network.
    SharedNetwork(NetworkName),
    /// During an `Exec` or an `Attach`: send this signal to the program.
    Signal(i32),
    /// Be connected to the standard streams of a running service. Pipes to write its output and its errors to come along,
    /// and a third one to read its input from if there is some.
    Attach(AttachRequest),
    /// The caller's terminal has so many rows and columns: during an `Attach` for that service, else for all that have a
    /// terminal.
    Resize(u16, u16),
}

/// A service to attach to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AttachRequest {
    /// Which.
    pub service: ServiceName,
    /// There is input for it.
    pub input: bool,
    /// Rows and columns of the caller's terminal, if it is on one.
    pub terminal: Option<(u16, u16)>,
}

/// A program to run in a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExecRequest {
    /// Where.
    pub service: ServiceName,
    /// Command line, never empty.
    pub argv: Vec<String>,
    /// Added to the environment of the container.
    pub environment: Vec<(String, String)>,
    /// Who it runs as; none is whoever the container runs as.
    pub user: Option<UserSpec>,
    /// Where it runs; none is the working directory of the container.
    pub working_dir: Option<PathBuf>,
    /// Rows and columns of a terminal of its own, whose other side is sent through the fourth descriptor, a socket.
    pub terminal: Option<(u16, u16)>,
    /// It has every capability that the container's user namespace gives.
    #[serde(default)]
    pub privileged: bool,
    /// The reply is `Done` as soon as it runs, and it goes on when the client hangs up.
    #[serde(default)]
    pub detach: bool,
}

/// What the supervisor answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To `Observe`.
    Snapshot(Box<Snapshot>),
    /// To `Namespaces`.
    Namespaces(Box<Namespaces>),
    /// To `Stats`: what each container that runs uses.
    Stats(BTreeMap<ServiceName, Usage>),
    /// To `Processes`: those of each container that runs, the first one first.
    Processes(BTreeMap<ServiceName, Vec<ProcessRecord>>),
    /// Something has happened to a container.
    Happened(Happening),
    /// An `Apply` begins.
    Accepted,
    /// The stack has changed since the plan of an `Apply` was made, which has to be made anew.
    Stale,
    /// Something happened.
    Event(Event),
    /// What was asked for is done.
    Done,
    /// It is not, and this is why.
    Failed(Failure),
    /// The program of an `Exec`, or the service of an `Attach`, has ended, with this code as a shell would show it.
    Exited(i32),
    /// To `Attach`: output comes from now on.
    Attached {
        /// It is on a terminal.
        terminal: bool,
        /// It takes input.
        input: bool,
    },
}

/// What is there.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Snapshot {
    /// The stack.
    pub observed: Observed,
    /// The files it came from.
    pub files: Vec<PathBuf>,
    /// Grows with every change of the stack.
    pub generation: u64,
    /// The process that answers.
    pub supervisor: i32,
    /// The process that is there for as long as the stack is, whichever supervisor it has.
    pub keeper: i32,
}

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A plan of somebody else begins.
    PlanBegan,
    /// A plan of somebody else has been carried out, or not.
    PlanEnded,
    /// The stack belongs to who hears this, until everything has been removed. The number stands for that time.
    Owned(u64),
    /// Nothing is left of the stack that belonged to who hears this. What comes after it is not his.
    Disowned,
    /// A step of a plan has begun.
    Began(String),
    /// A step of a plan is done.
    Done(String),
    /// A step is undone because another failed.
    Undoing(String),
    /// A container is somewhere else in its life.
    Container(ServiceName, ContainerState),
    /// A container that was paused goes on.
    Unpaused(ServiceName),
    /// Probes of a container have come to something else.
    Health(ServiceName, Health),
    /// The kernel has killed processes of a container, so many in all, because its memory was used up.
    OutOfMemory {
        /// Whose container it is.
        service: ServiceName,
        /// How many.
        kills: u64,
        /// Its limit in bytes.
        limit: Option<u64>,
    },
    /// A container is gone.
    Removed(ServiceName),
    /// A plan waits until another one has been carried out.
    Queued,
    /// A service is waited for; said anew every second.
    Waiting(Waiting),
    /// It is not waited for any more.
    Waited(ServiceName, Until),
    /// A port is taken, by whom the supervisor may not see: inside a user namespace nobody reads the descriptors of
    /// processes outside it. The client can look.
    PortTaken(Port),
    /// Something that people may want to know.
    Notice(String),
    /// Something that people should know.
    Warning(String),
}
