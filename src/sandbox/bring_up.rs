//! The way of a container's first process from its clone to its program: a straight recipe, whose order is the point.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use nix::{fcntl::AtFlags, mount::MsFlags, sched::CloneFlags, unistd::AccessFlags};
use rustix::{
    fs::{CWD, Mode, OFlags},
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags},
};

use super::{
    bind::read_only,
    copy_up::copy_up,
    error::{BringUpError, BringUpStep},
    gate,
    in_root::{Kind, mount_point},
    init,
    inner_ids::{Inner, hand_over},
    keeper::wire,
    launch::{Launch, LaunchFds, Owner, Root},
    masks, program,
    seccomp::Filter,
    sysctl,
    terminal::{self, Terminal},
};
use crate::{
    model::{Atime, Submounts, TmpfsMount, is_of_interface},
    sys::{
        memory::give_back_program,
        mount::{MountAttributes, RDONLY, set_attributes},
        process::{self, Fork},
    },
};

/// One thing to attach below the root, or the root itself.
pub(super) struct Attachment {
    pub(super) target: PathBuf,
    pub(super) kind: Kind,
    pub(super) content: Content,
    /// It is part of the root, and cannot be written to when the root cannot.
    pub(super) of_root: bool,
    /// It is an empty volume.
    pub(super) new: Option<NewFiles>,
}

/// What an empty volume gets ([`super::NewVolume`]).
pub(super) struct NewFiles {
    /// What the root has at its place; then this is written to.
    pub(super) marker: Option<File>,
    /// What this image has there, instead of the root.
    pub(super) from: Option<OwnedFd>,
    /// Its user only if it is still that of root.
    pub(super) unless_taken: bool,
    /// Else its user.
    pub(super) give: Option<Owner>,
    /// After that nothing can be written through it, nor through what is mounted below, unless that is to stay as it is.
    pub(super) read_only: Option<Submounts>,
}

/// What is attached: a mount that the keeper has made, or one that has to be made inside the namespaces it belongs to.
pub(super) enum Content {
    Mount(OwnedFd),
    Tmpfs(TmpfsMount),
    Proc,
    Sys {
        /// Nothing can be written to it.
        read_only: bool,
    },
    Cgroup2 {
        /// Likewise.
        read_only: bool,
    },
    Mqueue,
    /// A node that has to be open to root of the container.
    Device {
        node: OwnedFd,
        read: bool,
        write: bool,
    },
    Dev {
        /// The user namespace has a single id: no group for terminals.
        single_id: bool,
        /// Everything that the host has in there.
        of_host: bool,
    },
}

/// Brings the container up in the calling process and becomes its program. What goes wrong is told at the gate.
pub(super) fn run(
    launch: &Launch,
    files: &[Attachment],
    fds: &LaunchFds,
    inner: Option<&Inner>,
    filter: Option<&Filter>,
) -> ! {
    let Err(error) = bring_up(launch, files, fds, inner, filter);
    gate::tell(fds.gate.as_fd(), &error);
    process::exit_now(127)
}

