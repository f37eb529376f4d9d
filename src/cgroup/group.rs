//! The groups of stacks and of containers: made, filled, emptied and removed.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs::{self, OpenOptions},
    io,
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags};

use super::{
    ALL_STACKS, CgroupError, controllers, cpu, cpuset, devices,
    file::{At, read, write},
    freezer, io as block,
    memory::{self, MemoryWatch},
    pids,
};
use crate::{
    model::{DeviceRule, Effective, Limits, ServiceName, Usage},
    sys::PidFd,
};

/// Group below the base that nscompose's own processes are moved to, since one with processes cannot hand controllers on.
pub(super) const SELF: &str = "nscompose.self";

/// Makes a group that everybody may look into, whatever the umask: root of a container, who is somebody else outside, walks
/// there when it mounts its own part of the hierarchy. True if it was not there.
pub(super) fn make_folder(path: &Path) -> io::Result<bool> {
    match fs::create_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(e),
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map(|()| true),
    }
}

/// Whether the process of this number is one of nscompose's own and no container: by the name that it has given itself, or
/// that of the program. Nobody is harmed by one that only calls itself so: it is moved one group further down.
pub(super) fn is_ours(pid: &str) -> bool {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    matches!(name.trim(), "nscompose" | "nsc-keeper")
}

/// The group that the groups of a stack's containers are in.
#[derive(Debug, Clone)]
pub struct StackGroup {
    /// `PROJECT.DIGEST`.
    name: String,
    /// Where groups of version 2 are made.
    base: Option<PathBuf>,
    /// Where the controllers of version 1 are mounted.
    v1: BTreeMap<String, PathBuf>,
}

impl StackGroup {
    pub(super) fn new(name: String, base: Option<PathBuf>, v1: BTreeMap<String, PathBuf>) -> Self {
        Self { name, base, v1 }
    }

    /// Makes the group of a container, with all that these limits need; what they are is not set yet.
    ///
    /// # Errors
    /// What mkdir(2) says; EBUSY where a controller cannot be handed on because there are processes.
    pub fn create(&self, service: &ServiceName, limits: &Limits) -> Result<Group, CgroupError> {
        let mut group = Group { v2: None, v1: BTreeMap::new(), made: Vec::new() };
        let made = self.fill(&mut group, service, limits);
        if made.is_err() {
            let _ = group.remove();
        }
        made.map(|()| group)
    }

    fn fill(&self, group: &mut Group, service: &ServiceName, limits: &Limits) -> Result<(), CgroupError> {
        let needed = controllers::needed(limits);
        let mut elsewhere = needed.clone();
        if let Some(base) = &self.base {
            let folders = self.folders(base, service, limits);
            let on: BTreeSet<String> = hand_on(base, &needed)?;
            elsewhere.retain(|controller| !on.contains(*controller));
            let (leaf, parents) = folders.split_last().expect("a container has a folder");
            for parent in parents {
                group.make(parent, limits.parent.is_some())?;
                hand_on(parent, &needed)?;
            }
            group.make(leaf, false)?;
            group.v2 = Some(leaf.clone());
        } else {
            // Without one nobody would know what belongs to the container, and what devices it may use could not be ruled. The
            // others count; where there is version 2 that does, as far as it costs no move.
            elsewhere.extend(["devices", "cpuacct", "freezer", "io", "memory", "pids"]);
        }
        for controller in elsewhere {
            let one = controllers::version_one(controller);
            let Some(mount) = self.v1.get(one) else { continue };
            let folders = self.folders(mount, service, limits);
            let (last, mut above) = (folders.len() - 1, mount.as_path());
            for (i, folder) in folders.iter().enumerate() {
                group.make(folder, i < last && limits.parent.is_some())?;
                match one {
                    "cpuset" => cpuset::inherit(above, folder)?,
                    "cpu" if i < last => cpu::make_room_for_realtime(folder, &limits.cpu)?,
                    _ => {}
                }
                above = folder;
            }
            group.v1.insert(one.to_owned(), folders[last].clone());
        }
        Ok(())
    }

