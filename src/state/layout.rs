//! Where things are.

use std::{
    fs, io,
    os::unix::{
        fs::{DirBuilderExt, MetadataExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};

use nix::sys::socket::{getsockopt, sockopt};
use sha2::Digest;

use crate::model::{ProjectName, ServiceName, Volume, VolumeName, VolumeSource};

/// The two folders that everything is below, each with the format version.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Layout {
    runtime: PathBuf,
    data: PathBuf,
}

/// The format of everything below; a change that old code cannot read makes a new one.
const VERSION: &str = "v1";

impl Layout {
    /// With these folders; they need not be there yet.
    pub fn new(runtime: &Path, data: &Path) -> Self {
        Self { runtime: runtime.join(VERSION), data: data.join(VERSION) }
    }

    /// Makes the folders, for their owner only.
    ///
    /// # Errors
    /// What mkdir(2) says, and what [`Layout::check`] does.
    pub fn create(&self) -> io::Result<()> {
        self.check()?;
        for folder in [&self.runtime, &self.data] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|e| named(folder, &e))?;
        }
        self.check()
    }

    /// Checks that the folders, as far as they are there, are the caller's own and nobody else can write to them: the
    /// runtime folder may be below /tmp, where anybody could have put one, with a socket that listens or a lock that is a
    /// link to a file of ours.
    ///
    /// # Errors
    /// `PermissionDenied` when a folder is not to be trusted.
    pub fn check(&self) -> io::Result<()> {
        for folder in [&self.runtime, &self.data] {
            for part in [folder.parent().unwrap_or(folder), folder] {
                let meta = match fs::symlink_metadata(part) {
                    Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                    other => other.map_err(|e| named(part, &e))?,
                };
                let ours = meta.is_dir() && meta.uid() == nix::unistd::geteuid().as_raw() && meta.mode() & 0o022 == 0;
                if !ours {
                    let text = format!("{} is not a folder that only you can write to", part.display());
                    return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
                }
            }
        }
        Ok(())
    }

    /// Images, for all stacks of the account.
    pub fn images(&self) -> PathBuf {
        self.data.join("images")
    }

    /// Removes the folders as far as nothing is in them: no stack, no volume and no image.
    pub fn remove_empty(&self) {
        let inside = ["stacks", "volumes", "networks", "images"].map(|name| self.data.join(name));
        for folder in inside.iter().chain([&self.data, &self.runtime]) {
            let _ = fs::remove_dir(folder);
        }
        for folder in [&self.data, &self.runtime] {
            let _ = folder.parent().map(fs::remove_dir);
        }
    }

    /// Folders that a copy-on-write view of the host has to hide.
    pub fn folders(&self) -> [&Path; 2] {
        [&self.runtime, &self.data]
    }

    /// The places of one stack.
    pub fn stack(&self, project: &ProjectName) -> StackLayout {
        StackLayout { layout: self.clone(), project: project.clone() }
    }

    /// Projects that have a folder in the runtime folder: those that run, and those whose supervisor was killed.
    pub fn stacks(&self) -> Vec<ProjectName> {
        let entries = fs::read_dir(&self.runtime).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let mut names: Vec<ProjectName> =
            folders.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        names.sort();
        names
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The places of one stack.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StackLayout {
    layout: Layout,
    project: ProjectName,
}

impl StackLayout {
    /// The stack they are of.
    pub fn project(&self) -> &ProjectName {
        &self.project
    }

    /// A digest of where the stack is kept and what it is called: another one for a stack of the same name elsewhere.
    pub fn digest(&self) -> [u8; 32] {
        sha2::Sha256::digest(self.runtime().as_os_str().as_encoded_bytes()).into()
    }

    /// The layout they are part of.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What the supervisor locks.
    pub fn lock(&self) -> PathBuf {
        self.layout.runtime.join(format!("{}.lock", self.project))
    }

    /// What is there only while the stack runs.
    pub fn runtime(&self) -> PathBuf {
        self.layout.runtime.join(self.project.as_str())
    }

    /// Processes and control groups.
    pub fn journal(&self) -> PathBuf {
        self.runtime().join("journal")
    }

    /// What the supervisor has to say when nobody listens.
    pub fn supervisor_log(&self) -> PathBuf {
        self.runtime().join("supervisor.log")
    }

    /// Where the supervisor and the keeper have a tmpfs that nobody else sees.
    pub fn private(&self) -> PathBuf {
        self.runtime().join("private")
    }

    /// What the containers on a service's network see as /etc/hosts.
    pub fn hosts(&self, service: &ServiceName) -> PathBuf {
        self.private().join("hosts").join(service.as_str())
    }

    /// The same for a service that has its network from a container of another stack, whose file it is.
    pub fn hosts_elsewhere(&self, service: &ServiceName) -> PathBuf {
        self.private().join("hosts-elsewhere").join(service.as_str())
    }

    /// What the container of a service sees as /etc/hostname.
    pub fn hostname(&self, service: &ServiceName) -> PathBuf {
        self.private().join("hostname").join(service.as_str())
    }

    /// What the container of a service sees as /etc/resolv.conf. Each has its own: its root may write to it, and what it says
    /// is who is asked for addresses.
    pub fn resolver(&self, service: &ServiceName) -> PathBuf {
        self.private().join("resolver").join(service.as_str())
    }

    /// Name of the control socket in the runtime folder.
    pub const SOCKET: &'static str = "control.sock";

    /// Connects to the supervisor.
    ///
    /// # Errors
    /// `NotFound` when there is no socket; `ConnectionRefused` when nobody listens any more; `PermissionDenied` when the
    /// folder or whoever listens is not the caller's own.
    pub fn connect(&self) -> io::Result<UnixStream> {
        self.layout.check()?;
        // A socket's path may have 107 bytes only; the folder's descriptor is shorter than any folder.
        let folder = fs::File::open(self.runtime())?;
        let fd = std::os::fd::AsRawFd::as_raw_fd(&folder);
        let stream = UnixStream::connect(format!("/proc/self/fd/{fd}/{}", Self::SOCKET))?;
        // It is about to get our terminal and our environment.
        let peer = getsockopt(&stream, sockopt::PeerCredentials)?;
        if peer.uid() != nix::unistd::geteuid().as_raw() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "somebody else listens on the control socket"));
        }
        Ok(stream)
    }

    /// What goes with the stack but may be large.
    pub fn data(&self) -> PathBuf {
        self.layout.data.join("stacks").join(self.project.as_str())
    }

    /// Folder of the logs.
    pub fn logs(&self) -> PathBuf {
        self.data().join("logs")
    }

    /// The log of a service.
    pub fn log(&self, service: &ServiceName) -> PathBuf {
        self.logs().join(format!("{service}.jsonl"))
    }

    /// Writable layers and the like of a container.
    pub fn container(&self, service: &ServiceName) -> PathBuf {
        self.data().join("containers").join(service.as_str())
    }

    /// A named volume.
    pub fn volume(&self, name: &VolumeName, volume: &Volume) -> PathBuf {
        match &volume.source {
            VolumeSource::Kept => self.layout.data.join("volumes").join(self.whole_name(name, volume)),
            VolumeSource::Folder(path) => path.clone(),
            VolumeSource::Memory(_) => self.private().join("volumes").join(name.as_str()),
        }
    }

    /// What a named volume is called among those of all stacks.
    pub fn whole_name(&self, name: &VolumeName, volume: &Volume) -> String {
        match &volume.name {
            Some(whole) => whole.to_string(),
            None => format!("{}_{name}", self.project),
        }
    }

    /// A file that is there while a named volume gets its first contents. No volume has a name with a dot in front.
    pub fn volume_marker(&self, name: &VolumeName, volume: &Volume) -> PathBuf {
        self.layout.data.join("volumes").join(format!(".{}.new", self.whole_name(name, volume)))
    }

    /// Copies of the configs and secrets of a service, in memory.
    pub fn grants(&self, service: &ServiceName) -> PathBuf {
        self.private().join("grants").join(service.as_str())
    }

    /// Nodes of the devices of a service.
    pub fn devices(&self, service: &ServiceName) -> PathBuf {
        self.private().join("devices").join(service.as_str())
    }
}
