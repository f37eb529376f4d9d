//! From an order to a running child: mounts made with the keeper's rights, then two forks into the namespaces.

use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use nix::sched::CloneFlags;
use serde::{Deserialize, Serialize};

use super::{
    bind::{Binding, bind, bind_as, device, part_of},
    bring_up::{self, Attachment, Content, NewFiles},
    error::{BringUpError, BringUpStep},
    host_view::{HIDDEN, HostView},
    in_root::{Kind, is_directory},
    inner_ids::Inner,
    keeper::{Surroundings, fork_by_helper},
    namespaces,
    overlay::{Lower, Overlay},
    program,
    seccomp::Filters,
    start_values,
};
use crate::{
    model::{Invoker, Privileges, ProcessOptions, Propagation, Submounts, TmpfsMount, UserSpec},
    sys::{
        NamespaceKind, PidFd,
        process::{self, Fork},
    },
};

/// Where a root comes from.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Root {
    /// The files of the host.
    Host {
        /// What they are.
        view: HostView,
        /// Folders to hide besides the usual ones: nscompose's own.
        hidden: Vec<PathBuf>,
    },
    /// A folder.
    Directory(PathBuf),
    /// The unpacked layers of an image.
    Layers {
        /// The folder that all layers are in.
        store: PathBuf,
        /// Their names in it, the uppermost first; an image may have none.
        layers: Vec<String>,
    },
}

/// One mount, in the order in which they are made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LaunchMount {
    /// Absolute path in the container.
    pub target: PathBuf,
    /// What is mounted.
    pub source: LaunchSource,
}

/// What is mounted.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaunchSource {
    /// A path of the host that exists.
    Bind(BindSource),
    /// A new tmpfs.
    Tmpfs(TmpfsMount),
    /// The files of an image, which can only be read.
    Image {
        /// The folder that all layers are in.
        store: PathBuf,
        /// Their names in it, the uppermost first; an image may have none.
        layers: Vec<String>,
        /// The name of a folder of the container's own that stays empty.
        name: String,
        /// Only this part of it; links in there are resolved as if it were the root.
        subpath: Option<PathBuf>,
    },
    /// The node of a device.
    Device {
        /// Where it is.
        path: PathBuf,
        /// It is one of nscompose's own, with owners of the container.
        ours: bool,
        /// The container has to be able to read it.
        read: bool,
        /// The container has to be able to write to it.
        write: bool,
    },
}

/// A path of the host that exists, to be mounted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct BindSource {
    /// The path.
    pub path: PathBuf,
    /// Only this part of it; links in there are resolved as if it were the root.
    pub subpath: Option<PathBuf>,
    /// Nothing can be written through it.
    pub read_only: bool,
    /// What becomes of the mounts below it.
    pub submounts: Submounts,
    /// Whether mounts that are made later are seen on the other side.
    pub propagation: Propagation,
    /// It is an empty volume.
    pub new: Option<NewVolume>,
    /// It is a file of nscompose's own, which root of the container owns, and becomes that of these.
    pub own: Option<Owner>,
}

/// Whom something is to belong to, by ids of the container.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Owner {
    /// None is who the container runs as.
    pub uid: Option<u32>,
    /// None is the group of who the container runs as.
    pub gid: Option<u32>,
}

/// What an empty volume gets.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NewVolume {
    /// It gets what the root has at its place, if that is a folder. Then something is written to this file, which is there
    /// and empty: as long as it is, the volume is not complete.
    pub copy_up: Option<PathBuf>,
    /// Unless it has been given that, it becomes that of whoever the container runs as.
    pub give: Option<Give>,
}

/// Whether a new volume becomes that of whoever the container runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Give {
    /// Whosever it was.
    Always,
    /// If it is still that of root of the container.
    UnlessTaken,
}

/// Where the file systems that belong to a namespace come from: made anew where the container owns the namespace, else
/// those of the host or of the owner.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SharedFiles {
    /// Make /proc; else show the host's.
    pub proc: bool,
    /// Make /sys; else show the host's.
    pub sys: bool,
    /// Make /dev/mqueue; else show the host's.
    pub mqueue: bool,
    /// Show the /dev/shm of this service's IPC namespace.
    pub shm_of: Option<String>,
    /// Show the host's /dev/shm.
    pub host_shm: bool,
    /// Make /sys/fs/cgroup as cgroup2.
    pub cgroup2: bool,
    /// Show the host's /sys/fs/cgroup instead.
    pub host_cgroups: bool,
}