    /// The folders down to that of a container. One with a parent of its own has one more name in it, and none of the
    /// stack's: nobody else's group is cluttered.
    fn folders(&self, base: &Path, service: &ServiceName, limits: &Limits) -> Vec<PathBuf> {
        let names: Vec<PathBuf> = match &limits.parent {
            None => vec![ALL_STACKS.into(), self.name.clone().into(), service.file_name().into()],
            Some(parent) => {
                let own = PathBuf::from(format!("{ALL_STACKS}.{}.{}", self.name, service.file_name()));
                parent.iter().map(PathBuf::from).chain([own]).collect()
            }
        };
        let mut folder = base.to_owned();
        names
            .into_iter()
            .map(|name| {
                folder.push(name);
                folder.clone()
            })
            .collect()
    }

    /// Removes it, and the one that all stacks are in if this was the last.
    ///
    /// # Errors
    /// EBUSY while there are groups or processes in it.
    pub fn remove(&self) -> io::Result<()> {
        let mut result = Ok(());
        for path in self.paths() {
            result = result.and(remove(&path));
            remove_if_last(&path);
        }
        if let Some(base) = self.base.as_ref().filter(|base| !base.join(ALL_STACKS).exists()) {
            move_back(base);
        }
        result
    }

    /// Its folders, to be written down; those of version 1 may never be made.
    pub fn paths(&self) -> Vec<PathBuf> {
        let mounts: BTreeSet<&PathBuf> = self.base.iter().chain(self.v1.values()).collect();
        mounts.into_iter().map(|mount| mount.join(ALL_STACKS).join(&self.name)).collect()
    }
}

/// Hands controllers on to the groups in this one: those that are needed, and those that count, as far as they are there.
/// Which have been handed on comes back.
fn hand_on(folder: &Path, needed: &BTreeSet<&'static str>) -> Result<BTreeSet<String>, CgroupError> {
    let words = |file: &str| -> BTreeSet<String> {
        let text = read(&folder.join(file)).unwrap_or_default();
        text.split_whitespace().map(str::to_owned).collect()
    };
    let (there, on) = (words("cgroup.controllers"), words("cgroup.subtree_control"));
    let wanted = |controller: &&str| {
        (needed.contains(*controller) || controllers::COUNTING.contains(controller))
            && there.contains(*controller)
            && !on.contains(*controller)
    };
    let missing: Vec<&str> = controllers::ALL.into_iter().filter(wanted).collect();
    if missing.is_empty() {
        return Ok(on);
    }
    // "No internal processes": ours go out of the way before anything is handed on. Some controllers would be handed on even
    // so, and the group would become the root of a threaded subtree, in which the others cannot be (EOPNOTSUPP).
    let free = move_aside(folder);
    for controller in missing {
        let switch = || -> io::Result<()> {
            use io::Write;
            let file = OpenOptions::new().write(true).open(folder.join("cgroup.subtree_control"));
            file?.write_all(format!("+{controller}").as_bytes())
        };
        let switched = match &free {
            Ok(()) => switch(),
            Err(error) => Err(error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)),
        };
        match switched {
            Err(source) if needed.contains(controller) => {
                return Err(CgroupError::Enable { controller, path: folder.to_owned(), source });
            }
            Err(error) => tracing::debug!(path = %folder.display(), controller, %error, "not handed on"),
            Ok(()) => {}
        }
    }
    Ok(words("cgroup.subtree_control"))
}

/// Moves nscompose's own processes out of a group, to one in it.
///
/// # Errors
/// EBUSY when there are others, which stay; what write(2) says.
fn move_aside(folder: &Path) -> io::Result<()> {
    // The root of a hierarchy may have processes, and is told by having no type.
    if !folder.join("cgroup.type").exists() {
        return Ok(());
    }
    let aside = folder.join(SELF);
    let pids = fs::read_to_string(folder.join("cgroup.procs"))?;
    if !pids.lines().all(is_ours) {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    for pid in pids.lines() {
        make_folder(&aside)?;
        fs::write(aside.join("cgroup.procs"), pid)?;
    }
    Ok(())
}

/// Moves them back when nothing of nscompose is left there. What cannot be undone harms nobody.
fn move_back(base: &Path) {
    let aside = base.join(SELF);
    let Ok(pids) = fs::read_to_string(aside.join("cgroup.procs")) else { return };
    for controller in read(&base.join("cgroup.subtree_control")).unwrap_or_default().split_whitespace() {
        let _ = fs::write(base.join("cgroup.subtree_control"), format!("-{controller}"));
    }
    for pid in pids.lines() {
        let _ = fs::write(base.join("cgroup.procs"), pid);
    }
    let _ = fs::remove_dir(aside);
}

/// The group of a container: a folder in each hierarchy that it needs. Written down, it is one that is there.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Group {
    v2: Option<PathBuf>,
    /// By the name of the controller.
    v1: BTreeMap<String, PathBuf>,
    /// Folders above that nscompose has made, removed with the last container in them, the uppermost first.
    made: Vec<PathBuf>,
}

