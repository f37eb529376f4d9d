//! Starting a supervisor: from the command that needs one to a process that answers.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::{
        fd::AsFd,
        unix::{
            fs::{DirBuilderExt, OpenOptionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::Path,
    process::ExitCode,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sched::CloneFlags,
    sys::socket::{getsockopt, sockopt},
};
use rustix::mount::{MountFlags, MountPropagationFlags, mount_change};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{client::shared_network, dispatcher};
use crate::{
    cgroup,
    diagnostics::{Failure, FailureKind},
    executor::{self, Inherited, Stack},
    model::Ids,
    network::netlink::host_routes,
    sandbox::{
        self, Inheritance, Keeper, Legacy, StackIds, Surroundings, UserNamespaceError, enter, fork_keeper, let_in,
        refused,
    },
    state::{Entry, FolderLock, Journal, Lock, LockError, SharedNetworks, StackLayout},
    sys::{
        Namespace, NamespaceKind, PidFd,
        process::{self, Fork},
    },
};

/// How long a command waits for another one that is just starting or ending the stack.
const PATIENCE: Duration = Duration::from_secs(30);

/// Connects to the supervisor of a stack; none when there is nothing of the stack. One that was killed has left things
/// behind: then a new one is started, which cleans up.
///
/// # Errors
/// When the supervisor cannot be reached or started.
pub fn connect(layout: &StackLayout) -> Result<Option<UnixStream>, Failure> {
    match layout.connect() {
        Ok(stream) => return Ok(Some(stream)),
        Err(e) if !nobody_there(&e) => return Err(unreachable(layout, &e)),
        Err(_) => {}
    }
    if layout.runtime().exists() || layout.data().exists() { connect_or_start(layout).map(Some) } else { Ok(None) }
}

/// Connects to the supervisor of a stack, starting it if there is none. The caller has to be single-threaded.
///
/// # Errors
/// When this host does not let it run; each with what to do about it.
pub fn connect_or_start(layout: &StackLayout) -> Result<UnixStream, Failure> {
    let started = Instant::now();
    let mut deaths = 0;
    loop {
        match layout.connect() {
            Ok(stream) => return Ok(stream),
            Err(e) if !nobody_there(&e) => return Err(unreachable(layout, &e)),
            Err(_) => {}
        }
        match Lock::take(&layout.lock()) {
            Ok(lock) => {
                if let Some(stream) = start(layout, lock)? {
                    return Ok(stream);
                }
                // Its keeper has another one by now, or there is none.
                deaths += 1;
                if deaths == DEATHS {
                    return Err(Failure::internal("the supervisor ended before it was ready"));
                }
            }
            // Whoever took the last stack down has taken the folder along.
            Err(LockError::Io { source, .. })
                if source.kind() == io::ErrorKind::NotFound && started.elapsed() < PATIENCE =>
            {
                layout.layout().create().map_err(|e| Failure::host("cannot make nscompose's folders").caused_by(&e))?;
            }
            // Somebody starts it or takes it down at this moment.
            Err(LockError::Held { .. }) if started.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(5)),
            Err(error @ LockError::Held { .. }) => {
                return Err(
                    Failure::from_error(FailureKind::Operation, &error).hint("wait for it, or end it if it hangs")
                );
            }
            Err(error) => return Err(Failure::from_error(FailureKind::Host, &error)),
        }
    }
}