/// What runs, and as whom.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Process {
    /// Command line, never empty.
    pub argv: Vec<String>,
    /// The whole environment as NAME, value; HOME and PATH are added where they are missing.
    pub environment: Vec<(String, String)>,
    /// Working directory.
    pub working_dir: PathBuf,
    /// Make it where it is missing.
    pub make_working_dir: bool,
    /// Who it runs as; none is root.
    pub user: Option<UserSpec>,
    /// The user namespace has a single id.
    pub single_id: bool,
    /// The ordinary user whose stack it is, if the container runs as that user by number.
    pub invoker: Option<Invoker>,
    /// What it starts with besides.
    pub options: ProcessOptions,
    /// What it may do.
    pub privileges: Privileges,
}

/// A container to make.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Launch {
    /// Its root.
    pub root: Root,
    /// Nothing can be written to the root.
    pub read_only: bool,
    /// Folder for its writable layers.
    pub folder: PathBuf,
    /// The layers of an image that new volumes get their first contents from, instead of the root.
    pub volumes_image: Option<Root>,
    /// Mounts besides the usual ones.
    pub mounts: Vec<LaunchMount>,
    /// File systems that go with namespaces.
    pub shared: SharedFiles,
    /// First outside id of its user namespace; when it is not 0, what it sees of the host is mapped.
    pub outside: u32,
    /// Make a pid namespace for it.
    pub new_pid: bool,
    /// Make a control group namespace for it.
    pub new_cgroup: bool,
    /// Pid 1 is an init.
    pub init: bool,
    /// The namespaces that are joined, in the order of their descriptors.
    pub join: Vec<NamespaceKind>,
    /// Whether a control group of version 2 comes along.
    pub cgroup: bool,
    /// How many of version 1 do.
    pub older_cgroups: usize,
    /// Rows and columns of a terminal that it gets, as its standard streams and /dev/console.
    pub terminal: Option<(u16, u16)>,
    /// What runs.
    pub process: Process,
}

/// The descriptors that a [`Launch`] comes with.
#[derive(Debug)]
pub struct LaunchFds {
    /// Standard input.
    pub stdin: OwnedFd,
    /// Standard output.
    pub stdout: OwnedFd,
    /// Standard error.
    pub stderr: OwnedFd,
    /// The container's side of its [`Gate`](super::Gate).
    pub gate: OwnedFd,
    /// A socket that gets the container's mount namespace, and then the controlling side of its terminal if it has one; its
    /// standard streams are nothing then.
    pub socket: OwnedFd,
    /// As [`Launch::join`] says. Without a user namespace among them the container has that of the keeper.
    pub namespaces: Vec<OwnedFd>,
    /// Folder of the control group of version 2.
    pub cgroup: Option<OwnedFd>,
    /// cgroup.procs of those of version 1.
    pub older_cgroups: Vec<OwnedFd>,
}

impl LaunchFds {
    pub(super) fn into_vec(self) -> Vec<OwnedFd> {
        let Self { stdin, stdout, stderr, gate, socket, namespaces, cgroup, older_cgroups } = self;
        let streams = [stdin, stdout, stderr, gate, socket].into_iter();
        streams.chain(namespaces).chain(cgroup).chain(older_cgroups).collect()
    }

    fn from_vec(fds: Vec<OwnedFd>, launch: &Launch) -> Option<Self> {
        let mut fds = fds.into_iter();
        let (stdin, stdout, stderr, gate) = (fds.next()?, fds.next()?, fds.next()?, fds.next()?);
        let socket = fds.next()?;
        let namespaces: Vec<OwnedFd> = fds.by_ref().take(launch.join.len()).collect();
        let cgroup = fds.by_ref().take(usize::from(launch.cgroup)).next();
        let older_cgroups: Vec<OwnedFd> = fds.collect();
        let complete = namespaces.len() == launch.join.len()
            && cgroup.is_some() == launch.cgroup
            && older_cgroups.len() == launch.older_cgroups;
        complete.then_some(Self { stdin, stdout, stderr, gate, socket, namespaces, cgroup, older_cgroups })
    }
}

