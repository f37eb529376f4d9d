//! One look at a container's health.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{OnceCell, oneshot},
};

use super::{
    Stack,
    session::Session,
    stack::{Exec, ExecError},
    streams::waited_for,
};
use crate::{
    diagnostics::chain,
    model::{HealthCheck, HealthTest, ProbeResult, RESOLVER, ServiceName},
    network::listening::Listening,
};

/// How much of what a probe writes is kept, as in Docker.
const KEPT: usize = 4096;

/// Looks at a container. `listening` is its network namespace, once somebody has asked. Nothing comes of it if it has ended, or `dropped` comes, which also ends the probe.
pub(super) async fn look(
    service: ServiceName,
    check: HealthCheck,
    stack: Arc<Stack>,
    listening: Arc<OnceCell<Listening>>,
    dropped: oneshot::Receiver<()>,
) -> Option<ProbeResult> {
    let start_ms = jiff::Timestamp::now().as_millisecond();
    let argv = match check.test {
        // Lines for a shell are programs by now.
        HealthTest::None | HealthTest::Shell(..) => return None,
        HealthTest::Listening(ports) => {
            let pid = pid(&stack, &service)?;
            let asked = listening.get_or_try_init(|| async { Listening::of_process(pid) }).await;
            // Our name server listens in each namespace, which says nothing of the service.
            let (exit_code, output) = match asked.and_then(|asked| asked.missing(&ports, RESOLVER)) {
                Ok(None) => (0, String::new()),
                Ok(Some(missing)) => (1, format!("nobody listens on port {missing}")),
                Err(error) => (-1, format!("cannot see who listens: {error}")),
            };
            let end_ms = jiff::Timestamp::now().as_millisecond();
            return Some(ProbeResult { start_ms, end_ms, exit_code, output });
        }
        HealthTest::Program(argv) => argv,
    };
    let (exit_code, output) = match run(&service, argv, check.timeout, &stack, dropped).await {
        Ok(ended) => ended?,
        Err(ExecError::NotRunning(_) | ExecError::Paused(_)) => return None,
        Err(error) => (-1, chain(&error)),
    };
    Some(ProbeResult { start_ms, end_ms: jiff::Timestamp::now().as_millisecond(), exit_code, output })
}

fn pid(stack: &Stack, service: &ServiceName) -> Option<i32> {
    let objects = stack.objects();
    let container = objects.containers.get(service).filter(|container| container.exit.borrow().is_none());
    container.map(|container| container.pid)
}

/// Runs a program in the container, and takes down what it writes. None if it was dropped.
async fn run(
    service: &ServiceName,
    argv: Vec<String>,
    timeout: Duration,
    stack: &Arc<Stack>,
    mut dropped: oneshot::Receiver<()>,
) -> Result<Option<(i32, String)>, ExecError> {
    let talk = |error: io::Error| ExecError::Sandbox(crate::sandbox::SandboxError::Talk(error));
    let (reader, writer) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|errno| talk(errno.into()))?;
    let reader = waited_for(reader).map_err(talk)?;
    let copy = writer.as_fd().try_clone_to_owned().map_err(talk)?;
    let null = File::open("/dev/null").map_err(talk)?;
    let exec = Exec {
        service: service.clone(),
        argv,
        environment: Vec::new(),
        user: None,
        working_dir: None,
        terminal: None,
        privileged: false,
        stays: false,
    };
    // An order that has been given is carried out in any case, and comes back soon.
    let starting = stack.exec(exec, vec![null.into(), copy, writer]).await?;
    let (pidfd, mut exit) = (starting.started.pidfd.clone(), starting.started.exit.clone());
    let session = Session::new(starting.started.pid, pidfd, pid(stack, service));
    let mut output = Output::default();
    let ended = async {
        let ran = starting.runs().await;
        let status = tokio::select! {
            status = exit.wait_for(Option::is_some) => status.ok().and_then(|status| *status),
            never = output.take_from(&reader) => match never {},
        };
        (ran, status)
    };
    let ended = tokio::select! {
        ended = tokio::time::timeout(timeout, ended) => ended,
        _ = &mut dropped => {
            session.end().await;
            return Ok(None);
        }
    };
    let Ok((ran, status)) = ended else {
        session.end().await;
        output.take_rest(&reader);
        let late = format!("the health check took longer than {} and was ended", seconds(timeout));
        return Ok(Some((-1, output.with(&late))));
    };
    let all = output.take_rest(&reader);
    if !all {
        // What it has left would be there with each probe once more.
        session.end().await;
    }
    let code = status.map_or(-1, crate::sys::ExitStatus::shell_code);
    Ok(Some(match ran {
        Ok(()) => (code, output.text()),
        Err(error) => (code, output.with(&chain(&error))),
    }))
}

fn seconds(span: Duration) -> String {
    format!("{} s", span.as_secs_f64())
}

/// What a probe writes, as much of it as is kept.
#[derive(Default)]
struct Output(Vec<u8>);

impl Output {
    /// Takes what comes for as long as something can.
    async fn take_from(&mut self, reader: &AsyncFd<OwnedFd>) -> std::convert::Infallible {
        let mut buffer = vec![0; KEPT];
        while let Ok(n @ 1..) =
            reader.async_io(Interest::READABLE, |fd| Ok(rustix::io::read(fd, &mut buffer[..])?)).await
        {
            self.keep(&buffer[..n]);
        }
        std::future::pending().await
    }

    /// Takes what there is; false if somebody may still write.
    fn take_rest(&mut self, reader: &AsyncFd<OwnedFd>) -> bool {
        let mut buffer = vec![0; KEPT];
        // A pipe has 64 KiB; who writes on and on is not waited for.
        for _ in 0..32 {
            match rustix::io::read(reader.get_ref(), &mut buffer[..]) {
                Ok(0) => return true,
                Ok(n) => self.keep(&buffer[..n]),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false,
            }
        }
        false
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = KEPT.saturating_sub(self.0.len());
        self.0.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }

    /// The text, and a line of ours.
    fn with(&self, line: &str) -> String {
        let text = self.text();
        let separator = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        format!("{text}{separator}{line}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_much_of_the_output_is_kept() {
        let mut output = Output::default();
        output.keep(&[b'x'; 3000]);
        output.keep(&[b'y'; 3000]);
        assert_eq!(output.text().len(), KEPT);
        assert!(output.with("late").ends_with("y\nlate"));
        assert_eq!(Output::default().with("late"), "late");
    }
}
