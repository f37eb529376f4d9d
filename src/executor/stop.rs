//! Ending a container and removing what it leaves.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::watch, time::timeout};

use super::{
    Change, ExecutorError, Stack,
    facts::{self, PORTS, of_service},
    life,
    mounts::is_volume,
    stack::Created,
    volume::VolumeFolder,
};
use crate::{
    life::Happening,
    model::{ServiceName, StopSignal},
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
    let Some((pid, pidfd, mut exit, is_init, stop_signal, grace, since, changes)) = ({
        let objects = stack.objects();
        objects.containers.get(service).filter(|container| container.exit.borrow().is_none()).map(|container| {
            let grace = Duration::from_millis(container.stop_grace_ms);
            let (pidfd, exit, changes) = (container.pidfd.clone(), container.exit.clone(), container.changes.clone());
            // What is frozen does not hear.
            container.freezer.thaw();
            (container.pid, pidfd, exit, container.is_init, container.stop_signal, grace, container.since, changes)
        })
    }) else {
        return Ok(());
    };
    let signal = stop_signal.number();
    let reaches = !is_init || will_take_signal(pid, signal, since, &exit, grace).await;
    if reaches {
        let _ = changes.send(Change::Signalled(service.clone(), pid, stop_signal));
        if pidfd.signal(signal).is_ok() && ended(&pidfd, &mut exit, grace).await {
            return Ok(());
        }
    }
    if exit.borrow().is_none() {
        let _ = changes.send(Change::Signalled(service.clone(), pid, StopSignal::KILL));
    }
    // Somebody may have frozen it meanwhile.
    thaw(service, stack);
    kill(service, pid, &pidfd, &mut exit).await
}

/// Ends a container whose program does not run: there is nobody who could be asked.
pub(super) async fn end(service: &ServiceName, stack: &Stack) -> Result<(), ExecutorError> {
    let running = stack.objects().containers.get(service).map(|c| (c.pid, c.pidfd.clone(), c.exit.clone()));
    let Some((pid, pidfd, mut exit)) = running.filter(|(_, _, exit)| exit.borrow().is_none()) else { return Ok(()) };
    thaw(service, stack);
    kill(service, pid, &pidfd, &mut exit).await
}

fn thaw(service: &ServiceName, stack: &Stack) {
    if let Some(container) = stack.objects().containers.get(service) {
        container.freezer.thaw();
    }
}