fn nobody_there(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn unreachable(layout: &StackLayout, error: &io::Error) -> Failure {
    Failure::host(format!("cannot reach the supervisor of stack `{}`", layout.project())).caused_by(error)
}

/// How many supervisors in a row may die, or end with somebody who only looked, before they are ready.
const DEATHS: u32 = 20;

/// How long a process that has been killed may take to have ended.
const DYING: Duration = Duration::from_millis(200);

/// Forks the supervisor and waits until it answers; none if it has ended by then, without a word.
fn start(layout: &StackLayout, lock: Lock) -> Result<Option<UnixStream>, Failure> {
    // While others could not start it could not remove what it does not need.
    fork_and_wait(layout, lock).inspect_err(|_| layout.layout().remove_empty())
}

fn fork_and_wait(layout: &StackLayout, lock: Lock) -> Result<Option<UnixStream>, Failure> {
    let internal = |what: &str, e: &dyn std::error::Error| Failure::host(format!("cannot {what}")).caused_by(e);
    let ids = StackIds::of_caller();
    let (mut ours, theirs) = UnixStream::pair().map_err(|e| internal("make a socket", &e))?;
    // Until ours answers: two that start at the same time would not find each other.
    let (_starting, user) = match ids {
        StackIds::Root => (None, None),
        _ => (FolderLock::take(layout.layout().folders()[0]).ok(), user_namespace_of_others(layout, &ids)),
    };
    match process::fork(CloneFlags::empty(), None).map_err(|e| internal("start a process", &e))? {
        Fork::Child => {
            drop(ours);
            supervise(layout, lock, ids, user, theirs)
        }
        Fork::Parent(child) => {
            drop(theirs);
            // The child has it too and keeps it; ours must not outlive this command.
            drop(lock);
            let mapped = ids == StackIds::Root || user.is_some();
            let mut answer = match if mapped { Ok(Vec::new()) } else { let_in(child.pid, &mut ours, &ids) } {
                // There is nobody any more whose ids could be mapped. One that is being killed has nothing to be seen of it in /proc
                // a moment before it has ended.
                Err(_) if child.pidfd.ends_within(DYING).unwrap_or(false) => return Ok(None),
                answer => answer?,
            };
            // When it ends without a word, what it wrote before is not a failure that can be read either.
            let _ = ours.read_to_end(&mut answer);
            if answer == READY {
                return match layout.connect() {
                    Ok(stream) => Ok(Some(stream)),
                    Err(e) if nobody_there(&e) => Ok(None),
                    Err(e) => Err(unreachable(layout, &e)),
                };
            }
            serde_json::from_slice(&answer).map_or(Ok(None), Err)
        }
    }
}

/// The user namespace that another supervisor of the account is in, if its ids are those that ours would have. All stacks of
/// an ordinary user are in one, as they have the same ids anyway: only so can they share networks.
fn user_namespace_of_others(layout: &StackLayout, ids: &StackIds) -> Option<Namespace> {
    let count = match ids.for_plan() {
        Ids::Root => return None,
        Ids::Range(count) => u64::from(count),
        Ids::Single => 1,
    };
    let others = layout.layout().stacks().into_iter().filter(|other| other != layout.project());
    others.into_iter().find_map(|other| {
        let stream = layout.layout().stack(&other).connect().ok()?;
        let pid = getsockopt(&stream, sockopt::PeerCredentials).ok()?.pid();
        let namespace = Namespace::of_process(pid, NamespaceKind::User).ok()?;
        let same = ["uid_map", "gid_map"].iter().all(|map| {
            let map = fs::read_to_string(format!("/proc/{pid}/{map}")).unwrap_or_default();
            let lengths = map.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok());
            lengths.sum::<u64>() == count
        });
        // The connection is closed only now: until then it has not ended, and its number means nobody else.
        drop(stream);
        same.then_some(namespace)
    })
}

const READY: &[u8] = b"r";

/// The supervisor's life, in the forked process.
fn supervise(
    layout: &StackLayout,
    mut lock: Lock,
    ids: StackIds,
    user: Option<Namespace>,
    mut caller: UnixStream,
) -> ! {
    let failure = match prepare(layout, &mut lock, &ids, user, &mut caller) {
        Ok(prepared) => match serve(layout, ids, prepared, lock, &mut caller) {
            Ok(()) => process::exit_now(0),
            Err(failure) => failure,
        },
        Err(failure) => {
            end(layout, lock);
            failure
        }
    };
    // Only now: the caller ends when it has heard.
    let _ = caller.write_all(&serde_json::to_vec(&failure).unwrap_or_default());
    process::exit_now(1)
}

/// Ends all that there is of a stack, the keeper last. As long as that is there and the lock in its place, a supervisor that
/// is killed on the way has another one after it.
async fn end_with(keeper: &Keeper, layout: &StackLayout, lock: Lock) {
    // One that hangs on a child that is stuck in the kernel is killed when this process ends.
    let _ = tokio::time::timeout(PATIENCE, keeper.kill_all()).await;
    end(layout, lock);
    let _ = tokio::time::timeout(PATIENCE, keeper.end()).await;
}

/// Removes everything, with the lock in hand until the last of it.
fn end(layout: &StackLayout, lock: Lock) {
    clean_up(layout);
    if let Err(error) = lock.remove() {
        tracing::warn!(%error, "the lock is left");
    }
    layout.layout().remove_empty();
}

struct Prepared {
    keeper: UnixStream,
    keeper_pid: i32,
    listener: UnixListener,
}

