//! From a supervisor that has died to the next one: the keeper starts it and hands everything over.
//!
//! ```text
//! keeper ──fork, exec itself as NAME──▶ main ──▶ inherit
//!        ── Greeting ────────────────▶  with what the first supervisor left for this
//!        ── Items ... Items ─────────▶  with a descriptor for each, at most BATCH of them; each is acknowledged
//! ```
//!
//! A batch is acknowledged before the next one goes out: descriptors that are under way are counted for the account, and no
//! more of them may be under way than it may have open (unix(7), ETOOMANYREFS).

use std::{
    env,
    ffi::{CStr, CString},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use serde::{Deserialize, Serialize};

use super::{
    process::Legacy,
    program,
    store::{Kept, KeptProcess, Store},
    wire,
};
use crate::{
    sandbox::Pinned,
    sys::{
        self, ExitStatus, Namespace, NamespaceKind, PidFd,
        process::{self, Fork},
    },
};

/// What a supervisor that the keeper has started is called as.
const NAME: &CStr = c"nsc-supervisor";

/// Descriptors of one message; SCM_RIGHTS allows for 253.
const BATCH: usize = 128;

/// What comes first.
#[derive(Debug, Serialize, Deserialize)]
struct Greeting {
    text: serde_json::Value,
    keeper: i32,
    /// The number of the next order.
    next: u64,
}

/// What is handed over; a descriptor for each comes along, for namespaces one of each kind.
#[derive(Debug, Serialize, Deserialize)]
enum Item {
    Descriptor(String),
    Namespaces {
        owner: String,
        kinds: Vec<NamespaceKind>,
        init: Option<i32>,
    },
    Process {
        name: String,
        pid: i32,
        status: Option<ExitStatus>,
    },
    /// That was all.
    End,
}

/// All that a new supervisor gets.
#[derive(Debug)]
pub struct Inheritance {
    /// The socket to the keeper.
    pub socket: UnixStream,
    /// The keeper's number, which means no other while the socket is open.
    pub keeper: i32,
    /// The number of the next order.
    pub next: u64,
    /// What the first supervisor left for this.
    pub text: serde_json::Value,
    /// Descriptors likewise, in their order.
    pub descriptors: Vec<OwnedFd>,
    /// What is kept.
    pub kept: Kept,
}

impl Inheritance {
    /// Has the keeper end, since nothing is left of the stack, and waits until it has.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn decline(self) -> io::Result<()> {
        wire::send(self.socket.as_fd(), &super::Order::End, &[])?;
        while let Ok(Some(_)) = wire::receive::<serde_json::Value>(self.socket.as_fd()) {}
        Ok(())
    }
}

/// Takes everything over if this process was started by a keeper as its new supervisor. To be called in `main` before
/// anything else but [`super::keeper_main`].
///
/// # Errors
/// When the keeper cannot be understood, or has more descriptors than this process may open.
pub fn inherit() -> Option<io::Result<Inheritance>> {
    let mut arguments = env::args_os();
    if arguments.next().is_none_or(|name| name.as_encoded_bytes() != NAME.to_bytes()) {
        return None;
    }
    let number = arguments.next().and_then(|text| text.to_str()?.parse().ok());
    Some(number.ok_or_else(|| io::ErrorKind::InvalidInput.into()).and_then(sys::fds::inherited).and_then(take))
}

