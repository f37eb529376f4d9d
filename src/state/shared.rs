//! Networks that stacks of an account share: what they are like, and who has which address on them.
//!
//! ```text
//! DATA/v1/networks/NAME.json             what `network create` said: it outlives every stack
//! RUNTIME/v1/.networks/NAME/STACK.json   addresses and names that a stack has on it, and its keeper
//! RUNTIME/v1/.networks/NAME/STACK.running   which of its services run
//! ```
//!
//! Whoever looks and then writes holds the lock of the runtime folder meanwhile, so that no two stacks choose the same address.
//! What the stack of a keeper that is dead has left counts for nothing. The bridge itself is no file: it is in a network namespace that
//! each stack on it holds, and which goes with the last of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Write},
    net::IpAddr,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::{Layout, ProcessRecord};
use crate::{
    model::{Network, NetworkName, ProjectName, ServiceName, SharedNetwork},
    sys::PidFd,
};

/// What `network create` said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// What it is like, with its subnets and gateways.
    pub network: Network,
    /// Labels for people and tools.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// When it was made, in milliseconds since the epoch.
    pub created_ms: i64,
}

/// What a stack has on a shared network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The keeper of the stack, which outlives supervisors.
    pub owner: ProcessRecord,
    /// Each service with what others find it at and under.
    pub services: BTreeMap<ServiceName, Place>,
}

/// Where a service is on a shared network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Its addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// Its own name, that of its container, and its aliases there.
    pub names: Vec<String>,
}

/// Which services of a stack run.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Running {
    /// The keeper of the stack that says so.
    owner: Option<ProcessRecord>,
    services: BTreeSet<ServiceName>,
}

/// The lock of a folder, held until dropped: nothing is left of it, and a process that ends lets go.
#[derive(Debug)]
pub struct FolderLock(File);

impl FolderLock {
    /// Waits for it.
    ///
    /// # Errors
    /// What open(2) and flock(2) say.
    pub fn take(folder: &Path) -> io::Result<Self> {
        loop {
            if let Some(lock) = Self::attempt(folder, FlockOperation::LockExclusive)? {
                return Ok(lock);
            }
        }
    }

    /// Takes it if nobody has it.
    ///
    /// # Errors
    /// What open(2) and flock(2) say; EWOULDBLOCK when somebody has it.
    pub(super) fn take_now(folder: &Path) -> io::Result<Self> {
        loop {
            if let Some(lock) = Self::attempt(folder, FlockOperation::NonBlockingLockExclusive)? {
                return Ok(lock);
            }
        }
    }

