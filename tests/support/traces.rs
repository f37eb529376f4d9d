//! What a stack leaves on a host, or rather does not.
//!
//! Other stacks come and go on the same host meanwhile, so nothing is counted as a whole: what belongs to this one is
//! written down while it is up, and each of it has to go. Processes of nscompose's own are known by the home in their
//! arguments; a container's by who started it, or by a pid namespace of one that is known.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::run::Run;

/// Longest that something may take to go.
const PATIENCE: Duration = Duration::from_secs(20);

/// Namespaces that a stack makes.
const KINDS: [&str; 7] = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];

/// What there was of a stack.
#[derive(Debug, Clone)]
pub(crate) struct Traces {
    home: PathBuf,
    project: String,
    /// Links of the host when the stack was first looked at.
    links: BTreeSet<String>,
    own_namespaces: BTreeSet<String>,
    /// By pid and start time, with what they were called.
    pub(crate) processes: BTreeMap<(i32, u64), String>,
    /// Held open: the kernel would give the number of one that has gone to the next.
    pub(crate) namespaces: BTreeMap<String, Arc<File>>,
    pub(crate) sockets: BTreeSet<String>,
    pub(crate) cgroups: BTreeSet<PathBuf>,
}

impl Traces {
    pub(crate) fn new(home: &Path, project: &str) -> Self {
        let own_namespaces = KINDS.iter().filter_map(|kind| namespace(std::process::id() as i32, kind)).collect();
        Self {
            home: home.to_owned(),
            project: project.to_owned(),
            links: links(),
            own_namespaces,
            processes: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            sockets: BTreeSet::new(),
            cgroups: BTreeSet::new(),
        }
    }

    /// Adds what there is now.
    pub(crate) fn look(&mut self) {
        let all = processes();
        let mut found: BTreeSet<i32> =
            all.iter().filter(|(_, p)| p.mentions(&self.home)).map(|(pid, _)| *pid).collect();
        found.extend(self.processes.keys().map(|(pid, _)| pid));
        // A supervisor that came after one that died is a child of its keeper.
        let keepers = all.iter().filter(|(pid, process)| {
            process.name == "nsc-keeper" && all.values().any(|p| p.parent == **pid && p.mentions(&self.home))
        });
        let keepers: Vec<i32> = keepers.map(|(pid, _)| *pid).filter(|pid| !found.contains(pid)).collect();
        found.extend(keepers);
        loop {
            let pid_namespaces: BTreeSet<String> = found
                .iter()
                .filter_map(|pid| namespace(*pid, "pid"))
                .filter(|pid| !self.own_namespaces.contains(pid))
                .collect();
            let more: Vec<i32> = all
                .iter()
                .filter(|(pid, process)| {
                    !found.contains(pid)
                        && (found.contains(&process.parent)
                            || namespace(**pid, "pid").is_some_and(|own| pid_namespaces.contains(&own)))
                })
                .map(|(pid, _)| *pid)
                .collect();
            if more.is_empty() {
                break;
            }
            found.extend(more);
        }
        for pid in found {
            let Some(process) = all.get(&pid) else { continue };
            // The verbs themselves live in the test's own namespaces and see to their own end.
            self.processes.insert((pid, process.start), process.name.clone());
            for kind in KINDS {
                let Ok(file) = File::open(format!("/proc/{pid}/ns/{kind}")) else { continue };
                // By the descriptor: the process may have entered another one since.
                let Ok(name) = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())) else { continue };
                let name = name.to_string_lossy().into_owned();
                if !self.own_namespaces.contains(&name) {
                    self.namespaces.entry(name).or_insert_with(|| Arc::new(file));
                }
            }
            self.sockets.extend(
                descriptors(pid)
                    .filter_map(|target| Some(target.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())),
            );
        }
        self.cgroups.extend(self.find_cgroups());
    }

    /// Control groups that carry the name of the stack.
    fn find_cgroups(&self) -> Vec<PathBuf> {
        fn walk(folder: &Path, wanted: &str, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    // Alone, with a digest behind it, or with nscompose's own in front of it: `nscompose.PROJECT.DIGEST.SERVICE`.
                    let name = entry.file_name();
                    let of_stack = |name: &str| {
                        let name = name.strip_prefix("nscompose.").unwrap_or(name);
                        name.split('.').next() == Some(wanted)
                    };
                    if name.to_str().is_some_and(of_stack) {
                        found.push(entry.path());
                    }
                    walk(&entry.path(), wanted, found);
                }
            }
        }
        let mut found = Vec::new();
        walk(Path::new("/sys/fs/cgroup"), &self.project, &mut found);
        found
    }

    /// What is there still, each as a line to read.
    pub(crate) fn left(&self, volumes: &[&str]) -> Vec<String> {
        let mut left = Vec::new();
        let all = processes();
        for ((pid, start), name) in &self.processes {
            if all.get(pid).is_some_and(|process| process.start == *start) {
                left.push(format!("process {pid} ({name})"));
            }
        }
        for (pid, process) in &all {
            if process.mentions(&self.home) && !self.processes.contains_key(&(*pid, process.start)) {
                left.push(format!("process {pid} ({}) of the stack, new", process.name));
            }
            for kind in KINDS {
                if let Some(namespace) = namespace(*pid, kind).filter(|ns| self.namespaces.contains_key(ns)) {
                    left.push(format!("namespace {namespace} of process {pid} ({})", process.name));
                }
            }
            let others = *pid != std::process::id() as i32;
            for target in descriptors(*pid).filter(|_| others).filter(|target| self.namespaces.contains_key(target)) {
                left.push(format!("namespace {target} held open by process {pid} ({})", process.name));
            }
            let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
            let home = self.home.display().to_string();
            left.extend(
                mounts.lines().filter(|line| line.contains(&home)).map(|line| format!("mount {line} of {pid}")),
            );
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let pinned = mounts.lines().filter(|line| self.namespaces.keys().any(|namespace| line.contains(namespace)));
        left.extend(pinned.map(|line| format!("mounted namespace {line}")));
        // Those of other stacks come and go meanwhile; an uplink says whose it is.
        let ours = |link: &&String| !link.starts_with("nsc") || alias(link) == format!("nscompose {}", self.project);
        left.extend(links().difference(&self.links).filter(ours).map(|link| format!("link {link}")));
        let sockets = fs::read_to_string("/proc/net/unix").unwrap_or_default();
        left.extend(sockets.lines().skip(1).filter_map(|line| {
            let inode = line.split_whitespace().nth(6)?;
            (self.sockets.contains(inode) || line.contains(&self.home.display().to_string()))
                .then(|| format!("socket {line}"))
        }));
        let groups = self.cgroups.iter().cloned().chain(self.find_cgroups()).filter(|group| group.exists());
        left.extend(groups.map(|group| format!("control group {}", group.display())));
        if super::is_root() && super::program("nft").is_some() {
            let rules = Run::new("nft").args(["list", "ruleset"]).run().stdout;
            let ours = rules.lines().filter(|line| line.contains(&self.project));
            left.extend(ours.map(|line| format!("firewall rule {line}")));
        }
        let mut expected = BTreeSet::new();
        for volume in volumes {
            let folder = self.home.join(format!("data/v1/volumes/{}_{volume}", self.project));
            expected.extend(folder.ancestors().map(Path::to_owned));
        }
        // Images are there for all stacks, and stay.
        let images = self.home.join("data/v1/images");
        if images.exists() {
            expected.extend(images.ancestors().map(Path::to_owned));
        }
        let mut todo = vec![self.home.clone()];
        while let Some(folder) = todo.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if !expected.contains(&path) {
                    left.push(format!("on disk {}", path.display()));
                } else if path != images && path.parent().is_some_and(|parent| !parent.ends_with("volumes")) {
                    todo.push(path);
                }
            }
        }
        left
    }

    /// Nothing is left, at the latest after a while.
    #[track_caller]
    pub(crate) fn assert_gone(&self) {
        self.assert_gone_but_volumes(&[]);
    }

    /// Nothing is left but these volumes.
    #[track_caller]
    pub(crate) fn assert_gone_but_volumes(&self, volumes: &[&str]) {
        let started = Instant::now();
        loop {
            let left = self.left(volumes);
            if left.is_empty() {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "left after {PATIENCE:?}:\n{}", left.join("\n"));
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Traces collected while something goes on.
pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Traces>,
}

impl Watch {
    pub(crate) fn start(mut traces: Traces) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                traces.look();
                thread::sleep(Duration::from_millis(2));
            }
            traces
        });
        Self { stop, thread }
    }

    pub(crate) fn finish(self) -> Traces {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the watch goes on")
    }
}

