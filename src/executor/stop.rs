//! Ending a container and removing what it leaves.

use std::{
    fs, io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::watch, time::timeout};

use super::{
    ExecutorError, Stack,
    container::container_fact,
    stack::{PORTS, of_service},
};
use crate::{
    model::ServiceName,
    sandbox::Forget,
    sys::{ExitStatus, PidFd},
};

/// How long the kernel may take to end a process after SIGKILL before we give up on it. Even a large address space goes
/// within a second; a process that waits for a dead disk or network file system may not go at all.
const KILL_PATIENCE: Duration = Duration::from_secs(20);

/// Asks a container to stop and waits until it has; kills it after its grace period.
///
/// A first process that neither handles nor blocks its stop signal would not even get it (pid_namespaces(7)), so there is
/// nothing to wait for and it is killed at once; unless it has only just begun and may be on its way to handle it.
pub(super) async fn stop(service: &ServiceName, stack: &Stack) -> Result<(), ExecutorError> {
    let Some((pid, pidfd, mut exit, is_init, signal, grace, since)) = ({
        let objects = stack.objects();
        objects.containers.get(service).map(|container| {
            let grace = Duration::from_millis(container.stop_grace_ms);
            let signal = container.stop_signal.number();
            let (pidfd, exit) = (container.pidfd.clone(), container.exit.clone());
            (container.pid, pidfd, exit, container.is_init, signal, grace, container.since)
        })
    }) else {
        return Ok(());
    };
    if exit.borrow().is_some() {
        return Ok(());
    }
    let reaches = !is_init || will_take_signal(pid, signal, since, &exit, grace).await;
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

/// How long a program may take from its start until it handles signals.
const BEGINNING: Duration = Duration::from_secs(2);

/// Whether a process takes a signal, now or, if it has just begun, soon: for as long as it is busy, and has not come to wait
/// for something, it may be loading what it consists of.
async fn will_take_signal(
    pid: i32,
    signal: i32,
    since: Instant,
    exit: &watch::Receiver<Option<ExitStatus>>,
    grace: Duration,
) -> bool {
    let patience = BEGINNING.min(grace);
    let (mut blocked, mut idle) = (0, 0);
    loop {
        match disposition(pid, signal) {
            Disposition::Taken => return true,
            // A shell blocks all signals for a moment whenever it makes a process; who takes them always does.
            Disposition::Blocked if blocked == 4 => return true,
            Disposition::Blocked => blocked += 1,
            Disposition::Dropped => {
                blocked = 0;
                idle = if is_idle(pid) { idle + 1 } else { 0 };
                // Between two system calls anybody waits for a moment.
                if idle == 3 || since.elapsed() >= patience {
                    return false;
                }
            }
        }
        if exit.borrow().is_some() {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether all threads of a process wait for something that may never come.
fn is_idle(pid: i32) -> bool {
    let mut tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks.all(|task| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().next());
        state == Some("S")
    })
}

/// What becomes of a signal that pid 1 of a pid namespace is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disposition {
    /// It has a handler, or is waited for.
    Taken,
    /// It waits until it is unblocked, or is read from a signalfd(2).
    Blocked,
    /// The kernel drops it.
    Dropped,
}

/// What /proc/PID shows of it.
///
/// Whoever takes signals with sigwait(3) blocks them, but while a thread sits in it the kernel shows what it waits for as not
/// blocked; then the system call says it.
fn disposition(pid: i32, signal: i32) -> Disposition {
    let bit = 1_u64.checked_shl(signal as u32 - 1).unwrap_or(0);
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let of_task = |task: PathBuf| {
        let status = fs::read_to_string(task.join("status")).unwrap_or_default();
        let has = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0) & bit != 0
        };
        let waits = || {
            let call = fs::read_to_string(task.join("syscall")).unwrap_or_default();
            call.split(' ').next().and_then(|number| number.parse().ok()) == Some(libc::SYS_rt_sigtimedwait)
        };
        match (has("SigCgt:") || waits(), has("SigBlk:")) {
            (true, _) => Disposition::Taken,
            (false, true) => Disposition::Blocked,
            (false, false) => Disposition::Dropped,
        }
    };
    let all: Vec<Disposition> = tasks.map(|task| of_task(task.path())).collect();
    let known = [Disposition::Taken, Disposition::Blocked].into_iter().find(|one| all.contains(one));
    known.unwrap_or(Disposition::Dropped)
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
    stack.keeper.forget(vec![Forget::Descriptors(of_service(service, PORTS))]);
    stack.names.disappears(service);
    super::uplink::publish(service, container.pid, &[], stack).await;
    // The news of its end comes before that of its removal, and nothing that it wrote is lost.
    if let Some(told) = container.told.take() {
        let _ = told.await;
    }
    // It is held by nobody but us by now, or its files would be busy.
    let family = container.family.clone();
    let _ = tokio::task::spawn_blocking(move || family.end()).await;
    if let Some(group) = &container.group {
        group.kill();
        remove_group(group).await;
    }
    // Copies of secrets go with it.
    for copies in [stack.layout.grants(service), stack.layout.devices(service)] {
        let _ = fs::remove_dir_all(copies);
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
    removed.await.map_err(|e| failed(io::Error::other(e)))?.map_err(failed)?;
    forget(service, stack);
    Ok(())
}

/// Nothing is left of a container: first by what is written down, then in the keeper. What only that has is removed.
pub(super) fn forget(service: &ServiceName, stack: &Stack) {
    stack.strike(&container_fact(service));
    stack.keeper.forget(vec![Forget::Process(service.to_string()), Forget::Descriptors(of_service(service, ""))]);
}

/// The last processes of a group leave it a moment after they have ended.
async fn remove_group(group: &crate::cgroup::Group) {
    for wait in [0, 1, 2, 5, 10, 50, 200, 1000] {
        tokio::time::sleep(Duration::from_millis(wait)).await;
        if group.remove().is_ok() {
            return;
        }
    }
    tracing::warn!(paths = ?group.paths().collect::<Vec<_>>(), "a control group cannot be removed");
}
