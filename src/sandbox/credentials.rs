//! Who a process of a container is, looked up in the container's own files.

use std::{
    fs,
    io::{self, Read},
};

use rustix::{
    fs::{Gid, Mode, OFlags, Uid},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};

use super::error::{BringUpError, BringUpStep};
use crate::model::UserSpec;

/// Resolved ids and the home folder that goes with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
    pub(super) home: String,
}

/// Longest passwd or group file that is read: more is not a file of accounts.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// Looks `user` up in /etc/passwd and /etc/group of the root that the caller is in; none is root.
///
/// As in Docker, a number needs no entry, and a user without a group of its own in `user:` gets the group and the further
/// groups that the files say. To these come those of `more`, names or numbers. The C library's lookup is not used: it would load modules of the container into us.
pub(super) fn resolve(user: Option<&UserSpec>, more: &[String]) -> Result<Credentials, BringUpError> {
    resolve_in(user, more, &read("/etc/passwd"), &read("/etc/group"))
}

fn read(path: &str) -> String {
    // A container without the file has no names. It is one of the container's, which may make something else of it at any
    // time: a FIFO, a device, or a link to a file of the kernel that says nothing of its length and never ends, such as
    // /proc/PID/pagemap.
    let read = || -> io::Result<String> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = fs::File::from(rustix::fs::open(path, flags, Mode::empty())?);
        let mut text = Vec::new();
        if file.metadata()?.is_file() {
            file.take(MAX_FILE + 1).read_to_end(&mut text)?;
        }
        let usable = text.len() as u64 <= MAX_FILE;
        Ok(if usable { String::from_utf8_lossy(&text).into_owned() } else { String::new() })
    };
    read().unwrap_or_default()
}

fn resolve_in(
    user: Option<&UserSpec>,
    more: &[String],
    passwd: &str,
    group: &str,
) -> Result<Credentials, BringUpError> {
    let root = UserSpec { user: "0".to_owned(), group: None };
    let spec = user.unwrap_or(&root);
    let fields = |line: &'_ str| line.split(':').map(str::to_owned).collect::<Vec<String>>();
    let number = |fields: &[String], i: usize| fields.get(i).and_then(|text| text.parse::<u32>().ok());
    let by_number = spec.user.parse::<u32>().ok();
    let entry = passwd.lines().map(fields).find(|f| match by_number {
        Some(uid) => number(f, 2) == Some(uid),
        None => f.first() == Some(&spec.user),
    });
    let uid = match (by_number, &entry) {
        (Some(uid), _) => uid,
        (None, Some(entry)) => number(entry, 2).ok_or_else(|| unknown(&spec.user))?,
        (None, None) => return Err(unknown(&spec.user)),
    };
    let home = entry.as_ref().and_then(|e| e.get(5)).filter(|home| !home.is_empty());
    let home = home.cloned().unwrap_or_else(|| if uid == 0 { "/root" } else { "/" }.to_owned());
    let mut groups = Vec::new();
    let gid = match &spec.group {
        Some(name) => match name.parse::<u32>() {
            Ok(gid) => gid,
            Err(_) => {
                let entry = group.lines().map(fields).find(|f| f.first() == Some(name));
                entry.and_then(|f| number(&f, 2)).ok_or_else(|| unknown_group(name))?
            }
        },
        None => {
            if let Some(name) = entry.as_ref().and_then(|e| e.first()) {
                let member = |f: &Vec<String>| f.get(3).is_some_and(|list| list.split(',').any(|m| m == name));
                groups.extend(group.lines().map(fields).filter(member).filter_map(|f| number(&f, 2)));
            }
            entry.as_ref().and_then(|e| number(e, 3)).unwrap_or(0)
        }
    };
    for name in more {
        let found = match name.parse::<u32>() {
            Ok(gid) => gid,
            Err(_) => {
                let entry = group.lines().map(fields).find(|f| f.first() == Some(name));
                entry.and_then(|f| number(&f, 2)).ok_or_else(|| unknown_group(name))?
            }
        };
        groups.push(found);
    }
    if !groups.contains(&gid) {
        groups.insert(0, gid);
    }
    // Files of the container can say so. It names nobody, and to setresuid(2) and chown(2) means "leave it".
    if uid == u32::MAX || groups.contains(&u32::MAX) {
        return Err(BringUpStep::BecomeUser(spec.to_string()).failed(io::Error::from_raw_os_error(libc::EINVAL)));
    }
    let mut seen = std::collections::BTreeSet::new();
    groups.retain(|gid| seen.insert(*gid));
    Ok(Credentials { uid, gid, groups, home })
}

fn unknown_group(name: &str) -> BringUpError {
    BringUpStep::UnknownGroup(name.to_owned()).impossible()
}

fn unknown(name: &str) -> BringUpError {
    BringUpStep::UnknownUser(name.to_owned()).impossible()
}

