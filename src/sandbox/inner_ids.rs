//! Programs that run as the ordinary user whose stack it is, by number: what they write is that user's.
//!
//! In a container of an ordinary user root is the user, and `user: 1000` would be somebody of the user's range, whoever has the
//! number 1000 on the host. A service whose `user:` is the number of the user gets a further user namespace for its program
//! in which the two have changed places:
//!
//! ```text
//! in the program's namespace      in the container's      on the host
//!   UID                             0                       UID, the user
//!   0                               UID                     somebody of the range
//!   all others                      the same                somebody of the range
//! ```
//!
//! The container is brought up by its root as any other is, and owns all other namespaces; the program enters last of all.
//! With a single id it is the only one that exists in there.

use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use nix::sched::CloneFlags;
use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid};

use super::{
    error::{BringUpError, BringUpStep},
    keeper::helper,
    namespaces,
};
use crate::{
    model::Invoker,
    sys::{Namespace, NamespaceKind},
};

/// User namespaces below that of a container, in which the user has the number that it has on the host.
#[derive(Debug)]
pub(super) struct Inner {
    /// The group has changed places as well.
    with_group: OwnedFd,
    /// Groups are those of the container.
    user_alone: OwnedFd,
}

impl Inner {
    /// Makes both below `container`: which of them it is to be is known only when the program's group has been looked up.
    pub(super) fn make(container: &OwnedFd, invoker: Invoker) -> Result<Self, BringUpError> {
        let work = || {
            namespaces::join_user(container)?;
            Ok(((), vec![namespace(invoker, true)?, namespace(invoker, false)?]))
        };
        let ((), made) = helper(CloneFlags::empty(), None, |_| Ok(()), work)?;
        let incomplete = || BringUpStep::MapIds.failed(io::Error::from_raw_os_error(libc::EPROTO));
        let [with_group, user_alone] = made.try_into().map_err(|_| incomplete())?;
        Ok(Self { with_group, user_alone })
    }

    /// The one for a program that runs as this group.
    pub(super) fn of_group(&self, swap: Swap, gid: u32) -> BorrowedFd<'_> {
        if swap.swaps_group(gid) { self.with_group.as_fd() } else { self.user_alone.as_fd() }
    }
}

/// One of them, made by a process that is in the container's.
fn namespace(invoker: Invoker, group: bool) -> Result<OwnedFd, BringUpError> {
    let failed = |e: io::Error| BringUpStep::MapIds.failed(e);
    let write_maps = |pid: i32| -> Result<(), BringUpError> {
        for (map, swapped) in [("uid_map", Some(invoker.uid)), ("gid_map", group.then_some(invoker.gid))] {
            let ours = fs::read_to_string(format!("/proc/self/{map}")).map_err(failed)?;
            fs::write(format!("/proc/{pid}/{map}"), lines(&ours, swapped)).map_err(failed)?;
        }
        Ok(())
    };
    let work = || {
        let fd = Namespace::of_thread(NamespaceKind::User).and_then(|user| user.as_fd().try_clone_to_owned());
        Ok(((), vec![fd.map_err(failed)?]))
    };
    let ((), made) = helper(CloneFlags::CLONE_NEWUSER, None, write_maps, work)?;
    made.into_iter().next().ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
}

/// The map of a namespace in one with the map `ours`: the same ids, but `swapped` and 0 have changed places. Each line is
/// within a line of ours (user_namespaces(7)).
fn lines(ours: &str, swapped: Option<u32>) -> String {
    let swapped = u64::from(swapped.unwrap_or(0));
    let mut text = String::new();
    for line in ours.lines() {
        let mut fields = line.split_ascii_whitespace().map(|field| field.parse::<u64>().ok());
        let (Some(Some(first)), _, Some(Some(count))) = (fields.next(), fields.next(), fields.next()) else { continue };
        let end = first + count;
        // What is in front of, and behind, the two that change places.
        let mut from = first;
        for special in [0, swapped] {
            if (from..end).contains(&special) {
                if from < special {
                    text += &format!("{from} {from} {}\n", special - from);
                }
                let inside = if special == 0 { swapped } else { 0 };
                text += &format!("{inside} {special} 1\n");
                from = special + 1;
            }
        }
        if from < end {
            text += &format!("{from} {from} {}\n", end - from);
        }
    }
    text
}

