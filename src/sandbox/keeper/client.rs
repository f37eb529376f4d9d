//! The supervisor's side: orders as async calls.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream as StdUnixStream,
    },
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;
use tokio::{
    io::Interest,
    net::UnixStream,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch},
};

use super::{Forget, Inheritance, Kept, Order, Report, wire};
use crate::{
    sandbox::{BringUpError, BringUpStep, ExecOrder, Launch, LaunchFds, NamespaceOrder, Pinned, SandboxError},
    sys::{self, ExitStatus, Namespace, PidFd},
};

/// A process that the keeper has made.
#[derive(Debug)]
pub struct Started {
    /// Its number in the pid namespace of the supervisor.
    pub pid: i32,
    /// The hold on it.
    pub pidfd: Arc<PidFd>,
    /// How it ended, once it has.
    pub exit: watch::Receiver<Option<ExitStatus>>,
}

/// The supervisor's hold on its keeper; clones talk to the same one.
#[derive(Debug, Clone)]
pub struct Keeper {
    pid: i32,
    orders: mpsc::UnboundedSender<Outgoing>,
    gone: watch::Receiver<bool>,
}

#[derive(Debug)]
struct Outgoing {
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
    answer: oneshot::Sender<Answer>,
}

type Answer = Result<Answered, SandboxError>;

#[derive(Debug)]
enum Answered {
    Namespaces(Pinned),
    Started(Started),
    Nothing,
}

/// What is waited for. The keeper numbers orders as they come, and so does the sending task.
#[derive(Default)]
struct Pending {
    sent: u64,
    answers: HashMap<u64, Waiting>,
    exits: HashMap<i32, watch::Sender<Option<ExitStatus>>>,
}

#[derive(Debug)]
struct Waiting {
    answer: oneshot::Sender<Answer>,
    /// The room that the order's descriptors have on their way. An answer says that they have arrived.
    _room: OwnedSemaphorePermit,
}

/// So many descriptors may be under way to the keeper, or a quarter of those that may be open where there are few: the kernel
/// counts those of all processes of the user, the keeper among them, which would not get rid of its answers either.
const UNDER_WAY: u64 = 64;

fn room() -> usize {
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    UNDER_WAY.min(most / 4).max(1) as usize
}

impl Keeper {
    /// Takes the socket to a keeper that has just been forked with this number, and serves it on the current runtime.
    ///
    /// # Errors
    /// When the socket cannot be used without blocking.
    pub fn attach(socket: StdUnixStream, pid: i32) -> io::Result<Self> {
        Self::talk(socket, pid, Pending::default())
    }

    /// Takes what a keeper has handed over, and serves its socket on the current runtime. All that was kept comes back, with
    /// its processes by name.
    ///
    /// # Errors
    /// When the socket cannot be used without blocking.
    pub fn succeed(inheritance: Inheritance) -> io::Result<(Self, Kept, BTreeMap<String, Started>)> {
        let Inheritance { socket, keeper, next, mut kept, .. } = inheritance;
        let mut pending = Pending { sent: next, ..Pending::default() };
        let processes = std::mem::take(&mut kept.processes).into_iter().map(|(name, process)| {
            let (sender, exit) = watch::channel(process.status);
            if process.status.is_none() {
                pending.exits.insert(process.pid, sender);
            }
            (name, Started { pid: process.pid, pidfd: Arc::new(process.pidfd), exit })
        });
        let processes = processes.collect();
        Ok((Self::talk(socket, keeper, pending)?, kept, processes))
    }

