//! From a process inside a container to its program: streams, working directory, user, capabilities, exec.

use std::{
    convert::Infallible,
    ffi::{CString, OsString},
    fs, io,
    os::{
        fd::BorrowedFd,
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
};

use nix::sched::CloneFlags;
use rustix::fs::{AtFlags, Gid, Mode, Uid};

use super::{
    capabilities,
    credentials::{self, Credentials},
    error::{BringUpError, BringUpStep},
    inner_ids::{Inner, Swap},
    labels,
    launch::{Owner, Process},
    seccomp::Filter,
    start_values,
};
use crate::{
    model::Capabilities,
    sys::{NamespaceKind, process},
};

/// Where programs are looked for when the environment says nothing, as in Docker.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Makes these the standard streams of the calling process. The log pipes belong to whoever the program runs as, so that
/// it can open /dev/stdout again.
pub(super) fn standard_streams(
    stdin: BorrowedFd<'_>,
    stdout: BorrowedFd<'_>,
    stderr: BorrowedFd<'_>,
) -> Result<(), BringUpError> {
    let failed = |e: rustix::io::Errno| BringUpStep::Internal("set up the standard streams".into()).failed(e);
    rustix::stdio::dup2_stdin(stdin).map_err(failed)?;
    rustix::stdio::dup2_stdout(stdout).map_err(failed)?;
    rustix::stdio::dup2_stderr(stderr).map_err(failed)
}

/// The first thing that a process does in a container: nothing that the caller of `up` had set is handed on, and nobody who
/// is in the container already gets at what this process has open.
///
/// More has been done before ([`start_values::before_entering`]).
pub(super) fn leave_caller() -> Result<(), BringUpError> {
    process::hide().map_err(|e| BringUpStep::Internal("hide from the container".into()).failed(e))?;
    process::leave_session_keyring();
    process::reset_signals();
    let _ = rustix::process::setsid();
    rustix::process::umask(Mode::from_raw_mode(0o022));
    Ok(())
}

/// What the container's own files say about the process.
pub(super) struct Prepared {
    credentials: Credentials,
    swap: Option<Swap>,
}

/// Looks the user up; to be called with the container's root as root.
pub(super) fn prepare(process: &Process) -> Result<Prepared, BringUpError> {
    let credentials = credentials::resolve(process.user.as_ref(), &process.options.groups)?;
    credentials.check_groups(&process.options.groups)?;
    Ok(Prepared { credentials, swap: process.invoker.map(Swap) })
}

impl Prepared {
    /// Its user, as the container's user namespace knows it.
    pub(super) fn uid(&self) -> u32 {
        self.outer(None, None).0.as_raw()
    }

    /// The user namespace that the program is to run in, of those below the container's.
    pub(super) fn namespace<'a>(&self, inner: &'a Inner) -> Option<BorrowedFd<'a>> {
        self.swap.map(|swap| inner.of_group(swap, self.credentials.gid))
    }

    /// What ids of the program, or else those that it runs as, are in the container's user namespace.
    fn outer(&self, uid: Option<u32>, gid: Option<u32>) -> (Uid, Gid) {
        let (uid, gid) = (uid.unwrap_or(self.credentials.uid), gid.unwrap_or(self.credentials.gid));
        let (uid, gid) = match self.swap {
            Some(swap) => (swap.uid(uid), swap.gid(gid, self.credentials.gid)),
            None => (uid, gid),
        };
        (Uid::from_raw(uid), Gid::from_raw(gid))
    }

    /// Makes what `folder` is (O_PATH) that of `owner`; `target` is what messages call it.
    pub(super) fn take_over(&self, folder: BorrowedFd<'_>, owner: Owner, target: &Path) -> Result<(), BringUpError> {
        let (uid, gid) = self.outer(owner.uid, owner.gid);
        rustix::fs::chownat(folder, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
            .map_err(|e| BringUpStep::Internal(format!("give {} to its user", target.display())).failed(e))
    }

    /// Enters the working directory and becomes the user. What needs root of the container comes before, what must not
    /// have it after; what installing a filter takes is left for [`Self::confine`].
    ///
    /// `inner` is the user namespace that the program runs in, if it is not the container's: entered as soon as nothing of
    /// the container's other namespaces has to be touched any more, over which it gives no rights.
    ///
    /// Nothing may be open any more but what [`close_all_but`] leaves: the folder could be a link to /proc/self/fd, and so to
    /// a folder of the host (CVE-2024-21626).
    pub(super) fn enter(&self, process: &Process, inner: Option<BorrowedFd<'_>>) -> Result<(), BringUpError> {
        let failed = |e: io::Error| BringUpStep::WorkingDir(process.working_dir.clone()).failed(e);
        if process.make_working_dir && !process.working_dir.is_dir() {
            fs::create_dir_all(&process.working_dir).map_err(failed)?;
        }
        for stream in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
            self.own_pipe(stream);
        }
        if let Some(inner) = inner {
            let failed = |e: nix::Error| BringUpStep::Join(NamespaceKind::User.proc_name().into()).failed(e);
            nix::sched::setns(inner, CloneFlags::CLONE_NEWUSER).map_err(failed)?;
        }
        capabilities::bound(process.privileges.capabilities)
            .and_then(|()| capabilities::keep())
            .map_err(|e| BringUpStep::Capabilities.failed(e))?;
        let name = process.user.as_ref().map_or_else(|| "root".to_owned(), ToString::to_string);
        self.credentials.assume(process.single_id).map_err(|e| BringUpStep::BecomeUser(name).failed(e))?;
        capabilities::limit(self.capabilities(process), capabilities::TO_FILTER)
            .map_err(|e| BringUpStep::Capabilities.failed(e))?;
        // As the user: a folder that only root may enter is not this process's working directory.
        std::env::set_current_dir(&process.working_dir).map_err(failed)?;
        // The kernel puts "(unreachable)" before the path of one that is not below the root (getcwd(2)).
        let folder = rustix::process::getcwd(Vec::new()).map_err(|e| failed(e.into()))?;
        if folder.to_bytes().starts_with(b"/") {
            Ok(())
        } else {
            let denied = io::Error::from_raw_os_error(libc::EPERM);
            Err(BringUpStep::Outside(process.working_dir.clone()).failed(denied))
        }
    }

    /// What is left to a program that it becomes.
    fn capabilities(&self, process: &Process) -> Capabilities {
        if self.credentials.uid == 0 { process.privileges.capabilities } else { Capabilities::default() }
    }

    /// Takes on all that holds for good, the end with the keeper among it (PR_SET_PDEATHSIG): nobody would know how it ends. After it the process does nothing but run its program, or be an init: the filter
    /// decides what it may do, and may be one of the stack's own. Without no_new_privs installing it takes CAP_SYS_ADMIN, so
    /// capabilities go last.
    pub(super) fn confine(&self, process: &Process, filter: Option<&Filter>) -> Result<(), BringUpError> {
        labels::apply(&process.privileges).map_err(|e| BringUpStep::Label.failed(e))?;
        if process.privileges.no_new_privileges {
            rustix::thread::set_no_new_privs(true)
                .map_err(|e| BringUpStep::Internal("set no_new_privs".into()).failed(e))?;
        }
        // Credentials change no more in a way that would clear it. Where there is none of it, whoever comes next finds the process in
        // the journal; between its start and that line there is this alone.
        let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
        if let Some(filter) = filter {
            filter.install()?;
        }
        capabilities::limit(self.capabilities(process), rustix::thread::CapabilitySet::empty())
            .map_err(|e| BringUpStep::Capabilities.failed(e))
    }

    fn own_pipe(&self, stream: BorrowedFd<'_>) {
        if is_pipe(stream) {
            let (uid, gid) = self.outer(None, None);
            let _ = rustix::fs::fchown(stream, Some(uid), Some(gid));
        }
    }
}

