//! The uplink of an ordinary user: pasta(1), which has a tap in the stack and sockets of the user's outside.
//!
//! It is a child of the supervisor and dies with it, and with the thread that starts it (PR_SET_PDEATHSIG): so it is started
//! where the supervisor's runtime is. When it ends by itself it is started anew, after a pause that doubles.
//!
//! The namespace is given to it as a file on which it is mounted, in the supervisor's own mounts: of
//! /proc/PID/ns it may open none, since it has given up its capabilities by then. It is in the supervisor's user namespace already,
//! where it has the right to enter the stack. Where that file may be is up to a profile of AppArmor, too ([`PERMITTED`]).

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use ipnet::{Ipv4Net, Ipv6Net};
use tokio::{
    io::unix::AsyncFd,
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

/// Below which folders pasta may open a namespace, by the profile of AppArmor that comes with it and that Debian and its like load
/// (contrib/apparmor of passt: abstractions/pasta and usr.bin.pasta).
const PERMITTED: [&str; 2] = ["/run/user", "/tmp"];

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
    folder: PathBuf,
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
        let (program, folder, log, stack) =
            (program.to_owned(), folder.to_owned(), folder.join("pasta.log"), stack.clone());
        let start = Start { program, folder, log, stack, inner, inner_v6, netlink };
        let running = start.start().await?;
        events(Event::Started(running.pid()));
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
                events(Event::Started(process.pid()));
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
        let namespace = NamespaceFile::new(&self.folder, &self.stack).map_err(failed)?;
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
            .arg(&namespace.0)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log);
        die_with_parent(&mut command);
        let mut running = Running::of(command.spawn().map_err(failed)?, self.log.clone()).map_err(failed)?;
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

/// A file on which the namespace is mounted, as long as this lives; nobody but the supervisor and its children has the mount.
struct NamespaceFile(PathBuf);

impl NamespaceFile {
    /// In `folder`, which nobody else sees, if pasta may open files there. If not, in /tmp for the moment: what others see of it there is an
    /// empty file of the user's.
    fn new(folder: &Path, stack: &Netns) -> io::Result<Self> {
        let permitted = PERMITTED.iter().any(|permitted| folder.starts_with(permitted));
        let folder = if permitted { folder } else { Path::new("/tmp") };
        let mut random = [0; 8];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
        let path = folder.join(format!("nscompose-uplink-{:016x}", u64::from_ne_bytes(random)));
        let file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
        let made = Self(path);
        // By descriptor: it is this file, whatever has become of its name.
        let [namespace, file] = [stack.as_fd().as_raw_fd(), file.as_raw_fd()].map(|fd| format!("/proc/self/fd/{fd}"));
        rustix::mount::mount_bind(namespace, file)?;
        Ok(made)
    }
}

impl Drop for NamespaceFile {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
        let _ = fs::remove_file(&self.0);
    }
}

/// The process; killed when this is dropped.
struct Running {
    child: Child,
    /// Readable when it has ended. Held from the beginning: without it there would be nothing but wait(2), which would stop the
    /// whole supervisor, and when descriptors run out is when it could not be had.
    end: AsyncFd<OwnedFd>,
    /// Where it writes to.
    log: PathBuf,
}

impl Running {
    /// # Errors
    /// What pidfd_open(2) says, or that the runtime cannot wait for it; the process is killed then.
    fn of(mut child: Child, log: PathBuf) -> io::Result<Self> {
        let pidfd = PidFd::open(child.id() as i32).and_then(|pidfd| pidfd.as_fd().try_clone_to_owned());
        match pidfd.and_then(wait_on) {
            Ok(end) => Ok(Self { child, end, log }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Waits for its end; what it wrote last comes back, or how it ended.
    async fn ended(&mut self) -> String {
        let _ = self.end.readable().await;
        let how = self.child.wait().map_or_else(|e| e.to_string(), |status| status.to_string());
        let said = fs::read_to_string(&self.log).unwrap_or_default();
        // It speaks of the log of the system, too, which it does not reach.
        let last = said.lines().map(str::trim).rfind(|line| !line.is_empty() && !line.contains("syslog"));
        last.map_or(how, str::to_owned)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