    fn talk(socket: StdUnixStream, pid: i32, pending: Pending) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let socket = Arc::new(UnixStream::from_std(socket)?);
        let pending = Arc::new(Mutex::new(pending));
        let (orders, queue) = mpsc::unbounded_channel();
        let (end, gone) = watch::channel(false);
        tokio::spawn(send_all(socket.clone(), queue, pending.clone()));
        tokio::spawn(async move {
            if let Err(error) = receive_all(&socket, &pending).await {
                tracing::error!(%error, "the keeper cannot be heard");
                if !is_gone(&error) {
                    give_up();
                }
            }
            // Dropping what is waited for tells everybody that the keeper has gone.
            *lock(&pending) = Pending::default();
            end.send_replace(true);
        });
        Ok(Self { pid, orders, gone })
    }

    /// Its number in the pid namespace of the supervisor. It means no other as long as the supervisor has not heard that it has
    /// gone.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Waits until the keeper has ended. Its containers run on, but nobody will know how they end.
    pub async fn gone(&self) {
        let _ = self.gone.clone().wait_for(|gone| *gone).await;
    }

    /// Makes the namespaces of `order`; `user` is the user namespace to make them in when it makes none itself, `mounts` are
    /// the mount namespaces of what it shows of other containers.
    ///
    /// # Errors
    /// What the kernel refused, or that the keeper has gone.
    pub async fn namespaces(
        &self,
        order: NamespaceOrder,
        user: Option<&Namespace>,
        mounts: Vec<Namespace>,
    ) -> Result<Pinned, SandboxError> {
        let fds = user.into_iter().chain(&mounts).map(|namespace| namespace.as_fd().try_clone_to_owned());
        let fds = fds.collect::<io::Result<Vec<_>>>().map_err(SandboxError::Talk)?;
        match self.order(&Order::Namespaces(order), fds).await? {
            Answered::Namespaces(pinned) => Ok(pinned),
            Answered::Started(_) | Answered::Nothing => Err(SandboxError::KeeperGone),
        }
    }

    /// Makes a container. It is on its way when this comes back; what goes wrong on the way to its program is told at its
    /// [gate](crate::sandbox::Gate).
    ///
    /// # Errors
    /// What the kernel refused, or that the keeper has gone.
    pub async fn launch(
        &self,
        launch: Launch,
        fds: LaunchFds,
        name: &str,
        keep: Vec<(String, OwnedFd)>,
    ) -> Result<Started, SandboxError> {
        let (keep, kept): (Vec<_>, Vec<_>) = keep.into_iter().unzip();
        let mut fds = fds.into_vec();
        fds.extend(kept);
        self.start(&Order::Launch { launch: Box::new(launch), name: name.to_owned(), keep }, fds).await
    }

    /// Has the keeper keep these descriptors for the next supervisor. Without any it is a question whether all that was said
    /// before has been done.
    ///
    /// # Errors
    /// EMFILE when it has too many, or that it has gone.
    pub async fn keep(&self, descriptors: Vec<(String, OwnedFd)>) -> Result<(), SandboxError> {
        let mut descriptors = descriptors.into_iter();
        loop {
            let (names, fds): (Vec<_>, Vec<_>) = descriptors.by_ref().take(sys::fds::MAX_FDS).unzip();
            let more = names.len() == sys::fds::MAX_FDS;
            self.order(&Order::Keep(names), fds).await?;
            if !more {
                return Ok(());
            }
        }
    }

    /// Has the keeper let go of this. It does so before it does anything that it is told later; nobody waits for it.
    pub fn forget(&self, what: Vec<Forget>) {
        let Ok(bytes) = wire::encode(&Order::Forget(what)) else { return };
        let _ = self.orders.send(Outgoing { bytes, fds: Vec::new(), answer: oneshot::channel().0 });
    }

    /// Has the keeper end all that it has made, and waits until it has. It stays.
    ///
    /// # Errors
    /// When it has gone.
    pub async fn kill_all(&self) -> Result<(), SandboxError> {
        self.order(&Order::KillAll, Vec::new()).await.map(drop)
    }

    /// Has the keeper end all that it has made, and itself, and waits until it has.
    pub async fn end(&self) {
        let Ok(bytes) = wire::encode(&Order::End) else { return };
        let _ = self.orders.send(Outgoing { bytes, fds: Vec::new(), answer: oneshot::channel().0 });
        self.gone().await;
    }

    /// Runs a program in a container, with `fds` as its standard input, output and error, the status descriptor, for one with
    /// a terminal the socket that is sent the terminal's controlling side, the control groups if there are any, and the hold on
    /// the container's first process. One that does not `stay` is killed when the supervisor dies.
    ///
    /// # Errors
    /// What the kernel refused, or that the keeper has gone.
    pub async fn exec(&self, order: ExecOrder, fds: Vec<OwnedFd>, stays: bool) -> Result<Started, SandboxError> {
        self.start(&Order::Exec { order: Box::new(order), stays }, fds).await
    }

    async fn start(&self, order: &Order, fds: Vec<OwnedFd>) -> Result<Started, SandboxError> {
        match self.order(order, fds).await? {
            Answered::Started(started) => Ok(started),
            Answered::Namespaces(_) | Answered::Nothing => Err(SandboxError::KeeperGone),
        }
    }

    async fn order(&self, order: &impl Serialize, fds: Vec<OwnedFd>) -> Result<Answered, SandboxError> {
        let bytes = wire::encode(order).map_err(SandboxError::Talk)?;
        let (answer, answered) = oneshot::channel();
        self.orders.send(Outgoing { bytes, fds, answer }).map_err(|_| SandboxError::KeeperGone)?;
        answered.await.map_err(|_| SandboxError::KeeperGone)?
    }
}

