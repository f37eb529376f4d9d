//! Making one member in the folder of the layer.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::{
    fs::{AtFlags, FileType, Gid, Mode, OFlags, Timestamps, Uid, XattrFlags},
    io::Errno,
};

use super::{
    Lost, Ownership, UnpackError,
    member::{Kind, Member, Members},
    name::{clean, shown, split},
    owner::{Owner, note},
    tree::{DEFAULT_ACL, Later, Parent, Tree},
};

/// Attributes with a meaning of their own for overlayfs or for nscompose, which no archive may give anything.
const RESERVED: [&[u8]; 3] = [b"trusted.overlay.", b"user.overlay.", b"user.nscompose."];
const WHITEOUT: &[u8] = b".wh.";
/// AUFS kept notes of its own under such names.
const AUFS: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Makes members.
pub(super) struct Placer {
    pub(super) tree: Tree,
    pub(super) ownership: Ownership,
    /// Whose new files are.
    pub(super) caller: (Uid, Gid),
    /// Files get the mode that they are made with: this thread has a mask of its own, which is empty.
    pub(super) exact_modes: bool,
    /// Files may be this large, with their holes.
    pub(super) file_size: u64,
    pub(super) lost: Lost,
}

impl Placer {
    /// Makes a member, whatever was there under its name.
    pub(super) fn place(&mut self, members: &mut Members, member: &Member) -> Result<(), UnpackError> {
        let path = clean(&member.name)?;
        if path.is_empty() {
            if member.kind != Kind::Folder {
                return Err(UnpackError::name(&member.name, "the root of a layer is a folder"));
            }
            let root = self.tree.root().try_clone_to_owned().map_err(|e| UnpackError::Member {
                step: "open",
                name: shown(&member.name),
                source: e,
            })?;
            return self.settle_folder(root.as_fd(), member, path);
        }
        let (folder, name) = split(&path);
        let mut above = folder.split(|byte| *byte == b'/');
        if above.clone().any(|component| component.starts_with(AUFS)) {
            return Ok(());
        }
        if above.any(|component| component.starts_with(WHITEOUT)) {
            return Err(UnpackError::name(&member.name, "it is below a mark that deletes"));
        }
        if name == OPAQUE {
            let parent = self.tree.parent(folder)?;
            return self.tree.make_opaque(Tree::readable(&parent)?.as_fd(), &parent.path);
        }
        if name.starts_with(AUFS) {
            return Ok(());
        }
        if let Some(deleted) = name.strip_prefix(WHITEOUT) {
            if matches!(deleted, b"" | b"." | b"..") {
                return Err(UnpackError::name(&member.name, "it deletes nothing that could have a name"));
            }
            return self.whiteout(folder, deleted, member);
        }
        let parent = self.tree.parent(folder)?;
        let place = self.tree.place(&parent, name)?;
        self.lost.attributes += member.unread;
        match member.kind {
            Kind::File => self.file(members, member, &parent, name),
            Kind::Folder => self.folder(member, &parent, name, place),
            Kind::Symlink => self.symlink(member, &parent, name),
            Kind::Link => self.link(member, &parent, name),
            Kind::Fifo => self.node(member, &parent, name, FileType::Fifo, 0),
            Kind::Character(major, minor) => {
                self.node(member, &parent, name, FileType::CharacterDevice, rustix::fs::makedev(major, minor))
            }
            Kind::Block(major, minor) => {
                self.node(member, &parent, name, FileType::BlockDevice, rustix::fs::makedev(major, minor))
            }
        }
    }

    /// Tries to make something, and once more after removing what is in its place.
    fn make<T>(
        &mut self,
        parent: &Parent,
        name: &[u8],
        make: impl Fn() -> Result<T, Errno>,
    ) -> Result<Result<T, Errno>, UnpackError> {
        match make() {
            Err(Errno::EXIST) => {
                self.tree.remove(parent, name)?;
                Ok(make())
            }
            other => Ok(other),
        }
    }