impl Credentials {
    /// Whether the groups of `more` have an id in the user namespace of the caller. setgroups(2) would not say which has none.
    pub(super) fn check_groups(&self, more: &[String]) -> Result<(), BringUpError> {
        let exists = |gid: u32| {
            let map = fs::read_to_string("/proc/self/gid_map").unwrap_or_default();
            map.lines().any(|line| {
                let mut fields = line.split_ascii_whitespace().map(str::parse::<u64>);
                let (Some(Ok(first)), Some(Ok(_)), Some(Ok(count))) = (fields.next(), fields.next(), fields.next())
                else {
                    return false;
                };
                (first..first + count).contains(&u64::from(gid))
            })
        };
        match more.iter().find(|name| name.parse().is_ok_and(|gid| !exists(gid))) {
            Some(name) => Err(BringUpStep::AddGroup(name.clone()).failed(io::Error::from_raw_os_error(libc::EINVAL))),
            None => Ok(()),
        }
    }

    /// Becomes this user. With a single id there are no other groups to have, and setgroups(2) is denied.
    pub(super) fn assume(&self, single_id: bool) -> io::Result<()> {
        // An id of all ones means "leave it" to the calls below and names nobody.
        if self.uid == u32::MAX || self.gid == u32::MAX || self.groups.contains(&u32::MAX) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        if !single_id {
            let groups: Vec<Gid> = self.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
            set_thread_groups(&groups)?;
        }
        let gid = Gid::from_raw(self.gid);
        set_thread_res_gid(gid, gid, gid)?;
        let uid = Uid::from_raw(self.uid);
        set_thread_res_uid(uid, uid, uid)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\npostgres:x:70:71::/var/lib/postgresql:/bin/sh\nbroken\n";
    const GROUP: &str = "root:x:0:\npostgres:x:71:\nssl:x:99:www,postgres\nstaff:x:50:\n";

    fn ids(user: &str) -> Result<(u32, u32, Vec<u32>, String), BringUpError> {
        let spec: UserSpec = user.parse().expect("user");
        resolve_in(Some(&spec), &[], PASSWD, GROUP).map(|c| (c.uid, c.gid, c.groups, c.home))
    }

    #[test]
    fn names_are_those_of_the_container() {
        assert_eq!(ids("postgres").expect("found"), (70, 71, vec![71, 99], "/var/lib/postgresql".into()));
        assert_eq!(ids("70").expect("found"), (70, 71, vec![71, 99], "/var/lib/postgresql".into()));
        assert_eq!(ids("postgres:staff").expect("found"), (70, 50, vec![50], "/var/lib/postgresql".into()));
        assert_eq!(ids("1234").expect("number"), (1234, 0, vec![0], "/".into()));
        assert_eq!(ids("1234:5").expect("numbers"), (1234, 5, vec![5], "/".into()));
        assert_eq!(ids("nobody").expect_err("unknown").step, BringUpStep::UnknownUser("nobody".into()));
        assert_eq!(ids("root:wheel").expect_err("unknown").step, BringUpStep::UnknownGroup("wheel".into()));
    }

    #[test]
    fn further_groups_are_names_or_numbers() {
        let groups = |more: &[&str]| {
            let more: Vec<String> = more.iter().map(|name| (*name).to_owned()).collect();
            let spec: UserSpec = "postgres".parse().expect("user");
            resolve_in(Some(&spec), &more, PASSWD, GROUP).map(|c| c.groups)
        };
        assert_eq!(groups(&["staff", "7", "ssl", "007"]).expect("known"), [71, 99, 50, 7]);
        let step = groups(&["wheel"]).expect_err("unknown").step;
        assert_eq!(step, BringUpStep::UnknownGroup("wheel".into()));
    }

    #[test]
    fn what_is_no_file_of_accounts_has_no_names() {
        let dir = tempfile::tempdir().expect("folder");
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
        for path in [fifo.to_str().expect("text"), "/dev/zero", "/proc/self/pagemap", "/nothing"] {
            assert_eq!(read(path), "", "{path}");
        }
        assert!(read("/etc/passwd").starts_with("root:"));
    }

    #[test]
    fn an_id_that_names_nobody_is_an_error() {
        let passwd = "all:x:4294967295:0::/:/bin/sh\nones:x:5:4294967295::/:/bin/sh\n";
        for name in ["all", "ones"] {
            let spec: UserSpec = name.parse().expect("user");
            let step = resolve_in(Some(&spec), &[], passwd, "").expect_err("nobody").step;
            assert_eq!(step, BringUpStep::BecomeUser(name.into()));
        }
    }

    #[test]
    fn without_files_there_is_root() {
        let root = resolve_in(None, &[], "", "").expect("root");
        assert_eq!((root.uid, root.gid, root.home.as_str()), (0, 0, "/root"));
    }
}
