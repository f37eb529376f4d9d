//! Why an operation failed.

use std::{io, path::PathBuf};

use super::{HookError, Unmet};
use crate::{
    cgroup::CgroupError,
    diagnostics::{Failure, FailureKind},
    image::store::StoreError,
    model::{NetworkName, Port, ProjectName, ServiceName, VolumeName},
    network::{
        netlink::NetlinkError,
        ports::{ClaimError, PortOwner},
    },
    sandbox::{BringUpStep, SandboxError, more_ids_hint},
};

/// An operation failed; `Display` says which, the sources say why.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// Ports of the stack are taken.
    #[error("{} of the stack cannot be published", if conflicts.len() == 1 { "a port" } else { "ports" })]
    Ports {
        /// Each with who has it.
        conflicts: Vec<ClaimError>,
    },
    /// A bridge was not made.
    #[error("cannot make network `{network}`")]
    Network {
        /// The network.
        network: NetworkName,
        /// Why.
        source: Box<NetlinkError>,
    },
    /// Another stack has made a shared network where this one has no rights.
    #[error("cannot join network `{network}`: stack `{stack}`, which is on it, is in another user namespace")]
    SharedApart {
        /// The network of the file.
        network: NetworkName,
        /// The other stack.
        stack: ProjectName,
    },
    /// A service was not connected.
    #[error("cannot connect service `{service}` to network `{network}`")]
    Attach {
        /// The service.
        service: ServiceName,
        /// The network.
        network: NetworkName,
        /// Why.
        source: Box<NetlinkError>,
    },
    /// A volume's folder.
    #[error("cannot {what} the folder of volume `{volume}`, {}", path.display())]
    Volume {
        /// The volume.
        volume: VolumeName,
        /// What was to be done.
        what: &'static str,
        /// Its folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A volume that has to be there already.
    #[error("volume `{volume}` is external, and there is no volume `{whole}`")]
    NoVolume {
        /// The volume.
        volume: VolumeName,
        /// What it is called among those of all stacks.
        whole: String,
    },
    /// A bind mount that cannot propagate.
    #[error("service `{service}`: {} lies on {}, which is not a shared mount", path.display(), mount.display())]
    NotShared {
        /// The service.
        service: ServiceName,
        /// The source.
        path: PathBuf,
        /// The mount that it lies on.
        mount: PathBuf,
    },
    /// A bind mount that an ordinary user cannot have.
    #[error("service `{service}`: what is mounted below {} cannot be seen on the host", path.display())]
    SharesNothing {
        /// The service.
        service: ServiceName,
        /// The source.
        path: PathBuf,
    },
    /// Devices that cannot be had.
    #[error("service `{service}` cannot have its devices")]
    Devices {
        /// The service.
        service: ServiceName,
        /// Why.
        source: io::Error,
    },
    /// Something on disk that belongs to a service.
    #[error("service `{service}`: cannot {what} {}", path.display())]
    Files {
        /// The service.
        service: ServiceName,
        /// What was to be done.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What was made cannot be written down for whoever comes after a supervisor that is killed.
    #[error("cannot write down for the next supervisor what there is, in {}", path.display())]
    Facts {
        /// The file of facts.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What was made cannot be given to the keeper.
    #[error("cannot keep what belongs to service `{service}`")]
    Keep {
        /// The service.
        service: ServiceName,
        /// Why.
        source: SandboxError,
    },
    /// An image that cannot be had.
    #[error("service `{service}` cannot have its image `{image}`")]
    Image {
        /// The service.
        service: ServiceName,
        /// What the image is called.
        image: String,
        /// Why.
        source: StoreError,
    },
    /// A service did not come up.
    #[error("service `{service}` did not start")]
    Start {
        /// The service.
        service: ServiceName,
        /// Why.
        source: SandboxError,
    },
    /// A service did not get its namespaces.
    #[error("cannot make the namespaces of service `{service}`")]
    Namespaces {
        /// The service.
        service: ServiceName,
        /// Why.
        source: SandboxError,
    },
    /// A container of another stack whose namespaces are gone.
    #[error("service `{service}` cannot have a namespace of container `{container}` of stack `{project}`")]
    Elsewhere {
        /// The service.
        service: ServiceName,
        /// The container.
        container: String,
        /// Its stack.
        project: ProjectName,
        /// Why; ESRCH when it has ended since the plan was made.
        source: io::Error,
    },
    /// A service did not come up because its limit of memory is too low.
    #[error("service `{service}` did not start: its limit of {limit} of memory was used up")]
    OutOfMemory {
        /// The service.
        service: ServiceName,
        /// The limit.
        limit: String,
    },
    /// A service that others wait for did not get there.
    #[error("{0}")]
    Condition(Box<Unmet>),
    /// A command that is run before a service is started, or in it once it has.
    #[error("service `{service}` did not start: {hook}, `{command}`, failed")]
    Hook {
        /// The service.
        service: ServiceName,
        /// Which, as `pre_start[0]`.
        hook: String,
        /// Its command line.
        command: String,
        /// The last lines that the service wrote, and the command.
        log: Vec<String>,
        /// Why.
        source: Box<HookError>,
    },
    /// There is no control group for limits.
    #[error("there is no control group that limits can be set in")]
    NoGroup(#[source] CgroupError),
    /// Limits were not set.
    #[error("service `{service}` does not get its limits")]
    Limits {
        /// The service.
        service: ServiceName,
        /// Why.
        source: CgroupError,
    },
    /// A container whose processes go on.
    #[error("service `{service}` is not paused")]
    NotPaused {
        /// The service.
        service: ServiceName,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A process that even SIGKILL does not end.
    #[error("service `{service}` does not stop: its process {pid} is stuck in the kernel")]
    Stuck {
        /// The service.
        service: ServiceName,
        /// Its first process.
        pid: i32,
    },
    /// The plan speaks of something that is not there; a mistake of nscompose's own.
    #[error("the plan needs {0}, which is not there")]
    Missing(String),
    /// Somebody takes the stack down.
    #[error("interrupted: the stack is being taken down")]
    Interrupted,
}

impl ExecutorError {
    /// Ports that are taken by a process that could not be seen from here.
    pub fn taken_by_strangers(&self) -> Vec<Port> {
        let Self::Ports { conflicts } = self else { return Vec::new() };
        let unseen = conflicts.iter().filter_map(|conflict| match conflict {
            ClaimError::Taken(taken)
                if !matches!(taken.owner, Some(PortOwner::Process { .. } | PortOwner::Stack { .. })) =>
            {
                Some(taken.port.clone())
            }
            _ => None,
        });
        unseen.collect()
    }

    /// The same for people, with ways to mend it.
    pub fn into_failure(self) -> Failure {
        let kind = match &self {
            Self::Missing(_) => FailureKind::Internal,
            Self::NoGroup(_)
            | Self::Namespaces { .. }
            | Self::Network { .. }
            | Self::SharedApart { .. }
            | Self::Attach { .. } => FailureKind::Host,
            _ => FailureKind::Operation,
        };
        let mut failure = Failure::from_error(kind, &self);
        if is_out_of_descriptors(&self) {
            return failure.hint(MORE_DESCRIPTORS);
        }
        match &self {
            Self::Ports { conflicts } => {
                for conflict in conflicts {
                    failure = failure.caused_by(conflict);
                    if let Some(hint) = conflict.hint() {
                        failure = failure.hint(hint);
                    }
                }
                let taken = conflicts.iter().any(|conflict| matches!(conflict, ClaimError::Taken(_)));
                if taken {
                    failure = failure
                        .hint("stop what holds it, or publish another port of the host: `HOST_PORT:CONTAINER_PORT`");
                }
                failure
            }
            Self::OutOfMemory { .. } => failure.hint("raise `mem_limit`"),
            Self::Condition(unmet) => unmet.explain(failure),
            Self::Hook { service, log, .. } if !log.is_empty() => {
                failure.note(format!("the last lines of `{service}`"), log)
            }
            Self::Facts { source, .. } if source.raw_os_error() == Some(libc::ENOSPC) => {
                failure.hint("that folder is a tmpfs of the stack's own: the machine has no memory left for it")
            }
            Self::NoGroup(source) | Self::Limits { source, .. } => match source.hint() {
                Some(hint) => failure.hint(hint),
                None => failure,
            },
            Self::NoVolume { whole, .. } => failure.hint(format!(
                "bring the stack up that makes it, in which it has `name: {whole}`, or remove `external` here"
            )),
            Self::NotShared { mount, .. } => failure.hint(format!(
                "make it one with `mount --make-rshared {}`, or leave `propagation` out",
                mount.display()
            )),
            Self::SharesNothing { .. } => {
                failure.hint("an ordinary user's mounts stay in the stack: use `rslave`, or run it as root")
            }
            Self::SharedApart { stack, .. } => failure.hint(format!(
                "that is so when your ranges in /etc/subuid have changed meanwhile: `nscompose -p {stack} down`, and bring both up"
            )),
            Self::Elsewhere { source, .. } if source.raw_os_error() == Some(libc::ESRCH) => {
                failure.hint("it has just ended, or was made anew; bring its stack up and try again")
            }
            Self::Namespaces { source: SandboxError::BringUp(error), .. }
            | Self::Start { source: SandboxError::BringUp(error), .. }
                if matches!(error.step, BringUpStep::Sysctl(..)) =>
            {
                match error.errno {
                    libc::ENOENT => failure.hint("this kernel has no such setting for a namespace of its own"),
                    libc::EACCES | libc::EPERM | libc::EROFS => {
                        failure.hint("the kernel lets nobody but root of the machine set it, or nobody at all")
                    }
                    libc::EINVAL => failure.hint("the kernel does not take this value"),
                    _ => failure,
                }
            }
            Self::Start { source: SandboxError::BringUp(error), .. } => match (&error.step, error.errno) {
                (BringUpStep::Exec(program), libc::ENOENT) if program.contains('/') => failure
                    .hint(format!("`{program}` is not in the container, or the interpreter in its first line is not")),
                (BringUpStep::Exec(program), libc::ENOENT) => {
                    failure.hint(format!("no folder of the container's PATH has a program `{program}`"))
                }
                (BringUpStep::Exec(program), libc::EACCES) => {
                    failure.hint(format!("`{program}` is not executable for this user: chmod +x, or another `user:`"))
                }
                (BringUpStep::Exec(_), libc::ENOEXEC) => {
                    failure.hint("it is not a program of this machine, or a script without a `#!` line")
                }
                (BringUpStep::Label, libc::ENOENT) => failure
                    .hint("the kernel has no such profile loaded: `aa-status` lists them, `apparmor_parser -r FILE` loads one"),
                (BringUpStep::BecomeUser(_) | BringUpStep::AddGroup(_), libc::EINVAL) => {
                    failure.hint(format!("this id does not exist in the container: {}", more_ids_hint()))
                }
                (BringUpStep::OomScore(_), libc::EACCES | libc::EPERM) => failure.hint(
                    "only who has CAP_SYS_RESOURCE may go below the lowest score that the caller has had; ask for a higher one",
                ),
                (BringUpStep::Root(_), libc::EINVAL) => failure.hint(
                    "the writable layer needs a file system that overlayfs can write to: set NSCOMPOSE_HOME to a folder \
                     on ext4, xfs, btrfs or tmpfs",
                ),
                (BringUpStep::TooManyLayers(_), _) => {
                    failure.hint("build the image with fewer layers, for example by a last stage that copies all files at once")
                }
                (BringUpStep::Device(path), _) => failure.hint(format!(
                    "as an ordinary user you can give only what you may open without your further groups: `ls -l {}` \
                     shows whose it is; run the stack as root, or let a rule of udev give it to you",
                    path.display()
                )),
                (BringUpStep::MountSource(path), libc::EINVAL) => failure.hint(format!(
                    "the host has mounts below {} that an ordinary user cannot leave out: remove `recursive: disabled`",
                    path.display()
                )),
                (BringUpStep::MountPoint(_), libc::EACCES | libc::EROFS) => {
                    failure.hint("the folder it would be made in belongs to nobody in the container; mount somewhere else")
                }
                _ => failure,
            },
            _ => failure,
        }
    }
}
/// What to do about it.
pub const MORE_DESCRIPTORS: &str =
    "a service takes about ten descriptors of the supervisor; raise the hard limit (`ulimit -Hn`)";

/// Whether the supervisor or its keeper could not open something, or not hand it on, for want of descriptors.
pub fn is_out_of_descriptors(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if errno(error) == Some(libc::EMFILE) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// What the kernel told one of our own processes.
fn errno(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    if let Some(error) = error.downcast_ref::<io::Error>() {
        // The source of one that is made of another is that one's (std::io::Error).
        return error.raw_os_error().or_else(|| errno(error.get_ref()?));
    }
    // Transparent, so what it is made of is no source.
    let Some(SandboxError::BringUp(error)) = error.downcast_ref() else { return None };
    // What comes after these steps is done by a process that has a limit of its own.
    let ours = matches!(error.step, BringUpStep::MakeNamespaces | BringUpStep::Fork | BringUpStep::Internal(_));
    ours.then_some(error.errno)
}