pub(super) fn launch(
    launch: &Launch,
    fds: Vec<OwnedFd>,
    surroundings: &Surroundings,
    filters: &Filters,
) -> Result<(i32, PidFd), BringUpError> {
    let incomplete =
        || BringUpStep::Internal("read an order".into()).failed(io::Error::from_raw_os_error(libc::EPROTO));
    let fds = LaunchFds::from_vec(fds, launch).ok_or_else(incomplete)?;
    let position = launch.join.iter().position(|kind| *kind == NamespaceKind::User);
    let user = position.map(|position| &fds.namespaces[position]);
    let filter = filters.of(&launch.process.privileges)?;
    let files = prepare(launch, user.map(AsFd::as_fd), surroundings)?;
    let inner = launch.process.invoker.zip(user).map(|(invoker, user)| Inner::make(user, invoker)).transpose()?;
    // The log pipes become those of the container's root, who hands them on to whoever the program runs as.
    // Without pipes there is /dev/null in their place, which is the host's and stays so.
    for pipe in [&fds.stdin, &fds.stdout, &fds.stderr].into_iter().filter(|fd| program::is_pipe(fd.as_fd())) {
        let (uid, gid) = (rustix::fs::Uid::from_raw(launch.outside), rustix::fs::Gid::from_raw(launch.outside));
        rustix::fs::fchown(pipe, Some(uid), Some(gid))
            .map_err(|e| BringUpStep::Internal("hand over the log pipes".into()).failed(e))?;
    }

    let work = || {
        start_values::before_entering(&launch.process.options)?;
        join(&launch.join, &fds.namespaces)?;
        let mut flags = CloneFlags::CLONE_PARENT | CloneFlags::CLONE_NEWNS;
        if launch.new_pid {
            flags |= CloneFlags::CLONE_NEWPID;
        }
        match process::fork(flags, None).map_err(|e| BringUpStep::Fork.failed(e))? {
            Fork::Child => bring_up::run(launch, &files, &fds, inner.as_ref(), filter.as_deref()),
            Fork::Parent(child) => Ok(child.pid),
        }
    };
    // The helper is made in the control group, so that what it forks is there from the first moment; a process in the
    // container's user namespace could not put anything there.
    let enter = |pid| enter_cgroups(&fds.older_cgroups, pid);
    fork_by_helper(fds.cgroup.as_ref().map(AsFd::as_fd), enter, work)
}

/// Puts a process into control groups of version 1, where nothing can be made in one. Its threads and what it forks are in
/// them from then on.
pub(super) fn enter_cgroups(procs: &[OwnedFd], pid: i32) -> Result<(), BringUpError> {
    for file in procs {
        rustix::io::write(file, pid.to_string().as_bytes()).map_err(|e| BringUpStep::ControlGroup.failed(e))?;
    }
    Ok(())
}

/// Enters the namespaces, the user namespace first: it gives the right to enter the others.
pub(super) fn join(kinds: &[NamespaceKind], fds: &[OwnedFd]) -> Result<(), BringUpError> {
    let pairs = || kinds.iter().zip(fds);
    for (_, fd) in pairs().filter(|(kind, _)| **kind == NamespaceKind::User) {
        namespaces::join_user(fd)?;
    }
    for (kind, fd) in pairs().filter(|(kind, _)| **kind != NamespaceKind::User) {
        nix::sched::setns(fd, kind.clone_flag()).map_err(|e| BringUpStep::Join(kind.proc_name().into()).failed(e))?;
    }
    Ok(())
}

