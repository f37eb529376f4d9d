//! A stack of one test, with a home and a project folder of its own.

use std::{
    env, fs,
    net::{TcpListener, UdpSocket},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
};

use serde::Deserialize;

use super::{
    run::{Output, Run, Started, wait_for},
    traces::{self, Traces, Watch},
};

/// The real binary.
const NSCOMPOSE: &str = env!("CARGO_BIN_EXE_nscompose");

/// A stack, a folder for its files and a home for everything that nscompose keeps. What is left of it when the test ends,
/// also by a panic, is taken down.
#[must_use]
pub(crate) struct Stack {
    folder: PathBuf,
    project: String,
}

/// One container, as `ps --format json` shows it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) names: String,
    #[serde(rename = "ID")]
    pub(crate) id: String,
    pub(crate) project: String,
    pub(crate) service: String,
    pub(crate) image: String,
    pub(crate) state: String,
    pub(crate) status: String,
    /// None where it is empty.
    #[serde(deserialize_with = "some_text")]
    pub(crate) health: Option<String>,
    #[serde(default)]
    pub(crate) probes: Option<Probes>,
    #[serde(default)]
    pub(crate) restarts: u32,
    /// None where it has not ended, which `ps` has as 0.
    pub(crate) exit_code: Option<i32>,
    pub(crate) pid: Option<i32>,
    pub(crate) command: String,
    #[serde(deserialize_with = "list")]
    pub(crate) ports: Vec<String>,
    pub(crate) publishers: serde_json::Value,
    #[serde(default)]
    pub(crate) limits: serde_json::Value,
    #[serde(default, rename = "OOMKills")]
    pub(crate) oom_kills: u64,
    pub(crate) started_at: String,
}

fn some_text<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(Some(String::deserialize(from)?).filter(|text| !text.is_empty()))
}

fn list<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Ok(String::deserialize(from)?.split(", ").filter(|item| !item.is_empty()).map(str::to_owned).collect())
}

/// The latest looks at the health of a container.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct Probes {
    pub(crate) status: String,
    pub(crate) failing_streak: u32,
    pub(crate) log: Vec<Probe>,
}

/// One look.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct Probe {
    pub(crate) start: String,
    pub(crate) end: String,
    pub(crate) exit_code: i32,
    pub(crate) output: String,
}

