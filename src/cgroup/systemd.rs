//! Asking the service manager of an ordinary user for a control group: a scope with `Delegate=yes`.
//!
//! A login shell is in `session-N.scope`, which is root's. Everything below `user@UID.service` is the user's, but a
//! process gets there only by root or with the service manager's help, since the group that both places are below is root's.
//! The scope ends when the last process in it has.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use zbus::{ObjectPath, Variant, connection::Builder};

use super::CgroupError;

/// How long the service manager may take. It answers within a few milliseconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// The id that the account has outside the user namespace of a stack.
fn outer_uid() -> u32 {
    let inside = rustix::process::getuid().as_raw();
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let line =
        map.lines().map(|line| line.split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<u32>>());
    let found = line.into_iter().find_map(|line| match line[..] {
        [first, outside, count] if inside >= first && inside - first < count => Some(outside + (inside - first)),
        _ => None,
    });
    found.unwrap_or(inside)
}

/// The socket of the session bus: where pam_systemd and dbus put it.
fn bus(uid: u32) -> PathBuf {
    PathBuf::from(format!("/run/user/{uid}/bus"))
}

/// The group of the account's service manager, if there is one that can be asked.
pub(super) fn manager_of_account(unified: &Path) -> Option<PathBuf> {
    let uid = outer_uid();
    let group = unified.join(format!("user.slice/user-{uid}.slice/user@{uid}.service"));
    let ours = |path: &Path| fs::metadata(path).is_ok_and(|meta| meta.uid() == rustix::process::getuid().as_raw());
    (ours(&group) && bus(uid).exists()).then_some(group)
}

/// Moves the process `pid` to a scope of its own that the caller may make groups in; it is there when this comes back.
///
/// # Errors
/// When the service manager cannot be spoken to, or does not do it.
pub async fn ask_for_scope(name: &str, pid: i32) -> Result<(), CgroupError> {
    let before = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let asked = tokio::time::timeout(PATIENCE, start_scope(name, pid)).await;
    let asked = asked
        .unwrap_or_else(|_| Err(zbus::Error::InputOutput(std::io::Error::from(std::io::ErrorKind::TimedOut).into())));
    let _connection = asked.map_err(|e| CgroupError::Manager(e.into()))?;
    let started = Instant::now();
    // It answers when the job is queued. A signal says when it is done, and that another process is in another group says
    // it as well.
    while fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default() == before {
        if started.elapsed() > PATIENCE {
            return Err(CgroupError::NotMoved { pid });
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

async fn start_scope(name: &str, pid: i32) -> zbus::Result<zbus::Connection> {
    let uid = outer_uid();
    // Inside the user namespace we are root, which is not who the bus sees.
    let address = format!("unix:path={}", bus(uid).display());
    let connection = Builder::address(address.as_str()).user_id(uid).build().await?;
    let properties: Vec<(&str, Variant<'_>)> = vec![
        ("Description", Variant::from(format!("containers of {name}"))),
        ("Delegate", Variant::from(true)),
        ("CollectMode", Variant::from("inactive-or-failed")),
        ("PIDs", Variant::from(vec![pid as u32])),
    ];
    let auxiliary: Vec<(&str, Vec<(&str, Variant<'_>)>)> = Vec::new();
    let reply = connection
        .call_method(
            Some("org.freedesktop.systemd1"),
            "/org/freedesktop/systemd1",
            Some("org.freedesktop.systemd1.Manager"),
            "StartTransientUnit",
            &(name, "fail", properties, auxiliary),
        )
        .await?;
    let _job: ObjectPath<'_> = reply.body().deserialize()?;
    Ok(connection)
}