/// Everything that has to happen before there are threads.
fn prepare(
    layout: &StackLayout,
    lock: &mut Lock,
    ids: &StackIds,
    user: Option<Namespace>,
    caller: &mut UnixStream,
) -> Result<Prepared, Failure> {
    let io = |what: &'static str| move |e: io::Error| Failure::host(format!("cannot {what}")).caused_by(&e);
    // Whoever runs us may wait for the end of a pipe that it left open.
    let kept = [Some(lock.descriptor()), Some(caller.as_fd()), user.as_ref().map(AsFd::as_fd)];
    let kept: Vec<_> = kept.into_iter().flatten().collect();
    process::close_all_but(3, &kept).map_err(io("close what is inherited"))?;
    let _ = rustix::process::setsid();
    let _ = rustix::thread::set_name(c"nscompose");
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    // The folder that the command was run in can be removed or unmounted.
    std::env::set_current_dir("/").map_err(io("enter /"))?;
    lock.name_holder().map_err(io("write to the lock"))?;

    match user {
        Some(user) => user.enter().map_err(io("enter the user namespace of the account's stacks"))?,
        None if *ids != StackIds::Root => enter(caller)?,
        None => {}
    }
    let host_mounts = match ids {
        StackIds::Root => Some(File::open("/proc/self/ns/mnt").map_err(io("open the mount namespace"))?.into()),
        _ => None,
    };
    // Mounts of the stack are nobody else's business, and go with it.
    let own_mounts = nix::sched::unshare(CloneFlags::CLONE_NEWNS)
        .map_err(io::Error::from)
        // What the host mounts or takes away later is so for us too, and nothing of ours is seen there.
        .and_then(|()| Ok(mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?));
    own_mounts.map_err(|e| refused(UserNamespaceError::Powerless(e)))?;

    clean_up(layout);
    let runtime = layout.runtime();
    fs::DirBuilder::new().mode(0o700).create(&runtime).map_err(io("make the runtime folder"))?;
    redirect_streams(layout).map_err(io("open the log of the supervisor"))?;
    let private = layout.private();
    fs::create_dir(&private).map_err(io("make a folder for private mounts"))?;
    rustix::mount::mount("tmpfs", &private, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(c"mode=755"))
        .map_err(|e| io("mount a private tmpfs")(e.into()))?;

    raise_open_files();
    let listener = listen(&runtime).map_err(io("open the control socket"))?;
    let text = serde_json::to_value(Testament { layout: layout.clone(), ids: ids.clone() });
    let descriptors = [lock.descriptor(), listener.as_fd()].map(|fd| fd.try_clone_to_owned());
    let legacy = Legacy {
        text: text.map_err(|e| io("write to the keeper")(e.into()))?,
        environment: environment_of_successor(),
        title: runtime.to_string_lossy().into_owned(),
        descriptors: descriptors.into_iter().collect::<Result<_, _>>().map_err(io("hand on the lock"))?,
    };
    let surroundings = Surroundings { private, host_mounts, legacy };
    let (keeper, keeper_pid) = fork_keeper(&surroundings).map_err(io("start the keeper"))?;
    Ok(Prepared { keeper, keeper_pid, listener })
}

/// What a supervisor tells the one that the keeper starts when it dies.
#[derive(Debug, Serialize, Deserialize)]
struct Testament {
    layout: StackLayout,
    ids: StackIds,
}

/// Of the caller's environment what programs are found by, and the service manager of the account.
fn environment_of_successor() -> Vec<(String, String)> {
    let wanted = ["PATH", "HOME", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"];
    wanted.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?))).collect()
}

/// Becomes the supervisor if a keeper has started this process as one; to be called in `main` before there is anything else.
pub fn successor_main() -> Option<ExitCode> {
    let inheritance = sandbox::inherit()?;
    let succeeded =
        inheritance.map_err(|e| Failure::host("cannot take the stack over").caused_by(&e)).and_then(succeed);
    Some(match succeeded {
        Ok(()) => ExitCode::SUCCESS,
        // The keeper, which sees that nobody is there, tries again.
        Err(failure) => {
            tracing::error!(?failure, "the stack is not taken over");
            ExitCode::FAILURE
        }
    })
}

