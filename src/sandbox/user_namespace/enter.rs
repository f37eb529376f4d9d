//! Getting into the user namespace of an account's containers: one process makes it, the one it was forked from writes the
//! maps.
//!
//! ```text
//! inside: enter ── unshare ──"u"──▶ outside: let_in ── newuidmap, newgidmap
//!            └─◀──────────────"m"───────┘
//! ```

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
};

use nix::sched::CloneFlags;
use serde::{Serialize, de::DeserializeOwned};

use super::{StackIds, UserNamespaceError, diagnose, map_ids};
use crate::{
    diagnostics::{Failure, FailureKind},
    sys::process::{self, Fork},
};

const UNSHARED: u8 = b'u';
const MAPPED: u8 = b'm';

/// Makes a user namespace and waits until `outside`, which is in [`let_in`], has mapped its ids.
///
/// # Errors
/// When this host does not allow it, with what to do about it.
pub fn enter(outside: &mut UnixStream) -> Result<(), Failure> {
    nix::sched::unshare(CloneFlags::CLONE_NEWUSER).map_err(|e| refused(UserNamespaceError::Refused(e.into())))?;
    let mut answer = [0; 1];
    let mapped = outside.write_all(&[UNSHARED]).and_then(|()| outside.read_exact(&mut answer));
    // The other side has told the user why, if it failed.
    mapped.map_err(|e| Failure::host("ids were not mapped").caused_by(&e))
}

/// The other side of [`enter`] for the process `inside`. What it has said instead of entering comes back.
///
/// # Errors
/// When the ids cannot be mapped.
pub fn let_in(inside: i32, socket: &mut UnixStream, ids: &StackIds) -> Result<Vec<u8>, Failure> {
    let mut first = Vec::new();
    // It may fail before it has a namespace, and what it says then is a failure from its first byte on.
    let _ = socket.take(1).read_to_end(&mut first);
    if first != [UNSHARED] {
        return Ok(first);
    }
    map_ids(inside, ids).map_err(|e| {
        Failure::from_error(FailureKind::Host, &e)
            .hint("check the ranges of your account in /etc/subuid and /etc/subgid (subuid(5))")
    })?;
    let _ = socket.write_all(&[MAPPED]);
    Ok(Vec::new())
}

/// Why the kernel does not let us, and what to do about it.
pub fn refused(error: UserNamespaceError) -> Failure {
    let failure = Failure::from_error(FailureKind::Host, &error);
    if nix::unistd::geteuid().is_root() && matches!(error, UserNamespaceError::Powerless(_)) {
        // Root without CAP_SYS_ADMIN: a container that was not given it.
        let in_namespace = !StackIds::of_caller().eq(&StackIds::Root);
        if !in_namespace {
            return failure.hint("root lacks CAP_SYS_ADMIN here, as in an unprivileged container; run that privileged");
        }
    }
    diagnose().into_iter().fold(failure, Failure::hint)
}

/// Does `work` as root of the account's containers, whose ids it can then give to files, in a process of its own: for an
/// ordinary user it is in a user namespace, and for all the caller stays without the threads and the runtime that `work` may
/// have. The caller has to be single-threaded.
///
/// # Errors
/// Those of `work`, and when there is no user namespace to be had.
pub fn as_root_of_containers<T: Serialize + DeserializeOwned>(
    work: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    apart(StackIds::of_caller(), work)
}

/// Does `work` in a process of its own, as whoever calls: what it enters, the caller does not. The caller has to be
/// single-threaded.
///
/// # Errors
/// Those of `work`, and when there can be no process.
pub fn in_process_of_its_own<T: Serialize + DeserializeOwned>(
    work: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    apart(StackIds::Root, work)
}

/// Root needs no namespace to have its ids.
fn apart<T: Serialize + DeserializeOwned>(
    ids: StackIds,
    work: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let host = |what: &str, e: &dyn std::error::Error| Failure::host(format!("cannot {what}")).caused_by(e);
    let (mut ours, mut theirs) = UnixStream::pair().map_err(|e| host("make a socket", &e))?;
    match process::fork(CloneFlags::empty(), None).map_err(|e| host("start a process", &e))? {
        Fork::Child => {
            drop(ours);
            // Ctrl-C reaches both; this is for what reaches only the one that people see.
            let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM));
            let entered = if ids == StackIds::Root { Ok(()) } else { enter(&mut theirs) };
            let result = entered.and_then(|()| {
                // Changing credentials has cleared it (PR_SET_PDEATHSIG(2const)).
                let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM));
                work()
            });
            let _ = theirs.write_all(&serde_json::to_vec(&result).unwrap_or_default());
            process::exit_now(0)
        }
        Fork::Parent(child) => {
            drop(theirs);
            let mut answer = if ids == StackIds::Root { Vec::new() } else { let_in(child.pid, &mut ours, &ids)? };
            let _ = ours.read_to_end(&mut answer);
            let ended = process::reap_child(child.pid);
            serde_json::from_slice(&answer).unwrap_or_else(|_| {
                let how =
                    ended.map_or_else(|e| e.to_string(), |status| format!("it ended with {}", status.shell_code()));
                Err(Failure::internal("a helper process ended without an answer").note("how", [how]))
            })
        }
    }
}