fn bring_up(
    launch: &Launch,
    files: &[Attachment],
    fds: &LaunchFds,
    inner: Option<&Inner>,
    filter: Option<&Filter>,
) -> Result<std::convert::Infallible, BringUpError> {
    program::leave_caller()?;
    program::standard_streams(fds.stdin.as_fd(), fds.stdout.as_fd(), fds.stderr.as_fd())?;

    // Nobody else may open it yet.
    let tell = |e: io::Error| BringUpStep::Internal("hand out the mount namespace".into()).failed(e);
    let mounts = File::open("/proc/self/ns/mnt").map_err(tell)?;
    wire::send(fds.socket.as_fd(), &(), &[mounts.as_fd()]).map_err(tell)?;
    drop(mounts);

    if launch.new_cgroup {
        // Its root becomes the control group that it was made in, so it has to be there already.
        nix::sched::unshare(CloneFlags::CLONE_NEWCGROUP).map_err(|e| BringUpStep::MakeNamespaces.failed(e))?;
    }

    // Mounts made from here on stay in this namespace, and pivot_root(2) refuses a shared root.
    nix::mount::mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .map_err(|e| BringUpStep::Pivot.failed(e))?;

    // The host's /proc is still there, and the interfaces are by now; what is of no interface was set with the namespace.
    let of_interfaces = launch.process.options.sysctls.iter().filter(|(name, _)| is_of_interface(name));
    sysctl::write(of_interfaces)?;

    let root = attach_root(files)?;
    if let (Some(invoker), false, Root::Layers { .. } | Root::Directory(_)) =
        (launch.process.invoker, launch.process.single_id, &launch.root)
    {
        hand_over(root.as_fd(), invoker).map_err(|e| BringUpStep::HandOver.failed(e))?;
    }
    // Before anything is mounted on what the image has. As root of the container: its ids are those of the volume's mount.
    let mut filled = Vec::new();
    for file in files {
        if let (Some(NewFiles { marker: Some(marker), from, .. }), Content::Mount(volume)) = (&file.new, &file.content)
        {
            let failed = |e: io::Error| BringUpStep::CopyUp(file.target.clone()).failed(e);
            let from = from.as_ref().unwrap_or(&root);
            if copy_up(from.as_fd(), &file.target, volume.as_fd()).map_err(failed)? {
                filled.push(&file.target);
            }
            (&*marker).write_all(b"complete\n").map_err(failed)?;
        }
    }

    let mut of_root = vec![(Path::new("/"), root.try_clone().map_err(|e| BringUpStep::Pivot.failed(e))?)];
    let mut given = Vec::new();
    for file in &files[1..] {
        let mount = attach(root.as_fd(), file)?;
        if launch.process.privileges.hide_kernel_files && matches!(file.target.to_str(), Some("/proc" | "/sys")) {
            masks::cover(mount.as_fd()).map_err(|e| BringUpStep::Mask(file.target.clone()).failed(e))?;
        }
        if file.of_root {
            of_root.push((&file.target, mount));
        } else if let Some(new) = &file.new {
            given.push((file, new, mount));
        }
    }
    if launch.read_only {
        if launch.process.make_working_dir {
            // It could not be made later. What goes wrong is said when it is entered.
            let _ = mount_point(root.as_fd(), &launch.process.working_dir, Kind::Directory);
        }
        // Now that every mount point is there. What is mounted on the root says for itself whether it can be written to.
        for (path, mount) in &of_root {
            let attributes = MountAttributes { set: RDONLY, ..MountAttributes::default() };
            set_attributes(mount.as_fd(), attributes).map_err(|e| BringUpStep::Mount((*path).to_owned()).failed(e))?;
        }
    }
    drop(of_root);
    pivot(root.as_fd()).map_err(|e| BringUpStep::Pivot.failed(e))?;
    drop(root);

    let prepared = program::prepare(&launch.process)?;
    for (file, new, mount) in &given {
        let failed = |e: rustix::io::Errno| BringUpStep::Mount(file.target.clone()).failed(e);
        let taken = new.unless_taken && {
            let owner = rustix::fs::fstat(mount).map_err(failed)?;
            (owner.st_uid, owner.st_gid) != (0, 0)
        };
        if let Some(owner) = new.give.filter(|_| !taken && !filled.contains(&&file.target)) {
            prepared.take_over(mount.as_fd(), owner, &file.target)?;
        }
    }
    // Only now: what links have brought below another of them is one of the mounts below that.
    for (file, new, mount) in &given {
        if let Some(submounts) = new.read_only {
            let failed = |e| BringUpStep::Mount(file.target.clone()).failed(e);
            read_only(mount.as_fd(), submounts).map_err(failed)?;
        }
    }
    if let Some(size) = launch.terminal {
        let failed = |e| BringUpStep::Terminal.failed(e);
        let terminal = Terminal::open(size, prepared.uid()).map_err(failed)?;
        terminal.be_console().map_err(failed)?;
        terminal.take(fds.socket.as_fd()).map_err(failed)?;
    }
    drop(given);
    let inner = inner.and_then(|inner| prepared.namespace(inner));
    // A user namespace is no folder.
    program::close_all_but(&[Some(fds.gate.as_fd()), inner])?;
    prepared.enter(&launch.process, inner)?;
    gate::pass(fds.gate.as_fd())?;

    if launch.init {
        match process::fork(CloneFlags::empty(), None).map_err(|e| BringUpStep::Fork.failed(e))? {
            Fork::Parent(child) => {
                // The filter may forbid it. When memory is used up, who has used it is to be killed, not its init.
                give_back_program();
                prepared.confine(&launch.process, filter)?;
                init::supervise(&child)
            }
            Fork::Child => {
                let _ = rustix::process::setsid();
            }
        }
    }
    if launch.terminal.is_some() {
        terminal::control().map_err(|e| BringUpStep::Terminal.failed(e))?;
    }
    prepared.execute(&launch.process, filter)
}