/// What ids of the program are in the container's user namespace.
#[derive(Debug, Clone, Copy)]
pub(super) struct Swap(pub(super) Invoker);

impl Swap {
    pub(super) fn uid(self, uid: u32) -> u32 {
        swap(uid, self.0.uid)
    }

    /// Of a program that runs as the group `main`.
    pub(super) fn gid(self, gid: u32, main: u32) -> u32 {
        if self.swaps_group(main) { swap(gid, self.0.gid) } else { gid }
    }

    /// A program whose group has the number of the user's is to write files of that group. Any other, above all 0 where
    /// nothing is said, keeps the container's groups, in which 0 is the user's.
    fn swaps_group(self, main: u32) -> bool {
        main == self.0.gid
    }
}

fn swap(id: u32, other: u32) -> u32 {
    match id {
        0 => other,
        id if id == other => 0,
        id => id,
    }
}

/// How deep folders may be in each other: each takes two descriptors while it is looked through.
const MAX_DEPTH: usize = 512;

/// Gives the files of a root that are those of the user's number to what that number is for the program, in the writable
/// layer. An image may have made its program's files for it.
pub(super) fn hand_over(root: BorrowedFd<'_>, invoker: Invoker) -> io::Result<()> {
    folder(rustix::fs::openat(root, ".", FOLDER, Mode::empty())?, invoker, 0)
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn folder(folder: OwnedFd, invoker: Invoker, depth: usize) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c".." || (name == c"." && depth > 0) {
            continue;
        }
        let stat = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if stat.st_uid == invoker.uid {
            let gid = if stat.st_gid == invoker.gid { 0 } else { stat.st_gid };
            let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(gid));
            rustix::fs::chownat(&folder, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
            // Changing the owner has taken these bits away (chown(2)), which mean something for files and folders only. What
            // has come to be a link meanwhile is not followed, as chmod(2) would: the old root is still the root.
            let kind = FileType::from_raw_mode(stat.st_mode);
            if stat.st_mode & 0o6000 != 0 && matches!(kind, FileType::RegularFile | FileType::Directory) {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let file = rustix::fs::openat(&folder, name, flags, Mode::empty())?;
                rustix::fs::fchmod(&file, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
            }
        }
        if name != c"." && FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            self::folder(rustix::fs::openat(&folder, name, FOLDER, Mode::empty())?, invoker, depth + 1)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_ids_change_places() {
        let range = "0 0 1\n1 1 65536\n";
        assert_eq!(lines(range, Some(1000)), "1000 0 1\n1 1 999\n0 1000 1\n1001 1001 64536\n");
        assert_eq!(lines("0 0 65537\n", Some(1000)), "1000 0 1\n1 1 999\n0 1000 1\n1001 1001 64536\n");
        assert_eq!(lines(range, Some(1)), "1 0 1\n0 1 1\n2 2 65535\n");
        // A number beyond the range takes the place of root, who is nobody then.
        assert_eq!(lines(range, Some(70_000)), "70000 0 1\n1 1 65536\n");
        assert_eq!(lines("0 0 1\n", Some(1000)), "1000 0 1\n");
        assert_eq!(lines(range, None), "0 0 1\n1 1 65536\n");
    }

    #[test]
    fn what_an_id_is_outside() {
        let swap = Swap(Invoker { uid: 1000, gid: 100 });
        assert_eq!((swap.uid(0), swap.uid(1000), swap.uid(33)), (1000, 0, 33));
        assert_eq!((swap.gid(100, 100), swap.gid(0, 100), swap.gid(100, 0), swap.gid(0, 0)), (0, 100, 100, 0));
    }
}
