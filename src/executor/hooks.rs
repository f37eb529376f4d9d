//! Commands of the file that are run in a container: once it has started, and before it is stopped. Those that are run before it
//! are containers of their own, and steps of the plan.

use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc::UnboundedSender, watch},
    time::timeout,
};

use super::{
    Change, Exec, ExecError, ExecutorError, Stack,
    container::{log_writer, written_of},
    facts, logs,
    wait::Why,
};
use crate::{
    model::{Hook, ServiceName},
    plan::{ContainerSpec, Never, Wait},
    state::Stream,
    sys::{ExitStatus, PidFd},
};

/// Why a command of the file did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// It could not be run.
    #[error("it cannot be run")]
    Exec(#[from] ExecError),
    /// Where its output goes.
    #[error("its output cannot be kept")]
    Log(#[source] std::io::Error),
    /// It has ended with something else than 0.
    #[error("it has exited with code {0}")]
    Exited(i32),
    /// The container ended first.
    #[error("the service has ended before it")]
    Ended,
    /// Its container has gone.
    #[error("its container has been removed")]
    Gone,
    /// Who wanted the service has gone.
    #[error("nobody waits for it any more, and it was ended")]
    NobodyWaits,
    /// It had as long as somebody was ready to wait (`--wait-timeout`).
    #[error("it has not ended within the {0} s of `--wait-timeout`")]
    TooLate(u32),
    /// It had no time left.
    #[error("it has not ended in the time that the service has to stop, and was killed")]
    TooLong,
}

/// Runs what is to be run once the program of a service runs, one after the other.
///
/// # Errors
/// The first that fails; or when `is_over` becomes true first, since then nobody wants it any more.
pub(super) async fn after_start(
    spec: &ContainerSpec,
    stack: &Stack,
    mut is_over: watch::Receiver<bool>,
) -> Result<(), ExecutorError> {
    let exit = exit_of(&spec.service, stack);
    for (index, hook) in spec.hooks.post_start.iter().enumerate() {
        let failed = |source| ExecutorError::Hook {
            service: spec.service.clone(),
            hook: format!("post_start[{index}]"),
            command: hook.command.join(" "),
            log: super::wait::last_log(stack, &spec.service),
            source: Box::new(source),
        };
        let over = async {
            let _ = is_over.wait_for(|over| *over).await;
        };
        // The next one, which is started by itself, has all of them once more.
        let has_ended = exit.as_ref().is_some_and(|exit| exit.borrow().is_some());
        let result = if has_ended { Err(HookError::Ended) } else { run(hook, &spec.service, over, stack).await };
        match result {
            Ok(()) => {}
            Err(HookError::TooLong) => return Err(ExecutorError::Interrupted),
            Err(error) => return Err(failed(error)),
        }
    }
    // What has not come up has nothing to do before it goes.
    let pid = stack.objects().containers.get_mut(&spec.service).map(|container| {
        container.pre_stop.clone_from(&spec.hooks.pre_stop);
        container.pid
    });
    match pid {
        // A supervisor that comes before this is written finds a container that has not come up.
        Some(pid) if !spec.hooks.post_start.is_empty() => stack.record(&facts::hooked(&spec.service), &pid),
        _ => Ok(()),
    }
}

/// What is said of a command that has not done what is to be done before its service is started.
pub(super) fn before_start(wait: &Wait, why: Why, stack: &Stack) -> ExecutorError {
    let hook = &wait.service;
    let service = written_of(hook);
    let began = stack.objects().hooks_began.get(hook).copied();
    ExecutorError::Hook {
        hook: format!("pre_start[{}]", hook.hook().unwrap_or_default()),
        command: stack.spec(hook).map(|spec| spec.argv.join(" ")).unwrap_or_default(),
        log: super::wait::last_log_since(stack, &service, began),
        source: Box::new(match why {
            Why::Never(Never::Exited(code)) => HookError::Exited(code),
            Why::Never(Never::Gone | Never::Unhealthy | Never::NotProbed) => HookError::Gone,
            Why::NobodyWaits => HookError::NobodyWaits,
            Why::TooLong { waited, .. } => {
                let within = wait.within_ms.map_or(waited, Duration::from_millis);
                HookError::TooLate(u32::try_from(within.as_secs()).unwrap_or(u32::MAX))
            }
        }),
        service,
    }
}

/// Runs what is to be run before a service is asked to stop, one after the other. All of them together have as long as the
/// service itself has, which has its own time after them.
pub(super) async fn before_stop(service: &ServiceName, stack: &Stack, changes: &UnboundedSender<Change>) {
    let (hooks, grace) = {
        let mut objects = stack.objects();
        let running = objects.containers.get_mut(service).filter(|container| container.exit.borrow().is_none());
        let Some(container) = running else { return };
        // Once, whoever stops it again.
        (std::mem::take(&mut container.pre_stop), Duration::from_millis(container.stop_grace_ms))
    };
    let end = Instant::now() + grace;
    for (index, hook) in hooks.iter().enumerate() {
        let over = tokio::time::sleep_until(end.into());
        if let Err(error) = run(hook, service, over, stack).await {
            let cause = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
            let what = format!("service `{service}`: pre_stop[{index}], `{}`", hook.command.join(" "));
            let _ = changes.send(Change::Warning(format!("{what}: {error}{cause}")));
        }
    }
}

/// Runs one to its end, or until it is `over`, its output in the log of the service.
async fn run(
    hook: &Hook,
    service: &ServiceName,
    over: impl Future<Output = ()>,
    stack: &Stack,
) -> Result<(), HookError> {
    let writer = match stack.spec(service) {
        Ok(spec) => log_writer(&spec, stack).await.map_err(HookError::Log)?,
        Err(_) => None,
    };
    let mut sources = Vec::new();
    let mut piped = |stream| -> io::Result<OwnedFd> {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        sources.push((stream, logs::Source::Pipe(reader), stack.layout.hook_spool(service, stream)));
        Ok(writer)
    };
    let stdout = piped(Stream::Stdout).map_err(HookError::Log)?;
    let stderr = piped(Stream::Stderr).map_err(HookError::Log)?;
    let pump = logs::pump(sources, writer, Arc::default(), false).map_err(HookError::Log)?;
    let stdin = File::open("/dev/null").map(OwnedFd::from).map_err(HookError::Log)?;
    let exec = Exec {
        service: service.clone(),
        argv: hook.command.clone(),
        environment: hook.environment.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        user: hook.user.clone(),
        working_dir: hook.working_dir.clone(),
        terminal: None,
        privileged: hook.privileged,
        stays: false,
    };
    let starting = stack.exec(exec, vec![stdin, stdout, stderr]).await?;
    let (pidfd, mut exit) = (starting.started.pidfd.clone(), starting.started.exit.clone());
    let result = async {
        starting.runs().await?;
        let ended = exit.wait_for(Option::is_some).await.ok().and_then(|status| *status);
        match ended.map_or(255, ExitStatus::shell_code) {
            0 => Ok(()),
            code => Err(HookError::Exited(code)),
        }
    };
    let result = tokio::select! {
        biased;
        result = result => match result {
            // With the first process of a pid namespace the kernel kills all others, and these are heard of first.
            Err(HookError::Exited(KILLED)) if timeout(LAST_OUTPUT, ended(service, stack)).await.is_ok() => {
                Err(HookError::Ended)
            }
            other => other,
        },
        () = ended(service, stack) => {
            kill(&pidfd);
            Err(HookError::Ended)
        }
        () = over => {
            kill(&pidfd);
            Err(HookError::TooLong)
        }
    };
    // The last of what it wrote comes before what is said of it; something that it has left may hold the pipes for longer.
    let _ = timeout(LAST_OUTPUT, pump.drained()).await;
    result
}

/// How long the last output of a command that has ended may take.
const LAST_OUTPUT: Duration = Duration::from_secs(2);

/// The code of what was ended by SIGKILL, as a shell shows it.
const KILLED: i32 = 128 + libc::SIGKILL;

fn kill(pidfd: &PidFd) {
    // ESRCH: it has ended just now.
    let _ = pidfd.signal(libc::SIGKILL);
}

fn exit_of(service: &ServiceName, stack: &Stack) -> Option<watch::Receiver<Option<ExitStatus>>> {
    stack.objects().containers.get(service).map(|container| container.exit.clone())
}

/// Waits until the container itself has ended.
async fn ended(service: &ServiceName, stack: &Stack) {
    if let Some(mut exit) = exit_of(service, stack) {
        let _ = exit.wait_for(Option::is_some).await;
    }
}