/// Puts the new root over the old one: `/` is the one place that is sure to be there and reachable with any ids.
fn attach_root(files: &[Attachment]) -> Result<OwnedFd, BringUpError> {
    let missing = || BringUpStep::Pivot.failed(io::Error::from_raw_os_error(libc::EINVAL));
    let Some(Attachment { content: Content::Mount(root), .. }) = files.first() else { return Err(missing()) };
    rustix::mount::move_mount(root, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|e| BringUpStep::Mount("/".into()).failed(e))?;
    // `root` was opened as a mount and is now an attached one; a plain folder is what the calls below want.
    rustix::fs::openat(root, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| BringUpStep::Pivot.failed(e))
}

/// Attaches one thing; its mount comes back.
fn attach(root: BorrowedFd<'_>, file: &Attachment) -> Result<OwnedFd, BringUpError> {
    let failed = |e: io::Error| BringUpStep::Mount(file.target.clone()).failed(e);
    let place = mount_point(root, &file.target, file.kind)
        .map_err(|e| BringUpStep::MountPoint(file.target.clone()).failed(e))?;
    // Whoever means a place in /proc says so. A link of the image, or of a volume that others write to, must not lead a mount
    // there: it would hide from us, and from programs, what the kernel says or is told (CVE-2019-16884, CVE-2019-19921).
    if !file.target.starts_with("/proc") && masks::is_proc(place.as_fd()).map_err(failed)? {
        return Err(BringUpStep::MountPoint(file.target.clone()).failed(io::Error::from_raw_os_error(libc::ELOOP)));
    }
    let unless_written =
        |read_only| if read_only { MountAttrFlags::MOUNT_ATTR_RDONLY } else { MountAttrFlags::empty() };
    let nosuid = MountAttrFlags::MOUNT_ATTR_NOSUID;
    let locked = nosuid | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let made = match &file.content {
        Content::Mount(mount) => mount.try_clone(),
        Content::Tmpfs(tmpfs) => {
            let (options, attributes) = memory(tmpfs);
            make("tmpfs", &options, attributes)
        }
        Content::Device { node, .. } => node.try_clone(),
        Content::Proc => make("proc", &[], locked),
        Content::Sys { read_only } => make("sysfs", &[], locked | unless_written(*read_only)),
        Content::Cgroup2 { read_only } => make("cgroup2", &[], locked | unless_written(*read_only)),
        Content::Mqueue => make("mqueue", &[], locked),
        Content::Dev { .. } => {
            let options = [("mode", "755".to_owned()), ("size", "65536k".to_owned())];
            // Its nodes are mounts of their own. One that a container with the host's users makes here would open the
            // device itself.
            make("tmpfs", &options, locked)
        }
    };
    let mount = made.map_err(failed)?;
    move_onto(mount.as_fd(), place.as_fd()).map_err(failed)?;
    if let Content::Device { read, write, .. } = file.content {
        // As root of the container, and without the groups that the caller had.
        let mut access = AccessFlags::F_OK;
        access.set(AccessFlags::R_OK, read);
        access.set(AccessFlags::W_OK, write);
        nix::unistd::faccessat(&mount, "", access, AtFlags::AT_EACCESS | AtFlags::AT_EMPTY_PATH)
            .map_err(|e| BringUpStep::Device(file.target.clone()).failed(e))?;
    }
    if let Content::Dev { single_id, of_host } = file.content {
        devices(root, single_id).map_err(failed)?;
        if of_host {
            devices_of_host(root).map_err(failed)?;
        }
    }
    Ok(mount)
}

