//! The user namespace of a stack that an ordinary user brings up, and why there may be none.
//!
//! Inside it the user is root and may make every other namespace; its further ids come from /etc/subuid and /etc/subgid
//! through newuidmap(1), which is allowed to hand them out.

mod enter;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::{Deserialize, Serialize};

use super::namespaces::extents;
use crate::model::{Ids, Invoker};

pub use enter::{as_root_of_containers, enter, in_process_of_its_own, let_in, refused};

/// Whether ids are those of the machine: the initial user namespace maps all of them onto themselves.
pub fn in_initial_user_namespace() -> bool {
    fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| map.split_whitespace().eq(["0", "0", "4294967295"]))
}

/// Whose ids a stack has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StackIds {
    /// Root of the machine: all of them, no user namespace of the stack's own.
    Root,
    /// Root of a user namespace, such as that of a container: the ids of that, so many from 0 on.
    Inner(u32),
    /// An ordinary user with ranges: (first, count) of further user ids and group ids.
    Ranges {
        /// From /etc/subuid.
        uids: Vec<(u32, u32)>,
        /// From /etc/subgid.
        gids: Vec<(u32, u32)>,
    },
    /// An ordinary user without.
    Single,
}

impl StackIds {
    /// What the calling process can have. An ordinary user without newuidmap(1) has a single id, whatever the files say.
    pub fn of_caller() -> Self {
        let uid = nix::unistd::geteuid().as_raw();
        if uid == 0 {
            if in_initial_user_namespace() {
                return Self::Root;
            }
            return Self::Inner(count_from_zero(&fs::read_to_string("/proc/self/uid_map").unwrap_or_default()));
        }
        if find_program("newuidmap").is_none() || find_program("newgidmap").is_none() {
            return Self::Single;
        }
        let name = nix::unistd::User::from_uid(uid.into()).ok().flatten().map(|user| user.name);
        let ranges = |file: &str| ranges(&fs::read_to_string(file).unwrap_or_default(), uid, name.as_deref());
        let (uids, gids) = (ranges("/etc/subuid"), ranges("/etc/subgid"));
        if uids.is_empty() || gids.is_empty() { Self::Single } else { Self::Ranges { uids, gids } }
    }

    /// The ordinary user that they are of. To be called by that user, or in the user namespace that has been made of this.
    pub fn invoker(&self) -> Option<Invoker> {
        if matches!(self, Self::Root | Self::Inner(_)) {
            return None;
        }
        let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        if uid != 0 {
            return Some(Invoker { uid, gid });
        }
        // What is 0 in here is the user outside.
        let outside = |map: &str| outside_of_zero(&fs::read_to_string(format!("/proc/self/{map}")).unwrap_or_default());
        Some(Invoker { uid: outside("uid_map")?, gid: outside("gid_map")? })
    }

    /// The same as a plan sees it.
    pub fn for_plan(&self) -> Ids {
        let count = |ranges: &[(u32, u32)]| ranges.iter().fold(1_u32, |sum, (_, count)| sum.saturating_add(*count));
        match self {
            Self::Root => Ids::Root,
            Self::Inner(1) | Self::Single => Ids::Single,
            Self::Inner(count) => Ids::Range(*count),
            Self::Ranges { uids, gids } => Ids::Range(count(uids).min(count(gids))),
        }
    }
}

/// What 0 is outside of the user namespace that has this map.
fn outside_of_zero(map: &str) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut fields = line.split_whitespace().map(|field| field.parse::<u32>().ok());
        (fields.next()?? == 0).then(|| fields.next().flatten()).flatten()
    })
}

/// How many ids a map has from 0 on, without a gap.
fn count_from_zero(map: &str) -> u32 {
    let mut lines: Vec<(u32, u32)> = map
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace().map(|field| field.parse().ok());
            let inside = fields.next()??;
            fields.next();
            Some((inside, fields.next()??))
        })
        .collect();
    lines.sort_unstable();
    lines.into_iter().fold(0, |end, (inside, count)| if inside == end { end.saturating_add(count) } else { end }).max(1)
}

/// Lines `NAME_OR_UID:FIRST:COUNT` of one user (subuid(5)).
fn ranges(text: &str, uid: u32, name: Option<&str>) -> Vec<(u32, u32)> {
    let of_user = |who: &str| Some(who) == name || who.parse() == Ok(uid);
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let (who, first, count) = (fields.next()?, fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            (of_user(who) && count > 0).then_some((first, count))
        })
        .collect()
}