/// The namespace of a process, if we may see it.
pub(crate) fn namespace(pid: i32, kind: &str) -> Option<String> {
    Some(fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()?.to_string_lossy().into_owned())
}

/// Kills the processes that the journals of stacks in this home name.
pub(crate) fn kill_recorded(home: &Path) {
    let journal = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("journal")).ok();
    for journal in fs::read_dir(home.join("run/v1")).into_iter().flatten().flatten().filter_map(journal) {
        for line in journal.lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
            let process = &line["process"];
            let (pid, start) = (process["pid"].as_i64().unwrap_or(0) as i32, process["start_time"].as_u64());
            if processes().get(&pid).is_some_and(|found| Some(found.start) == start) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}

/// Kills what is left of nscompose itself with this home.
pub(crate) fn kill_all_of(home: &Path) {
    let all = processes();
    // Or they would start further ones.
    let ours: BTreeSet<i32> = all.iter().filter(|(_, process)| process.mentions(home)).map(|(pid, _)| *pid).collect();
    for (pid, process) in &all {
        let of_ours = ours.contains(&process.parent) || ours.iter().any(|ours| all[ours].parent == *pid);
        if process.name == "nsc-keeper" && of_ours {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
    }
    for (pid, process) in all {
        if process.mentions(home) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

struct Process {
    parent: i32,
    start: u64,
    name: String,
    arguments: String,
}

impl Process {
    fn mentions(&self, home: &Path) -> bool {
        // A whole path: the home of another test may begin with ours.
        self.arguments.split('\0').any(|argument| Path::new(argument).starts_with(home))
    }
}

fn processes() -> BTreeMap<i32, Process> {
    let pids = fs::read_dir("/proc").expect("/proc").flatten().filter_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // proc_pid_stat(5): the name may hold blanks and brackets; state is the third field, the parent the fourth, the
        // start time the twenty-second.
        let (before, after) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = after.split_whitespace().collect();
        if fields.first() == Some(&"Z") || fields.first() == Some(&"X") {
            return None;
        }
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        Some((
            pid,
            Process {
                parent: fields.get(1)?.parse().ok()?,
                start: fields.get(19)?.parse().ok()?,
                name: before.split_once('(')?.1.to_owned(),
                arguments: String::from_utf8_lossy(&arguments).into_owned(),
            },
        ))
    });
    pids.collect()
}

fn descriptors(pid: i32) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned()))
}

fn alias(link: &str) -> String {
    fs::read_to_string(format!("/sys/class/net/{link}/ifalias")).unwrap_or_default().trim_end().to_owned()
}

fn links() -> BTreeSet<String> {
    let entries = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