/// Closes every descriptor but the standard streams and these, which lead to no folder: what tells how it went, a
/// namespace. To be called on the way to a program only, by who will never touch the owners of the others again.
pub(super) fn close_all_but(kept: &[Option<BorrowedFd<'_>>]) -> Result<(), BringUpError> {
    let kept: Vec<BorrowedFd<'_>> = kept.iter().flatten().copied().collect();
    process::close_all_but(3, &kept)
        .map_err(|e| BringUpStep::Internal("close what the container must not have".into()).failed(e))
}

/// Whether it is a pipe, and not a file of the host: one with a name (fifo(7)) is such a file, and its owner's.
pub(super) fn is_pipe(stream: BorrowedFd<'_>) -> bool {
    /// statfs(2) of what pipe(2) makes (linux/magic.h).
    const PIPEFS_MAGIC: u32 = 0x5049_5045;
    // The type differs among architectures, the numbers have 32 bits.
    rustix::fs::fstatfs(stream).is_ok_and(|fs| fs.f_type as u32 == PIPEFS_MAGIC)
}

impl Prepared {
    /// Becomes the program, confined.
    pub(super) fn execute(&self, process: &Process, filter: Option<&Filter>) -> Result<Infallible, BringUpError> {
        let first = process.argv.first().map(String::as_str).unwrap_or_default();
        let failed = |e: io::Error| BringUpStep::Exec(first.to_owned()).failed(e);
        let mut environment: Vec<(String, String)> = process.environment.clone();
        for (name, value) in [("PATH", DEFAULT_PATH), ("HOME", self.credentials.home.as_str())] {
            if !environment.iter().any(|(known, _)| known == name) {
                environment.push((name.to_owned(), value.to_owned()));
            }
        }
        let path =
            environment.iter().find(|(name, _)| name == "PATH").map(|(_, path)| path.clone()).unwrap_or_default();
        let c_string = |bytes: Vec<u8>| CString::new(bytes).map_err(|_| failed(io::ErrorKind::InvalidInput.into()));
        let argv = process.argv.iter().map(|arg| c_string(arg.clone().into_bytes())).collect::<Result<Vec<_>, _>>()?;
        let envp = environment
            .into_iter()
            .map(|(name, value)| c_string(format!("{name}={value}").into_bytes()))
            .collect::<Result<Vec<_>, _>>()?;
        let candidates = candidates(first, &path)
            .into_iter()
            .map(|candidate| c_string(OsString::from(candidate).into_vec()))
            .collect::<Result<Vec<_>, _>>()?;

        // No descriptor of ours reaches the program; that of the gate, or the status pipe, closes with success.
        process::close_on_exec_from(3).map_err(failed)?;
        start_values::limit(&process.options)?;
        self.confine(process, filter)?;

        let mut error = io::Error::from_raw_os_error(libc::ENOENT);
        for name in &candidates {
            let Err(errno) = nix::unistd::execve(name, &argv, &envp);
            // As execvp(3): a file that may not be run is worth telling about only if there is no other.
            match errno {
                nix::errno::Errno::ENOENT | nix::errno::Errno::ENOTDIR => {}
                nix::errno::Errno::EACCES => error = errno.into(),
                other => return Err(failed(other.into())),
            }
        }
        Err(failed(error))
    }
}

fn candidates(program: &str, path: &str) -> Vec<PathBuf> {
    if program.is_empty() {
        return Vec::new();
    }
    if program.as_bytes().contains(&b'/') {
        return vec![PathBuf::from(program)];
    }
    std::env::split_paths(path)
        // An empty entry is the working directory; a folder of that name is not a program.
        .map(|folder| if folder.as_os_str().is_empty() { Path::new(".").join(program) } else { folder.join(program) })
        .filter(|candidate| !candidate.is_dir() && !candidate.as_os_str().as_bytes().contains(&0))
        .collect()
}
