//! AppArmor profiles and SELinux labels: what the next program gets is written to a file of the kernel before it is run.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::OwnedFd,
};

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::model::{Privileges, SelinuxLabel};

/// statfs(2) of proc (linux/magic.h).
const PROC_SUPER_MAGIC: u32 = 0x9fa0;
/// The inode of a proc's root (linux/proc_ns.h, PROC_ROOT_INO).
const PROC_ROOT: u64 = 1;

/// Lets the next program that the calling thread runs have the profile and the label that are asked for.
pub(super) fn apply(privileges: &Privileges) -> io::Result<()> {
    if let Some(profile) = &privileges.apparmor {
        // Before Linux 5.8 the files were shared among modules.
        let file = match open("attr/apparmor/exec", OFlags::WRONLY) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => open("attr/exec", OFlags::WRONLY)?,
            other => other?,
        };
        write_at_once(file, &format!("exec {profile}"))?;
    }
    if !privileges.label.is_empty() {
        let mut current = String::new();
        File::from(open("attr/current", OFlags::RDONLY)?).read_to_string(&mut current)?;
        let label = label(current.trim_end_matches(['\0', '\n']), &privileges.label)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        write_at_once(open("attr/exec", OFlags::WRONLY)?, &label)?;
    }
    Ok(())
}

/// A file of the calling thread in /proc, which has to be the kernel's and nothing that somebody has mounted there: what is
/// written could be thrown away, or do something else elsewhere (CVE-2019-16884, CVE-2025-52881).
fn open(path: &str, access: OFlags) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let proc = rustix::fs::open("/proc", flags, Mode::empty())?;
    if rustix::fs::fstatfs(&proc)?.f_type as u32 != PROC_SUPER_MAGIC || rustix::fs::fstat(&proc)?.st_ino != PROC_ROOT {
        return Err(io::Error::from_raw_os_error(libc::EXDEV));
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
    let path = format!("thread-self/{path}");
    Ok(rustix::fs::openat2(&proc, path, access | OFlags::CLOEXEC, Mode::empty(), resolve)?)
}

/// The kernel takes the whole text with one write or not at all.
fn write_at_once(file: OwnedFd, text: &str) -> io::Result<()> {
    let written = File::from(file).write(text.as_bytes())?;
    if written == text.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// `USER:ROLE:TYPE:LEVEL` with some parts replaced; the level has colons of its own.
fn label(current: &str, parts: &SelinuxLabel) -> Option<String> {
    let mut fields = current.splitn(4, ':');
    let (user, role, kind) = (fields.next()?, fields.next()?, fields.next()?);
    let level = fields.next();
    let mut label = [(user, &parts.user), (role, &parts.role), (kind, &parts.kind)]
        .map(|(old, new)| new.as_deref().unwrap_or(old))
        .join(":");
    if let Some(level) = parts.level.as_deref().or(level) {
        label.push(':');
        label.push_str(level);
    }
    Some(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_label_are_replaced() {
        let parts =
            SelinuxLabel { kind: Some("svirt_t".into()), level: Some("s0:c1,c2".into()), ..SelinuxLabel::default() };
        let replaced = label("system_u:system_r:unconfined_t:s0-s0:c0.c1023", &parts);
        assert_eq!(replaced.as_deref(), Some("system_u:system_r:svirt_t:s0:c1,c2"));
        assert_eq!(label("kernel", &parts), None);
    }
}