    fn attempt(folder: &Path, operation: FlockOperation) -> io::Result<Option<Self>> {
        let file = File::open(folder)?;
        match rustix::fs::flock(&file, operation) {
            Err(rustix::io::Errno::INTR) => return Ok(None),
            other => other?,
        }
        // The last stack may have removed the folder, and the next one made it anew, while we waited.
        let (ours, there) = (file.metadata()?, fs::metadata(folder)?);
        Ok(((ours.dev(), ours.ino()) == (there.dev(), there.ino())).then_some(Self(file)))
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Not only our descriptor: a process that was forked meanwhile has it too.
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

/// The shared networks of an account.
#[derive(Debug, Clone)]
pub struct SharedNetworks {
    runtime: PathBuf,
    definitions: PathBuf,
}

impl SharedNetworks {
    /// Where this layout has them.
    pub fn new(layout: &Layout) -> Self {
        let [runtime, data] = layout.folders();
        Self { runtime: runtime.to_owned(), definitions: data.join("networks") }
    }

    /// Keeps everybody else from changing what there is, and from joining.
    ///
    /// # Errors
    /// What open(2) and flock(2) say.
    pub fn lock(&self) -> io::Result<FolderLock> {
        FolderLock::take(&self.runtime)
    }

    fn definition_file(&self, name: &NetworkName) -> PathBuf {
        self.definitions.join(format!("{name}.json"))
    }

    /// What a network is like; none when there is none of that name.
    ///
    /// # Errors
    /// What read(2) says, and `InvalidData` for a file that is none of ours.
    pub fn definition(&self, name: &NetworkName) -> io::Result<Option<Definition>> {
        match fs::read(self.definition_file(name)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| {
                let file = self.definition_file(name);
                let text = format!("{} does not say what network it is: {e}; remove it", file.display());
                io::Error::new(io::ErrorKind::InvalidData, text)
            }),
        }
    }

    /// All networks, by name.
    ///
    /// # Errors
    /// Those of [`SharedNetworks::definition`].
    pub fn all(&self) -> io::Result<BTreeMap<NetworkName, Definition>> {
        let entries = fs::read_dir(&self.definitions).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".json")?.parse().ok());
        let mut all = BTreeMap::new();
        for name in names.collect::<BTreeSet<NetworkName>>() {
            if let Some(definition) = self.definition(&name)? {
                all.insert(name, definition);
            }
        }
        Ok(all)
    }

    /// Makes a network, or writes it anew. To be called with the lock in hand.
    ///
    /// # Errors
    /// What mkdir(2), write(2) and rename(2) say.
    pub fn define(&self, name: &NetworkName, definition: &Definition) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.definitions)?;
        replace(&self.definition_file(name), &serde_json::to_vec_pretty(definition)?)
    }

    /// Removes a network that nobody is on. To be called with the lock in hand.
    ///
    /// # Errors
    /// What unlink(2) says.
    pub fn remove(&self, name: &NetworkName) -> io::Result<()> {
        fs::remove_file(self.definition_file(name))?;
        let _ = fs::remove_dir(&self.definitions);
        Ok(())
    }

    pub(super) fn lease_folder(&self, name: &NetworkName) -> PathBuf {
        self.runtime.join(".networks").join(name.as_str())
    }

    /// What stacks that are alive have on a network.
    pub fn leases(&self, name: &NetworkName) -> BTreeMap<ProjectName, Lease> {
        self.leases_and_owners(name).map(|(stack, lease, _)| (stack, lease)).collect()
    }

    pub(super) fn leases_and_owners(&self, name: &NetworkName) -> impl Iterator<Item = (ProjectName, Lease, PidFd)> {
        let entries = fs::read_dir(self.lease_folder(name)).into_iter().flatten().flatten();
        entries.filter_map(|entry| {
            let stack = entry.file_name().to_str()?.strip_suffix(".json")?.parse().ok()?;
            let lease: Lease = serde_json::from_slice(&fs::read(entry.path()).ok()?).ok()?;
            let owner = lease.owner.find()?;
            Some((stack, lease, owner))
        })
    }

    fn running_file(&self, name: &NetworkName, stack: &ProjectName) -> PathBuf {
        self.lease_folder(name).join(format!("{stack}.running"))
    }

    /// Says which services of a stack run, which has this keeper. It is for whoever is on the network with it: where
    /// the stack has nothing on it, nothing is said.
    ///
    /// # Errors
    /// What write(2) and rename(2) say.
    pub fn say_running(
        &self,
        name: &NetworkName,
        (stack, owner): (&ProjectName, Option<ProcessRecord>),
        services: &BTreeSet<ServiceName>,
    ) -> io::Result<()> {
        let bytes = serde_json::to_vec(&Running { owner, services: services.clone() })?;
        match replace(&self.running_file(name, stack), &bytes) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Which services of a stack run, if one with that keeper says so.
    pub(super) fn running(
        &self,
        name: &NetworkName,
        stack: &ProjectName,
        owner: ProcessRecord,
    ) -> BTreeSet<ServiceName> {
        let said = fs::read(self.running_file(name, stack)).ok();
        let said = said.and_then(|bytes| serde_json::from_slice::<Running>(&bytes).ok());
        said.filter(|said| said.owner == Some(owner)).map(|said| said.services).unwrap_or_default()
    }

    /// A network as a stack sees it: what it is like, and what others have on it.
    ///
    /// # Errors
    /// Those of [`SharedNetworks::definition`].
    pub fn seen_by(&self, stack: &ProjectName, name: &NetworkName) -> io::Result<Option<SharedNetwork>> {
        let Some(Definition { network, .. }) = self.definition(name)? else { return Ok(None) };
        let mut taken = BTreeMap::new();
        for (other, lease) in self.leases(name).iter().filter(|(other, _)| *other != stack) {
            for (service, place) in &lease.services {
                taken.extend(place.addresses.iter().map(|address| (*address, format!("{other}/{service}"))));
            }
        }
        Ok(Some(SharedNetwork { network, taken }))
    }

    /// Writes down what a stack has on a network. To be called with the lock in hand.
    ///
    /// # Errors
    /// What mkdir(2), write(2) and rename(2) say.
    pub fn take(&self, name: &NetworkName, stack: &ProjectName, lease: &Lease) -> io::Result<()> {
        let folder = self.lease_folder(name);
        let bytes = serde_json::to_vec(lease)?;
        // A stack that ends removes its own without the lock, and the folder if it was the last one.
        for _ in 0..100 {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
            match replace(&folder.join(format!("{stack}.json")), &bytes) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                other => return other,
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }

    /// Gives back all that a stack has on all networks but these.
    pub fn give_back(&self, stack: &ProjectName, but: &BTreeSet<NetworkName>) {
        let all = self.runtime.join(".networks");
        for entry in fs::read_dir(&all).into_iter().flatten().flatten() {
            let kept =
                entry.file_name().to_str().and_then(|name| name.parse().ok()).is_some_and(|name| but.contains(&name));
            if !kept {
                for file in ["json", "running"] {
                    let _ = fs::remove_file(entry.path().join(format!("{stack}.{file}")));
                }
                let _ = fs::remove_dir(entry.path());
            }
        }
        let _ = fs::remove_dir(all);
    }
}

/// A file is there with all that it says, or as it was, also when the machine goes down: one without a word in it would
/// be in the way of all others.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let written = File::create(&new).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.and_then(|()| fs::rename(&new, path)).inspect_err(|_| {
        let _ = fs::remove_file(&new);
    })
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::state::Neighbours;

    #[test]
    fn neighbours_are_those_that_run() {
        let dir = tempfile::tempdir().expect("folder");
        let layout = Layout::new(&dir.path().join("run"), &dir.path().join("data"));
        layout.create().expect("folders");
        let shared = SharedNetworks::new(&layout);
        let name: NetworkName = "proxy".parse().expect("name");
        let [ours, other] = ["ours", "other"].map(|name| name.parse::<ProjectName>().expect("name"));
        let neighbours = Neighbours::new(shared.clone(), name.clone(), ours.clone(), |places| {
            places.into_iter().flat_map(|place| place.names).collect::<BTreeSet<_>>()
        });
        let found = || neighbours.look().iter().cloned().collect::<Vec<_>>();
        assert!(found().is_empty());
        let me = ProcessRecord::of(std::process::id() as i32).expect("this process");
        let service = |name: &str| name.parse::<ServiceName>().expect("name");
        let place = |name: &str| (service(name), Place { names: vec![name.to_owned()], ..Place::default() });
        let lease = |owner| Lease { owner, services: [place("a"), place("b")].into() };
        shared.take(&name, &ours, &lease(me)).expect("taken");
        shared.take(&name, &other, &lease(me)).expect("taken");
        shared.say_running(&name, (&ours, Some(me)), &[service("a")].into()).expect("said");
        assert!(found().is_empty(), "none of the other stack runs");
        // Each is seen at once, however fast they follow each other.
        for _ in 0..50 {
            for running in [&["a"][..], &["a", "b"], &["b"], &[]] {
                let services = running.iter().map(|name| service(name)).collect();
                shared.say_running(&name, (&other, Some(me)), &services).expect("said");
                assert_eq!(found(), running);
            }
        }
        shared.say_running(&name, (&other, Some(me)), &[service("a")].into()).expect("said");
        let folder = shared.lease_folder(&name);
        let old = SystemTime::now() - std::time::Duration::from_secs(10);
        File::open(&folder).expect("folder").set_modified(old).expect("time set");
        assert_eq!(found(), ["a"]);
        // Nothing is read again: what is written without a trace in the folder is not seen.
        fs::write(shared.running_file(&name, &other), "{}").expect("written");
        assert_eq!(found(), ["a"]);
        let ghost = ProcessRecord { start_time: me.start_time + 1, ..me };
        shared.take(&name, &other, &lease(ghost)).expect("taken");
        assert!(found().is_empty(), "its keeper is dead");
    }

    #[test]
    fn neighbours_end_with_their_keeper() {
        let dir = tempfile::tempdir().expect("folder");
        let layout = Layout::new(&dir.path().join("run"), &dir.path().join("data"));
        layout.create().expect("folders");
        let shared = SharedNetworks::new(&layout);
        let (name, other): (NetworkName, ProjectName) =
            ("proxy".parse().expect("name"), "other".parse().expect("name"));
        let mut keeper = std::process::Command::new("sleep").arg("1000").spawn().expect("a process");
        let owner = ProcessRecord::of(keeper.id() as i32).expect("it runs");
        let service: ServiceName = "a".parse().expect("name");
        let lease = Lease { owner, services: [(service.clone(), Place::default())].into() };
        shared.take(&name, &other, &lease).expect("taken");
        let said = Running { owner: Some(owner), services: [service].into() };
        replace(&shared.running_file(&name, &other), &serde_json::to_vec(&said).expect("JSON")).expect("written");
        let old = SystemTime::now() - std::time::Duration::from_secs(10);
        File::open(shared.lease_folder(&name)).expect("folder").set_modified(old).expect("time set");
        let neighbours = Neighbours::new(shared, name, "ours".parse().expect("name"), |places| places.len());
        assert_eq!(*neighbours.look(), 1);
        keeper.kill().expect("killed");
        keeper.wait().expect("ended");
        assert_eq!(*neighbours.look(), 0);
    }

    #[test]
    fn a_file_that_says_nothing_is_named() {
        let dir = tempfile::tempdir().expect("folder");
        let layout = Layout::new(&dir.path().join("run"), &dir.path().join("data"));
        let shared = SharedNetworks::new(&layout);
        let name = "proxy".parse().expect("name");
        let definition = Definition { network: Network::default(), labels: BTreeMap::new(), created_ms: 0 };
        shared.define(&name, &definition).expect("defined");
        fs::write(shared.definition_file(&name), "").expect("written");
        let error = shared.all().expect_err("broken").to_string();
        assert!(error.contains("data/v1/networks/proxy.json") && error.contains("remove it"), "{error}");
    }

    #[test]
    fn what_cannot_be_written_leaves_nothing() {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("a.json");
        // It cannot take the place of a folder.
        fs::create_dir(&path).expect("folder");
        replace(&path, b"text").expect_err("a folder");
        assert_eq!(fs::read_dir(dir.path()).expect("folder").count(), 1);
    }

    #[test]
    fn leases_of_the_dead_count_for_nothing() {
        let dir = tempfile::tempdir().expect("folder");
        let layout = Layout::new(&dir.path().join("run"), &dir.path().join("data"));
        layout.create().expect("folders");
        let shared = SharedNetworks::new(&layout);
        let (name, network) = ("proxy".parse().expect("name"), Network::default());
        let _lock = shared.lock().expect("lock");
        shared.define(&name, &Definition { network, labels: BTreeMap::new(), created_ms: 0 }).expect("defined");
        let me = ProcessRecord::of(std::process::id() as i32).expect("this process");
        let place = |address: &str| Place { addresses: [address.parse().expect("address")].into(), names: Vec::new() };
        let lease = |owner, address| Lease { owner, services: [("web".parse().expect("name"), place(address))].into() };
        let [ours, alive, dead] = ["ours", "alive", "dead"].map(|name| name.parse::<ProjectName>().expect("name"));
        shared.take(&name, &ours, &lease(me, "10.0.0.2")).expect("taken");
        shared.take(&name, &alive, &lease(me, "10.0.0.3")).expect("taken");
        let ghost = ProcessRecord { start_time: me.start_time + 1, ..me };
        shared.take(&name, &dead, &lease(ghost, "10.0.0.4")).expect("taken");
        let taken = || shared.seen_by(&ours, &name).expect("readable").expect("there").taken;
        assert_eq!(taken(), [("10.0.0.3".parse().expect("address"), "alive/web".to_owned())].into());
        shared.give_back(&alive, &BTreeSet::new());
        assert!(taken().is_empty());
        for stack in [&ours, &dead] {
            shared.give_back(stack, &BTreeSet::new());
        }
        assert!(!dir.path().join("run/v1/.networks").exists(), "nothing is left");
        shared.remove(&name).expect("removed");
        assert_eq!(shared.seen_by(&ours, &name).expect("readable"), None);
    }
}
