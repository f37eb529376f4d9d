//! Why an operation failed.

use std::{io, path::PathBuf};

use crate::{
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
    /// Somebody asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl ExecutorError {
    /// Ports that are taken by a process that could not be seen from here.
    pub fn taken_by_strangers(&self) -> Vec<Port> {
        let Self::Ports { conflicts } = self else { return Vec::new() };
        let unseen = conflicts.iter().filter_map(|conflict| match conflict {
            ClaimError::Taken(taken) if !matches!(taken.owner, Some(PortOwner::Process { .. })) => {
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
            Self::Namespaces { .. } | Self::Network { .. } | Self::SharedApart { .. } | Self::Attach { .. } => {
                FailureKind::Host
            }
            _ => FailureKind::Operation,
        };
        let mut failure = Failure::from_error(kind, &self);
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
            Self::SharedApart { stack, .. } => failure.hint(format!(
                "that is so when your ranges in /etc/subuid have changed meanwhile: `nscompose -p {stack} down`, and bring both up"
            )),
            Self::Files { source, .. } | Self::Volume { source, .. } if source.raw_os_error() == Some(libc::EMFILE) => {
                failure.hint("a service takes about ten descriptors of the supervisor; raise the hard limit (`ulimit -Hn`)")
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
                (BringUpStep::BecomeUser(_), libc::EINVAL) => {
                    failure.hint(format!("this id does not exist in the container: {}", more_ids_hint()))
                }
                (BringUpStep::Root(_), libc::EINVAL) => failure.hint(
                    "the writable layer needs a file system that overlayfs can write to: set NSCOMPOSE_HOME to a folder \
                     on ext4, xfs, btrfs or tmpfs",
                ),
                (BringUpStep::TooManyLayers(_), _) => {
                    failure.hint("build the image with fewer layers, for example by a last stage that copies all files at once")
                }
                (BringUpStep::MountPoint(_), libc::EACCES | libc::EROFS) => {
                    failure.hint("the folder it would be made in belongs to nobody in the container; mount somewhere else")
                }
                _ => failure,
            },
            _ => failure,
        }
    }
}