/// Everything that is mounted, made here and attached by the container's first process.
fn prepare(
    launch: &Launch,
    user: Option<BorrowedFd<'_>>,
    surroundings: &Surroundings,
) -> Result<Vec<Attachment>, BringUpError> {
    let private = surroundings.private.as_path();
    let id_map = user.filter(|_| launch.outside != 0);
    let whole = |lower| -> Result<Content, BringUpError> {
        let overlay = Overlay { lower, folder: &launch.folder, name: "upper", id_map, outside: launch.outside };
        Ok(Content::Mount(overlay.mount(private)?))
    };
    let mut files = Vec::new();
    let mut attach = |target: &Path, kind: Kind, content: Content| {
        files.push(Attachment { target: target.to_owned(), kind, content, of_root: false, new: None });
    };
    match &launch.root {
        Root::Directory(folder) => {
            attach(Path::new("/"), Kind::Directory, whole(Lower::Folders(std::slice::from_ref(folder)))?);
        }
        Root::Layers { store, layers } => {
            attach(Path::new("/"), Kind::Directory, whole(Lower::Layers { store, names: layers })?);
        }
        Root::Host { view, hidden } => {
            for (i, layer) in view.layers.iter().enumerate() {
                let name = format!("upper{i}");
                let overlay = Overlay {
                    lower: Lower::Folders(&layer.lower),
                    folder: &launch.folder,
                    name: &name,
                    id_map: id_map.filter(|_| view.mapped),
                    outside: launch.outside,
                };
                attach(&layer.path, Kind::Directory, Content::Mount(overlay.mount(private)?));
            }
            for file in &view.files {
                let failed = |e| BringUpStep::MountSource(file.clone()).failed(e);
                let binding = Binding { read_only: true, ..Binding::default() };
                attach(file, Kind::File, Content::Mount(bind_as(file, binding).map_err(failed)?));
            }
            for (folder, mode) in HIDDEN {
                let empty = TmpfsMount { mode: Some(mode), ..TmpfsMount::default() };
                attach(Path::new(folder), Kind::Directory, Content::Tmpfs(empty));
            }
            for folder in hidden {
                let visible = !HIDDEN.iter().any(|(usual, _)| folder.starts_with(usual));
                if visible && fs::symlink_metadata(folder).is_ok() {
                    let empty = TmpfsMount { mode: Some(0o755), read_only: true, ..TmpfsMount::default() };
                    attach(folder, Kind::Directory, Content::Tmpfs(empty));
                }
            }
        }
    }

    // All so far makes up the root.
    files.iter_mut().for_each(|file| file.of_root = true);
    let mut attach = |target: &Path, kind: Kind, content: Content| {
        files.push(Attachment { target: target.to_owned(), kind, content, of_root: false, new: None });
    };

    let shared = &launch.shared;
    let host = |path: &str, read_only| -> Result<Content, BringUpError> {
        let failed = |e| BringUpStep::MountSource(path.into()).failed(e);
        let binding = Binding { read_only, ..Binding::default() };
        Ok(Content::Mount(bind_as(Path::new(path), binding).map_err(failed)?))
    };
    let proc = if shared.proc { Content::Proc } else { host("/proc", false)? };
    attach(Path::new("/proc"), Kind::Directory, proc);
    // Whoever has the host's users could write to it, and so could root of a container to control groups below it that were
    // handed to its account.
    let read_only = !launch.process.privileges.host_devices;
    let sys = if shared.sys { Content::Sys { read_only } } else { host("/sys", read_only)? };
    attach(Path::new("/sys"), Kind::Directory, sys);
    if shared.host_cgroups && shared.sys && Path::new("/sys/fs/cgroup").is_dir() {
        attach(Path::new("/sys/fs/cgroup"), Kind::Directory, host("/sys/fs/cgroup", read_only)?);
    } else if shared.sys && shared.cgroup2 {
        attach(Path::new("/sys/fs/cgroup"), Kind::Directory, Content::Cgroup2 { read_only });
    }
    let dev = Content::Dev { single_id: launch.process.single_id, of_host: launch.process.privileges.host_devices };
    attach(Path::new("/dev"), Kind::Directory, dev);
    if shared.mqueue {
        attach(Path::new("/dev/mqueue"), Kind::Directory, Content::Mqueue);
    } else if Path::new("/dev/mqueue").is_dir() {
        attach(Path::new("/dev/mqueue"), Kind::Directory, host("/dev/mqueue", false)?);
    }
    if let Some(owner) = &shared.shm_of {
        let path = namespaces::shared_memory(private, owner);
        let shm = bind(&path).map_err(|e| BringUpStep::SharedMemory.failed(e))?;
        attach(Path::new("/dev/shm"), Kind::Directory, Content::Mount(shm));
    } else if shared.host_shm {
        attach(Path::new("/dev/shm"), Kind::Directory, host("/dev/shm", false)?);
    }

    let volumes_image = match &launch.volumes_image {
        Some(Root::Layers { store, layers }) => {
            let lower = Lower::Layers { store, names: layers };
            let name = "volumes";
            Some(Overlay { lower, folder: &launch.folder, name, id_map, outside: launch.outside }.mount(private)?)
        }
        _ => None,
    };
    for mount in &launch.mounts {
        let (kind, content, new) = match &mount.source {
            // Ids of a program that changes places are not those of root of the container, who makes it.
            LaunchSource::Tmpfs(tmpfs)
                if launch.process.invoker.is_some() && (tmpfs.uid, tmpfs.gid) != (None, None) =>
            {
                let give = Some(Owner { uid: tmpfs.uid.or(Some(0)), gid: tmpfs.gid.or(Some(0)) });
                let read_only = tmpfs.read_only.then_some(Submounts::Writable);
                let memory = TmpfsMount { uid: None, gid: None, read_only: false, ..tmpfs.clone() };
                let new = NewFiles { marker: None, from: None, unless_taken: false, give, read_only };
                (Kind::Directory, Content::Tmpfs(memory), Some(new))
            }
            LaunchSource::Tmpfs(tmpfs) => (Kind::Directory, Content::Tmpfs(tmpfs.clone()), None),
            LaunchSource::Image { store, layers, name, subpath } => {
                let lower = Lower::Layers { store, names: layers };
                let overlay = Overlay { lower, folder: &launch.folder, name, id_map, outside: launch.outside };
                let whole = overlay.mount(private)?;
                let shown = subpath.as_ref().map_or_else(|| mount.target.clone(), |part| Path::new("/").join(part));
                let failed = |e| BringUpStep::MountSource(shown.clone()).failed(e);
                let part = part_of(&whole, subpath.as_deref(), &private.join("stage")).map_err(failed)?;
                let kind = if is_directory(part.as_fd()).map_err(failed)? { Kind::Directory } else { Kind::File };
                (kind, Content::Mount(part), None)
            }
            LaunchSource::Device { path, ours, read, write } => {
                let failed = |e| BringUpStep::MountSource(path.clone()).failed(e);
                let node = device(path, *ours).map_err(failed)?;
                (Kind::File, Content::Device { node, read: *read, write: *write }, None)
            }
            LaunchSource::Bind(source) => {
                let path = source.subpath.as_ref().map_or_else(|| source.path.clone(), |part| source.path.join(part));
                let failed = |e| BringUpStep::MountSource(path.clone()).failed(e);
                let later = source.new.is_some() || source.own.is_some();
                let shared = source.propagation == Propagation::Shared;
                let binding = Binding {
                    subpath: source.subpath.as_deref(),
                    // What has to be filled, or given to its user, can be made read-only only after that.
                    read_only: source.read_only && !later,
                    submounts: source.submounts,
                    propagation: source.propagation,
                    id_map: id_map.filter(|_| source.own.is_none()),
                    // Ours see only what the host mounts, and not the other way round.
                    of: surroundings.host_mounts.as_ref().filter(|_| shared).map(AsFd::as_fd),
                };
                let mount = bind_as(&source.path, binding).map_err(failed)?;
                let kind = if is_directory(mount.as_fd()).map_err(failed)? { Kind::Directory } else { Kind::File };
                let marker = source.new.as_ref().and_then(|new| new.copy_up.as_ref());
                let marker = marker.map(|path| fs::OpenOptions::new().write(true).open(path));
                let give = source.new.as_ref().and_then(|new| new.give);
                let given = give.map(|_| Owner::default());
                let image = volumes_image.as_ref().filter(|_| marker.is_some());
                let from = image.map(OwnedFd::try_clone).transpose().map_err(failed)?;
                let new = NewFiles {
                    marker: marker.transpose().map_err(failed)?,
                    from,
                    unless_taken: give == Some(Give::UnlessTaken),
                    give: source.own.or(given),
                    read_only: source.read_only.then_some(source.submounts),
                };
                let new = later.then_some(new);
                (kind, Content::Mount(mount), new)
            }
        };
        files.push(Attachment { target: mount.target.clone(), kind, content, of_root: false, new });
    }
    Ok(files)
}
