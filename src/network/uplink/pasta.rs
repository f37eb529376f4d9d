//! The uplink of an ordinary user: pasta(1), which has a tap in the stack and sockets of the user's outside.
//!
//! It is a child of the supervisor and dies with it, and with the thread that starts it (PR_SET_PDEATHSIG): so it is started
//! where the supervisor's runtime is. When it ends by itself it is started anew, after a pause that doubles.
//!
//! The namespace is given to it as a file on which it is mounted, in a folder of the supervisor's own mounts: of
//! /proc/PID/ns it may open none, since it has given up its capabilities by then. It is in the supervisor's user namespace already,
//! where it has the right to enter the stack.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd, AsRawFd},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use ipnet::{Ipv4Net, Ipv6Net};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout_at},
};

use super::{INNER, outer, outer_v6};
use crate::{
    model::Family,
    network::netlink::Netlink,
    sys::{Netns, PidFd, process::die_with_parent, wait_on},
};

/// The pause before it is started anew, doubled each time it ends before it has run for [`STEADY`].
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// Having run for so long it counts as healthy.
const STEADY: Duration = Duration::from_secs(10);

/// How long it may take until there is a way out. It needs some 20 ms.
const PATIENCE: Duration = Duration::from_secs(10);

/// pasta(1) does not run.
#[derive(Debug, thiserror::Error)]
pub enum PastaError {
    /// It cannot be started.
    #[error("cannot run {}", program.display())]
    Run {
        /// Where it is.
        program: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It has ended before there was a way out.
    #[error("pasta says: {0}")]
    Ended(String),
    /// It makes no way out.
    #[error("pasta has not brought the uplink up in {} s", PATIENCE.as_secs())]
    Slow,
}

/// What becomes of a pasta that has once run.
#[derive(Debug)]
pub enum Event {
    /// It runs, as this process.
    Started(i32),
    /// It has ended, or could not be started anew; it will be tried again.
    Ended(String),
}

/// A pasta and who watches it. Dropping this ends both.
#[derive(Debug)]
pub struct Pasta {
    watch: JoinHandle<()>,
}

impl Drop for Pasta {
    fn drop(&mut self) {
        // The process is killed by the guard that goes with the task.
        self.watch.abort();
    }
}

/// How it is started.
struct Start {
    program: PathBuf,
    mounted: PathBuf,
    log: PathBuf,
    stack: Arc<Netns>,
    inner: Ipv4Net,
    inner_v6: Option<Ipv6Net>,
    netlink: Netlink,
}

impl Pasta {
    /// Starts it and waits until there is a way out.
    ///
    /// # Errors
    /// When it does not come up.
    pub(super) async fn start(
        program: &Path,
        folder: &Path,
        stack: &Arc<Netns>,
        (inner, inner_v6): (Ipv4Net, Option<Ipv6Net>),
        netlink: Netlink,
        events: impl Fn(Event) + Send + 'static,
    ) -> Result<Self, PastaError> {
        let failed = |source| PastaError::Run { program: program.to_owned(), source };
        let mounted = folder.join("uplink");
        if !mounted.exists() {
            File::create(&mounted).map_err(failed)?;
            let namespace = format!("/proc/self/fd/{}", stack.as_fd().as_raw_fd());
            rustix::mount::mount_bind(namespace, &mounted).map_err(|errno| failed(errno.into()))?;
        }
        let (program, log, stack) = (program.to_owned(), folder.join("pasta.log"), stack.clone());
        let start = Start { program, mounted, log, stack, inner, inner_v6, netlink };
        let running = start.start().await?;
        events(Event::Started(running.0.id() as i32));
        Ok(Self { watch: tokio::spawn(watch(start, running, events)) })
    }
}

/// Starts it anew whenever it ends.
async fn watch(start: Start, running: Running, events: impl Fn(Event) + Send) {
    let mut running = Some(running);
    let mut pause = PAUSE.0;
    loop {
        let began = Instant::now();
        if let Some(mut process) = running.take() {
            let how = process.ended().await;
            events(Event::Ended(how));
        }
        if began.elapsed() > STEADY {
            pause = PAUSE.0;
        }
        sleep(pause).await;
        pause = PAUSE.1.min(pause * 2);
        match start.start().await {
            Ok(process) => {
                events(Event::Started(process.0.id() as i32));
                running = Some(process);
            }
            Err(error) => events(Event::Ended(error.to_string())),
        }
    }
}

impl Start {
    async fn start(&self) -> Result<Running, PastaError> {
        let failed = |source| PastaError::Run { program: self.program.clone(), source };
        let log = File::create(&self.log).map_err(failed)?;
        let gateway = outer(self.inner).to_string();
        let address = self.inner.addr().to_string();
        let mut command = Command::new(&self.program);
        command
            .args(["--foreground", "--quiet", "--config-net", "--ns-ifname", INNER])
            // Addresses of our own, and not the host's, which containers may want to speak to. The gateway is nobody but pasta, which
            // leads what is sent there to the host's loopback.
            .args(["--address", &address, "--netmask", &self.inner.prefix_len().to_string(), "--gateway", &gateway])
            .args(self.inner_v6.iter().flat_map(|inner| {
                ["--address".to_owned(), inner.addr().to_string(), "--gateway".to_owned(), outer_v6(*inner).to_string()]
            }))
            // Ports are published by us.
            .args(["--tcp-ports", "none", "--udp-ports", "none", "--tcp-ns", "none", "--udp-ns", "none"])
            // Nobody in the stack asks for an address, but for the neighbour that is the gateway of IPv6.
            .args(["--no-dhcp", "--no-dhcpv6", "--no-ra"])
            .args(["--mtu", "65520", "--no-netns-quit", "--netns"])
            .arg(&self.mounted)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log);
        die_with_parent(&mut command);
        let mut running = Running(command.spawn().map_err(failed)?, self.log.clone());
        let end = Instant::now() + PATIENCE;
        loop {
            // It carries those families that the host has a default route for: both, IPv4 first, or one of them.
            let routes =
                [self.netlink.has_default_route(Family::V4).await, self.netlink.has_default_route(Family::V6).await];
            if routes.into_iter().any(|there| there.is_ok_and(|there| there)) {
                break;
            }
            if Instant::now() > end {
                return Err(PastaError::Slow);
            }
            let wait = Instant::now() + Duration::from_millis(2);
            if let Ok(how) = timeout_at(wait, running.ended()).await {
                return Err(PastaError::Ended(how));
            }
        }
        // It is a new interface each time.
        let path = format!("/proc/sys/net/ipv4/conf/{INNER}/forwarding");
        self.stack.run(|| fs::write(path, "1")).map_err(failed)?;
        Ok(running)
    }
}

/// The process, and where it writes to; killed when this is dropped.
struct Running(Child, PathBuf);

impl Running {
    /// Waits for its end; what it wrote last comes back, or how it ended.
    async fn ended(&mut self) -> String {
        let pidfd = PidFd::open(self.0.id() as i32).and_then(|pidfd| pidfd.as_fd().try_clone_to_owned());
        if let Ok(pidfd) = pidfd.and_then(wait_on) {
            let _ = pidfd.readable().await;
        }
        let how = self.0.wait().map_or_else(|e| e.to_string(), |status| status.to_string());
        let said = fs::read_to_string(&self.1).unwrap_or_default();
        // It speaks of the log of the system, too, which it does not reach.
        let last = said.lines().map(str::trim).rfind(|line| !line.is_empty() && !line.contains("syslog"));
        last.map_or(how, str::to_owned)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
