//! Where things are.

use std::{
    fs, io,
    os::unix::{
        fs::{DirBuilderExt, MetadataExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::sys::socket::{getsockopt, sockopt};
use sha2::Digest;

use super::{FolderLock, LogFolder, Stream};
use crate::model::{ProjectName, ServiceName, Volume, VolumeName, VolumeSource};

/// The two folders that everything is below, each with the format version.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Layout {
    runtime: PathBuf,
    data: PathBuf,
}

/// The format of everything below; a change that old code cannot read makes a new one.
const VERSION: &str = "v1";

/// How long to wait for whoever has the folders locked before they are left to him. Who removes them, too, has them for a moment only.
const PATIENCE: Duration = Duration::from_millis(50);

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

    /// Makes the folders and keeps everybody else from changing what is shared in them, and from removing them.
    ///
    /// # Errors
    /// Those of [`Layout::create`], and what open(2) and flock(2) say.
    pub fn lock(&self) -> io::Result<FolderLock> {
        loop {
            self.create()?;
            match FolderLock::take(&self.runtime) {
                // The last stack has removed it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => return other,
            }
        }
    }

    /// Removes the folders as far as nothing is in them: no stack, no volume and no image. Where somebody is about to put something
    /// there ([`Layout::lock`]) they stay: he calls this when it has come to nothing, or whoever takes away what he has put there.
    pub fn remove_empty(&self) {
        let began = Instant::now();
        let _lock = loop {
            match FolderLock::take_now(&self.runtime) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => break other.ok(),
            }
            if began.elapsed() > PATIENCE {
                return;
            }
            thread::sleep(Duration::from_millis(2));
        };
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

    /// What there is of it, for the next supervisor: only a process that has the folder's mount sees it.
    pub fn facts(&self) -> PathBuf {
        self.private().join("facts")
    }

    /// Processes and control groups.
    pub fn journal(&self) -> PathBuf {
        self.runtime().join("journal")
    }

    /// What happened to its containers.
    pub fn events(&self) -> PathBuf {
        self.runtime().join("events.jsonl")
    }

    /// What happened to them before that.
    pub fn older_events(&self) -> PathBuf {
        self.runtime().join("events.1.jsonl")
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
        self.private().join("hosts").join(service.file_name())
    }

    /// The same for a service that has its network from a container of another stack, whose file it is.
    pub fn hosts_elsewhere(&self, service: &ServiceName) -> PathBuf {
        self.private().join("hosts-elsewhere").join(service.file_name())
    }

    /// What the container of a service sees as /etc/hostname.
    pub fn hostname(&self, service: &ServiceName) -> PathBuf {
        self.private().join("hostname").join(service.file_name())
    }

    /// What the container of a service sees as /etc/resolv.conf. Each has its own: its root may write to it, and what it says
    /// is who is asked for addresses.
    pub fn resolver(&self, service: &ServiceName) -> PathBuf {
        self.private().join("resolver").join(service.file_name())
    }

    /// Name of the control socket in the runtime folder.
    pub const SOCKET: &'static str = "control.sock";

    /// Whether there is a control socket.
    pub fn is_reachable(&self) -> bool {
        self.runtime().join(Self::SOCKET).exists()
    }

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
    pub fn log(&self, service: &ServiceName) -> LogFolder {
        LogFolder::new(self.logs().join(service.file_name()))
    }

    /// What a service has written and is not in its log yet, in memory that outlives the supervisor.
    pub fn spool(&self, service: &ServiceName, stream: Stream) -> PathBuf {
        self.private().join("spool").join(service.file_name()).join(stream.name())
    }

    /// Likewise what a command has written that is run in it before or after.
    pub fn hook_spool(&self, service: &ServiceName, stream: Stream) -> PathBuf {
        self.private().join("spool").join(service.file_name()).join(format!("hook-{}", stream.name()))
    }

    /// Writable layers and the like of a container.
    pub fn container(&self, service: &ServiceName) -> PathBuf {
        self.data().join("containers").join(service.file_name())
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
        self.private().join("grants").join(service.file_name())
    }

    /// Nodes of the devices of a service.
    pub fn devices(&self, service: &ServiceName) -> PathBuf {
        self.private().join("devices").join(service.file_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_that_somebody_uses_are_not_removed() {
        let dir = tempfile::tempdir().expect("folder");
        let layout = Layout::new(&dir.path().join("run"), &dir.path().join("data"));
        let lock = layout.lock().expect("locked");
        layout.remove_empty();
        assert!(layout.folders().iter().all(|folder| folder.is_dir()));
        drop(lock);
        layout.remove_empty();
        assert!(!dir.path().join("run").exists() && !dir.path().join("data").exists());
    }
}