/// What a process is put into a group with, before it does anything.
#[derive(Debug, Default)]
pub struct GroupFds {
    /// The folder of version 2, as clone3(2) takes it.
    pub v2: Option<OwnedFd>,
    /// cgroup.procs of version 1, for its number to be written to.
    pub v1: Vec<OwnedFd>,
}

impl Group {
    /// Makes a folder. A `shared` one that nscompose has made, now or for another stack, goes with whoever is the last in it;
    /// it is known by its sticky bit, which means nothing else for a control group.
    fn make(&mut self, path: &Path, shared: bool) -> Result<(), CgroupError> {
        const OURS: u32 = 0o1755;
        let make = || -> io::Result<bool> {
            let made = make_folder(path)?;
            if made && shared {
                fs::set_permissions(path, fs::Permissions::from_mode(OURS))?;
            }
            Ok(shared && fs::metadata(path)?.permissions().mode() & 0o1000 != 0)
        };
        if make().map_err(|source| CgroupError::Make { path: path.to_owned(), source })? {
            self.made.push(path.to_owned());
        }
        Ok(())
    }

    fn at(&self, controller: &str) -> Option<At> {
        if let Some(folder) = self.v1.get(controllers::version_one(controller)) {
            return Some(At::V1(folder.clone()));
        }
        let file = match controller {
            "cpu" => "cpu.weight",
            "cpuset" => "cpuset.cpus",
            "io" => "io.stat",
            "memory" => "memory.current",
            _ => "pids.current",
        };
        self.v2.as_ref().filter(|folder| folder.join(file).exists()).map(|folder| At::V2(folder.clone()))
    }

    /// Sets the limits, and rules the devices if there are rules for them. What the kernel has made of them comes back.
    ///
    /// # Errors
    /// When the kernel does not take a value, or has no such setting.
    pub fn apply(&self, limits: &Limits, rules: Option<&[DeviceRule]>) -> Result<Effective, CgroupError> {
        let mut effective = Effective::default();
        for controller in controllers::needed(limits) {
            let at = self.at(controller).ok_or(CgroupError::Missing { what: controller })?;
            match controller {
                "cpu" => cpu::apply(&at, &limits.cpu, &mut effective)?,
                "cpuset" => cpuset::apply(&at, &limits.cpu, &mut effective)?,
                "io" => block::apply(&at, &limits.io)?,
                "memory" => memory::apply(&at, &limits.memory, &mut effective)?,
                _ => pids::apply(&at, limits, &mut effective)?,
            }
        }
        if let Some(rules) = rules {
            self.rule_devices(rules, !limits.devices.is_empty())?;
        }
        Ok(effective)
    }

    fn rule_devices(&self, rules: &[DeviceRule], asked: bool) -> Result<(), CgroupError> {
        let program = self.open().and_then(|fds| match &fds.v2 {
            Some(folder) => devices::attach(std::os::fd::AsFd::as_fd(folder), rules),
            None => Err(io::ErrorKind::Unsupported.into()),
        });
        let Err(error) = program else { return Ok(()) };
        if let Some(folder) = self.v1.get("devices") {
            return devices::write_rules(folder, rules);
        }
        if asked {
            return Err(CgroupError::Devices(error));
        }
        // Its user namespace keeps it from making nodes, and what the permissions of one say holds anyway.
        tracing::warn!(%error, "the devices of a container are not ruled");
        Ok(())
    }

