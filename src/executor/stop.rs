//! Ending a container and removing what it leaves.

use std::{fs, io, sync::Arc, time::Duration};

use tokio::{sync::watch, time::timeout};

use super::{ExecutorError, Stack};
use crate::{
    model::ServiceName,
    sys::{ExitStatus, PidFd},
};

/// How long the kernel may take to end a process after SIGKILL before we give up on it. Even a large address space goes
/// within a second; a process that waits for a dead disk or network file system may not go at all.
const KILL_PATIENCE: Duration = Duration::from_secs(20);

/// Asks a container to stop and waits until it has; kills it after its grace period.
///
/// A first process that neither handles nor blocks its stop signal would not even get it (pid_namespaces(7)), so there is
/// nothing to wait for and it is killed at once.
pub(super) async fn stop(service: &ServiceName, stack: &Stack) -> Result<(), ExecutorError> {
    let Some((pid, pidfd, mut exit, is_init, signal, grace)) = ({
        let objects = stack.objects();
        objects.containers.get(service).map(|container| {
            let grace = Duration::from_millis(container.stop_grace_ms);
            let signal = container.stop_signal.number();
            (container.pid, container.pidfd.clone(), container.exit.clone(), container.is_init, signal, grace)
        })
    }) else {
        return Ok(());
    };
    if exit.borrow().is_some() {
        return Ok(());
    }
    let reaches = !is_init || takes_signal(pid, signal);
    if reaches && pidfd.signal(signal).is_ok() && ended(&pidfd, &mut exit, grace).await {
        return Ok(());
    }
    kill(service, pid, &pidfd, &mut exit).await
}

async fn kill(
    service: &ServiceName,
    pid: i32,
    pidfd: &Arc<PidFd>,
    exit: &mut watch::Receiver<Option<ExitStatus>>,
) -> Result<(), ExecutorError> {
    // ESRCH: it ended just now.
    let _ = pidfd.signal(libc::SIGKILL);
    if ended(pidfd, exit, KILL_PATIENCE).await {
        Ok(())
    } else {
        Err(ExecutorError::Stuck { service: service.clone(), pid })
    }
}

async fn ended(pidfd: &PidFd, exit: &mut watch::Receiver<Option<ExitStatus>>, patience: Duration) -> bool {
    let told = async {
        // A sender that is gone means that the keeper is, and nobody tells any more.
        if exit.wait_for(Option::is_some).await.is_err() {
            while pidfd.is_alive() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    };
    timeout(patience, told).await.is_ok()
}

/// Whether a process handles a signal, or takes it with signalfd(2) or sigwait(3), by what /proc/PID shows.
///
/// Whoever takes signals blocks them, but while a thread sits in sigwait the kernel shows what it waits for as not blocked;
/// then the system call says it.
fn takes_signal(pid: i32, signal: i32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks.map(|task| task.path()).any(|task| {
        let status = fs::read_to_string(task.join("status")).unwrap_or_default();
        let mask = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
        };
        let taken = (mask("SigCgt:") | mask("SigBlk:")) & 1_u64.checked_shl(signal as u32 - 1).unwrap_or(0) != 0;
        taken || {
            let call = fs::read_to_string(task.join("syscall")).unwrap_or_default();
            call.split(' ').next().and_then(|number| number.parse().ok()) == Some(libc::SYS_rt_sigtimedwait)
        }
    })
}

/// Removes a container that has ended: its control group with whatever is still in it, its ports, its writable layers.
pub(super) async fn remove(service: &ServiceName, stack: &Stack) -> Result<(), ExecutorError> {
    let running = stack.objects().containers.get(service).map(|c| (c.pid, c.pidfd.clone(), c.exit.clone()));
    if let Some((pid, pidfd, mut exit)) = running.filter(|(_, _, exit)| exit.borrow().is_none()) {
        // The picture that the plan was made from was late.
        kill(service, pid, &pidfd, &mut exit).await?;
    }
    let Some(mut container) = stack.objects().containers.remove(service) else { return Ok(()) };
    container.forwarders.clear();
    super::uplink::publish(service, container.pid, &[], stack).await;
    // The news of its end comes before that of its removal, and nothing that it wrote is lost.
    if let Some(told) = container.told.take() {
        let _ = told.await;
    }
    if let Some(group) = &container.group {
        let _ = group.kill();
        remove_group(group).await;
    }
    let folder = container.folder.clone();
    let removed = tokio::task::spawn_blocking(move || match fs::remove_dir_all(&folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    });
    let failed = |source| ExecutorError::Files {
        service: service.clone(),
        what: "remove",
        path: container.folder.clone(),
        source,
    };
    removed.await.map_err(|e| failed(io::Error::other(e)))?.map_err(failed)
}

/// The last processes of a group leave it a moment after they have ended.
async fn remove_group(group: &crate::cgroup::Group) {
    for wait in [0, 1, 2, 5, 10, 50, 200, 1000] {
        tokio::time::sleep(Duration::from_millis(wait)).await;
        if group.remove().is_ok() {
            return;
        }
    }
    tracing::warn!(path = %group.path().display(), "a control group cannot be removed");
}
