//! Files of the kernel that are nobody's business in a container: hidden, or shown without the right to write to them.
//!
//! The lists are those of Docker (moby, `oci/defaults.go`). Each path is opened below the mount that it belongs to, by the
//! descriptor of that mount and without following a link, so nothing that a container has a hand in decides what is covered.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{Dir, FileType, Mode, OFlags, ResolveFlags},
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags},
};

use crate::sys::mount::{MountAttributes, RDONLY, set_attributes};

/// What tells of the machine, its devices and its keys.
const HIDDEN_OF_PROC: [&str; 10] = [
    "acpi",
    "asound",
    "interrupts",
    "kcore",
    "keys",
    "latency_stats",
    "sched_debug",
    "scsi",
    "timer_list",
    "timer_stats",
];

/// What changes the machine when it is written to.
const READ_ONLY_OF_PROC: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];

/// What tells of the firmware, and of the power that is used, from which secrets can be told (CVE-2020-8694).
const HIDDEN_OF_SYS: [&str; 2] = ["firmware", "devices/virtual/powercap"];

/// statfs(2) of proc and sysfs (linux/magic.h).
const PROC_SUPER_MAGIC: u32 = 0x9fa0;
const SYSFS_MAGIC: u32 = 0x6265_6572;

/// Whether a file is of a proc file system.
pub(super) fn is_proc(file: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(rustix::fs::fstatfs(file)?.f_type as u32 == PROC_SUPER_MAGIC)
}

/// Hides what is to be hidden below `mount`, the root of an attached proc or sysfs; anything else is left as it is.
pub(super) fn cover(mount: BorrowedFd<'_>) -> io::Result<()> {
    // The type differs among architectures, the numbers have 32 bits.
    let kind = rustix::fs::fstatfs(mount)?.f_type as u32;
    let mut covers = Covers::default();
    match kind {
        PROC_SUPER_MAGIC => {
            for path in HIDDEN_OF_PROC {
                covers.hide(mount, path)?;
            }
            for path in READ_ONLY_OF_PROC {
                if let Some(place) = find(mount, path)? {
                    let flags = OpenTreeFlags::OPEN_TREE_CLONE
                        | OpenTreeFlags::OPEN_TREE_CLOEXEC
                        | OpenTreeFlags::AT_EMPTY_PATH
                        // /proc/sys of the host may have a file system of its own below it.
                        | OpenTreeFlags::AT_RECURSIVE;
                    let same = rustix::mount::open_tree(&place, "", flags)?;
                    let attributes = MountAttributes { set: RDONLY, recursive: true, ..MountAttributes::default() };
                    set_attributes(same.as_fd(), attributes)?;
                    put(same.as_fd(), place.as_fd())?;
                }
            }
        }
        SYSFS_MAGIC => {
            for path in HIDDEN_OF_SYS {
                covers.hide(mount, path)?;
            }
            hide_thermal_throttle(mount, &mut covers)?;
        }
        _ => {}
    }
    Ok(())
}

/// How often each processor was too hot, from which secrets of its neighbours can be told.
fn hide_thermal_throttle(mount: BorrowedFd<'_>, covers: &mut Covers) -> io::Result<()> {
    let Some(processors) = find(mount, "devices/system/cpu")? else { return Ok(()) };
    // All have it or none.
    if find(processors.as_fd(), "cpu0/thermal_throttle")?.is_none() {
        return Ok(());
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let processors = rustix::fs::openat(&processors, ".", flags, Mode::empty())?;
    for entry in Dir::read_from(&processors)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy();
        if name.strip_prefix("cpu").is_some_and(|number| number.parse::<u32>().is_ok()) {
            covers.hide(processors.as_fd(), &format!("{name}/thermal_throttle"))?;
        }
    }
    Ok(())
}

/// What is put over files and folders, each made when it is wanted first.
#[derive(Default)]
struct Covers {
    file: Option<OwnedFd>,
    folder: Option<OwnedFd>,
}

impl Covers {
    fn hide(&mut self, mount: BorrowedFd<'_>, path: &str) -> io::Result<()> {
        let Some(place) = find(mount, path)? else { return Ok(()) };
        let is = FileType::from_raw_mode(rustix::fs::fstat(&place)?.st_mode);
        let (kept, make): (_, fn() -> io::Result<OwnedFd>) =
            if is == FileType::Directory { (&mut self.folder, empty_folder) } else { (&mut self.file, null) };
        // The first itself and then clones of it, since before Linux 6.15 what is attached nowhere cannot be cloned.
        match kept {
            None => put(kept.insert(make()?).as_fd(), place.as_fd()),
            Some(first) => {
                let flags =
                    OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
                put(rustix::mount::open_tree(&*first, "", flags)?.as_fd(), place.as_fd())
            }
        }
    }
}

/// A path below an open folder, without links on the way; none if there is no such file here.
fn find(at: BorrowedFd<'_>, path: &str) -> io::Result<Option<OwnedFd>> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match rustix::fs::openat2(at, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve) {
        Ok(found) => Ok(Some(found)),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// The host's /dev/null, made sure of: something else in its place would be shown, or bound read-write, where it ought to
/// hide (CVE-2025-31133). To be called while the old root is still the root.
pub(super) fn null() -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let null = rustix::mount::open_tree(rustix::fs::CWD, "/dev/null", flags)?;
    let stat = rustix::fs::fstat(&null)?;
    let is_null = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)) == (1, 3);
    if is_null { Ok(null) } else { Err(io::Error::from_raw_os_error(libc::ENXIO)) }
}

/// An empty folder that nothing can be written to.
fn empty_folder() -> io::Result<OwnedFd> {
    let fs = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&fs, "mode", "755")?;
    rustix::mount::fsconfig_create(&fs)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

fn put(mount: BorrowedFd<'_>, place: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, "", place, "", flags)?)
}