fn take(socket: OwnedFd) -> io::Result<Inheritance> {
    // What this process forks, such as nft, must not have it.
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    let ended = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let (Greeting { text, keeper, next }, descriptors) = wire::receive(socket.as_fd())?.ok_or_else(ended)?;
    let mut kept = Kept::default();
    'all: loop {
        let (items, fds): (Vec<Item>, _) = wire::receive(socket.as_fd())?.ok_or_else(ended)?;
        let mut fds = fds.into_iter();
        for item in items {
            match item {
                Item::Descriptor(name) => {
                    kept.descriptors.insert(name, fds.next().ok_or_else(ended)?);
                }
                Item::Namespaces { owner, kinds, init } => {
                    let mut namespaces = Vec::new();
                    for kind in kinds {
                        namespaces.push(Namespace::from_fd(kind, fds.next().ok_or_else(ended)?));
                    }
                    kept.namespaces.insert(owner, Pinned::new(namespaces, init));
                }
                Item::Process { name, pid, status } => {
                    let pidfd = PidFd::from_fd(fds.next().ok_or_else(ended)?);
                    kept.processes.insert(name, KeptProcess { pid, pidfd, status });
                }
                Item::End => break 'all,
            }
        }
        wire::send(socket.as_fd(), &(), &[])?;
    }
    Ok(Inheritance { socket: socket.into(), keeper, next, text, descriptors, kept })
}

/// Starts a new supervisor, whose number comes back with the socket to it, once it has everything.
pub(super) fn start(legacy: &Legacy, next: u64, store: &Store) -> io::Result<(OwnedFd, i32)> {
    let program = program::running()?;
    let (ours, theirs) = UnixStream::pair()?;
    match process::fork(nix::sched::CloneFlags::empty(), None)? {
        Fork::Child => {
            drop(ours);
            process::reset_signals();
            let title = CString::new(legacy.title.as_str()).unwrap_or_default();
            let environment = legacy.environment.iter();
            let environment = environment.filter_map(|(name, value)| CString::new(format!("{name}={value}")).ok());
            let environment: Vec<CString> = environment.collect();
            let error = program::execute(&program, NAME, theirs.as_fd(), &[title], &environment);
            let text = format!("cannot run a new supervisor: {error}\n");
            let _ = rustix::io::write(rustix::stdio::stderr(), text.as_bytes());
            process::exit_now(1)
        }
        Fork::Parent(child) => {
            drop(theirs);
            match hand_over(ours.as_fd(), legacy, next, store) {
                Ok(()) => Ok((ours.into(), child.pid)),
                Err(error) => {
                    let _ = child.pidfd.signal(libc::SIGKILL);
                    let _ = process::reap_child(child.pid);
                    Err(error)
                }
            }
        }
    }
}

fn hand_over(socket: BorrowedFd<'_>, legacy: &Legacy, next: u64, store: &Store) -> io::Result<()> {
    let keeper = std::process::id() as i32;
    let fds: Vec<BorrowedFd<'_>> = legacy.descriptors.iter().map(AsFd::as_fd).collect();
    wire::send(socket, &Greeting { text: legacy.text.clone(), keeper, next }, &fds)?;
    let (mut items, mut fds) = (Vec::new(), Vec::new());
    let flush = |items: &mut Vec<Item>, fds: &mut Vec<BorrowedFd<'_>>| -> io::Result<()> {
        wire::send(socket, items, fds)?;
        items.clear();
        fds.clear();
        let answer = wire::receive::<()>(socket)?;
        answer.map(drop).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    };
    for (name, fd) in &store.descriptors {
        items.push(Item::Descriptor(name.clone()));
        fds.push(fd.as_fd());
        if fds.len() >= BATCH {
            flush(&mut items, &mut fds)?;
        }
    }
    for (owner, kept) in &store.namespaces {
        let kinds = kept.namespaces.iter().map(|(kind, _)| *kind).collect();
        items.push(Item::Namespaces { owner: owner.clone(), kinds, init: kept.init });
        fds.extend(kept.namespaces.iter().map(|(_, fd)| fd.as_fd()));
        if fds.len() >= BATCH {
            flush(&mut items, &mut fds)?;
        }
    }
    for (name, kept) in &store.processes {
        items.push(Item::Process { name: name.clone(), pid: kept.pid, status: kept.status });
        fds.push(kept.pidfd.as_fd());
        if fds.len() >= BATCH {
            flush(&mut items, &mut fds)?;
        }
    }
    items.push(Item::End);
    wire::send(socket, &items, &fds)
}