impl Stack {
    /// A stack without files yet.
    pub(crate) fn empty() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let project = format!("nsct-{}-{count}", std::process::id());
        // On a disk: overlayfs cannot write to every /tmp. Whoever a container runs as has to get through.
        let base = env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
        let folder = base.join(&project);
        // Left by a run that was killed and had our pid.
        let _ = remove_all(&folder);
        for part in [folder.clone(), folder.join("user"), folder.join("project"), folder.join("home")] {
            fs::create_dir(&part).unwrap_or_else(|e| panic!("{}: {e}", part.display()));
            fs::set_permissions(&part, fs::Permissions::from_mode(0o755)).expect("our folder");
        }
        Self { folder, project }
    }

    /// A stack whose file is stack.yaml, with a name of its own put in front.
    pub(crate) fn new(yaml: &str) -> Self {
        let stack = Self::empty();
        let named = format!("name: {}\n{yaml}", stack.project);
        stack.file("stack.yaml", &named);
        stack
    }

    /// Puts a file into the project folder.
    pub(crate) fn file(&self, path: &str, text: &str) -> &Self {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        fs::write(path, text).expect("a file");
        self
    }

    /// Its name.
    pub(crate) fn project(&self) -> &str {
        &self.project
    }

    /// A path in the project folder.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.folder.join("project").join(path)
    }

    /// What HOME is for the binary.
    pub(crate) fn user_home(&self) -> PathBuf {
        self.folder.join("user")
    }

    /// Where nscompose keeps what it keeps.
    pub(crate) fn home(&self) -> PathBuf {
        self.folder.join("home")
    }

    /// The folder of a named volume.
    pub(crate) fn volume(&self, name: &str) -> PathBuf {
        self.home().join(format!("data/v1/volumes/{}_{name}", self.project))
    }

    /// The binary, in the project folder. The home is an argument, which tells the processes of this stack from others.
    pub(crate) fn nscompose(&self) -> Run {
        self.bare().arg("--home").arg(self.home())
    }

    /// The binary, without a home; for tests of just that.
    pub(crate) fn bare(&self) -> Run {
        Run::new(NSCOMPOSE).dir(self.path("")).env("HOME", self.user_home())
    }

    /// Runs the binary with these arguments.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.nscompose().args(args).run()
    }

    /// `up -d`, which has to succeed.
    #[track_caller]
    pub(crate) fn up(&self) -> Output {
        self.run(&["up", "-d"]).success()
    }

    /// `up` in the foreground, with more arguments.
    #[track_caller]
    pub(crate) fn up_in_foreground(&self, args: &[&str]) -> Started {
        self.nscompose().arg("up").args(args).start()
    }

    /// `down`, which has to succeed.
    #[track_caller]
    pub(crate) fn down(&self) -> Output {
        self.run(&["down"]).success()
    }

    /// What a command in a service writes, without the last line break; it has to succeed.
    #[track_caller]
    pub(crate) fn exec(&self, service: &str, command: &[&str]) -> String {
        let output = self.nscompose().args(["exec", service]).args(command).run().success();
        output.stdout.trim_end_matches('\n').to_owned()
    }

    /// What a shell in a service writes; it has to succeed.
    #[track_caller]
    pub(crate) fn sh(&self, service: &str, script: &str) -> String {
        self.exec(service, &["sh", "-c", script])
    }

    /// Its containers.
    #[track_caller]
    pub(crate) fn ps(&self) -> Vec<Container> {
        let output = self.run(&["-p", &self.project, "ps", "-a", "--format", "json"]).success();
        let read = |line: &str| {
            let mut it: Container = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}\n{output}"));
            it.exit_code = it.exit_code.filter(|_| ["exited", "restarting"].contains(&it.state.as_str()));
            it
        };
        output.stdout.lines().map(read).collect()
    }

    /// One of its containers.
    #[track_caller]
    pub(crate) fn container(&self, service: &str) -> Container {
        let found = self.ps().into_iter().find(|container| container.service == service);
        found.unwrap_or_else(|| panic!("`{service}` is not in ps"))
    }

    /// The first process of a running service.
    #[track_caller]
    pub(crate) fn pid(&self, service: &str) -> i32 {
        self.container(service).pid.unwrap_or_else(|| panic!("`{service}` does not run"))
    }

    /// The namespace of a service, such as `net:[4026531840]`.
    #[track_caller]
    pub(crate) fn namespace(&self, service: &str, kind: &str) -> String {
        traces::namespace(self.pid(service), kind).unwrap_or_else(|| panic!("`{service}` has no {kind} namespace"))
    }

    /// Waits until a service has ended, and gives its exit code.
    #[track_caller]
    pub(crate) fn exit_code(&self, service: &str) -> i32 {
        wait_for(&format!("the end of `{service}`"), || self.container(service).exit_code)
    }

    /// Waits until the logs of a service hold `text`, and gives them without prefix.
    #[track_caller]
    pub(crate) fn log_with(&self, service: &str, text: &str) -> String {
        wait_for(&format!("`{text}` in the logs of `{service}`"), || {
            let log = self.log(service);
            log.contains(text).then_some(log)
        })
    }

    /// What a service has written so far.
    #[track_caller]
    pub(crate) fn log(&self, service: &str) -> String {
        self.run(&["-p", &self.project, "logs", "--no-log-prefix", service]).success().stdout
    }

    /// The process that looks after the stack, by its lock; none when there is none.
    pub(crate) fn supervisor(&self) -> Option<i32> {
        let lock = self.home().join(format!("run/v1/{}.lock", self.project));
        fs::read_to_string(lock).ok()?.trim().parse().ok()
    }

    /// The process that keeps its containers, whichever supervisor it has.
    pub(crate) fn keeper(&self) -> Option<i32> {
        let stat = |pid: i32| fs::read_to_string(format!("/proc/{pid}/stat")).ok();
        let parent =
            |pid: i32| -> Option<i32> { stat(pid)?.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok() };
        // The first supervisor has made it, and further ones are made by it.
        let supervisor = self.supervisor()?;
        let traces = self.traces();
        let mut keepers = traces.processes.iter().filter(|(_, name)| *name == "nsc-keeper").map(|((pid, _), _)| *pid);
        let of_ours = |pid: &i32| parent(*pid) == Some(supervisor) || parent(supervisor) == Some(*pid);
        keepers.find(of_ours)
    }

    /// What there is of the stack outside of itself, to see later that it has gone.
    pub(crate) fn traces(&self) -> Traces {
        let mut traces = Traces::new(&self.home(), &self.project);
        traces.look();
        traces
    }

    /// Looks for what there is of the stack again and again while something goes on.
    pub(crate) fn watch(&self) -> Watch {
        Watch::start(Traces::new(&self.home(), &self.project))
    }

    /// Paths and the name of the project, which differ from run to run, as `<home>`, `<project folder>` and `<project>`.
    pub(crate) fn normalised(&self, text: &str) -> String {
        text.replace(&self.home().display().to_string(), "<home>")
            .replace(&self.path("").display().to_string(), "<project folder>/")
            .replace(self.path("").display().to_string().trim_end_matches('/'), "<project folder>")
            .replace(&self.project, "<project>")
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if self.home().join("run").exists() {
            // Whatever its files say by now. In a panic a second one would end the whole run.
            let down = std::panic::catch_unwind(|| {
                self.nscompose().dir("/").args(["-p", &self.project, "down", "-t", "0"]).run().code
            });
            if !matches!(down, Ok(0)) {
                traces::kill_recorded(&self.home());
            }
        }
        traces::kill_all_of(&self.home());
        if self.home().join("data/v1/images/lock").exists() {
            // Files of layers may belong to ids that only containers have.
            let prune = || self.nscompose().dir("/").args(["image", "prune", "--all"]).run().code;
            let _ = std::panic::catch_unwind(prune);
        }
        let _ = remove_all(&self.folder);
    }
}

/// Removes a folder with what containers may have made in it.
fn remove_all(folder: &Path) -> std::io::Result<()> {
    let removed = fs::remove_dir_all(folder);
    if removed.as_ref().is_err_and(|e| e.kind() != std::io::ErrorKind::NotFound) {
        let _ = Command::new("chmod").args(["-Rf", "u+rwX"]).arg(folder).status();
        if fs::remove_dir_all(folder).is_ok() {
            return Ok(());
        }
        // Files of images belong to ids of the account's range, and so do folders, which only those may empty.
        let remove = ["--map-root-user", "--map-auto", "rm", "-rf", "--"];
        let _ = Command::new("unshare").args(remove).arg(folder).status();
        return if folder.exists() { removed } else { Ok(()) };
    }
    removed
}

/// A TCP port that nobody has, for a moment at least.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port()
}

/// A UDP port that nobody has, for a moment at least.
pub(crate) fn free_udp_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port()
}