/// The life of a supervisor that comes after another one.
fn succeed(mut inheritance: Inheritance) -> Result<(), Failure> {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new("info"))
        .with_writer(|| Unfailing)
        .with_ansi(false)
        .try_init();
    let broken = |what: &str, e: &dyn std::error::Error| Failure::host(format!("cannot {what}")).caused_by(e);
    let Testament { layout, ids } = serde_json::from_value(std::mem::take(&mut inheritance.text))
        .map_err(|e| broken("understand what the last supervisor left", &e))?;
    let mut descriptors = std::mem::take(&mut inheritance.descriptors).into_iter();
    let (Some(lock), Some(listener)) = (descriptors.next(), descriptors.next()) else {
        return Err(Failure::internal("the last supervisor has left no lock"));
    };
    let mut lock = Lock::from_fd(lock, &layout.lock());
    let _ = rustix::process::setsid();
    let _ = rustix::thread::set_name(c"nscompose");
    if !lock.is_in_place() || !layout.journal().exists() {
        // The last one was about to end, or had not begun.
        if lock.is_in_place() {
            end(&layout, lock);
        } else {
            // That is the last thing to do, and may be what it had not come to.
            layout.layout().remove_empty();
        }
        let keeper = inheritance.keeper;
        let _ = inheritance.decline();
        end_keeper(keeper);
        process::exit_now(0);
    }
    lock.name_holder().map_err(|e| broken("write to the lock", &e))?;
    // Whoever asks who listens here is to hear of this process (unix_listen of the kernel takes note of its caller).
    let backlog = nix::sys::socket::Backlog::MAXALLOWABLE;
    nix::sys::socket::listen(&listener, backlog).map_err(|e| broken("listen on the control socket", &e))?;
    let listener = UnixListener::from(listener);
    tracing::warn!(stack = %layout.project(), "the last supervisor has died, and this one goes on");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| broken("start the supervisor's runtime", &e))?;
    let keeper_pid = inheritance.keeper;
    runtime.block_on(async {
        let (journal, past) = Journal::reopen(&layout).map_err(|e| broken("go on with the journal", &e))?;
        let (keeper, kept, processes) = Keeper::succeed(inheritance).map_err(|e| broken("talk to the keeper", &e))?;
        let memory = dispatcher::Memory::of(&past);
        let changes = mpsc::unbounded_channel();
        let inherited = Inherited { keeper: keeper.clone(), kept, processes, journal, past };
        let stack = Stack::adopt(layout.clone(), ids, inherited, shared_network, &changes.0).await;
        let stack = stack.map_err(|e| broken("find out what there is of the stack", &e))?;
        let routes = host_routes().await.unwrap_or_default();
        listener.set_nonblocking(true).map_err(|e| broken("listen on the control socket", &e))?;
        let listener = tokio::net::UnixListener::from_std(listener);
        let listener = listener.map_err(|e| broken("listen on the control socket", &e))?;
        dispatcher::run(listener, stack, routes, changes, memory).await;
        end_with(&keeper, &layout, lock).await;
        Ok::<(), Failure>(())
    })?;
    end_keeper(keeper_pid);
    process::exit_now(0)
}

/// Raises the soft limit of descriptors to the hard one, since a service takes about ten.
fn raise_open_files() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised);
}

/// Standard input from nowhere, output and errors into a file: nothing of the caller's terminal stays open.
fn redirect_streams(layout: &StackLayout) -> io::Result<()> {
    let null = File::open("/dev/null")?;
    let log = OpenOptions::new().append(true).create(true).mode(0o600).open(layout.supervisor_log())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&log)?;
    rustix::stdio::dup2_stderr(&log)?;
    Ok(())
}

fn listen(runtime: &Path) -> io::Result<UnixListener> {
    let folder = File::open(runtime)?;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&folder);
    // The umask makes it 0600.
    UnixListener::bind(format!("/proc/self/fd/{fd}/{}", StackLayout::SOCKET))
}

/// Serves until the stack is gone.
fn serve(
    layout: &StackLayout,
    ids: StackIds,
    prepared: Prepared,
    lock: Lock,
    caller: &mut UnixStream,
) -> Result<(), Failure> {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new("info"))
        .with_writer(|| Unfailing)
        .with_ansi(false)
        .try_init();
    let host = |what: &str, e: &dyn std::error::Error| Failure::host(format!("cannot {what}")).caused_by(e);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| host("start the supervisor's runtime", &e));
    let served = runtime.and_then(|runtime| {
        let served = runtime.block_on(serve_on_runtime(
            layout,
            ids,
            prepared.keeper,
            prepared.keeper_pid,
            prepared.listener,
            lock,
            caller,
        ));
        // Clients wait for the end of their connection: it must come when there is nothing left to do, so it comes from the
        // kernel when this process ends.
        std::mem::forget(runtime);
        served
    });
    end_keeper(prepared.keeper_pid);
    served
}