    /// What its processes use.
    pub fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        let accounting = self.v1.get("cpuacct").map(PathBuf::as_path);
        cpu::usage(self.v2.as_deref(), self.at("cpu").as_ref(), accounting, &mut usage);
        if let Some(at) = self.at("memory") {
            memory::usage(&at, &mut usage);
        }
        if let Some(at) = self.at("io") {
            block::usage(&at, &mut usage);
        }
        if let Some(at) = self.at("pids") {
            pids::usage(&at, &mut usage);
        } else if let Some(folder) = self.v1.values().next().or(self.v2.as_ref()) {
            // Threads of all its groups are the same; one that it makes itself is not looked into.
            let file = if self.v1.is_empty() { "cgroup.threads" } else { "tasks" };
            usage.pids = read(&folder.join(file)).map(|text| text.lines().count() as u64);
        }
        usage
    }

    /// Holds on the processes in it that have not ended.
    pub fn processes(&self) -> Vec<PidFd> {
        let folder = self.v2.as_ref().or_else(|| self.v1.values().next());
        folder.map(|folder| held(folder)).unwrap_or_default()
    }

    /// The same with their numbers.
    pub fn members(&self) -> Vec<(i32, PidFd)> {
        let folder = self.v2.as_ref().or_else(|| self.v1.values().next());
        folder.map(|folder| held_by_number(folder)).unwrap_or_default()
    }

    /// The folder that it is frozen with.
    fn freezer(&self) -> Option<&Path> {
        let folders = self.v2.iter().chain(self.v1.get("freezer"));
        folders.map(PathBuf::as_path).find(|folder| freezer::can_freeze(folder))
    }

    /// Whether its processes can be frozen.
    pub fn can_freeze(&self) -> bool {
        self.freezer().is_some()
    }

    /// Asks the kernel to freeze its processes, which takes a moment ([`Group::is_frozen`]).
    ///
    /// # Errors
    /// What write(2) says.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        freezer::freeze(self.freezer().ok_or(CgroupError::Missing { what: "freezer" })?)
    }

    /// Whether all of its processes are frozen.
    pub fn is_frozen(&self) -> bool {
        self.freezer().is_some_and(freezer::is_frozen)
    }

    /// Lets its processes go on, and whatever comes into it later.
    pub fn thaw(&self) {
        if let Some(folder) = self.freezer() {
            freezer::thaw(folder);
        }
    }

    /// How many processes the kernel has killed in it for want of memory; none if it does not count.
    pub fn oom_kills(&self) -> Option<u64> {
        memory::oom_kills(&self.at("memory")?)
    }

    /// Tells when the kernel may have killed for want of memory.
    ///
    /// # Errors
    /// What inotify(7) says.
    pub fn watch_memory(&self) -> io::Result<MemoryWatch> {
        match self.at("memory") {
            Some(At::V2(folder)) => MemoryWatch::of_events(&folder.join("memory.events")),
            _ => Ok(MemoryWatch::now_and_then()),
        }
    }

    /// What processes are put into it with.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn open(&self) -> io::Result<GroupFds> {
        let folder = |path: &PathBuf| -> io::Result<OwnedFd> {
            Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
        };
        let procs = |path: &Path| OpenOptions::new().write(true).open(path.join("cgroup.procs")).map(OwnedFd::from);
        // Of controllers that are mounted together, once.
        let v1: BTreeSet<&PathBuf> = self.v1.values().collect();
        Ok(GroupFds {
            v2: self.v2.as_ref().map(folder).transpose()?,
            v1: v1.into_iter().map(|path| procs(path)).collect::<io::Result<_>>()?,
        })
    }

    /// Kills every process in it.
    ///
    /// # Errors
    /// What write(2) says.
    pub fn kill(&self) {
        self.v2.iter().chain(self.v1.values()).for_each(|path| kill(path));
    }

    /// Removes it. The last process may be dying still.
    ///
    /// # Errors
    /// EBUSY while there are processes in it.
    pub fn remove(&self) -> io::Result<()> {
        let mut result = Ok(());
        for path in self.v1.values().chain(&self.v2) {
            result = result.and(remove(path));
        }
        if result.is_ok() {
            // Others may be in them by now.
            self.made.iter().rev().for_each(|path| {
                let _ = fs::remove_dir(path);
            });
        }
        result
    }

    /// Its folders, to be written down.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.v2.iter().chain(self.v1.values()).map(PathBuf::as_path)
    }

    /// Folders above that were made for it, likewise, the uppermost first. Others may be in them by now.
    pub fn parents(&self) -> impl Iterator<Item = &Path> {
        self.made.iter().map(PathBuf::as_path)
    }
}