    fn file(
        &mut self,
        members: &mut Members,
        member: &Member,
        parent: &Parent,
        name: &[u8],
    ) -> Result<(), UnpackError> {
        let failed = |step| UnpackError::member(step, &member.name);
        let owner = self.owner(member);
        // Wanted is what it has when it can be kept; bits that a change of the owner takes away come later.
        let first = Mode::from_raw_mode(owner.mode(self.ownership, false) & 0o777);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = self.make(parent, name, || rustix::fs::openat(&parent.fd, name, flags, first))?;
        let fd = made.map_err(failed("make"))?;
        if let Some(holes) = &member.holes {
            if holes.size > self.file_size {
                return Err(UnpackError::Limit { what: "bytes in a file with holes", limit: self.file_size });
            }
            for (offset, length) in &holes.segments {
                write(members, fd.as_fd(), *length, Some(*offset), &member.name)?;
            }
            rustix::fs::ftruncate(&fd, holes.size).map_err(failed("make the holes of"))?;
        } else {
            write(members, fd.as_fd(), u64::MAX, None, &member.name)?;
        }
        self.settle(fd.as_fd(), member, &owner, Some((first, parent)))?;
        let times = Timestamps { last_access: member.atime, last_modification: member.mtime };
        rustix::fs::futimens(&fd, &times).map_err(failed("set the times of"))
    }

    fn folder(&mut self, member: &Member, parent: &Parent, name: &[u8], place: Vec<u8>) -> Result<(), UnpackError> {
        let failed = |step| UnpackError::member(step, &member.name);
        let open = || {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(&parent.fd, name, flags, Mode::empty())
        };
        let make = || rustix::fs::mkdirat(&parent.fd, name, Mode::RWXU).and_then(|()| open());
        let (fd, opaque): (OwnedFd, bool) = match make() {
            Err(Errno::EXIST) => match open() {
                // It keeps what is in it.
                Ok(fd) => (fd, false),
                Err(_) => {
                    let was_deleted = is_whiteout(parent, name);
                    self.tree.remove(parent, name)?;
                    (make().map_err(failed("make"))?, was_deleted)
                }
            },
            other => (other.map_err(failed("make"))?, false),
        };
        if opaque {
            self.tree.make_opaque(fd.as_fd(), &place)?;
        }
        self.settle_folder(fd.as_fd(), member, place)
    }

    fn settle_folder(&mut self, fd: BorrowedFd<'_>, member: &Member, place: Vec<u8>) -> Result<(), UnpackError> {
        let owner = self.owner(member);
        self.tree.forget();
        self.settle(fd, member, &owner, None)?;
        let times = Timestamps { last_access: member.atime, last_modification: member.mtime };
        let default_acl = member.attributes.get(DEFAULT_ACL.as_bytes()).cloned();
        self.tree.later(place, Later { times: Some(times), default_acl })
    }