async fn serve_on_runtime(
    layout: &StackLayout,
    ids: StackIds,
    socket: UnixStream,
    keeper_pid: i32,
    listener: UnixListener,
    lock: Lock,
    caller: &mut UnixStream,
) -> Result<(), Failure> {
    let host = |what: &str, e: &dyn std::error::Error| Failure::host(format!("cannot {what}")).caused_by(e);
    let keeper = Keeper::attach(socket, keeper_pid).map_err(|e| host("talk to the keeper", &e))?;
    let served = async {
        let journal = Journal::create(layout).map_err(|e| host("begin the journal of the stack", &e))?;
        let stack = Stack::create(layout.clone(), keeper.clone(), ids, journal, shared_network).await;
        let stack = stack.map_err(|e| host("make the network of the stack", &e))?;
        let routes = host_routes().await.unwrap_or_default();
        listener.set_nonblocking(true).map_err(|e| host("open the control socket", &e))?;
        let listener = tokio::net::UnixListener::from_std(listener);
        let listener = listener.map_err(|e| host("open the control socket", &e))?;
        let _ = caller.write_all(READY);
        let _ = caller.shutdown(std::net::Shutdown::Both);
        dispatcher::run(listener, Arc::new(stack), routes, mpsc::unbounded_channel(), dispatcher::Memory::default())
            .await;
        Ok(())
    };
    let served = served.await;
    // Whatever has happened: a keeper that is not told to end would start another supervisor.
    end_with(&keeper, layout, lock).await;
    served
}

/// Standard error for the log of the supervisor, which may be on a full disk: what cannot be written is lost, and nothing else.
struct Unfailing;

impl Write for Unfailing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(rustix::stdio::stderr(), bytes).unwrap_or(bytes.len()))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sees that the keeper, which has been told to end, is there no more. Its number may mean another by now, if it is not this
/// process's child.
fn end_keeper(pid: i32) {
    let Ok(keeper) = PidFd::open(pid) else { return };
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    if name.trim() != "nsc-keeper" {
        return;
    }
    // It closes its socket when all of its children have gone, and ends a moment later; or it hangs on one that is stuck in the
    // kernel.
    let _ = keeper.ends_within(Duration::from_secs(1));
    let _ = keeper.signal(libc::SIGKILL);
    let _ = keeper.ends_within(PATIENCE);
    let _ = process::reap_child(pid);
}

/// Removes everything that a stack leaves on disk, after ending whatever a killed supervisor has left running. Named
/// volumes stay.
fn clean_up(layout: &StackLayout) {
    let entries = Journal::read(layout);
    let (mut alive, mut cgroups, mut uplinks) = (Vec::new(), Vec::new(), Vec::new());
    for entry in &entries {
        match entry {
            Entry::Process(process) => alive.extend(process.find()),
            Entry::Cgroup(path) => cgroups.push(path.as_path()),
            Entry::SharedCgroup(_) | Entry::Boot(_) => {}
            Entry::Uplink { nft, table, link } => uplinks.push((nft.as_path(), table.as_str(), link.as_str())),
        }
    }
    for process in &alive {
        let _ = process.signal(libc::SIGKILL);
    }
    cgroups.iter().for_each(|path| cgroup::kill(path));
    let started = Instant::now();
    while alive.iter().any(PidFd::is_alive) && started.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(2));
    }
    // The innermost first.
    cgroups.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    for path in cgroups {
        let started = Instant::now();
        while cgroup::remove(path).is_err() && started.elapsed() < Duration::from_secs(2) {
            thread::sleep(Duration::from_millis(5));
        }
        cgroup::remove_if_last(path);
    }
    for entry in entries.iter().rev() {
        if let Entry::SharedCgroup(path) = entry {
            let _ = cgroup::remove(path);
        }
    }
    uplinks.dedup();
    for (nft, table, link) in uplinks {
        executor::remove_uplink(nft, table, link);
    }
    SharedNetworks::new(layout.layout()).give_back(layout.project(), &BTreeSet::new());
    let _ = rustix::mount::unmount(layout.private(), rustix::mount::UnmountFlags::DETACH);
    for folder in [layout.data(), layout.runtime()] {
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %folder.display(), %error, "a folder is left");
            }
            _ => {}
        }
    }
}