/// Removes a group by its folder, as written down earlier; one that is gone is fine.
///
/// # Errors
/// EBUSY while there are processes in it.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Removes the group that all stacks are in, if that of the stack which was in `path` was the last.
pub fn remove_if_last(path: &Path) {
    if let Some(parent) = path.parent().filter(|parent| parent.file_name() == Some(OsStr::new(ALL_STACKS))) {
        let _ = fs::remove_dir(parent);
    }
}

/// Kills every process of a group by its folder, as written down earlier: at once with cgroup.kill (Linux 5.14), or one by
/// one until there are no more, as far as they let themselves be caught.
pub fn kill(path: &Path) {
    // With version 1 SIGKILL does not reach what is frozen.
    if path.join("freezer.state").exists() && path.file_name() != Some(OsStr::new(ALL_STACKS)) {
        freezer::thaw(path);
    }
    if path.file_name() != Some(OsStr::new(ALL_STACKS)) && write(&path.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    for _ in 0..100 {
        let held = held(path);
        if held.is_empty() {
            return;
        }
        held.iter().for_each(|process| {
            let _ = process.signal(libc::SIGKILL);
        });
    }
}

fn pids(folder: &Path) -> Vec<i32> {
    let text = read(&folder.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|pid| pid.parse().ok()).collect()
}

/// The processes of a group that have not ended.
fn held(folder: &Path) -> Vec<PidFd> {
    held_by_number(folder).into_iter().map(|(_, held)| held).collect()
}

fn held_by_number(folder: &Path) -> Vec<(i32, PidFd)> {
    let found: Vec<(i32, PidFd)> = pids(folder)
        .into_iter()
        .filter_map(|pid| Some((pid, PidFd::open(pid).ok()?)))
        .filter(|(_, held)| held.is_alive())
        .collect();
    // Once there is a hold on it the number cannot come to mean another. Others may come and go meanwhile.
    let still: BTreeSet<i32> = pids(folder).into_iter().collect();
    found.into_iter().filter(|(pid, _)| still.contains(pid)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fake(root: &Path, processes: &str) {
        for (name, text) in [
            ("cgroup.type", "domain"),
            ("cgroup.controllers", "cpu memory pids"),
            ("cgroup.subtree_control", ""),
            ("cgroup.procs", processes),
        ] {
            fs::write(root.join(name), text).expect("a file");
        }
    }

    #[test]
    fn a_group_with_processes_of_others_hands_nothing_on() {
        let dir = tempfile::tempdir().expect("folder");
        let on = || fs::read_to_string(dir.path().join("cgroup.subtree_control")).expect("a file");
        // The one that runs this is not called like nscompose.
        fake(dir.path(), "1\n");
        hand_on(dir.path(), &BTreeSet::new()).expect("nothing is needed");
        assert_eq!(on(), "");
        let needed = hand_on(dir.path(), &BTreeSet::from(["memory"])).expect_err("it cannot be had");
        assert!(needed.hint().is_some(), "{needed}");
        assert_eq!(on(), "");
        fake(dir.path(), "");
        hand_on(dir.path(), &BTreeSet::from(["memory"])).expect("handed on");
        // The file of the kernel would have the list; this one has what was written last.
        assert!(on().starts_with("+pids"), "{}", on());
    }

    #[test]
    fn a_group_with_a_parent_of_its_own_is_alone_in_it() {
        let stack = StackGroup::new("x.123456".to_owned(), None, BTreeMap::new());
        let service: ServiceName = "web".parse().expect("a name");
        let mut limits = Limits::default();
        let last = |limits: &Limits| stack.folders(Path::new("/c"), &service, limits).pop();
        assert_eq!(last(&limits), Some("/c/nscompose/x.123456/web".into()));
        limits.parent = Some("a/b".into());
        assert_eq!(last(&limits), Some("/c/a/b/nscompose.x.123456.web".into()));
    }
}