/// How an account gets a range of ids: with the first that nobody has. Two accounts with the same one could reach each
/// other's files.
pub fn more_ids_hint() -> String {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let first = first_free(&(read("/etc/subuid") + &read("/etc/subgid")));
    let range = format!("{first}-{}", first.saturating_add(65_535));
    format!(
        "give your account a range of ids with `sudo usermod --add-subuids {range} --add-subgids {range} $USER`, and \
         install newuidmap (package uidmap)"
    )
}

/// The first id behind all ranges that are given out, and above those of accounts (SUB_UID_MIN, login.defs(5)).
fn first_free(ranges: &str) -> u32 {
    let ends = ranges.lines().filter_map(|line| {
        let mut fields = line.trim().split(':').skip(1).map(|field| field.parse::<u32>().ok());
        fields.next()??.checked_add(fields.next()??)
    });
    ends.fold(100_000, u32::max)
}

fn find_program(name: &str) -> Option<PathBuf> {
    // Fixed places besides PATH: an ordinary user's may lack sbin.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/bin".into(), "/usr/sbin".into(), "/bin".into()]);
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Why there is no user namespace.
#[derive(Debug, thiserror::Error)]
pub enum UserNamespaceError {
    /// The kernel does not make one.
    #[error("this host does not let you make a user namespace")]
    Refused(#[source] io::Error),
    /// There is one, but the rights in it are taken away.
    #[error("this host lets you make a user namespace, but takes away the rights in it")]
    Powerless(#[source] io::Error),
    /// The ids could not be mapped.
    #[error("cannot give your ids to a user namespace: {0}")]
    Map(String),
}

/// Writes the maps of the user namespace that process `pid` has just made; to be called from the parent namespace.
///
/// # Errors
/// What newuidmap(1) prints, or what the kernel says to a map.
fn map_ids(pid: i32, ids: &StackIds) -> Result<(), UserNamespaceError> {
    let write = |file: &str, text: String| {
        let path = format!("/proc/{pid}/{file}");
        fs::write(&path, text).map_err(|e| UserNamespaceError::Map(format!("{path}: {e}")))
    };
    match ids {
        StackIds::Root => Ok(()),
        StackIds::Inner(count) => {
            let ours = |file: &str| {
                let path = format!("/proc/self/{file}");
                fs::read_to_string(&path).map_err(|e| UserNamespaceError::Map(format!("{path}: {e}")))
            };
            write("uid_map", extents(&ours("uid_map")?, 0, *count))?;
            write("gid_map", extents(&ours("gid_map")?, 0, *count))
        }
        StackIds::Single => {
            // Without this the kernel takes no map of groups from an ordinary user (user_namespaces(7)).
            write("setgroups", "deny".into())?;
            write("uid_map", format!("0 {} 1\n", nix::unistd::geteuid()))?;
            write("gid_map", format!("0 {} 1\n", nix::unistd::getegid()))
        }
        StackIds::Ranges { uids, gids } => {
            let uid = start_map("newuidmap", pid, nix::unistd::geteuid().as_raw(), uids)?;
            let gid = start_map("newgidmap", pid, nix::unistd::getegid().as_raw(), gids)?;
            finish_map("newuidmap", uid)?;
            finish_map("newgidmap", gid)
        }
    }
}

fn start_map(
    program: &str,
    pid: i32,
    own: u32,
    ranges: &[(u32, u32)],
) -> Result<std::process::Child, UserNamespaceError> {
    let path = find_program(program).ok_or_else(|| UserNamespaceError::Map(format!("{program} is not installed")))?;
    let mut command = Command::new(path);
    command.arg(pid.to_string()).args(["0", &own.to_string(), "1"]);
    let mut inside = 1_u32;
    for (first, count) in ranges {
        command.args([inside.to_string(), first.to_string(), count.to_string()]);
        inside = inside.saturating_add(*count);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().map_err(|e| UserNamespaceError::Map(format!("{program}: {e}")))
}

fn finish_map(program: &str, child: std::process::Child) -> Result<(), UserNamespaceError> {
    let output = child.wait_with_output().map_err(|e| UserNamespaceError::Map(format!("{program}: {e}")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(UserNamespaceError::Map(format!("{program} says: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

/// What on this host forbids user namespaces to an ordinary user, each with the exact way out.
pub fn diagnose() -> Vec<String> {
    diagnose_at(Path::new("/proc/sys"))
}

fn diagnose_at(sysctls: &Path) -> Vec<String> {
    let value = |name: &str| fs::read_to_string(sysctls.join(name)).ok().map(|text| text.trim().to_owned());
    let is = |name: &str, wanted: &str| value(name).as_deref() == Some(wanted);
    let mut hints = Vec::new();
    if is("user/max_user_namespaces", "0") {
        hints.push(
            "the sysctl user.max_user_namespaces is 0; allow them with \
             `echo user.max_user_namespaces=15000 | sudo tee /etc/sysctl.d/99-userns.conf && sudo sysctl --system`"
                .to_owned(),
        );
    }
    if is("kernel/unprivileged_userns_clone", "0") {
        hints.push(
            "the sysctl kernel.unprivileged_userns_clone is 0; allow them with \
             `echo kernel.unprivileged_userns_clone=1 | sudo tee /etc/sysctl.d/99-userns.conf && sudo sysctl --system`"
                .to_owned(),
        );
    }
    if is("kernel/apparmor_restrict_unprivileged_userns", "1") {
        let program = std::env::current_exe().map_or_else(|_| "/usr/bin/nscompose".into(), |p| p.display().to_string());
        hints.push(format!(
            "AppArmor restricts them (kernel.apparmor_restrict_unprivileged_userns is 1, as on Ubuntu 24.04); allow \
             nscompose with `printf 'abi <abi/4.0>,\\ninclude <tunables/global>\\nprofile nscompose {program} \
             flags=(unconfined) {{\\n  userns,\\n}}\\n' | sudo tee /etc/apparmor.d/nscompose && sudo apparmor_parser -r \
             /etc/apparmor.d/nscompose`"
        ));
    }
    if hints.is_empty() {
        hints.push(
            "none of the known sysctls forbids it; a seccomp filter may (as inside a container of Docker: run that with \
             `--security-opt seccomp=unconfined`), or the kernel was built without CONFIG_USER_NS"
                .to_owned(),
        );
    }
    hints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        let text = "root:1:2\ndev:100000:65536\n1000:300000:10\nother:5:5\nbroken\ndev:x:1\n";
        assert_eq!(ranges(text, 1000, Some("dev")), [(100_000, 65_536), (300_000, 10)]);
        assert_eq!(ranges(text, 7, None), []);
    }

    #[test]
    fn a_free_range_is_behind_all_that_are_given_out() {
        assert_eq!(first_free(""), 100_000);
        assert_eq!(first_free("dev:100000:65536\nother:165536:65536\nbroken\nlow:5:5\n"), 231_072);
    }

    #[test]
    fn root_inside_is_somebody_outside() {
        assert_eq!(outside_of_zero("         0       1000          1\n         1     100000      65536\n"), Some(1000));
        assert_eq!(outside_of_zero("1 2 3\n"), None);
    }

    #[test]
    fn ids_of_an_inner_root_end_at_the_first_gap() {
        assert_eq!(count_from_zero("0 1000 1\n1 100000 65536\n"), 65_537);
        assert_eq!(count_from_zero("0 0 4294967295\n"), u32::MAX);
        assert_eq!(count_from_zero("0 1000 1\n5 9 9\n"), 1);
    }

    #[test]
    fn each_sysctl_is_named_with_its_fix() {
        let dir = tempfile::tempdir().expect("folder");
        let hints_with = |name: &str, value: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("parent")).expect("folder");
            fs::write(&path, value).expect("file");
            let hints = diagnose_at(dir.path());
            fs::remove_file(path).expect("remove");
            hints
        };
        for (name, value, word) in [
            ("user/max_user_namespaces", "0\n", "user.max_user_namespaces=15000"),
            ("kernel/unprivileged_userns_clone", "0\n", "kernel.unprivileged_userns_clone=1"),
            ("kernel/apparmor_restrict_unprivileged_userns", "1\n", "/etc/apparmor.d/nscompose"),
        ] {
            let hints = hints_with(name, value);
            assert!(hints.len() == 1 && hints[0].contains(word), "{name}: {hints:?}");
        }
        assert!(diagnose_at(dir.path())[0].contains("seccomp"));
    }
}
