//! Owners and modes, for accounts that can give files away and for those that cannot.

use rustix::fs::{Gid, Uid};

use super::Ownership;

/// What a member says of its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::image) struct Owner {
    pub(in crate::image) uid: u64,
    pub(in crate::image) gid: u64,
    pub(in crate::image) mode: u32,
    pub(in crate::image) folder: bool,
}

const SET_UID: u32 = 0o4000;
const SET_GID: u32 = 0o2000;

impl Owner {
    /// Ids as the kernel takes them. The largest number is none: chown(2) leaves the owner as it is then.
    pub(super) fn ids(&self) -> Option<(Uid, Gid)> {
        let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
        Some((Uid::from_raw(id(self.uid)?), Gid::from_raw(id(self.gid)?)))
    }

    pub(super) fn is_root(&self) -> bool {
        (self.uid, self.gid) == (0, 0)
    }

    /// Reads a note, and says whether it has a mode.
    pub(in crate::image) fn noted(note: &[u8], folder: bool) -> Option<(Self, bool)> {
        let mut parts = std::str::from_utf8(note).ok()?.split(':');
        let (uid, gid) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let mode = parts.next().map(|mode| u32::from_str_radix(mode, 8)).transpose().ok()?;
        let real = mode.is_some_and(|mode| mode <= 0o7777);
        Some((Self { uid, gid, mode: mode.unwrap_or_default(), folder }, real))
    }

    /// The mode to set, by whether the owner could be kept. A program that is to run with the rights of an owner it does
    /// not have would run with the rights of root instead.
    pub(in crate::image) fn mode(&self, ownership: Ownership, kept: bool) -> u32 {
        let mut mode = self.mode;
        if !kept {
            // On a folder set-group-ID says what group new files have, which gives no rights.
            mode &= if self.folder { !SET_UID } else { !(SET_UID | SET_GID) };
        }
        if ownership == Ownership::Single {
            mode |= if self.folder { 0o700 } else { 0o600 };
        }
        mode
    }
}

/// What is noted of an owner that was not kept, or of a mode that is not the real one: `UID:GID`, or `UID:GID:MODE`.
pub(super) fn note(owner: &Owner, kept: bool, mode: u32) -> Option<String> {
    let same = mode == owner.mode;
    match (kept, same) {
        (true, true) => None,
        (_, true) => Some(format!("{}:{}", owner.uid, owner.gid)),
        (_, false) => Some(format!("{}:{}:{:o}", owner.uid, owner.gid, owner.mode)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(uid: u64, gid: u64, mode: u32, folder: bool) -> Owner {
        Owner { uid, gid, mode, folder }
    }

    #[test]
    fn the_number_that_means_no_change_is_no_id() {
        assert!(owner(0, 0, 0, false).ids().is_some());
        assert!(owner(u64::from(u32::MAX) - 1, 0, 0, false).ids().is_some());
        assert!(owner(u64::from(u32::MAX), 0, 0, false).ids().is_none());
        assert!(owner(0, u64::from(u32::MAX), 0, false).ids().is_none());
        assert!(owner(1 << 40, 0, 0, false).ids().is_none());
    }

    #[test]
    fn set_user_id_goes_with_its_owner_only() {
        let program = owner(5, 0, 0o6755, false);
        assert_eq!(program.mode(Ownership::Kept, true), 0o6755);
        assert_eq!(program.mode(Ownership::Kept, false), 0o755);
        assert_eq!(program.mode(Ownership::Single, false), 0o755);
        assert_eq!(note(&program, false, 0o755).as_deref(), Some("5:0:6755"));
        assert_eq!(Owner::noted(b"5:0:6755", false), Some((program, true)));
        assert_eq!(Owner::noted(b"5:0:6755:", false).map(|(owner, _)| owner.uid), Some(5));
        assert_eq!(Owner::noted(b"5:-1", false), None);
        assert_eq!(owner(0, 5, 0o2755, true).mode(Ownership::Kept, false), 0o2755);
    }

    #[test]
    fn a_single_id_can_always_use_its_files() {
        assert_eq!(owner(0, 0, 0o444, false).mode(Ownership::Single, true), 0o644);
        assert_eq!(owner(0, 0, 0o055, true).mode(Ownership::Single, true), 0o755);
        assert_eq!(note(&owner(0, 0, 0o444, false), true, 0o644).as_deref(), Some("0:0:444"));
        assert_eq!(note(&owner(0, 0, 0o644, false), true, 0o644), None);
        assert_eq!(note(&owner(7, 8, 0o644, false), false, 0o644).as_deref(), Some("7:8"));
    }
}