    /// Gives a file or folder its owner, then its mode and its attributes: a change of the owner takes set-user-ID and
    /// capabilities away. `made` is of a new file: the mode it was made with, and where.
    fn settle(
        &mut self,
        fd: BorrowedFd<'_>,
        member: &Member,
        owner: &Owner,
        made: Option<(Mode, &Parent)>,
    ) -> Result<(), UnpackError> {
        let failed = |step| UnpackError::member(step, &member.name);
        // Most files of most layers are root's, and are so from the beginning.
        let group = made.and_then(|(_, parent)| parent.group());
        let right = owner.ids() == Some(self.caller) && group == Some(self.caller.1.as_raw());
        let kept = match self.ownership {
            Ownership::Kept if right => true,
            Ownership::Kept => self.chown(owner, member, |uid, gid| rustix::fs::fchown(fd, Some(uid), Some(gid)))?,
            Ownership::Single => owner.is_root(),
        };
        let mode = owner.mode(self.ownership, kept);
        let has = made.filter(|_| self.exact_modes).map(|(mode, _)| mode);
        if has != Some(Mode::from_raw_mode(mode)) {
            rustix::fs::fchmod(fd, Mode::from_raw_mode(mode)).map_err(failed("set the mode of"))?;
        }
        for (name, value) in &member.attributes {
            if name.as_slice() != DEFAULT_ACL.as_bytes() || member.kind != Kind::Folder {
                let set = |name: &[u8], value: &[u8]| rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty());
                self.attribute(name, value, member, set)?;
            }
        }
        if let Some(note) = note(owner, kept, mode) {
            match rustix::fs::fsetxattr(fd, super::OWNER_ATTRIBUTE, note.as_bytes(), XattrFlags::empty()) {
                Ok(()) => self.lost.owners_noted += 1,
                Err(Errno::OPNOTSUPP | Errno::PERM) => self.lost.owners += 1,
                Err(e) => return Err(failed("note the owner of")(e)),
            }
        }
        Ok(())
    }

    fn owner(&self, member: &Member) -> Owner {
        Owner { uid: member.uid, gid: member.gid, mode: member.mode, folder: member.kind == Kind::Folder }
    }

    /// Says whether the owner is what it should be.
    fn chown(
        &mut self,
        owner: &Owner,
        member: &Member,
        chown: impl Fn(Uid, Gid) -> Result<(), Errno>,
    ) -> Result<bool, UnpackError> {
        let changed = match owner.ids() {
            Some((uid, gid)) => chown(uid, gid),
            None => Err(Errno::INVAL),
        };
        match changed {
            Ok(()) => Ok(true),
            // EINVAL: an id that the user namespace does not have.
            Err(Errno::INVAL | Errno::PERM | Errno::OVERFLOW) => {
                self.lost.ids_out_of_range += 1;
                Ok(false)
            }
            Err(e) => Err(UnpackError::member("set the owner of", &member.name)(e)),
        }
    }

    fn attribute(
        &mut self,
        name: &[u8],
        value: &[u8],
        member: &Member,
        set: impl Fn(&[u8], &[u8]) -> Result<(), Errno>,
    ) -> Result<(), UnpackError> {
        if RESERVED.iter().any(|reserved| name.starts_with(reserved)) {
            self.lost.reserved_attributes += 1;
            return Ok(());
        }
        match set(name, value) {
            // A file system without them; one that this account may not set, or not on this kind of file; a value or
            // a name that the kernel does not take.
            Err(Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS | Errno::INVAL | Errno::RANGE | Errno::TOOBIG) => {
                self.lost.attributes += 1;
                Ok(())
            }
            other => other.map_err(UnpackError::member("set attributes of", &member.name)),
        }
    }

    /// Owner, attributes and times of what cannot be opened.
    fn settle_unopened(&mut self, member: &Member, parent: &Parent, name: &[u8]) -> Result<(), UnpackError> {
        let owner = self.owner(member);
        let kept = match self.ownership {
            Ownership::Kept => self.chown(&owner, member, |uid, gid| {
                rustix::fs::chownat(&parent.fd, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            })?,
            Ownership::Single => owner.is_root(),
        };
        self.lost.owners += u64::from(!kept);
        if member.kind != Kind::Symlink {
            // Nobody else is here: this is what we have made, and no link.
            let mode = Mode::from_raw_mode(owner.mode(self.ownership, kept));
            rustix::fs::chmodat(&parent.fd, name, mode, AtFlags::empty())
                .map_err(UnpackError::member("set the mode of", &member.name))?;
        }
        for (attribute, value) in &member.attributes {
            // There is no setxattrat before Linux 6.13.
            let mut path = format!("/proc/self/fd/{}/", std::os::fd::AsRawFd::as_raw_fd(&parent.fd)).into_bytes();
            path.extend_from_slice(name);
            self.attribute(attribute, value, member, |attribute, value| {
                match rustix::fs::lsetxattr(path.as_slice(), attribute, value, XattrFlags::empty()) {
                    // No /proc.
                    Err(Errno::NOENT) => Err(Errno::OPNOTSUPP),
                    other => other,
                }
            })?;
        }
        let times = Timestamps { last_access: member.atime, last_modification: member.mtime };
        rustix::fs::utimensat(&parent.fd, name, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(UnpackError::member("set the times of", &member.name))
    }

    fn symlink(&mut self, member: &Member, parent: &Parent, name: &[u8]) -> Result<(), UnpackError> {
        let target = member.link.as_slice();
        let made = self.make(parent, name, || rustix::fs::symlinkat(target, &parent.fd, name))?;
        made.map_err(UnpackError::member("make the link", &member.name))?;
        self.settle_unopened(member, parent, name)
    }

    fn node(
        &mut self,
        member: &Member,
        parent: &Parent,
        name: &[u8],
        kind: FileType,
        device: u64,
    ) -> Result<(), UnpackError> {
        if kind == FileType::CharacterDevice && device == 0 {
            // Overlayfs would take it for a mark that deletes.
            self.lost.devices += 1;
            return self.tree.remove(parent, name);
        }
        let mode = Mode::from_raw_mode(member.mode & 0o777);
        let made = self.make(parent, name, || rustix::fs::mknodat(&parent.fd, name, kind, mode, device))?;
        match made {
            Ok(()) => self.settle_unopened(member, parent, name),
            Err(Errno::PERM) if kind != FileType::Fifo => {
                self.lost.devices += 1;
                Ok(())
            }
            Err(e) => Err(UnpackError::member("make", &member.name)(e)),
        }
    }

    /// A further name of a file that is there already; owner and the like are those of that file.
    fn link(&mut self, member: &Member, parent: &Parent, name: &[u8]) -> Result<(), UnpackError> {
        let wrong = || UnpackError::HardLink { name: shown(&member.name), target: shown(&member.link) };
        let target = clean(&member.link).map_err(|_| wrong())?;
        let (folder, target) = split(&target);
        if target.is_empty() {
            return Err(wrong());
        }
        let source = self.tree.parent(folder)?;
        let stat = |parent: &Parent, name: &[u8]| rustix::fs::statat(&parent.fd, name, AtFlags::SYMLINK_NOFOLLOW);
        let there = stat(&source, target).map_err(|_| wrong())?;
        let kind = FileType::from_raw_mode(there.st_mode);
        if kind == FileType::Directory || (kind == FileType::CharacterDevice && there.st_rdev == 0) {
            return Err(wrong());
        }
        let same = stat(parent, name).is_ok_and(|here| (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino));
        if same {
            return Ok(());
        }
        let link = || rustix::fs::linkat(&source.fd, target, &parent.fd, name, AtFlags::empty());
        match self.make(parent, name, link)? {
            // It was in the folder whose place it should take.
            Err(Errno::NOENT) => Err(wrong()),
            other => other.map_err(UnpackError::member("link", &member.name)),
        }
    }

    /// Marks that a name of lower layers is deleted. What this layer has under that name itself stays (OCI Image Layer
    /// Specification, "Whiteouts"), a folder without what lower layers have in it.
    fn whiteout(&mut self, folder: &[u8], name: &[u8], member: &Member) -> Result<(), UnpackError> {
        let parent = self.tree.parent(folder)?;
        let place = self.tree.place(&parent, name)?;
        let failed = || UnpackError::member("mark as deleted", &place);
        match rustix::fs::mknodat(&parent.fd, name, FileType::CharacterDevice, Mode::empty(), 0) {
            Err(Errno::EXIST) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                match rustix::fs::openat(&parent.fd, name, flags, Mode::empty()) {
                    Ok(fd) => self.tree.make_opaque(fd.as_fd(), &place),
                    Err(_) => Ok(()),
                }
            }
            other => {
                other.map_err(failed())?;
                // The same archive gives the same layer.
                let times = Timestamps { last_access: member.atime, last_modification: member.mtime };
                rustix::fs::utimensat(&parent.fd, name, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(failed())
            }
        }
    }
}

fn is_whiteout(parent: &Parent, name: &[u8]) -> bool {
    rustix::fs::statat(&parent.fd, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|there| FileType::from_raw_mode(there.st_mode) == FileType::CharacterDevice && there.st_rdev == 0)
}

/// Writes the next data of the member at hand, at most so many bytes, straight from the buffer they came in.
fn write(
    members: &mut Members,
    fd: BorrowedFd<'_>,
    mut length: u64,
    mut offset: Option<u64>,
    name: &[u8],
) -> Result<(), UnpackError> {
    loop {
        let data = members.data(length)?;
        if data.is_empty() {
            return Ok(());
        }
        let written = match offset {
            Some(offset) => rustix::io::pwrite(fd, data, offset),
            None => rustix::io::write(fd, data),
        };
        match written {
            Ok(0) => return Err(UnpackError::member("write", name)(Errno::NOSPC)),
            Ok(count) => {
                members.used(count);
                length -= count as u64;
                offset = offset.map(|offset| offset + count as u64);
            }
            Err(Errno::INTR) => {}
            Err(e) => return Err(UnpackError::member("write", name)(e)),
        }
    }
}