/// Options and attributes of a tmpfs (tmpfs(5)); ids are those of whoever makes it.
pub(super) fn memory(tmpfs: &TmpfsMount) -> (Vec<(&'static str, String)>, MountAttrFlags) {
    let mut options = vec![("mode", format!("{:o}", tmpfs.mode.unwrap_or(0o1777)))];
    let numbers = [("size", tmpfs.size), ("nr_blocks", tmpfs.blocks), ("nr_inodes", tmpfs.inodes)];
    options.extend(numbers.into_iter().filter_map(|(name, number)| Some((name, number?.to_string()))));
    let ids = [("uid", tmpfs.uid), ("gid", tmpfs.gid)];
    options.extend(ids.into_iter().filter_map(|(name, id)| Some((name, id?.to_string()))));
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NODEV;
    attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, tmpfs.read_only);
    attributes.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, tmpfs.noexec);
    attributes.set(MountAttrFlags::MOUNT_ATTR_NOSUID, !tmpfs.suid);
    attributes |= match tmpfs.atime {
        Atime::Relative => MountAttrFlags::MOUNT_ATTR_RELATIME,
        Atime::Never => MountAttrFlags::MOUNT_ATTR_NOATIME,
        Atime::NotOfFolders => MountAttrFlags::MOUNT_ATTR_NODIRATIME,
        Atime::Always => MountAttrFlags::MOUNT_ATTR_STRICTATIME,
    };
    (options, attributes)
}

/// The least that programs expect in /dev. Nodes cannot be made in a user namespace, so the host's are shown.
fn devices(root: BorrowedFd<'_>, single_id: bool) -> io::Result<()> {
    let dev = mount_point(root, Path::new("/dev"), Kind::Directory)?;
    move_onto(masks::null()?.as_fd(), mount_point(dev.as_fd(), Path::new("null"), Kind::File)?.as_fd())?;
    for name in ["zero", "full", "random", "urandom", "tty"] {
        let node = rustix::mount::open_tree(
            CWD,
            format!("/dev/{name}"),
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
        )?;
        move_onto(node.as_fd(), mount_point(dev.as_fd(), Path::new(name), Kind::File)?.as_fd())?;
    }
    for (link, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
        ("core", "/proc/kcore"),
    ] {
        rustix::fs::symlinkat(target, &dev, link)?;
    }
    let mut options = vec![("newinstance", String::new()), ("ptmxmode", "0666".into()), ("mode", "0620".into())];
    if !single_id {
        options.push(("gid", "5".into()));
    }
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let pts = make("devpts", &options, flags)?;
    move_onto(pts.as_fd(), mount_point(dev.as_fd(), Path::new("pts"), Kind::Directory)?.as_fd())
}

/// What else the host has in /dev, but for what is a container's own there, or the terminal of whoever is at the machine. What
/// may be done with it is a matter of its owner and mode, as it is of nobody's in another user namespace.
fn devices_of_host(root: BorrowedFd<'_>) -> io::Result<()> {
    const OWN: [&str; 13] =
        ["null", "zero", "full", "random", "urandom", "tty", "pts", "ptmx", "shm", "mqueue", "console", "fd", "core"];
    let dev = mount_point(root, Path::new("/dev"), Kind::Directory)?;
    for entry in std::fs::read_dir("/dev")? {
        let entry = entry?;
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        if OWN.iter().any(|own| name == *own) {
            continue;
        }
        if kind.is_symlink() {
            match rustix::fs::symlinkat(std::fs::read_link(entry.path())?, &dev, &name) {
                Err(rustix::io::Errno::EXIST) => {}
                other => other?,
            }
            continue;
        }
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        // A folder may have something mounted in it, which cannot be left away.
        let flags = if kind.is_dir() { flags | OpenTreeFlags::AT_RECURSIVE } else { flags };
        match rustix::mount::open_tree(CWD, entry.path(), flags) {
            Ok(device) => {
                let kind = if kind.is_dir() { Kind::Directory } else { Kind::File };
                move_onto(device.as_fd(), mount_point(dev.as_fd(), Path::new(&name), kind)?.as_fd())?;
            }
            // Gone since, or not to be had.
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::INVAL | rustix::io::Errno::ACCESS) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// A new mount of a file system, attached nowhere.
pub(super) fn make(kind: &str, options: &[(&str, String)], attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    let fs = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        if value.is_empty() {
            rustix::mount::fsconfig_set_flag(&fs, *key)?;
        } else {
            rustix::mount::fsconfig_set_string(&fs, *key, value)?;
        }
    }
    rustix::mount::fsconfig_create(&fs)?;
    Ok(rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

fn move_onto(mount: BorrowedFd<'_>, place: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, "", place, "", flags)?)
}

/// Makes `root` the root and lets go of the old one: with both names the same, the old root ends up over the new one and
/// can be taken away from there (pivot_root(2), "pivot_root(".", ".")").
fn pivot(root: BorrowedFd<'_>) -> io::Result<()> {
    rustix::process::fchdir(root)?;
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    Ok(())
}