/// Sends a signal; after SIGKILL, waits for the end.
pub(super) async fn send(service: &ServiceName, signal: StopSignal, stack: &Stack) -> Result<(), ExecutorError> {
    if signal == StopSignal::KILL {
        // A start that hangs does not keep the signal up.
        stack.set_grace_of(service, 0);
        // Whoever kills it wants it to stay so. Its unit tells that it is stopping.
        life::hands_off(service, stack).await;
    }
    let goes_on = stack.signal(service, signal);
    if signal != StopSignal::KILL {
        if goes_on {
            stack.tell(service, Happening::Resumed).await;
        }
        return Ok(());
    }
    let running = stack.objects().containers.get(service).map(|c| (c.pid, c.pidfd.clone(), c.exit.clone()));
    if let Some((pid, pidfd, mut exit)) = running {
        if !ended(&pidfd, &mut exit, KILL_PATIENCE).await {
            return Err(ExecutorError::Stuck { service: service.clone(), pid });
        }
        stack.settled(service).await;
    }
    Ok(())
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

/// Removes a container that has ended: its control group with whatever is still in it, its ports, its writable layers. Its
/// anonymous volumes may be kept for the next one.
pub(super) async fn remove(service: &ServiceName, stack: &Stack, keep_volumes: bool) -> Result<(), ExecutorError> {
    life::hands_off(service, stack).await;
    let created = stack.objects().created.remove(service);
    if let Some(Created { folder, .. }) = created {
        remove_files(service, folder, keep_volumes, stack).await?;
        forget(service, stack);
        return Ok(());
    }
    let running = stack.objects().containers.get(service).map(|c| (c.pid, c.pidfd.clone(), c.exit.clone()));
    if let Some((pid, pidfd, mut exit)) = running.filter(|(_, _, exit)| exit.borrow().is_none()) {
        // The picture that the plan was made from was late.
        thaw(service, stack);
        kill(service, pid, &pidfd, &mut exit).await?;
    }
    let Some(mut container) = stack.objects().containers.remove(service) else {
        life::leave(service, stack).await;
        return Ok(());
    };
    container.forwarders.clear();
    stack.keeper.forget(vec![Forget::Descriptors(of_service(service, PORTS))]);
    stack.names.disappears(service);
    super::uplink::publish(service, container.pid, &[], None, stack).await;
    // The news of its end comes before that of its removal, and nothing that it wrote is lost.
    if let Some(told) = container.told.take() {
        let _ = told.await;
    }
    life::leave(service, stack).await;
    // It is held by nobody but us by now, or its files would be busy.
    let family = container.family.clone();
    let _ = tokio::task::spawn_blocking(move || family.end()).await;
    if let Some(group) = &container.group {
        group.kill();
        remove_group(group).await;
    }
    remove_files(service, container.folder, keep_volumes, stack).await?;
    // Copies of secrets go with it.
    for copies in [stack.layout.grants(service), stack.layout.devices(service)] {
        let _ = fs::remove_dir_all(copies);
    }
    forget(service, stack);
    Ok(())
}

/// Removes a container that has been stopped, since the plan that made it is taken back: with those of its anonymous volumes that
/// were made along with it. What the one before has left in the others is not lost with this one.
pub(super) async fn take_back(service: &ServiceName, stack: &Stack) -> Result<(), ExecutorError> {
    remove(service, stack, true).await?;
    let new = stack.objects().new_volumes.remove(service).unwrap_or_default();
    if new.is_empty() {
        return Ok(());
    }
    let folder = stack.layout.container(service);
    let path = folder.clone();
    let removed = tokio::task::spawn_blocking(move || {
        new.iter().try_for_each(VolumeFolder::remove)?;
        match fs::remove_dir(&folder) {
            // It has others.
            Err(e) if matches!(e.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound) => Ok(()),
            other => other,
        }
    });
    let removed = removed.await.unwrap_or_else(|e| Err(io::Error::other(e)));
    removed.map_err(|source| ExecutorError::Files { service: service.clone(), what: "remove", path, source })
}

/// Removes what a container has written, likewise. What is removed by half is no container any more, whoever dies meanwhile.
async fn remove_files(
    service: &ServiceName,
    folder: PathBuf,
    keep_volumes: bool,
    stack: &Stack,
) -> Result<(), ExecutorError> {
    // On a full disk it is removed all the same.
    let _ = stack.record(&facts::removing(service), &keep_volumes);
    let removed = remove_folder(service, folder, keep_volumes).await;
    if removed.is_err() {
        // It is somebody else's turn, and what comes next under this name is to stay.
        stack.strike(&facts::removing(service));
    }
    removed
}

/// Removes what a container has written, but for its anonymous volumes if they are to be kept and there are some.
async fn remove_folder(service: &ServiceName, folder: PathBuf, keep_volumes: bool) -> Result<(), ExecutorError> {
    let path = folder.clone();
    let removed = tokio::task::spawn_blocking(move || match keep_volumes {
        true => remove_but_volumes(&folder),
        false => fs::remove_dir_all(&folder),
    });
    let removed = removed.await.unwrap_or_else(|e| Err(io::Error::other(e)));
    match removed {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => {
            other.map_err(|source| ExecutorError::Files { service: service.clone(), what: "remove", path, source })
        }
    }
}

/// Removes the folder of a container but for its anonymous volumes, if there are some.
pub(super) fn remove_but_volumes(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if is_volume(&entry.file_name()) {
            continue;
        }
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    match fs::remove_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        other => other,
    }
}

/// Nothing is left of a container: first by what is written down, then in the keeper. What only that has is removed.
pub(super) fn forget(service: &ServiceName, stack: &Stack) {
    for fact in [facts::container, facts::created, facts::hooked, facts::life, facts::spec, facts::removing] {
        stack.strike(&fact(service));
    }
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