async fn send_all(socket: Arc<UnixStream>, mut queue: mpsc::UnboundedReceiver<Outgoing>, pending: Arc<Mutex<Pending>>) {
    let most = room();
    let free = Arc::new(Semaphore::new(most));
    while let Some(Outgoing { bytes, fds, answer }) = queue.recv().await {
        let wanted = fds.len().min(most) as u32;
        // It is never closed.
        let Ok(room) = free.clone().acquire_many_owned(wanted).await else { return };
        {
            let mut pending = lock(&pending);
            let id = pending.sent;
            pending.sent += 1;
            pending.answers.insert(id, Waiting { answer, _room: room });
        }
        let mut patience = sys::fds::Patience::default();
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        let mut sent = 0;
        while sent < bytes.len() {
            let fds = if sent == 0 { &fds[..] } else { &[] };
            let sending = socket.async_io(Interest::WRITABLE, || sys::fds::send(socket.as_fd(), &bytes[sent..], fds));
            match sending.await {
                Ok(n) => sent += n,
                // Nothing of it has been sent.
                Err(error) if sent == 0 && !is_gone(&error) => {
                    if let Some(wait) = patience.after(&error) {
                        tokio::time::sleep(wait).await;
                        continue;
                    }
                    tracing::error!(%error, "an order does not reach the keeper");
                    let mut pending = lock(&pending);
                    pending.sent -= 1;
                    let id = pending.sent;
                    if let Some(waiting) = pending.answers.remove(&id) {
                        let _ = waiting.answer.send(Err(SandboxError::Talk(error)));
                    }
                    break;
                }
                Err(error) => {
                    // Nothing more can be asked of it, and nobody may wait for an answer.
                    tracing::error!(%error, "the keeper cannot be spoken to");
                    if !is_gone(&error) {
                        give_up();
                    }
                    let _ = rustix::net::shutdown(&*socket, rustix::net::Shutdown::Both);
                    *lock(&pending) = Pending::default();
                    return;
                }
            }
        }
    }
}

/// A message was lost on the way from or to a keeper that is there still, and nobody can say what else: it has everything, and
/// the supervisor that it starts next knows what there is.
fn give_up() -> ! {
    sys::process::exit_now(70)
}

/// Whether nobody is on the other side any more.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected)
}

async fn receive_all(socket: &UnixStream, pending: &Mutex<Pending>) -> io::Result<()> {
    let mut spare = Spare(Vec::new());
    let mut fds = Vec::new();
    loop {
        let mut length = [0; 4];
        if !fill(socket, &mut length, &mut fds, &mut spare).await? {
            return Ok(());
        }
        let mut body = vec![0; wire::length(length)?];
        if !fill(socket, &mut body, &mut fds, &mut spare).await? {
            return Ok(());
        }
        // Those that came have taken the last that there are.
        let is_short = !fds.is_empty() && !spare.is_full();
        deliver(pending, serde_json::from_slice(&body)?, std::mem::take(&mut fds), is_short);
    }
}

/// Numbers of descriptors that are kept free for those that come with an answer: what has no room on its arrival is lost, and
/// with it the hold on what the keeper has made.
struct Spare(Vec<OwnedFd>);

impl Spare {
    /// As many as come with one answer: a namespace of each kind that a service can own.
    const WANTED: usize = 8;

    fn refill(&mut self, like: BorrowedFd<'_>) {
        while !self.is_full() {
            let Ok(fd) = like.try_clone_to_owned() else { return };
            self.0.push(fd);
        }
    }

    fn is_full(&self) -> bool {
        self.0.len() >= Self::WANTED
    }
}

fn deliver(pending: &Mutex<Pending>, report: Report, fds: Vec<OwnedFd>, is_short: bool) {
    let mut pending = lock(pending);
    let too_many = |step| Err(BringUpError { step, errno: libc::EMFILE }.into());
    let (id, answer) = match report {
        Report::Exited { pid, status } => {
            if let Some(exit) = pending.exits.remove(&pid) {
                exit.send_replace(Some(status));
            }
            return;
        }
        Report::Failed { id, error } => (id, Err(error.into())),
        Report::Done { id } => (id, Ok(Answered::Nothing)),
        Report::Namespaces { id, .. } if is_short => (id, too_many(BringUpStep::MakeNamespaces)),
        Report::Namespaces { id, kinds, init } => {
            let namespaces = kinds.into_iter().zip(fds).map(|(kind, fd)| Namespace::from_fd(kind, fd));
            (id, Ok(Answered::Namespaces(Pinned::new(namespaces, init))))
        }
        Report::Started { id, pid } => {
            let Some(pidfd) = fds.into_iter().next().map(PidFd::from_fd) else { return };
            if is_short {
                // There would be no room for anything that is to be done with it.
                let _ = pidfd.signal(libc::SIGKILL);
                (id, too_many(BringUpStep::Fork))
            } else {
                let (sender, exit) = watch::channel(None);
                pending.exits.insert(pid, sender);
                (id, Ok(Answered::Started(Started { pid, pidfd: Arc::new(pidfd), exit })))
            }
        }
    };
    if let Some(waiting) = pending.answers.remove(&id) {
        let _ = waiting.answer.send(answer);
    }
}

/// Fills the whole buffer; false when the other side has gone.
async fn fill(socket: &UnixStream, buffer: &mut [u8], fds: &mut Vec<OwnedFd>, spare: &mut Spare) -> io::Result<bool> {
    let mut filled = 0;
    while filled < buffer.len() {
        let rest = &mut buffer[filled..];
        let receive = || {
            spare.0.clear();
            let received = sys::fds::receive(socket.as_fd(), rest);
            spare.refill(socket.as_fd());
            received
        };
        let (n, more) = socket.async_io(Interest::READABLE, receive).await?;
        if n == 0 {
            return Ok(false);
        }
        filled += n;
        fds.extend(more);
    }
    Ok(true)
}

/// The tasks that share this never panic while they hold it; should one, its data is still whole.
fn lock(pending: &Mutex<Pending>) -> MutexGuard<'_, Pending> {
    pending.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> NamespaceOrder {
        NamespaceOrder {
            owner: "web".to_owned(),
            ids: None,
            net: true,
            ipc: false,
            hostname: None,
            domainname: None,
            pid: false,
            sysctls: crate::model::Sysctls::new(),
            files: Vec::new(),
            shm_size: None,
        }
    }

    #[tokio::test]
    async fn an_order_that_is_never_answered_ends_with_the_keeper() {
        let (ours, theirs) = StdUnixStream::pair().expect("sockets");
        let keeper = Keeper::attach(ours, 1).expect("a keeper");
        let asked = keeper.clone();
        let waiting = tokio::spawn(async move { asked.namespaces(order(), None, Vec::new()).await });
        // It has taken the order, and goes before it answers.
        let took = tokio::task::spawn_blocking(move || wire::receive::<serde_json::Value>(theirs.as_fd()).map(drop));
        took.await.expect("a thread").expect("an order");
        assert!(matches!(waiting.await.expect("a task"), Err(SandboxError::KeeperGone)));
        keeper.gone().await;
        // Nobody takes this one.
        assert!(matches!(keeper.namespaces(order(), None, Vec::new()).await, Err(SandboxError::KeeperGone)));
    }
}
